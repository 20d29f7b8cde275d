/* Integer instructions: shifts, rotates, multiply and divide with their flags; conditions (SDM 2).
 */
#include "guest.h"

/* Runs insn on rax (and rcx as count), flags in and out. */
#define OP(insn, a, c, in)                                                        \
	({                                                                        \
		ulong f_ = (in) | 2;                                              \
		__asm__ volatile("push %0\n\tpopf\n\t" insn "\n\tpushf\n\tpop %0" \
				 : "+r"(f_), "+a"(a)                              \
				 : "c"(c)                                         \
				 : "memory", "cc");                               \
		f_ &FLAGS_STATUS;                                                 \
	})

static void shifts(void)
{
	ulong a, f;

	a = 0x80000001;
	f = OP("shll $1, %%eax", a, 0, 0);
	CHECK_EQ(a, 2);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF | FLAG_ZF | FLAG_SF | FLAG_PF), FLAG_CF | FLAG_OF);
	a = 0x80;
	f = OP("sarb $1, %%al", a, 0, 0);
	CHECK_EQ(a, 0xc0);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF | FLAG_SF), FLAG_SF);
	a = 0x8000000000000000;
	f = OP("shrq $1, %%rax", a, 0, 0);
	CHECK_EQ(a, 0x4000000000000000);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), FLAG_OF);
	/* The count is masked: 32 means 0, and then flags do not change at all. */
	a = 0x12345678;
	f = OP("shll %%cl, %%eax", a, 32, FLAGS_STATUS);
	CHECK_EQ(a, 0x12345678);
	CHECK_EQ(f, FLAGS_STATUS);
	a = 1;
	OP("shlq %%cl, %%rax", a, 33, 0);
	CHECK_EQ(a, 0x200000000);
	/* Counts from 9 to 31 on a byte empty it. */
	a = 0xff;
	OP("shrb %%cl, %%al", a, 20, 0);
	CHECK_EQ(a, 0);
	/* A 32-bit shift by 0 still zero-extends. */
	a = 0xffffffff00000001;
	OP("shll %%cl, %%eax", a, 0, 0);
	CHECK_EQ(a, 1);
}

static void rotates(void)
{
	ulong a, f;

	a = 0x81;
	f = OP("rolb $1, %%al", a, 0, 0);
	CHECK_EQ(a, 3);
	CHECK_EQ(f, FLAG_CF | FLAG_OF);
	a = 0x81;
	f = OP("rolb %%cl, %%al", a, 8, FLAG_ZF);
	CHECK_EQ(a, 0x81);
	CHECK_EQ(f & (FLAG_CF | FLAG_ZF),
		FLAG_CF | FLAG_ZF); /* rotated all the way: CF is set from bit 0 */
	a = 0x80;
	f = OP("rclb $1, %%al", a, 0, FLAG_CF);
	CHECK_EQ(a, 1);
	CHECK_EQ(f & FLAG_CF, FLAG_CF);
	a = 1;
	f = OP("rcrl $1, %%eax", a, 0, FLAG_CF);
	CHECK_EQ(a, 0x80000000);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), FLAG_CF | FLAG_OF);
	a = 0x55; /* RCL of a byte goes round in 9 */
	f = OP("rclb %%cl, %%al", a, 9, FLAG_CF);
	CHECK_EQ(a, 0x55);
	CHECK_EQ(f & FLAG_CF, FLAG_CF);
	a = 0x1234; /* RCR of a word in 17 */
	f = OP("rcrw %%cl, %%ax", a, 17, 0);
	CHECK_EQ(a, 0x1234);
	CHECK_EQ(f & FLAG_CF, 0);
	a = 0xf0;
	f = OP("rorq $4, %%rax", a, 0, 0);
	CHECK_EQ(a, 0xf);
}

