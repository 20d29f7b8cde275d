/* What must be equal after a trial, and how a difference is shown. */
#include "diff.h"

/*
 * The x87 pointers to the last instruction and its operand are compared while an unmasked exception
 * is pending. Else AMD's processors save them as zero and Intel's as they are (AMD APM 2 11.4.4,
 * SDM 1 8.1.8), so that a signal or a switch of the host's loses them: they are not compared either
 * if an instruction of the trial can unmask an exception that is older than what was lost.
 */

#define SHOWN_BYTES 10u /* differing memory bytes printed */

/* The arithmetic flags that a trial's instructions may leave different. */
static u64 ignored_flags(const struct trial *t)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	u64 flags = 0;

	for (unsigned at = 0;
		!t->text && at < t->len && decode_one(t->bits, t->code + at, t->len - at, &insn, o);
		at += insn.length)
		flags |= rules_undefined_flags(insn.mnemonic);
	return flags;
}

static bool can_unmask(const struct trial *t)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	for (unsigned at = 0; at < t->len;) {
		if (!decode_one(t->bits, t->code + at, t->len - at, &insn, o)) {
			at++; /* between the pieces of a routine */
			continue;
		}
		switch (insn.mnemonic) {
		case ZYDIS_MNEMONIC_FLDCW:
		case ZYDIS_MNEMONIC_FLDENV:
		case ZYDIS_MNEMONIC_FRSTOR:
		case ZYDIS_MNEMONIC_FXRSTOR:
		case ZYDIS_MNEMONIC_FXRSTOR64:
		case ZYDIS_MNEMONIC_XRSTOR:
		case ZYDIS_MNEMONIC_XRSTOR64: return true;
		default: at += insn.length;
		}
	}
	return false;
}

/* Did o end because CODE did? */
static bool ran_off_code(const struct outcome *o)
{
	return o->vector == X86_PF && o->cr2 == CODE_AT + CODE_SIZE;
}

/* The same for a routine, which has stopped at some instruction. */
static bool routine_fault_matters(const struct outcome *a, const struct outcome *b)
{
	u32 faults = BIT(X86_SS_FAULT) | BIT(X86_GP) | BIT(X86_PF) | BIT(X86_AC);
	u64 at = a->regs.rip - TEXT_AT;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	return a->regs.rip != b->regs.rip || at >= TEXT_SIZE || !(faults & BIT(a->vector)) ||
	       !(faults & BIT(b->vector)) ||
	       !decode_one(64, a->text + at, (unsigned)min_u64(15, TEXT_SIZE - at), &insn, o) ||
	       !rules_any_fault(insn.mnemonic);
}

/*
 * Must the exceptions agree? Not when both sides refuse and the order of their reasons is open:
 * instructions of rules_any_fault(); undefined ones, which a processor may refuse after it looked
 * at their memory operand or fetched more or fewer bytes. That an undefined instruction is refused
 * at all, other trials show.
 */
static bool fault_matters(const struct trial *t, const struct outcome *a, const struct outcome *b)
{
	u32 faults = BIT(X86_SS_FAULT) | BIT(X86_GP) | BIT(X86_PF) | BIT(X86_AC);
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	unsigned at = 0;

	if (t->text)
		return routine_fault_matters(a, b);
	if ((b->vector == X86_UD && ran_off_code(a)) || (a->vector == X86_UD && ran_off_code(b)))
		return false;
	if (!decode_one(t->bits, t->code, t->len, &insn, o))
		faults |= BIT(X86_UD);
	if (!(faults & BIT(a->vector)) || !(faults & BIT(b->vector)))
		return true;
	if (faults & BIT(X86_UD))
		return false;
	for (; at < t->len && decode_one(t->bits, t->code + at, t->len - at, &insn, o);
		at += insn.length)
		if (rules_any_fault(insn.mnemonic) ||
			insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
			return false;
	return true;
}

/* One comparable item; callers print or count. */
typedef void item_fn(
	void *ctx, const char *name, const void *native, const void *engine, unsigned len);

/* POPA may have loaded some registers when it faults; it starts over with the same ESP. */
static bool popa_faulted(const struct trial *t, const struct regs *native)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	u64 at = native->rip - t->in.rip;

	return t->bits == 32 && at < t->len &&
	       decode_one(32, t->code + at, (unsigned)(t->len - at), &insn, o) &&
	       (insn.mnemonic == ZYDIS_MNEMONIC_POPA || insn.mnemonic == ZYDIS_MNEMONIC_POPAD);
}

