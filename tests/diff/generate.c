/*
 * A trial from a seed: random state, one instruction (sometimes a few), and then the registers it
 * addresses memory with are set so that the access lands where we want it: mostly in DATA, often at
 * an edge, sometimes on the read-only or an unmapped page. What the instruction reads there is made
 * interesting, too.
 */
#include "diff.h"

struct work {
	struct rng r;
	struct trial *t;
	const struct forms *forms;
	u32 fixed; /* registers already set for an address */
	unsigned patches;
};

/* ---- choosing ---- */

static const struct form *choose_form(struct work *w)
{
	const struct forms *f = w->forms;
	unsigned i;

	if (rng_one_in(&w->r, 3)) {
		i = rng_below(&w->r, f->count);
	} else {
		unsigned m = f->present[rng_below(&w->r, f->present_count)];

		i = f->first[m] + rng_below(&w->r, f->first[m + 1] - f->first[m]);
	}
	f->hits[i]++;
	return &f->list[i];
}

/*
 * Bytes the decoder refuses must be refused by the processor as well; except that some processors
 * ignore register bits that name no register (k8, st9), AMD's the LOCK of VERR and VERW, and hosts
 * that have an instruction which the CPU model hides may ignore its 66 (RDPKRU).
 */
static bool surely_undefined(unsigned bits, const u8 *code, unsigned len)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	u8 bare[15];
	unsigned n = 0;

	if (decode_status(bits, code, len, &insn, o) == ZYDIS_STATUS_BAD_REGISTER)
		return false;
	for (unsigned i = 0; i < len && i < sizeof(bare); i++)
		if (code[i] != 0xf0 && code[i] != 0x66)
			bare[n++] = code[i];
	return !decode_one(bits, bare, n, &insn, o) ||
	       (insn.mnemonic != ZYDIS_MNEMONIC_VERR && insn.mnemonic != ZYDIS_MNEMONIC_VERW &&
		       !rules_excluded(insn.mnemonic));
}

/* A masked store that may wrap around at 64 KiB: AMD's processors wrap each element, others do not.
 */
static bool wraps(const ZydisDecodedInstruction *i)
{
	return i->address_width == 16 && (i->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD ||
						 i->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ ||
						 i->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS ||
						 i->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD);
}

/* VPINSRD and VPEXTRD with W outside 64-bit code: #UD to AMD, W ignored by Intel. */
static bool ignores_w(const ZydisDecodedInstruction *i)
{
	return i->machine_mode != ZYDIS_MACHINE_MODE_LONG_64 &&
	       i->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && i->raw.vex.W &&
	       (i->mnemonic == ZYDIS_MNEMONIC_VPINSRD || i->mnemonic == ZYDIS_MNEMONIC_VPEXTRD);
}

/* LOOPE with REPNE and LOOPNE with REPE: AMD's processors let the prefix win, which no manual says.
 */
static bool contradicts(const ZydisDecodedInstruction *i)
{
	for (unsigned p = 0; p < i->raw.prefix_count; p++)
		if ((i->mnemonic == ZYDIS_MNEMONIC_LOOPE && i->raw.prefixes[p].value == 0xf2) ||
			(i->mnemonic == ZYDIS_MNEMONIC_LOOPNE && i->raw.prefixes[p].value == 0xf3))
			return true;
	return false;
}

/* Single encodings that cannot be compared; whole mnemonics are in rules.c. */
static bool excluded_encoding(const ZydisDecodedInstruction *i)
{
	bool host_call = i->mnemonic == ZYDIS_MNEMONIC_INT && i->raw.imm[0].value.u == 0x80;

	return host_call || contradicts(i) || ignores_w(i) || wraps(i);
}

/* Any bytes, with prefixes and escapes more often than chance has them. */
static unsigned random_bytes(struct work *w, u8 out[40])
{
	static const u8 starts[] = { 0x66, 0xf2, 0xf3, 0xf0, 0x0f, 0x0f, 0x0f, 0x48, 0x41, 0x67,
		0xc4, 0xc5, 0x62 };
	unsigned n = 0;

	while (n < 4 && rng_one_in(&w->r, 2))
		out[n++] = starts[rng_below(&w->r, ARRAY_LEN(starts))];
	for (unsigned i = 0; i < 2; i++, n += 8) {
		u64 v = rng_next(&w->r);

		memcpy(out + n, &v, 8);
	}
	return n;
}