static void double_shifts(void)
{
	ulong a, f;

	a = 0x12345678;
	f = OP("shldl $8, %%ecx, %%eax", a, 0xabcdef01, 0);
	CHECK_EQ(a, 0x345678ab);
	CHECK_EQ(f & FLAG_CF, 0);
	a = 0x12345678;
	OP("shrdl $8, %%ecx, %%eax", a, 0xabcdef01, 0);
	CHECK_EQ(a, 0x01123456);
	a = 1;
	OP("shldq %%cl, %%rcx, %%rax", a, 0x8000000000000001, 0);
	CHECK_EQ(a, 3);
	a = 0x5555;
	f = OP("shldl %%cl, %%ecx, %%eax", a, 64, FLAGS_STATUS);
	CHECK_EQ(a, 0x5555);
	CHECK_EQ(f, FLAGS_STATUS);
}

static void multiply(void)
{
	ulong a = 0xffffffffffffffff, d, f;

	__asm__ volatile("mulq %%rcx\n\tpushf\n\tpop %2"
			 : "+a"(a), "=d"(d), "=r"(f)
			 : "c"(0xffffffffffffffff)
			 : "cc");
	CHECK_EQ(a, 1);
	CHECK_EQ(d, 0xfffffffffffffffe);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), FLAG_CF | FLAG_OF);
	a = 0xff;
	__asm__ volatile("imulb %%cl\n\tpushf\n\tpop %1" : "+a"(a), "=r"(f) : "c"(0xfful) : "cc");
	CHECK_EQ(a & 0xffff, 1);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), 0);
	a = 0x10000;
	__asm__ volatile("imull $0x10000, %%eax, %%eax\n\tpushf\n\tpop %1"
			 : "+a"(a), "=r"(f)::"cc");
	CHECK_EQ(a, 0);
	CHECK_EQ(f & (FLAG_CF | FLAG_OF), FLAG_CF | FLAG_OF);
	a = 0x8000;
	__asm__ volatile("mulw %%cx" : "+a"(a), "=d"(d) : "c"(4) : "cc");
	CHECK_EQ(a & 0xffff, 0);
	CHECK_EQ(d & 0xffff, 2);
}

static void divide(void)
{
	ulong a = 5, d = 3;

	__asm__ volatile("divq %%rcx" : "+a"(a), "+d"(d) : "c"(0x10ul) : "cc");
	CHECK_EQ(a, 0x3000000000000000);
	CHECK_EQ(d, 5);
	a = (ulong)-7;
	d = (ulong)-1;
	__asm__ volatile("idivq %%rcx" : "+a"(a), "+d"(d) : "c"(2ul) : "cc");
	CHECK_EQ(a, (u64)-3);
	CHECK_EQ(d, (u64)-1);
	EXPECT(V_DE, 0, "divq %%rcx", : : "a"(0), "d"(16ul), "c"(16ul));
	EXPECT(V_DE, 0, "idivq %%rcx", : : "a"(0x8000000000000000), "d"(-1ul), "c"(-1ul));
	EXPECT(V_DE, 0, "idivl %%ecx", : : "a"(0), "d"(1), "c"(1));
	EXPECT(V_DE, 0, "divb %%cl", : : "a"(0x100), "c"(1));
	EXPECT(V_DE, 0, "idivw %%cx", : : "a"(0x8000), "d"(0xffff), "c"(0xffff));
	/* -128 fits, 128 does not. */
	EXPECT_OK("idivb %%cl", : : "a"(0xff80), "c"(1));
	EXPECT(V_DE, 0, "idivb %%cl", : : "a"(0x0080), "c"(1));
}

