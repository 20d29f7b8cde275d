/*
 * From one decoded guest instruction to host code. See translate_priv.h for registers and the
 * memory check.
 *
 * Every instruction is one of
 *   copied      no memory, and only registers that are where they belong: the bytes as they are
 *   re-encoded  some register lives elsewhere, or the memory operand becomes [r15 + r14]
 *   a transfer  stack effect inline, then a link or a lookup
 *   handed over exit with EXIT_OP: the interpreter executes it, and translated code goes on behind
 * it What is not known to be safe to copy is handed over; so new instructions are correct before
 * they are fast.
 */
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/native.h"
#include "cpu/interpret/string.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/translate_priv.h"

#define NO_REG 0xffu

/* ---- exits ---- */

static void out(struct emit *e, u8 cc, u32 code)
{
	must(e->out_count < ARRAY_LEN(e->outs), "more exits than instructions allow");
	e->outs[e->out_count].site = asm_jump(&e->a, cc);
	e->outs[e->out_count++].code = code;
}

/* A chainable jump to a guest address; its exit stub is emitted by emit_finish. */
void emit_link(struct emit *e, u8 cc, u64 target)
{
	unsigned i = e->b->links[0].site ? 1 : 0;
	struct link *l = &e->b->links[i];

	*l = (struct link){ .target = target, .owner = e->b };
	out(e, cc, EXIT_CODE(EXIT_LINK, i));
	l->site = e->outs[e->out_count - 1].site;
}

/* Jumps to the guest address in R14. */
static void emit_lookup(struct emit *e, unsigned index)
{
	static const u8 nop5[] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };
	static const u8 movzx_r15d_r14w[] = { 0x45, 0x0f, 0xb7, 0xfe };
	static const u8 jrcxz_over[] = { 0xe3, 0x05 };
	u32 table = SLOT(jump) +
		    (u32)((e->b->space * VECTOR_MODES + e->b->vector) * sizeof(struct jump_table));

	e->b->gate = e->a.at;
	asm_bytes(&e->a, nop5, sizeof(nop5));
	asm_bytes(&e->a, movzx_r15d_r14w, sizeof(movzx_r15d_r14w));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, ASM_R15, 3, table);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, ASM_R14, 0, 0);
	asm_bytes(&e->a, jrcxz_over, sizeof(jrcxz_over));
	u8 *miss = asm_jump(&e->a, 0xff);
	/* jmp gs:[code + r15*8] */
	asm_gs_index(&e->a, 0xff, 4, ASM_R15, 3, table + (u32)offsetof(struct jump_table, code));
	if (!e->a.full)
		asm_patch(miss, e->a.at);
	e->b->gate_out = codemem_rx(&e->t->mem, e->a.at);
	asm_store(&e->a, SLOT(rip), ASM_R14);
	out(e, 0xff, EXIT_CODE(EXIT_LOOKUP, index));
}

/* The block ends with the STI just emitted: the interpreter opens the shadow properly. */
void emit_take_back_sti(struct emit *e, unsigned index)
{
	e->a.at = e->sti_at;
	e->out_count = e->sti_outs;
	out(e, 0xff, EXIT_CODE(EXIT_OP, index));
}

void emit_finish(struct emit *e)
{
	u8 *tail_jumps[ARRAY_LEN(e->outs)];

	for (unsigned i = 0; i < e->out_count; i++) {
		const u8 *here = e->a.at;

		if (e->a.full)
			return;
		asm_patch(e->outs[i].site, here);
		for (unsigned k = 0; k < BLOCK_LINKS; k++)
			if (e->b->links[k].site == e->outs[i].site)
				e->b->links[k].out = codemem_rx(&e->t->mem, here);
		asm_store_imm32(&e->a, SLOT(exit_code), e->outs[i].code);
		tail_jumps[i] = asm_jump(&e->a, 0xff);
	}
	if (e->out_count && !e->a.full) {
		static const u8 jmp_gs[] = { 0x65, 0xff, 0x24, 0x25 };

		for (unsigned i = 0; i < e->out_count; i++)
			asm_patch(tail_jumps[i], e->a.at);
		asm_store_imm32(&e->a, SLOT(exit_block), e->b->id);
		asm_bytes(&e->a, jmp_gs, sizeof(jmp_gs));
		asm_u32(&e->a, SLOT(leave));
	}
}

/* ---- guest registers in host registers ---- */

struct use {
	u32 read, written; /* explicit guest general registers */
	bool count;	   /* CL is the shift count */
	bool high;	   /* names AH, BH or DH */
	bool ch;	   /* names CH: nowhere */
	bool index_out;	   /* PCMPxSTRI: the result is in RCX */
	bool other;	   /* names something that is not a general or vector register */
};

