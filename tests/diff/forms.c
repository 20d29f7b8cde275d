/*
 * Every instruction form: each opcode of each map with each mandatory prefix, W, vector length and
 * operand kind is offered to the decoder, and what it accepts is a form. What differs only in
 * register numbers, scale, displacement or immediates is one form; these fields are filled at
 * random when it is encoded.
 *
 * ModRM.reg and, for register operands, ModRM.rm select the instruction in some opcodes: they are
 * fixed where the mnemonic depends on them.
 */
#include "diff.h"
#include <pthread.h>
#include <stdlib.h>

#define FORMS_MAX 65536u

/* ---- the decoder ---- */

static ZydisDecoder decoders[2];

static void decoders_init(void)
{
	bool amd = __builtin_cpu_is("amd");

	for (unsigned i = 0; i < 2; i++) {
		ZydisDecoder *d = &decoders[i];

		ZydisDecoderInit(d,
			i ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
			i ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
		ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_AMD_BRANCHES, (ZyanBool)amd);
	}
}

ZyanStatus decode_status(unsigned bits, const u8 *code, unsigned len, ZydisDecodedInstruction *insn,
	ZydisDecodedOperand *operands)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, decoders_init);
	return ZydisDecoderDecodeFull(&decoders[bits == 64], code, len, insn, operands);
}

bool decode_one(unsigned bits, const u8 *code, unsigned len, ZydisDecodedInstruction *insn,
	ZydisDecodedOperand *operands)
{
	if (ZYAN_FAILED(decode_status(bits, code, len, insn, operands)))
		return false;
	/* Zydis 4.0 takes "no base" for R13D when REX.B is set and addresses have 32 bits. */
	for (unsigned i = 0; i < insn->operand_count; i++) {
		ZydisDecodedOperand *o = &operands[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY ||
			o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
			!(insn->attributes & ZYDIS_ATTRIB_HAS_SIB) || insn->raw.modrm.mod ||
			insn->raw.sib.base != 5)
			continue;
		o->mem.base = ZYDIS_REGISTER_NONE;
		o->mem.disp.has_displacement = ZYAN_TRUE;
		o->mem.disp.value = insn->raw.disp.value;
	}
	return true;
}

/* ---- encoding ---- */

static const u8 prefix_of[4] = { 0, 0x66, 0xf3, 0xf2 };

struct fields {
	u8 rex;	 /* R, X, B as bits 2, 1, 0; EVEX.R' as bit 4, V' as bit 3 */
	u8 vvvv; /* the register's number */
	u8 aaa;
	bool z;
	u8 modrm;
};

static unsigned put_legacy(
	const struct form *f, unsigned bits, const struct fields *x, bool rex, u8 *out)
{
	unsigned n = 0;

	if (f->pp)
		out[n++] = prefix_of[f->pp];
	if (bits == 64 && (f->w || rex))
		out[n++] = (u8)(0x40 | f->w << 3 | (x->rex & 7));
	if (f->map)
		out[n++] = 0x0f;
	if (f->map >= 2)
		out[n++] = f->map == 2 ? 0x38 : 0x3a;
	out[n++] = f->opcode;
	return n;
}

/* SDM 2 2.3.5; R, X, B and vvvv are stored inverted. */
static unsigned put_vex(const struct form *f, const struct fields *x, u8 *out)
{
	out[0] = 0xc4;
	out[1] = (u8)((~x->rex & 7) << 5 | f->map);
	out[2] = (u8)(f->w << 7 | (~x->vvvv & 15) << 3 | (f->l & 1) << 2 | f->pp);
	out[3] = f->opcode;
	return 4;
}

/* SDM 2 2.7.1 */
static unsigned put_evex(const struct form *f, const struct fields *x, u8 *out)
{
	out[0] = 0x62;
	out[1] = (u8)((~x->rex & 7) << 5 | !(x->rex & 16) << 4 | f->map);
	out[2] = (u8)(f->w << 7 | (~x->vvvv & 15) << 3 | 4 | f->pp);
	out[3] = (u8)(x->z << 7 | f->l << 5 | f->b << 4 | !(x->rex & 8) << 3 | x->aaa);
	out[4] = f->opcode;
	return 5;
}

