/*
 * Random instructions for routines. A form is tame if it completes every time it is tried natively
 * with its operand in order: what this processor has not, what is privileged, and what always
 * faults is found by trying, not listed.
 *
 * An instruction comes out of its form with memory relative to RIP; often that becomes [pointer +
 * disp32], which has the same length: the two pointers' numbers differ only in the bit that the
 * prefix holds, so any prefix names one of them.
 */
#include "routine.h"
#include <stdlib.h>

#define TRIES	    3u
#define TRIED_AT    512u
#define DATA_MIDDLE (DATA_AT + 0x1400u)

/* ---- may it be among them at all? ---- */

/* These change what later instructions do in ways that only end routines early. */
static bool changes_the_world(ZydisMnemonic n)
{
	switch (n) {
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_LDMXCSR:
	case ZYDIS_MNEMONIC_VLDMXCSR:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FLDENV:
	case ZYDIS_MNEMONIC_FRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64: return true;
	default: return false;
	}
}

static bool is_memory(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN;
}

static bool bit_string(const struct choice *c)
{
	return c->insn.meta.category == ZYDIS_CATEGORY_BITBYTE && is_memory(&c->o[0]) &&
	       c->o[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static bool writes(const ZydisDecodedOperand *o, u32 reserved)
{
	ZydisRegister r;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
		!(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
		return false;
	if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
		return true;
	r = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
	return ZydisRegisterGetClass(r) == ZYDIS_REGCLASS_GPR64 &&
	       (reserved & BIT(ZydisRegisterGetId(r)));
}

static bool fits(const struct choice *c, u32 reserved)
{
	if (changes_the_world(c->insn.mnemonic) || bit_string(c))
		return false;
	for (unsigned i = 0; i < c->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &c->o[i];

		if (writes(o, reserved))
			return false;
		if (!is_memory(o))
			continue;
		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
			c->insn.raw.disp.size != 32 ||
			(o->mem.base != ZYDIS_REGISTER_RIP && o->mem.base != ZYDIS_REGISTER_EIP))
			return false;
	}
	return true;
}

static const ZydisDecodedOperand *memory_of(const struct choice *c)
{
	for (unsigned i = 0; i < c->insn.operand_count_visible; i++)
		if (is_memory(&c->o[i]))
			return &c->o[i];
	return NULL;
}

static u64 segment_base(const struct trial *t, ZydisRegister seg)
{
	return seg == ZYDIS_REGISTER_FS	  ? t->in.fs_base
	       : seg == ZYDIS_REGISTER_GS ? t->in.gs_base
					  : 0;
}

/* ---- which forms are tame ---- */

static void tried(const struct choice *c, struct rng *r, struct trial *t)
{
	const ZydisDecodedOperand *o = memory_of(c);

	memset(t, 0, offsetof(struct trial, code));
	t->bits = 64;
	t->count = 1;
	t->at = TRIED_AT;
	t->len = (u16)c->len;
	t->memory_seed = rng_next(r);
	t->in.rip = CODE_AT + TRIED_AT;
	t->in.rflags = FLAG_ONE | FLAG_IF | FLAG_TF;
	for (unsigned i = 0; i < X86_GPRS; i++)
		t->in.gpr[i] = rng_value(r);
	t->in.gpr[RSP] = DATA_MIDDLE;
	t->in.fpu.fcw = 0x37f;
	t->in.fpu.mxcsr = MXCSR_RESET;
	memcpy(t->code, c->code, c->len);
	if (o)
		put_le32(t->code + c->insn.raw.disp.offset,
			(u32)(DATA_MIDDLE - (t->in.rip + c->len)));
}

static bool completed(const struct trial *t, const struct outcome *o)
{
	return o->stopped && o->vector == X86_DB && o->regs.rip == t->in.rip + t->len;
}

static void keep(struct tame *m, unsigned form, bool base)
{
	m->all[m->all_count++] = (u16)form;
	if (base)
		m->base[m->base_count++] = (u16)form;
}

bool tame_open(struct tame *m, const struct forms *forms, struct host *h)
{
	struct trial *t = host_trials(h);
	struct rng r = { 1 };

	*m = (struct tame){ .forms = forms,
		.all = calloc(forms->count, sizeof(u16)),
		.base = calloc(forms->count, sizeof(u16)) };
	if (!m->all || !m->base)
		return false;
	for (unsigned i = 0, n; i < forms->count; i += n) {
		struct {
			bool wild, base;
		} of[HOST_BATCH / TRIES] = { 0 };

		n = (unsigned)min_u64(ARRAY_LEN(of), forms->count - i);
		for (unsigned k = 0; k < n * TRIES; k++) {
			struct choice c;

			if (!generate_plain(&forms->list[i + k / TRIES], &r, &c) ||
				!fits(&c, BIT(RSP))) {
				of[k / TRIES].wild = true;
				c.len = 1, c.code[0] = 0xcc, c.insn.operand_count_visible = 0;
			}
			of[k / TRIES].base |= c.len && c.insn.meta.isa_ext == ZYDIS_ISA_EXT_BASE;
			tried(&c, &r, &t[k]);
		}
		const struct outcome *o = host_run(h, n * TRIES);
		for (unsigned k = 0; k < n * TRIES; k++)
			of[k / TRIES].wild |= !completed(&t[k], &o[k]);
		for (unsigned k = 0; k < n; k++)
			if (!of[k].wild)
				keep(m, i + k, of[k].base);
	}
	return m->base_count > 0;
}

void tame_close(struct tame *m)
{
	free(m->all);
	free(m->base);
}

/* ---- one more instruction ---- */

static const struct form *choose(struct maker *m)
{
	const struct tame *k = m->tame;
	bool base = !rng_one_in(&m->r, m->wish->well_behaved ? 10 : 3);
	unsigned i = base ? k->base[rng_below(&m->r, k->base_count)]
			  : k->all[rng_below(&m->r, k->all_count)];

	return &k->forms->list[i];
}

static void aim(struct maker *m, struct choice *c, const ZydisDecodedOperand *o)
{
	u64 want = piece_target(m, o->size / 8) - segment_base(m->t, o->mem.segment);
	u64 from = TEXT_AT + m->at + c->len;

	if (!rng_one_in(&m->r, 3)) {
		u8 *modrm = c->code + c->insn.raw.modrm.offset;

		*modrm = (u8)(0x80 | (*modrm & 0x38) | (m->pointer & 7));
		from = m->pointer_start;
	}
	put_le32(c->code + c->insn.raw.disp.offset, (u32)(want - from));
}

void body_instruction(struct maker *m)
{
	struct choice c;
	const ZydisDecodedOperand *o;

	do {
	} while (!generate_plain(choose(m), &m->r, &c) || !fits(&c, m->reserved));
	o = memory_of(&c);
	if (o)
		aim(m, &c, o);
	lay_bytes(m, c.code, c.len);
	m->count++;
}
