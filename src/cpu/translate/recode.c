/* See recode.h. Encodings: SDM 2, 2.1 (legacy and REX), 2.3 (VEX), 2.7 (EVEX). */
#include "cpu/translate/recode.h"

/* The fields of an instruction that name registers. */
struct fields {
	unsigned reg, rm, vvvv, opreg; /* with their extension bits */
	bool has_rm_reg, has_opreg, has_vvvv_gpr, has_reg_gpr;
	bool bytes_need_rex; /* SPL, BPL, SIL or DIL */
	bool high;	     /* AH, CH, DH or BH: REX is impossible */
};

static bool is_high(ZydisRegister r) { return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH; }

/* False: a register has no place, or sits in a field that is not known here. */
static bool find_fields(const struct build *d, const struct places *p, struct fields *f)
{
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !recode_is_gpr(o->reg.value) ||
			o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			continue;
		unsigned host;
		if (is_high(o->reg.value)) {
			f->high = true;
			host = 4u + (unsigned)(o->reg.value - ZYDIS_REGISTER_AH);
		} else {
			host = p->host[recode_gpr_id(o->reg.value)];
			if (host == ASM_NONE)
				return false;
			f->bytes_need_rex |=
				ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR8 &&
				host >= 4 && host < 8;
		}
		switch (o->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG:
			f->reg = host;
			f->has_reg_gpr = true;
			break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM:
			f->rm = host;
			f->has_rm_reg = true;
			break;
		case ZYDIS_OPERAND_ENCODING_OPCODE:
			f->opreg = host;
			f->has_opreg = true;
			break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD:
			f->vvvv = host;
			f->has_vvvv_gpr = true;
			break;
		case ZYDIS_OPERAND_ENCODING_NONE: /* AL, AX, EAX, RAX or CL of the opcode */
			if (o->reg.value != ZYDIS_REGISTER_CL &&
				host != recode_gpr_id(o->reg.value))
				return false;
			break;
		default: return false;
		}
	}
	return true;
}

static bool has_modrm(const struct build *d) { return d->insn.attributes & ZYDIS_ATTRIB_HAS_MODRM; }

/* What follows ModRM, SIB and displacement: immediates. */
static unsigned tail_at(const struct build *d)
{
	const ZydisDecodedInstruction *i = &d->insn;

	if (i->raw.disp.size)
		return i->raw.disp.offset + i->raw.disp.size / 8u;
	return (i->raw.sib.offset ? i->raw.sib.offset : i->raw.modrm.offset) + 1u;
}

static void put_modrm(struct asm_buf *a, const struct build *d, const u8 *bytes,
	const struct fields *f, const struct host_operand *mem, bool scaled8)
{
	unsigned tail = tail_at(d);

	if (mem)
		asm_modrm(a, f->reg, mem, scaled8);
	else
		asm_u8(a, (u8)(0xc0 | (f->reg & 7) << 3 | (f->rm & 7)));
	asm_bytes(a, bytes + tail, d->insn.length - tail);
}

/* INC and DEC in one byte, which 64-bit code has for REX (SDM 2, 2.2.1.2). */
bool recode_needed(const struct build *d)
{
	return d->bits != 64 && d->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
	       d->insn.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (d->insn.opcode & 0xf0) == 0x40;
}

static bool put_legacy(struct asm_buf *a, const struct build *d, const u8 *bytes, struct fields *f,
	const struct host_operand *mem)
{
	const ZydisDecodedInstruction *i = &d->insn;
	bool old_rex = i->attributes & ZYDIS_ATTRIB_HAS_REX, modrm = has_modrm(d);
	bool moffs = mem && !modrm; /* MOV between the accumulator and [imm64]: SDM 2, MOV, A0-A3 */
	u8 rex = (u8)(old_rex ? i->raw.rex.W << 3 : 0);

	if (moffs && (i->opcode < 0xa0 || i->opcode > 0xa3))
		return false;
	if (modrm && !f->has_reg_gpr)
		f->reg = i->raw.modrm.reg | (old_rex ? i->raw.rex.R << 3u : 0);
	if (modrm && !mem && !f->has_rm_reg)
		f->rm = i->raw.modrm.rm | (old_rex ? i->raw.rex.B << 3u : 0);
	if (modrm && f->reg >= 8)
		rex |= 4;
	if (mem)
		rex |= asm_rex_xb(mem);
	else if ((modrm && f->rm >= 8) || (f->has_opreg && f->opreg >= 8))
		rex |= 1;
	if (rex || f->bytes_need_rex)
		rex |= 0x40;
	if (rex && f->high)
		return false;

	unsigned at = 0;
	for (; at < i->raw.prefix_count; at++) {
		u8 v = i->raw.prefixes[at].value;

		if (v == 0x66 || v == 0xf0 || v == 0xf2 || v == 0xf3)
			asm_u8(a, v);
	}
	if (rex)
		asm_u8(a, rex);
	if (modrm) {
		asm_bytes(a, bytes + at, i->raw.modrm.offset - at);
		put_modrm(a, d, bytes, f, mem, false);
	} else if (moffs) {
		asm_u8(a, (u8)(i->opcode < 0xa2 ? 0x8a + (i->opcode & 1) : 0x88 + (i->opcode & 1)));
		asm_modrm(a, 0, mem, false);
	} else if (recode_needed(d)) {
		asm_u8(a, 0xff); /* /0: INC, /1: DEC */
		asm_u8(a, (u8)(0xc0 | (i->opcode & 8) | (f->opreg & 7)));
	} else {
		unsigned opcode = at + (i->opcode_map == ZYDIS_OPCODE_MAP_0F);

		asm_bytes(a, bytes + at, opcode - at);
		asm_u8(a,
			f->has_opreg ? (u8)((bytes[opcode] & ~7) | (f->opreg & 7)) : bytes[opcode]);
		asm_bytes(a, bytes + opcode + 1, i->length - opcode - 1u);
	}
	return true;
}