/* In 32-bit code the upper halves are nobody's: some instructions leave something there (SDM
 * 1 3.4.1.1). */
static void each_gpr(
	const struct trial *t, const struct regs *a, const struct regs *b, item_fn *fn, void *ctx)
{
	static const char *const names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

	for (unsigned i = 0; i < X86_GPRS; i++)
		fn(ctx, names[i], &a->gpr[i], &b->gpr[i], t->bits == 64 ? 8 : 4);
}

static void each_numbered(const char *prefix, const void *a, const void *b, unsigned count,
	unsigned stride, unsigned len, item_fn *fn, void *ctx)
{
	for (unsigned i = 0; i < count; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%s%u", prefix, i);
		fn(ctx, name, (const u8 *)a + i * stride, (const u8 *)b + i * stride, len);
	}
}

#define ITEM(field) fn(ctx, #field, &a->field, &b->field, sizeof(a->field))

static void each_register(const struct trial *t, const struct regs *ra, const struct regs *rb,
	u64 flags, item_fn *fn, void *ctx)
{
	u64 fa = ra->rflags & flags, fb = rb->rflags & flags;

	if (!popa_faulted(t, ra))
		each_gpr(t, ra, rb, fn, ctx);
	fn(ctx, "rflags", &fa, &fb, 8);
	{
		const struct regs *a = ra, *b = rb;

		ITEM(rip), ITEM(cs), ITEM(ss), ITEM(ds), ITEM(es), ITEM(fs), ITEM(gs),
			ITEM(fs_base), ITEM(gs_base);
	}
	const struct x86_fpu *a = &ra->fpu, *b = &rb->fpu;
	ITEM(fcw), ITEM(fsw), ITEM(ftw), ITEM(mxcsr);
	if ((a->fsw & FSW_ES) && !can_unmask(t))
		ITEM(fop), ITEM(fip), ITEM(fdp);
	each_numbered("st", a->st, b->st, 8, 16, 10, fn, ctx);
	each_numbered("zmm", a->zmm, b->zmm, 32, 64, 64, fn, ctx);
	each_numbered("k", a->k, b->k, 8, 8, 8, fn, ctx);
}

static void each_item(const struct trial *t, const struct outcome *a, const struct outcome *b,
	item_fn *fn, void *ctx)
{
	if (fault_matters(t, a, b))
		ITEM(vector), ITEM(error), ITEM(cr2);
	each_register(t, &a->regs, &b->regs, ~ignored_flags(t), fn, ctx);
}

static void count_difference(
	void *ctx, const char *name, const void *native, const void *engine, unsigned len)
{
	if (memcmp(native, engine, len))
		++*(unsigned *)ctx;
}

static bool fpu_equal(const struct x86_fpu *a, const struct x86_fpu *b)
{
	if (memcmp(a, b, offsetof(struct x86_fpu, fop)) || a->mxcsr != b->mxcsr ||
		memcmp(a->zmm, b->zmm, sizeof(a->zmm)) || memcmp(a->k, b->k, sizeof(a->k)))
		return false;
	for (unsigned i = 0; i < 8; i++)
		if (memcmp(a->st[i], b->st[i], 10))
			return false;
	return !(a->fsw & FSW_ES) || (a->fop == b->fop && a->fip == b->fip && a->fdp == b->fdp);
}

