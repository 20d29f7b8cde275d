/* SYSENTER and SYSEXIT in protected mode (SDM 2; SDM 3A 5.8.7). */
#include "guest.h"

u32 sysenter_seen[4];
extern char sysenter_entry[];
__asm__("sysenter_entry:\n\tmov %esp, sysenter_seen\n\tpushf\n\t"
	"popl sysenter_seen + 4\n\tmov %cs, sysenter_seen + 8\n\t"
	"mov %ss, sysenter_seen + 12\n\tsysexit\n");

static bool enable(void)
{
	if (!(cpuid(1, 0).d & 1u << 11)) {
		test_skip("no SYSENTER");
		return false;
	}
	wrmsr(MSR_SYSENTER_CS, KCODE);
	wrmsr(MSR_SYSENTER_ESP, (u32)ring0_stack + 4096);
	wrmsr(MSR_SYSENTER_EIP, (u32)sysenter_entry);
	return true;
}

static ulong enter(ulong unused)
{
	ulong cs, ss;

	/* SYSEXIT takes EIP from EDX and ESP from ECX. */
	__asm__ volatile("mov %%esp, %%ecx\n\tmov $1f, %%edx\n\tsysenter\n"
			 "1:\tmov %%cs, %0\n\tmov %%ss, %1"
			 : "=&a"(cs), "=&b"(ss)::"ecx", "edx", "memory", "cc");
	return cs << 16 | ss;
}

static void there_and_back(void)
{
	if (!enable())
		return;
	user_flags = 2 | FLAG_IF;
	CHECK_EQ(user_call(enter, 0), (UCODE32 | 3) << 16 | UDATA | 3);
	user_flags = 2;
	CHECK_EQ(sysenter_seen[0], (u32)ring0_stack + 4096);
	CHECK_EQ(sysenter_seen[1] & FLAG_IF, 0);
	CHECK_EQ(sysenter_seen[2] & 0xffff, KCODE);
	CHECK_EQ(sysenter_seen[3] & 0xffff, KDATA);
}

static ulong leave(ulong unused)
{
	EXPECT(V_GP, 0, "sysexit", : : "c"(0), "d"(0));
	return 0;
}

static void refusals(void)
{
	if (!enable())
		return;
	user_call(leave, 0);
	wrmsr(MSR_SYSENTER_CS, 0);
	EXPECT(V_GP, 0, "sysenter", : :);
	EXPECT(V_GP, 0, "sysexit", : : "c"(0), "d"(0));
	enable();
}

const struct test tests[] = {
	{ "there and back", there_and_back, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ 0 },
};
