/*
 * A guest instruction written again with other registers and another memory operand.
 *
 * The instruction's own bytes are kept and only register numbers, prefixes and the ModRM part
 * change, so that every encoding the decoder understands goes through the same few lines and no
 * table of opcodes is needed.
 */
#pragma once
#include "cpu/interpret/decode.h"
#include "cpu/translate/asm.h"

/* Where each guest general register is for one instruction; ASM_NONE: nowhere. */
struct places {
	u8 host[X86_GPRS];
};

/* Does the register belong to the sixteen general ones, at any width? */
static inline bool recode_is_gpr(ZydisRegister r) { return gpr_number(r) != REG_NONE; }
static inline unsigned recode_gpr_id(ZydisRegister r) { return gpr_number(r); }

/*
 * Appends d's instruction (whose bytes are at `bytes`) with its explicit general registers where
 * `p` says, and `mem` for its explicit memory operand (NULL: it has none). False, with nothing
 * appended: there is no such form.
 */
/* Is it encoded in a way that 64-bit code does not have? */
bool recode_needed(const struct build *d);
bool recode(struct asm_buf *a, const struct build *d, const u8 *bytes, const struct places *p,
	const struct host_operand *mem);
