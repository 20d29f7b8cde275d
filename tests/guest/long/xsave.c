/* FXSAVE and the XSAVE family: formats, XSTATE_BV, init optimisation, compaction, refusals (SDM
 * 1 10.5, 13). */
#include "guest.h"

static u8 area[4096] ALIGNED(64), other[4096] ALIGNED(64);
static u64 x[4] ALIGNED(32) = { 1, 2, 3, 4 }, z[4] ALIGNED(32);

#define XSTATE_BV (*(volatile u64 *)(area + 512))
#define XCOMP_BV  (*(volatile u64 *)(area + 520))

#define SAVE(insn, rfbm) __asm__ volatile(insn " %0" : "+m"(area) : "a"(rfbm), "d"(0) : "memory")

static bool enable(void)
{
	if ((cpuid(1, 0).c >> 26 & 1) && (cpuid(13, 0).a & 7) == 7) {
		write_cr4(read_cr4() | CR4_OSXSAVE);
		__asm__ volatile("xsetbv" ::"c"(0), "a"(7), "d"(0));
		memset(area, 0, sizeof area);
		return true;
	}
	test_skip("no XSAVE with AVX");
	return false;
}

static void fxsave(void)
{
	memset(area, 0xee, 1024);
	__asm__ volatile("fninit\n\tfld1\n\tmovdqa %1, %%xmm0\n\tmovdqa %1, %%xmm15\n\t"
			 "fxsave64 %0"
			 : "=m"(area)
			 : "m"(x)
			 : "memory");
	CHECK_EQ(*(u16 *)area, 0x37f);
	CHECK_EQ(*(u16 *)(area + 2) & 0x3800, 7 << 11);
	CHECK_EQ(area[4], 0x80); /* abridged tag: only R7 in use */
	CHECK_EQ(*(u32 *)(area + 24), 0x1f80);
	CHECK_EQ(*(u64 *)(area + 32), 0x8000000000000000);
	CHECK_EQ(*(u64 *)(area + 160), 1);
	CHECK_EQ(*(u64 *)(area + 400), 1);
	CHECK_EQ(area[464], 0xee); /* 464 to 511 are the program's */
	__asm__ volatile("fninit\n\tpxor %%xmm0, %%xmm0\n\tfxrstor64 %1\n\t"
			 "movdqa %%xmm0, %0"
			 : "=m"(z)
			 : "m"(area));
	CHECK_EQ(z[1], 2);
	s32 r;
	__asm__ volatile("fistpl %0" : "=m"(r));
	CHECK_EQ(r, 1);
}

static void xsave(void)
{
	if (!enable())
		return;
	__asm__ volatile("fninit\n\tvmovdqa %0, %%ymm3" ::"m"(x));
	SAVE("xsave64", 7);
	CHECK_EQ(XSTATE_BV & 6, 6);
	CHECK_EQ(XCOMP_BV, 0);
	CHECK_EQ(*(u64 *)(area + 160 + 48), 1);
	CHECK_EQ(*(u64 *)(area + cpuid(13, 2).b + 48), 3); /* the upper half of YMM3 */
	__asm__ volatile("vzeroall\n\txrstor64 %1\n\tvmovdqa %%ymm3, %0"
			 : "=m"(z)
			 : "m"(area), "a"(7), "d"(0));
	CHECK_EQ(z[0], 1);
	CHECK_EQ(z[3], 4);
	/* Only what is asked for is restored. */
	__asm__ volatile("vzeroall\n\txrstor64 %1\n\tvmovdqa %%ymm3, %0"
			 : "=m"(z)
			 : "m"(area), "a"(2), "d"(0));
	CHECK_EQ(z[0], 1);
	CHECK_EQ(z[3], 0);
}

