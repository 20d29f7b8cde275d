/*
 * What is known about guest registers while a window block is written: see emit.h, Facts.
 *
 * Known regions are proven: by a check in the code, or by an access that did not fault. Known
 * values are guesses, from the registers' values when the block was first run and the memory they
 * pointed to; they choose which region a check asks for, and nothing depends on their being right.
 */
#include "base/bits.h"
#include "cpu/translate/emit.h"

static u64 distance(s64 by) { return by < 0 ? -(u64)by : (u64)by; }

void facts_start(struct emit *e)
{
	struct facts *f = &e->f;

	memset(f->region, WINDOW_NOWHERE, sizeof(f->region));
	f->aux = AUX_NONE;
	f->stack = WINDOW_HIGH;
	f->slop = STACK_SLOP;
	f->known = 0;
	if (!emit_window(e))
		return;
	f->stack = (u8)stack_region_of(e->t, e->b->space);
	if (f->stack == WINDOW_NOWHERE) {
		unsigned region = region_of(e->t, e->b->space, e->t->c->s->gpr[RSP]);

		/* Anything will do if there is none: the check traps, and the hint says so. */
		f->stack = region != WINDOW_NOWHERE ? (u8)region
			   : emit_kernel_window(e)  ? WINDOW_REGIONS
						    : WINDOW_HIGH;
		f->slop = SLOP_LOST;
	}
	f->known = BIT(X86_GPRS) - 1;
	memcpy(f->value, e->t->c->s->gpr, sizeof(f->value));
}

/* ---- values ---- */

static bool known(const struct facts *f, unsigned reg) { return f->known & BIT(reg); }

static void set_value(struct facts *f, unsigned reg, u64 value)
{
	f->known |= BIT(reg);
	f->value[reg] = value;
}

bool facts_guess(const struct emit *e, const struct op *op, u64 *at)
{
	u64 sum = (u64)op->disp;

	if (op->base == BASE_RIP)
		sum += e->rip;
	else if (op->base != REG_NONE && !known(&e->f, op->base))
		return false;
	else if (op->base != REG_NONE)
		sum += e->f.value[op->base];
	if (op->index != REG_NONE && !known(&e->f, op->index))
		return false;
	if (op->index != REG_NONE)
		sum += e->f.value[op->index] << op->shift;
	if (op->asize == 4)
		sum = (u32)sum;
	if (op->seg >= X86_FS)
		sum += e->t->c->s->seg[op->seg].base;
	*at = sum;
	return true;
}

/* What is in guest memory there now, if that costs nothing to find out. */
static bool peek(const struct emit *e, u64 at, u64 *value)
{
	struct mmu_entry *entry = mmu_find(&e->t->c->mmu, at, 8, MMU_READ);

	if (!entry)
		return false;
	*value = get_le64(entry->host + (at & PAGE_MASK));
	return true;
}

/* ---- proof ---- */

void facts_guess_stack(struct emit *e)
{
	unsigned region = stack_region_of(e->t, e->b->space);

	if (region == WINDOW_NOWHERE && known(&e->f, RSP))
		region = region_of(e->t, e->b->space, e->f.value[RSP]);
	if (region != WINDOW_NOWHERE)
		e->f.stack = (u8)region;
}

void facts_stack_touched(struct emit *e, s32 disp)
{
	e->f.slop = min_u64(e->f.slop, distance(disp) + 16);
}

void emit_region_bits(struct emit *e, unsigned host, unsigned region)
{
	const u8 lea_ecx[] = { 0x8d, 0x49, (u8)-window_bits(region) }; /* lea ecx, [rcx - bits] */

	if (region >= WINDOW_REGIONS) {
		/* all bits from 39 on, less those that addresses of the piece have */
		u64 piece = e->t->kernel.piece[region - WINDOW_REGIONS];
		u32 bits = (u32)(piece | (piece & KERNEL_PIECES / 2 ? ~0u << 9 : 0)) & 0x1ffffff;
		static const u8 lea_ecx_wide[] = { 0x8d, 0x89 };

		asm_bits(&e->a, ASM_PEXT, ASM_RCX, host, SLOT(kernel_mask));
		if (bits) {
			asm_bytes(&e->a, lea_ecx_wide, sizeof(lea_ecx_wide));
			asm_u32(&e->a, -bits);
		}
		return;
	}
	asm_rorx(&e->a, ASM_RCX, host, WINDOW_SHIFT);
	asm_movzx(&e->a, ASM_RCX, ASM_RCX, 8);
	if (window_bits(region))
		asm_bytes(&e->a, lea_ecx, sizeof(lea_ecx));
}

