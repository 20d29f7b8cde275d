/* Single step: TF through ordinary code, POPF, IRET, REP, INT n, faults and SYSCALL (SDM
 * 3B 17.3.1.4, 17.3.2). */
#include "guest.h"

static volatile ulong steps[64];
static volatile unsigned count;
static ulong dr6_seen;

static void on_debug(struct frame *f)
{
	if (count < ARRAY_LEN(steps))
		steps[count] = f->ip;
	count++;
	dr6_seen = read_dr6();
	write_dr6(0xffff0ff0);
}

static void begin(void)
{
	count = 0;
	trap_hook[V_DB] = on_debug;
}

#define TF_ON  "pushf\n\torl $0x100, (%%rsp)\n\tpopf\n\t"
#define TF_OFF "pushf\n\tandl $~0x100, (%%rsp)\n\tpopf\n\t"

static void plain(void)
{
	extern char s1[], s2[], s3[];

	begin();
	__asm__ volatile(TF_ON "nop\ns1:\tinc %%eax\ns2:\tjmp 1f\n\tud2\n1:s3:\t" TF_OFF
			 :
			 :
			 : "eax", "memory", "cc");
	/* POPF that sets TF: the trap comes after the instruction that follows it. */
	CHECK_EQ(steps[0], s1);
	CHECK_EQ(steps[1], s2);
	CHECK_EQ(steps[2], s3);
	CHECK_EQ(count, 6); /* PUSHF, AND and the POPF that ends it: TF was set when it began */
	CHECK_EQ(dr6_seen, 0xffff4ff0);
}

static void saved_flags(void)
{
	/* The handler runs with TF clear; the flags it saved have it. PUSHF shows TF too. */
	ulong flags;

	begin();
	__asm__ volatile(TF_ON "pushf\n\tpop %0\n\t" TF_OFF : "=r"(flags)::"memory", "cc");
	CHECK(flags & FLAG_TF);
}

static void rep(void)
{
	static u8 from[8], to[8];
	void *s = from, *d = to;
	ulong n = 5;

	/* One trap an iteration (SDM 2 REP): the first four at the instruction itself. */
	begin();
	__asm__ volatile(TF_ON "rep movsb\n\t" TF_OFF : "+S"(s), "+D"(d), "+c"(n)::"memory", "cc");
	CHECK_EQ(n, 0);
	CHECK_EQ(count, 5 + 3);
	CHECK_EQ(steps[0], steps[3]);
	CHECK_EQ(steps[4], steps[0] + 2);
}

static void on_soft(struct frame *f) {} /* comes back at once */

static void through_int(void)
{
	extern char i1[];

	/* INT n clears TF for the handler; IRET restores it and the trap comes after the next
	 * instruction. */
	trap_hook[0x40] = on_soft;
	begin();
	__asm__ volatile(TF_ON "int $0x40\n\tnop\ni1:\t" TF_OFF ::: "memory", "cc");
	CHECK_EQ(steps[0], i1);
	CHECK_EQ(count, 4);
}

static void on_fault(struct frame *f) { f->ip += 2; }

static void through_fault(void)
{
	/* A faulting instruction does not complete, so it does not trap. */
	trap_hook[V_UD] = on_fault;
	begin();
	__asm__ volatile(TF_ON "ud2\n\tnop\n\tnop\n\t" TF_OFF ::: "memory", "cc");
	CHECK_EQ(count, 5);
	trap_hook[V_UD] = NULL;
}

static ulong user_steps(ulong unused)
{
	__asm__ volatile(TF_ON "nop\n\tnop\n\t" TF_OFF ::: "memory", "cc");
	return 0;
}

static void ring3(void)
{
	begin();
	user_call(user_steps, 0);
	CHECK_EQ(count, 5);
}

extern char step_syscall_entry[], step_after_syscall[];
__asm__(".globl step_syscall_entry\nstep_syscall_entry:\n\tnop\n\t"
	"nop\n\tsysretq\n");

static ulong user_syscall(ulong unused)
{
	__asm__ volatile(TF_ON "syscall\n\t.globl step_after_syscall\nstep_after_syscall:\n\t"
			       "nop\n\tnop\n\t" TF_OFF ::
				       : "rcx", "r11", "memory", "cc");
	return 0;
}

static void through_syscall(void)
{
	/* FMASK clears TF at SYSCALL: no trap in the kernel. SYSRET restores it from R11: the trap
	 * comes right after SYSRET, before the next user instruction (SDM 2 SYSRET). */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)(UCODE32 | 3) << 48 | (u64)KCODE << 32);
	wrmsr(MSR_LSTAR, (ulong)step_syscall_entry);
	wrmsr(MSR_SFMASK, FLAG_TF | FLAG_IF);
	begin();
	user_call(user_syscall, 0);
	CHECK_EQ(steps[0], step_after_syscall);
	CHECK_EQ(steps[1], step_after_syscall + 1);
	CHECK_EQ(count, 6);
}

static void icebp(void)
{
	trap_hook[V_DB] = NULL;
	EXPECT_AT(V_DB, 0, 1, ".byte 0xf1", : :);
}

static void by_iret(void)
{
	extern char by_iret_target[];

	begin();
	__asm__ volatile("mov %%rsp, %%rax\n\tmov %%ss, %%ecx\n\tpush %%rcx\n\t"
			 "push %%rax\n\tpush $0x102\n\tpush %0\n\tpush $1f\n\tiretq\n"
			 "1:\tnop\nby_iret_target:\n\t" TF_OFF ::"i"(KCODE)
			 : "rax", "rcx", "memory", "cc");
	CHECK_EQ(steps[0], by_iret_target);
	CHECK_EQ(count, 4);
}

const struct test tests[] = {
	{ "plain code", plain, CHEAP },
	{ "saved flags", saved_flags, CHEAP },
	{ "rep", rep, CHEAP },
	{ "int n", through_int, CHEAP },
	{ "fault", through_fault, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "syscall and sysret", through_syscall, CHEAP },
	{ "int1", icebp, CHEAP },
	{ "iret", by_iret, CHEAP },
	{ 0 },
};
