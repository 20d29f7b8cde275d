/* Instructions that need the guest's RCX where they say: in host RCX, for as long as they last. */
#include "cpu/interpret/move.h"
#include "cpu/translate/emit.h"

/* With AH, BH, CH or DH there is no REX prefix, so that every other register is where it belongs.
 */
enum emit_result emit_in_rcx(struct emit *e, bool written)
{
	asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
	asm_bytes(&e->a, e->bytes, e->d->insn.length);
	if (written)
		asm_rr(&e->a, 0x8b, T_COUNT, ASM_RCX, true);
	return EMIT_NEXT;
}

/* CMPXCHG8B and CMPXCHG16B: RCX:RBX is stored. An operand that is not aligned traps before it has
 * any effect, on the host as in the guest. */
enum emit_result emit_cmpxchg_wide(struct emit *e)
{
	const struct op *op = e->d->op;
	unsigned size = op->exec == op_cmpxchg16b ? 16 : 8;
	struct emit_mark mark = emit_mark(e);
	struct places p = places_home();
	struct host_operand m;
	u32 free_hosts;

	if (emit_operand(e, op, size, true, &m, &free_hosts)) {
		asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
		if (recode(&e->a, e->d, e->bytes, &p, &m))
			return EMIT_NEXT;
	}
	emit_back(e, &mark);
	return emit_hand_over(e);
}
