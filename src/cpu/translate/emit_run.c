/*
 * Runs: accesses that share a check.
 *
 * Code reaches for the fields of a structure, or of its stack frame, one after the other, and
 * pushes and pops many registers in a row. In the general form the first access by a register
 * checks its page and leaves in T_AUX what leads from there to the host; those that follow by the
 * same register need no check if they are in the same page. Whether they are is not known when the
 * code is made. So the first check is widened, as they turn up, until it says of all of them that
 * they are in one page, by rewriting its two displacements:
 *
 *     lea  r11, [rdi + low]
 *     pext r15, r11, [index_mask]
 *     mov  rcx, gs:[neg + r15*8]
 *     lea  rcx, [rcx + r11 + size-1]
 *     pext rcx, rcx, [page_mask]
 *     jrcxz hit
 *     jmp  miss
 *   hit:
 *     mov  r15, gs:[add + r15*8]
 *     op   [r15 + rdi + 8]           the first
 *     op   [r15 + rdi]               low: was 8, is 0 from here on
 *     op   [r15 + rdi + 24]          size: to the end of this one
 *
 * Reads may follow a check for writes, not the other way around: many pages may be read only.
 *
 * A run lasts while T_AUX does and the register holds what it held, but for constants that are
 * added to it. It is left only by side exits and through its first check. After a miss of that the
 * interpreter executes the first instruction, and the rest goes on with T_AUX set as the check
 * would have (run_resume()). A run that crosses pages always misses: its block is made anew, and
 * the instruction that it began with begins none any more.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/translate/emit.h"

#define RUN_MOST    128 /* bytes: size-1 is a displacement of eight bits */
#define ACCESS_MOST 64u /* larger operands are few */

static u64 *no_run(struct translator *t, u64 gpa)
{
	return &t->no_run[(gpa ^ (gpa >> 12)) & (NO_RUNS - 1)];
}

/* Could the run be widened to [low, end)? */
static bool fits(const struct fact_run *r, s64 low, s64 end)
{
	return end - low <= RUN_MOST && (r->wide ? low == (s32)low : low == (s8)low);
}

static void join(struct emit *e, s64 at, unsigned size)
{
	struct fact_run *r = &e->f.run;
	struct tinsn *first = &e->b->insns[r->first];

	r->low = min_s64(r->low, at);
	r->end = max_s64(r->end, at + size);
	while (r->last < e->index)
		e->b->insns[++r->last].aux = AUX_RUN;
	first->run_size = (u8)(r->end - r->low);
	first->run_below = (u8)(r->first_at - r->low);
	if (e->a.full)
		return;
	if (r->wide)
		put_le32(r->low_at, (u32)r->low);
	else
		*r->low_at = (u8)r->low;
	*r->size_at = (u8)(r->end - r->low - 1);
}

static void begin(struct emit *e, unsigned reg, unsigned host, s64 at, unsigned size, bool write)
{
	struct tinsn *first = &e->b->insns[e->index];
	bool wide = at != (s8)at;
	struct fact_run r = { .base = (u8)reg,
		.write = write,
		.wide = wide,
		.first = (u8)e->index,
		.last = (u8)e->index,
		.low = at,
		.end = at + size,
		.first_at = at };

	r.low_at = asm_lea_open(&e->a, T_ADDR, host, ASM_NONE, (s32)at, wide);
	r.size_at = emit_check(e, size, write);
	first->run_size = first->run_below = 0;
	if (*no_run(e->t, e->gpa) == e->gpa)
		return;
	e->f.aux = AUX_RUN;
	e->f.run = r;
}

bool run_operand(
	struct emit *e, unsigned reg, s64 disp, unsigned size, bool write, struct host_operand *out)
{
	const struct fact_run *r = e->f.aux == AUX_RUN && e->f.run.base == reg ? &e->f.run : NULL;
	unsigned host = places_home().host[reg];
	s64 at = disp + (r ? r->moved : 0);

	if (host == ASM_NONE || emit_window(e) || size > ACCESS_MOST || disp != (s32)disp ||
		e->t->options & OPTION_NO_RUNS)
		return false;
	if (r && (r->write || !write) && fits(r, min_s64(r->low, at), max_s64(r->end, at + size)))
		join(e, at, size);
	else
		begin(e, reg, host, disp, size, write);
	*out = host == ASM_RSP ? (struct host_operand){ ASM_RSP, T_AUX, (s32)disp }
			       : (struct host_operand){ T_AUX, (u8)host, (s32)disp };
	return true;
}

void run_after(struct emit *e, bool handed)
{
	const struct build *d = e->d;
	struct fact_run *r = &e->f.run;
	s64 by = 0;
	bool stack = r->base == RSP && d->op->size == 8;

	if (e->f.aux != AUX_RUN)
		return;
	if (handed)
		e->f.aux = AUX_NONE;
	else if (stack && d->insn.mnemonic == ZYDIS_MNEMONIC_PUSH)
		r->moved -= 8;
	else if (stack && d->insn.mnemonic == ZYDIS_MNEMONIC_POP && d->op->dst != 8 * RSP)
		r->moved += 8;
	else if (facts_adds(d, r->base, &by))
		r->moved += by;
	else if (facts_writes(d, r->base))
		e->f.aux = AUX_NONE;
}

bool run_resume(struct translator *t, struct tblock *b, const struct tinsn *in, u64 at)
{
	u64 low = at - in->run_below, last = low + in->run_size - 1;
	bool write = access_writes(in->access);

	if (!in->run_size) /* it is further into the run, and should not have left */
		return false;
	if ((low ^ last) & ~PAGE_MASK) {
		u64 gpa = b->unit.gpa + in->guest_at;

		*no_run(t, gpa) = gpa;
		tcache_kill(t, b);
		return false;
	}
	struct mmu_entry *e = mmu_find(&t->c->mmu, low, in->run_size, write ? MMU_WRITE : MMU_READ);
	if (!e || (write && !memory_quiet(e->flags)))
		return false;
	t->ctx->aux = (u64)(uintptr_t)e->host - (low & ~PAGE_MASK);
	return true;
}
