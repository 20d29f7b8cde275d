/*
 * From one decoded guest instruction to host code. See translate_priv.h for registers, emit.h for
 * the pieces.
 *
 * Every instruction is one of
 *   copied      no memory, and only registers that are where they belong: the bytes as they are
 *   rewritten   some register lives elsewhere, or the memory operand is reached another way
 *   a transfer  stack effect inline, then a link or a lookup
 *   handed over exit with EXIT_OP: the interpreter executes it, and translated code goes on behind
 * it (or, with --translate trap-exits, traps in that place, as monitors do that patch code and do
 * not translate it). What is not known to be safe to copy is handed over; so new instructions are
 * correct before they are fast.
 */
#include "cpu/translate/emit.h"
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/native.h"
#include "cpu/interpret/system.h"

/* ---- exits ---- */

void emit_out(struct emit *e, u8 cc, u32 code)
{
	must(e->out_count < ARRAY_LEN(e->outs), "more exits than instructions allow");
	e->outs[e->out_count].site = asm_jump(&e->a, cc);
	e->outs[e->out_count++].code = code;
}

/* A chainable jump to a guest address; its exit stub is emitted by emit_outs(). */
void emit_link(struct emit *e, u8 cc, u64 target)
{
	unsigned i = e->link_count++;
	struct link *l = &e->links[i];
	bool floats = e->b->floats, leaves_page = floats && !emit_in_page(e, target);

	must(i < BLOCK_LINKS, "more links than a block has");
	if (leaves_page && cc != 0xff) { /* short, over what says where to */
		asm_u8(&e->a, (u8)(0x70 | (cc ^ 1)));
		asm_u8(&e->a, 7 + 7 + 5);
		cc = 0xff;
	}
	if (leaves_page) {
		asm_load(&e->a, T_ADDR, SLOT(page));
		asm_lea_open(&e->a, T_ADDR, T_ADDR, ASM_NONE, (s32)emit_from_page(e, target), true);
	}
	*l = (struct link){ .target = floats ? emit_from_page(e, target) : target,
		.space = (u8)facts_next_space(e),
		.vectors = e->b->vector_from != NO_VECTORS };
	emit_out(e, cc, EXIT_CODE(EXIT_LINK, e->b->id, i));
	l->site = (u32)(e->outs[e->out_count - 1].site - e->t->mem.rw);
}

/* Always taken, and the code there runs in another space. */
void emit_link_to_space(struct emit *e, u64 target, unsigned code_space)
{
	emit_link(e, 0xff, target);
	e->links[e->link_count - 1].space = (u8)code_space;
}

/* Each exit's stub: mov ecx, code; jmp to what all exits share. A lookup's says where to, first;
 * what leads to the vectors comes back. They lie apart from the blocks, which are what the
 * processor's caches are to hold. */
void emit_outs(struct translator *t, struct tblock *b, struct link *links, const struct out *outs,
	unsigned count)
{
	u8 *shared = codemem_rw(&t->mem, t->exit_stub);

	for (unsigned i = 0; i < count; i++) {
		u8 *back = outs[i].site + 4; /* behind the jump */
		enum exit_kind kind = EXIT_KIND(outs[i].code);
		bool fetch = kind == EXIT_VECTOR || kind == EXIT_X87;
		bool longer = fetch || kind == EXIT_LOOKUP || kind == EXIT_PAGE;

		t->outs_at -= longer ? LONG_OUT_SIZE : OUT_SIZE;
		struct asm_buf a =
			asm_buf_for(t, t->mem.rw + t->outs_at, longer ? LONG_OUT_SIZE : OUT_SIZE);
		u32 stub = (u32)t->outs_at;

		asm_patch(outs[i].site, a.at);
		if (kind == EXIT_LINK)
			links[EXIT_ARG(outs[i].code)].out = stub & LINK_AT;
		asm_u8(&a, 0xb8 | ASM_RCX);
		asm_u32(&a, outs[i].code);
		if (fetch) {
			asm_lea_rip(&a, T_ADDR, back);
			asm_jmp_slot(&a, kind == EXIT_X87 ? SLOT(x87_fetch) : SLOT(vector_fetch));
			continue;
		}
		if (kind == EXIT_LOOKUP)
			b->gate_out = stub;
		if (kind == EXIT_LOOKUP || kind == EXIT_PAGE) {
			asm_store(&a, SLOT(rip), T_ADDR);
		}
		asm_patch(asm_jump(&a, 0xff), shared);
	}
}