#define HOMELESS (BIT(R13) | BIT(R14) | BIT(R15))

static unsigned gpr_id(ZydisRegister r)
{
	return (unsigned)ZydisRegisterGetId(
		ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static bool is_gpr(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: return true;
	default: return false;
	}
}

static bool index_result(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_PCMPISTRI || m == ZYDIS_MNEMONIC_PCMPESTRI ||
	       m == ZYDIS_MNEMONIC_VPCMPISTRI || m == ZYDIS_MNEMONIC_VPCMPESTRI;
}

static struct use use_of(const struct build *d)
{
	struct use u = { 0 };

	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !is_gpr(o->reg.value))
			continue;
		unsigned id = gpr_id(o->reg.value);
		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			u.count |= o->reg.value == ZYDIS_REGISTER_CL;
			if (index_result(d->insn.mnemonic))
				u.index_out |= id == RCX;
			else
				u.other |= id == RCX && o->reg.value != ZYDIS_REGISTER_CL;
			continue;
		}
		if (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH) {
			u.high = true;
			u.ch |= o->reg.value == ZYDIS_REGISTER_CH;
		}
		/* A partial write keeps the rest: it reads, too. */
		if ((o->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || o->size < 32 ||
			(o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
			u.read |= BIT(id);
		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			u.written |= BIT(id);
	}
	/* With a zero source these leave their destination as it is. */
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_BSF || d->insn.mnemonic == ZYDIS_MNEMONIC_BSR)
		u.read |= u.written;
	return u;
}

/* Where each guest register is for one instruction. */
struct places {
	u8 host[X86_GPRS];
};

static struct places home(void)
{
	struct places p;

	for (unsigned i = 0; i < X86_GPRS; i++)
		p.host[i] = (u8)i;
	p.host[RCX] = ASM_R13;
	p.host[R13] = p.host[R14] = p.host[R15] = NO_REG;
	return p;
}

/* Gives every homeless register in `want` one of the free host registers. */
static bool assign(struct places *p, u32 want, u32 free_hosts)
{
	for (unsigned g = R13; g <= R15; g++) {
		if (!(want & BIT(g)))
			continue;
		if (!free_hosts)
			return false;
		unsigned h = free_hosts & BIT(g) ? g : (unsigned)__builtin_ctz(free_hosts);
		p->host[g] = (u8)h;
		free_hosts &= ~BIT(h);
	}
	return true;
}

static void load_homeless(struct emit *e, const struct places *p, u32 set)
{
	for (unsigned g = R13; g <= R15; g++)
		if ((set & BIT(g)) && p->host[g] != NO_REG)
			asm_load(&e->a, p->host[g], SLOT(gpr) + 8 * g);
}

static void store_homeless(struct emit *e, const struct places *p, u32 set)
{
	for (unsigned g = R13; g <= R15; g++)
		if ((set & BIT(g)) && p->host[g] != NO_REG)
			asm_store(&e->a, SLOT(gpr) + 8 * g, p->host[g]);
}

/* ---- re-encoding ---- */

static ZydisRegister renamed(ZydisRegister r, const struct places *p)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(r);
	unsigned h;

	if (!is_gpr(r) || (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH))
		return r;
	h = p->host[gpr_id(r)];
	if (class == ZYDIS_REGCLASS_GPR8)
		return (ZydisRegister)(h < 4   ? ZYDIS_REGISTER_AL + h
				       : h < 8 ? ZYDIS_REGISTER_SPL + (h - 4)
					       : ZYDIS_REGISTER_R8B + (h - 8));
	return ZydisRegisterEncode(class, (ZyanU8)h);
}

