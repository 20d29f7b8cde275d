/*
 * The stubs that all blocks share, at the start of the cache: the miss of a lookup, and what loads
 * and saves the vector registers: XMM/YMM/ZMM, the mask registers and MXCSR. Between C and code
 * they change hands on the way in (vector_enter) or when code first needs them (vector_fetch), and
 * on the way out (vector_leave).
 */
#include "base/must.h"
#include "cpu/translate/emit.h"
#include <Zydis/Zydis.h>

static void encode(struct asm_buf *b, ZydisEncoderRequest *req)
{
	u8 code[16];
	ZyanUSize len = sizeof(code);

	req->machine_mode = ZYDIS_MACHINE_MODE_LONG_64;
	must(ZYAN_SUCCESS(ZydisEncoderEncodeInstruction(req, code, &len)), "mnemonic %d",
		(int)req->mnemonic);
	asm_bytes(b, code, len);
}

static ZydisEncoderOperand reg(ZydisRegister r)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_REGISTER, .reg.value = r };
}

static ZydisEncoderOperand field(size_t offset, unsigned size)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_MEMORY,
		.mem = { .base = ZYDIS_REGISTER_R15,
			.displacement = (ZyanI64)offset,
			.size = (ZyanU16)size } };
}

#define OFF(member) offsetof(struct x86_state, member)
#define XSAVE_BYTES 576u /* without the extended region */

static const u8 jmp_addr[] = { 0x41, 0xff, 0xe3 }; /* jmp r11 */

static void move_vectors(struct asm_buf *b, bool store)
{
	bool wide = __builtin_cpu_supports("avx512f"), avx = __builtin_cpu_supports("avx");
	ZydisRegisterClass class = wide	 ? ZYDIS_REGCLASS_ZMM
				   : avx ? ZYDIS_REGCLASS_YMM
					 : ZYDIS_REGCLASS_XMM;
	unsigned size = wide ? 64 : avx ? 32 : 16;

	for (unsigned i = 0; i < (wide ? 32u : 16u); i++) {
		ZydisEncoderRequest req = { .mnemonic = wide  ? ZYDIS_MNEMONIC_VMOVDQU64
							: avx ? ZYDIS_MNEMONIC_VMOVDQU
							      : ZYDIS_MNEMONIC_MOVDQU };
		ZydisEncoderOperand r = reg(ZydisRegisterEncode(class, (ZyanU8)i));
		ZydisEncoderOperand m = field(OFF(fpu.zmm) + i * 64, size);

		req.operands[req.operand_count++] = store ? m : r;
		if (wide)
			req.operands[req.operand_count++] = reg(ZYDIS_REGISTER_K0);
		req.operands[req.operand_count++] = store ? r : m;
		encode(b, &req);
	}
	for (unsigned i = 0; wide && i < 8; i++) {
		bool bw = __builtin_cpu_supports("avx512bw");
		ZydisEncoderRequest req = { .mnemonic = bw ? ZYDIS_MNEMONIC_KMOVQ
							   : ZYDIS_MNEMONIC_KMOVW,
			.operand_count = 2 };
		ZydisEncoderOperand r = reg(ZydisRegisterEncode(ZYDIS_REGCLASS_MASK, (ZyanU8)i));
		ZydisEncoderOperand m = field(OFF(fpu.k) + i * 8, bw ? 8 : 2);

		req.operands[0] = store ? m : r;
		req.operands[1] = store ? r : m;
		encode(b, &req);
	}
}

static void move_mxcsr(struct asm_buf *b, bool store)
{
	ZydisEncoderRequest req = { .mnemonic =
					    store ? ZYDIS_MNEMONIC_STMXCSR : ZYDIS_MNEMONIC_LDMXCSR,
		.operand_count = 1 };

	req.operands[0] = field(OFF(fpu.mxcsr), 4);
	encode(b, &req);
}

static void load_host_mxcsr(struct asm_buf *b)
{
	static const u8 ldmxcsr_gs[] = { 0x65, 0x0f, 0xae, 0x14, 0x25 };

	asm_bytes(b, ldmxcsr_gs, sizeof(ldmxcsr_gs));
	asm_u32(b, SLOT(mxcsr_host));
}