/*
 * EVEX with RSP as a general operand: after a POP the processor at hand can take the RSP of before
 * it. That is in no manual, and no compiler emits it.
 */
static bool confuses_stack_engine(const struct choice *c)
{
	for (unsigned i = 0; i < c->insn.operand_count_visible; i++)
		if (c->o[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			(c->o[i].reg.value == ZYDIS_REGISTER_RSP ||
				c->o[i].reg.value == ZYDIS_REGISTER_ESP))
			return c->insn.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
	return false;
}

static bool has_vsib(const struct choice *c)
{
	for (unsigned i = 0; i < c->insn.operand_count_visible; i++)
		if (c->o[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
			c->o[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB)
			return true;
	return false;
}

static bool transfers_control(const ZydisDecodedInstruction *i)
{
	switch (i->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET: return true;
	default: return i->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE;
	}
}

static bool may_run(bool plain, const struct choice *c)
{
	if (rules_excluded(c->insn.mnemonic) || excluded_encoding(&c->insn) ||
		confuses_stack_engine(c))
		return false;
	return !plain ||
	       !(rules_alone(c->insn.mnemonic) || transfers_control(&c->insn) || has_vsib(c));
}

bool generate_plain(const struct form *f, struct rng *r, struct choice *c)
{
	form_encode(f, 64, r, true, c->code);
	c->decoded = decode_one(64, c->code, 15, &c->insn, c->o);
	c->len = c->decoded ? c->insn.length : 0;
	return c->decoded && may_run(true, c);
}

/* `plain`: part of a sequence, so neither a jump nor memory addressed by registers. */
static void choose_instruction(struct work *w, bool plain, struct choice *c)
{
	unsigned bits = w->t->bits;

	for (;;) {
		unsigned n = !plain && rng_one_in(&w->r, 8)
				     ? random_bytes(w, c->code)
				     : form_encode(choose_form(w), bits, &w->r, plain, c->code);

		c->decoded = decode_one(bits, c->code, (unsigned)min_u64(n, 15), &c->insn, c->o);
		if (!c->decoded) {
			c->len = (unsigned)min_u64(n, 15);
			if (plain || !rng_one_in(&w->r, 16) ||
				!surely_undefined(bits, c->code, c->len))
				continue;
			return;
		}
		if (!may_run(plain, c))
			continue;
		c->len = c->insn.length;
		return;
	}
}

/* ---- where memory operands go ---- */

static u64 choose_target(struct work *w, unsigned size)
{
	struct rng *r = &w->r;
	unsigned within = rng_below(r, DATA_RW - (size < DATA_RW / 2 ? size : DATA_RW / 2));
	unsigned straddle = size > 1 ? 1 + rng_below(r, size - 1) : 0;

	switch (rng_below(r, 24)) {
	case 0: return DATA_AT + PAGE_SIZE - straddle;
	case 1: return DATA_AT + DATA_RW + rng_below(r, PAGE_SIZE);
	case 2: return DATA_AT + DATA_RW - straddle;
	case 3: return DATA_AT + DATA_SIZE - straddle;
	case 4: return DATA_AT - straddle;
	case 5: return rng_one_in(r, 2) ? DATA_AT + 0x100000 + within : 0x123456789000ull + within;
	case 6: return rng_one_in(r, 2) ? rng_next(r) : 0xffff900000000000ull + within;
	case 7:
	case 8:
	case 9: return DATA_AT + within;
	default:
		return DATA_AT + (within & ~(size >= 512  ? 63u
						   : size ? (1u << (31 - __builtin_clz(size))) - 1
							  : 0u));
	}
}

static unsigned gpr_number(ZydisRegister r)
{
	return (unsigned)ZydisRegisterGetId(
		ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static u64 inverse(u64 odd)
{
	u64 x = odd;

	for (unsigned i = 0; i < 6; i++) /* Newton: doubles the correct bits */
		x *= 2 - odd * x;
	return x;
}

static void set_address_register(struct work *w, unsigned n, u64 value, unsigned width)
{
	u64 *g = &w->t->in.gpr[n];

	if (width == 64)
		*g = value;
	else
		*g = (w->t->bits == 64 ? *g & 0xffffffff00000000ull : 0) |
		     (value & (~0ull >> (64 - width)));
	w->fixed |= BIT(n);
}

static void patch_displacement(struct work *w, const ZydisDecodedInstruction *i, u8 *code, u64 disp)
{
	memcpy(code + i->raw.disp.offset, &disp, i->raw.disp.size / 8);
}

static u64 segment_base(const struct work *w, ZydisRegister seg)
{
	return seg == ZYDIS_REGISTER_FS	  ? w->t->in.fs_base
	       : seg == ZYDIS_REGISTER_GS ? w->t->in.gs_base
					  : 0;
}

/* Solves base + index * scale + disp = target for whatever may still be chosen. */
static void aim(struct work *w, const ZydisDecodedInstruction *i, const ZydisDecodedOperand *o,
	u8 *code, u64 at, u64 target)
{
	const struct regs *in = &w->t->in;
	u64 disp = o->mem.disp.has_displacement ? (u64)o->mem.disp.value : 0;
	u64 want = target - segment_base(w, o->mem.segment);
	unsigned width = i->address_width;
	bool vsib = o->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	bool base = o->mem.base != ZYDIS_REGISTER_NONE;
	bool index = o->mem.index != ZYDIS_REGISTER_NONE && !vsib;

	if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
		patch_displacement(w, i, code, want - (at + i->length));
	} else if (!base && !index) {
		if (i->raw.disp.size >= 32)
			patch_displacement(w, i, code, want);
	} else if (!base) {
		set_address_register(
			w, gpr_number(o->mem.index), (want - disp) / o->mem.scale, width);
	} else {
		unsigned b = gpr_number(o->mem.base), x = index ? gpr_number(o->mem.index) : 0;

		if (w->fixed & BIT(b))
			return;
		if (!index)
			set_address_register(w, b, want - disp, width);
		else if (b != x || ZydisRegisterGetClass(o->mem.index) == ZYDIS_REGCLASS_GPR8)
			set_address_register(w, b,
				want - disp -
					(o->mem.index == ZYDIS_REGISTER_AL
							? in->gpr[RAX] & 0xff
							: in->gpr[x] * o->mem.scale),
				width);
		else
			set_address_register(w, b,
				o->mem.scale == 1 ? (want - disp) / 2
						  : (want - disp) * inverse(o->mem.scale + 1u),
				width);
	}
}

static void patch_memory(struct work *w, u64 at, const void *bytes, unsigned len)
{
	if (w->patches == PATCHES_MAX || at < DATA_AT || at + len > DATA_AT + DATA_SIZE)
		return;
	struct patch *p = &w->t->patch[w->patches++];
	p->at = (u16)(at - DATA_AT);
	p->len = (u8)len;
	memcpy(p->bytes, bytes, len);
}

static u16 selector(struct work *w)
{
	static const u16 known[] = { 0, 3, USER_DS, USER32_CS, USER64_CS, USER_DS & ~3, 0x10, 0x18,
		0x40, 0x63, 0x7f, 0x80 };

	return known[rng_below(&w->r, ARRAY_LEN(known))];
}

/* What a far return, IRET or far pointer finds: a place in CODE, a code selector, flags, a stack.
 */
static void patch_frame(struct work *w, u64 at, unsigned width)
{
	u64 flags = FLAG_ONE | FLAG_IF |
		    (rng_next(&w->r) & (FLAGS_STATUS | FLAG_DF | FLAG_AC | FLAG_ID | FLAG_NT));
	u64 frame[5] = { CODE_AT + rng_below(&w->r, CODE_SIZE),
		rng_one_in(&w->r, 2) ? USER64_CS : selector(w), flags,
		DATA_AT + rng_below(&w->r, DATA_SIZE),
		rng_one_in(&w->r, 2) ? USER_DS : selector(w) };
	u8 bytes[sizeof(frame)];

	for (unsigned i = 0; i < 5; i++)
		memcpy(bytes + i * width, &frame[i], width);
	patch_memory(w, at, bytes, 5 * width);
}

static void patch_pointer(struct work *w, u64 at, unsigned width)
{
	u32 offset = CODE_AT + rng_below(&w->r, CODE_SIZE);
	u16 sel = selector(w);
	u8 bytes[6];

	memcpy(bytes, &offset, width);
	memcpy(bytes + width, &sel, 2);
	patch_memory(w, at, bytes, width + 2);
}

static void interesting_contents(
	struct work *w, const ZydisDecodedInstruction *i, u64 at, unsigned size)
{
	u8 bytes[PATCH_MAX];
	u32 mxcsr = (u32)(rng_next(&w->r) & 0xffff);

	switch (i->mnemonic) {
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
		if (!rng_one_in(&w->r, 8))
			patch_memory(w, at, &mxcsr, 4);
		return;
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		memcpy(bytes, &w->t->in.fpu, 24); /* pointers must be canonical */
		memcpy(bytes + 24, &mxcsr, 4);
		patch_memory(w, at, bytes, 28);
		memset(bytes, 0, sizeof(bytes));
		bytes[0] = (u8)(rng_next(&w->r) & 0xe7);
		patch_memory(w, at + 512, bytes, sizeof(bytes));
		return;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ: patch_frame(w, at, i->operand_width / 8); return;
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LSS: patch_pointer(w, at, i->operand_width == 16 ? 2 : 4); return;
	case ZYDIS_MNEMONIC_RET:
		if (i->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			patch_frame(w, at, i->operand_width / 8);
		return;
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_JMP:
		if (i->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			patch_pointer(w, at, i->operand_width == 16 ? 2 : 4);
		return;
	default: break;
	}
	if (size && size <= sizeof(bytes) && rng_one_in(&w->r, 2)) {
		rng_vector(&w->r, bytes, (size + 7) & ~7u);
		patch_memory(w, at, bytes, size);
	}
}

static void small_vector(struct work *w, unsigned n)
{
	for (unsigned i = 0; i < 64; i += 4) {
		s32 v = (s32)rng_below(&w->r, 2048) - 1024;

		if (rng_one_in(&w->r, 2)) /* as a quadword too */
			v = i & 4 ? 0 : (s32)rng_below(&w->r, 1024);
		memcpy(w->t->in.fpu.zmm[n] + i, &v, 4);
	}
}

static void aim_operand(
	struct work *w, const struct choice *c, const ZydisDecodedOperand *o, u8 *code, u64 at)
{
	unsigned size = o->size / 8;
	u64 target = choose_target(w, size);

	if (o->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		target = DATA_AT + DATA_SIZE / 2 + rng_below(&w->r, 64) * 8;
		if (!rng_one_in(&w->r, 8))
			small_vector(w, (unsigned)ZydisRegisterGetId(o->mem.index));
	}
	aim(w, &c->insn, o, code, at, target);
	if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
		interesting_contents(w, &c->insn, target, size);
}

static bool takes_selector(const struct choice *c)
{
	switch (c->insn.mnemonic) {
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW: return true;
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_POP:
		return c->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		       ZydisRegisterGetClass(c->o[0].reg.value) == ZYDIS_REGCLASS_SEGMENT;
	default: return false;
	}
}

/* Counts and bit offsets reach out of the operand: keep most of them small. */
static void tame_registers(struct work *w, const struct choice *c)
{
	struct regs *in = &w->t->in;
	const ZydisDecodedInstruction *i = &c->insn;

	if (i->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE))
		if (!rng_one_in(&w->r, 8))
			in->gpr[RCX] = rng_below(&w->r, 40);
	if (i->meta.category == ZYDIS_CATEGORY_BITBYTE &&
		c->o[0].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		c->o[1].type == ZYDIS_OPERAND_TYPE_REGISTER && !rng_one_in(&w->r, 4))
		in->gpr[gpr_number(c->o[1].reg.value)] =
			(u64)(s64)((s32)rng_below(&w->r, 2048) - 1024);
	for (unsigned k = 0; k < 2 && takes_selector(c); k++)
		if (c->o[k].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			ZydisRegisterGetClass(c->o[k].reg.value) == ZYDIS_REGCLASS_GPR16 &&
			!rng_one_in(&w->r, 4))
			in->gpr[gpr_number(c->o[k].reg.value)] = selector(w);
	/* dividends that do not overflow */
	if ((i->mnemonic == ZYDIS_MNEMONIC_DIV || i->mnemonic == ZYDIS_MNEMONIC_IDIV) &&
		!rng_one_in(&w->r, 3))
		in->gpr[RDX] = rng_one_in(&w->r, 3) ? ~0ull : rng_below(&w->r, 16);
	if (i->mnemonic == ZYDIS_MNEMONIC_CMPXCHG && rng_one_in(&w->r, 2) &&
		c->o[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		in->gpr[RAX] = in->gpr[gpr_number(c->o[0].reg.value)];
}

static void fix_up(struct work *w, const struct choice *c, u8 *code, u64 at, bool first)
{
	if (!c->decoded)
		return;
	if (first)
		tame_registers(w, c);
	for (unsigned i = 0; i < c->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &c->o[i];
		bool explicit = o->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
			(first || explicit))
			aim_operand(w, c, o, code, at);
	}
}

/* ---- state ---- */

static void random_registers(struct work *w)
{
	struct regs *in = &w->t->in;
	struct rng *r = &w->r;

	for (unsigned i = 0; i < X86_GPRS; i++)
		in->gpr[i] = w->t->bits == 64 ? rng_value(r) : (u32)rng_value(r);
	in->gpr[RSP] = DATA_AT + DATA_RW / 2 + 8 * rng_below(r, 64);
	in->rflags = (rng_next(r) & FLAGS_STATUS) | FLAG_ONE | FLAG_IF;
	if (rng_one_in(r, 4))
		in->rflags |= FLAG_DF;
	if (rng_one_in(r, 16))
		in->rflags |= FLAG_AC;
	in->fs_base = rng_one_in(r, 2) ? 0 : DATA_AT + rng_below(r, 1024);
	in->gs_base = rng_one_in(r, 2) ? 0 : DATA_AT + rng_below(r, 1024);
	rng_fpu(r, &in->fpu);
}

/* Mostly in the middle of CODE; across its pages; or running off its end. */
static void place(struct work *w)
{
	struct trial *t = w->t;

	switch (rng_below(&w->r, 32)) {
	case 0: t->at = (u16)(PAGE_SIZE - rng_below(&w->r, 16)); break;
	case 1: t->at = (u16)(CODE_SIZE - 1 - rng_below(&w->r, 15)); break;
	default: t->at = (u16)(512 + rng_below(&w->r, 64)); break;
	}
	t->in.rip = CODE_AT + t->at;
}

static void add_instruction(struct work *w, bool plain)
{
	struct trial *t = w->t;
	struct choice c;

	choose_instruction(w, plain, &c);
	if (t->len + c.len > CODE_MAX)
		return;
	memcpy(t->code + t->len, c.code, c.len);
	fix_up(w, &c, t->code + t->len, t->in.rip + t->len, t->count == 0);
	t->len = (u16)(t->len + c.len);
	t->count++;
	/* A jump may land on itself: exactly one step. Others run up to the INT3 behind them or
	 * take one step. */
	if (!plain && (!c.decoded || transfers_control(&c.insn) || !rng_one_in(&w->r, 4)))
		t->in.rflags |= FLAG_TF;
}

void generate(const struct generator *g, u64 seed, struct trial *t)
{
	struct work w = { .r = { seed }, .t = t };
	bool compat = g->compat && rng_one_in(&w.r, 4);
	unsigned count = rng_one_in(&w.r, 8) ? 2 + rng_below(&w.r, 5) : 1;

	memset(t, 0, offsetof(struct trial, code));
	t->seed = seed;
	t->memory_seed = rng_next(&w.r);
	t->bits = compat ? 32 : 64;
	w.forms = compat ? g->compat : g->long_mode;
	random_registers(&w);
	place(&w);
	for (unsigned i = 0; i < count; i++)
		add_instruction(&w, count > 1);
	for (unsigned i = 0; i < X86_GPRS && compat; i++)
		t->in.gpr[i] = (u32)t->in.gpr[i];
	if (t->at + t->len > CODE_SIZE)
		t->len = (u16)(CODE_SIZE - t->at);
}
