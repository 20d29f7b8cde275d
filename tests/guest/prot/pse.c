/* 32-bit paging: 4 KiB and 4 MiB pages, accessed and dirty bits, WP, U/S (SDM 3A 4.3). */
#include "guest.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };

#define VA 0x40000000ul

static volatile u32 directory[1024] ALIGNED(4096), table[1024] ALIGNED(4096);
static u8 frame[4096] ALIGNED(4096);

static void start(void)
{
	for (unsigned i = 0; i < 1024; i++)
		directory[i] = i << 22 | P | W | U | PS;
	directory[VA >> 22] = (u32)table | P | W | U;
	table[0] = 0;
	*(volatile u32 *)&frame[8] = 0x12345678;
	write_cr4(read_cr4() | CR4_PSE);
	write_cr3((u32)directory);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void stop(void) { write_cr0(read_cr0() & ~(CR0_PG | CR0_WP)); }

static void set(volatile u32 *entry, u32 value)
{
	*entry = value;
	__asm__ volatile("invlpg (%0)" ::"r"(VA) : "memory");
}

#define READ  "movl 8(%0), %%eax"
#define WRITE "movb $1, 16(%0)"
#define AT_VA : : "r"(VA) : "eax", "memory"

static void bits(void)
{
	start();
	set(&table[0], (u32)frame | P | W);
	EXPECT_OK(READ, AT_VA);
	CHECK_EQ(table[0] & (A | D), A);
	CHECK_EQ(directory[VA >> 22] & (A | D), A);
	EXPECT_OK(WRITE, AT_VA);
	CHECK_EQ(table[0] & (A | D), A | D);
	stop();
}

static void faults(void)
{
	start();
	EXPECT(V_PF, 0, READ, AT_VA);
	CHECK_EQ(trap.cr2, VA + 8);
	EXPECT(V_PF, 2, WRITE, AT_VA);
	set(&table[0], (u32)frame | P);
	EXPECT_OK(READ, AT_VA);
	EXPECT(V_PF, 3, WRITE, AT_VA);
	write_cr0(read_cr0() & ~CR0_WP);
	EXPECT_OK(WRITE, AT_VA);
	write_cr0(read_cr0() | CR0_WP);
	set(&directory[VA >> 22], 0);
	EXPECT(V_PF, 0, READ, AT_VA);
	stop();
}

static ulong user_read(ulong want)
{
	if (want == NO_TRAP)
		EXPECT_OK(READ, AT_VA);
	else
		EXPECT(V_PF, want, READ, AT_VA);
	return 0;
}

static void user(void)
{
	start();
	set(&table[0], (u32)frame | P | W | U);
	user_call(user_read, NO_TRAP);
	set(&table[0], (u32)frame | P | W);
	user_call(user_read, 5);
	set(&table[0], (u32)frame | P | W | U);
	set(&directory[VA >> 22], (u32)table | P | W);
	user_call(user_read, 5);
	set(&table[0], 0);
	user_call(user_read, 4);
	stop();
}

static void large(void)
{
	u32 at = (u32)frame;

	start();
	set(&directory[VA >> 22], (at & 0xffc00000) | P | W | PS);
	CHECK_EQ(*(volatile u32 *)(VA + (at & 0x3fffff) + 8), 0x12345678);
	CHECK_EQ(directory[VA >> 22] & (A | D), A);
	*(volatile u8 *)(VA + (at & 0x3fffff) + 100) = 1;
	CHECK_EQ(directory[VA >> 22] & (A | D), A | D);
	set(&directory[VA >> 22], (at & 0xffc00000) | P | PS | 1u << 21); /* reserved */
	EXPECT(V_PF, 9, READ, AT_VA);
	stop();
}

static void without_pse(void)
{
	/* PS means nothing while CR4.PSE is clear: the entry points at a table. All else has to as
	 * well. */
	static volatile u32 low[1024] ALIGNED(4096);

	start();
	stop();
	for (unsigned i = 0; i < 1024; i++)
		low[i] = i << 12 | P | W | U;
	write_cr4(read_cr4() & ~CR4_PSE);
	for (unsigned i = 0; i < 1024; i++)
		directory[i] = 0;
	directory[0] = (u32)low | P | W | U;
	directory[VA >> 22] = (u32)table | P | W | PS;
	table[0] = (u32)frame | P | W;
	write_cr0(read_cr0() | CR0_PG);
	EXPECT_OK(READ, AT_VA);
	stop();
}

const struct test tests[] = {
	{ "accessed and dirty", bits, CHEAP },
	{ "faults", faults, CHEAP },
	{ "ring 3", user, CHEAP },
	{ "4 MiB pages", large, CHEAP },
	{ "without PSE", without_pse, CHEAP },
	{ 0 },
};
