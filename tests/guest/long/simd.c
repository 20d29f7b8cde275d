/* MMX, SSE to SSE4.2: one or two instructions of each class, with results anyone can check by hand
 * (SDM 2). */
#include "guest.h"

typedef struct {
	u64 q[2];
} ALIGNED(16) vec;

static vec a, b, r;

#define BINARY(insn)                                                       \
	__asm__ volatile("movdqa %1, %%xmm0\n\tmovdqa %2, %%xmm9\n\t" insn \
			 " %%xmm9, %%xmm0\n\tmovdqa %%xmm0, %0"            \
			 : "=m"(r)                                         \
			 : "m"(a), "m"(b))
#define IS(hi, lo)                    \
	do {                          \
		CHECK_EQ(r.q[1], hi); \
		CHECK_EQ(r.q[0], lo); \
	} while (0)

static void mmx(void)
{
	u64 x = 0x00ff00ff7fff8000, y = 0x0001000100010001, z;
	u16 tag[14];

	__asm__ volatile("fninit\n\tmovq %1, %%mm0\n\tmovq %2, %%mm7\n\t"
			 "paddsw %%mm7, %%mm0\n\tmovq %%mm0, %0"
			 : "=m"(z)
			 : "m"(x), "m"(y));
	CHECK_EQ(z, 0x010001007fff8001);
	__asm__ volatile("packuswb %%mm0, %%mm0\n\tmovq %%mm0, %0" : "=m"(z));
	CHECK_EQ(z, 0xffffff00ffffff00);
	/* MMX marks all x87 registers valid; EMMS all empty. */
	__asm__ volatile("fnstenv %0" : "=m"(tag)::"memory");
	CHECK(tag[4] != 0xffff);
	__asm__ volatile("emms\n\tfnstenv %0" : "=m"(tag)::"memory");
	CHECK_EQ(tag[4], 0xffff);
	__asm__ volatile("movq %1, %%mm1\n\tpsllq $4, %%mm1\n\tpmovmskb %%mm1, %%eax\n\t"
			 "movq %%mm1, %0\n\temms"
			 : "=m"(z)
			 : "m"(x)
			 : "eax");
	CHECK_EQ(z, x << 4);
}

static void sse_float(void)
{
	a = (vec){ { 0x400000003f800000, 0x4080000040400000 } }; /* 1 2 3 4 */
	b = (vec){ { 0x3f8000003f800000, 0x3f8000003f800000 } };
	BINARY("addps");
	IS(0x40a0000040800000, 0x4040000040000000);
	BINARY("mulss");
	IS(a.q[1], a.q[0]);
	BINARY("cmpltps");
	IS(0, 0);
	a.q[0] = 0x40000000c0000000;
	BINARY("maxps");
	IS(0x4080000040400000, 0x400000003f800000);
	BINARY("unpcklps");
	IS(0x3f80000040000000, 0x3f800000c0000000);
}

static void sse_scalar(void)
{
	ulong f;
	s64 i;
	double d = -2.5;

	__asm__ volatile("cvtsd2si %1, %0" : "=r"(i) : "m"(d));
	CHECK_EQ(i, (u64)-2);
	__asm__ volatile("cvttsd2si %1, %0" : "=r"(i) : "m"(d));
	CHECK_EQ(i, (u64)-2);
	__asm__ volatile("movsd %1, %%xmm1\n\tucomisd %%xmm1, %%xmm1\n\tpushf\n\tpop %0"
			 : "=r"(f)
			 : "m"(d)
			 : "cc");
	CHECK_EQ(f & FLAGS_STATUS, FLAG_ZF);
	__asm__ volatile("cvtsi2sdq %1, %%xmm2\n\tsqrtsd %%xmm2, %%xmm2\n\t"
			 "cvtsd2si %%xmm2, %0"
			 : "=r"(i)
			 : "r"(144ul));
	CHECK_EQ(i, 12);
}

static void sse2_integer(void)
{
	a = (vec){ { 0x0102030405060708, 0x090a0b0c0d0e0f10 } };
	b = (vec){ { 0x1010101010101010, 0x2020202020202020 } };
	BINARY("paddb");
	IS(0x292a2b2c2d2e2f30, 0x1112131415161718);
	BINARY("pxor");
	IS(0x292a2b2c2d2e2f30, 0x1112131415161718);
	BINARY("pmuludq");
	IS(0x0d0e0f10ul * 0x20202020ul, 0x05060708ul * 0x10101010ul);
	BINARY("punpcklqdq");
	IS(0x1010101010101010, 0x0102030405060708);
	BINARY("psadbw");
	IS(0x9c, 0x5c);
	__asm__ volatile("movdqa %1, %%xmm3\n\tpslldq $3, %%xmm3\n\t"
			 "pshufd $0x1b, %%xmm3, %%xmm3\n\tmovdqa %%xmm3, %0"
			 : "=m"(r)
			 : "m"(a));
	IS(0x0800000004050607, 0x100102030c0d0e0f);
}

