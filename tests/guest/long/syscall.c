/* SYSCALL/SYSRET and SYSENTER/SYSEXIT (SDM 3A 5.8.7, 5.8.8; SDM 2). */
#include "guest.h"

ulong seen_rcx, seen_r11, seen_flags, seen_cs, seen_ss, seen_rsp;
extern char on_syscall[], on_sysenter[], after_syscall[];
__asm__(".globl on_syscall\non_syscall:\n\tmov %rcx, seen_rcx\n\t"
	"mov %r11, seen_r11\n\tmov %rsp, seen_rsp\n\tmov %rsp, %r9\n\t"
	"mov $ring0_stack + 4096, %esp\n\tpushfq\n\tpopq seen_flags\n\t"
	"mov %cs, seen_cs\n\tmov %ss, seen_ss\n\tmov %r9, %rsp\n\t"
	"sysretq\n.globl on_sysenter\non_sysenter:\n\t"
	"mov %rsp, seen_rsp\n\tpushfq\n\tpopq seen_flags\n\t"
	"mov %cs, seen_cs\n\tmov %ss, seen_ss\n\tsysexitq\n");

static void enable(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
	wrmsr(MSR_STAR, (u64)(UCODE32 | 3) << 48 | (u64)KCODE << 32);
	wrmsr(MSR_LSTAR, (ulong)on_syscall);
	wrmsr(MSR_SFMASK, FLAG_DF | FLAG_CF);
}

static ulong do_syscall(ulong unused)
{
	ulong cs, ss, flags;

	__asm__ volatile("std\n\tstc\n\tsyscall\n\t.globl after_syscall\n"
			 "after_syscall:\n\tpushf\n\tpop %2\n\tcld\n\tmov %%cs, %0\n\t"
			 "mov %%ss, %1"
			 : "=r"(cs), "=r"(ss), "=r"(flags)
			 :
			 : "rcx", "r11", "r9", "memory", "cc");
	CHECK_EQ(cs & 0xffff, UCODE64 | 3);
	CHECK_EQ(ss & 0xffff, UDATA | 3);
	CHECK(flags & FLAG_CF);
	return 1;
}

static void syscall_sysret(void)
{
	enable();
	CHECK_EQ(user_call(do_syscall, 0), 1);
	CHECK_EQ(seen_rcx, after_syscall);
	CHECK_EQ(seen_r11 & (FLAG_DF | FLAG_CF | 2), FLAG_DF | FLAG_CF | 2);
	CHECK_EQ(seen_flags & (FLAG_DF | FLAG_CF | 2), 2);
	CHECK_EQ(seen_cs & 0xffff, KCODE);
	CHECK_EQ(seen_ss & 0xffff, KDATA);
	CHECK(seen_rsp > (ulong)user_stack && seen_rsp < (ulong)user_stack + sizeof user_stack);
}

static ulong plain_syscall(ulong unused)
{
	EXPECT(V_UD, 0, "syscall", : : : "rcx", "r11");
	return 0;
}

static void disabled(void)
{
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_SCE);
	user_call(plain_syscall, 0);
	EXPECT(V_UD, 0, "sysretq", : : "c"(0ul));
	enable();
}

static ulong plain_sysret(ulong unused)
{
	EXPECT(V_GP, 0, "sysretq", : : "c"((ulong)on_syscall));
	return 0;
}

static void from_ring3(void)
{
	enable();
	user_call(plain_sysret, 0);
}

static void lstar_canonical(void)
{
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_LSTAR), "a"(0), "d"(0x800000));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_CSTAR), "a"(0), "d"(0x800000));
	CHECK_EQ(rdmsr(MSR_LSTAR), on_syscall);
}

