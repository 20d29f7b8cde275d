/*
 * The instruction table: what each mnemonic becomes. A row names a build function (how operands are
 * laid out), its argument, and the handler. Rows exist for integer and system instructions;
 * everything else the decoder knows (SIMD, x87, BMI, CRC, AES, ...) shares one rule that makes a
 * native stub.
 */
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/move.h"
#include "cpu/interpret/string.h"
#include "cpu/interpret/system.h"
#include "cpu/interpret/vector.h"
#include "x86/cpuid.h"
#include "x86/xsave.h"

/* ---- build functions ---- */

static bool b_binary(struct build *b)
{
	const struct binary_set *set = b->rule->arg;
	struct op *op = b->op;

	build_operands(b);
	op_fn *const *table;
	bool imm = b->o[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	if (op->flags & OPF_DST_MEM)
		table = imm ? set->mi : set->mr;
	else if (op->flags & OPF_SRC_MEM)
		table = set->rm;
	else
		table = imm ? set->ri : set->rr;
	op->exec = table[size_index(op->size)];
	return true;
}

static bool b_unary(struct build *b)
{
	const struct unary_set *set = b->rule->arg;

	build_operands(b);
	b->op->exec = (b->op->flags & OPF_DST_MEM ? set->m : set->r)[size_index(b->op->size)];
	return true;
}

static bool b_shift(struct build *b)
{
	const struct shift_set *set = b->rule->arg;

	build_operands(b);
	bool cl = operand_is_reg(&b->o[1]);
	op_fn *const *table =
		b->op->flags & OPF_DST_MEM ? (cl ? set->mc : set->mi) : (cl ? set->rc : set->ri);
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

/* A by-size table, operands as they come. */
static bool b_sized(struct build *b)
{
	op_fn *const *table = b->rule->arg;

	build_operands(b);
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

/* One source operand that is operand 0: MUL, DIV, JMP r/m... */
static void operand0_as_source(struct build *b)
{
	struct op *op = b->op;

	build_operands(b);
	op->src = op->dst;
	if (op->flags & OPF_DST_MEM)
		op->flags = (u16)((op->flags & ~OPF_DST_MEM) | OPF_SRC_MEM);
}

static bool b_source(struct build *b)
{
	op_fn *const *table = b->rule->arg;

	operand0_as_source(b);
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

static bool b_imul(struct build *b)
{
	struct op *op = b->op;

	if (b->insn.operand_count_visible == 1) {
		operand0_as_source(b);
		op->exec = op_imul1_by_size[size_index(op->size)];
		return true;
	}
	build_operands(b);
	if (b->insn.operand_count_visible == 3) {
		op->extra = 1;
		op->imm = b->o[2].imm.value.u;
	}
	op->exec = op_imul2_by_size[size_index(op->size)];
	return true;
}

/* Third operand: CL or an immediate. */
static bool b_double_shift(struct build *b)
{
	op_fn *const *table = b->rule->arg;

	build_operands(b);
	b->op->extra = operand_is_reg(&b->o[2]);
	if (!b->op->extra)
		b->op->imm = b->o[2].imm.value.u;
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

static bool b_bit(struct build *b)
{
	op_fn *const *table = b->rule->arg;

	build_operands(b);
	b->op->extra = operand_is_reg(&b->o[1]);
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

/* MOVZX, MOVSX, MOVSXD: the source's size in extra. */
static bool b_extend(struct build *b)
{
	op_fn *const *table = b->rule->arg;

	build_operands(b);
	b->op->extra = (u8)(b->o[1].size / 8);
	b->op->exec = table[size_index(b->op->size)];
	return true;
}

static bool b_cmov(struct build *b)
{
	build_operands(b);
	b->op->extra = b->insn.opcode & 15;
	b->op->exec = op_cmov_by_size[size_index(b->op->size)];
	return true;
}

static bool b_setcc(struct build *b)
{
	build_operands(b);
	b->op->extra = b->insn.opcode & 15;
	return true;
}

static bool b_xchg(struct build *b)
{
	struct op *op = b->op;

	/* Either operand may be the memory one; it becomes the destination. */
	if (operand_is_mem(&b->o[1])) {
		ZydisDecodedOperand swap = b->o[0];

		b->o[0] = b->o[1];
		b->o[1] = swap;
	}
	build_operands(b);
	if (op->flags & OPF_DST_MEM)
		op->flags |= OPF_LOCK;
	op->exec = op_xchg_by_size[size_index(op->size)];
	return true;
}

/* MOV in all its meanings: general, segment, control and debug registers. */
static bool b_mov(struct build *b)
{
	struct op *op = b->op;

	for (unsigned i = 0; i < 2; i++) {
		if (!operand_is_reg(&b->o[i]))
			continue;
		ZydisRegister r = b->o[i].reg.value;
		unsigned id = (unsigned)ZydisRegisterGetId(r);
		static op_fn *const fns[3][2] = {
			{ op_mov_to_seg, op_mov_from_seg },
			{ op_mov_to_cr, op_mov_from_cr },
			{ op_mov_to_dr, op_mov_from_dr },
		};
		unsigned class;

		switch (ZydisRegisterGetClass(r)) {
		case ZYDIS_REGCLASS_SEGMENT: class = 0; break;
		case ZYDIS_REGCLASS_CONTROL: class = 1; break;
		case ZYDIS_REGCLASS_DEBUG: class = 2; break;
		default: continue;
		}
		build_operands(b);
		op->exec = fns[class][i];
		op->extra = (u8)(class ? id : (unsigned)(r - ZYDIS_REGISTER_ES));
		op->flags |= OPF_END;
		if (class)
			op->size = b->bits == 64 ? 8 : 4;
		else
			op->size = (u8)(b->o[0].size / 8);
		return class || i || op->extra != X86_CS;
	}
	b->rule = &(struct rule){ .arg = &op_mov_set };
	return b_binary(b);
}

/* RDFSBASE and its relatives: the one register is dst, whichever way it goes. */
static bool b_sized_base(struct build *b)
{
	build_operands(b);
	return true;
}

/* A fixed handler; sizes from the operand-size attribute. */
static bool b_plain(struct build *b)
{
	build_operands(b);
	b->op->size = (u8)(b->insn.operand_width / 8);
	return true;
}

static bool b_plain_source(struct build *b)
{
	operand0_as_source(b);
	b->op->size = (u8)(b->insn.operand_width / 8);
	return true;
}

/* CBW/CWDE/CDQE and CWD/CDQ/CQO: rule->extra is the size. */
static bool b_convert(struct build *b)
{
	b->op->size = b->rule->extra;
	return true;
}

static bool b_in_out(struct build *b)
{
	bool out = b->rule->extra;
	const ZydisDecodedOperand *port = &b->o[out ? 0 : 1], *data = &b->o[out ? 1 : 0];
	op_fn *const *table = b->rule->arg;

	b->op->extra = operand_is_reg(port);
	if (!b->op->extra)
		b->op->imm = port->imm.value.u & 0xff;
	b->op->exec = table[size_index(data->size / 8)];
	return true;
}

static bool b_string(struct build *b)
{
	op_fn *const *table = b->rule->arg;
	struct op *op = b->op;

	op->size = b->rule->extra;
	if (b->insn.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		op->flags |= OPF_REP;
	if (b->insn.attributes & ZYDIS_ATTRIB_HAS_REPNE)
		op->flags |= OPF_REPNE;
	for (unsigned i = 0; i < b->insn.operand_count; i++)
		if (operand_is_mem(&b->o[i]) && operand_offset(b->o[i].mem.base) == GPR_OFF(RSI))
			op->seg = (u8)(b->o[i].mem.segment - ZYDIS_REGISTER_ES);
	op->exec = table[size_index(op->size)];
	return true;
}

static bool b_native(struct build *b);

/* MOVSD and CMPSD are a string instruction or an SSE one. */
static bool b_string_or_sse(struct build *b)
{
	return b->insn.meta.category == ZYDIS_CATEGORY_STRINGOP ? b_string(b) : b_native(b);
}

static bool b_push(struct build *b)
{
	struct op *op = b->op;

	build_operands(b);
	op->size = (u8)(b->insn.operand_width / 8);
	if (operand_is_reg(&b->o[0]) &&
		ZydisRegisterGetClass(b->o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) {
		op->extra = (u8)(b->o[0].reg.value - ZYDIS_REGISTER_ES);
		op->exec = op_push_seg;
	} else if (operand_is_mem(&b->o[0])) {
		op->exec = op_push_mem_by_size[size_index(op->size)];
	} else if (operand_is_reg(&b->o[0])) {
		op->exec = op_push_reg_by_size[size_index(op->size)];
	} else {
		op->imm = b->o[0].imm.value.u;
		op->exec = op_push_imm_by_size[size_index(op->size)];
	}
	return true;
}

static bool b_pop(struct build *b)
{
	struct op *op = b->op;

	build_operands(b);
	op->size = (u8)(b->insn.operand_width / 8);
	if (operand_is_reg(&b->o[0]) &&
		ZydisRegisterGetClass(b->o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT) {
		op->extra = (u8)(b->o[0].reg.value - ZYDIS_REGISTER_ES);
		op->exec = op_pop_seg;
		op->flags |= OPF_END;
	} else if (operand_is_mem(&b->o[0])) {
		op->exec = op_pop_mem_by_size[size_index(op->size)];
	} else {
		op->exec = op_pop_reg_by_size[size_index(op->size)];
	}
	return true;
}

/* Of RIP in near transfers. In 64-bit code an operand-size prefix means 16 bits to AMD's processors
 * and nothing to Intel's. */
static u8 near_size(const struct build *b)
{
	if (b->bits != 64)
		return (u8)(b->insn.operand_width / 8);
	bool narrow = (b->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !b->insn.raw.rex.W;
	return narrow && b->c->v->x86.model->amd ? 2 : 8;
}

static bool b_branch(struct build *b)
{
	struct op *op = b->op;

	op->imm = b->o[0].imm.value.u;
	op->size = near_size(b);
	op->extra = b->rule->extra ? b->rule->extra - 1 : b->insn.opcode & 15;
	return true;
}

/* m16:64 pointers are Intel's; AMD's processors read m16:32 whatever REX.W says (APM 3, JMP far and
 * LFS). */
static u8 far_size(const struct build *b)
{
	u8 size = (u8)(b->insn.operand_width / 8);

	return size == 8 && b->c->v->x86.model->amd ? 4 : size;
}

static bool b_load_far(struct build *b)
{
	build_memory(b, &b->o[1]);
	b->op->dst = operand_offset(b->o[0].reg.value);
	b->op->size = far_size(b);
	return true;
}

/* JMP and CALL: relative, indirect near, far through memory, far direct. */
static bool b_jmp_call(struct build *b)
{
	struct op *op = b->op;
	bool call = b->rule->extra;

	if (b->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
		operand0_as_source(b);
		op->size = (u8)(b->insn.operand_width / 8); /* of what CALL pushes */
		op->extra = far_size(b);
		op->exec = call ? op_call_far : op_jmp_far;
		if (b->o[0].type == ZYDIS_OPERAND_TYPE_POINTER) {
			op->imm = b->o[0].ptr.offset;
			op->aux = (void *)(uintptr_t)b->o[0].ptr.segment;
		}
		return true;
	}
	if (b->o[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		b_branch(b);
		op->exec = call ? op_call : op_jmp;
		return true;
	}
	operand0_as_source(b);
	op->size = near_size(b);
	op->exec = call ? op_call_ind : op_jmp_ind;
	return true;
}

static bool b_ret(struct build *b)
{
	struct op *op = b->op;

	op->imm = b->insn.operand_count_visible ? b->o[0].imm.value.u & 0xffff : 0;
	bool far = b->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
	op->size = far ? (u8)(b->insn.operand_width / 8) : near_size(b);
	op->exec = far ? op_ret_far : op_ret;
	return true;
}

static bool b_int(struct build *b)
{
	if (b->insn.operand_count_visible)
		b->op->imm = b->o[0].imm.value.u & 0xff;
	return true;
}

/* ENTER imm16, imm8 */
static bool b_enter(struct build *b)
{
	b->op->size = (u8)(b->insn.operand_width / 8);
	b->op->imm = b->o[0].imm.value.u & 0xffff;
	b->op->extra = (u8)b->o[1].imm.value.u;
	return true;
}

static bool b_aam_aad(struct build *b)
{
	b->op->imm = b->insn.operand_count_visible ? b->o[0].imm.value.u & 0xff : 10;
	return true;
}

/* Descriptor-table operands: only the address matters, and whether the operand size is 16. */
static bool b_table(struct build *b)
{
	build_memory(b, &b->o[0]);
	b->op->size = (u8)(b->insn.operand_width / 8);
	return true;
}

static bool b_memory_last(struct build *b)
{
	for (unsigned i = 0; i < b->insn.operand_count_visible; i++) {
		if (operand_is_mem(&b->o[i]))
			build_memory(b, &b->o[i]);
		else if (operand_is_reg(&b->o[i]))
			b->op->dst = operand_offset(b->o[i].reg.value);
	}
	b->op->size = (u8)(b->insn.operand_width / 8);
	return true;
}

/* PAUSE, prefetches, hinting NOPs: nothing, also with a memory operand. */
static bool b_nop(struct build *b) { return true; }

/* 0F 0D with a register is a NOP to Intel; AMD's prefetch instructions want memory (APM 3,
 * PREFETCH). */
static bool b_hint(struct build *b)
{
	return b->insn.opcode_map != ZYDIS_OPCODE_MAP_0F || b->insn.opcode != 0x0d ||
	       !b->c->v->x86.model->amd;
}

static bool b_serialize(struct build *b) { return x86_model_has(b->c->v->x86.model, 7, 0, 3, 14); }

static bool b_clzero(struct build *b)
{
	static const struct {
		u8 prefix, seg;
	} overrides[] = { { 0x26, X86_ES }, { 0x2e, X86_CS }, { 0x36, X86_SS }, { 0x3e, X86_DS },
		{ 0x64, X86_FS }, { 0x65, X86_GS } };

	/* the decoder lists no memory operand; the last prefix counts */
	for (unsigned i = 0; i < b->insn.raw.prefix_count; i++)
		for (unsigned k = 0; k < ARRAY_LEN(overrides); k++)
			if (b->insn.raw.prefixes[i].value == overrides[k].prefix &&
				(b->bits != 64 || k >= 4))
				b->op->seg = overrides[k].seg;
	return x86_model_has(b->c->v->x86.model, 0x80000008, 0, 1, 0);
}

/* With REX.B it is XCHG R8, rAX after all, and the F3 prefix means nothing. */
static bool b_pause(struct build *b)
{
	op_fn *const *table = b->rule->arg;
	struct op *op = b->op;

	op->exec = op_nop;
	if (b->bits != 64 || !b->insn.raw.rex.B)
		return true;
	op->size = b->insn.raw.rex.W				       ? 8
		   : b->insn.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE ? 2
								       : 4;
	op->dst = GPR_OFF(R8);
	op->src = GPR_OFF(RAX);
	op->exec = table[size_index(op->size)];
	return true;
}

static bool b_xlat(struct build *b)
{
	for (unsigned i = 0; i < b->insn.operand_count; i++)
		if (operand_is_mem(&b->o[i]))
			b->op->seg = (u8)(b->o[i].mem.segment - ZYDIS_REGISTER_ES);
	return true;
}

/* VPGATHERxx, VGATHERxxx, VPSCATTERxx, VSCATTERxxx: rule->extra is data bytes << 4 | index bytes.
 */
static bool b_vsib(struct build *b)
{
	struct op *op = b->op;
	bool evex = b->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
	struct vsib v = { .data = b->rule->extra >> 4, .index = b->rule->extra & 15, .evex = evex };

	for (unsigned i = 0; i < b->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &b->o[i];

		if (operand_is_mem(o)) {
			build_memory(b, o);
			v.index_reg = (u8)ZydisRegisterGetId(o->mem.index);
			v.shift = op->shift;
		} else if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_MASK) {
			op->src = (u8)ZydisRegisterGetId(o->reg.value);
		} else if (!evex && i == 2) {
			op->src = (u8)ZydisRegisterGetId(o->reg.value);
		} else {
			op->dst = (u8)ZydisRegisterGetId(o->reg.value);
		}
	}
	unsigned lane = v.data > v.index ? v.data : v.index;
	v.count = (u8)(b->insn.avx.vector_length / 8 / lane);
	op->imm = vsib_pack(v);
	/* All registers distinct in the VEX form, index and destination in the EVEX gather; k0 is
	 * no mask. */
	if (evex && !op->src)
		return false;
	bool scatter = op->exec == op_scatter;
	if (!scatter && op->dst == v.index_reg)
		return false;
	return evex || (op->dst != op->src && op->src != v.index_reg);
}

static bool b_maskmov(struct build *b)
{
	struct op *op = b->op;
	bool mmx = ZydisRegisterGetClass(b->o[0].reg.value) == ZYDIS_REGCLASS_MMX;

	op->dst = (u8)ZydisRegisterGetId(b->o[0].reg.value);
	op->src = (u8)ZydisRegisterGetId(b->o[1].reg.value);
	op->extra = mmx ? 8 : 16;
	op->imm = (mmx ? 1 : 0) | (b->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? 2 : 0);
	for (unsigned i = 0; i < b->insn.operand_count; i++)
		if (operand_is_mem(&b->o[i]))
			op->seg = (u8)(b->o[i].mem.segment - ZYDIS_REGISTER_ES);
	return true;
}

static bool b_native(struct build *b)
{
	struct op *op = b->op;
	bool unencodable;

	op->aux = native_get(b->c->natives, &b->insn, b->o, &unencodable);
	if (!op->aux) {
		b->full = !unencodable;
		return false;
	}
	op->exec = op_native;
	op->imm = native_fop(&b->insn);
	for (unsigned i = 0; i < b->insn.operand_count_visible; i++) {
		if (operand_is_mem(&b->o[i])) {
			build_memory(b, &b->o[i]);
			op->exec = op_native_mem;
		}
	}
	return true;
}

/* ---- the table ---- */

#define M(name) [ZYDIS_MNEMONIC_##name]
#define END	OPF_END

#define BINARY(set)                            \
	{                                      \
		.build = b_binary, .arg = &set \
	}
#define UNARY(set)                            \
	{                                     \
		.build = b_unary, .arg = &set \
	}
#define SHIFTS(set)                           \
	{                                     \
		.build = b_shift, .arg = &set \
	}
#define SIZED_RULE(table)                      \
	{                                      \
		.build = b_sized, .arg = table \
	}
#define JCC                                                   \
	{                                                     \
		.build = b_branch, .fn = op_jcc, .flags = END \
	}
#define SETCC                                    \
	{                                        \
		.build = b_setcc, .fn = op_setcc \
	}
#define CMOV                    \
	{                       \
		.build = b_cmov \
	}
#define FLAGOP(flag, value)                                                \
	{                                                                  \
		.build = b_nop, .fn = op_flag, .imm = flag, .extra = value \
	}
#define PLAIN(f)                          \
	{                                 \
		.build = b_plain, .fn = f \
	}
#define PLAIN_END(f)                                    \
	{                                               \
		.build = b_plain, .fn = f, .flags = END \
	}
#define SOURCE_END(f)                                          \
	{                                                      \
		.build = b_plain_source, .fn = f, .flags = END \
	}
#define STRING(table, size)                                    \
	{                                                      \
		.build = b_string, .arg = table, .extra = size \
	}
#define NOTHING                              \
	{                                    \
		.build = b_nop, .fn = op_nop \
	}
#define UNDEFINED                                         \
	{                                                 \
		.build = b_nop, .fn = op_ud, .flags = END \
	}
#define VSIB(f, data, index)                                             \
	{                                                                \
		.build = b_vsib, .fn = f, .extra = (data) << 4 | (index) \
	}
#define XSAVE(form)                                                   \
	{                                                             \
		.build = b_memory_last, .fn = op_xsave, .extra = form \
	}
#define XRSTOR(super)                                                   \
	{                                                               \
		.build = b_memory_last, .fn = op_xrstor, .extra = super \
	}
#define FARLOAD(seg)                                                               \
	{                                                                          \
		.build = b_load_far, .fn = op_load_far, .extra = seg, .flags = END \
	}

static const struct rule native_rule = { .build = b_native };

static const struct rule rules[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
	/* arithmetic and logic */
	M(ADD) = BINARY(op_add_set),
	M(OR) = BINARY(op_or_set),
	M(ADC) = BINARY(op_adc_set),
	M(SBB) = BINARY(op_sbb_set),
	M(AND) = BINARY(op_and_set),
	M(SUB) = BINARY(op_sub_set),
	M(XOR) = BINARY(op_xor_set),
	M(CMP) = BINARY(op_cmp_set),
	M(TEST) = BINARY(op_test_set),
	M(INC) = UNARY(op_inc_set),
	M(DEC) = UNARY(op_dec_set),
	M(NEG) = UNARY(op_neg_set),
	M(NOT) = UNARY(op_not_set),
	M(ROL) = SHIFTS(op_rol_set),
	M(ROR) = SHIFTS(op_ror_set),
	M(RCL) = SHIFTS(op_rcl_set),
	M(RCR) = SHIFTS(op_rcr_set),
	M(SHL) = SHIFTS(op_shl_set),
	M(SHR) = SHIFTS(op_shr_set),
	M(SAR) = SHIFTS(op_sar_set),
	M(SHLD) = { .build = b_double_shift, .arg = op_shld_by_size },
	M(SHRD) = { .build = b_double_shift, .arg = op_shrd_by_size },
	M(MUL) = { .build = b_source, .arg = op_mul_by_size },
	M(DIV) = { .build = b_source, .arg = op_div_by_size },
	M(IDIV) = { .build = b_source, .arg = op_idiv_by_size },
	M(IMUL) = { .build = b_imul },
	M(BT) = { .build = b_bit, .arg = op_bt_by_size },
	M(BTS) = { .build = b_bit, .arg = op_bts_by_size },
	M(BTR) = { .build = b_bit, .arg = op_btr_by_size },
	M(BTC) = { .build = b_bit, .arg = op_btc_by_size },
	M(BSF) = SIZED_RULE(op_bsf_by_size),
	M(BSR) = SIZED_RULE(op_bsr_by_size),
	M(CMPXCHG) = SIZED_RULE(op_cmpxchg_by_size),
	M(XADD) = SIZED_RULE(op_xadd_by_size),
	M(CMPXCHG8B) = PLAIN(op_cmpxchg8b),
	M(CMPXCHG16B) = PLAIN(op_cmpxchg16b),
	M(DAA) = { .build = b_nop, .fn = op_daa_das },
	M(DAS) = { .build = b_nop, .fn = op_daa_das, .extra = 1 },
	M(AAA) = { .build = b_nop, .fn = op_aaa_aas },
	M(AAS) = { .build = b_nop, .fn = op_aaa_aas, .extra = 1 },
	M(AAM) = { .build = b_aam_aad, .fn = op_aam },
	M(AAD) = { .build = b_aam_aad, .fn = op_aad },

	/* data movement */
	M(MOV) = { .build = b_mov },
	M(MOVNTI) = BINARY(op_mov_set),
	M(MOVZX) = { .build = b_extend, .arg = op_movzx_by_size },
	M(MOVSX) = { .build = b_extend, .arg = op_movsx_by_size },
	M(MOVSXD) = { .build = b_extend, .arg = op_movsx_by_size },
	M(LEA) = SIZED_RULE(op_lea_by_size),
	M(XCHG) = { .build = b_xchg },
	M(BSWAP) = SIZED_RULE(op_bswap_by_size),
	M(CMOVB) = CMOV,
	M(CMOVBE) = CMOV,
	M(CMOVL) = CMOV,
	M(CMOVLE) = CMOV,
	M(CMOVNB) = CMOV,
	M(CMOVNBE) = CMOV,
	M(CMOVNL) = CMOV,
	M(CMOVNLE) = CMOV,
	M(CMOVNO) = CMOV,
	M(CMOVNP) = CMOV,
	M(CMOVNS) = CMOV,
	M(CMOVNZ) = CMOV,
	M(CMOVO) = CMOV,
	M(CMOVP) = CMOV,
	M(CMOVS) = CMOV,
	M(CMOVZ) = CMOV,
	M(SETB) = SETCC,
	M(SETBE) = SETCC,
	M(SETL) = SETCC,
	M(SETLE) = SETCC,
	M(SETNB) = SETCC,
	M(SETNBE) = SETCC,
	M(SETNL) = SETCC,
	M(SETNLE) = SETCC,
	M(SETNO) = SETCC,
	M(SETNP) = SETCC,
	M(SETNS) = SETCC,
	M(SETNZ) = SETCC,
	M(SETO) = SETCC,
	M(SETP) = SETCC,
	M(SETS) = SETCC,
	M(SETZ) = SETCC,
	M(CBW) = { .build = b_convert, .fn = op_cbw, .extra = 2 },
	M(CWDE) = { .build = b_convert, .fn = op_cbw, .extra = 4 },
	M(CDQE) = { .build = b_convert, .fn = op_cbw, .extra = 8 },
	M(CWD) = { .build = b_convert, .fn = op_cwd, .extra = 2 },
	M(CDQ) = { .build = b_convert, .fn = op_cwd, .extra = 4 },
	M(CQO) = { .build = b_convert, .fn = op_cwd, .extra = 8 },
	M(CLC) = FLAGOP(FLAG_CF, 0),
	M(STC) = FLAGOP(FLAG_CF, 1),
	M(CMC) = FLAGOP(FLAG_CF, 2),
	M(CLD) = FLAGOP(FLAG_DF, 0),
	M(STD) = FLAGOP(FLAG_DF, 1),
	M(LAHF) = { .build = b_nop, .fn = op_lahf },
	M(SAHF) = { .build = b_nop, .fn = op_sahf },
	M(SALC) = { .build = b_nop, .fn = op_salc },
	M(XLAT) = { .build = b_xlat, .fn = op_xlat },
	M(PUSH) = { .build = b_push },
	M(POP) = { .build = b_pop },
	M(PUSHA) = PLAIN(op_pusha),
	M(PUSHAD) = PLAIN(op_pusha),
	M(POPA) = PLAIN(op_popa),
	M(POPAD) = PLAIN(op_popa),
	M(ENTER) = { .build = b_enter, .fn = op_enter },
	M(LEAVE) = PLAIN(op_leave),
	M(BOUND) = { .build = b_memory_last, .fn = op_bound },
	M(ARPL) = PLAIN(op_arpl),
	M(CLZERO) = { .build = b_clzero, .fn = op_clzero },
	M(NOP) = { .build = b_hint, .fn = op_nop },
	M(PAUSE) = { .build = b_pause, .arg = op_xchg_by_size },
	M(PREFETCH) = NOTHING,
	M(PREFETCHW) = NOTHING,
	M(PREFETCHNTA) = NOTHING,
	M(PREFETCHT0) = NOTHING,
	M(PREFETCHT1) = NOTHING,
	M(PREFETCHT2) = NOTHING,
	M(PREFETCHWT1) = NOTHING,
	M(ENDBR32) = NOTHING,
	M(ENDBR64) = NOTHING,

	/* strings */
	M(MOVSB) = STRING(op_movs_by_size, 1),
	M(MOVSW) = STRING(op_movs_by_size, 2),
	M(MOVSD) = { .build = b_string_or_sse, .arg = op_movs_by_size, .extra = 4 },
	M(MOVSQ) = STRING(op_movs_by_size, 8),
	M(CMPSB) = STRING(op_cmps_by_size, 1),
	M(CMPSW) = STRING(op_cmps_by_size, 2),
	M(CMPSD) = { .build = b_string_or_sse, .arg = op_cmps_by_size, .extra = 4 },
	M(CMPSQ) = STRING(op_cmps_by_size, 8),
	M(STOSB) = STRING(op_stos_by_size, 1),
	M(STOSW) = STRING(op_stos_by_size, 2),
	M(STOSD) = STRING(op_stos_by_size, 4),
	M(STOSQ) = STRING(op_stos_by_size, 8),
	M(LODSB) = STRING(op_lods_by_size, 1),
	M(LODSW) = STRING(op_lods_by_size, 2),
	M(LODSD) = STRING(op_lods_by_size, 4),
	M(LODSQ) = STRING(op_lods_by_size, 8),
	M(SCASB) = STRING(op_scas_by_size, 1),
	M(SCASW) = STRING(op_scas_by_size, 2),
	M(SCASD) = STRING(op_scas_by_size, 4),
	M(SCASQ) = STRING(op_scas_by_size, 8),
	M(INSB) = STRING(op_ins_by_size, 1),
	M(INSW) = STRING(op_ins_by_size, 2),
	M(INSD) = STRING(op_ins_by_size, 4),
	M(OUTSB) = STRING(op_outs_by_size, 1),
	M(OUTSW) = STRING(op_outs_by_size, 2),
	M(OUTSD) = STRING(op_outs_by_size, 4),

	/* control transfers */
	M(JB) = JCC,
	M(JBE) = JCC,
	M(JL) = JCC,
	M(JLE) = JCC,
	M(JNB) = JCC,
	M(JNBE) = JCC,
	M(JNL) = JCC,
	M(JNLE) = JCC,
	M(JNO) = JCC,
	M(JNP) = JCC,
	M(JNS) = JCC,
	M(JNZ) = JCC,
	M(JO) = JCC,
	M(JP) = JCC,
	M(JS) = JCC,
	M(JZ) = JCC,
	M(JCXZ) = { .build = b_branch, .fn = op_jcxz, .flags = END },
	M(JECXZ) = { .build = b_branch, .fn = op_jcxz, .flags = END },
	M(JRCXZ) = { .build = b_branch, .fn = op_jcxz, .flags = END },
	/* extra is biased by one: zero means "take it from the opcode" */
	M(LOOP) = { .build = b_branch, .fn = op_loop, .extra = 1, .flags = END },
	M(LOOPE) = { .build = b_branch, .fn = op_loop, .extra = 2, .flags = END },
	M(LOOPNE) = { .build = b_branch, .fn = op_loop, .extra = 3, .flags = END },
	M(JMP) = { .build = b_jmp_call, .flags = END },
	M(CALL) = { .build = b_jmp_call, .extra = 1, .flags = END },
	M(RET) = { .build = b_ret, .flags = END },
	M(IRET) = { .build = b_plain, .fn = op_iret, .flags = END },
	M(IRETD) = { .build = b_plain, .fn = op_iret, .flags = END },
	M(IRETQ) = { .build = b_plain, .fn = op_iret, .flags = END },
	M(INT) = { .build = b_int, .fn = op_int, .flags = END },
	M(INT3) = { .build = b_nop, .fn = op_int, .imm = X86_BP, .extra = 1, .flags = END },
	M(INTO) = { .build = b_nop, .fn = op_into, .flags = END },
	M(INT1) = { .build = b_nop, .fn = op_int1, .flags = END },
	M(SYSCALL) = PLAIN_END(op_syscall),
	M(SYSRET) = PLAIN_END(op_sysret),
	M(SYSENTER) = PLAIN_END(op_sysenter),
	M(SYSEXIT) = PLAIN_END(op_sysexit),

	/* system */
	M(IN) = { .build = b_in_out, .arg = op_in_by_size },
	M(OUT) = { .build = b_in_out, .arg = op_out_by_size, .extra = 1 },
	M(CLI) = PLAIN(op_cli),
	M(STI) = PLAIN_END(op_sti),
	M(HLT) = PLAIN_END(op_hlt),
	M(PUSHF) = PLAIN(op_pushf),
	M(PUSHFD) = PLAIN(op_pushf),
	M(PUSHFQ) = PLAIN(op_pushf),
	M(POPF) = PLAIN_END(op_popf),
	M(POPFD) = PLAIN_END(op_popf),
	M(POPFQ) = PLAIN_END(op_popf),
	M(STAC) = PLAIN_END(op_stac),
	M(CLAC) = PLAIN_END(op_clac),
	M(CLTS) = PLAIN_END(op_clts),
	M(LMSW) = SOURCE_END(op_lmsw),
	M(SMSW) = { .build = b_plain, .fn = op_smsw },
	M(CPUID) = PLAIN(op_cpuid),
	M(RDTSC) = PLAIN(op_rdtsc),
	M(RDTSCP) = PLAIN(op_rdtscp),
	M(RDPID) = PLAIN(op_rdpid),
	M(RDPMC) = PLAIN_END(op_rdpmc),
	M(RDMSR) = PLAIN(op_rdmsr),
	M(WRMSR) = PLAIN_END(op_wrmsr),
	M(XGETBV) = PLAIN(op_xgetbv),
	M(XSETBV) = PLAIN_END(op_xsetbv),
	M(INVLPG) = { .build = b_memory_last, .fn = op_invlpg, .flags = END },
	M(INVPCID) = { .build = b_memory_last, .fn = op_invpcid, .flags = END },
	M(INVD) = PLAIN(op_wbinvd),
	M(WBINVD) = PLAIN(op_wbinvd),
	M(SWAPGS) = PLAIN(op_swapgs),
	M(RDFSBASE) = { .build = b_sized_base, .fn = op_fsgsbase, .extra = 0 },
	M(RDGSBASE) = { .build = b_sized_base, .fn = op_fsgsbase, .extra = 1 },
	M(WRFSBASE) = { .build = b_sized_base, .fn = op_fsgsbase, .extra = 2 },
	M(WRGSBASE) = { .build = b_sized_base, .fn = op_fsgsbase, .extra = 3 },
	M(LDS) = FARLOAD(X86_DS),
	M(LES) = FARLOAD(X86_ES),
	M(LFS) = FARLOAD(X86_FS),
	M(LGS) = FARLOAD(X86_GS),
	M(LSS) = FARLOAD(X86_SS),
	M(SGDT) = { .build = b_table, .fn = op_sgdt },
	M(SIDT) = { .build = b_table, .fn = op_sidt },
	M(LGDT) = { .build = b_table, .fn = op_lgdt },
	M(LIDT) = { .build = b_table, .fn = op_lidt },
	M(SLDT) = PLAIN(op_sldt),
	M(STR) = PLAIN(op_str),
	M(LLDT) = SOURCE_END(op_lldt),
	M(LTR) = SOURCE_END(op_ltr),
	M(LAR) = PLAIN(op_lar),
	M(LSL) = PLAIN(op_lsl),
	M(VERR) = { .build = b_plain_source, .fn = op_verr },
	M(VERW) = { .build = b_plain_source, .fn = op_verw },
	M(CLFLUSH) = { .build = b_memory_last, .fn = op_clflush },
	M(CLFLUSHOPT) = { .build = b_memory_last, .fn = op_clflush },
	M(CLWB) = { .build = b_memory_last, .fn = op_clflush },
	M(MFENCE) = { .build = b_nop, .fn = op_fence },
	M(LFENCE) = { .build = b_nop, .fn = op_fence },
	M(SFENCE) = { .build = b_nop, .fn = op_fence },
	M(SERIALIZE) = { .build = b_serialize, .fn = op_fence, .flags = END },
	M(VMCALL) = PLAIN(op_hypercall),
	M(VMMCALL) = PLAIN(op_hypercall),
	M(UD0) = UNDEFINED,
	M(UD1) = UNDEFINED,
	M(UD2) = UNDEFINED,
	M(RSM) = UNDEFINED,
	M(MONITOR) = UNDEFINED,
	M(MWAIT) = UNDEFINED,
	M(MONITORX) = UNDEFINED,
	M(MWAITX) = UNDEFINED,
	M(GETSEC) = UNDEFINED,
	M(VMLAUNCH) = UNDEFINED,
	M(VMRESUME) = UNDEFINED,
	M(VMXOFF) = UNDEFINED,
	M(VMXON) = UNDEFINED,
	M(VMPTRLD) = UNDEFINED,
	M(VMPTRST) = UNDEFINED,
	M(VMCLEAR) = UNDEFINED,
	M(VMREAD) = UNDEFINED,
	M(VMWRITE) = UNDEFINED,
	M(VMFUNC) = UNDEFINED,
	M(VMRUN) = UNDEFINED,
	M(VMLOAD) = UNDEFINED,
	M(VMSAVE) = UNDEFINED,
	M(STGI) = UNDEFINED,
	M(CLGI) = UNDEFINED,
	M(SKINIT) = UNDEFINED,
	M(INVLPGA) = UNDEFINED,
	M(INVEPT) = UNDEFINED,
	M(INVVPID) = UNDEFINED,
	M(XBEGIN) = UNDEFINED,
	M(XEND) = UNDEFINED,
	M(XABORT) = UNDEFINED,
	M(XTEST) = UNDEFINED,
	M(ENCLS) = UNDEFINED,
	M(ENCLU) = UNDEFINED,
	M(ENCLV) = UNDEFINED,
	M(RDPKRU) = UNDEFINED,
	/* Processors without user interrupts take these for instructions without F3, RDPKRU and
	 * WRPKRU among them. */
	M(CLUI) = UNDEFINED,
	M(STUI) = UNDEFINED,
	M(TESTUI) = UNDEFINED,
	M(UIRET) = UNDEFINED,
	M(SENDUIPI) = UNDEFINED,
	M(WRPKRU) = UNDEFINED,
	M(PTWRITE) = UNDEFINED,
	M(PCONFIG) = UNDEFINED,
	M(UMONITOR) = UNDEFINED,
	M(UMWAIT) = UNDEFINED,
	M(TPAUSE) = UNDEFINED,
	M(ENQCMD) = UNDEFINED,
	M(ENQCMDS) = UNDEFINED,
	M(MOVDIR64B) = UNDEFINED,
	M(INVLPGB) = UNDEFINED,
	M(TLBSYNC) = UNDEFINED,
	M(RDPRU) = UNDEFINED,
	M(MCOMMIT) = UNDEFINED,
	M(PVALIDATE) = UNDEFINED,
	M(RMPADJUST) = UNDEFINED,
	M(RMPUPDATE) = UNDEFINED,
	M(FEMMS) = UNDEFINED,

	/* FPU state */
	M(FXSAVE) = { .build = b_memory_last, .fn = op_fxsave },
	M(FXSAVE64) = { .build = b_memory_last, .fn = op_fxsave },
	M(FXRSTOR) = { .build = b_memory_last, .fn = op_fxrstor },
	M(FXRSTOR64) = { .build = b_memory_last, .fn = op_fxrstor },
	M(XSAVE) = XSAVE(X86_XSAVE),
	M(XSAVE64) = XSAVE(X86_XSAVE),
	M(XSAVEOPT) = XSAVE(X86_XSAVEOPT),
	M(XSAVEOPT64) = XSAVE(X86_XSAVEOPT),
	M(XSAVEC) = XSAVE(X86_XSAVEC),
	M(XSAVEC64) = XSAVE(X86_XSAVEC),
	M(XSAVES) = XSAVE(X86_XSAVES),
	M(XSAVES64) = XSAVE(X86_XSAVES),
	M(XRSTOR) = XRSTOR(0),
	M(XRSTOR64) = XRSTOR(0),
	M(XRSTORS) = XRSTOR(1),
	M(XRSTORS64) = XRSTOR(1),
	M(FNSTENV) = { .build = b_memory_last, .fn = op_fnstenv },
	M(FLDENV) = { .build = b_memory_last, .fn = op_fldenv },
	M(FNSAVE) = { .build = b_memory_last, .fn = op_fnsave },
	M(FRSTOR) = { .build = b_memory_last, .fn = op_frstor },

	/* vectors that cannot run as themselves */
	M(VZEROUPPER) = { .build = b_nop, .fn = op_vzeroupper },
	M(VZEROALL) = { .build = b_nop, .fn = op_vzeroall },
	M(MASKMOVQ) = { .build = b_maskmov, .fn = op_maskmov },
	M(MASKMOVDQU) = { .build = b_maskmov, .fn = op_maskmov },
	M(VMASKMOVDQU) = { .build = b_maskmov, .fn = op_maskmov },
	M(VPGATHERDD) = VSIB(op_gather, 4, 4),
	M(VPGATHERDQ) = VSIB(op_gather, 8, 4),
	M(VPGATHERQD) = VSIB(op_gather, 4, 8),
	M(VPGATHERQQ) = VSIB(op_gather, 8, 8),
	M(VGATHERDPS) = VSIB(op_gather, 4, 4),
	M(VGATHERDPD) = VSIB(op_gather, 8, 4),
	M(VGATHERQPS) = VSIB(op_gather, 4, 8),
	M(VGATHERQPD) = VSIB(op_gather, 8, 8),
	M(VPSCATTERDD) = VSIB(op_scatter, 4, 4),
	M(VPSCATTERDQ) = VSIB(op_scatter, 8, 4),
	M(VPSCATTERQD) = VSIB(op_scatter, 4, 8),
	M(VPSCATTERQQ) = VSIB(op_scatter, 8, 8),
	M(VSCATTERDPS) = VSIB(op_scatter, 4, 4),
	M(VSCATTERDPD) = VSIB(op_scatter, 8, 4),
	M(VSCATTERQPS) = VSIB(op_scatter, 4, 8),
	M(VSCATTERQPD) = VSIB(op_scatter, 8, 8),
};

const struct rule *rule_of(const ZydisDecodedInstruction *insn)
{
	const struct rule *r = &rules[insn->mnemonic];

	return r->build ? r : &native_rule;
}
