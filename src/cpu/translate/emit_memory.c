/*
 * Memory operands, in two forms.
 *
 * The general form is an inline TLB check, correct for every access: see translate_priv.h.
 *
 * The window form (blocks of the window's owner, window.h) adds a region's delta. Where the region
 * comes from, cheapest first:
 *   constant   RIP-relative and absolute addresses, the thread pointer
 *   fact       the base register was checked before in this block (emit.h); always so for RSP
 *   guess      the value at hand when the block was made says which region to check for
 *   lookup     bits 42 to 49 select the delta from a table
 * A guess that was wrong traps; window_hint then remembers to look up, or to use the general form
 * for what the window cannot show.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/translate/emit.h"

/* A displacement farther below zero is the address of an array, as in a kernel's text and modules,
 * which end so far below the top (Linux, Documentation/x86/x86_64/mm.rst): the base register is
 * only an index, and where it points says nothing. */
#define BELOW_MAX (16 * MiB)

/* ---- the general form ---- */

bool emit_address(struct emit *e, const struct op *op)
{
	struct places p = places_home();
	u32 want = 0;
	unsigned base = op->base, index = op->index;

	if (base == BASE_RIP) {
		u64 at = e->rip + (u64)op->disp;

		if (op->asize == 4 && e->b->floats)
			return false;
		if (op->asize == 4)
			emit_constant(e, T_ADDR, (u32)at, true);
		else if (!emit_near(e, T_ADDR, at))
			return false;
	} else {
		if (base != REG_NONE)
			want |= BIT(base) & HOMELESS;
		if (index != REG_NONE)
			want |= BIT(index) & HOMELESS;
		if (!places_assign(&p, want, BIT(T_ADDR) | BIT(ASM_RCX)))
			return false;
		places_load(e, &p, want);
		unsigned b = base == REG_NONE ? ASM_NONE : p.host[base];
		unsigned i = index == REG_NONE ? ASM_NONE : p.host[index];
		if (b == ASM_NONE && i == ASM_NONE)
			asm_const(&e->a, T_ADDR, (u64)op->disp);
		else if (op->disp == (s32)op->disp)
			asm_lea(&e->a, T_ADDR, b, i, op->shift, (s32)op->disp);
		else
			return false;
		if (op->asize == 4)
			asm_rr(&e->a, 0x8b, T_ADDR, T_ADDR, false);
	}
	if (op->seg >= X86_FS) {
		asm_load(&e->a, ASM_RCX, op->seg == X86_FS ? SLOT(fs_base) : SLOT(gs_base));
		asm_lea(&e->a, T_ADDR, T_ADDR, ASM_RCX, 0, 0);
	}
	return true;
}

void emit_out_unless_rcx_zero(struct emit *e)
{
	asm_jrcxz(&e->a, 5);
	emit_out(e, ASM_NONE, EXIT_CODE(EXIT_OP, e->b->id, e->index));
}

u8 *emit_check(struct emit *e, unsigned size, bool write)
{
	u32 table = fast_slot(e, write);
	u8 *size_at;

	e->f.aux = AUX_NONE;
	asm_bits(&e->a, ASM_PEXT, T_AUX, T_ADDR, SLOT(index_mask));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, T_AUX, 3, table);
	size_at = asm_lea_open(&e->a, ASM_RCX, ASM_RCX, T_ADDR, (s32)size - 1, size > 128);
	asm_bits(&e->a, ASM_PEXT, ASM_RCX, ASM_RCX, SLOT(page_mask));
	emit_out_unless_rcx_zero(e);
	asm_gs_index(
		&e->a, OP_MOV_LOAD, T_AUX, T_AUX, 3, table + (u32)offsetof(struct fast_table, add));
	return size_at;
}

