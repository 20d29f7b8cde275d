/* x87: arithmetic, constants, transcendentals at exact points, control, environment, exceptions
 * (SDM 1 8). */
#include "guest.h"

static u16 status(void)
{
	u16 v;
	__asm__ volatile("fnstsw %0" : "=a"(v));
	return v;
}

static void arithmetic(void)
{
	s32 a = 7, b = 3, r;
	s64 wide;

	__asm__ volatile("fninit\n\tfildl %1\n\tfimull %2\n\tfistpl %0" : "=m"(r) : "m"(a), "m"(b));
	CHECK_EQ(r, 21);
	__asm__ volatile("fildl %1\n\tfidivl %2\n\tfistpl %0" : "=m"(r) : "m"(a), "m"(b));
	CHECK_EQ(r, 2);
	CHECK(status() & 0x20); /* PE */
	__asm__ volatile("fildl %1\n\tfsqrt\n\tfmul %%st(0), %%st\n\tfistpll %0"
			 : "=m"(wide)
			 : "m"(a));
	CHECK_EQ(wide, 7);
	CHECK_EQ(status() & 0x3800, 0);
}

static void extended(void)
{
	u8 r[10];
	static const u8 pi[10] = { 0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40 };

	__asm__ volatile("fninit\n\tfldpi\n\tfstpt %0" : "=m"(r));
	CHECK_EQ(memcmp(r, pi, 10), 0);
	__asm__ volatile("fld1\n\tfchs\n\tfabs\n\tfldz\n\tfaddp\n\tfstpt %0" : "=m"(r));
	CHECK_EQ(*(u64 *)r, 0x8000000000000000);
	CHECK_EQ(*(u16 *)(r + 8), 0x3fff);
}

static void rounding(void)
{
	static const s32 want[4] = { 2, 2, 3, 2 }; /* nearest even, down, up, zero of 2.5 */
	float v = 2.5f;
	s32 r;

	for (u16 mode = 0; mode < 4; mode++) {
		u16 cw = (u16)(0x37f | mode << 10);

		__asm__ volatile("fninit\n\tfldcw %1\n\tflds %2\n\tfistpl %0"
				 : "=m"(r)
				 : "m"(cw), "m"(v));
		CHECK_EQ(r, want[mode]);
	}
	__asm__ volatile("fninit\n\tflds %1\n\tfisttpl %0" : "=m"(r) : "m"(v));
	CHECK_EQ(r, 2);
}

static void compare(void)
{
	ulong f;

	__asm__ volatile("fninit\n\tfld1\n\tfldz\n\tfcomip %%st(1), %%st\n\tpushf\n\t"
			 "pop %0\n\tfstp %%st"
			 : "=r"(f)::"cc");
	CHECK_EQ(f & (FLAG_CF | FLAG_ZF | FLAG_PF), FLAG_CF); /* 0 < 1 */
	__asm__ volatile("fldz\n\tfldz\n\tfdivrp\n\tfucomi %%st(0), %%st\n\tpushf\n\t"
			 "pop %0\n\tfstp %%st"
			 : "=r"(f)::"cc");
	CHECK_EQ(f & (FLAG_CF | FLAG_ZF | FLAG_PF), FLAG_CF | FLAG_ZF | FLAG_PF); /* NaN */
	__asm__ volatile("fninit\n\tfldz\n\tfxam");
	CHECK_EQ(status() & 0x4700, 0x4000);
	__asm__ volatile("ffree %%st(0)\n\tfxam" ::);
	CHECK_EQ(status() & 0x4500, 0x4100);
	__asm__ volatile("fninit");
}

static void transcendental(void)
{
	s32 two = 2, three = 3, r;

	/* Points where every implementation is exact. */
	__asm__ volatile("fninit\n\tfildl %1\n\tfld1\n\tfscale\n\tfistpl %0\n\tfstp %%st"
			 : "=m"(r)
			 : "m"(three));
	CHECK_EQ(r, 8);
	__asm__ volatile("fld1\n\tfildl %1\n\tfyl2x\n\tfistpl %0" : "=m"(r) : "m"(two));
	CHECK_EQ(r, 1);
	__asm__ volatile("fld1\n\tf2xm1\n\tfistpl %0" : "=m"(r));
	CHECK_EQ(r, 1);
	__asm__ volatile("fldz\n\tfsincos\n\tfistpl %0\n\tfstp %%st" : "=m"(r));
	CHECK_EQ(r, 1);
	__asm__ volatile("fldz\n\tfptan\n\tfistpl %0\n\tfstp %%st" : "=m"(r));
	CHECK_EQ(r, 1);
	__asm__ volatile("fldz\n\tfld1\n\tfpatan\n\tfistpl %0" : "=m"(r));
	CHECK_EQ(r, 0);
	__asm__ volatile("fildl %1\n\tfildl %2\n\tfprem\n\tfistpl %0\n\tfstp %%st"
			 : "=m"(r)
			 : "m"(two), "m"(three));
	CHECK_EQ(r, 1);
	__asm__ volatile("fildl %1\n\tfxtract\n\tfstp %%st\n\tfistpl %0" : "=m"(r) : "m"(two));
	CHECK_EQ(r, 1);
	CHECK_EQ(status() & 0x3800, 0);
}