static bool reencode(struct emit *e, const struct build *d, const struct places *p, unsigned base,
	unsigned index)
{
	ZydisEncoderRequest req;
	u8 code[16];
	ZyanUSize len = sizeof(code);

	if (ZYAN_FAILED(ZydisEncoderDecodedInstructionToEncoderRequest(
		    &d->insn, d->o, d->insn.operand_count_visible, &req)))
		return false;
	req.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_NONE;
	req.prefixes &= ~(ZydisInstructionAttributes)ZYDIS_ATTRIB_HAS_SEGMENT;
	for (unsigned i = 0; i < req.operand_count; i++) {
		ZydisEncoderOperand *o = &req.operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			d->o[i].visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			o->reg.value = renamed(o->reg.value, p);
		} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && base != NO_REG) {
			ZyanU16 size = o->mem.size;

			memset(&o->mem, 0, sizeof(o->mem));
			o->mem.base = ZydisRegisterEncode(ZYDIS_REGCLASS_GPR64, (ZyanU8)base);
			if (index != NO_REG) {
				o->mem.index =
					ZydisRegisterEncode(ZYDIS_REGCLASS_GPR64, (ZyanU8)index);
				o->mem.scale = 1;
			}
			o->mem.size = size;
		} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			/* LEA: registers renamed in place */
			if (o->mem.base != ZYDIS_REGISTER_NONE)
				o->mem.base = renamed(o->mem.base, p);
			if (o->mem.index != ZYDIS_REGISTER_NONE)
				o->mem.index = renamed(o->mem.index, p);
		}
	}
	if (ZYAN_FAILED(ZydisEncoderEncodeInstruction(&req, code, &len)))
		return false;
	asm_bytes(&e->a, code, len);
	return true;
}

/* ---- handing over ---- */

static enum emit_result hand_over(struct emit *e, const struct build *d, unsigned index)
{
	out(e, 0xff, EXIT_CODE(EXIT_OP, index));
	return d->op->flags & OPF_END ? EMIT_END : EMIT_NEXT;
}

/* ---- memory ---- */

/* The linear address of a memory operand to R14. Scratch: R15. False: registers do not suffice. */
static bool emit_address(struct emit *e, const struct build *d, const struct op *op, u64 rip)
{
	struct places p = home();
	u32 want = 0;
	unsigned base = op->base, index = op->index;

	if (base == BASE_RIP) {
		asm_const(&e->a, ASM_R14,
			op->asize == 4 ? (u32)(rip + (u64)op->disp) : rip + (u64)op->disp);
		base = index = REG_NONE;
	} else {
		if (base != REG_NONE)
			want |= BIT(base) & HOMELESS;
		if (index != REG_NONE)
			want |= BIT(index) & HOMELESS;
		if (!assign(&p, want, BIT(ASM_R14) | BIT(ASM_R15) | BIT(ASM_RCX)))
			return false;
		load_homeless(e, &p, want);
		unsigned b = base == REG_NONE ? NO_REG : p.host[base];
		unsigned i = index == REG_NONE ? NO_REG : p.host[index];
		if (b == NO_REG && i == NO_REG)
			asm_const(&e->a, ASM_R14, (u64)op->disp);
		else if (op->disp == (s32)op->disp)
			asm_lea(&e->a, ASM_R14, b, i, op->shift, (s32)op->disp);
		else
			return false;
		if (op->asize == 4) { /* mov r14d, r14d */
			asm_rr(&e->a, 0x8b, ASM_R14, ASM_R14, false);
		}
	}
	if (op->seg >= X86_FS) {
		asm_load(&e->a, ASM_R15, op->seg == X86_FS ? SLOT(fs_base) : SLOT(gs_base));
		asm_lea(&e->a, ASM_R14, ASM_R14, ASM_R15, 0, 0);
	}
	return true;
}

/* pext dst, src, gs:[slot] */
static void emit_pext(struct emit *e, unsigned dst, unsigned src, u32 slot)
{
	/* gs; VEX.LZ.F3.0F38.W1 F5 /r: inverted R, X=1, B=1; vvvv = src inverted */
	u8 code[] = { 0x65, 0xc4, (u8)((dst < 8 ? 0x80 : 0) | 0x60 | 0x02),
		(u8)(0x80 | (~src & 15) << 3 | 0x02), 0xf5, (u8)((dst & 7) << 3 | 4), 0x25 };

	asm_bytes(&e->a, code, sizeof(code));
	asm_u32(&e->a, slot);
}

/* Checks the access at R14 and leaves R15 such that [r15 + r14] is the operand. Clobbers RCX. */
static void emit_check(struct emit *e, unsigned size, bool write, unsigned index)
{
	static const u8 jrcxz_over[] = { 0xe3, 0x05 };
	u32 table = SLOT(fast) + (u32)((e->b->space * 2 + write) * sizeof(struct fast_table));

	emit_pext(e, ASM_R15, ASM_R14, SLOT(index_mask));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, ASM_R15, 3, table);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, ASM_R14, 0, (s32)size - 1);
	emit_pext(e, ASM_RCX, ASM_RCX, SLOT(page_mask));
	asm_bytes(&e->a, jrcxz_over, sizeof(jrcxz_over));
	out(e, 0xff, EXIT_CODE(EXIT_OP, index));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_R15, ASM_R15, 3,
		table + (u32)offsetof(struct fast_table, add));
}