static bool general_operand(struct emit *e, const struct op *op, unsigned size, bool write,
	struct host_operand *out, u32 *free_hosts)
{
	if (op->base < X86_GPRS && op->index == REG_NONE && op->asize == 8 && op->seg < X86_FS &&
		run_operand(e, op->base, op->disp, size, write, out)) {
		*free_hosts = BIT(ASM_RCX) | BIT(T_ADDR);
		return true;
	}
	if (!emit_address(e, op))
		return false;
	emit_check(e, size, write);
	*out = (struct host_operand){ T_AUX, T_ADDR, 0 };
	*free_hosts = BIT(ASM_RCX);
	return true;
}

/* ---- the window form ---- */

static void load_aux(struct emit *e, unsigned region)
{
	if (e->f.aux == region)
		return;
	asm_load(&e->a, T_AUX, SLOT(window_delta) + 8 * region);
	e->f.aux = (u8)region;
}

void emit_look_up_delta(struct emit *e, unsigned host)
{
	if (emit_kernel_window(e)) {
		asm_bits(&e->a, ASM_PEXT, ASM_RCX, host, SLOT(kernel_piece_mask));
		asm_gs_index(&e->a, OP_MOV_LOAD, T_AUX, ASM_RCX, 3, SLOT(kernel_deltas));
		return;
	}
	asm_rorx(&e->a, ASM_RCX, host, WINDOW_SHIFT);
	asm_movzx(&e->a, ASM_RCX, ASM_RCX, 8);
	asm_gs_index(&e->a, OP_MOV_LOAD, T_AUX, ASM_RCX, 3, SLOT(deltas));
}

/* The region that all of an access lies in, or WINDOW_NOWHERE. */
static unsigned region_with(struct emit *e, u64 at, unsigned size)
{
	unsigned region;

	if (!emit_kernel_window(e))
		return window_region_of(at, size);
	kernel_window_expect(e->t, at);
	region = window_region_at(e->t, e->b->space, at);
	return window_region_at(e->t, e->b->space, at + size - 1) == region ? region
									    : WINDOW_NOWHERE;
}

/* The region to ask for, or WINDOW_NOWHERE: look it up. */
static unsigned guessed_region(struct emit *e, const struct op *op, unsigned size)
{
	u64 at;

	if (e->hint != HINT_GUESS || !facts_guess(e, op, &at))
		return WINDOW_NOWHERE;
	return region_with(e, at, size);
}

/* The same; where not all of the address is known, its base says it. */
static unsigned likely_region(struct emit *e, const struct op *op, unsigned size)
{
	const struct facts *f = &e->f;
	unsigned g = op->base;
	u64 at;

	if (e->hint != HINT_GUESS || facts_guess(e, op, &at) || g >= X86_GPRS || op->seg >= X86_FS)
		return guessed_region(e, op, size);
	if (g != RSP && f->region[g] != WINDOW_NOWHERE)
		return f->region[g];
	return f->known & BIT(g) ? window_region_at(e->t, e->b->space, f->value[g])
				 : WINDOW_NOWHERE;
}

/* Kernel code that reaches for what no window shows (the user's memory, devices) will do so again.
 */
static bool hopeless(struct emit *e, const struct op *op, unsigned size)
{
	u64 at;

	return emit_kernel_window(e) && e->hint == HINT_GUESS && facts_guess(e, op, &at) &&
	       region_with(e, at, size) == WINDOW_NOWHERE;
}

/* Where the region is shown may be a constant only in code that no other vcpu copies: its window is
 * elsewhere, and what is in ours is another address space's. */
static bool constant_operand(struct emit *e, const struct op *op, unsigned size,
	struct host_operand *out, u32 *free_hosts)
{
	bool near = op->base == BASE_RIP;
	u64 at = (near ? e->rip : 0) + (u64)op->disp;
	unsigned region = region_with(e, at, size);

	if (region == WINDOW_NOWHERE)
		return false;
	if (asm_is_s32(at)) {
		e->fixed |= near;
		load_aux(e, region);
		*out = (struct host_operand){ T_AUX, ASM_NONE, (s32)at };
		return true;
	}
	*free_hosts = BIT(ASM_RCX);
	if (share_wanted(e->t)) {
		load_aux(e, region);
		emit_constant(e, T_ADDR, at, near);
		*out = (struct host_operand){ T_AUX, T_ADDR, 0 };
	} else {
		emit_constant(e, T_ADDR, at + e->t->ctx->window_delta[region], near);
		*out = (struct host_operand){ T_ADDR, ASM_NONE, 0 };
	}
	return true;
}

