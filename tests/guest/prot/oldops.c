/* Instructions that 64-bit mode dropped: BCD adjustments, BOUND, INTO, PUSHA, SALC, ENTER with
 * nesting (SDM 2). */
#include "guest.h"

#define ADJUST(insn, a, in)                                                       \
	({                                                                        \
		ulong f_ = (in) | 2;                                              \
		__asm__ volatile("push %0\n\tpopf\n\t" insn "\n\tpushf\n\tpop %0" \
				 : "+r"(f_), "+a"(a)::"memory", "cc");            \
		f_ &FLAGS_STATUS;                                                 \
	})

/* What SDM 2 says DAA and DAS do, for every AL, CF and AF. */
static void decimal(void)
{
	for (unsigned i = 0; i < 1024; i++) {
		u8 al = (u8)i;
		bool cf = i & 256, af = i & 512, low = (al & 15) > 9 || af, high = al > 0x99 || cf;
		u32 a = al;
		ulong f = ADJUST("daa", a, (cf ? FLAG_CF : 0) | (af ? FLAG_AF : 0));

		CHECK_EQ((u8)a, (u8)(al + (low ? 6 : 0) + (high ? 0x60 : 0)));
		CHECK_EQ(f & FLAG_AF, low ? FLAG_AF : 0);
		CHECK_EQ(f & FLAG_CF, high ? FLAG_CF : 0);
		a = al;
		f = ADJUST("das", a, (cf ? FLAG_CF : 0) | (af ? FLAG_AF : 0));
		CHECK_EQ((u8)a, (u8)(al - (low ? 6 : 0) - (high ? 0x60 : 0)));
		CHECK_EQ(f & FLAG_CF, high || (low && (al < 6 || cf)) ? FLAG_CF : 0);
		CHECK_EQ(f & FLAG_ZF, (u8)a ? 0 : FLAG_ZF);
	}
}

static void ascii(void)
{
	u32 a = 0x000b;
	ulong f;

	f = ADJUST("aaa", a, 0);
	CHECK_EQ(a, 0x101);
	CHECK_EQ(f & (FLAG_CF | FLAG_AF), FLAG_CF | FLAG_AF);
	a = 0x00fa; /* the carry out of AL goes into AH: AX + 0x106 */
	ADJUST("aaa", a, 0);
	CHECK_EQ(a, 0x200);
	a = 0x0205;
	ADJUST("aas", a, FLAG_AF);
	CHECK_EQ(a, 0xf); /* AX - 6 borrows from AH, which loses one more */
	a = 63;
	ADJUST("aam", a, 0);
	CHECK_EQ(a, 0x603);
	a = 0x0603;
	f = ADJUST("aad", a, 0);
	CHECK_EQ(a, 63);
	CHECK_EQ(f & (FLAG_ZF | FLAG_SF), 0);
	a = 0x1f;
	ADJUST(".byte 0xd4, 16", a, 0); /* AAM with another base */
	CHECK_EQ(a, 0x10f);
	EXPECT(V_DE, 0, ".byte 0xd4, 0", : : "a"(5));
}

static void bound(void)
{
	static s32 range[2] = { -5, 10 };

	EXPECT_OK("bound %0, (%1)", : : "r"(-5), "r"(range));
	EXPECT_OK("bound %0, (%1)", : : "r"(10), "r"(range));
	EXPECT(V_BR, 0, "bound %0, (%1)", : : "r"(11), "r"(range));
	EXPECT(V_BR, 0, "bound %0, (%1)", : : "r"(-6), "r"(range));
}

static void into(void)
{
	EXPECT_OK("into", : :);
	EXPECT_AT(V_OF, 0, 7, "movb $0x7f, %%al\n\taddb $1, %%al\n\tnop\n\tnop\n\tinto",
		  :
		  :
		  : "eax", "cc");
}

static void pusha(void)
{
	u32 out[8];

	__asm__ volatile("push %%ebp\n\tpush %%ebx\n\tmov $0xb, %%ebp\n\t"
			 "mov $3, %%ebx\n\tpushal\n\tpop %%eax\n\tmov %%eax, (%0)\n\t"
			 "pop %%eax\n\tmov %%eax, 4(%0)\n\tpop %%eax\n\t"
			 "mov %%eax, 8(%0)\n\tpop %%eax\n\tpop %%eax\n\t"
			 "mov %%eax, 16(%0)\n\tpop %%eax\n\tmov %%eax, 20(%0)\n\t"
			 "pop %%eax\n\tmov %%eax, 24(%0)\n\tpop %%eax\n\t"
			 "mov %%eax, 28(%0)\n\tpop %%ebx\n\tpop %%ebp" ::"D"(out),
			 "a"(1), "c"(2), "d"(4), "S"(5)
			 : "memory");
	CHECK_EQ(out[0], (ulong)out);
	CHECK_EQ(out[1], 5);
	CHECK_EQ(out[2], 0xb);
	CHECK_EQ(out[4], 3);
	CHECK_EQ(out[5], 4);
	CHECK_EQ(out[6], 2);
	CHECK_EQ(out[7], 1);
}

