/*
 * 32-bit code, where its segments are flat: base 0, and a limit that nothing exceeds (SDM
 * 3A 3.2.1), as kernels, programs and firmware have had them since there is paging. Then a linear
 * address is what the instruction computes, in 32 bits, and the instruction does the same in 64-bit
 * code if
 *
 * - it is encoded there at all: some one-byte opcodes were taken away, INC and DEC get their other
 *   form (recode.c), and legacy-encoded operands of 32 bits stay what they are;
 * - its address is computed in 32 bits, and what goes to the stack has 32 (emit.h, word).
 *
 * Registers above the eighth do not exist, so everything has a home. Upper halves are undefined
 * (SDM 1 3.4.1.1) and play no part: addresses are cut to 32 bits, results extended with zeros.
 *
 * The general form reaches memory; an operand of another segment than DS and SS (and ES, of string
 * instructions) is the interpreter's, like everything that is not listed below.
 */
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/native.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/emit.h"

/* Code at the very end of the address space, behind which RIP would wrap, is left alone. */
#define FLAT_END (BIT64(32) - PAGE_SIZE)

static bool flat_data(const struct x86_seg *g)
{
	const u32 want = SEG_P | SEG_S | SEG_RW;

	return !g->base && g->limit == 0xffffffff &&
	       (g->attr & (want | SEG_CODE | SEG_DC | SEG_UNUSABLE)) == want;
}

static bool flat_code(const struct interp *c)
{
	const struct x86_state *s = c->s;
	const struct x86_seg *cs = &s->seg[X86_CS];

	return !(c->v->engine_options & OPTION_NO_FLAT) && !cs->base && cs->limit == 0xffffffff &&
	       s->rip < FLAT_END && flat_data(&s->seg[X86_DS]) && flat_data(&s->seg[X86_ES]) &&
	       flat_data(&s->seg[X86_SS]) && s->seg[X86_SS].attr & SEG_DB;
}

bool emit_translatable(const struct interp *c)
{
	bool middle_ring = (unsigned)(x86_cpl(c->s) - 1) < 2;

	return !middle_ring && (c->code_bits == 64 || (c->code_bits == 32 && flat_code(c)));
}

/* What it names in memory, if anything, is reached by a 32-bit address in a flat segment. */
static bool operands_fit(const struct build *d)
{
	const struct op *op = d->op;

	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
			continue;
		if (op->asize != 4)
			return false;
		if (o->mem.type == ZYDIS_MEMOP_TYPE_MEM && op->seg != X86_DS && op->seg != X86_SS)
			return false;
	}
	return true;
}

/* Instructions that are the same in both kinds of code but for their encoding and the word. */
static bool listed(const struct emit *e)
{
	const struct build *d = e->d;
	const struct op *op = d->op;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_LEAVE:
	case ZYDIS_MNEMONIC_LEA:
	case ZYDIS_MNEMONIC_CLI:
	case ZYDIS_MNEMONIC_STI:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD: return true;
	case ZYDIS_MNEMONIC_MOV: return !(op->flags & OPF_END) && op->exec != op_mov_from_seg;
	default: break;
	}
	if (op->exec == op_native || op->exec == op_native_mem)
		return !native_uses_x87(op->aux);
	return op->exec == op_nop || op->exec == op_jmp || op->exec == op_jcc ||
	       op->exec == op_call || op->exec == op_jmp_ind || op->exec == op_call_ind ||
	       op->exec == op_ret || op->exec == op_jcxz || op->exec == op_loop ||
	       op->exec == op_rdtsc || d->insn.meta.category == ZYDIS_CATEGORY_STRINGOP ||
	       op->exec == op_setcc || d->insn.meta.category == ZYDIS_CATEGORY_CMOV ||
	       emit_copyable(d->insn.mnemonic);
}

bool emit_flat_fits(const struct emit *e)
{
	const struct build *d = e->d;

	/* VEX and EVEX have bits that 32-bit code ignores. 82h is 80h there, and nothing here. */
	return d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       !(d->insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && d->insn.opcode == 0x82) &&
	       !is_bit_string(d) && operands_fit(d) && listed(e);
}
