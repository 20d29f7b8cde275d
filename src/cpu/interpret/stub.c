/*
 * Stub generation.
 *
 * A stub is called as stub(rdi = state, rsi = memory, rdx = status flags) and returns flags in RAX.
 * native_enter has saved the callee-saved registers, so a stub may use all but RSP. It picks two
 * registers the instruction does not name for `state` and `memory`, then:
 *
 *     load what the instruction reads or writes   (x87 first: FXRSTOR also writes XMM)
 *     the instruction
 *     store what it writes
 *     put MXCSR and x87 back to what C code expects
 *
 * Whole registers are loaded and stored, so partial writes, zero extension and merging come out
 * as the hardware does them.
 */
#include "base/must.h"
#include "cpu/interpret/native_priv.h"

struct usage {
	u32 gpr, gpr_out;
	u32 vec, vec_out;
	u32 k, k_out;
	bool mxcsr;
	bool rsp; /* names RSP as an ordinary register: replaced */
};

struct emitter {
	u8 *at, *end;
	bool failed;
	ZydisRegister state, memory;
};

static const u8 candidates[] = { R15, R14, R13, R12, RBX, RBP, R11, R10, R9, R8 };
/* In RSP's place: registers that need no REX prefix, which AH to BH cannot have beside them. */
static const u8 stand_ins[] = { RBP, RBX, RCX, RAX };

static ZydisRegister gpr64(unsigned n)
{
	return ZydisRegisterEncode(ZYDIS_REGCLASS_GPR64, (ZyanU8)n);
}

static void emit(struct emitter *e, ZydisEncoderRequest *req)
{
	ZyanUSize len = (ZyanUSize)(e->end - e->at);

	req->machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	if (e->failed || ZYAN_FAILED(ZydisEncoderEncodeInstruction(req, e->at, &len)))
		e->failed = true;
	else
		e->at += len;
}

static void emit_bytes(struct emitter *e, const void *bytes, size_t len)
{
	if (e->failed || (size_t)(e->end - e->at) < len) {
		e->failed = true;
		return;
	}
	memcpy(e->at, bytes, len);
	e->at += len;
}

static ZydisEncoderOperand op_reg(ZydisRegister r)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_REGISTER, .reg.value = r };
}

static ZydisEncoderOperand op_state(const struct emitter *e, size_t offset, unsigned size)
{
	return (ZydisEncoderOperand){
		.type = ZYDIS_OPERAND_TYPE_MEMORY,
		.mem = { .base = e->state, .displacement = (ZyanI64)offset, .size = (ZyanU16)size }
	};
}

static void emit2(struct emitter *e, ZydisMnemonic m, ZydisEncoderOperand a, ZydisEncoderOperand b)
{
	ZydisEncoderRequest req = { .mnemonic = m, .operand_count = 2, .operands = { a, b } };

	emit(e, &req);
}

static void emit1(struct emitter *e, ZydisMnemonic m, ZydisEncoderOperand a)
{
	ZydisEncoderRequest req = { .mnemonic = m, .operand_count = 1, .operands = { a } };

	emit(e, &req);
}

static void emit0(struct emitter *e, ZydisMnemonic m)
{
	ZydisEncoderRequest req = { .mnemonic = m };

	emit(e, &req);
}

/* ---- what the instruction touches ---- */

static void note_register(struct usage *u, ZydisRegister r, bool written)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: {
		ZydisRegister wide =
			ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r);
		u32 bit = BIT((unsigned)ZydisRegisterGetId(wide));

		u->gpr |= bit;
		u->gpr_out |= written ? bit : 0;
		u->rsp |= bit == BIT(RSP);
		break;
	}
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
	case ZYDIS_REGCLASS_ZMM: {
		u32 bit = BIT((unsigned)ZydisRegisterGetId(r));

		u->vec |= bit;
		u->vec_out |= written ? bit : 0;
		break;
	}
	case ZYDIS_REGCLASS_MASK: {
		u32 bit = BIT((unsigned)ZydisRegisterGetId(r));

		u->k |= bit;
		u->k_out |= written ? bit : 0;
		break;
	}
	default: u->mxcsr |= r == ZYDIS_REGISTER_MXCSR; break;
	}
}

