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
	f->known = f->narrow = f->sum_count = 0;
	if (!emit_window(e))
		return;
	f->stack = (u8)window_stack_region(e->t, e->b->space);
	if (f->stack == WINDOW_NOWHERE) {
		unsigned region = window_region_at(e->t, e->b->space, e->t->c->s->gpr[RSP]);

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
static bool peek(const struct emit *e, u64 at, unsigned size, u64 *value)
{
	struct mmu_entry *entry = mmu_find(&e->t->c->mmu, at, size, MMU_READ);

	if (!entry)
		return false;
	const u8 *p = entry->host + (at & PAGE_MASK);
	switch (size) {
	case 1: *value = *p; return true;
	case 2: *value = get_le16(p); return true;
	case 4: *value = get_le32(p); return true;
	case 8: *value = get_le64(p); return true;
	default: return false;
	}
}

static u64 low_bits(u64 value, unsigned bits)
{
	return bits < 64 ? value & (BIT64(bits) - 1) : value;
}

/* The value of a source operand. */
static bool value_of(const struct emit *e, const ZydisDecodedOperand *o, u64 *value)
{
	const struct facts *f = &e->f;
	u64 at;

	switch (o->type) {
	case ZYDIS_OPERAND_TYPE_IMMEDIATE: *value = o->imm.value.u; return true;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return o->size <= 64 && facts_guess(e, e->d->op, &at) &&
		       peek(e, at, o->size / 8, value);
	case ZYDIS_OPERAND_TYPE_REGISTER:
		if (!recode_is_gpr(o->reg.value) ||
			(o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH) ||
			!known(f, recode_gpr_id(o->reg.value)))
			return false;
		*value = low_bits(f->value[recode_gpr_id(o->reg.value)], o->size);
		return true;
	default: return false;
	}
}

/* What the instruction, whose first operand is a register of 32 or 64 bits, leaves there. */
static bool result_of(const struct emit *e, u64 *value)
{
	const struct build *d = e->d;
	const ZydisDecodedOperand *o = d->o;
	u64 a = 0, b = 0;

	if (d->insn.operand_count_visible != 2)
		return false;
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_XOR && o[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		o[0].reg.value == o[1].reg.value) {
		*value = 0;
		return true;
	}
	if (!value_of(e, &o[1], &b))
		return false;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVZX: *value = b; break;
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
		*value = (u64)((s64)(b << (64 - o[1].size)) >> (64 - o[1].size));
		break;
	default:
		if (!value_of(e, &o[0], &a))
			return false;
		switch (d->insn.mnemonic) {
		case ZYDIS_MNEMONIC_ADD: *value = a + b; break;
		case ZYDIS_MNEMONIC_SUB: *value = a - b; break;
		case ZYDIS_MNEMONIC_AND: *value = a & b; break;
		case ZYDIS_MNEMONIC_OR: *value = a | b; break;
		case ZYDIS_MNEMONIC_XOR: *value = a ^ b; break;
		case ZYDIS_MNEMONIC_SHL: *value = a << (b & (o[0].size - 1u)); break;
		case ZYDIS_MNEMONIC_SHR: *value = a >> (b & (o[0].size - 1u)); break;
		default: return false;
		}
	}
	*value = low_bits(*value, o[0].size);
	return true;
}

/*
 * Does the instruction give all of its first operand, a general register of 32 or 64 bits, an
 * extended value of at most 32? A list of those that do, whatever their operands hold: some others
 * leave their destination alone at times, and then all 64 bits of it.
 */
static bool narrows(const struct build *d)
{
	const ZydisDecodedOperand *o = d->o;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD: return true;
	case ZYDIS_MNEMONIC_MOV:
		return o[0].size == 32 ||
		       (o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && asm_is_s32(o[1].imm.value.u));
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_TZCNT:
	case ZYDIS_MNEMONIC_LZCNT: return o[0].size == 32;
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
		return o[0].size == 32 && o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
		       (o[1].imm.value.u & 31);
	default: return false;
	}
}

/* ---- proof ---- */

void facts_guess_stack(struct emit *e)
{
	unsigned region = window_stack_region(e->t, e->b->space);

	if (region == WINDOW_NOWHERE && known(&e->f, RSP))
		region = window_region_at(e->t, e->b->space, e->f.value[RSP]);
	if (region != WINDOW_NOWHERE)
		e->f.stack = (u8)region;
}

/*
 * Does the instruction fault whenever its memory operand cannot be accessed? Then code behind it
 * knows where the operand was. Not so prefetches, and accesses under a mask that may be empty.
 */
static bool surely_accesses(const struct build *d)
{
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ: return false;
	default: break;
	}
	switch (d->insn.meta.category) {
	case ZYDIS_CATEGORY_BINARY:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_POP:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_SSE:
	case ZYDIS_CATEGORY_AVX:
	case ZYDIS_CATEGORY_AVX2:
	case ZYDIS_CATEGORY_VFMA:
	case ZYDIS_CATEGORY_CONVERT:
	case ZYDIS_CATEGORY_LOGICAL_FP: return d->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX;
	default: return false;
	}
}

