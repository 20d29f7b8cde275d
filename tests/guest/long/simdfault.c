/* Who may use the FPU and SSE, alignment, and MXCSR's exceptions (SDM 3A 6.15, 14; SDM 1 11.5). */
#include "guest.h"

static u8 data[64] ALIGNED(64);

static void task_switched(void)
{
	write_cr0(read_cr0() | CR0_TS);
	EXPECT(V_NM, 0, "fld1", : :);
	EXPECT(V_NM, 0, "fwait", : :); /* MP is set */
	EXPECT(V_NM, 0, "movd %%eax, %%mm0", : :);
	EXPECT(V_NM, 0, "movaps %%xmm0, %%xmm1", : :);
	EXPECT(V_NM, 0, "fxsave64 %0", : "=m"(data));
	EXPECT(V_NM, 0, "ldmxcsr %0", : : "m"(data));
	EXPECT_OK("pause", : :);
	EXPECT_OK("sfence", : :);
	EXPECT_OK("prefetcht0 %0", : : "m"(data));
	EXPECT_OK("movnti %0, %1", : : "r"(1), "m"(data) : "memory");
	__asm__ volatile("clts");
	CHECK(!(read_cr0() & CR0_TS));
	EXPECT_OK("fwait", : :);
}

static void emulate(void)
{
	write_cr0((read_cr0() & ~CR0_MP) | CR0_EM);
	EXPECT(V_NM, 0, "fld1", : :);
	EXPECT(V_UD, 0, "movd %%eax, %%mm0", : :);
	EXPECT(V_UD, 0, "movaps %%xmm0, %%xmm1", : :);
	EXPECT_OK("fwait", : :); /* only TS and MP together stop it */
	write_cr0((read_cr0() & ~CR0_EM) | CR0_MP);
}

static void osfxsr(void)
{
	write_cr4(read_cr4() & ~CR4_OSFXSR);
	EXPECT(V_UD, 0, "movaps %%xmm0, %%xmm1", : :);
	EXPECT(V_UD, 0, "pshufd $0, %%xmm0, %%xmm1", : :);
	EXPECT_OK("movq %%mm0, %%mm1\n\temms", : :);
	write_cr4(read_cr4() | CR4_OSFXSR);
	EXPECT_OK("movaps %%xmm0, %%xmm1", : :);
}

static void alignment(void)
{
	EXPECT(V_GP, 0, "movaps 8(%0), %%xmm0", : : "r"(data));
	EXPECT(V_GP, 0, "movdqa %%xmm0, 1(%0)", : : "r"(data) : "memory");
	EXPECT(V_GP, 0, "movntdq %%xmm0, 4(%0)", : : "r"(data) : "memory");
	EXPECT_OK("movups 8(%0), %%xmm0", : : "r"(data));
	EXPECT_OK("movdqu %%xmm0, 1(%0)", : : "r"(data) : "memory");
	EXPECT_OK("lddqu 3(%0), %%xmm0", : : "r"(data));
	EXPECT_OK("addsd 4(%0), %%xmm0", : : "r"(data));
	EXPECT_OK("movhps 4(%0), %%xmm0", : : "r"(data));
}

static void alignment_of_operands(void)
{
	EXPECT(V_GP, 0, "addps 4(%0), %%xmm0", : : "r"(data));
	EXPECT(V_GP, 0, "pxor 8(%0), %%xmm0", : : "r"(data));
}

static void alignment_fxsave(void)
{
	static u8 area[528] ALIGNED(16);

	EXPECT(V_GP, 0, "fxsave 8(%0)", : : "r"(area) : "memory");
	EXPECT(V_GP, 0, "fxrstor 8(%0)", : : "r"(area));
}

static void mxcsr_reserved(void)
{
	u32 v = 0x1f80 | 1u << 16;

	EXPECT(V_GP, 0, "ldmxcsr %0", : : "m"(v));
	__asm__ volatile("stmxcsr %0" : "=m"(v));
	CHECK_EQ(v, 0x1f80);
}

static void simd_exception(void)
{
	u32 v = 0x1f80 & ~0x200u; /* ZM clear */
	double one = 1, zero = 0;

	__asm__ volatile(
		"ldmxcsr %0\n\tmovsd %1, %%xmm0\n\tmovsd %2, %%xmm1" ::"m"(v), "m"(one), "m"(zero));
	EXPECT(V_XM, 0, "divsd %%xmm1, %%xmm0", : :);
	u64 kept;
	__asm__ volatile("movq %%xmm0, %0\n\tstmxcsr %1" : "=r"(kept), "=m"(v));
	CHECK_EQ(kept, 0x3ff0000000000000); /* the destination did not change */
	CHECK_EQ(v & 0x3f, 4);		    /* ZE */
	/* Without OSXMMEXCPT it is #UD. */
	write_cr4(read_cr4() & ~CR4_OSXMMEXCPT);
	EXPECT(V_UD, 0, "divsd %%xmm1, %%xmm0", : :);
	write_cr4(read_cr4() | CR4_OSXMMEXCPT);
	v = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(v));
	EXPECT_OK("divsd %%xmm1, %%xmm0", : :);
	__asm__ volatile("stmxcsr %0" : "=m"(v));
	CHECK_EQ(v & 0x3f, 4);
	v = 0x1f80;
	__asm__ volatile("ldmxcsr %0" ::"m"(v));
}

const struct test tests[] = {
	{ "CR0.TS", task_switched, CHEAP },
	{ "CR0.EM", emulate, CHEAP },
	{ "CR4.OSFXSR", osfxsr, CHEAP },
	{ "aligned moves", alignment, CHEAP },
	{ "aligned operands", alignment_of_operands, CHEAP },
	{ "aligned areas", alignment_fxsave, CHEAP },
	{ "MXCSR's reserved bits", mxcsr_reserved, CHEAP },
	{ "#XM", simd_exception, CHEAP },
	{ 0 },
};
