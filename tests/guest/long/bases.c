/* FS and GS bases: MSRs, SWAPGS, RDFSBASE and its kin, selector loads (SDM 3A 3.4.4, SDM 2). */
#include "guest.h"

static u64 a[4] = { 11, 12, 13, 14 }, b[4] = { 21, 22, 23, 24 };

static u64 fs_word(void)
{
	u64 v;
	__asm__ volatile("mov %%fs:8, %0" : "=r"(v)::"memory");
	return v;
}
static u64 gs_word(void)
{
	u64 v;
	__asm__ volatile("mov %%gs:8, %0" : "=r"(v)::"memory");
	return v;
}

static void by_msr(void)
{
	wrmsr(MSR_FS_BASE, (ulong)a);
	wrmsr(MSR_GS_BASE, (ulong)b);
	CHECK_EQ(fs_word(), 12);
	CHECK_EQ(gs_word(), 22);
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_FS_BASE), "a"(0), "d"(0x800000));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_KERNEL_GS_BASE), "a"(0), "d"(0x800000));
	CHECK_EQ(rdmsr(MSR_FS_BASE), a);
}

static void negative(void)
{
	u64 v;

	/* Base plus displacement wraps at 64 bits. */
	wrmsr(MSR_GS_BASE, (ulong)a + 0x1000);
	__asm__ volatile("mov %%gs:-4096, %0" : "=r"(v)::"memory");
	CHECK_EQ(v, 11);
	/* LEA takes no base. */
	__asm__ volatile(".byte 0x65\n\tlea 8, %0" : "=r"(v));
	CHECK_EQ(v, 8);
}

static void swapgs(void)
{
	wrmsr(MSR_GS_BASE, (ulong)a);
	wrmsr(MSR_KERNEL_GS_BASE, (ulong)b);
	__asm__ volatile("swapgs");
	CHECK_EQ(gs_word(), 22);
	CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), a);
	__asm__ volatile("swapgs");
	CHECK_EQ(gs_word(), 12);
}

static ulong user_swapgs(ulong unused)
{
	EXPECT(V_GP, 0, "swapgs", : :);
	return 0;
}

static void swapgs_ring3(void) { user_call(user_swapgs, 0); }

static bool have(void)
{
	if (cpuid(7, 0).b & 1)
		return true;
	test_skip("no FSGSBASE");
	return false;
}

static ulong user_bases(ulong base)
{
	u64 v;

	__asm__ volatile("wrfsbase %1\n\trdfsbase %0" : "=&r"(v) : "r"(base));
	CHECK_EQ(v, base);
	__asm__ volatile("wrgsbase %1\n\trdgsbase %0" : "=&r"(v) : "r"(base));
	CHECK_EQ(v, base);
	__asm__ volatile("wrfsbase %k1\n\trdfsbase %k0" : "=&r"(v) : "r"(0xffffffff12345678));
	CHECK_EQ(v, 0x12345678);
	EXPECT(V_GP, 0, "wrgsbase %0", : : "r"(0x8000000000000000));
	return 0;
}

static void fsgsbase(void)
{
	u64 v;

	if (!have())
		return;
	EXPECT(V_UD, 0, "rdfsbase %0", : "=r"(v));
	EXPECT(V_UD, 0, "wrgsbase %0", : : "r"(0ul));
	write_cr4(read_cr4() | CR4_FSGSBASE);
	user_call(user_bases, (ulong)a);
	CHECK_EQ(rdmsr(MSR_GS_BASE), a);
	CHECK_EQ(rdmsr(MSR_FS_BASE), 0x12345678);
	write_cr4(read_cr4() & ~CR4_FSGSBASE);
}

static void selectors(void)
{
	/* Loading a descriptor replaces the base by 32 bits of it. */
	gdt[FREE0 / 8] = descriptor((u32)(ulong)b, 0xfffff, 0xf3, 0xc);
	wrmsr(MSR_FS_BASE, 0xffff888000000000);
	__asm__ volatile("mov %0, %%fs" ::"r"(FREE0));
	CHECK_EQ(rdmsr(MSR_FS_BASE), b);
	CHECK_EQ(fs_word(), 22);
	/* The limit does not count in 64-bit code. */
	gdt[FREE0 / 8] = descriptor((u32)(ulong)b, 0, 0xf3, 0);
	__asm__ volatile("mov %0, %%fs" ::"r"(FREE0));
	CHECK_EQ(fs_word(), 22);
	__asm__ volatile("mov %0, %%fs" ::"r"(0));
	wrmsr(MSR_FS_BASE, 0);
}

const struct test tests[] = {
	{ "MSRs", by_msr, CHEAP },
	{ "wrap", negative, CHEAP },
	{ "swapgs", swapgs, CHEAP },
	{ "swapgs in ring 3", swapgs_ring3, CHEAP },
	{ "FSGSBASE", fsgsbase, CHEAP },
	{ "selector loads", selectors, CHEAP },
	{ 0 },
};