bool outcome_equal(
	const struct trial *t, const struct outcome *native, const struct outcome *engine)
{
	if (!native->stopped || !engine->stopped)
		return false;
	if (t->text && memcmp(native->text, engine->text, TEXT_SIZE) != 0)
		return false;
	if (native->vector == engine->vector && native->error == engine->error &&
		native->cr2 == engine->cr2 &&
		!memcmp(&native->regs, &engine->regs, offsetof(struct regs, gs) + sizeof(u16)) &&
		fpu_equal(&native->regs.fpu, &engine->regs.fpu) &&
		!memcmp(native->memory, engine->memory, DATA_SIZE))
		return true;
	/* Slowly: some flags may differ. */
	unsigned differences = memcmp(native->memory, engine->memory, DATA_SIZE) != 0;
	each_item(t, native, engine, count_difference, &differences);
	return !differences;
}

/* ---- printing ---- */

static void print_value(const char *label, const void *value, unsigned len)
{
	const u8 *p = value;

	printf("    %-10s", label);
	for (unsigned i = len; i-- > 0;)
		printf("%02x%s", p[i], i % 8 == 0 && i ? "_" : "");
	printf("\n");
}

struct show {
	const char *engine;
	const void *in; /* unused yet */
};

static void show_difference(
	void *ctx, const char *name, const void *native, const void *engine, unsigned len)
{
	const struct show *s = ctx;

	if (!memcmp(native, engine, len))
		return;
	printf("  %s\n", name);
	print_value("native", native, len);
	print_value(s->engine, engine, len);
}

static void show_bytes(
	u64 base, const u8 *before, const u8 *native, const u8 *engine, unsigned size)
{
	unsigned shown = 0;

	for (unsigned i = 0; i < size && shown < SHOWN_BYTES; i++) {
		if (native[i] == engine[i])
			continue;
		printf("  [%llx] was %02x: native %02x, engine %02x\n",
			(unsigned long long)base + i, before[i], native[i], engine[i]);
		shown++;
	}
}

static void show_memory(
	const struct trial *t, const struct outcome *native, const struct outcome *engine)
{
	static u8 before[DATA_SIZE], text[TEXT_SIZE];

	memory_fill_seed(t, before);
	show_bytes(DATA_AT, before, native->memory, engine->memory, DATA_SIZE);
	if (!t->text)
		return;
	memset(text, 0xcc, sizeof(text));
	memcpy(text + t->at, t->code, t->len);
	show_bytes(TEXT_AT, text, native->text, engine->text, TEXT_SIZE);
}

void outcome_print_differences(const struct trial *t, const struct outcome *native,
	const struct outcome *engine, const char *engine_name)
{
	struct show s = { .engine = engine_name };

	if (!native->stopped || !engine->stopped) {
		printf("  %s\n", native->stopped ? "the engine did not stop"
						 : "it killed the native runner");
		return;
	}
	printf("  ended by: native vector %u error %x cr2 %llx, %s vector %u error %x cr2 %llx\n",
		native->vector, native->error, (unsigned long long)native->cr2, engine_name,
		engine->vector, engine->error, (unsigned long long)engine->cr2);
	each_item(t, native, engine, show_difference, &s);
	show_memory(t, native, engine);
}

void trial_print_code(const struct trial *t, FILE *to)
{
	ZydisFormatter f;
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	unsigned at = 0;

	ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
	while (at < t->len) {
		char text[160] = "(bad)";
		unsigned len = t->len - at;

		if (decode_one(t->bits, t->code + at, len, &insn, o)) {
			ZydisFormatterFormatInstruction(&f, &insn, o, insn.operand_count_visible,
				text, sizeof(text), t->in.rip + at, NULL);
			len = insn.length;
		}
		fprintf(to, "  %llx:", (unsigned long long)(t->in.rip + at));
		for (unsigned i = 0; i < len; i++)
			fprintf(to, " %02x", t->code[at + i]);
		fprintf(to, "  %s%s\n", text, t->in.rflags & FLAG_TF ? "  (one step)" : "");
		at += len;
	}
}
