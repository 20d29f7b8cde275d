/*
 * Is the table of sensitive instructions (x86/sensitivity.c) right?
 *
 * Executes the example of each row at CPL 3: on this host's processor in a child process, and in a
 * guest under the interpreter and the translator, there without and with CR4.UMIP. Checked are the
 * fault the row claims, and that an engine which handles the instruction in software counts it
 * once, in the row's class.
 *
 * Linux sets CR4.UMIP where the processor has it, and emulates what then faults for user programs
 * (arch/x86/kernel/umip.c); either way a program sees no fault, so the claim is the same.
 */
#include "cpu/interpret/interpret.h"
#include "cpu/translate/translate.h"
#include "cpu/vcpu.h"
#include "diff.h"
#include "x86/sensitivity.h"

#define STACK_AT (DATA_AT + PAGE_SIZE)

static unsigned failures, skips;

/* ---- what the examples need ---- */

static bool is_named(const struct x86_sensitive *i, const char *name)
{
	return !strcmp(i->name, name);
}

static void put_patch(struct patch *p, u64 at, const void *bytes, unsigned len)
{
	p->at = (u16)(at - DATA_AT);
	p->len = (u8)len;
	memcpy(p->bytes, bytes, len);
}

/* [rbx] is a far pointer and the stack a frame, both to the INT3 behind the instruction; what pops
 * something else finds zeros. Registers hold selectors that are good in user mode, except where RAX
 * is the number of a system call that does not exist, and RCX one of XCRs and MSRs. */
static struct trial trial_of(const struct x86_sensitive *i)
{
	struct trial t = { .bits = 64, .count = 1, .len = i->length };
	u64 next = CODE_AT + i->length;
	u64 frame[5] = { next, USER64_CS, FLAG_ONE | FLAG_IF, STACK_AT, USER_DS };
	u8 pointer[6];
	bool pops = is_named(i, "POPF") || is_named(i, "POP seg");

	put_le32(pointer, (u32)next);
	put_le16(pointer + 4, USER64_CS);
	memcpy(t.code, i->code, i->length);
	put_patch(&t.patch[0], DATA_AT, pointer, sizeof(pointer));
	if (pops)
		memset(frame, 0, sizeof(frame));
	put_patch(&t.patch[1], STACK_AT, frame, sizeof(frame));
	t.in.rip = CODE_AT;
	t.in.rflags = FLAG_ONE;
	t.in.gpr[RAX] = is_named(i, "SYSCALL") ? 0xffff : USER_DS;
	t.in.gpr[RBX] = t.in.gpr[RSI] = t.in.gpr[RDI] = DATA_AT;
	t.in.gpr[RSP] = STACK_AT;
	t.in.fpu.fcw = 0x37f;
	t.in.fpu.mxcsr = 0x1f80;
	return t;
}

/* ---- claims ---- */

/* The vector of the fault at the instruction itself; that of what it led to is none of its own. */
static u8 fault_of(const struct outcome *o)
{
	bool here = o->regs.rip == CODE_AT && (o->vector == X86_GP || o->vector == X86_UD);

	return here ? (u8)o->vector : X86_NO_FAULT;
}

/* Instructions that not every processor has, and those some let user programs have. */
static bool may_be_missing(const struct x86_sensitive *i)
{
	static const char *const names[] = { "INVPCID", "XSAVES", "XRSTORS", "XSETBV", "XGETBV",
		"RDTSCP", "RDPID", "SYSEXIT" };

	for (unsigned n = 0; n < ARRAY_LEN(names); n++)
		if (is_named(i, names[n]))
			return true;
	return false;
}

static void check_fault(
	const struct x86_sensitive *i, const char *where, const struct outcome *o, u8 want)
{
	u8 got = o->stopped ? fault_of(o) : 0;

	if (o->stopped && got == want)
		return;
	if (o->stopped && got == X86_UD && may_be_missing(i)) {
		printf("skip %s, %s: not in this processor\n", i->name, where);
		skips++;
		return;
	}
	printf("FAIL %s, %s: %s, fault %d, want %d (vector %u at %#llx)\n", i->name, where,
		o->stopped ? "stopped" : "did not stop", got == X86_NO_FAULT ? -1 : got,
		want == X86_NO_FAULT ? -1 : want, o->vector, (unsigned long long)o->regs.rip);
	failures++;
}

/* ---- where they run ---- */

static void check_host(struct host *h, const struct x86_sensitive *i)
{
	host_trials(h)[0] = trial_of(i);
	check_fault(i, "host", host_run(h, 1), i->vector);
}

static void check_counter(
	const struct x86_sensitive *i, const char *where, const u64 *before, const u64 *after)
{
	/* The translator's own code for PUSHF and its like counts nothing. */
	bool silent = i->traits & (X86_TRAIT_ABSENT | X86_TRAIT_INLINE);

	for (unsigned c = 0; c < X86_SENSITIVITIES; c++) {
		u64 got = after[c] - before[c];
		u64 want = c == x86_sensitivity_of(i) && !(i->traits & X86_TRAIT_ABSENT);

		if (got == want || (silent && !got && strcmp(where, "interpret")))
			continue;
		printf("FAIL %s, %s: counted %llu times as %s, want %llu\n", i->name, where,
			(unsigned long long)got, x86_sensitivity_name((enum x86_sensitivity)c),
			(unsigned long long)want);
		failures++;
	}
}

static void check_guest(struct guest *g, const struct x86_sensitive *i, bool umip)
{
	struct vcpu *v = guest_vcpu(g);
	struct trial t = trial_of(i);
	u64 before[X86_SENSITIVITIES];
	struct outcome o = { 0 };

	memcpy(before, v->stats.sensitive, sizeof(before));
	v->x86.s.cr4 = umip ? v->x86.s.cr4 | CR4_UMIP : v->x86.s.cr4 & ~CR4_UMIP;
	guest_run(g, &t, &o);
	/* The kernel's HLT ends each trial, and most get there by the INT3 behind the example. */
	before[X86_PRIVILEGED]++;
	if (o.vector == X86_BP && !is_named(i, "INT n"))
		before[X86_CONTROL_SENSITIVE]++;
	check_fault(
		i, v->engine->name, &o, umip && i->traits & X86_TRAIT_UMIP ? X86_GP : i->vector);
	check_counter(i, v->engine->name, before, v->stats.sensitive);
}

static void check_engine(const struct cpu_engine *engine)
{
	struct guest *g = guest_new(engine, 0);

	if (!g) {
		failures++;
		return;
	}
	/* SYSCALL enters a kernel without changing stacks, which this guest's is not made for;
	 * there it is tests/guest/long/syscall.c that runs it. */
	for (unsigned i = 0; i < 2 * x86_sensitives_count; i++)
		if (!is_named(&x86_sensitives[i / 2], "SYSCALL"))
			check_guest(g, &x86_sensitives[i / 2], i & 1);
	guest_free(g);
}

int main(void)
{
	struct host *h = host_new();

	if (!h)
		return 77;
	for (unsigned i = 0; i < x86_sensitives_count; i++)
		check_host(h, &x86_sensitives[i]);
	host_free(h);
	check_engine(&interpret_engine);
	check_engine(&translate_engine);
	printf("%u instructions, %u failures, %u skipped\n", x86_sensitives_count, failures, skips);
	return failures ? 1 : 0;
}