/* ---- plain instructions ---- */

static enum emit_result emit_registers(
	struct emit *e, const struct build *d, unsigned index, const u8 *bytes)
{
	struct use u = use_of(d);
	struct places p = home();
	u32 named = u.read | u.written, homeless = named & HOMELESS;

	if (u.other || u.ch)
		return hand_over(e, d, index);
	if (u.count)
		asm_rr(&e->a, 0x8b, ASM_RCX, ASM_R13, true); /* mov rcx, r13: the count */
	if (!(named & (BIT(RCX) | HOMELESS))) {
		asm_bytes(&e->a, bytes, d->insn.length);
		if (u.index_out)
			asm_rr(&e->a, 0x8b, ASM_R13, ASM_RCX, true);
		return EMIT_NEXT;
	}
	if (!assign(&p, homeless, BIT(ASM_R14) | BIT(ASM_R15) | (u.count ? 0 : BIT(ASM_RCX))))
		return hand_over(e, d, index);
	u8 *mark = e->a.at;
	load_homeless(e, &p, u.read & HOMELESS);
	if (!reencode(e, d, &p, NO_REG, NO_REG)) {
		e->a.at = mark;
		return hand_over(e, d, index);
	}
	store_homeless(e, &p, u.written & HOMELESS);
	return EMIT_NEXT;
}

static enum emit_result emit_lea(struct emit *e, const struct build *d, unsigned index, u64 rip)
{
	struct op op = *d->op;
	unsigned dst = op.dst / 8;

	op.seg = X86_DS; /* LEA ignores segments */
	u8 *mark = e->a.at;
	if (op.size == 2 || !emit_address(e, d, &op, rip)) {
		e->a.at = mark;
		return hand_over(e, d, index);
	}
	struct places p = home();
	if (op.size == 4)
		asm_rr(&e->a, 0x8b, ASM_R14, ASM_R14, false);
	if (p.host[dst] == NO_REG)
		asm_store(&e->a, SLOT(gpr) + 8 * dst, ASM_R14);
	else
		asm_rr(&e->a, 0x8b, p.host[dst], ASM_R14, true);
	return EMIT_NEXT;
}

static enum emit_result emit_memory(struct emit *e, const struct build *d, unsigned index, u64 rip,
	const ZydisDecodedOperand *mem)
{
	struct use u = use_of(d);
	struct places p = home();
	u32 homeless = (u.read | u.written) & HOMELESS;
	bool write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	unsigned base = ASM_R15, ix = ASM_R14;
	u32 free_hosts = u.count ? 0 : BIT(ASM_RCX);
	u8 *mark = e->a.at;
	unsigned outs = e->out_count;

	if (u.other || u.ch || mem->size > 512 || !mem->size || !emit_address(e, d, d->op, rip))
		goto refuse;
	emit_check(e, mem->size / 8, write, index);
	if (u.high) {
		/* AH and its kin exclude REX: address in RCX */
		if (homeless || u.count)
			goto refuse;
		asm_lea(&e->a, ASM_RCX, ASM_R15, ASM_R14, 0, 0);
		base = ASM_RCX;
		ix = NO_REG;
	} else if ((unsigned)__builtin_popcount(homeless) >
		   (unsigned)__builtin_popcount(free_hosts)) {
		asm_lea(&e->a, ASM_R14, ASM_R15, ASM_R14, 0, 0);
		base = ASM_R14;
		ix = NO_REG;
		free_hosts |= BIT(ASM_R15);
	}
	if (!assign(&p, homeless, free_hosts))
		goto refuse;
	load_homeless(e, &p, u.read & HOMELESS);
	if (u.count)
		asm_rr(&e->a, 0x8b, ASM_RCX, ASM_R13, true);
	if (!reencode(e, d, &p, base, ix))
		goto refuse;
	if (u.index_out)
		asm_rr(&e->a, 0x8b, ASM_R13, ASM_RCX, true);
	store_homeless(e, &p, u.written & HOMELESS);
	return EMIT_NEXT;
refuse:
	e->a.at = mark;
	e->out_count = outs;
	return hand_over(e, d, index);
}

/* ---- stack ---- */

static void move_rsp(struct emit *e, s32 by) { asm_lea(&e->a, ASM_RSP, ASM_RSP, NO_REG, 0, by); }