void facts_stack_touched(struct emit *e, s32 disp)
{
	if (surely_accesses(e->d))
		e->f.slop = min_u64(e->f.slop, distance(disp) + 16);
}

void facts_base_touched(struct emit *e, unsigned reg, s64 disp)
{
	struct facts *f = &e->f;

	if (!surely_accesses(e->d))
		return;
	if (f->region[reg] != WINDOW_NOWHERE)
		f->drift[reg] = min_u64(f->drift[reg], distance(disp));
	if (f->aux == AUX_OF(reg))
		f->aux_drift = min_u64(f->aux_drift, distance(disp));
}

/* ---- sums ---- */

static bool same_sum(const struct fact_sum *a, const struct fact_sum *b)
{
	return a->base == b->base && a->index == b->index && a->shift == b->shift;
}

static struct fact_sum *find_sum(const struct facts *f, const struct fact_sum *like)
{
	for (unsigned i = 0; i < f->sum_count; i++)
		if (same_sum(&f->sums[i], like))
			return (struct fact_sum *)&f->sums[i];
	return NULL;
}

static struct fact_sum sum_of(const struct op *op)
{
	return (struct fact_sum){ .base = op->base, .index = op->index, .shift = op->shift };
}

struct fact_sum *facts_sum(struct facts *f, const struct op *op)
{
	struct fact_sum like = sum_of(op);

	return find_sum(f, &like);
}

void facts_sum_touched(struct emit *e, const struct op *op, struct fact_sum *known, unsigned region)
{
	struct facts *f = &e->f;

	if (e->t->options & OPTION_NO_SUMS)
		return;
	if (known) {
		if (surely_accesses(e->d))
			known->drift = min_u64(known->drift, distance(op->disp));
		return;
	}
	if (f->sum_count == FACT_SUMS) /* the oldest goes */
		memmove(f->sums, f->sums + 1, --f->sum_count * sizeof(f->sums[0]));
	f->sums[f->sum_count] = sum_of(op);
	f->sums[f->sum_count].region = (u8)region;
	f->sums[f->sum_count++].drift = distance(op->disp);
}

static void forget_sum(struct facts *f, unsigned i)
{
	memmove(f->sums + i, f->sums + i + 1, (--f->sum_count - i) * sizeof(f->sums[0]));
}

static void sums_lost(struct facts *f, unsigned reg)
{
	for (unsigned i = f->sum_count; i--;)
		if (f->sums[i].base == reg || f->sums[i].index == reg)
			forget_sum(f, i);
}

static void sums_moved(struct facts *f, unsigned reg, s64 by)
{
	for (unsigned i = f->sum_count; i--;) {
		struct fact_sum *s = &f->sums[i];

		s->drift += s->base == reg ? distance(by) : 0;
		s->drift += s->index == reg ? distance(by) << s->shift : 0;
		if (s->drift > FACT_REACH)
			forget_sum(f, i);
	}
}

static bool sums_meet(struct facts *head, const struct facts *end)
{
	bool kept = true;

	for (unsigned i = head->sum_count; i--;) {
		const struct fact_sum *now = find_sum(end, &head->sums[i]);

		if (now && now->region == head->sums[i].region && now->drift <= head->sums[i].drift)
			continue;
		forget_sum(head, i);
		kept = false;
	}
	return kept;
}

bool facts_meet(struct facts *head, const struct facts *end)
{
	bool kept = sums_meet(head, end);

	for (unsigned g = 0; g < X86_GPRS; g++) {
		if (head->region[g] != WINDOW_NOWHERE &&
			(end->region[g] != head->region[g] || end->drift[g] > head->drift[g])) {
			head->region[g] = WINDOW_NOWHERE;
			kept = false;
		}
	}
	if (head->slop != SLOP_LOST && (end->stack != head->stack || end->slop > head->slop)) {
		head->slop = SLOP_LOST;
		kept = false;
	}
	if (head->aux != AUX_NONE && (end->aux != head->aux || end->aux_drift > head->aux_drift)) {
		head->aux = AUX_NONE;
		kept = false;
	}
	if (head->narrow & ~end->narrow) {
		head->narrow &= end->narrow;
		kept = false;
	}
	return kept;
}

/* Of the kernel's window: all bits from 39 on, less those that addresses of the piece have. */
static void emit_piece_bits(struct emit *e, unsigned host, unsigned region)
{
	static const u8 lea_ecx[] = { 0x8d, 0x89 }; /* lea ecx, [rcx + disp32] */
	u64 piece = e->t->kernel.pieces.piece[region - WINDOW_REGIONS];
	u32 bits = (u32)(piece | (piece & KERNEL_PIECES / 2 ? ~0u << 9 : 0)) & 0x1ffffff;

	asm_bits(&e->a, ASM_PEXT, ASM_RCX, host, SLOT(kernel_mask));
	if (bits) {
		asm_bytes(&e->a, lea_ecx, sizeof(lea_ecx));
		asm_u32(&e->a, -bits);
	}
}