void emit_constant(struct emit *e, unsigned reg, u64 value, bool near_rip)
{
	bool shorter = value <= 0xffffffff || asm_is_s32(value);

	asm_const(&e->a, reg, value);
	if (near_rip && shorter)
		e->fixed = true;
	else if (near_rip)
		asm_note(&e->addresses, e->a.at - sizeof(u64));
}

bool emit_near(struct emit *e, unsigned reg, u64 at)
{
	u64 from = emit_from_page(e, at);

	if (!e->b->floats) {
		emit_constant(e, reg, at, true);
		return true;
	}
	if (!asm_is_s32(from))
		return false;
	asm_load(&e->a, reg, SLOT(page));
	asm_lea(&e->a, reg, reg, ASM_NONE, 0, (s32)from);
	return true;
}

/*
 * Before a block's first instruction that needs registers which are fetched late:
 *
 *     mov ecx, [vectors_away]
 *     jrcxz over
 *     jmp fetch them and come back
 *   over:
 */
static void emit_need(struct emit *e, u32 away, enum exit_kind kind, u8 *from)
{
	const u8 *before = e->a.at;

	if (*from != NO_VECTORS)
		return;
	asm_at_slot(&e->a, OP_MOV_LOAD, ASM_RCX, away, false);
	asm_jrcxz(&e->a, 5);
	emit_out(e, 0xff, EXIT_CODE(kind, e->b->id, e->index));
	must(e->a.full || e->a.at - before == VECTOR_LOOK, "the look takes %d bytes",
		(int)(e->a.at - before));
	*from = (u8)e->index;
	e->f.aux = AUX_NONE;
}

/* ---- handing over ---- */

/* UD2 in the instruction's place says as much as a jump to a stub, to the handler of SIGILL, which
 * finds the block and the instruction by where it is (leave_at()). */
static void emit_trap(struct emit *e)
{
	static const u8 ud2[] = { 0x0f, 0x0b };

	asm_bytes(&e->a, ud2, sizeof(ud2));
	e->traps = true;
}

enum emit_result emit_hand_over(struct emit *e)
{
	if (e->t->options & OPTION_TRAP_EXITS)
		emit_trap(e);
	else
		emit_out(e, 0xff, EXIT_CODE(EXIT_OP, e->b->id, e->index));
	return e->d->op->flags & OPF_END ? EMIT_END : EMIT_NEXT;
}

/* ---- classification ---- */

/* Integer instructions that behave the same when copied. */
bool emit_copyable(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SBB:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_SUB:
	case ZYDIS_MNEMONIC_XOR:
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_INC:
	case ZYDIS_MNEMONIC_DEC:
	case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_NOT:
	case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR:
	case ZYDIS_MNEMONIC_RCL:
	case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_SHLD:
	case ZYDIS_MNEMONIC_SHRD:
	case ZYDIS_MNEMONIC_MUL:
	case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
	case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR:
	case ZYDIS_MNEMONIC_CMPXCHG:
	case ZYDIS_MNEMONIC_XADD:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_BSWAP:
	case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE:
	case ZYDIS_MNEMONIC_CDQE:
	case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ:
	case ZYDIS_MNEMONIC_CQO:
	case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC:
	case ZYDIS_MNEMONIC_CMC:
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE: return true;
	default: return false;
	}
}

static const ZydisDecodedOperand *memory_operand(const struct build *d)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++)
		if (d->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &d->o[i];
	return NULL;
}