/* The inverted extension bits R, X and B of VEX and EVEX, as they are in the byte. */
static u8 inverted_rxb(
	u8 old, const struct build *d, const struct fields *f, const struct host_operand *mem)
{
	u8 bits = old & 0xe0;

	if (f->has_reg_gpr)
		bits = (u8)((bits & ~0x80) | (f->reg < 8 ? 0x80 : 0));
	if (mem)
		bits = (u8)((bits & 0x80) | (~asm_rex_xb(mem) & 3) << 5);
	else if (f->has_rm_reg)
		bits = (u8)((bits & 0x80) | 0x40 | (f->rm < 8 ? 0x20 : 0));
	return bits;
}

static bool put_vex(struct asm_buf *a, const struct build *d, const u8 *bytes, struct fields *f,
	const struct host_operand *mem)
{
	const ZydisDecodedInstruction *i = &d->insn;
	const u8 *vex = bytes + i->raw.vex.offset;
	bool two = i->raw.vex.size == 2;
	/* The two-byte form says R, vvvv, L and pp; the rest is X = B = W = 0 and map 1. */
	u8 first = two ? (u8)((vex[1] & 0x80) | 0x61) : vex[1];
	u8 second = two ? (u8)(vex[1] & 0x7f) : vex[2];

	if (!has_modrm(d))
		return false;
	first = (u8)(inverted_rxb(first, d, f, mem) | (first & 0x1f));
	if (f->has_vvvv_gpr)
		second = (u8)((second & 0x87) | (~f->vvvv & 15) << 3);
	if (!f->has_reg_gpr)
		f->reg = i->raw.modrm.reg;
	if (!f->has_rm_reg)
		f->rm = i->raw.modrm.rm;
	if ((first & 0x7f) == 0x61 && !(second & 0x80)) {
		asm_u8(a, 0xc5);
		asm_u8(a, (u8)((first & 0x80) | (second & 0x7f)));
	} else {
		asm_u8(a, 0xc4);
		asm_u8(a, first);
		asm_u8(a, second);
	}
	asm_u8(a, bytes[i->raw.modrm.offset - 1]);
	put_modrm(a, d, bytes, f, mem, false);
	return true;
}

static bool put_evex(struct asm_buf *a, const struct build *d, const u8 *bytes, struct fields *f,
	const struct host_operand *mem)
{
	const ZydisDecodedInstruction *i = &d->insn;
	const u8 *evex = bytes + i->raw.evex.offset;
	u8 second = evex[2];

	if (f->has_vvvv_gpr)
		return false; /* nothing has it */
	if (!f->has_reg_gpr)
		f->reg = i->raw.modrm.reg;
	if (!f->has_rm_reg)
		f->rm = i->raw.modrm.rm;
	asm_u8(a, 0x62);
	asm_u8(a, (u8)(inverted_rxb(evex[1], d, f, mem) | (evex[1] & 0x1f)));
	asm_u8(a, second);
	asm_u8(a, evex[3]);
	asm_u8(a, bytes[i->raw.modrm.offset - 1]);
	put_modrm(a, d, bytes, f, mem, true);
	return true;
}

bool recode(struct asm_buf *a, const struct build *d, const u8 *bytes, const struct places *p,
	const struct host_operand *mem)
{
	struct fields f = { 0 };
	u8 *mark = a->at;
	bool ok = false;

	if (find_fields(d, p, &f)) {
		switch (d->insn.encoding) {
		case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
			ok = put_legacy(a, d, bytes, &f, mem);
			break;
		case ZYDIS_INSTRUCTION_ENCODING_VEX: ok = put_vex(a, d, bytes, &f, mem); break;
		case ZYDIS_INSTRUCTION_ENCODING_EVEX: ok = put_evex(a, d, bytes, &f, mem); break;
		default: break;
		}
	}
	if (!ok)
		a->at = mark;
	return ok;
}
