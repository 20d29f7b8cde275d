/*
 * Jumps, calls and returns: the effect on the stack, then a link to a known target or a lookup of
 * one that is only known at run time.
 */
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/translate/emit.h"

#define LAST_LINKS 2u /* what the instruction that ends a block may need */

/* Jumps to the guest address in T_ADDR. */
static void emit_lookup(struct emit *e)
{
	static const u8 nop5[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	unsigned space = facts_next_space(e);
	u32 table = SLOT(jump) + (u32)(space * sizeof(struct jump_table));

	e->b->gate = (u16)(e->a.at - e->start);
	asm_bytes(&e->a, nop5, sizeof(nop5));
	asm_bits(&e->a, ASM_PEXT, T_AUX, T_ADDR, SLOT(jump_mask));
	asm_lea(&e->a, T_AUX, T_AUX, T_AUX, 0, 0); /* a target is two words */
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, T_AUX, 3, table);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, T_ADDR, 0, 0);
	asm_jrcxz(&e->a, 5);
	emit_out(e, 0xff, EXIT_CODE(EXIT_LOOKUP, e->b->id, e->index));
	/* jmp gs:[code + r15*8] */
	asm_gs_index(&e->a, 0xff, 4, T_AUX, 3, table + (u32)offsetof(struct jump_target, code));
}

/*
 * Does the block go on behind a conditional branch? Not behind one that leads back: it is likely to
 * be taken. Nor where code begins that was translated before.
 */
static bool goes_on(const struct emit *e, u64 target, u64 next)
{
	return target > next && e->link_count - e->body_links + LAST_LINKS < BODY_LINKS &&
	       !(e->t->options & OPTION_NO_SUPERBLOCKS) &&
	       !tcache_has(e->t, e->b, next - e->start_rip);
}

static enum emit_result emit_direct(struct emit *e, u64 next)
{
	const struct op *op = e->d->op;
	u64 target = emit_code_at(e, next, op->imm);

	if (!x86_canonical(target) || (e->b->floats && !asm_is_s32(emit_from_page(e, target))))
		return emit_hand_over(e);
	if (op->exec == op_call)
		emit_push_next(e, next);
	else
		facts_settle_stack(e);
	if (op->exec != op_call && target == e->start_rip)
		e->back = e->link_count;
	if (op->exec != op_jcc) {
		emit_link(e, 0xff, target);
		return EMIT_END;
	}
	emit_link(e, op->extra, target);
	if (goes_on(e, target, next)) {
		e->t->side_exits++;
		return EMIT_NEXT;
	}
	emit_link(e, 0xff, next);
	return EMIT_END;
}

static enum emit_result emit_return(struct emit *e)
{
	const struct op *op = e->d->op;
	struct host_operand m;

	if (op->imm > 4096)
		return emit_hand_over(e);
	emit_stack_operand(e, 0, e->word, false, &m);
	emit_word(e, OP_MOV_LOAD, T_ADDR, &m);
	emit_move_rsp(e, (s32)(e->word + op->imm));
	emit_lookup(e);
	return EMIT_END;
}

/* Jump or call to what a register or memory says. */
static enum emit_result emit_indirect(struct emit *e, u64 next)
{
	const struct op *op = e->d->op;
	struct places p = places_home();

	if (op->flags & OPF_SRC_MEM) {
		struct emit_mark mark = emit_mark(e);
		struct host_operand m;
		u32 free_hosts;

		if (!emit_operand(e, op, e->word, false, &m, &free_hosts)) {
			emit_back(e, &mark);
			return emit_hand_over(e);
		}
		emit_word(e, OP_MOV_LOAD, T_ADDR, &m);
	} else if (p.host[op->src / 8] == ASM_NONE) {
		asm_load(&e->a, T_ADDR, SLOT(gpr) + op->src);
	} else {
		asm_rr(&e->a, 0x8b, T_ADDR, p.host[op->src / 8], e->word == 8);
	}
	if (op->exec == op_call_ind) {
		asm_store(&e->a, SLOT(save), T_ADDR);
		emit_push_return(e, next);
		asm_load(&e->a, T_ADDR, SLOT(save));
	} else {
		facts_settle_stack(e);
	}
	emit_lookup(e);
	return EMIT_END;
}

/*
 * JRCXZ and the LOOPs: the count goes to host RCX, where JRCXZ tests it without touching flags:
 *
 *     lea r10, [r10-1]            LOOPs only
 *     mov rcx, r10
 *     jrcxz over                  JRCXZ: over the jump that is taken when RCX is not 0
 *     jmp or jz/jnz target
 *   over:
 *     jmp next
 */
enum emit_result emit_count_branch(struct emit *e)
{
	const struct op *op = e->d->op;
	u64 next = e->rip + op->length, target = emit_code_at(e, next, op->imm);
	ZydisMnemonic m = e->d->insn.mnemonic;
	bool loop = op->exec == op_loop;
	u8 cc = m == ZYDIS_MNEMONIC_LOOPE ? 4 : m == ZYDIS_MNEMONIC_LOOPNE ? 5 : 0xff;

	if (op->size != e->word || op->asize == 2 || !x86_canonical(target) ||
		(e->b->floats && !(emit_in_page(e, target) && emit_in_page(e, next))))
		return emit_hand_over(e);
	facts_settle_stack(e);
	if (loop)
		asm_lea(&e->a, T_COUNT, T_COUNT, ASM_NONE, 0, -1);
	if (loop && op->asize == 4)
		asm_rr(&e->a, 0x8b, T_COUNT, T_COUNT, false);
	asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, op->asize == 8);
	asm_jrcxz(&e->a, cc == 0xff ? 5 : 6);
	emit_link(e, cc, loop ? target : next);
	emit_link(e, 0xff, loop ? next : target);
	return EMIT_END;
}

enum emit_result emit_transfer(struct emit *e)
{
	const struct op *op = e->d->op;
	u64 next = e->rip + op->length;

	if (op->size != e->word)
		return emit_hand_over(e);
	if (op->exec == op_jmp || op->exec == op_jcc || op->exec == op_call)
		return emit_direct(e, next);
	return op->exec == op_ret ? emit_return(e) : emit_indirect(e, next);
}