/* T_AUX: the delta of the region that the base register lies in; it alone is checked, since the
 * guards are wider than what is added to it. `host`: where its value is. */
static void base_delta(struct emit *e, const struct op *op, unsigned size, unsigned host)
{
	struct facts *f = &e->f;
	unsigned g = op->base, region;

	if (f->region[g] != WINDOW_NOWHERE) {
		emit_proof(e, host, f->region[g]);
		load_aux(e, f->region[g]);
		return;
	}
	if (f->aux == AUX_OF(g))
		return;
	region = likely_region(e, op, size);
	if (region != WINDOW_NOWHERE && f->known & BIT(g) &&
		window_region_at(e->t, e->b->space, f->value[g]) == region) {
		emit_region_check(e, host, region);
		f->region[g] = (u8)region;
		f->drift[g] = 0;
		load_aux(e, region);
	} else {
		emit_look_up_delta(e, host);
		f->aux = (u8)AUX_OF(g);
		f->aux_drift = 0;
	}
}

/* The base register, loaded to T_ADDR if it has no home. */
static unsigned base_host(struct emit *e, unsigned g)
{
	struct places p = places_home();

	if (p.host[g] != ASM_NONE)
		return p.host[g];
	asm_load(&e->a, T_ADDR, SLOT(gpr) + 8 * g);
	return T_ADDR;
}

/* [base + disp] */
static void based_operand(
	struct emit *e, const struct op *op, unsigned size, struct host_operand *out)
{
	unsigned host = base_host(e, op->base);

	base_delta(e, op, size, host);
	facts_base_touched(e, op->base, op->disp);
	*out = (struct host_operand){ T_AUX, (u8)host, (s32)op->disp };
}

/* [base + index * scale + disp] or without a base, with an index of 32 bits: the same serves.
 * False: more is to be checked. */
static bool indexed_operand(
	struct emit *e, const struct op *op, unsigned size, struct host_operand *out)
{
	struct facts *f = &e->f;

	if (!facts_narrow(e, op->index))
		return false;
	if (op->base == REG_NONE) {
		unsigned region = region_with(e, (u64)op->disp, size);

		if (region == WINDOW_NOWHERE)
			return false;
		load_aux(e, region);
	} else if (op->base == RSP) {
		if (f->slop > FACT_REACH)
			return false;
		load_aux(e, f->stack);
	} else {
		base_delta(e, op, size, base_host(e, op->base));
	}
	if (!emit_address(e, op))
		return false;
	*out = (struct host_operand){ T_AUX, T_ADDR, 0 };
	return true;
}

static bool window_operand(struct emit *e, const struct op *op, unsigned size, bool write,
	struct host_operand *out, u32 *free_hosts)
{
	bool near = op->disp >= -(s64)BELOW_MAX && op->disp <= (s64)FACT_REACH;
	bool sums = op->asize == 8 && op->seg < X86_FS && op->index != REG_NONE &&
		    op->base != BASE_RIP && near;
	unsigned region;