static void conditions(void)
{
	/* Each condition against its definition, for all 32 combinations of the five flags. */
	for (unsigned i = 0; i < 32; i++) {
		bool cf = i & 1, pf = i & 2, zf = i & 4, sf = i & 8, of = i & 16;
		ulong f = (cf ? FLAG_CF : 0) | (pf ? FLAG_PF : 0) | (zf ? FLAG_ZF : 0) |
			  (sf ? FLAG_SF : 0) | (of ? FLAG_OF : 0) | 2;
		u32 want = 0, set = 0, moved = 0, jumped = 0;
		const bool value[16] = { of, !of, cf, !cf, zf, !zf, cf || zf, !(cf || zf), sf, !sf,
			pf, !pf, sf != of, sf == of, zf || sf != of, !zf && sf == of };

		for (unsigned c = 0; c < 16; c++)
			want |= (u32)value[c] << c;
#define COND(n, cc)                                                                  \
	__asm__ volatile("push %3\n\tpopf\n\tset" cc " %b0\n\tmov $0, %1\n\tcmov" cc \
			 " %4, %1\n\tmov $1, %2\n\tj" cc " 1f\n\tmov $0, %2\n1:"     \
			 : "=&q"(s), "=&r"(m), "=&r"(j)                              \
			 : "r"(f), "r"(1)                                            \
			 : "memory", "cc");                                          \
	set |= (u32)(u8)s << n, moved |= m << n, jumped |= j << n
		u32 s, m, j;
		COND(0, "o");
		COND(1, "no");
		COND(2, "b");
		COND(3, "ae");
		COND(4, "e");
		COND(5, "ne");
		COND(6, "be");
		COND(7, "a");
		COND(8, "s");
		COND(9, "ns");
		COND(10, "p");
		COND(11, "np");
		COND(12, "l");
		COND(13, "ge");
		COND(14, "le");
		COND(15, "g");
		CHECK_EQ(set, want);
		CHECK_EQ(moved, want);
		CHECK_EQ(jumped, want);
	}
}

static void arithmetic_flags(void)
{
	ulong a, f;

	a = 0x7fffffff;
	f = OP("addl %%ecx, %%eax", a, 1, 0);
	CHECK_EQ(f, FLAG_OF | FLAG_SF | FLAG_AF | FLAG_PF);
	a = 0xff;
	f = OP("addb %%cl, %%al", a, 1, 0);
	CHECK_EQ(f, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF);
	a = 0;
	f = OP("sbbq %%rcx, %%rax", a, 0, FLAG_CF);
	CHECK_EQ(a, ~0ul);
	CHECK_EQ(f, FLAG_CF | FLAG_SF | FLAG_AF | FLAG_PF);
	a = 0xffffffffffffffff;
	f = OP("incq %%rax", a, 0, FLAG_CF);
	CHECK_EQ(f, FLAG_CF | FLAG_ZF | FLAG_AF | FLAG_PF); /* INC keeps CF */
	a = 0x80;
	f = OP("negb %%al", a, 0, 0);
	CHECK_EQ(f, FLAG_CF | FLAG_OF | FLAG_SF);
	a = 0xf0f0;
	f = OP("andl %%ecx, %%eax", a, 0x0f0f, FLAG_CF | FLAG_OF);
	CHECK_EQ(f & ~FLAG_AF, FLAG_ZF | FLAG_PF);
	a = 5;
	f = OP("notl %%eax", a, 0, FLAGS_STATUS);
	CHECK_EQ(f, FLAGS_STATUS);
	a = 0;
	f = OP("sahf", a, 0, FLAGS_STATUS);
	CHECK_EQ(f, FLAG_OF);
}

static void loops(void)
{
	ulong c = 0x100000001, n = 0;

	/* LOOP with 32-bit addresses counts in ECX and clears the upper half. */
	__asm__ volatile("1:\tinc %0\n\taddr32 loop 1b" : "+r"(n), "+c"(c)::"cc");
	CHECK_EQ(n, 1);
	CHECK_EQ(c, 0);
	c = 5;
	n = 0;
	__asm__ volatile("1:\tinc %0\n\tcmp $3, %0\n\tloopne 1b" : "+r"(n), "+c"(c)::"cc");
	CHECK_EQ(n, 3);
	CHECK_EQ(c, 2);
	n = 0;
	__asm__ volatile("mov $0x100000000, %%rcx\n\tjrcxz 1f\n\tor $1, %0\n"
			 "1:\tjecxz 2f\n\tor $2, %0\n2:"
			 : "+r"(n)::"rcx", "cc");
	CHECK_EQ(n, 1);
	c = 0;
	n = 0; /* LOOP decrements first: 0 becomes all ones and is taken */
	__asm__ volatile("loop 1f\n\tmov $1, %0\n1:" : "+r"(n), "+c"(c));
	CHECK_EQ(n, 0);
	CHECK_EQ(c, ~0ul);
}