static void stack_overflow(void)
{
	__asm__ volatile("fninit");
	for (unsigned i = 0; i < 9; i++)
		__asm__ volatile("fld1");
	CHECK_EQ(status() & 0x241, 0x241); /* SF, IE and C1: overflow */
	__asm__ volatile("fninit\n\tfstp %%st" ::);
	CHECK_EQ(status() & 0x241, 0x041); /* C1 clear: underflow */
	__asm__ volatile("fninit");
}

static void environment(void)
{
	static struct {
		u32 cw, sw, tw, ip, cs, dp, ds;
	} env;
	static u8 area[108];

	__asm__ volatile("fninit\n\tfld1\n\tfldz\n\tfnstenv %0" : "=m"(env)::"memory");
	CHECK_EQ(env.cw & 0xffff, 0x37f);
	CHECK_EQ(env.sw & 0x3800, 6 << 11);
	CHECK_EQ(env.tw & 0xffff, 0x1fff); /* R6 zero (01), R7 valid (00), others empty */
	__asm__ volatile("fnsave %0" : "=m"(area)::"memory");
	__asm__ volatile("fnstenv %0" : "=m"(env)::"memory");
	CHECK_EQ(env.tw & 0xffff, 0xffff); /* FNSAVE initialises */
	__asm__ volatile("frstor %0" ::"m"(area));
	CHECK_EQ(status() & 0x3800, 6 << 11);
	s32 r;
	__asm__ volatile("fistpl %0" : "=m"(r));
	CHECK_EQ(r, 0);
	__asm__ volatile("fistpl %0" : "=m"(r));
	CHECK_EQ(r, 1);
}

static void exception(void)
{
	u16 cw = 0x37b; /* ZM clear */

	/* A pending unmasked exception is raised by the next waiting instruction: #MF there. */
	__asm__ volatile("fninit\n\tfldcw %0\n\tfld1\n\tfldz\n\tfdivrp" ::"m"(cw));
	CHECK(status() & 0x8000);
	EXPECT(V_MF, 0, "fwait", : :);
	EXPECT(V_MF, 0, "fld1", : :);
	EXPECT_OK("fnclex", : :);
	EXPECT_OK("fwait", : :);
	__asm__ volatile("fninit");
}

static void bcd(void)
{
	u8 v[10] = { 0x89, 0x67, 0x45, 0x23, 0x01, 0, 0, 0, 0, 0x80 }, out[10];
	s64 r;

	__asm__ volatile("fninit\n\tfbld %2\n\tfld %%st\n\tfistpll %0\n\tfbstp %1"
			 : "=m"(r), "=m"(out)
			 : "m"(v));
	CHECK_EQ(r, (u64)-123456789);
	CHECK_EQ(memcmp(v, out, 10), 0);
}

static void conditional_moves(void)
{
	s32 r;

	__asm__ volatile("fninit\n\tfldz\n\tfld1\n\tstc\n\tfcmovb %%st(1), %%st\n\t"
			 "fistpl %0\n\tfstp %%st"
			 : "=m"(r)::"cc");
	CHECK_EQ(r, 0);
	__asm__ volatile("fldz\n\tfld1\n\tclc\n\tfcmovb %%st(1), %%st\n\tfistpl %0\n\t"
			 "fstp %%st"
			 : "=m"(r)::"cc");
	CHECK_EQ(r, 1);
}

const struct test tests[] = {
	{ "arithmetic", arithmetic, CHEAP },
	{ "extended precision", extended, CHEAP },
	{ "rounding", rounding, CHEAP },
	{ "compare", compare, CHEAP },
	{ "transcendental", transcendental, CHEAP },
	{ "stack overflow", stack_overflow, CHEAP },
	{ "environment", environment, CHEAP },
	{ "#MF", exception, CHEAP },
	{ "packed BCD", bcd, CHEAP },
	{ "conditional moves", conditional_moves, CHEAP },
	{ 0 },
};