/* Where the pushed value comes from once the check has been made. */
static void emit_push_reg(struct emit *e, unsigned guest, unsigned index)
{
	struct places p = home();
	unsigned from = p.host[guest];

	asm_lea(&e->a, ASM_R14, ASM_RSP, NO_REG, 0, -8);
	emit_check(e, 8, true, index);
	if (from == NO_REG) {
		asm_load(&e->a, ASM_RCX, SLOT(gpr) + 8 * guest);
		from = ASM_RCX;
	}
	/* mov [r15 + r14], from */
	u8 code[] = { (u8)(0x4b | (from >= 8 ? 4 : 0)), 0x89, (u8)((from & 7) << 3 | 4), 0x37 };
	asm_bytes(&e->a, code, sizeof(code));
	move_rsp(e, -8);
}

static void emit_push_value(struct emit *e, u64 value, unsigned index)
{
	asm_lea(&e->a, ASM_R14, ASM_RSP, NO_REG, 0, -8);
	emit_check(e, 8, true, index);
	if ((u64)(s64)(s32)value == value) {
		/* mov qword [r15 + r14], simm32 */
		static const u8 head[] = { 0x4b, 0xc7, 0x04, 0x37 };
		asm_bytes(&e->a, head, sizeof(head));
		asm_u32(&e->a, (u32)value);
	} else {
		static const u8 store_rcx[] = { 0x4b, 0x89, 0x0c, 0x37 };
		asm_const(&e->a, ASM_RCX, value);
		asm_bytes(&e->a, store_rcx, sizeof(store_rcx));
	}
	move_rsp(e, -8);
}

/* Pushes the value in ctx->save. */
static void emit_push_saved(struct emit *e, unsigned index)
{
	static const u8 store_rcx[] = { 0x4b, 0x89, 0x0c, 0x37 };

	asm_lea(&e->a, ASM_R14, ASM_RSP, NO_REG, 0, -8);
	emit_check(e, 8, true, index);
	asm_load(&e->a, ASM_RCX, SLOT(save));
	asm_bytes(&e->a, store_rcx, sizeof(store_rcx));
	move_rsp(e, -8);
}

/* mov reg, [r15 + r14] */
static void emit_load_operand(struct emit *e, unsigned reg)
{
	u8 code[] = { (u8)(0x4b | (reg >= 8 ? 4 : 0)), 0x8b, (u8)((reg & 7) << 3 | 4), 0x37 };

	asm_bytes(&e->a, code, sizeof(code));
}

static enum emit_result emit_push(struct emit *e, const struct build *d, unsigned index, u64 rip)
{
	const struct op *op = d->op;

	if (op->size != 8 || op->exec == op_push_seg)
		return hand_over(e, d, index);
	if (operand_is_mem(&d->o[0])) {
		u8 *mark = e->a.at;
		unsigned outs = e->out_count;

		if (!emit_address(e, d, op, rip)) {
			e->a.at = mark;
			e->out_count = outs;
			return hand_over(e, d, index);
		}
		emit_check(e, 8, false, index);
		emit_load_operand(e, ASM_RCX);
		asm_store(&e->a, SLOT(save), ASM_RCX);
		emit_push_saved(e, index);
	} else if (operand_is_reg(&d->o[0])) {
		emit_push_reg(e, op->dst / 8, index);
	} else {
		emit_push_value(e, op->imm, index);
	}
	return EMIT_NEXT;
}

static enum emit_result emit_pop(struct emit *e, const struct build *d, unsigned index)
{
	const struct op *op = d->op;
	struct places p = home();
	unsigned g = op->dst / 8;

	if (op->size != 8 || op->exec == op_pop_seg || !operand_is_reg(&d->o[0]))
		return hand_over(e, d, index);
	asm_lea(&e->a, ASM_R14, ASM_RSP, NO_REG, 0, 0);
	emit_check(e, 8, false, index);
	if (p.host[g] == NO_REG) {
		emit_load_operand(e, ASM_R14);
		asm_store(&e->a, SLOT(gpr) + 8 * g, ASM_R14);
	} else {
		emit_load_operand(e, p.host[g]);
	}
	if (g != RSP)
		move_rsp(e, 8);
	return EMIT_NEXT;
}

static enum emit_result emit_leave(struct emit *e, const struct build *d, unsigned index)
{
	if (d->op->size != 8)
		return hand_over(e, d, index);
	asm_lea(&e->a, ASM_R14, ASM_RBP, NO_REG, 0, 0);
	emit_check(e, 8, false, index);
	emit_load_operand(e, ASM_R14);
	asm_lea(&e->a, ASM_RSP, ASM_RBP, NO_REG, 0, 8);
	asm_rr(&e->a, 0x8b, ASM_RBP, ASM_R14, true);
	return EMIT_NEXT;
}

/* ---- repeated strings ---- */

