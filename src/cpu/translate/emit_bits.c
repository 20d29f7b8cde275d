/*
 * Bit strings: BT, BTS, BTR and BTC of memory with the bit's number in a register, which reaches up
 * to 2^60 bytes either way:
 *
 *     lea  r11, [address]
 *     mov  r15d, 5 or 6
 *     sarx rcx, number, r15             whole words
 *     lea  r11, [r11 + rcx*4 or rcx*8]
 *     check of r11
 *     pext rcx, number, gs:[mask]       the bit in its word
 *     op   [r15 + r11], rcx
 */
#include "cpu/interpret/decode.h"
#include "cpu/translate/emit.h"

bool is_bit_string(const struct build *d)
{
	bool bit = d->insn.mnemonic == ZYDIS_MNEMONIC_BT ||
		   d->insn.mnemonic == ZYDIS_MNEMONIC_BTS ||
		   d->insn.mnemonic == ZYDIS_MNEMONIC_BTR || d->insn.mnemonic == ZYDIS_MNEMONIC_BTC;

	return bit && operand_is_mem(&d->o[0]) && operand_is_reg(&d->o[1]);
}

/* The register with the bit's number, in host RCX if it has no home. */
static unsigned number(struct emit *e, const struct places *p, unsigned g)
{
	if (p->host[g] != ASM_NONE)
		return p->host[g];
	asm_load(&e->a, ASM_RCX, SLOT(gpr) + 8 * g);
	return ASM_RCX;
}

static bool try_bit_string(struct emit *e)
{
	const struct op *op = e->d->op;
	bool wide = op->size == 8, write = e->d->insn.mnemonic != ZYDIS_MNEMONIC_BT;
	struct places home = places_home(), p = home;
	struct host_operand m = { T_AUX, T_ADDR, 0 };
	unsigned g = op->src / 8, host;

	if (op->size < 4 || op->asize != 8 || !emit_address(e, op))
		return false;
	host = number(e, &home, g);
	if (!wide) {
		asm_rr(&e->a, 0x63, ASM_RCX, host, true); /* movsxd */
		host = ASM_RCX;
	}
	asm_const(&e->a, T_AUX, wide ? 6 : 5);
	asm_sarx(&e->a, ASM_RCX, host, T_AUX);
	asm_lea(&e->a, T_ADDR, T_ADDR, ASM_RCX, wide ? 3 : 2, 0);
	emit_check(e, op->size, write);
	host = number(e, &home, g);
	asm_bits(&e->a, ASM_PEXT, ASM_RCX, host, wide ? SLOT(bit_mask64) : SLOT(bit_mask32));
	p.host[g] = ASM_RCX;
	return recode(&e->a, e->d, e->bytes, &p, &m);
}

enum emit_result emit_bit_string(struct emit *e)
{
	struct emit_mark mark = emit_mark(e);

	if (try_bit_string(e))
		return EMIT_NEXT;
	emit_back(e, &mark);
	return emit_hand_over(e);
}
