/* Alignment checks: CR0.AM, EFLAGS.AC, ring 3 only; #AC(0) (SDM 3A 6.15). */
#include "guest.h"

static u8 data[64] ALIGNED(64);

static ulong user(ulong unused)
{
	EXPECT_OK("movl 1(%0), %%eax", : : "r"(data) : "eax");
	write_flags(2 | FLAG_AC);
	EXPECT(V_AC, 0, "movl 1(%0), %%eax", : : "r"(data) : "eax");
	EXPECT(V_AC, 0, "movw %%ax, 3(%0)", : : "r"(data) : "memory");
	EXPECT(V_AC, 0, "movq 4(%0), %%rax", : : "r"(data) : "rax");
	EXPECT(V_AC, 0, "lock incl 2(%0)", : : "r"(data) : "memory");
	EXPECT_OK("movb 1(%0), %%al", : : "r"(data) : "eax");
	EXPECT_OK("movl 4(%0), %%eax", : : "r"(data) : "eax");
	EXPECT_OK("movq 8(%0), %%rax", : : "r"(data) : "rax");
	write_flags(2);
	return 1;
}

static void ring3(void)
{
	write_cr0(read_cr0() | CR0_AM);
	CHECK_EQ(user_call(user, 0), 1);
	write_cr0(read_cr0() & ~CR0_AM);
}

static void ring0(void)
{
	write_cr0(read_cr0() | CR0_AM);
	write_flags(2 | FLAG_AC);
	EXPECT_OK("movl 1(%0), %%eax", : : "r"(data) : "eax");
	write_flags(2);
	write_cr0(read_cr0() & ~CR0_AM);
}

static ulong without_am(ulong unused)
{
	write_flags(2 | FLAG_AC);
	EXPECT_OK("movl 1(%0), %%eax", : : "r"(data) : "eax");
	write_flags(2);
	return 0;
}

static void masked(void) { user_call(without_am, 0); }

const struct test tests[] = {
	{ "ring 3", ring3, CHEAP },
	{ "ring 0", ring0, CHEAP },
	{ "CR0.AM clear", masked, CHEAP },
	{ 0 },
};