/* jrcxz over a jump out: goes on when RCX is 0. */
static void out_unless_rcx_zero(struct emit *e, unsigned index)
{
	static const u8 jrcxz_over[] = { 0xe3, 0x05 };

	asm_bytes(&e->a, jrcxz_over, sizeof(jrcxz_over));
	out(e, 0xff, EXIT_CODE(EXIT_OP, index));
}

/* Checks that count (guest RCX, in R13) elements from the address in `at` lie in one page; R15:
 * host minus linear. */
static void emit_check_run(struct emit *e, unsigned at, unsigned size, bool write, unsigned index)
{
	u32 table = SLOT(fast) + (u32)((e->b->space * 2 + write) * sizeof(struct fast_table));

	emit_pext(e, ASM_R15, at, SLOT(index_mask));
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_RCX, ASM_R15, 3, table);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, at, 0, 0);
	asm_lea(&e->a, ASM_RCX, ASM_RCX, ASM_R13, (unsigned)__builtin_ctz(size), -1);
	emit_pext(e, ASM_RCX, ASM_RCX, SLOT(page_mask));
	out_unless_rcx_zero(e, index);
	asm_gs_index(&e->a, OP_MOV_LOAD, ASM_R15, ASM_R15, 3,
		table + (u32)offsetof(struct fast_table, add));
}

/*
 * REP MOVS and REP STOS that stay within one page on either side run as themselves on host
 * addresses, when DF is clear. Everything else (page crossings, count 0, faults) is the
 * interpreter's, which leaves the rest of a long run to the next try.
 */
static enum emit_result emit_string(
	struct emit *e, const struct build *d, unsigned index, const u8 *bytes)
{
	const struct op *op = d->op;
	bool movs = op->exec == op_movs_by_size[size_index(op->size)];

	if (!(op->flags & OPF_REP) || op->asize != 8 || (movs && op->seg >= X86_FS))
		return hand_over(e, d, index);
	asm_load(&e->a, ASM_RCX, SLOT(df));
	out_unless_rcx_zero(e, index);
	/* A count of 4096 or more could wrap around in the sum below. */
	emit_pext(e, ASM_RCX, ASM_R13, SLOT(page_mask));
	out_unless_rcx_zero(e, index);
	if (movs) {
		emit_check_run(e, ASM_RSI, op->size, false, index);
		asm_store(&e->a, SLOT(save), ASM_R15);
	}
	emit_check_run(e, ASM_RDI, op->size, true, index);
	asm_rr(&e->a, 0x8b, ASM_RCX, ASM_R13, true);
	asm_store(&e->a, SLOT(save_rdi), ASM_RDI);
	asm_lea(&e->a, ASM_RDI, ASM_RDI, ASM_R15, 0, 0);
	if (movs) {
		asm_load(&e->a, ASM_R15, SLOT(save));
		asm_rr(&e->a, 0x8b, ASM_R14, ASM_RSI, true);
		asm_lea(&e->a, ASM_RSI, ASM_RSI, ASM_R15, 0, 0);
	}
	asm_bytes(&e->a, bytes, d->insn.length);
	unsigned scale = (unsigned)__builtin_ctz(op->size);
	if (movs)
		asm_lea(&e->a, ASM_RSI, ASM_R14, ASM_R13, scale, 0);
	asm_load(&e->a, ASM_RDI, SLOT(save_rdi));
	asm_lea(&e->a, ASM_RDI, ASM_RDI, ASM_R13, scale, 0);
	asm_rr(&e->a, 0x8b, ASM_R13, ASM_RCX, true); /* 0 */
	return EMIT_NEXT;
}

/* ---- the sensitive instructions that need no C ---- */

/* mov reg, [state + offset] and back, R14 being the state */
static void emit_state(struct emit *e, u8 opcode, unsigned reg, size_t offset)
{
	u8 code[] = { (u8)(0x49 | (reg >= 8 ? 4 : 0)), opcode, (u8)(0x80 | (reg & 7) << 3 | 6) };

	asm_bytes(&e->a, code, sizeof(code));
	asm_u32(&e->a, (u32)offset);
}

/* pdep dst, src, gs:[slot] */
static void emit_pdep(struct emit *e, unsigned dst, unsigned src, u32 slot)
{
	u8 code[] = { 0x65, 0xc4, (u8)((dst < 8 ? 0x80 : 0) | 0x60 | 0x02),
		(u8)(0x80 | (~src & 15) << 3 | 0x03), 0xf5, (u8)((dst & 7) << 3 | 4), 0x25 };

	asm_bytes(&e->a, code, sizeof(code));
	asm_u32(&e->a, slot);
}

