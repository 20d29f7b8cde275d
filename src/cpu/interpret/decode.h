/*
 * From bytes to struct op: Zydis decodes, the rule table (rules.c) says how each mnemonic becomes a
 * handler with operands, and what the table does not name becomes a native stub.
 */
#pragma once
#include "cpu/interpret/native.h"

enum decode_result {
	DECODE_OK,
	DECODE_UD,	  /* no such instruction: exec raises #UD; length 1 */
	DECODE_TRUNCATED, /* more bytes are needed */
	DECODE_TOO_LONG,  /* over 15 bytes: exec raises #GP(0) */
	DECODE_FULL,	  /* the stub arena is full: clear everything and decode again */
};

/* What a build function works on. */
struct build {
	struct interp *c;
	struct op *op;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	unsigned bits; /* 16, 32, 64 */
	const struct rule *rule;
	bool full;
};

struct rule {
	bool (*build)(struct build *b); /* false: #UD */
	const void *arg;		/* a set or a by-size table */
	op_fn *fn;
	u64 imm;
	u8 extra;
	u16 flags;
};

/* Never NULL: mnemonics without a row share the rule that makes a native stub. */
const struct rule *rule_of(const ZydisDecodedInstruction *insn);

enum decode_result decode(
	struct interp *c, const u8 *bytes, unsigned len, unsigned bits, struct op *op);
/* The same, leaving what Zydis found in b->insn and b->o (valid with DECODE_OK). */
enum decode_result decode_full(struct interp *c, const u8 *bytes, unsigned len, unsigned bits,
	struct op *op, struct build *b);

/* One line of assembly for --trace. */
void decode_text(const u8 *bytes, unsigned len, unsigned bits, u64 rip, char *text, size_t size);

/* ---- general registers by Zydis' numbers, which are in order within each width ---- */

/* The register's number, 0 to 15, at any width; AH, CH, DH and BH are parts of 0 to 3. REG_NONE: it
 * is none of the general ones. */
static inline unsigned gpr_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15)
		return (unsigned)(r - ZYDIS_REGISTER_AX) & 15;
	if (r < ZYDIS_REGISTER_AL || r > ZYDIS_REGISTER_R15B)
		return REG_NONE;
	if (r < ZYDIS_REGISTER_AH)
		return (unsigned)(r - ZYDIS_REGISTER_AL);
	return r <= ZYDIS_REGISTER_BH ? (unsigned)(r - ZYDIS_REGISTER_AH)
				      : (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
}
_Static_assert(ZYDIS_REGISTER_EAX == ZYDIS_REGISTER_AX + 16 &&
		       ZYDIS_REGISTER_RAX == ZYDIS_REGISTER_AX + 32 &&
		       ZYDIS_REGISTER_R15 == ZYDIS_REGISTER_AX + 47 &&
		       ZYDIS_REGISTER_AH == ZYDIS_REGISTER_AL + 4 &&
		       ZYDIS_REGISTER_SPL == ZYDIS_REGISTER_AH + 4 &&
		       ZYDIS_REGISTER_R15B == ZYDIS_REGISTER_SPL + 11,
	"gpr_number() relies on Zydis' order of registers");

/* Operand helpers for build functions (decode.c). */
bool operand_is_reg(const ZydisDecodedOperand *o);
bool operand_is_mem(const ZydisDecodedOperand *o);
u8 operand_offset(ZydisRegister r); /* general register -> byte offset in gpr[] */
void build_memory(struct build *b, const ZydisDecodedOperand *o);
/* Operand 0 to dst (or memory), operand 1 to src (or memory, or imm), size from operand 0. */
void build_operands(struct build *b);