void emit_region_bits(struct emit *e, unsigned host, unsigned region)
{
	if (region >= WINDOW_REGIONS) {
		emit_piece_bits(e, host, region);
		return;
	}
	const u8 lea_ecx[] = { 0x8d, 0x49, (u8)-window_bits(region) }; /* lea ecx, [rcx - bits] */

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

unsigned facts_next_space(const struct emit *e)
{
	static const u8 firm[] = { CODE_WINDOW, CODE_KERNEL };
	const struct facts *f = &e->f;
	bool near = f->slop <= STACK_SLOP;

	for (unsigned i = 0; i < ARRAY_LEN(firm); i++)
		if (code_space_loose(e->b->space) == code_space_loose(firm[i]))
			return near && f->stack == window_stack_region(e->t, firm[i])
				       ? firm[i]
				       : code_space_loose(firm[i]);
	return e->b->space;
}

void facts_settle_stack(struct emit *e)
{
	struct facts *f = &e->f;
	unsigned region = window_stack_region(e->t, e->b->space);

	if (region == WINDOW_NOWHERE || f->slop <= STACK_SLOP || e->hint != HINT_GUESS ||
		(known(f, RSP) && window_region_at(e->t, e->b->space, f->value[RSP]) != region))
		return;
	emit_region_check(e, ASM_RSP, region);
	f->slop = 0;
}

/* ---- effects of an instruction ---- */

static void moved(struct facts *f, unsigned reg, s64 by)
{
	sums_moved(f, reg, by);
	if (reg == RSP) {
		f->slop += distance(by);
	} else if (f->region[reg] != WINDOW_NOWHERE) {
		f->drift[reg] += distance(by);
		if (f->drift[reg] > FACT_REACH)
			f->region[reg] = WINDOW_NOWHERE;
	}
	f->narrow &= ~BIT(reg);
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
	sums_lost(f, reg);
	f->region[reg] = WINDOW_NOWHERE;
	f->known &= ~BIT(reg);
	f->narrow &= ~BIT(reg);
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
	if (before.narrow & BIT(from) && !by)
		f->narrow |= BIT(to);
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

bool facts_writes(const struct build *d, unsigned reg)
{
	for (unsigned i = 0; i < d->insn.operand_count; i++)
		if (d->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			recode_is_gpr(d->o[i].reg.value) &&
			recode_gpr_id(d->o[i].reg.value) == reg &&
			(d->o[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			return true;
	return false;
}

bool facts_adds(const struct build *d, unsigned reg, s64 *by)
{
	unsigned to, from;

	if (adds_constant(d, &to, by))
		return to == reg && d->insn.mnemonic != ZYDIS_MNEMONIC_AND;
	return copies(d, &to, &from, by) && to == reg && from == reg;
}

void facts_after(struct emit *e, bool handed)
{
	struct facts *f = &e->f;
	const struct build *d = e->d;
	const struct op *op = d->op;
	unsigned reg, from;
	s64 by;

	if (!emit_window(e)) {
		run_after(e, handed);
		return;
	}
	/* So that the block can be entered again behind it. */
	if (handed)
		f->sum_count = 0;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFQ:
		if (op->size == 8) {
			moved(f, RSP, -8);
			return;
		}
		break;
	case ZYDIS_MNEMONIC_POPFQ: moved(f, RSP, 8); return;
	case ZYDIS_MNEMONIC_POP:
		if (op->size == 8 && d->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			recode_is_gpr(d->o[0].reg.value)) {
			u64 value = 0;
			bool guessed = known(f, RSP) && peek(e, f->value[RSP], 8, &value);

			reg = recode_gpr_id(d->o[0].reg.value);
			moved(f, RSP, 8);
			lost(f, reg);
			if (guessed && reg != RSP)
				set_value(f, reg, value);
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
	bool plain = d->insn.operand_count_visible && d->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		     d->o[0].size >= 32 && recode_is_gpr(d->o[0].reg.value) &&
		     (d->o[0].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	u64 value = 0;
	bool guessed = plain && result_of(e, &value);

	for (unsigned i = 0; i < d->insn.operand_count; i++)
		if (d->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			recode_is_gpr(d->o[i].reg.value) &&
			(d->o[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
			lost(f, recode_gpr_id(d->o[i].reg.value));
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_LEAVE)
		lost(f, RSP);
	if (!plain)
		return;
	reg = recode_gpr_id(d->o[0].reg.value);
	if (guessed)
		set_value(f, reg, value);
	if (narrows(d))
		f->narrow |= BIT(reg);
}

u64 facts_record(struct emit *e, struct tinsn *next)
{
	u64 facts = FACTS_NONE;

	next->aux = emit_window(e) ? e->f.aux : AUX_NONE; /* a run that is joined says so */
	next->sums = e->f.sum_count & 7u;
	if (!emit_window(e))
		return facts;
	for (unsigned g = 0; g < X86_GPRS; g++) {
		unsigned region = g != RSP		    ? e->f.region[g]
				  : e->f.slop <= FACT_REACH ? e->f.stack
							    : WINDOW_NOWHERE;

		if (region != WINDOW_NOWHERE)
			facts ^= (u64)(region ^ FACTS_NOWHERE) << (4 * g);
	}
	return facts;
}
