/*
 * PUSH, POP and LEAVE. The access comes first; RSP moves once it has succeeded.
 *
 * Runs. Functions and the kernel's entries push and pop many registers in a row. In the general
 * form the first one checks that all of them are in one page, and leaves in T_AUX what leads there:
 *
 *     check of [rsp-8*n .. rsp)
 *     mov  [r15 + r11 + 8*(n-1)], first
 *     lea  rsp, [rsp-8]
 *     mov  [rsp + r15 - 8], second
 *     ...
 *
 * The rest of a run can be entered after an exit only with T_AUX set again (run_resume()). A run
 * that crosses pages is split for good at the instruction where that was found.
 */
#include "base/must.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/emit.h"

void emit_move_rsp(struct emit *e, s32 by) { emit_lea_word(e, ASM_RSP, ASM_RSP, by); }

/* Length of the instruction if it is a push (or pop) that a run may contain, else 0. */
static unsigned run_member(const u8 *p, const u8 *end, bool push)
{
	unsigned rex = p < end && *p == 0x41, op;

	if (p + rex >= end)
		return 0;
	op = p[rex];
	if (push && !rex && (op == 0x6a || op == 0x68))
		return op == 0x6a ? 2 : 5;
	if ((op & 0xf8) != (push ? 0x50 : 0x58) || (op == 0x5c && !rex))
		return 0;
	return 1 + rex;
}

static u64 *no_run(struct translator *t, u64 gpa)
{
	return &t->no_run[(gpa ^ (gpa >> 8)) & (NO_RUNS - 1)];
}

/* How many of the next instructions continue the run. */
static unsigned run_ahead(struct emit *e, bool push)
{
	const u8 *p = e->bytes, *end = e->code_end;
	unsigned n = 0, len = e->d->insn.length;

	if (emit_window(e) || e->word != 8 || run_member(p, end, push) != len ||
		*no_run(e->t, e->gpa) == e->gpa || e->t->options & OPTION_NO_RUNS)
		return 0;
	while (n + e->index + 1 < e->t->block_ops && (len = run_member(p += len, end, push)))
		n++;
	return n;
}

/* The slot of PUSH, or what POP reads. */
static void run_operand(struct emit *e, bool push, struct host_operand *m)
{
	if (e->f.aux == AUX_STACK) {
		*m = (struct host_operand){ ASM_RSP, T_AUX, push ? -8 : 0 };
		if (!--e->run_left)
			e->f.aux = AUX_NONE;
		return;
	}
	unsigned n = run_ahead(e, push);
	if (!n) {
		emit_stack_operand(e, push ? -(s32)e->word : 0, e->word, push, m);
		return;
	}
	asm_lea(&e->a, T_ADDR, ASM_RSP, ASM_NONE, 0, push ? -8 * (s32)(n + 1) : 0);
	emit_check(e, 8 * (n + 1), push);
	*m = (struct host_operand){ T_AUX, T_ADDR, push ? 8 * (s32)n : 0 };
	e->f.aux = AUX_STACK;
	e->run_left = n;
}

bool run_resume(struct translator *t, struct tblock *b, const struct tinsn *next)
{
	bool push = next->access == ACCESS_PUSH;
	const struct tinsn *end = b->insns + b->count;
	u64 rsp = t->c->s->gpr[RSP], gpa = b->unit.gpa + next[-1].guest_at;
	unsigned n = 0;

	while (next + n < end && next[n].aux == TINSN_AUX_STACK)
		n++;
	u64 at = rsp - (push ? 8 * n : 0), last = at + 8 * n - 1;
	u64 done = push ? rsp : rsp - 8; /* what the interpreter's part of the run touched */
	if ((at ^ done) & ~PAGE_MASK || (last ^ done) & ~PAGE_MASK) {
		*no_run(t, gpa) = gpa;
		tcache_kill(t, b);
		return false;
	}
	struct mmu_entry *e = mmu_find(&t->c->mmu, at, 8 * n, push ? MMU_WRITE : MMU_READ);
	if (!e)
		return false;
	if (push && !memory_quiet(e->flags))
		return false;
	t->ctx->aux = (u64)(uintptr_t)e->host - (at & ~PAGE_MASK);
	return true;
}