static struct usage usage_of(
	const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	struct usage u = { 0 };

	for (unsigned i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_REGISTER)
			note_register(
				&u, o->reg.value, o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE);
	}
	u.k &= ~1u & 0xff; /* k0 as a mask means none; as an operand it is loaded below */
	for (unsigned i = 0; i < insn->operand_count; i++)
		if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			operands[i].reg.value == ZYDIS_REGISTER_K0)
			u.k |= 1;
	return u;
}

/* ---- the instruction itself ---- */

unsigned stub_encode(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands,
	ZydisRegister memory, ZydisRegister rsp_replacement, u8 out[16])
{
	ZydisEncoderRequest req;
	ZyanUSize len = 16;

	if (ZYAN_FAILED(ZydisEncoderDecodedInstructionToEncoderRequest(
		    insn, operands, insn->operand_count_visible, &req)))
		return 0;
	req.machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	req.address_size_hint = ZYDIS_ADDRESS_SIZE_HINT_NONE;
	req.prefixes &= ~(ZydisInstructionAttributes)ZYDIS_ATTRIB_HAS_SEGMENT;
	for (unsigned i = 0; i < req.operand_count; i++) {
		ZydisEncoderOperand *o = &req.operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			ZyanU16 size = o->mem.size;

			memset(&o->mem, 0, sizeof(o->mem));
			o->mem.base = memory;
			o->mem.size = size;
		} else if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			   ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64,
				   o->reg.value) == ZYDIS_REGISTER_RSP) {
			ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
			ZyanU8 id = (ZyanU8)ZydisRegisterGetId(rsp_replacement);

			if (class == ZYDIS_REGCLASS_GPR8 && id >= 4)
				id = (ZyanU8)(id + 4); /* AH to BH come in between */
			o->reg.value = ZydisRegisterEncode(class, id);
		}
	}
	return ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(&req, out, &len)) ? (unsigned)len : 0;
}

/* ---- loads and stores around it ---- */

#define OFF(member) offsetof(struct x86_state, member)

static void vectors(struct emitter *e, const struct natives *ns, u32 set, bool store)
{
	for (unsigned i = 0; i < 32; i++) {
		if (!(set & BIT(i)))
			continue;
		ZydisMnemonic m = ns->avx512 ? ZYDIS_MNEMONIC_VMOVDQU64
				  : ns->avx  ? ZYDIS_MNEMONIC_VMOVDQU
					     : ZYDIS_MNEMONIC_MOVDQU;
		ZydisRegisterClass class = ns->avx512 ? ZYDIS_REGCLASS_ZMM
					   : ns->avx  ? ZYDIS_REGCLASS_YMM
						      : ZYDIS_REGCLASS_XMM;
		unsigned size = ns->avx512 ? 64 : ns->avx ? 32 : 16;
		ZydisEncoderOperand r = op_reg(ZydisRegisterEncode(class, (ZyanU8)i));
		ZydisEncoderOperand mem = op_state(e, OFF(fpu.zmm) + i * 64, size);

		ZydisEncoderRequest req = { .mnemonic = m };
		req.operands[req.operand_count++] = store ? mem : r;
		if (ns->avx512) /* EVEX instructions name their mask */
			req.operands[req.operand_count++] = op_reg(ZYDIS_REGISTER_K0);
		req.operands[req.operand_count++] = store ? r : mem;
		emit(e, &req);
	}
}

static void masks(struct emitter *e, const struct natives *ns, u32 set, bool store)
{
	ZydisMnemonic m = ns->avx512bw ? ZYDIS_MNEMONIC_KMOVQ : ZYDIS_MNEMONIC_KMOVW;
	unsigned size = ns->avx512bw ? 8 : 2;

	for (unsigned i = 0; i < 8; i++) {
		if (!(set & BIT(i)))
			continue;
		ZydisEncoderOperand r = op_reg(ZydisRegisterEncode(ZYDIS_REGCLASS_MASK, (ZyanU8)i));
		ZydisEncoderOperand mem = op_state(e, OFF(fpu.k) + i * 8, size);

		if (store)
			emit2(e, m, mem, r);
		else
			emit2(e, m, r, mem);
	}
}

static void gprs(struct emitter *e, u32 set, ZydisRegister rsp_as, bool store)
{
	for (unsigned i = 0; i < X86_GPRS; i++) {
		if (!(set & BIT(i)))
			continue;
		ZydisEncoderOperand r = op_reg(i == RSP ? rsp_as : gpr64(i));
		ZydisEncoderOperand mem = op_state(e, OFF(gpr) + i * 8, 8);

		if (store)
			emit2(e, ZYDIS_MNEMONIC_MOV, mem, r);
		else
			emit2(e, ZYDIS_MNEMONIC_MOV, r, mem);
	}
}