static void extensions(void)
{
	ulong a = 0x80;

	__asm__ volatile("cbw\n\tcwde\n\tcdqe" : "+a"(a));
	CHECK_EQ(a, 0xffffffffffffff80);
	ulong d;
	__asm__ volatile("cqo" : "=d"(d), "+a"(a));
	CHECK_EQ(d, ~0ul);
	__asm__ volatile("mov $0x8000, %%eax\n\tcwd\n\tmovzwl %%dx, %k0" : "=d"(d)::"rax");
	CHECK_EQ(d, 0xffff);
	__asm__ volatile("movslq %1, %0" : "=r"(a) : "r"(0x80000000));
	CHECK_EQ(a, 0xffffffff80000000);
	__asm__ volatile("mov $0x1122, %%eax\n\tmov %%ah, %%cl\n\tmovsbl %%ah, %k0\n\t"
			 "xchg %%al, %%ah\n\tmovzwl %%ax, %k0"
			 : "=d"(d)::"rax", "rcx");
	CHECK_EQ(d, 0x2211);
	__asm__ volatile("bswap %0" : "=r"(a) : "0"(0x0102030405060708));
	CHECK_EQ(a, 0x0807060504030201);
}

static void stack_forms(void)
{
	ulong a, before, after;

	/* PUSH SP pushes the old value, POP SP the popped one; ENTER with nesting copies frames. */
	__asm__ volatile("mov %%rsp, %1\n\tpush %%rsp\n\tpop %0"
			 : "=&r"(a), "=&r"(before)::"memory");
	CHECK_EQ(a, before);
	__asm__ volatile("mov %%rsp, %1\n\tpushw $0x1234\n\tpopw %%ax\n\t"
			 "mov %%rsp, %2\n\tmovzwl %%ax, %%eax"
			 : "=&a"(a), "=&c"(before), "=&d"(after)::"memory");
	CHECK_EQ(a, 0x1234);
	CHECK_EQ(before, after);
	__asm__ volatile("push $-2\n\tpop %0" : "=r"(a)::"memory");
	CHECK_EQ(a, (u64)-2);
	__asm__ volatile("push %%rbp\n\tmov %%rsp, %1\n\tenter $32, $1\n\t"
			 "mov %%rbp, %0\n\tmov %%rsp, %2\n\tleave\n\tpop %%rbp"
			 : "=&a"(a), "=&c"(before), "=&d"(after)::"memory");
	CHECK_EQ(a, before - 8);
	CHECK_EQ(after, before - 8 - 8 - 32);
	/* POP to RSP-based memory uses the RSP after the pop. */
	__asm__ volatile("sub $16, %%rsp\n\tmovq $0, 8(%%rsp)\n\tpush $77\n\t"
			 "popq 8(%%rsp)\n\tmov 8(%%rsp), %0\n\tadd $16, %%rsp"
			 : "=r"(a)::"memory");
	CHECK_EQ(a, 77);
}

static void xlat(void)
{
	static u8 table[256];
	ulong a = 0x1105;

	table[5] = 0x99;
	__asm__ volatile("xlatb" : "+a"(a) : "b"(table) : "memory");
	CHECK_EQ(a, 0x1199);
}

const struct test tests[] = {
	{ "arithmetic flags", arithmetic_flags, CHEAP },
	{ "shifts", shifts, CHEAP },
	{ "rotates", rotates, CHEAP },
	{ "double shifts", double_shifts, CHEAP },
	{ "multiply", multiply, CHEAP },
	{ "divide", divide, CHEAP },
	{ "conditions", conditions, CHEAP },
	{ "loops", loops, CHEAP },
	{ "extensions", extensions, CHEAP },
	{ "stack", stack_forms, CHEAP },
	{ "xlat", xlat, CHEAP },
	{ 0 },
};