/* The kernel's spaces run at CPL 0 here: CPL 1 and 2 are interpreted. */
static bool kernel(const struct emit *e) { return e->b->space != MMU_USER; }

static enum emit_result emit_cli(struct emit *e, const struct build *d, unsigned index)
{
	if (!kernel(e))
		return hand_over(e, d, index);
	asm_store_imm32(&e->a, SLOT(vif), 0);
	return EMIT_NEXT;
}

/*
 * STI with nothing waiting just sets IF. An interrupt that comes during the next instruction is
 * taken after it, because the kick cuts the block's exits: so STI must not be its block's last
 * (translate() sees to that).
 */
static enum emit_result emit_sti(struct emit *e, const struct build *d, unsigned index)
{
	static const u8 mov_ecx_r14[] = { 0x41, 0x8b, 0x0e };

	if (!kernel(e))
		return hand_over(e, d, index);
	e->sti_at = e->a.at;
	e->sti_outs = e->out_count;
	asm_load(&e->a, ASM_R14, SLOT(attention));
	asm_bytes(&e->a, mov_ecx_r14, sizeof(mov_ecx_r14));
	out_unless_rcx_zero(e, index);
	asm_store_imm32(&e->a, SLOT(vif), (u32)FLAG_IF);
	return EMIT_STI;
}

/* The host's status flags, read on the host's stack, plus what is kept elsewhere. */
static enum emit_result emit_pushf(struct emit *e, const struct build *d, unsigned index)
{
	static const u8 pushfq_pop_r14[] = { 0x9c, 0x41, 0x5e };

	if (d->op->size != 8)
		return hand_over(e, d, index);
	asm_store(&e->a, SLOT(save), ASM_RSP);
	asm_load(&e->a, ASM_RSP, SLOT(host_rsp));
	asm_bytes(&e->a, pushfq_pop_r14, sizeof(pushfq_pop_r14));
	asm_load(&e->a, ASM_RSP, SLOT(save));
	emit_pext(e, ASM_R14, ASM_R14, SLOT(status_mask));
	emit_pdep(e, ASM_R14, ASM_R14, SLOT(status_mask));
	asm_load(&e->a, ASM_R15, SLOT(vif));
	asm_lea(&e->a, ASM_R14, ASM_R14, ASM_R15, 0, 0);
	asm_load(&e->a, ASM_R15, SLOT(rest));
	asm_lea(&e->a, ASM_R14, ASM_R14, ASM_R15, 0, 0);
	asm_store(&e->a, SLOT(save), ASM_R14);
	emit_push_saved(e, index);
	return EMIT_NEXT;
}

static enum emit_result emit_swapgs(struct emit *e, const struct build *d, unsigned index)
{
	if (!kernel(e))
		return hand_over(e, d, index);
	asm_load(&e->a, ASM_R14, SLOT(state));
	asm_load(&e->a, ASM_R15, SLOT(gs_base));
	emit_state(e, OP_MOV_LOAD, ASM_RCX, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, ASM_R15, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, ASM_RCX, offsetof(struct x86_state, seg[X86_GS].base));
	asm_store(&e->a, SLOT(gs_base), ASM_RCX);
	return EMIT_NEXT;
}

/* ---- transfers ---- */

static enum emit_result emit_transfer(
	struct emit *e, const struct build *d, unsigned index, u64 rip)
{
	const struct op *op = d->op;
	u64 next = rip + op->length;

	if (op->size != 8)
		return hand_over(e, d, index);
	if (op->exec == op_jmp || op->exec == op_jcc || op->exec == op_call) {
		u64 target = next + op->imm;

		if (!x86_canonical(target))
			return hand_over(e, d, index);
		if (op->exec == op_jcc) {
			emit_link(e, op->extra, target);
			emit_link(e, 0xff, next);
			return EMIT_END;
		}
		if (op->exec == op_call)
			emit_push_value(e, next, index);
		emit_link(e, 0xff, target);
		return EMIT_END;
	}
	if (op->exec == op_ret) {
		asm_lea(&e->a, ASM_R14, ASM_RSP, NO_REG, 0, 0);
		emit_check(e, 8, false, index);
		emit_load_operand(e, ASM_R14);
		move_rsp(e, (s32)(8 + op->imm));
		emit_lookup(e, index);
		return EMIT_END;
	}
	/* indirect jump or call: the target first */
	bool call = op->exec == op_call_ind;
	struct places p = home();
	if (op->flags & OPF_SRC_MEM) {
		u8 *mark = e->a.at;

		if (!emit_address(e, d, op, rip)) {
			e->a.at = mark;
			return hand_over(e, d, index);
		}
		emit_check(e, 8, false, index);
		emit_load_operand(e, ASM_R14);
	} else if (p.host[op->src / 8] == NO_REG) {
		asm_load(&e->a, ASM_R14, SLOT(gpr) + op->src);
	} else {
		asm_rr(&e->a, 0x8b, ASM_R14, p.host[op->src / 8], true);
	}
	if (call) {
		asm_store(&e->a, SLOT(save), ASM_R14);
		emit_push_value(e, next, index);
		asm_load(&e->a, ASM_R14, SLOT(save));
	}
	emit_lookup(e, index);
	return EMIT_END;
}

