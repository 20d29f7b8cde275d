/* PAE paging: PDPTEs checked at MOV CR3, 2 MiB pages, NX, frames and reserved bits (SDM 3A 4.4). */
#include "guest.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
#define NX (1ull << 63)

#define VA 0xc0000000ul

static volatile u64 pointers[4] ALIGNED(32),
	directories[4][512] ALIGNED(4096), table[512] ALIGNED(4096);
static u8 frame[4096] ALIGNED(4096);
static volatile u64 *const pte = &table[0];

static void start(void)
{
	for (unsigned i = 0; i < 2048; i++)
		directories[i / 512][i % 512] = (u64)i << 21 | P | W | U | PS;
	for (unsigned i = 0; i < 4; i++)
		pointers[i] = (u32)directories[i] | P;
	directories[3][0] = (u32)table | P | W | U;
	*pte = 0;
	*(volatile u32 *)&frame[8] = 0x12345678;
	frame[0] = 0xc3;
	wrmsr(MSR_EFER, EFER_NXE);
	write_cr4(read_cr4() | CR4_PAE);
	write_cr3((u32)pointers);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void stop(void)
{
	write_cr0(read_cr0() & ~(CR0_PG | CR0_WP));
	write_cr4(read_cr4() & ~CR4_PAE);
	wrmsr(MSR_EFER, 0);
}

static void set(volatile u64 *entry, u64 value)
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
	set(pte, (u32)frame | P | W);
	EXPECT_OK(READ, AT_VA);
	CHECK_EQ(*pte & (A | D), A);
	EXPECT_OK(WRITE, AT_VA);
	CHECK_EQ(*pte & (A | D), A | D);
	/* PDPTEs have no accessed bit. */
	CHECK_EQ(pointers[3], (u32)directories[3] | P);
	stop();
}

static void faults(void)
{
	start();
	EXPECT(V_PF, 0, READ, AT_VA);
	set(pte, (u32)frame | P);
	EXPECT(V_PF, 3, WRITE, AT_VA);
	stop();
}

static void reserved(void)
{
	start();
	set(pte, (u32)frame | P | 1ull << 60);
	EXPECT(V_PF, 9, READ, AT_VA);
	set(pte, (u32)frame | P | W);
	directories[3][0] |= 1ull << 55;
	set(pte, *pte);
	EXPECT(V_PF, 9, READ, AT_VA);
	directories[3][0] &= ~(1ull << 55);
	stop();
}

static void no_execute(void)
{
	start();
	set(pte, (u32)frame | P | NX);
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%esp, %%ebx\n\tmovl $1f, trap_resume\n\tcall *%0\n"
			 "1:\tmov %%ebx, %%esp" ::"r"(VA)
			 : "ebx", "memory");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.error, 0x11);
	CHECK_EQ(trap.ip, VA);
	EXPECT_OK(READ, AT_VA);
	set(pte, (u32)frame | P);
	trap.vector = NO_TRAP;
	__asm__ volatile("call *%0\n\tmovl $0, trap_resume" ::"r"(VA) : "memory");
	CHECK_EQ(trap.vector, NO_TRAP);
	stop();
}

static void large(void)
{
	u32 at = (u32)frame;

	start();
	set(&directories[3][0], (at & ~0x1fffffu) | P | PS);
	CHECK_EQ(*(volatile u32 *)(VA + (at & 0x1fffff) + 8), 0x12345678);
	EXPECT(V_PF, 3, WRITE, AT_VA);
	stop();
}

static void pointer_checks(void)
{
	u64 saved;

	/* A reserved bit in a present PDPTE is found when CR3 is loaded: #GP(0). */
	start();
	saved = pointers[2];
	pointers[2] = saved | 2;
	EXPECT(V_GP, 0, "mov %0, %%cr3", : : "r"((ulong)pointers));
	pointers[2] = 0x1e6; /* absent: not looked at */
	EXPECT_OK("mov %0, %%cr3", : : "r"((ulong)pointers));
	EXPECT(V_PF, 0, "movl 0x80000000, %%eax", : : : "eax");
	pointers[2] = saved;
	EXPECT_OK("mov %0, %%cr3", : : "r"((ulong)pointers));
	stop();
}

const struct test tests[] = {
	{ "accessed and dirty", bits, CHEAP },
	{ "faults", faults, CHEAP },
	{ "reserved bits", reserved, CHEAP },
	{ "no execute", no_execute, CHEAP },
	{ "2 MiB pages", large, CHEAP },
	{ "PDPTEs", pointer_checks, CHEAP },
	{ 0 },
};
