/* Protected-mode virtual interrupts: CLI and STI in ring 3 with CR4.PVI (SDM 3B 20.4). */
#include "guest.h"

static bool have(void)
{
	if (cpuid(1, 0).d & 2)
		return true;
	test_skip("no VME");
	return false;
}

static ulong toggle(ulong unused)
{
	ulong a, b;

	__asm__ volatile("sti\n\tpushf\n\tpop %0\n\tcli\n\tpushf\n\tpop %1"
			 : "=r"(a), "=r"(b)::"memory");
	return (a & FLAG_VIF ? 1 : 0) | (b & FLAG_VIF ? 2 : 0) | ((a | b) & FLAG_IF ? 4 : 0);
}

static void vif(void)
{
	if (!have())
		return;
	write_cr4(read_cr4() | CR4_PVI);
	CHECK_EQ(user_call(toggle, 0), 1);
	write_cr4(read_cr4() & ~CR4_PVI);
}

static ulong pending(ulong unused)
{
	EXPECT(V_GP, 0, "sti", : :);
	EXPECT_OK("cli", : :);
	return 0;
}

static void vip(void)
{
	if (!have())
		return;
	write_cr4(read_cr4() | CR4_PVI);
	user_flags = 2 | FLAG_VIP;
	user_call(pending, 0);
	user_flags = 2;
	write_cr4(read_cr4() & ~CR4_PVI);
}

static ulong refused(ulong unused)
{
	EXPECT(V_GP, 0, "sti", : :);
	EXPECT(V_GP, 0, "cli", : :);
	return 0;
}

static void without(void) { user_call(refused, 0); }

const struct test tests[] = {
	{ "VIF", vif, CHEAP },
	{ "VIP", vip, CHEAP },
	{ "without PVI", without, CHEAP },
	{ 0 },
};
