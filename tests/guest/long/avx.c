/* AVX, AVX2, FMA, F16C and AVX-512, gated by CPUID and XCR0 (SDM 1 13-15). */
#include "guest.h"

static u64 x[8] ALIGNED(64), y[8] ALIGNED(64), z[8] ALIGNED(64);

static void xsetbv(u32 v) { __asm__ volatile("xsetbv" ::"c"(0), "a"(v), "d"(0)); }

static bool enable(u32 features)
{
	if ((cpuid(1, 0).c >> 26 & 1) && (cpuid(13, 0).a & features) == features) {
		write_cr4(read_cr4() | CR4_OSXSAVE);
		xsetbv(features);
		return true;
	}
	test_skip("not in CPUID");
	return false;
}

static void fill(void)
{
	for (unsigned i = 0; i < 8; i++) {
		x[i] = i + 1;
		y[i] = 0x10 * (i + 1);
		z[i] = 0xeeeeeeeeeeeeeeee;
	}
}

static void gating(void)
{
	write_cr4(read_cr4() & ~CR4_OSXSAVE);
	EXPECT(V_UD, 0, "vpxor %%xmm0, %%xmm0, %%xmm0", : :);
	if (!enable(7))
		return;
	EXPECT_OK("vpxor %%xmm0, %%xmm0, %%xmm0", : :);
	xsetbv(3);
	EXPECT(V_UD, 0, "vpxor %%xmm0, %%xmm0, %%xmm0", : :);
	xsetbv(7);
	write_cr0(read_cr0() | CR0_TS);
	EXPECT(V_NM, 0, "vpxor %%xmm0, %%xmm0, %%xmm0", : :);
	__asm__ volatile("clts");
}

static void upper_half(void)
{
	if (!enable(7))
		return;
	/* Legacy SSE keeps bits 255:128, VEX.128 clears them. */
	fill();
	__asm__ volatile("vmovdqu %1, %%ymm0\n\tpaddq %%xmm0, %%xmm0\n\tvmovdqu %%ymm0, %0"
			 : "=m"(z)
			 : "m"(x));
	CHECK_EQ(z[0], 2);
	CHECK_EQ(z[2], 3);
	__asm__ volatile("vmovdqu %1, %%ymm0\n\tvpaddq %%xmm0, %%xmm0, %%xmm0\n\t"
			 "vmovdqu %%ymm0, %0"
			 : "=m"(z)
			 : "m"(x));
	CHECK_EQ(z[0], 2);
	CHECK_EQ(z[2], 0);
	__asm__ volatile("vmovdqu %1, %%ymm7\n\tvzeroupper\n\tvmovdqu %%ymm7, %0"
			 : "=m"(z)
			 : "m"(x));
	CHECK_EQ(z[1], 2);
	CHECK_EQ(z[2], 0);
}

static void avx(void)
{
	if (!enable(7))
		return;
	fill();
	__asm__ volatile("vmovapd %1, %%ymm1\n\tvxorpd %2, %%ymm1, %%ymm14\n\t"
			 "vperm2f128 $1, %%ymm14, %%ymm14, %%ymm14\n\t"
			 "vmovupd %%ymm14, %0"
			 : "=m"(z)
			 : "m"(x), "m"(y));
	CHECK_EQ(z[0], x[2] ^ y[2]);
	CHECK_EQ(z[3], x[1] ^ y[1]);
	/* VEX forms do not demand alignment, the aligned moves still do. */
	EXPECT_OK("vaddps 4(%0), %%ymm0, %%ymm0", : : "r"(x));
	EXPECT(V_GP, 0, "vmovaps 16(%0), %%ymm0", : : "r"(x));
	EXPECT(V_GP, 0, "vmovaps 8(%0), %%xmm0", : : "r"(x));
}