void emit_region_check(struct emit *e, unsigned host, unsigned region)
{
	static const u8 hlt = 0xf4;

	emit_region_bits(e, host, region);
	asm_jrcxz(&e->a, 1);
	asm_u8(&e->a, hlt);
}

static unsigned loose_space(unsigned space)
{
	return space == CODE_WINDOW ? CODE_LOOSE : space == CODE_KERNEL ? CODE_KERNEL_LOOSE : space;
}

unsigned facts_next_space(const struct emit *e)
{
	static const u8 firm[] = { CODE_WINDOW, CODE_KERNEL };
	const struct facts *f = &e->f;
	bool near = f->slop <= STACK_SLOP;

	for (unsigned i = 0; i < ARRAY_LEN(firm); i++)
		if (loose_space(e->b->space) == loose_space(firm[i]))
			return near && f->stack == stack_region_of(e->t, firm[i])
				       ? firm[i]
				       : loose_space(firm[i]);
	return e->b->space;
}

void facts_settle_stack(struct emit *e)
{
	struct facts *f = &e->f;
	unsigned region = stack_region_of(e->t, e->b->space);

	if (region == WINDOW_NOWHERE || f->slop <= STACK_SLOP || e->hint != HINT_GUESS ||
		(known(f, RSP) && region_of(e->t, e->b->space, f->value[RSP]) != region))
		return;
	emit_region_check(e, ASM_RSP, region);
	f->slop = 0;
}

/* ---- effects of an instruction ---- */

static void moved(struct facts *f, unsigned reg, s64 by)
{
	if (reg == RSP) {
		f->slop += distance(by);
	} else if (f->region[reg] != WINDOW_NOWHERE) {
		f->drift[reg] += distance(by);
		if (f->drift[reg] > FACT_REACH)
			f->region[reg] = WINDOW_NOWHERE;
	}
	if (f->aux == AUX_OF(reg)) {
		f->aux_drift += distance(by);
		if (f->aux_drift > FACT_REACH)
			f->aux = AUX_NONE;
	}
	if (known(f, reg))
		f->value[reg] += (u64)by;
}

static void lost(struct facts *f, unsigned reg)
{
	f->region[reg] = WINDOW_NOWHERE;
	f->known &= ~BIT(reg);
	if (reg == RSP)
		f->slop = SLOP_LOST;
	if (f->aux == AUX_OF(reg))
		f->aux = AUX_NONE;
}

static void copied(struct facts *f, unsigned to, unsigned from, s64 by)
{
	struct facts before = *f;

	lost(f, to);
	if (known(&before, from))
		set_value(f, to, before.value[from] + (u64)by);
	if (from == RSP && before.slop <= FACT_REACH && to != RSP) {
		f->region[to] = f->stack;
		f->drift[to] = before.slop + distance(by);
	} else if (from != RSP && before.region[from] != WINDOW_NOWHERE) {
		if (to == RSP && before.region[from] == f->stack) {
			f->slop = before.drift[from] + distance(by);
		} else if (to != RSP) {
			f->region[to] = before.region[from];
			f->drift[to] = before.drift[from] + distance(by);
		}
	}
	if (to != RSP && f->region[to] != WINDOW_NOWHERE && f->drift[to] > FACT_REACH)
		f->region[to] = WINDOW_NOWHERE;
}

static bool is_gpr64(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR64;
}

