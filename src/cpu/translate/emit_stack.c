/* PUSH, POP and LEAVE. The access comes first; RSP moves once it has succeeded. */
#include "base/must.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/emit.h"

void emit_move_rsp(struct emit *e, s32 by) { asm_lea(&e->a, ASM_RSP, ASM_RSP, ASM_NONE, 0, by); }

static void emit_push_reg(struct emit *e, unsigned guest)
{
	struct places p = places_home();
	struct host_operand m;
	unsigned from = p.host[guest];

	emit_stack_operand(e, -8, 8, true, &m);
	if (from == ASM_NONE) {
		asm_load(&e->a, ASM_RCX, SLOT(gpr) + 8 * guest);
		from = ASM_RCX;
	}
	asm_mem(&e->a, OP_MOV_STORE, from, &m);
	emit_move_rsp(e, -8);
}

void emit_push_value(struct emit *e, u64 value)
{
	struct host_operand m;

	emit_stack_operand(e, -8, 8, true, &m);
	if ((u64)(s64)(s32)value == value) {
		asm_mem(&e->a, 0xc7, 0, &m); /* mov qword [m], simm32 */
		asm_u32(&e->a, (u32)value);
	} else {
		asm_const(&e->a, ASM_RCX, value);
		asm_mem(&e->a, OP_MOV_STORE, ASM_RCX, &m);
	}
	emit_move_rsp(e, -8);
}

/* The same for an indirect call, whose target is looked at later: what was there is kept, in case
 * it faults. */
void emit_push_return(struct emit *e, u64 next)
{
	struct host_operand m;

	emit_stack_operand(e, -8, 8, true, &m);
	asm_mem(&e->a, OP_MOV_LOAD, ASM_RCX, &m);
	asm_store(&e->a, SLOT(overwritten), ASM_RCX);
	asm_const(&e->a, ASM_RCX, next);
	asm_mem(&e->a, OP_MOV_STORE, ASM_RCX, &m);
	emit_move_rsp(e, -8);
}

void emit_push_saved(struct emit *e)
{
	struct host_operand m;

	emit_stack_operand(e, -8, 8, true, &m);
	asm_load(&e->a, ASM_RCX, SLOT(save));
	asm_mem(&e->a, OP_MOV_STORE, ASM_RCX, &m);
	emit_move_rsp(e, -8);
}

enum emit_result emit_push(struct emit *e)
{
	const struct op *op = e->d->op;

	if (op->size != 8 || op->exec == op_push_seg)
		return emit_hand_over(e);
	if (operand_is_mem(&e->d->o[0])) {
		struct emit_mark mark = emit_mark(e);
		struct host_operand m;
		u32 free_hosts;

		if (!emit_operand(e, op, 8, false, &m, &free_hosts)) {
			emit_back(e, &mark);
			return emit_hand_over(e);
		}
		asm_mem(&e->a, OP_MOV_LOAD, ASM_RCX, &m);
		asm_store(&e->a, SLOT(save), ASM_RCX);
		emit_push_saved(e);
	} else if (operand_is_reg(&e->d->o[0])) {
		emit_push_reg(e, op->dst / 8);
	} else {
		emit_push_value(e, op->imm);
	}
	return EMIT_NEXT;
}

enum emit_result emit_pop(struct emit *e)
{
	const struct op *op = e->d->op;
	struct places p = places_home();
	struct host_operand m;
	unsigned g = op->dst / 8;

	if (op->size != 8 || op->exec == op_pop_seg || !operand_is_reg(&e->d->o[0]))
		return emit_hand_over(e);
	emit_stack_operand(e, 0, 8, false, &m);
	if (p.host[g] == ASM_NONE) {
		asm_mem(&e->a, OP_MOV_LOAD, T_ADDR, &m);
		asm_store(&e->a, SLOT(gpr) + 8 * g, T_ADDR);
	} else {
		asm_mem(&e->a, OP_MOV_LOAD, p.host[g], &m);
	}
	if (g != RSP)
		emit_move_rsp(e, 8);
	return EMIT_NEXT;
}

enum emit_result emit_leave(struct emit *e)
{
	const struct op frame = {
		.base = RBP, .index = REG_NONE, .asize = 8, .seg = X86_SS, .size = 8
	};
	struct host_operand m;
	u32 free_hosts;

	if (e->d->op->size != 8 || !emit_operand(e, &frame, 8, false, &m, &free_hosts))
		return emit_hand_over(e);
	asm_mem(&e->a, OP_MOV_LOAD, T_ADDR, &m);
	asm_lea(&e->a, ASM_RSP, ASM_RBP, ASM_NONE, 0, 8);
	asm_rr(&e->a, 0x8b, ASM_RBP, T_ADDR, true);
	return EMIT_NEXT;
}