	*free_hosts = BIT(ASM_RCX) | BIT(T_ADDR);
	if (emit_kernel_window(e) && op->seg == X86_GS && op->index == REG_NONE && op->asize == 8 &&
		(op->base == REG_NONE || op->base == BASE_RIP)) {
		u64 at = (u64)op->disp + (op->base == BASE_RIP ? e->rip : 0);

		if (!asm_is_s32(at))
			return false;
		e->fixed |= op->base == BASE_RIP;
		asm_load(&e->a, T_ADDR, SLOT(gs_window));
		*out = (struct host_operand){ T_ADDR, ASM_NONE, (s32)at };
		*free_hosts = BIT(ASM_RCX);
		return true;
	}
	if (hopeless(e, op, size))
		return false;
	if (op->asize == 8 && op->seg < X86_FS && op->index == REG_NONE &&
		(op->base == BASE_RIP || op->base == REG_NONE))
		return constant_operand(e, op, size, out, free_hosts);
	if (op->asize == 8 && op->seg == X86_FS && op->base == REG_NONE && op->index == REG_NONE &&
		near && !emit_kernel_window(e)) {
		asm_load(&e->a, T_ADDR, SLOT(fs_window));
		*out = (struct host_operand){ T_ADDR, ASM_NONE, (s32)op->disp };
		*free_hosts = BIT(ASM_RCX);
		return true;
	}
	if (op->asize == 8 && op->seg < X86_FS && op->base == RSP && op->index == REG_NONE &&
		near) {
		emit_stack_operand(e, (s32)op->disp, size, write, out);
		return true;
	}
	if (op->asize == 8 && op->seg < X86_FS && op->base < X86_GPRS && op->index == REG_NONE &&
		near) {
		based_operand(e, op, size, out);
		if (out->index == T_ADDR)
			*free_hosts = BIT(ASM_RCX);
		return true;
	}
	if (op->asize == 8 && op->seg < X86_FS && op->base != BASE_RIP && op->index != REG_NONE &&
		(near || op->base == REG_NONE) && indexed_operand(e, op, size, out)) {
		*free_hosts = BIT(ASM_RCX);
		return true;
	}
	struct fact_sum *sum = sums ? facts_sum(&e->f, op) : NULL;
	region = sum ? sum->region : likely_region(e, op, size);
	if (!emit_address(e, op))
		return false;
	if (region != WINDOW_NOWHERE) {
		if (sum)
			emit_proof(e, T_ADDR, region);
		else
			emit_region_check(e, T_ADDR, region);
		if (sums)
			facts_sum_touched(e, op, sum, region);
		load_aux(e, region);
	} else {
		emit_look_up_delta(e, T_ADDR);
		e->f.aux = AUX_NONE;
	}
	*out = (struct host_operand){ T_AUX, T_ADDR, 0 };
	*free_hosts = BIT(ASM_RCX);
	return true;
}

void emit_stack_operand(
	struct emit *e, s32 disp, unsigned size, bool write, struct host_operand *out)
{
	if (emit_window(e) && e->hint != HINT_GENERAL) {
		if (e->f.slop > FACT_REACH && e->hint == HINT_LOOKUP) {
			if (e->f.aux != AUX_OF(RSP)) {
				emit_look_up_delta(e, ASM_RSP);
				e->f.aux = (u8)AUX_OF(RSP);
				e->f.aux_drift = 0;
			}
			*out = (struct host_operand){ ASM_RSP, T_AUX, disp };
			return;
		}
		if (e->f.slop > FACT_REACH) {
			facts_guess_stack(e);
			emit_region_check(e, ASM_RSP, e->f.stack);
			e->f.slop = 0;
		} else {
			emit_proof(e, ASM_RSP, e->f.stack);
		}
		load_aux(e, e->f.stack);
		*out = (struct host_operand){ ASM_RSP, T_AUX, disp };
		facts_stack_touched(e, disp);
		return;
	}
	if (e->word == 8 && run_operand(e, RSP, disp, size, write, out))
		return;
	emit_lea_word(e, T_ADDR, ASM_RSP, disp);
	emit_check(e, size, write);
	*out = (struct host_operand){ T_AUX, T_ADDR, 0 };
}

bool emit_operand(struct emit *e, const struct op *op, unsigned size, bool write,
	struct host_operand *out, u32 *free_hosts)
{
	if (emit_window(e) && e->hint != HINT_GENERAL) {
		struct emit_mark mark = emit_mark(e);

		if (window_operand(e, op, size, write, out, free_hosts))
			return true;
		emit_back(e, &mark);
	}
	return general_operand(e, op, size, write, out, free_hosts);
}

/* ---- instructions ---- */