static void init_on_restore(void)
{
	if (!enable())
		return;
	/* A clear bit in XSTATE_BV puts its component into the initial state. */
	SAVE("xsave64", 7);
	XSTATE_BV = 2;
	__asm__ volatile("vmovdqa %1, %%ymm3\n\tfld1\n\txrstor64 %2\n\tvmovdqa %%ymm3, %0"
			 : "=m"(z)
			 : "m"(x), "m"(area), "a"(7), "d"(0));
	CHECK_EQ(z[2], 0);
	CHECK_EQ(z[3], 0);
	u16 cw, sw;
	__asm__ volatile("fnstcw %0\n\tfnstsw %1" : "=m"(cw), "=m"(sw));
	CHECK_EQ(cw, 0x37f);
	CHECK_EQ(sw & 0x3800, 0);
}

static void xsaveopt(void)
{
	if (!enable())
		return;
	if (!(cpuid(13, 1).a & 1)) {
		test_skip("no XSAVEOPT");
		return;
	}
	/* The init optimisation: a component in its initial state has its bit cleared. */
	__asm__ volatile("vzeroall");
	SAVE("xsaveopt64", 4);
	CHECK_EQ(XSTATE_BV & 4, 0);
	__asm__ volatile("vmovdqa %0, %%ymm3" ::"m"(x));
	SAVE("xsaveopt64", 4);
	CHECK_EQ(XSTATE_BV & 4, 4);
	__asm__ volatile("vzeroall");
}

static void xsavec(void)
{
	if (!enable())
		return;
	if (!(cpuid(13, 1).a & 2)) {
		test_skip("no XSAVEC");
		return;
	}
	__asm__ volatile("fninit\n\tvmovdqa %0, %%ymm3" ::"m"(x));
	SAVE("xsavec64", 7);
	CHECK_EQ(XCOMP_BV, 1ul << 63 | 7);
	CHECK_EQ(XSTATE_BV & 6, 6);
	CHECK_EQ(*(u64 *)(area + 576 + 48), 3);
	__asm__ volatile("vzeroall\n\txrstor64 %1\n\tvmovdqa %%ymm3, %0"
			 : "=m"(z)
			 : "m"(area), "a"(7), "d"(0));
	CHECK_EQ(z[3], 4);
	__asm__ volatile("vzeroall");
	SAVE("xsavec64", 7);
	CHECK_EQ(XSTATE_BV & 4, 0);
}

static void refusals(void)
{
	if (!enable())
		return;
	SAVE("xsave64", 7);
	EXPECT(V_GP, 0, "xsave64 8(%0)", : : "r"(area), "a"(7), "d"(0) : "memory");
	EXPECT(V_GP, 0, "xrstor64 32(%0)", : : "r"(area), "a"(7), "d"(0));
	memcpy(other, area, sizeof area);
	XSTATE_BV = 1ul << 40; /* not in XCR0 */
	EXPECT(V_GP, 0, "xrstor64 (%0)", : : "r"(area), "a"(7), "d"(0));
	memcpy(area, other, sizeof area);
	*(u64 *)(area + 520 + 8) = 1; /* reserved header bytes */
	EXPECT(V_GP, 0, "xrstor64 (%0)", : : "r"(area), "a"(7), "d"(0));
	memcpy(area, other, sizeof area);
	*(u32 *)(area + 24) = 1u << 16; /* reserved MXCSR bit */
	EXPECT(V_GP, 0, "xrstor64 (%0)", : : "r"(area), "a"(7), "d"(0));
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	EXPECT(V_UD, 0, "xsave64 (%0)", : : "r"(area), "a"(7), "d"(0) : "memory");
	write_cr4(read_cr4() | CR4_OSXSAVE);
	write_cr0(read_cr0() | CR0_TS);
	EXPECT(V_NM, 0, "xsave64 (%0)", : : "r"(area), "a"(7), "d"(0) : "memory");
	__asm__ volatile("clts");
}

const struct test tests[] = {
	{ "fxsave and fxrstor", fxsave, CHEAP },
	{ "xsave and xrstor", xsave, CHEAP },
	{ "initial state on restore", init_on_restore, CHEAP },
	{ "xsaveopt", xsaveopt, CHEAP },
	{ "xsavec", xsavec, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ 0 },
};
