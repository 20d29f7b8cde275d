/* 8-, 16- and 32-bit arithmetic from 16-bit code: sizes by prefix, BCD, multiply, divide, flags. */
#include "guest.h"

static void sizes(void)
{
	u32 v = 0x1234ffff;

	__asm__ volatile("addw $1, %w0" : "+r"(v)::"cc");
	CHECK_EQ(v, 0x12340000); /* the upper half stays */
	__asm__ volatile("decl %0" : "+r"(v)::"cc");
	CHECK_EQ(v, 0x1233ffff);
	__asm__ volatile("addb $1, %b0" : "+q"(v)::"cc");
	CHECK_EQ(v, 0x1233ff00);
}

static void multiply(void)
{
	u32 a = 0xabcd1234, d = 0x55550000;

	__asm__ volatile("mulw %%cx" : "+a"(a), "+d"(d) : "c"(0x5678) : "cc");
	CHECK_EQ(a, 0xabcd0060);
	CHECK_EQ(d, 0x55550626);
	a = 0x80;
	__asm__ volatile("imulb %%cl" : "+a"(a) : "c"(0x80) : "cc");
	CHECK_EQ(a, 0x4000);
}

static void divide(void)
{
	u32 a = 0xffff0005, d = 3;

	__asm__ volatile("divw %%cx" : "+a"(a), "+d"(d) : "c"(0x10) : "cc");
	CHECK_EQ(a, 0xffff3000);
	CHECK_EQ(d, 5);
	EXPECT(V_DE, 0, "divw %%cx", : : "a"(0), "d"(0x10), "c"(0x10));
	EXPECT(V_DE, 0, "idivw %%cx", : : "a"(0x8000), "d"(0xffff), "c"(0xffff));
}

static void decimal(void)
{
	u32 a = 0x79;

	__asm__ volatile("addb $0x35, %%al\n\tdaa" : "+a"(a)::"cc");
	CHECK_EQ(a & 0xff, 0x14);
	a = 0x0009;
	__asm__ volatile("addb $8, %%al\n\taaa" : "+a"(a)::"cc");
	CHECK_EQ(a & 0xffff, 0x0107);
}

static void shifts(void)
{
	u32 v = 0x12348001;
	ulong f;

	__asm__ volatile("rolw $1, %w0\n\tpushfl\n\tpop %1" : "+r"(v), "=r"(f)::"cc", "memory");
	CHECK_EQ(v, 0x12340003);
	CHECK_EQ(f & FLAG_CF, FLAG_CF);
	v = 0x12340001;
	__asm__ volatile("shlw $17, %w0"
			 : "+r"(v)::"cc"); /* the count is masked to 5 bits, not to 4 */
	CHECK_EQ(v, 0x12340000);
}

static void push_forms(void)
{
	ulong before, after;
	u32 v;

	__asm__ volatile("mov %%esp, %0\n\tpushw $-2\n\tpushl $0x12345678\n\tpushfw\n\t"
			 "mov %%esp, %1\n\tpopfw\n\tpopl %2\n\tadd $2, %%esp"
			 : "=&r"(before), "=&r"(after), "=&r"(v)::"memory", "cc");
	CHECK_EQ(before - after, 8);
	CHECK_EQ(v, 0x12345678);
}

static void machine_status(void)
{
	u16 v;

	__asm__ volatile("smsw %0" : "=r"(v));
	CHECK_EQ(v & 1, 0);
	CHECK_EQ(read_cr0() & 1, 0);
	__asm__ volatile("lmsw %0" ::"r"((u16)(v | 8)));
	CHECK(read_cr0() & CR0_TS);
	__asm__ volatile("clts");
	CHECK(!(read_cr0() & CR0_TS));
}

const struct test tests[] = {
	{ "sizes", sizes, CHEAP },
	{ "multiply", multiply, CHEAP },
	{ "divide", divide, CHEAP },
	{ "decimal", decimal, CHEAP },
	{ "shifts", shifts, CHEAP },
	{ "push", push_forms, CHEAP },
	{ "machine status", machine_status, CHEAP },
	{ 0 },
};