static ulong do_sysenter(ulong unused)
{
	ulong cs, ss;

	/* SYSEXIT takes RIP from RDX and RSP from RCX. */
	__asm__ volatile("mov %%rsp, %%rcx\n\tmov $1f, %%edx\n\tsysenter\n"
			 "1:\tmov %%cs, %0\n\tmov %%ss, %1"
			 : "=r"(cs), "=r"(ss)
			 :
			 : "rcx", "rdx", "memory", "cc");
	CHECK_EQ(cs & 0xffff, UCODE64 | 3);
	CHECK_EQ(ss & 0xffff, UDATA2 | 3);
	return 2;
}

static bool have_sysenter(void)
{
	/* AMD processors have no SYSENTER in long mode (APM 3, SYSENTER). */
	if (cpuid(0, 0).b == 0x756e6547)
		return true;
	test_skip("SYSENTER is not for long mode on this vendor");
	return false;
}

static void sysenter_sysexit(void)
{
	if (!have_sysenter())
		return;
	wrmsr(MSR_SYSENTER_CS, KCODE);
	wrmsr(MSR_SYSENTER_ESP, (ulong)ring0_stack + 4096);
	wrmsr(MSR_SYSENTER_EIP, (ulong)on_sysenter);
	user_flags = 2 | FLAG_IF;
	CHECK_EQ(user_call(do_sysenter, 0), 2);
	user_flags = 2;
	CHECK_EQ(seen_rsp, (ulong)ring0_stack + 4096);
	CHECK_EQ(seen_flags & FLAG_IF, 0);
	CHECK_EQ(seen_cs & 0xffff, KCODE);
	CHECK_EQ(seen_ss & 0xffff, KDATA);
}

static ulong plain_sysexit(ulong unused)
{
	EXPECT(V_GP, 0, "sysexitl", : : "c"(0ul), "d"(0ul));
	return 0;
}

static void sysenter_null(void)
{
	if (!have_sysenter())
		return;
	wrmsr(MSR_SYSENTER_CS, 0);
	EXPECT(V_GP, 0, "sysenter", : :);
	EXPECT(V_GP, 0, "sysexitl", : : "c"(0ul), "d"(0ul));
	user_call(plain_sysexit, 0);
}

/* SYSRET with a 32-bit operand goes to compatibility mode. */
extern char sysret32_target[];
ulong sysret32_result, sysret32_sp, sysret32_back;
__asm__("sysret32_target:\n\t.code32\n\tmov $1, %eax\n\tdec %eax\n\t"
	"mov %cs, sysret32_result\n\tint $0x41\n\t.code64\n");
static void on_back(struct frame *f)
{
	f->cs = KCODE;
	f->ss = KDATA;
	f->ip = sysret32_back;
	f->sp = sysret32_sp;
}

static void sysret_compat(void)
{
	enable();
	trap_hook[0x41] = on_back;
	idt_set(0x41, trap_stubs + 0x41 * 16, 0xee);
	sysret32_result = 0;
	__asm__ volatile("push %%rbp\n\tpush %%rbx\n\tmov %%rsp, sysret32_sp\n\t"
			 "movq $1f, sysret32_back\n\tmov %1, %%eax\n\t"
			 "mov %%eax, %%ds\n\tmov $2, %%r11d\n\tmov %0, %%rcx\n\t"
			 "sysretl\n1:\tpop %%rbx\n\tpop %%rbp" ::"i"(sysret32_target),
			 "i"(UDATA | 3)
			 : "rax", "rcx", "r11", "memory", "cc");
	CHECK_EQ(sysret32_result, UCODE32 | 3);
}

const struct test tests[] = {
	{ "syscall and sysret", syscall_sysret, CHEAP },
	{ "disabled", disabled, CHEAP },
	{ "sysret in ring 3", from_ring3, CHEAP },
	{ "non-canonical target", lstar_canonical, CHEAP },
	{ "sysret to compatibility mode", sysret_compat, CHEAP },
	{ "sysenter and sysexit", sysenter_sysexit, CHEAP },
	{ "sysenter with a null selector", sysenter_null, CHEAP },
	{ 0 },
};
