/* 4-level paging: accessed and dirty bits, rights at every level, reserved bits, large pages (SDM
 * 3A 4.5-4.8). */
#include "paging.h"

static u8 frames[2][4096] ALIGNED(4096);
static u64 *pte;

static void setup(void)
{
	pte = pt_entry(TEST_VA, 1);
	frames[0][0] = 0xc3; /* ret */
	*(volatile u64 *)&frames[0][8] = 0x1122334455667788;
	*(volatile u64 *)&frames[1][8] = 0x99aabbccddeeff00;
}

static void map(u64 flags)
{
	setup();
	pt_set(pte, (ulong)frames[0] | flags, TEST_VA);
}

#define READ  "mov 8(%0), %%rax"
#define WRITE "movb $0, 16(%0)"
#define VA    : : "r"(TEST_VA) : "rax", "memory"

static void accessed_dirty(void)
{
	map(PTE_P | PTE_W);
	*pt_entry(TEST_VA, 2) &= ~PTE_A;
	*pt_entry(TEST_VA, 3) &= ~PTE_A;
	*pt_entry(TEST_VA, 4) &= ~PTE_A;
	flush_tlb();
	EXPECT_OK(READ, VA);
	CHECK_EQ(*pte & (PTE_A | PTE_D), PTE_A);
	CHECK(*pt_entry(TEST_VA, 2) & PTE_A);
	CHECK(*pt_entry(TEST_VA, 3) & PTE_A);
	CHECK(*pt_entry(TEST_VA, 4) & PTE_A);
	/* The first write after a read sets D without any fault. */
	EXPECT_OK(WRITE, VA);
	CHECK_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
	CHECK(!(*pt_entry(TEST_VA, 2) & PTE_D));
}

static void not_set_by_faults(void)
{
	map(PTE_P);
	EXPECT(V_PF, PF_P | PF_W, WRITE, VA);
	CHECK(!(*pte & PTE_D));
}

static void write_protect(void)
{
	map(PTE_P);
	EXPECT(V_PF, PF_P | PF_W, WRITE, VA);
	CHECK_EQ(trap.cr2, TEST_VA + 16);
	write_cr0(read_cr0() & ~CR0_WP);
	EXPECT_OK(WRITE, VA);
	CHECK(*pte & PTE_D);
	write_cr0(read_cr0() | CR0_WP);
	EXPECT(V_PF, PF_P | PF_W, WRITE, VA);
	/* Read-only in an upper table is enough. */
	map(PTE_P | PTE_W);
	pt_set(pt_entry(TEST_VA, 3), *pt_entry(TEST_VA, 3) & ~PTE_W, TEST_VA);
	EXPECT(V_PF, PF_P | PF_W, WRITE, VA);
	EXPECT_OK(READ, VA);
	pt_set(pt_entry(TEST_VA, 3), *pt_entry(TEST_VA, 3) | PTE_W, TEST_VA);
	EXPECT_OK(WRITE, VA);
}

static ulong user_access(ulong mode)
{
	if (mode == 0)
		EXPECT(V_PF, PF_P | PF_U, READ, VA);
	else if (mode == 1)
		EXPECT_OK(READ, VA);
	else if (mode == 2)
		EXPECT(V_PF, PF_P | PF_U | PF_W, WRITE, VA);
	return 0;
}

static void user_supervisor(void)
{
	map(PTE_P | PTE_W);
	user_call(user_access, 0);
	map(PTE_P | PTE_U);
	user_call(user_access, 1);
	user_call(user_access, 2);
	write_cr0(read_cr0() & ~CR0_WP); /* frees the supervisor only */
	user_call(user_access, 2);
	write_cr0(read_cr0() | CR0_WP);
	pt_set(pt_entry(TEST_VA, 4), *pt_entry(TEST_VA, 4) & ~PTE_U, TEST_VA);
	user_call(user_access, 0);
	EXPECT_OK(READ, VA);
	pt_set(pt_entry(TEST_VA, 4), *pt_entry(TEST_VA, 4) | PTE_U, TEST_VA);
}

/* A call lands at its target before the fetch faults: the saved RIP is the target. */
static void fetch(u32 vector, u32 error, ulong target)
{
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%rsp, %%rbx\n\tmovq $1f, trap_resume\n\tcall *%0\n"
			 "1:\tmov %%rbx, %%rsp\n\tmovq $0, trap_resume" ::"r"(target)
			 : "rbx", "memory");
	CHECK_EQ(trap.vector, vector);
	if (vector != NO_TRAP) {
		CHECK_EQ(trap.error, error);
		CHECK_EQ(trap.ip, target);
		CHECK_EQ(trap.cr2, target);
	}
}

static void no_execute(void)
{
	map(PTE_P);
	fetch(NO_TRAP, 0, TEST_VA);
	map(PTE_P | PTE_NX);
	fetch(V_PF, PF_P | PF_I, TEST_VA);
	EXPECT_OK(READ, VA);
	map(PTE_P);
	pt_set(pt_entry(TEST_VA, 2), *pt_entry(TEST_VA, 2) | PTE_NX, TEST_VA);
	fetch(V_PF, PF_P | PF_I, TEST_VA);
	pt_set(pt_entry(TEST_VA, 2), *pt_entry(TEST_VA, 2) & ~PTE_NX, TEST_VA);
	fetch(NO_TRAP, 0, TEST_VA);
	pt_set(pte, 0, TEST_VA);
	fetch(V_PF, PF_I, TEST_VA); /* I/D is set for any fetch while NXE is (SDM 3A 4.7) */
}