static void avx2(void)
{
	if (!(cpuid(7, 0).b & 1u << 5)) {
		test_skip("no AVX2");
		return;
	}
	if (!enable(7))
		return;
	fill();
	__asm__ volatile("vmovdqa %1, %%ymm1\n\tvpaddq %2, %%ymm1, %%ymm1\n\t"
			 "vpermq $0x1b, %%ymm1, %%ymm2\n\tvmovdqa %%ymm2, %0"
			 : "=m"(z)
			 : "m"(x), "m"(y));
	CHECK_EQ(z[0], 0x44);
	CHECK_EQ(z[3], 0x11);
	/* Gather: indices 3 2 1 0 of x. */
	static const u64 index[4] ALIGNED(32) = { 3, 2, 1, 0 };
	__asm__ volatile("vmovdqa %1, %%ymm3\n\tvpcmpeqd %%ymm5, %%ymm5, %%ymm5\n\t"
			 "vpgatherqq %%ymm5, (%2,%%ymm3,8), %%ymm4\n\tvmovdqa %%ymm4, %0"
			 : "=m"(z)
			 : "m"(index), "r"(x));
	CHECK_EQ(z[0], 4);
	CHECK_EQ(z[3], 1);
	/* A masked store touches only what the mask names, even at an address that is not there. */
	static const u64 mask[4] ALIGNED(32) = { 1ul << 63, 0, 0, 1ul << 63 };
	fill();
	__asm__ volatile("vmovdqa %1, %%ymm1\n\tvmovdqa %2, %%ymm2\n\t"
			 "vpmaskmovq %%ymm1, %%ymm2, %0"
			 : "=m"(z)
			 : "m"(x), "m"(mask));
	CHECK_EQ(z[0], 1);
	CHECK_EQ(z[1], 0xeeeeeeeeeeeeeeee);
	CHECK_EQ(z[3], 4);
}

static void fma(void)
{
	double a = 3, b = 5, c = 7;
	u64 r;

	if (!(cpuid(1, 0).c & 1u << 12)) {
		test_skip("no FMA");
		return;
	}
	if (!enable(7))
		return;
	__asm__ volatile("vmovsd %1, %%xmm0\n\tvmovsd %2, %%xmm1\n\t"
			 "vfmadd213sd %3, %%xmm1, %%xmm0\n\tvcvttsd2si %%xmm0, %0"
			 : "=r"(r)
			 : "m"(a), "m"(b), "m"(c));
	CHECK_EQ(r, 22);
}

static void f16c(void)
{
	u64 half = 0x3c00, r;

	if (!(cpuid(1, 0).c & 1u << 29)) {
		test_skip("no F16C");
		return;
	}
	if (!enable(7))
		return;
	__asm__ volatile("vmovq %1, %%xmm0\n\tvcvtph2ps %%xmm0, %%xmm0\n\tvmovq %%xmm0, %0"
			 : "=r"(r)
			 : "r"(half));
	CHECK_EQ(r, 0x3f800000);
}

static void avx512(void)
{
	u64 k;

	if (!(cpuid(7, 0).b & 1u << 16)) {
		test_skip("no AVX-512");
		return;
	}
	if (!enable(7))
		return;
	EXPECT(V_UD, 0, "vpaddq %%zmm0, %%zmm0, %%zmm0", : :);
	if (!enable(0xe7))
		return;
	fill();
	__asm__ volatile("vmovdqa64 %1, %%zmm16\n\tvpaddq %2, %%zmm16, %%zmm31\n\t"
			 "vmovdqa64 %%zmm31, %0"
			 : "=m"(z)
			 : "m"(x), "m"(y));
	CHECK_EQ(z[0], 0x11);
	CHECK_EQ(z[7], 0x88);
	/* Merging and zeroing by mask. */
	__asm__ volatile("mov $0x81, %%eax\n\tkmovw %%eax, %%k3\n\t"
			 "vmovdqa64 %1, %%zmm17\n\t"
			 "vmovdqa64 %%zmm17, %%zmm18%{%%k3%}%{z%}\n\t"
			 "vmovdqa64 %%zmm18, %0\n\t"
			 : "=m"(z)
			 : "m"(x)
			 : "eax");
	CHECK_EQ(z[0], 1);
	CHECK_EQ(z[1], 0);
	CHECK_EQ(z[7], 8);
	/* Broadcast from memory and compare into a mask. */
	__asm__ volatile("vmovdqa64 %1, %%zmm1\n\tvpcmpgtq %2%{1to8%}, %%zmm1, %%k1\n\t"
			 "kmovw %%k1, %k0"
			 : "=r"(k)
			 : "m"(x), "m"(x[3]));
	CHECK_EQ(k, 0xf0);
	/* A VEX instruction clears bits 511:128 of its target. */
	__asm__ volatile("vmovdqa64 %1, %%zmm2\n\tvpor %%xmm2, %%xmm2, %%xmm2\n\t"
			 "vmovdqa64 %%zmm2, %0"
			 : "=m"(z)
			 : "m"(x));
	CHECK_EQ(z[1], 2);
	CHECK_EQ(z[2], 0);
	CHECK_EQ(z[7], 0);
	xsetbv(7);
}

const struct test tests[] = {
	{ "gating", gating, CHEAP },
	{ "upper halves", upper_half, CHEAP },
	{ "AVX", avx, CHEAP },
	{ "AVX2", avx2, CHEAP },
	{ "FMA", fma, CHEAP },
	{ "F16C", f16c, CHEAP },
	{ "AVX-512", avx512, CHEAP },
	{ 0 },
};
