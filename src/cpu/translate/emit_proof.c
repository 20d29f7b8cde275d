/*
 * --translate check: where code relies on a fact (emit.h), it looks whether that is true. A value
 * may have moved from the region by what the fact allows and what the instruction adds, FACT_REACH
 * each, so it is looked for on both sides, too. Code only notes what it finds; run_blocks() reports
 * it at the next exit.
 */
#include "base/bits.h"
#include "cpu/translate/emit.h"

void emit_proof(struct emit *e, unsigned host, unsigned region)
{
	static const s32 aside[] = { 0, INT32_MAX, -INT32_MAX };
	u8 *found[ARRAY_LEN(aside)];

	if (!e->t->check)
		return;
	asm_store(&e->a, SLOT(proof_addr), T_ADDR);
	for (unsigned i = 0; i < ARRAY_LEN(aside); i++) {
		if (i && host == T_ADDR)
			asm_load(&e->a, T_ADDR, SLOT(proof_addr));
		asm_lea(&e->a, T_ADDR, host, ASM_NONE, 0, aside[i]);
		emit_region_bits(e, T_ADDR, region);
		asm_jrcxz(&e->a, 0);
		found[i] = e->a.at - 1;
	}
	asm_store_imm32(&e->a, SLOT(false_fact), 1);
	for (unsigned i = 0; i < ARRAY_LEN(aside) && !e->a.full; i++)
		*found[i] = (u8)(e->a.at - found[i] - 1);
	asm_load(&e->a, T_ADDR, SLOT(proof_addr));
}
