/*
 * A failing trial with less noise: instructions are dropped and registers zeroed one after the
 * other as long as the two sides still disagree. What is left is what matters.
 */
#include "diff.h"

static bool try_keep(struct bench *b, struct trial *t, const struct trial *smaller)
{
	if (bench_agrees(b, smaller, NULL, NULL))
		return false;
	*t = *smaller;
	return true;
}

/* Shortens sequences from the front and from the back. */
static void drop_instructions(struct bench *b, struct trial *t)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	bool progress = true;

	while (progress && t->count > 1) {
		struct trial s = *t;
		unsigned last = 0, at = 0;

		for (unsigned i = 0;
			i < t->count && decode_one(t->bits, t->code + at, t->len - at, &insn, o);
			i++) {
			last = at;
			at += insn.length;
		}
		s.len = (u16)last;
		s.count--;
		progress = last && try_keep(b, t, &s);
		if (progress || !decode_one(t->bits, t->code, t->len, &insn, o))
			continue;
		s = *t; /* without the first: later addresses move along, so RIP-relative operands
			   stay */
		memmove(s.code, s.code + insn.length, (size_t)(s.len - insn.length));
		s.len = (u16)(s.len - insn.length);
		s.at = (u16)(s.at + insn.length);
		s.in.rip += insn.length;
		s.count--;
		progress = try_keep(b, t, &s);
	}
}

static void zero_one(struct bench *b, struct trial *t, size_t offset, size_t size)
{
	struct trial s = *t;

	memset((u8 *)&s + offset, 0, size);
	if (memcmp(&s, t, sizeof(s)))
		try_keep(b, t, &s);
}

#define OFF(member) offsetof(struct trial, member)

void shrink(struct bench *b, struct trial *t)
{
	struct trial s = *t;

	if (bench_agrees(b, t, NULL, NULL))
		return;
	drop_instructions(b, t);
	zero_one(b, t, OFF(in.fpu.zmm), sizeof(t->in.fpu.zmm));
	zero_one(b, t, OFF(in.fpu.st), sizeof(t->in.fpu.st));
	zero_one(b, t, OFF(in.fpu.k), sizeof(t->in.fpu.k));
	for (unsigned i = 0; i < 32; i++)
		zero_one(b, t, OFF(in.fpu.zmm) + 64 * i, 64);
	for (unsigned i = 0; i < 8; i++) {
		zero_one(b, t, OFF(in.fpu.st) + 16 * i, 16);
		zero_one(b, t, OFF(in.fpu.k) + 8 * i, 8);
	}
	for (unsigned i = 0; i < X86_GPRS; i++)
		zero_one(b, t, OFF(in.gpr) + 8 * i, 8);
	for (unsigned i = 0; i < PATCHES_MAX; i++)
		zero_one(b, t, OFF(patch) + i * sizeof(t->patch[0]), sizeof(t->patch[0]));
	zero_one(b, t, OFF(in.fs_base), 8);
	zero_one(b, t, OFF(in.gs_base), 8);
	zero_one(b, t, OFF(in.fpu.fop), 2);
	zero_one(b, t, OFF(in.fpu.fip), 16);

	s = *t;
	s.in.fpu.mxcsr = MXCSR_RESET;
	try_keep(b, t, &s);
	s = *t;
	s.in.fpu.fcw = 0x37f;
	s.in.fpu.fsw = 0;
	try_keep(b, t, &s);
	for (unsigned bit = 0; bit < 32; bit++) {
		s = *t;
		s.in.rflags &= ~BIT64(bit) | FLAG_ONE | FLAG_IF;
		if (s.in.rflags != t->in.rflags)
			try_keep(b, t, &s);
	}
}