/* reg += constant; false: something else */
static bool adds_constant(const struct build *d, unsigned *reg, s64 *by)
{
	const ZydisDecodedOperand *o = d->o;

	if (!d->insn.operand_count_visible || !is_gpr64(&o[0]))
		return false;
	*reg = recode_gpr_id(o[0].reg.value);
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_INC: *by = 1; return true;
	case ZYDIS_MNEMONIC_DEC: *by = -1; return true;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
		*by = d->insn.mnemonic == ZYDIS_MNEMONIC_ADD ? o[1].imm.value.s : -o[1].imm.value.s;
		return true;
	case ZYDIS_MNEMONIC_AND: /* aligning downwards */
		if (o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || o[1].imm.value.s >= 0 ||
			o[1].imm.value.s < -4096)
			return false;
		*by = o[1].imm.value.s;
		return true;
	default: return false;
	}
}

/* reg = another + constant */
static bool copies(const struct build *d, unsigned *to, unsigned *from, s64 *by)
{
	const ZydisDecodedOperand *o = d->o;
	const struct op *op = d->op;

	if (d->insn.operand_count_visible < 2 || !is_gpr64(&o[0]))
		return false;
	*to = recode_gpr_id(o[0].reg.value);
	*by = 0;
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_MOV && is_gpr64(&o[1])) {
		*from = recode_gpr_id(o[1].reg.value);
		return true;
	}
	if (d->insn.mnemonic != ZYDIS_MNEMONIC_LEA || op->asize != 8 || op->index != REG_NONE ||
		op->base == REG_NONE || op->base == BASE_RIP)
		return false;
	*from = op->base;
	*by = op->disp;
	return true;
}

static void loaded(struct emit *e, unsigned reg, bool guessed, u64 at)
{
	u64 value;

	if (guessed && peek(e, at, &value))
		set_value(&e->f, reg, value);
}

void facts_after(struct emit *e)
{
	struct facts *f = &e->f;
	const struct build *d = e->d;
	const struct op *op = d->op;
	unsigned reg, from;
	s64 by;

	if (!emit_window(e))
		return;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		if (op->size == 8) {
			moved(f, RSP, -8);
			return;
		}
		break;
	case ZYDIS_MNEMONIC_POP:
		if (op->size == 8 && d->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			recode_is_gpr(d->o[0].reg.value)) {
			u64 at = f->value[RSP];
			bool guessed = known(f, RSP);

			reg = recode_gpr_id(d->o[0].reg.value);
			moved(f, RSP, 8);
			lost(f, reg);
			loaded(e, reg, guessed && reg != RSP, at);
			return;
		}
		break;
	default: break;
	}
	if (adds_constant(d, &reg, &by)) {
		moved(f, reg, by);
		return;
	}
	if (copies(d, &reg, &from, &by)) {
		if (reg == from)
			moved(f, reg, by);
		else
			copied(f, reg, from, by);
		return;
	}
	u64 at = 0;
	bool load = d->insn.mnemonic == ZYDIS_MNEMONIC_MOV && op->size == 8 &&
		    d->insn.operand_count_visible == 2 && is_gpr64(&d->o[0]);
	bool constant = load && d->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	bool guessed = load && d->o[1].type == ZYDIS_OPERAND_TYPE_MEMORY && facts_guess(e, op, &at);
	for (unsigned i = 0; i < d->insn.operand_count; i++)
		if (d->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			recode_is_gpr(d->o[i].reg.value) &&
			(d->o[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			lost(f, recode_gpr_id(d->o[i].reg.value));
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_LEAVE)
		lost(f, RSP);
	if (load)
		loaded(e, recode_gpr_id(d->o[0].reg.value), guessed, at);
	if (constant)
		set_value(f, recode_gpr_id(d->o[0].reg.value), d->o[1].imm.value.u);
}

void facts_record(struct emit *e, struct tinsn *next)
{
	next->facts = FACTS_NONE;
	next->aux = e->f.aux == AUX_STACK ? AUX_STACK : AUX_NONE;
	if (!emit_window(e))
		return;
	for (unsigned g = 0; g < X86_GPRS; g++) {
		unsigned region = g != RSP		    ? e->f.region[g]
				  : e->f.slop <= FACT_REACH ? e->f.stack
							    : WINDOW_NOWHERE;

		if (region != WINDOW_NOWHERE)
			next->facts ^= (u64)(region ^ FACTS_NOWHERE) << (4 * g);
	}
	next->aux = e->f.aux;
}