static unsigned put(const struct form *f, unsigned bits, const struct fields *x, bool rex, u8 *out)
{
	unsigned n = f->kind == FORM_LEGACY ? put_legacy(f, bits, x, rex, out)
		     : f->kind == FORM_VEX  ? put_vex(f, x, out)
					    : put_evex(f, x, out);

	if (f->modrm)
		out[n++] = x->modrm;
	return n;
}

static unsigned put_stray_prefixes(const struct form *f, struct rng *r, u8 *out)
{
	static const u8 segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x64, 0x65 };
	static const u8 repeats[] = { 0xf2, 0xf3, 0x66 };
	unsigned n = 0;

	if (rng_one_in(r, 12))
		out[n++] = segments[rng_below(r, ARRAY_LEN(segments))];
	if (rng_one_in(r, 16))
		out[n++] = 0x67;
	if (f->kind != FORM_LEGACY)
		return n;
	if (rng_one_in(r, f->memory ? 8 : 64))
		out[n++] = 0xf0;
	if (rng_one_in(r, 32))
		out[n++] = repeats[rng_below(r, ARRAY_LEN(repeats))];
	return n;
}

static struct fields random_fields(const struct form *f, unsigned bits, struct rng *r, bool near)
{
	u8 reg = f->reg != FORM_ANY ? f->reg : (u8)rng_below(r, 8);
	u8 rm = f->rm != FORM_ANY ? f->rm : (u8)rng_below(r, 8);
	u8 mod = !f->memory ? 3 : near ? 0 : (u8)rng_below(r, 3);
	struct fields x = { .rex = (u8)rng_below(r, 32),
		.vvvv = f->vvvv ? (u8)rng_below(r, 16) : 0 };

	if (f->memory && near)
		rm = 5;
	if (f->vsib)
		rm = 4;
	if (f->rm != FORM_ANY)
		x.rex &= 0x1e; /* B would name another register */
	if (bits != 64)
		x.rex = 0, x.vvvv &= 7;
	if (f->kind == FORM_EVEX && !f->vvvv)
		x.rex &= (u8)~8;
	if (f->mask == MASK_ALWAYS || (f->mask == MASK_OPTIONAL && rng_one_in(r, 2)))
		x.aaa = (u8)(1 + rng_below(r, 7));
	x.z = f->zeroing && x.aaa && rng_one_in(r, 2);
	x.modrm = (u8)(mod << 6 | reg << 3 | rm);
	return x;
}

unsigned form_encode(const struct form *f, unsigned bits, struct rng *r, bool near, u8 out[40])
{
	struct fields x = random_fields(f, bits, r, near);
	struct form variant = *f;

	/* with a register operand EVEX.b means rounding, and L'L its mode */
	if (f->kind == FORM_EVEX && f->b && !f->memory)
		variant.l = (u8)rng_below(r, 4);
	unsigned n = put_stray_prefixes(f, r, out);
	n += put(&variant, bits, &x, rng_one_in(r, 2), out + n);
	for (unsigned i = 0; i < 2; i++, n += 8) {
		u64 v = rng_one_in(r, 3) ? rng_next(r) : rng_value(r);

		memcpy(out + n, &v, 8);
	}
	return n;
}

/* ---- enumeration ---- */

struct collector {
	struct forms *f;
	unsigned bits;
	u64 seen[64]; /* signatures of the present opcode */
	unsigned seen_count;
};

struct probe {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
};

static bool try_form(
	const struct collector *c, const struct form *f, const struct fields *x, struct probe *p)
{
	u8 code[40] = { 0 };

	put(f, c->bits, x, false, code);
	return decode_one(c->bits, code, 15, &p->insn, p->o);
}

