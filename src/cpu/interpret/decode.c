#include "cpu/interpret/decode.h"
#include "base/log.h"
#include "cpu/interpret/system.h"
#include "x86/cpuid.h"
#include <pthread.h>
#include <stdio.h>

/* ---- decoders, one per code width and vendor ---- */

static ZydisDecoder decoders[3][2];
static pthread_once_t decoders_once = PTHREAD_ONCE_INIT;

static void decoders_init(void)
{
	static const struct {
		ZydisMachineMode mode;
		ZydisStackWidth stack;
	} kinds[3] = {
		{ ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
		{ ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		{ ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
	};

	for (unsigned i = 0; i < 3; i++) {
		for (unsigned amd = 0; amd < 2; amd++) {
			ZydisDecoder *d = &decoders[i][amd];

			ZydisDecoderInit(d, kinds[i].mode, kinds[i].stack);
			/* Features the CPU model hides decode as the NOPs they were carved from. */
			ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
			ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
			ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
			/* With an operand-size prefix AMD's near branches are 16 bits wide in
			 * 64-bit code. */
			ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, (ZyanBool)amd);
		}
	}
}

static const ZydisDecoder *decoder_for(unsigned bits, bool amd)
{
	pthread_once(&decoders_once, decoders_init);
	return &decoders[bits == 64 ? 2 : bits == 32 ? 1 : 0][amd];
}

/* ---- operands ---- */

bool operand_is_reg(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_REGISTER; }
bool operand_is_mem(const ZydisDecodedOperand *o) { return o->type == ZYDIS_OPERAND_TYPE_MEMORY; }

u8 operand_offset(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
		return (u8)(8 * (r - ZYDIS_REGISTER_AH) + 1);
	if (gpr_number(r) != REG_NONE)
		return (u8)(8 * gpr_number(r));
	return (u8)(8 * ZydisRegisterGetId(
				ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r)));
}

static u8 address_register(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE)
		return REG_NONE;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return BASE_RIP;
	return (u8)gpr_number(r);
}

void build_memory(struct build *b, const ZydisDecodedOperand *o)
{
	struct op *op = b->op;

	op->base = address_register(o->mem.base);
	bool vector_index = o->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	op->index = vector_index ? REG_NONE : address_register(o->mem.index);
	op->shift = (u8)(o->mem.scale ? __builtin_ctz(o->mem.scale) : 0);
	op->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
	if (op->base == BASE_RIP)
		op->disp += b->insn.length;
	op->seg = (u8)(o->mem.segment - ZYDIS_REGISTER_ES);
	/* SIB "no base, disp32" with REX.B and 32-bit addresses is R13D without displacement to
	 * Zydis 4.0. */
	if ((b->insn.attributes & ZYDIS_ATTRIB_HAS_SIB) && b->insn.raw.modrm.mod == 0 &&
		b->insn.raw.sib.base == 5) {
		op->base = REG_NONE;
		op->disp = b->insn.raw.disp.value;
	}
}

void build_operands(struct build *b)
{
	struct op *op = b->op;
	const ZydisDecodedOperand *o = b->o;

	for (unsigned i = 0; i < 2 && i < b->insn.operand_count_visible; i++) {
		if (operand_is_mem(&o[i])) {
			build_memory(b, &o[i]);
			op->flags |= i ? OPF_SRC_MEM : OPF_DST_MEM;
		} else if (o[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			op->imm = o[i].imm.value.u;
		} else if (operand_is_reg(&o[i])) {
			u8 off = operand_offset(o[i].reg.value);

			if (i)
				op->src = off;
			else
				op->dst = off;
		}
	}
	if (b->insn.operand_count_visible)
		op->size = (u8)(o[0].size / 8);
}

/* ---- one instruction ---- */

enum decode_result decode_full(struct interp *c, const u8 *bytes, unsigned len, unsigned bits,
	struct op *op, struct build *b)
{
	ZyanStatus st = ZydisDecoderDecodeFull(
		decoder_for(bits, c->v->x86.model->amd), bytes, len, &b->insn, b->o);

	*op = (struct op){
		.exec = op_ud, .length = 1, .base = REG_NONE, .index = REG_NONE, .flags = OPF_END
	};
	if (st == ZYDIS_STATUS_NO_MORE_DATA)
		return len >= 15 ? DECODE_TOO_LONG : DECODE_TRUNCATED;
	if (st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG)
		return DECODE_TOO_LONG;
	if (ZYAN_FAILED(st))
		return DECODE_UD;

	b->c = c;
	b->op = op;
	b->bits = bits;
	b->full = false;
	b->rule = rule_of(&b->insn);
	op->length = b->insn.length;
	op->flags = b->rule->flags;
	op->extra = b->rule->extra;
	op->imm = b->rule->imm;
	op->exec = b->rule->fn;
	op->asize = (u8)(b->insn.address_width / 8);
	op->seg = X86_DS;
	if (bits == 64)
		op->flags |= OPF_CODE64;
	if (b->insn.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		op->flags |= OPF_LOCK;
	if (b->insn.raw.rex.W)
		op->flags |= OPF_REX_W;
	if (!b->rule->build(b)) {
		if (b->full)
			return DECODE_FULL;
		*op = (struct op){ .exec = op_ud,
			.length = 1,
			.base = REG_NONE,
			.index = REG_NONE,
			.flags = OPF_END };
		return DECODE_UD;
	}
	return DECODE_OK;
}

enum decode_result decode(
	struct interp *c, const u8 *bytes, unsigned len, unsigned bits, struct op *op)
{
	struct build b UNINITIALIZED;

	return decode_full(c, bytes, len, bits, op, &b);
}

void decode_text(const u8 *bytes, unsigned len, unsigned bits, u64 rip, char *text, size_t size)
{
	ZydisFormatter f;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(decoder_for(bits, false), bytes, len, &insn, o)) ||
		ZYAN_FAILED(ZydisFormatterFormatInstruction(
			&f, &insn, o, insn.operand_count_visible, text, size, rip, NULL)))
		snprintf(text, size, "(bad)");
}
