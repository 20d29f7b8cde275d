/* MSRs: unknown ones fault, known ones hold what they must (SDM 4). */
#include "guest.h"

static void unknown(void)
{
	static const u32 index[] = { 0x5, 0x4000, 0x12345678, 0xc0000200, 0xc0010fff, 0xffffffff,
		0x80000000, 0x7ff };

	for (unsigned i = 0; i < ARRAY_LEN(index); i++) {
		EXPECT(V_GP, 0, "rdmsr", : : "c"(index[i]) : "eax", "edx");
		EXPECT(V_GP, 0, "wrmsr", : : "c"(index[i]), "a"(0), "d"(0));
	}
}

static ulong user(ulong unused)
{
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x10) : "eax", "edx");
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x10), "a"(0), "d"(0));
	return 0;
}

static void ring3(void) { user_call(user, 0); }

static void hold(void)
{
	static const u32 index[] = { MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_LSTAR, MSR_CSTAR,
		MSR_KERNEL_GS_BASE };

	for (unsigned i = 0; i < ARRAY_LEN(index); i++) {
		u64 old = rdmsr(index[i]);

		wrmsr(index[i], 0x00007123456789ab);
		CHECK_EQ(rdmsr(index[i]), 0x00007123456789ab);
		wrmsr(index[i], 0xffff888812345678);
		CHECK_EQ(rdmsr(index[i]), 0xffff888812345678);
		wrmsr(index[i], old);
	}
	wrmsr(MSR_STAR, 0x0123456789abcdef);
	CHECK_EQ(rdmsr(MSR_STAR), 0x0123456789abcdef);
}

static void pat(void)
{
	u64 old = rdmsr(0x277);

	wrmsr(0x277, 0x0007040600070406);
	CHECK_EQ(rdmsr(0x277), 0x0007040600070406);
	wrmsr(0x277, old);
}

static void pat_reserved(void)
{
	/* Types 2 and 3, and anything above 7, are reserved (SDM 3A 12.12.2). */
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x277), "a"(0x00070402), "d"(0));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x277), "a"(0), "d"(0x08000000));
}

static void upper_halves(void)
{
	ulong a = ~0ul, d = ~0ul;

	wrmsr(MSR_SFMASK, 0x12345);
	__asm__ volatile("rdmsr" : "+a"(a), "+d"(d) : "c"(0xdead0000c0000084 | 0x10000000000));
	CHECK_EQ(a, 0x12345);
	CHECK_EQ(d, 0);
}

static void tsc_write(void)
{
	u64 now;

	wrmsr(0x10, 0x100000000000);
	now = rdtsc();
	CHECK(now >= 0x100000000000 && now < 0x100000000000 + 60000000000);
}

static void apic_base(void)
{
	u64 v = rdmsr(MSR_APIC_BASE);

	CHECK_EQ(v & 0xfffff000, 0xfee00000);
	CHECK(v & 0x100); /* the boot processor */
}

const struct test tests[] = {
	{ "unknown", unknown, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "hold values", hold, CHEAP },
	{ "PAT", pat, CHEAP },
	{ "PAT types", pat_reserved, CHEAP },
	{ "upper halves", upper_halves, CHEAP },
	{ "TSC", tsc_write, 20 },
	{ "APIC base", apic_base, CHEAP },
	{ 0 },
};