/* ---- classification ---- */

/* Integer instructions that behave the same when copied. */
static bool copyable(ZydisMnemonic m)
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

static bool is_bit_string(const struct build *d)
{
	bool bit = d->insn.mnemonic == ZYDIS_MNEMONIC_BT ||
		   d->insn.mnemonic == ZYDIS_MNEMONIC_BTS ||
		   d->insn.mnemonic == ZYDIS_MNEMONIC_BTR || d->insn.mnemonic == ZYDIS_MNEMONIC_BTC;

	return bit && operand_is_mem(&d->o[0]) && operand_is_reg(&d->o[1]);
}

/* A stub's instruction that can be copied: how it uses vectors decides the mode. */
static bool native_copyable(const struct build *d, bool *vector)
{
	const struct native *n = d->op->aux;

	*vector = native_uses_vectors(n);
	/* Masked accesses too: a hit says that the whole operand may be touched. */
	return !native_uses_x87(n) && d->insn.mnemonic != ZYDIS_MNEMONIC_LDMXCSR &&
	       d->insn.mnemonic != ZYDIS_MNEMONIC_STMXCSR &&
	       d->insn.mnemonic != ZYDIS_MNEMONIC_VLDMXCSR &&
	       d->insn.mnemonic != ZYDIS_MNEMONIC_VSTMXCSR;
}

static const ZydisDecodedOperand *memory_operand(const struct build *d)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++)
		if (d->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			return &d->o[i];
	return NULL;
}

enum emit_result emit_insn(struct emit *e, const struct build *d, unsigned index)
{
	const struct op *op = d->op;
	u64 rip = e->b->rip + e->b->insns[index].guest_at;
	const ZydisDecodedOperand *mem = memory_operand(d);
	bool vector = false;

	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH: return emit_push(e, d, index, rip);
	case ZYDIS_MNEMONIC_POP: return emit_pop(e, d, index);
	case ZYDIS_MNEMONIC_LEAVE: return emit_leave(e, d, index);
	case ZYDIS_MNEMONIC_LEA: return emit_lea(e, d, index, rip);
	case ZYDIS_MNEMONIC_CLI: return emit_cli(e, d, index);
	case ZYDIS_MNEMONIC_STI: return emit_sti(e, d, index);
	case ZYDIS_MNEMONIC_PUSHFQ: return emit_pushf(e, d, index);
	case ZYDIS_MNEMONIC_SWAPGS: return emit_swapgs(e, d, index);
	default: break;
	}
	if (d->insn.meta.category == ZYDIS_CATEGORY_STRINGOP &&
		(op->exec == op_movs_by_size[size_index(op->size)] ||
			op->exec == op_stos_by_size[size_index(op->size)]))
		return emit_string(e, d, index, e->bytes);
	if (op->exec == op_nop)
		return EMIT_NEXT;
	if (op->exec == op_jmp || op->exec == op_jcc || op->exec == op_call ||
		op->exec == op_jmp_ind || op->exec == op_call_ind || op->exec == op_ret)
		return emit_transfer(e, d, index, rip);

	bool plain_mov = d->insn.mnemonic == ZYDIS_MNEMONIC_MOV && !(op->flags & OPF_END);
	bool native = op->exec == op_native || op->exec == op_native_mem;
	bool copy = native ? native_copyable(d, &vector)
			   : plain_mov || copyable(d->insn.mnemonic) || op->exec == op_setcc ||
				     d->insn.meta.category == ZYDIS_CATEGORY_CMOV;
	if (!copy || is_bit_string(d) || (d->insn.attributes & ZYDIS_ATTRIB_HAS_REP))
		return hand_over(e, d, index);
	/* Availability (CR0, CR4, XCR0) was checked when the mode was entered; see engine.c. */
	if (vector && !e->b->vector)
		return EMIT_REFUSED;
	return mem ? emit_memory(e, d, index, rip, mem) : emit_registers(e, d, index, e->bytes);
}