static void reserved_bits(void)
{
	map(PTE_P | PTE_W | 1ull << 51);
	EXPECT(V_PF, PF_P | PF_RSVD, READ, VA);
	EXPECT(V_PF, PF_P | PF_RSVD | PF_W, WRITE, VA);
	map(PTE_P | PTE_W);
	u64 *pml4e = pt_entry(TEST_VA, 4), saved = *pml4e;
	pt_set(pml4e, saved | PTE_PS, TEST_VA); /* PS is reserved in a PML4E */
	EXPECT(V_PF, PF_P | PF_RSVD, READ, VA);
	pt_set(pml4e, saved, TEST_VA);
	/* NX is a reserved bit while EFER.NXE is clear. */
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~EFER_NXE);
	map(PTE_P | PTE_NX);
	EXPECT(V_PF, PF_P | PF_RSVD, READ, VA);
	map(0);
	fetch(V_PF, 0, TEST_VA);
	wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
	/* A not-present entry has no reserved bits. */
	map(1ull << 51);
	EXPECT(V_PF, 0, READ, VA);
}

static void large_pages(void)
{
	ulong big = TEST_VA + 0x40000000; /* the next GiB: a PDPTE of its own */
	u64 *pde = pt_entry(big, 2);
	ulong at = (ulong)frames[0], value;

	setup();
	pt_set(pde, (at & ~0x1ffffful) | PTE_P | PTE_PS, big);
	value = *(volatile u64 *)(big + (at & 0x1fffff) + 8);
	CHECK_EQ(value, 0x1122334455667788);
	CHECK(*pde & PTE_A);
	EXPECT(V_PF, PF_P | PF_W, WRITE, : : "r"(big) : "memory");
	CHECK_EQ(trap.cr2, big + 16);
	pt_set(pde, (at & ~0x1ffffful) | PTE_P | PTE_W | PTE_PS, big);
	*(volatile u64 *)(big + (at & 0x1fffff) + 24) = 5;
	CHECK(*pde & PTE_D);
	CHECK_EQ(*(volatile u64 *)(at + 24), 5);
	/* Bits 20:13 of a 2 MiB entry's address are reserved. */
	pt_set(pde, (at & ~0x1ffffful) | PTE_P | PTE_PS | 0x2000, big);
	EXPECT(V_PF, PF_P | PF_RSVD, READ, : : "r"(big) : "rax");
	pt_set(pde, 0, big);
}

static void gigabyte_pages(void)
{
	ulong big = TEST_VA + 0x80000000;
	u64 *pdpte = pt_entry(big, 3);

	if (!(cpuid(0x80000001, 0).d & 1u << 26)) {
		test_skip("no 1 GiB pages");
		return;
	}
	setup();
	pt_set(pdpte, PTE_P | PTE_W | PTE_PS, big);
	CHECK_EQ(*(volatile u64 *)(big + (ulong)frames[1] + 8), 0x99aabbccddeeff00);
	CHECK_EQ(*pdpte & (PTE_A | PTE_D), PTE_A);
	*(volatile u8 *)(big + (ulong)frames[1] + 100) = 1;
	CHECK_EQ(*pdpte & (PTE_A | PTE_D), PTE_A | PTE_D);
	pt_set(pdpte, PTE_P | PTE_PS | 1 << 13, big);
	EXPECT(V_PF, PF_P | PF_RSVD, READ, : : "r"(big) : "rax");
	pt_set(pdpte, 0, big);
	EXPECT(V_PF, 0, READ, : : "r"(big) : "rax");
}

static void remap(void)
{
	/* INVLPG makes a changed frame visible at once; so does a CR3 write. */
	map(PTE_P | PTE_W);
	CHECK_EQ(*(volatile u64 *)(TEST_VA + 8), 0x1122334455667788);
	pt_set(pte, (ulong)frames[1] | PTE_P, TEST_VA);
	CHECK_EQ(*(volatile u64 *)(TEST_VA + 8), 0x99aabbccddeeff00);
	*pte = (ulong)frames[0] | PTE_P;
	flush_tlb();
	CHECK_EQ(*(volatile u64 *)(TEST_VA + 8), 0x1122334455667788);
	/* From not present to present no flush is needed. */
	pt_set(pte, 0, TEST_VA);
	EXPECT(V_PF, 0, READ, VA);
	*(volatile u64 *)pte = (ulong)frames[1] | PTE_P;
	CHECK_EQ(*(volatile u64 *)(TEST_VA + 8), 0x99aabbccddeeff00);
}

const struct test tests[] = {
	{ "accessed and dirty", accessed_dirty, CHEAP },
	{ "no dirty bit from a faulting write", not_set_by_faults, CHEAP },
	{ "write protect", write_protect, CHEAP },
	{ "user and supervisor", user_supervisor, CHEAP },
	{ "no execute", no_execute, CHEAP },
	{ "reserved bits", reserved_bits, CHEAP },
	{ "2 MiB pages", large_pages, CHEAP },
	{ "1 GiB pages", gigabyte_pages, CHEAP },
	{ "remapping", remap, CHEAP },
	{ 0 },
};