/* What makes two forms different: the mnemonic and the kinds and sizes of the operands. */
static u64 signature(const struct form *f, const struct probe *p)
{
	u64 h = p->insn.mnemonic;

	for (unsigned i = 0; i < p->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &p->o[i];
		u64 class = o->type == ZYDIS_OPERAND_TYPE_REGISTER
				    ? ZydisRegisterGetClass(o->reg.value)
				    : 0;

		h = h * 1000003 + o->type * 64u + class;
		h = h * 1000003 + o->size;
	}
	h = h * 1000003 + (p->insn.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
							ZYDIS_ATTRIB_HAS_REPNE));
	return ((h * 8 + f->kind) * 2 + f->b) * 2 + f->w;
}

static void add(struct collector *c, struct form *f, const struct probe *p, u8 reg, u8 rm)
{
	u64 s = (signature(f, p) * 257 + reg) * 257 + rm;

	for (unsigned i = 0; i < c->seen_count; i++)
		if (c->seen[i] == s)
			return;
	if (c->seen_count < ARRAY_LEN(c->seen))
		c->seen[c->seen_count++] = s;
	if (c->f->count == FORMS_MAX)
		return;
	struct form *to = &c->f->list[c->f->count++];
	*to = *f;
	to->mnemonic = (u16)p->insn.mnemonic;
	to->reg = reg;
	to->rm = rm;
	to->modrm = p->insn.attributes & ZYDIS_ATTRIB_HAS_MODRM;
}

/* VEX.vvvv, EVEX.aaa and z: which values does the decoder take? Needs a probe that already
 * succeeded or may with a mask (gathers and scatters). */
static bool explore(struct collector *c, struct form *f, struct fields *x, struct probe *p)
{
	struct probe other;

	f->mask = MASK_NEVER;
	x->vvvv = 0;
	x->aaa = 0;
	if (!try_form(c, f, x, p)) {
		x->aaa = 1;
		if (f->kind != FORM_EVEX || !try_form(c, f, x, p))
			return false;
		f->mask = MASK_ALWAYS;
	}
	if (f->kind == FORM_LEGACY)
		return true;
	struct fields y = *x;
	y.vvvv = 6;
	f->vvvv = try_form(c, f, &y, &other) && other.insn.mnemonic == p->insn.mnemonic;
	if (f->kind == FORM_EVEX) {
		y = *x;
		y.aaa = 1;
		if (f->mask == MASK_NEVER && try_form(c, f, &y, &other))
			f->mask = MASK_OPTIONAL;
		y.z = true;
		f->zeroing = f->mask && try_form(c, f, &y, &other);
	}
	return true;
}

static bool rm_selects(const struct form *f)
{
	return f->kind == FORM_LEGACY && !f->memory &&
	       ((f->map == 0 && (f->opcode & 0xf8) == 0xd8) ||
		       (f->map == 1 && (f->opcode == 0x01 || f->opcode == 0xae)));
}

static void probe_rm(struct collector *c, struct form *f, u8 reg, u8 shown_reg)
{
	unsigned last = rm_selects(f) ? 7 : 0;

	for (u8 rm = 0; rm <= last; rm++) {
		struct fields x = { .modrm = (u8)((f->memory ? 0 : 3) << 6 | reg << 3 |
						  (f->memory ? 3 : rm)) };
		struct probe p;

		if (explore(c, f, &x, &p))
			add(c, f, &p, shown_reg, last ? rm : FORM_ANY);
	}
}

/* Is the mnemonic the same for every ModRM.reg? */
static bool reg_is_free(struct collector *c, struct form *f)
{
	int first = -1;

	for (u8 reg = 0; reg < 8; reg++) {
		struct fields x = { .modrm = (u8)((f->memory ? 0 : 3) << 6 | reg << 3 | 3) };
		struct probe p;
		int m = explore(c, f, &x, &p) ? (int)p.insn.mnemonic : -2;

		if (reg == 0)
			first = m;
		else if (m != first)
			return false;
	}
	return true;
}