/*
 * The fetching stubs. T_ADDR: where to go on; ECX: the exit, should there be none.
 */
static void emit_vector_fetch(struct translator *t, struct asm_buf *b)
{
	t->vector_fetch = codemem_rx(&t->mem, b->at);
	asm_load(b, ASM_R15, SLOT(state));
	move_mxcsr(b, false);
	move_vectors(b, false);
	asm_lea_rip(b, ASM_R15, codemem_rw(&t->mem, t->vector_leave));
	asm_store(b, SLOT(leave), ASM_R15);
	asm_store_imm32(b, SLOT(vectors_away), 0);
	asm_bytes(b, jmp_addr, sizeof(jmp_addr));
}

/* XRSTOR of component 0 only (SDM 1 13.8): EDX:EAX names it, XSTATE_BV says that it is there. */
static void emit_x87_fetch(struct translator *t, struct asm_buf *b)
{
	ZydisEncoderRequest present = { .mnemonic = ZYDIS_MNEMONIC_MOV, .operand_count = 2 };
	ZydisEncoderRequest xrstor = { .mnemonic = ZYDIS_MNEMONIC_XRSTOR64, .operand_count = 1 };

	present.operands[0] = field(OFF(fpu.xsave_header), 1);
	present.operands[1] =
		(ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_IMMEDIATE, .imm.u = XCR0_X87 };
	xrstor.operands[0] = field(OFF(fpu), XSAVE_BYTES);
	t->x87_fetch = codemem_rx(&t->mem, b->at);
	asm_store(b, SLOT(save_rax), ASM_RAX);
	asm_store(b, SLOT(save_rdx), ASM_RDX);
	asm_load(b, ASM_R15, SLOT(state));
	encode(b, &present);
	asm_const(b, ASM_RAX, XCR0_X87);
	asm_const(b, ASM_RDX, 0);
	encode(b, &xrstor);
	asm_store_imm32(b, SLOT(x87_away), 0);
	asm_load(b, ASM_RAX, SLOT(save_rax));
	asm_load(b, ASM_RDX, SLOT(save_rdx));
	asm_bytes(b, jmp_addr, sizeof(jmp_addr));
}

void emit_stubs(struct translator *t)
{
	struct asm_buf b = asm_buf_for(t, t->mem.rw, 8192);

	t->lookup_miss = codemem_rx(&t->mem, b.at);
	asm_store(&b, SLOT(rip), T_ADDR);
	asm_store_imm32(&b, SLOT(exit_code), EXIT_CODE(EXIT_LOOKUP, 0, NO_INSN));
	asm_jmp_slot(&b, SLOT(leave));

	t->exit_stub = codemem_rx(&t->mem, b.at);
	asm_at_slot(&b, OP_MOV_STORE, ASM_RCX, SLOT(exit_code), false);
	asm_jmp_slot(&b, SLOT(leave));

	t->vector_enter = codemem_rx(&t->mem, b.at);
	asm_load(&b, ASM_R15, SLOT(state));
	move_mxcsr(&b, false);
	move_vectors(&b, false);
	asm_load(&b, T_AUX, SLOT(aux));
	asm_jmp_slot(&b, SLOT(code));
	t->vector_enter_end = codemem_rx(&t->mem, b.at);

	t->vector_leave = codemem_rx(&t->mem, b.at);
	asm_load(&b, ASM_R15, SLOT(state));
	move_vectors(&b, true);
	move_mxcsr(&b, true);
	load_host_mxcsr(&b);
	if (__builtin_cpu_supports("avx")) {
		static const u8 vzeroupper[] = { 0xc5, 0xf8, 0x77 };
		asm_bytes(&b, vzeroupper, sizeof(vzeroupper));
	}
	asm_jmp_slot(&b, SLOT(leave_plain));

	emit_vector_fetch(t, &b);
	if (x87_usable(t))
		emit_x87_fetch(t, &b);
	t->fetch_end = codemem_rx(&t->mem, b.at);
	must(!b.full, "shared stubs need more room");
	t->used = align_up((u64)(b.at - t->mem.rw), 64);
}
