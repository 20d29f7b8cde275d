/*
 * A failing routine with less in it: runs of instructions become NOPs, halves first, as long as
 * the sides still disagree. What counts a loop down stays, or the routine would not end.
 */
#include "routine.h"

#define INSNS_MAX 4096u

struct list {
	unsigned count;
	struct {
		u16 at;
		u8 len;
		bool keep;
	} insn[INSNS_MAX];
};

static bool counts_down(const ZydisDecodedInstruction *i, const ZydisDecodedOperand *o)
{
	bool dec = i->mnemonic == ZYDIS_MNEMONIC_DEC && o[0].type == ZYDIS_OPERAND_TYPE_REGISTER;

	return (dec && o[0].size == 64) || i->mnemonic == ZYDIS_MNEMONIC_JNLE;
}

/* TEXT holds code and INT3 only, so one pass finds the instructions. */
static void list_instructions(const struct trial *t, struct list *l)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	l->count = 0;
	for (unsigned at = 0, len; at < t->len && l->count < INSNS_MAX; at += len) {
		bool known = decode_one(64, t->code + at, t->len - at, &insn, o);

		len = known ? insn.length : 1;
		if (!known || t->code[at] == 0xcc || t->code[at] == 0x90)
			continue;
		l->insn[l->count].at = (u16)at;
		l->insn[l->count].len = (u8)len;
		l->insn[l->count++].keep = counts_down(&insn, o);
	}
}

static bool try_without(
	struct trial *t, struct list *l, unsigned from, unsigned count, agree_fn *agrees, void *ctx)
{
	static struct trial s;
	bool change = false;

	s = *t;
	for (unsigned i = from; i < from + count && i < l->count; i++) {
		if (l->insn[i].keep)
			continue;
		memset(s.code + l->insn[i].at, 0x90, l->insn[i].len);
		change = true;
	}
	if (!change || agrees(ctx, &s))
		return false;
	for (unsigned i = from; i < from + count && i < l->count; i++)
		l->insn[i].keep = true; /* gone: not to be tried again */
	*t = s;
	return true;
}

void routine_shrink(struct trial *t, agree_fn *agrees, void *ctx)
{
	static struct list l;
	bool progress = true;

	for (unsigned round = 0; progress && round < 4; round++) {
		progress = false;
		list_instructions(t, &l);
		for (unsigned n = l.count / 2 + 1; n; n = n > 1 ? (n + 1) / 2 : 0)
			for (unsigned i = 0; i < l.count; i += n)
				progress |= try_without(t, &l, i, n, agrees, ctx);
	}
	list_instructions(t, &l);
	t->count = (u16)l.count;
	for (unsigned i = 0; i < X86_GPRS; i++) {
		static struct trial s;

		s = *t;
		s.in.gpr[i] = 0;
		if (i != RSP && t->in.gpr[i] && !agrees(ctx, &s))
			*t = s;
	}
	static struct trial s;
	s = *t;
	memset(&s.in.fpu, 0, sizeof(s.in.fpu));
	s.in.fpu.fcw = 0x37f;
	s.in.fpu.mxcsr = MXCSR_RESET;
	if (!agrees(ctx, &s))
		*t = s;
}

void routine_print(const struct trial *t, FILE *to)
{
	static struct list l;
	ZydisFormatter f;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	list_instructions(t, &l);
	fprintf(to, "  starts at %llx\n", (unsigned long long)t->in.rip);
	for (unsigned i = 0; i < l.count; i++) {
		u64 at = TEXT_AT + t->at + l.insn[i].at;
		const u8 *code = t->code + l.insn[i].at;
		char text[160] = "(bad)";

		if (decode_one(64, code, l.insn[i].len, &insn, o))
			ZydisFormatterFormatInstruction(&f, &insn, o, insn.operand_count_visible,
				text, sizeof(text), at, NULL);
		fprintf(to, "  %llx:", (unsigned long long)at);
		for (unsigned k = 0; k < l.insn[i].len; k++)
			fprintf(to, " %02x", code[k]);
		fprintf(to, "  %s\n", text);
	}
}
