/* PUSH, POP and LEAVE. The access comes first; RSP moves once it has succeeded. */
#include "base/must.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/emit.h"

void emit_move_rsp(struct emit *e, s32 by) { emit_lea_word(e, ASM_RSP, ASM_RSP, by); }

static void emit_push_reg(struct emit *e, unsigned guest)
{
	struct places p = places_home();
	struct host_operand m;
	unsigned from = p.host[guest];

	emit_stack_operand(e, -(s32)e->word, e->word, true, &m);
	if (from == ASM_NONE) {
		asm_load(&e->a, ASM_RCX, SLOT(gpr) + 8 * guest);
		from = ASM_RCX;
	}
	emit_word(e, OP_MOV_STORE, from, &m);
	emit_move_rsp(e, -(s32)e->word);
}

static void store_value(struct emit *e, const struct host_operand *m, u64 value, bool near_rip)
{
	if (near_rip && e->b->floats) {
		must(emit_near(e, ASM_RCX, value), "the next instruction is far away");
		asm_mem(&e->a, OP_MOV_STORE, ASM_RCX, m);
	} else if (e->word == 4 || asm_is_s32(value)) {
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
	must(emit_near(e, ASM_RCX, next), "the next instruction is far away");
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

		emit_stack_operand(e, -(s32)e->word, e->word, true, &m);
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
	emit_stack_operand(e, 0, e->word, false, &m);
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
