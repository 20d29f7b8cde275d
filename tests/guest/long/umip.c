/* SGDT, SIDT, SLDT, STR, SMSW: forms, and UMIP in ring 3 (SDM 2; SDM 3A 2.5). */
#include "guest.h"

static u8 out[16];

static void forms(void)
{
	ulong v;

	memset(out, 0xee, sizeof out);
	__asm__ volatile("sgdt %0" : "=m"(out)::"memory");
	CHECK_EQ(*(u16 *)out, GDT_SLOTS * 8 - 1);
	CHECK_EQ(*(u64 *)(out + 2), gdt);
	CHECK_EQ(out[10], 0xee);
	__asm__ volatile("sidt %0" : "=m"(out)::"memory");
	CHECK_EQ(*(u16 *)out, 0xfff);
	CHECK_EQ(*(u64 *)(out + 2), idt);
	__asm__ volatile("mov $-1, %0\n\tstr %k0" : "=r"(v));
	CHECK_EQ(v, TSS_SEL);
	__asm__ volatile("mov $-1, %0\n\tsldt %k0" : "=r"(v));
	CHECK_EQ(v, 0);
	/* A 16-bit register form leaves the rest, a memory form is always a word. */
	__asm__ volatile("mov $-1, %0\n\tstr %w0" : "=r"(v));
	CHECK_EQ(v, (~0ul & ~0xfffful) | TSS_SEL);
	memset(out, 0xee, sizeof out);
	__asm__ volatile("str %0" : "=m"(out)::"memory");
	CHECK_EQ(*(u32 *)out, 0xeeee0000 | TSS_SEL);
	__asm__ volatile("smsw %0" : "=r"(v));
	CHECK_EQ(v & 0xffff, read_cr0() & 0xffff);
	CHECK_EQ(v & 0xffffffff, read_cr0() & 0xffffffff);
}

static ulong allowed(ulong unused)
{
	u64 v;

	EXPECT_OK("sgdt %0", : "=m"(out));
	EXPECT_OK("sidt %0", : "=m"(out));
	EXPECT_OK("str %0", : "=r"(v));
	EXPECT_OK("sldt %0", : "=r"(v));
	EXPECT_OK("smsw %0", : "=r"(v));
	return 0;
}

static ulong refused(ulong unused)
{
	u64 v;

	EXPECT(V_GP, 0, "sgdt %0", : "=m"(out));
	EXPECT(V_GP, 0, "sidt %0", : "=m"(out));
	EXPECT(V_GP, 0, "str %0", : "=r"(v));
	EXPECT(V_GP, 0, "sldt %0", : "=r"(v));
	EXPECT(V_GP, 0, "smsw %0", : "=r"(v));
	return 0;
}

static void ring3(void) { user_call(allowed, 0); }

static void umip(void)
{
	if (!(cpuid(7, 0).c & 4)) {
		test_skip("no UMIP");
		return;
	}
	write_cr4(read_cr4() | CR4_UMIP);
	user_call(refused, 0);
	allowed(0); /* ring 0 is not concerned */
	write_cr4(read_cr4() & ~CR4_UMIP);
	user_call(allowed, 0);
}

const struct test tests[] = {
	{ "forms", forms, CHEAP },
	{ "ring 3 without UMIP", ring3, CHEAP },
	{ "UMIP", umip, CHEAP },
	{ 0 },
};
