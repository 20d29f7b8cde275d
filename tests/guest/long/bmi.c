/* Later integer instructions, each gated by CPUID: POPCNT, LZCNT, MOVBE, CRC32, BMI1/2, ADX (SDM
 * 2). */
#include "guest.h"

static bool has(u32 leaf, unsigned reg, unsigned bit)
{
	struct cpuid r = cpuid(leaf, 0);
	const u32 v[] = { r.a, r.b, r.c, r.d };

	if (v[reg] >> bit & 1)
		return true;
	test_skip("not in CPUID");
	return false;
}

static void popcnt(void)
{
	ulong r, f;

	if (!has(1, 2, 23))
		return;
	__asm__ volatile("popcntq %2, %0\n\tpushf\n\tpop %1"
			 : "=r"(r), "=r"(f)
			 : "r"(0xff00ff0000000001)
			 : "cc");
	CHECK_EQ(r, 17);
	CHECK_EQ(f & FLAGS_STATUS, 0);
	__asm__ volatile("popcntl %k2, %k0\n\tpushf\n\tpop %1"
			 : "=r"(r), "=r"(f)
			 : "r"(0xffffffff00000000)
			 : "cc");
	CHECK_EQ(r, 0);
	CHECK_EQ(f & FLAGS_STATUS, FLAG_ZF);
}

static void lzcnt_tzcnt(void)
{
	ulong r, f;

	if (!has(0x80000001, 2, 5) || !has(7, 1, 3))
		return;
	__asm__ volatile("lzcntl %k2, %k0\n\tpushf\n\tpop %1" : "=r"(r), "=r"(f) : "r"(0ul) : "cc");
	CHECK_EQ(r, 32);
	CHECK_EQ(f & FLAG_CF, FLAG_CF);
	__asm__ volatile("lzcntq %1, %0" : "=r"(r) : "r"(0x10ul) : "cc");
	CHECK_EQ(r, 59);
	__asm__ volatile("tzcntq %1, %0" : "=r"(r) : "r"(0ul) : "cc");
	CHECK_EQ(r, 64);
	__asm__ volatile("tzcntw %w1, %w0" : "+r"(r) : "r"(8ul) : "cc");
	CHECK_EQ(r, 3);
}

static void movbe(void)
{
	u64 m = 0x1122334455667788, r = 0;

	if (!has(1, 2, 22))
		return;
	__asm__ volatile("movbe %1, %0" : "=r"(r) : "m"(m));
	CHECK_EQ(r, 0x8877665544332211);
	__asm__ volatile("movbe %w1, %0" : "+m"(m) : "r"(0xaabbul));
	CHECK_EQ(m, 0x112233445566bbaa);
}

static void crc32(void)
{
	ulong c = 0xffffffff;

	if (!has(1, 2, 20))
		return;
	for (const char *p = "123456789"; *p; p++)
		__asm__ volatile("crc32b %1, %k0" : "+r"(c) : "q"(*p));
	CHECK_EQ(c ^ 0xffffffff, 0xe3069283); /* CRC-32C's published check value */
	c = ~0ul;
	__asm__ volatile("crc32q %1, %0" : "+r"(c) : "r"(0ul));
	CHECK_EQ(c >> 32, 0);
}

static void bmi1(void)
{
	ulong r, f;

	if (!has(7, 1, 3))
		return;
	__asm__ volatile("andn %2, %1, %0" : "=r"(r) : "r"(0xfful), "r"(0xff0ul) : "cc");
	CHECK_EQ(r, 0xf00);
	__asm__ volatile("bextr %2, %1, %0"
			 : "=r"(r)
			 : "r"(0x123456789aul), "r"(8ul | 16ul << 8)
			 : "cc");
	CHECK_EQ(r, 0x5678);
	__asm__ volatile("blsi %1, %0" : "=r"(r) : "r"(0x68ul) : "cc");
	CHECK_EQ(r, 8);
	__asm__ volatile("blsmsk %1, %0" : "=r"(r) : "r"(0x68ul) : "cc");
	CHECK_EQ(r, 15);
	__asm__ volatile("blsr %2, %0\n\tpushf\n\tpop %1" : "=r"(r), "=r"(f) : "r"(0ul) : "cc");
	CHECK_EQ(r, 0);
	CHECK_EQ(f & (FLAG_CF | FLAG_ZF), FLAG_CF | FLAG_ZF);
}

static void bmi2(void)
{
	ulong r, h, f;

	if (!has(7, 1, 8))
		return;
	__asm__ volatile("bzhi %2, %1, %0" : "=r"(r) : "r"(~0ul), "r"(12ul) : "cc");
	CHECK_EQ(r, 0xfff);
	__asm__ volatile("pdep %2, %1, %0" : "=r"(r) : "r"(0x5ul), "r"(0x8421ul));
	CHECK_EQ(r, 0x401);
	__asm__ volatile("pext %2, %1, %0" : "=r"(r) : "r"(0x8400ul), "r"(0x8421ul));
	CHECK_EQ(r, 0xc);
	__asm__ volatile("mulx %3, %0, %1" : "=r"(r), "=r"(h) : "d"(~0ul), "r"(2ul));
	CHECK_EQ(r, ~0ul - 1);
	CHECK_EQ(h, 1);
	__asm__ volatile("stc\n\tshlx %2, %3, %0\n\tpushf\n\tpop %1"
			 : "=r"(r), "=r"(f)
			 : "r"(65ul), "r"(1ul)
			 : "cc");
	CHECK_EQ(r, 2);
	CHECK_EQ(f & FLAG_CF, FLAG_CF);
	__asm__ volatile("sarx %1, %2, %0" : "=r"(r) : "r"(63ul), "r"(1ul << 63));
	CHECK_EQ(r, ~0ul);
	__asm__ volatile("rorx $4, %1, %0" : "=r"(r) : "r"(0xful));
	CHECK_EQ(r, 0xf000000000000000);
}

static void adx(void)
{
	ulong a = ~0ul, b = ~0ul, f;

	if (!has(7, 1, 19))
		return;
	/* Two independent carry chains: ADCX through CF, ADOX through OF. */
	__asm__ volatile("xor %%ecx, %%ecx\n\tadcx %3, %0\n\tadox %4, %1\n\tpushf\n\t"
			 "pop %2\n\t"
			 : "+r"(a), "+r"(b), "=r"(f)
			 : "r"(1ul), "r"(2ul)
			 : "rcx", "cc");
	CHECK_EQ(a, 0);
	CHECK_EQ(b, 1);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), FLAG_CF | FLAG_OF);
}

const struct test tests[] = {
	{ "popcnt", popcnt, CHEAP },
	{ "lzcnt and tzcnt", lzcnt_tzcnt, CHEAP },
	{ "movbe", movbe, CHEAP },
	{ "crc32", crc32, CHEAP },
	{ "BMI1", bmi1, CHEAP },
	{ "BMI2", bmi2, CHEAP },
	{ "ADX", adx, CHEAP },
	{ 0 },
};