static void ssse3(void)
{
	if (!(cpuid(1, 0).c & 1u << 9)) {
		test_skip("no SSSE3");
		return;
	}
	a = (vec){ { 0x0706050403020100, 0x0f0e0d0c0b0a0908 } };
	b = (vec){ { 0x8001020304050607, 0x08090a0b0c0d0e0f } };
	BINARY("pshufb");
	IS(0x08090a0b0c0d0e0f, 0x0001020304050607);
	BINARY("palignr $4,");
	IS(a.q[0] << 32 | b.q[1] >> 32, b.q[1] << 32 | b.q[0] >> 32);
	BINARY("pabsb");
	IS(0x08090a0b0c0d0e0f, 0x8001020304050607);
}

static void sse41(void)
{
	ulong v;

	if (!(cpuid(1, 0).c & 1u << 19)) {
		test_skip("no SSE4.1");
		return;
	}
	a = (vec){ { 0x00000002fffffffe, 0x0000000300000004 } };
	b = (vec){ { 0x0000000500000003, 0xffffffff00000001 } };
	BINARY("pmulld");
	IS(0xfffffffd00000004, 0x0000000afffffffa);
	BINARY("pminsd");
	IS(0xffffffff00000001, 0x00000002fffffffe);
	__asm__ volatile("movdqa %1, %%xmm4\n\tpextrd $3, %%xmm4, %k0" : "=r"(v) : "m"(a));
	CHECK_EQ(v, 3);
	__asm__ volatile("movdqa %1, %%xmm4\n\tptest %%xmm4, %%xmm4\n\tpushf\n\tpop %0"
			 : "=r"(v)
			 : "m"(a)
			 : "cc");
	CHECK_EQ(v & FLAGS_STATUS, FLAG_CF);
	__asm__ volatile("pxor %%xmm5, %%xmm5\n\tpinsrq $1, %1, %%xmm5\n\tmovdqa %%xmm5, %0"
			 : "=m"(r)
			 : "r"(0x1234567890ul));
	IS(0x1234567890, 0);
}

static void sse42(void)
{
	ulong c, f;

	if (!(cpuid(1, 0).c & 1u << 20)) {
		test_skip("no SSE4.2");
		return;
	}
	a = (vec){ { 5, 7 } };
	b = (vec){ { 6, (u64)-1 } };
	BINARY("pcmpgtq");
	IS(~0ul, 0);
	/* Equal each, byte strings ended by zero: the index of the first 'o' of "hello". */
	a = (vec){ { 'o', 0 } };
	b = (vec){ { 0x6f6c6c6568, 0 } };
	__asm__ volatile("movdqa %2, %%xmm1\n\tmovdqa %3, %%xmm2\n\t"
			 "pcmpistri $0, %%xmm2, %%xmm1\n\tpushf\n\tpop %1"
			 : "=c"(c), "=r"(f)
			 : "m"(a), "m"(b)
			 : "cc");
	CHECK_EQ(c, 4);
	CHECK_EQ(f & (FLAG_CF | FLAG_ZF | FLAG_SF), FLAG_CF | FLAG_ZF | FLAG_SF);
	__asm__ volatile("pcmpestrm $0x40, %%xmm2, %%xmm1\n\tmovdqa %%xmm0, %0"
			 : "=m"(r)
			 : "a"(1), "d"(5)
			 : "cc");
	IS(0, 0x000000ff00000000);
}

static void crypto(void)
{
	if (!(cpuid(1, 0).c & 1u << 25) || !(cpuid(1, 0).c & 2)) {
		test_skip("no AES or PCLMULQDQ");
		return;
	}
	a = (vec){ { 3, 0 } };
	b = (vec){ { 5, 0 } };
	BINARY("pclmulqdq $0,");
	IS(0, 15);
	/* The last round of zero with a zero key: S-box of 0 everywhere. */
	a = b = (vec){ { 0, 0 } };
	BINARY("aesenclast");
	IS(0x6363636363636363, 0x6363636363636363);
}

static void high_registers(void)
{
	a = (vec){ { 1, 2 } };
	__asm__ volatile("movdqu %1, %%xmm15\n\tmovdqa %%xmm15, %%xmm8\n\t"
			 "paddq %%xmm8, %%xmm8\n\tmovups %%xmm8, %0"
			 : "=m"(r)
			 : "m"(a));
	IS(4, 2);
	ulong v;
	__asm__ volatile("movq %%xmm8, %0" : "=r"(v));
	CHECK_EQ(v, 2);
	__asm__ volatile("movd %1, %%xmm8\n\tmovdqa %%xmm8, %0" : "=m"(r) : "r"(7));
	IS(0, 7);
}

const struct test tests[] = {
	{ "MMX", mmx, CHEAP },
	{ "SSE floats", sse_float, CHEAP },
	{ "SSE scalars", sse_scalar, CHEAP },
	{ "SSE2 integers", sse2_integer, CHEAP },
	{ "SSSE3", ssse3, CHEAP },
	{ "SSE4.1", sse41, CHEAP },
	{ "SSE4.2", sse42, CHEAP },
	{ "AES and PCLMULQDQ", crypto, CHEAP },
	{ "XMM8 to XMM15", high_registers, CHEAP },
	{ 0 },
};
