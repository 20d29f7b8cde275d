/*
 * MOVS, STOS and LODS, when DF is clear: once, or MOVS and STOS with REP.
 *
 * With REP: in the general form, runs that stay within one page on either side run as themselves on
 * host addresses. Everything else (page crossings, count 0, faults) is the interpreter's, which
 * leaves the rest of a long run to the next try.
 *
 * In the window they run as themselves however long they are. Where one traps, RSI and RDI hold
 * host addresses and the rest of the count is in host RCX: whoever takes the signal makes them the
 * guest's again (tinsn.rep_at, leave_string() in enter.c).
 */
#include "cpu/interpret/string.h"
#include "cpu/translate/emit.h"

/* Checks that count (T_COUNT) elements from the address in `at` lie in one page; T_AUX: host minus
 * linear. */
static void emit_check_run(struct emit *e, unsigned at, unsigned size, bool write)
{
	u32 table = fast_slot(e, write);

	asm_bits(&e->a, ASM_PEXT, T_AUX, at, SLOT(index_mask));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, T_AUX, 3, table);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, at, 0, 0);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, T_COUNT, (unsigned)__builtin_ctz(size), -1);
	asm_bits(&e->a, ASM_PEXT, ASM_RCX, ASM_RCX, SLOT(page_mask));
	emit_out_unless_rcx_zero(e);
	asm_gs_index(
		&e->a, OP_MOV_LOAD, T_AUX, T_AUX, 3, table + (u32)offsetof(struct fast_table, add));
}

/* A pointer to the host's address, and back: the delta is kept in its slot. */
static void to_host(struct emit *e, unsigned reg, u32 slot)
{
	emit_look_up_delta(e, reg);
	asm_store(&e->a, slot, T_AUX);
	asm_lea(&e->a, reg, reg, T_AUX, 0, 0);
}

static void to_guest(struct emit *e, unsigned reg, u32 slot)
{
	static const u8 not_aux[] = { 0x49, 0xf7, 0xd7 }; /* not r15: no flags */

	asm_load(&e->a, T_AUX, slot);
	asm_bytes(&e->a, not_aux, sizeof(not_aux));
	asm_lea(&e->a, reg, reg, T_AUX, 0, 1);
}

static enum emit_result emit_window_string(struct emit *e, bool movs)
{
	struct tinsn *in = &e->b->insns[e->index];

	if (movs)
		to_host(e, ASM_RSI, SLOT(string_delta[0]));
	to_host(e, ASM_RDI, SLOT(string_delta[1]));
	asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
	in->rep_at = (u8)(e->a.at - e->start - in->host_at);
	asm_bytes(&e->a, e->bytes, e->d->insn.length);
	asm_rr(&e->a, 0x8b, T_COUNT, ASM_RCX, true); /* 0 */
	to_guest(e, ASM_RDI, SLOT(string_delta[1]));
	if (movs)
		to_guest(e, ASM_RSI, SLOT(string_delta[0]));
	return EMIT_NEXT;
}

/* MOV of so many bytes between memory and the low part of a register. */
static void emit_sized(struct emit *e, bool store, unsigned size, unsigned reg)
{
	const struct host_operand m = { T_AUX, T_ADDR, 0 };
	u8 opcode = (u8)((store ? OP_MOV_STORE : OP_MOV_LOAD) - (size == 1));

	if (size == 2)
		asm_u8(&e->a, 0x66);
	if (size == 8)
		asm_mem(&e->a, opcode, reg, &m);
	else
		asm_mem32(&e->a, opcode, reg, &m);
}

static enum emit_result emit_string_once(struct emit *e, enum string_kind kind)
{
	unsigned size = e->d->op->size;

	if (kind != STRING_STOS) {
		emit_lea_word(e, T_ADDR, ASM_RSI, 0);
		emit_check(e, size, false);
		emit_sized(e, false, size, kind == STRING_LODS ? ASM_RAX : ASM_RCX);
	}
	if (kind == STRING_MOVS)
		asm_store(&e->a, SLOT(save), ASM_RCX);
	if (kind != STRING_LODS) {
		emit_lea_word(e, T_ADDR, ASM_RDI, 0);
		emit_check(e, size, true);
	}
	if (kind == STRING_MOVS)
		asm_load(&e->a, ASM_RCX, SLOT(save));
	if (kind != STRING_LODS) {
		emit_sized(e, true, size, kind == STRING_STOS ? ASM_RAX : ASM_RCX);
		emit_lea_word(e, ASM_RDI, ASM_RDI, (s32)size);
	}
	if (kind != STRING_STOS)
		emit_lea_word(e, ASM_RSI, ASM_RSI, (s32)size);
	return EMIT_NEXT;
}

enum string_kind emit_string_kind(const struct op *op)
{
	unsigned size = size_index(op->size);

	return op->exec == op_movs_by_size[size]   ? STRING_MOVS
	       : op->exec == op_stos_by_size[size] ? STRING_STOS
	       : op->exec == op_lods_by_size[size] ? STRING_LODS
						   : STRING_OTHER;
}

enum emit_result emit_string(struct emit *e)
{
	const struct op *op = e->d->op;
	enum string_kind kind = emit_string_kind(op);
	bool movs = kind == STRING_MOVS, rep = op->flags & OPF_REP;
	bool flat = e->word == 4;

	if (op->asize != e->word || kind == STRING_OTHER ||
		(kind != STRING_STOS && (flat ? op->seg != X86_DS : op->seg >= X86_FS)) ||
		(rep && (flat || kind == STRING_LODS)) || op->flags & OPF_REPNE)
		return emit_hand_over(e);
	e->f.aux = AUX_NONE;
	asm_load(&e->a, ASM_RCX, SLOT(df));
	emit_out_unless_rcx_zero(e);
	if (!rep)
		return emit_string_once(e, kind);
	if (emit_window(e) && e->hint != HINT_GENERAL)
		return emit_window_string(e, movs);
	/* A count of more than 4096 could wrap around in the sum below. */
	asm_lea(&e->a, ASM_RCX, T_COUNT, ASM_NONE, 0, -1);
	asm_bits(&e->a, ASM_PEXT, ASM_RCX, ASM_RCX, SLOT(page_mask));
	emit_out_unless_rcx_zero(e);
	if (movs) {
		emit_check_run(e, ASM_RSI, op->size, false);
		asm_store(&e->a, SLOT(save), T_AUX);
	}
	emit_check_run(e, ASM_RDI, op->size, true);
	asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
	asm_store(&e->a, SLOT(save_rdi), ASM_RDI);
	asm_lea(&e->a, ASM_RDI, ASM_RDI, T_AUX, 0, 0);
	if (movs) {
		asm_load(&e->a, T_AUX, SLOT(save));
		asm_rr(&e->a, 0x8b, T_ADDR, ASM_RSI, true);
		asm_lea(&e->a, ASM_RSI, ASM_RSI, T_AUX, 0, 0);
	}
	asm_bytes(&e->a, e->bytes, e->d->insn.length);
	unsigned scale = (unsigned)__builtin_ctz(op->size);
	if (movs)
		asm_lea(&e->a, ASM_RSI, T_ADDR, T_COUNT, scale, 0);
	asm_load(&e->a, ASM_RDI, SLOT(save_rdi));
	asm_lea(&e->a, ASM_RDI, ASM_RDI, T_COUNT, scale, 0);
	asm_rr(&e->a, 0x8b, T_COUNT, ASM_RCX, true); /* 0 */
	return EMIT_NEXT;
}