enum emit_result emit_lea(struct emit *e)
{
	struct op op = *e->d->op;
	unsigned dst = op.dst / 8;
	struct emit_mark mark = emit_mark(e);
	struct places p = places_home();
	/* The low half of a sum does not depend on how wide it is added. */
	bool wide = op.size == 8;
	bool plain = (wide ? op.asize == 8 : op.size == 4) && op.base != BASE_RIP &&
		     op.disp == (s32)op.disp && p.host[dst] != ASM_NONE &&
		     (op.base == REG_NONE || p.host[op.base] != ASM_NONE) &&
		     (op.index == REG_NONE || p.host[op.index] != ASM_NONE);

	if (plain) {
		asm_lea_sized(&e->a, p.host[dst], op.base == REG_NONE ? ASM_NONE : p.host[op.base],
			op.index == REG_NONE ? ASM_NONE : p.host[op.index], op.shift, (s32)op.disp,
			wide);
		return EMIT_NEXT;
	}
	op.seg = X86_DS; /* LEA ignores segments */
	if (op.size == 2 || !emit_address(e, &op)) {
		emit_back(e, &mark);
		return emit_hand_over(e);
	}
	if (op.size == 4)
		asm_rr(&e->a, 0x8b, T_ADDR, T_ADDR, false);
	if (p.host[dst] == ASM_NONE)
		asm_store(&e->a, SLOT(gpr) + 8 * dst, T_ADDR);
	else
		asm_rr(&e->a, 0x8b, p.host[dst], T_ADDR, true);
	return EMIT_NEXT;
}

/* Makes room for another register by folding the operand into T_ADDR. */
static void fold(struct emit *e, struct host_operand *m, u32 *free_hosts)
{
	asm_lea(&e->a, T_ADDR, m->base, m->index, 0, m->disp);
	*m = (struct host_operand){ T_ADDR, ASM_NONE, 0 };
	*free_hosts = (*free_hosts & ~BIT(T_ADDR)) | BIT(T_AUX);
	e->f.aux = AUX_NONE;
}

/* Behind the instruction, which may not happen: the offset of what it touched. */
static bool note_x87(struct emit *e)
{
	struct op op = *e->d->op;

	op.seg = X86_DS;
	if (!emit_address(e, &op))
		return false;
	asm_store(&e->a, SLOT(x87_at), T_ADDR);
	return true;
}

static bool try_memory(struct emit *e, const ZydisDecodedOperand *mem)
{
	struct use u = use_of(e->d);
	struct places p = places_home();
	u32 homeless = (u.read | u.written) & HOMELESS, free_hosts;
	bool write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	struct host_operand m;

	if (u.other || u.ch || mem->size > 512 || !mem->size ||
		mem->mem.type != ZYDIS_MEMOP_TYPE_MEM)
		return false;
	if (!emit_operand(e, e->d->op, mem->size / 8, write, &m, &free_hosts))
		return false;
	if (u.count)
		free_hosts &= ~BIT(ASM_RCX);
	if (u.high) {
		/* AH and its kin exclude REX: address in RCX */
		if (homeless || u.count)
			return false;
		asm_lea(&e->a, ASM_RCX, m.base, m.index, 0, m.disp);
		m = (struct host_operand){ ASM_RCX, ASM_NONE, 0 };
	} else if ((unsigned)__builtin_popcount(homeless) >
		   (unsigned)__builtin_popcount(free_hosts)) {
		fold(e, &m, &free_hosts);
	}
	if (!places_assign(&p, homeless, free_hosts))
		return false;
	places_load(e, &p, u.read);
	if (u.count)
		asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
	if (!recode(&e->a, e->d, e->bytes, &p, &m))
		return false;
	if (u.index_out)
		asm_rr(&e->a, 0x8b, T_COUNT, ASM_RCX, true);
	places_store(e, &p, u.written);
	return !native_notes_x87(e->d->op) || note_x87(e);
}

enum emit_result emit_memory(struct emit *e, const ZydisDecodedOperand *mem)
{
	struct emit_mark mark = emit_mark(e);

	if (try_memory(e, mem))
		return EMIT_NEXT;
	emit_back(e, &mark);
	return emit_hand_over(e);
}
