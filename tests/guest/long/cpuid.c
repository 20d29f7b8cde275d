/* CPUID: what the leaves promise must agree with each other and with the registers (SDM 2 CPUID,
 * SDM 1 13). */
#include "guest.h"

static u64 xgetbv(u32 n)
{
	u32 lo, hi;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(n));
	return (u64)hi << 32 | lo;
}

static void basic(void)
{
	struct cpuid max = cpuid(0, 0), one = cpuid(1, 0), ext = cpuid(0x80000000, 0);

	CHECK(max.a >= 7);
	CHECK(ext.a >= 0x80000008);
	/* What every 64-bit processor has. */
	CHECK_EQ(one.d & 0x07808111, 0x07808111); /* FPU TSC CX8 CMOV MMX FXSR SSE SSE2 */
	CHECK((cpuid(0x80000001, 0).d >> 29 & 1) && (cpuid(0x80000001, 0).d >> 11 & 1));
	CHECK(cpuid(0x80000008, 0).a & 0xff);
	CHECK((cpuid(0x80000008, 0).a >> 8 & 0xff) >= 48);
}

static void upper_halves(void)
{
	ulong a = 0xffffffff00000000, b, c = 0xffffffff00000000, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	CHECK_EQ((a | b | c | d) >> 32, 0);
}

static void osxsave(void)
{
	if (!(cpuid(1, 0).c & 1u << 26)) {
		test_skip("no XSAVE");
		return;
	}
	CHECK(!(cpuid(1, 0).c & 1u << 27));
	EXPECT(V_UD, 0, "xgetbv", : : "c"(0) : "eax", "edx");
	write_cr4(read_cr4() | CR4_OSXSAVE);
	CHECK(cpuid(1, 0).c & 1u << 27);
	CHECK_EQ(xgetbv(0), 1); /* after reset */
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
}

static void xcr0(void)
{
	struct cpuid d;
	u64 allowed;

	if (!(cpuid(1, 0).c & 1u << 26)) {
		test_skip("no XSAVE");
		return;
	}
	write_cr4(read_cr4() | CR4_OSXSAVE);
	d = cpuid(13, 0);
	allowed = (u64)d.d << 32 | d.a;
	CHECK_EQ(allowed & 3, 3);
	CHECK_EQ(d.b, 576); /* only x87: legacy area and header */
	EXPECT(V_GP, 0, "xsetbv", : : "a"(2), "d"(0), "c"(0)); /* bit 0 must be set */
	EXPECT(V_GP, 0, "xsetbv", : : "a"(5), "d"(0), "c"(0)); /* AVX needs SSE */
	EXPECT(V_GP, 0, "xsetbv", : : "a"(1), "d"(1u << 31), "c"(0));
	EXPECT(V_GP, 0, "xsetbv", : : "a"(3), "d"(0), "c"(1));
	EXPECT_OK("xsetbv", : : "a"(3), "d"(0), "c"(0));
	CHECK_EQ(xgetbv(0), 3);
	if (allowed & 4) {
		EXPECT_OK("xsetbv", : : "a"(7), "d"(0), "c"(0));
		CHECK_EQ(cpuid(13, 0).b, 832);
		CHECK_EQ(cpuid(13, 2).a, 256);
		CHECK_EQ(cpuid(13, 2).b, 576);
	}
	CHECK(cpuid(13, 0).c >= cpuid(13, 0).b);
	EXPECT_OK("xsetbv", : : "a"(1), "d"(0), "c"(0));
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
}

static ulong user_xgetbv(ulong unused)
{
	EXPECT_OK("xgetbv", : : "c"(0) : "eax", "edx");
	EXPECT(V_GP, 0, "xsetbv", : : "a"(1), "d"(0), "c"(0));
	return 0;
}

static void ring3(void)
{
	if (!(cpuid(1, 0).c & 1u << 26)) {
		test_skip("no XSAVE");
		return;
	}
	write_cr4(read_cr4() | CR4_OSXSAVE);
	user_call(user_xgetbv, 0);
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
}

static void dependencies(void)
{
	struct cpuid one = cpuid(1, 0), seven = cpuid(7, 0);
	bool avx = one.c & 1u << 28;

	CHECK(!avx || (one.c & 1u << 26));		     /* AVX needs XSAVE */
	CHECK(!(seven.b & 1u << 5) || avx);		     /* AVX2 */
	CHECK(!(one.c & 1u << 12) || avx);		     /* FMA */
	CHECK(!(seven.b & 1u << 16) || (seven.b & 1u << 5)); /* AVX512F */
	CHECK(!(one.c & 1u << 20) || (one.c & 1u << 9));     /* SSE4.2: SSSE3 */
	/* A feature that is not there cannot be enabled. */
	if (!(seven.b & 1u << 20))
		EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(read_cr4() | CR4_SMAP));
	if (!(one.c & 1u << 17))
		EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(read_cr4() | CR4_PCIDE));
}

static void id_flag(void)
{
	write_flags(2 | FLAG_ID);
	CHECK(read_flags() & FLAG_ID);
	write_flags(2);
	CHECK(!(read_flags() & FLAG_ID));
}

static void timestamp(void)
{
	u64 before = rdtsc();
	u32 lo, hi, aux;

	CHECK(rdtsc() >= before);
	if (cpuid(0x80000001, 0).d & 1u << 27) {
		wrmsr(0xc0000103, 0x1234);
		__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
		CHECK_EQ(aux, 0x1234);
		CHECK(((u64)hi << 32 | lo) >= before);
	}
}

static ulong user_rdtsc(ulong refused)
{
	if (refused)
		EXPECT(V_GP, 0, "rdtsc", : : : "eax", "edx");
	else
		EXPECT_OK("rdtsc", : : : "eax", "edx");
	return 0;
}

static void tsd(void)
{
	user_call(user_rdtsc, 0);
	write_cr4(read_cr4() | CR4_TSD);
	user_call(user_rdtsc, 1);
	EXPECT_OK("rdtsc", : : : "eax", "edx");
	write_cr4(read_cr4() & ~CR4_TSD);
}

const struct test tests[] = {
	{ "basic leaves", basic, CHEAP },
	{ "upper halves", upper_halves, CHEAP },
	{ "OSXSAVE", osxsave, CHEAP },
	{ "XCR0", xcr0, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "dependencies", dependencies, CHEAP },
	{ "ID flag", id_flag, CHEAP },
	{ "time stamp", timestamp, CHEAP },
	{ "CR4.TSD", tsd, CHEAP },
	{ 0 },
};