static unsigned pick(u32 *taken, const u8 *from, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!(*taken & BIT(from[i]))) {
			*taken |= BIT(from[i]);
			return from[i];
		}
	}
	unreachable(); /* no instruction names that many general registers */
}

/* Conversions to general registers round, VFPCLASS looks at DAZ, and the decoder does not list
 * MXCSR. */
bool stub_needs_mxcsr(const ZydisDecodedInstruction *insn)
{
	return insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	       (insn->meta.category == ZYDIS_CATEGORY_CONVERT &&
		       insn->meta.isa_ext != ZYDIS_ISA_EXT_BASE);
}

bool stub_generate(struct natives *ns, struct native *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands)
{
	struct usage u = usage_of(insn, operands);
	u32 taken = u.gpr | BIT(RDI) | BIT(RSI) | BIT(RDX) | BIT(RSP);
	struct emitter e = { .at = ns->mem.rw + ns->used,
		.end = ns->mem.rw + ns->used + NATIVE_STUB_MAX };
	u8 *start = e.at;
	u8 code[16];

	ZydisRegister rsp_as = gpr64(u.rsp ? pick(&taken, stand_ins, ARRAY_LEN(stand_ins)) : RBP);
	e.state = gpr64(pick(&taken, candidates, ARRAY_LEN(candidates)));
	e.memory = gpr64(pick(&taken, candidates, ARRAY_LEN(candidates)));
	unsigned len = stub_encode(insn, operands, e.memory, rsp_as, code);
	if (!len)
		return false;

	emit2(&e, ZYDIS_MNEMONIC_MOV, op_reg(e.state), op_reg(ZYDIS_REGISTER_RDI));
	emit2(&e, ZYDIS_MNEMONIC_MOV, op_reg(e.memory), op_reg(ZYDIS_REGISTER_RSI));
	if (n->flags) {
		emit1(&e, ZYDIS_MNEMONIC_PUSH, op_reg(ZYDIS_REGISTER_RDX));
		emit0(&e, ZYDIS_MNEMONIC_POPFQ);
	}
	if (n->x87)
		emit1(&e, ZYDIS_MNEMONIC_FXRSTOR64, op_state(&e, OFF(fpu), 512));
	bool vector = u.vec || u.mxcsr || stub_needs_mxcsr(insn);
	if (vector)
		emit1(&e, ZYDIS_MNEMONIC_LDMXCSR, op_state(&e, OFF(fpu.mxcsr), 4));
	vectors(&e, ns, u.vec, false);
	masks(&e, ns, u.k, false);
	gprs(&e, u.gpr, rsp_as, false);

	emit_bytes(&e, code, len);

	if (n->flags)
		emit0(&e, ZYDIS_MNEMONIC_PUSHFQ);
	gprs(&e, u.gpr_out, rsp_as, true);
	masks(&e, ns, u.k_out, true);
	vectors(&e, ns, u.vec_out, true);
	if (vector)
		emit1(&e, ZYDIS_MNEMONIC_STMXCSR, op_state(&e, OFF(fpu.mxcsr), 4));
	if (n->x87) {
		emit1(&e, ZYDIS_MNEMONIC_FXSAVE64, op_state(&e, OFF(fpu), 512));
		emit0(&e, ZYDIS_MNEMONIC_FNINIT);
	}
	if (n->flags)
		emit1(&e, ZYDIS_MNEMONIC_POP, op_reg(ZYDIS_REGISTER_RAX));
	if (vector || n->x87) {
		static const u8 default_mxcsr[] = {
			0x68, 0x80, 0x1f, 0x00, 0x00, /* push $0x1f80 */
			0x0f, 0xae, 0x14, 0x24,	      /* ldmxcsr (%rsp) */
			0x59,			      /* pop %rcx */
		};
		emit_bytes(&e, default_mxcsr, sizeof(default_mxcsr));
	}
	if (u.vec && ns->avx)
		emit0(&e, ZYDIS_MNEMONIC_VZEROUPPER);
	emit0(&e, ZYDIS_MNEMONIC_RET);
	if (e.failed)
		return false;
	n->code = codemem_rx(&ns->mem, start);
	ns->used += (size_t)(e.at - start);
	return true;
}