/* Gathers and scatters: they want a SIB byte, a mask, and registers that differ. */
static void probe_vsib(struct collector *c, struct form *f)
{
	struct fields x = {
		.modrm = 2 << 3 | 4,
		.vvvv = f->kind == FORM_VEX ? 5 : 0,
		.aaa = f->kind == FORM_EVEX,
	};
	struct probe p;

	f->vsib = true;
	f->vvvv = f->kind == FORM_VEX;
	f->mask = f->kind == FORM_EVEX ? MASK_ALWAYS : MASK_NEVER;
	f->zeroing = false;
	if (!try_form(c, f, &x, &p))
		return;
	for (unsigned i = 0; i < p.insn.operand_count_visible; i++)
		if (p.o[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			p.o[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			add(c, f, &p, FORM_ANY, FORM_ANY);
}

static void probe_modrm(struct collector *c, struct form f)
{
	f.modrm = true;
	for (unsigned memory = 0; memory < 2; memory++) {
		f.memory = memory;
		if (reg_is_free(c, &f)) {
			probe_rm(c, &f, 0, FORM_ANY);
			continue;
		}
		for (u8 reg = 0; reg < 8; reg++)
			probe_rm(c, &f, reg, reg);
	}
	if (f.kind != FORM_LEGACY)
		probe_vsib(c, &f);
}

/* Bytes that are prefixes or escapes are no opcodes. */
static bool is_escape(const struct form *f, unsigned bits)
{
	static const u8 always[] = { 0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0,
		0xf2, 0xf3 };

	if (f->kind != FORM_LEGACY)
		return false;
	if (f->map == 1)
		return f->opcode == 0x38 || f->opcode == 0x3a || f->opcode == 0x0f;
	if (f->map > 1)
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(always); i++)
		if (f->opcode == always[i])
			return true;
	return bits == 64 && (f->opcode & 0xf0) == 0x40;
}

static void probe_opcode(struct collector *c, struct form f)
{
	unsigned lengths = f.kind == FORM_LEGACY ? 1 : f.kind == FORM_VEX ? 2 : 3;
	bool w_exists = c->bits == 64 || f.kind != FORM_LEGACY;

	if (is_escape(&f, c->bits))
		return;
	c->seen_count = 0;
	for (f.pp = 0; f.pp < 4; f.pp++)
		for (unsigned w = 0; w < (w_exists ? 2u : 1u); w++)
			for (f.l = 0; f.l < lengths; f.l++)
				for (unsigned b = 0; b < (f.kind == FORM_EVEX ? 2u : 1u); b++) {
					f.w = w;
					f.b = b;
					probe_modrm(c, f);
				}
}

static int by_mnemonic(const void *a, const void *b)
{
	const struct form *x = a, *y = b;

	return (int)x->mnemonic - (int)y->mnemonic;
}

static void index_mnemonics(struct forms *f)
{
	qsort(f->list, f->count, sizeof(*f->list), by_mnemonic);
	unsigned at = 0;
	for (unsigned m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		f->first[m] = at;
		while (at < f->count && f->list[at].mnemonic == m)
			at++;
		if (at > f->first[m] && !rules_excluded((ZydisMnemonic)m))
			f->present[f->present_count++] = (u16)m;
	}
	f->first[ZYDIS_MNEMONIC_MAX_VALUE + 1] = at;
}

struct forms *forms_new(unsigned bits)
{
	struct forms *f = calloc(1, sizeof(*f));
	struct collector c = { .f = f, .bits = bits };

	if (!f)
		return NULL;
	f->list = calloc(FORMS_MAX, sizeof(*f->list));
	f->hits = calloc(FORMS_MAX, sizeof(*f->hits));
	if (!f->list || !f->hits) {
		forms_free(f);
		return NULL;
	}
	for (u8 kind = FORM_LEGACY; kind <= FORM_EVEX; kind++)
		for (u8 map = kind == FORM_LEGACY ? 0 : 1; map <= 3; map++)
			for (unsigned opcode = 0; opcode < 256; opcode++)
				probe_opcode(&c,
					(struct form){
						.kind = kind, .map = map, .opcode = (u8)opcode });
	index_mnemonics(f);
	return f;
}

void forms_free(struct forms *f)
{
	if (!f)
		return;
	free(f->list);
	free(f->hits);
	free(f);
}