static void emit_push_reg(struct emit *e, unsigned guest)
{
	struct places p = places_home();
	struct host_operand m;
	unsigned from = p.host[guest];

	run_operand(e, true, &m);
	if (from == ASM_NONE) {
		asm_load(&e->a, ASM_RCX, SLOT(gpr) + 8 * guest);
		from = ASM_RCX;
	}
	emit_word(e, OP_MOV_STORE, from, &m);
	emit_move_rsp(e, -(s32)e->word);
}

static void store_value(struct emit *e, const struct host_operand *m, u64 value, bool near_rip)
{
	if (e->word == 4 || asm_is_s32(value)) {
		e->fixed |= near_rip;
		emit_word(e, 0xc7, 0, m); /* mov [m], simm32 */
		asm_u32(&e->a, (u32)value);
	} else {
		emit_constant(e, ASM_RCX, value, near_rip);
		asm_mem(&e->a, OP_MOV_STORE, ASM_RCX, m);
	}
	emit_move_rsp(e, -(s32)e->word);
}

void emit_push_next(struct emit *e, u64 next)
{
	struct host_operand m;

	emit_stack_operand(e, -(s32)e->word, e->word, true, &m);
	store_value(e, &m, next, true);
}

/* The same for an indirect call, whose target is looked at later: what was there is kept, in case
 * it faults. */
void emit_push_return(struct emit *e, u64 next)
{
	struct host_operand m;

	emit_stack_operand(e, -(s32)e->word, e->word, true, &m);
	emit_word(e, OP_MOV_LOAD, ASM_RCX, &m);
	asm_store(&e->a, SLOT(overwritten), ASM_RCX);
	emit_constant(e, ASM_RCX, next, true);
	emit_word(e, OP_MOV_STORE, ASM_RCX, &m);
	emit_move_rsp(e, -(s32)e->word);
}

void emit_push_saved(struct emit *e)
{
	struct host_operand m;

	emit_stack_operand(e, -(s32)e->word, e->word, true, &m);
	asm_load(&e->a, ASM_RCX, SLOT(save));
	emit_word(e, OP_MOV_STORE, ASM_RCX, &m);
	emit_move_rsp(e, -(s32)e->word);
}

enum emit_result emit_push(struct emit *e)
{
	const struct op *op = e->d->op;

	if (op->size != e->word || op->exec == op_push_seg)
		return emit_hand_over(e);
	if (operand_is_mem(&e->d->o[0])) {
		struct emit_mark mark = emit_mark(e);
		struct host_operand m;
		u32 free_hosts;

		if (!emit_operand(e, op, e->word, false, &m, &free_hosts)) {
			emit_back(e, &mark);
			return emit_hand_over(e);
		}
		emit_word(e, OP_MOV_LOAD, ASM_RCX, &m);
		asm_store(&e->a, SLOT(save), ASM_RCX);
		emit_push_saved(e);
	} else if (operand_is_reg(&e->d->o[0])) {
		emit_push_reg(e, op->dst / 8);
	} else {
		struct host_operand m;

		run_operand(e, true, &m);
		store_value(e, &m, op->imm, false);
	}
	return EMIT_NEXT;
}

enum emit_result emit_pop(struct emit *e)
{
	const struct op *op = e->d->op;
	struct places p = places_home();
	struct host_operand m;
	unsigned g = op->dst / 8;

	if (op->size != e->word || op->exec == op_pop_seg || !operand_is_reg(&e->d->o[0]))
		return emit_hand_over(e);
	run_operand(e, false, &m);
	if (p.host[g] == ASM_NONE) {
		asm_mem(&e->a, OP_MOV_LOAD, T_ADDR, &m);
		asm_store(&e->a, SLOT(gpr) + 8 * g, T_ADDR);
	} else {
		emit_word(e, OP_MOV_LOAD, p.host[g], &m);
	}
	if (g != RSP)
		emit_move_rsp(e, (s32)e->word);
	return EMIT_NEXT;
}

enum emit_result emit_leave(struct emit *e)
{
	const struct op frame = { .base = RBP,
		.index = REG_NONE,
		.asize = (u8)e->word,
		.seg = X86_SS,
		.size = (u8)e->word };
	struct host_operand m;
	u32 free_hosts;

	if (e->d->op->size != e->word || !emit_operand(e, &frame, e->word, false, &m, &free_hosts))
		return emit_hand_over(e);
	emit_word(e, OP_MOV_LOAD, T_ADDR, &m);
	emit_lea_word(e, ASM_RSP, ASM_RBP, (s32)e->word);
	asm_rr(&e->a, 0x8b, ASM_RBP, T_ADDR, true);
	return EMIT_NEXT;
}