static enum emit_result emit_stac(struct emit *e) { return emit_user_access(e, true); }
static enum emit_result emit_clac(struct emit *e) { return emit_user_access(e, false); }

/* By handler: those of the instruction where the model has none are others. */
static const struct special {
	op_fn *exec;
	enum emit_result (*emit)(struct emit *e);
	bool sensitive; /* it tells or changes what the guest must not know or change of the host */
} specials[] = {
	{ op_cli, emit_cli, true },
	{ op_sti, emit_sti, true },
	{ op_pushf, emit_pushf, true },
	{ op_popf, emit_popf, true },
	{ op_stac, emit_stac, true },
	{ op_clac, emit_clac, true },
	{ op_swapgs, emit_swapgs, true },
	{ op_fsgsbase, emit_segment_base, true },
	{ op_mov_from_seg, emit_from_segment, true },
	{ op_rdtsc, emit_rdtsc, true },
	{ op_rdtscp, emit_rdtsc, true },
	{ op_jcxz, emit_count_branch },
	{ op_loop, emit_count_branch },
	{ op_cmpxchg8b, emit_cmpxchg_wide },
	{ op_cmpxchg16b, emit_cmpxchg_wide },
};

enum emit_result emit_insn(struct emit *e)
{
	const struct build *d = e->d;
	const struct op *op = d->op;
	const ZydisDecodedOperand *mem = memory_operand(d);
	bool vector = false, x87 = false;

	if (e->word == 4 && !emit_flat_fits(e))
		return emit_hand_over(e);
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH: return emit_push(e);
	case ZYDIS_MNEMONIC_POP: return emit_pop(e);
	case ZYDIS_MNEMONIC_LEAVE: return emit_leave(e);
	case ZYDIS_MNEMONIC_LEA: return emit_lea(e);
	case ZYDIS_MNEMONIC_CLD: return emit_direction(e, false);
	case ZYDIS_MNEMONIC_STD: return emit_direction(e, true);
	default: break;
	}
	for (const struct special *s = specials; s < specials + ARRAY_LEN(specials); s++)
		if (op->exec == s->exec)
			return s->sensitive && e->t->options & OPTION_NO_SENSITIVE
				       ? emit_hand_over(e)
				       : s->emit(e);
	if (is_bit_string(d))
		return emit_bit_string(e);
	if (d->insn.meta.category == ZYDIS_CATEGORY_STRINGOP)
		return emit_string(e);
	if (op->exec == op_nop)
		return EMIT_NEXT;
	if (op->exec == op_jmp || op->exec == op_jcc || op->exec == op_call ||
		op->exec == op_jmp_ind || op->exec == op_call_ind || op->exec == op_ret)
		return emit_transfer(e);

	if (emit_patched(e))
		return EMIT_NEXT;
	bool plain_mov = d->insn.mnemonic == ZYDIS_MNEMONIC_MOV && !(op->flags & OPF_END);
	bool native = op->exec == op_native || op->exec == op_native_mem;
	bool copy = plain_mov || emit_copyable(d->insn.mnemonic) || op->exec == op_setcc ||
		    d->insn.meta.category == ZYDIS_CATEGORY_CMOV;
	if (native) {
		/* Masked accesses too: a hit says that the whole operand may be touched. */
		vector = native_uses_vectors(op->aux);
		x87 = native_uses_x87(op->aux);
		copy = !x87 || x87_usable(e->t);
	}
	if (op->exec == op_vzeroupper || op->exec == op_vzeroall)
		copy = vector = true;
	if (!copy || (d->insn.attributes & ZYDIS_ATTRIB_HAS_REP))
		return emit_hand_over(e);
	/* Whether they are available (CR0, CR4, XCR0) is looked at when they are fetched; see
	 * engine.c. */
	if (vector)
		emit_need(e, SLOT(vectors_away), EXIT_VECTOR, &e->b->vector_from);
	if (x87)
		emit_need(e, SLOT(x87_away), EXIT_X87, &e->b->x87_from);
	return mem ? emit_memory(e, mem) : emit_registers(e);
}