static void salc(void)
{
	u32 a = 0x1234;

	__asm__ volatile("stc\n\t.byte 0xd6" : "+a"(a)::"cc");
	CHECK_EQ(a, 0x12ff);
	__asm__ volatile("clc\n\t.byte 0xd6" : "+a"(a)::"cc");
	CHECK_EQ(a, 0x1200);
}

static void enter_nested(void)
{
	u32 one, two, sp;
	static u32 frame[4] = { 0x11, 0x22, 0x33, 0x44 };

	/* Level 3 copies two outer frame pointers, below the one EBP points at, and then its own.
	 */
	__asm__ volatile("push %%ebp\n\tmov %3, %%ebp\n\tmov %%esp, %%ecx\n\t"
			 "enter $16, $3\n\tmov -4(%%ebp), %0\n\tmov -8(%%ebp), %1\n\t"
			 "mov -12(%%ebp), %2\n\tsub %%ebp, %2\n\tmov %%ebp, %%eax\n\t"
			 "sub %%esp, %%eax\n\tmov %%ecx, %%esp\n\tpop %%ebp"
			 : "=&b"(one), "=&d"(two), "=&S"(sp)
			 : "r"(&frame[3])
			 : "eax", "ecx", "memory", "cc");
	CHECK_EQ(one, 0x33);
	CHECK_EQ(two, 0x22);
	CHECK_EQ(sp, 0);
}

static void single_byte(void)
{
	u32 a = 0xffffffff;
	ulong f;

	/* INC and DEC in one byte; 0x40 to 0x4f are no prefixes here. */
	__asm__ volatile(".byte 0x40\n\tpushf\n\tpop %1" : "+a"(a), "=r"(f)::"cc");
	CHECK_EQ(a, 0);
	CHECK(f & FLAG_ZF);
	__asm__ volatile(".byte 0x48" : "+a"(a)::"cc");
	CHECK_EQ(a, 0xffffffff);
}

static void loops16(void)
{
	u32 c = 0x10002, n = 0;

	__asm__ volatile("1:\tinc %0\n\taddr16 loop 1b" : "+r"(n), "+c"(c)::"cc");
	CHECK_EQ(n, 2);
	CHECK_EQ(c, 0x10000);
	__asm__ volatile("xor %0, %0\n\tjcxz 1f\n\tinc %0\n1:\tjecxz 2f\n\torl $2, %0\n2:"
			 : "=&r"(n)
			 : "c"(0x10000)
			 : "cc");
	CHECK_EQ(n, 2);
	/* 16-bit addressing wraps at 64 KiB. */
	u32 ea;
	__asm__ volatile("addr16 lea 0x10(%%bx, %%si), %0" : "=r"(ea) : "b"(0xfff8), "S"(0x10));
	CHECK_EQ(ea, 0x18);
}

static void stack_words(void)
{
	ulong before, after;
	u32 v;

	__asm__ volatile("mov %%esp, %0\n\tpushw $0x5566\n\tpushl $0x11223344\n\t"
			 "mov %%esp, %1\n\tpop %2\n\tadd $2, %%esp"
			 : "=&r"(before), "=&r"(after), "=&r"(v)::"memory", "cc");
	CHECK_EQ(before - after, 6);
	CHECK_EQ(v, 0x11223344);
}

const struct test tests[] = {
	{ "daa and das", decimal, 5 },
	{ "aaa aas aam aad", ascii, CHEAP },
	{ "bound", bound, CHEAP },
	{ "into", into, CHEAP },
	{ "pusha", pusha, CHEAP },
	{ "salc", salc, CHEAP },
	{ "enter", enter_nested, CHEAP },
	{ "inc and dec", single_byte, CHEAP },
	{ "16-bit addresses", loops16, CHEAP },
	{ "stack words", stack_words, CHEAP },
	{ 0 },
};
