/* SMEP and SMAP with STAC/CLAC and EFLAGS.AC (SDM 3A 4.6.1). */
#include "paging.h"

static u8 page[4096] ALIGNED(4096);

static bool have(void)
{
	u32 b = cpuid(7, 0).b;

	if ((b & 1u << 7) && (b & 1u << 20))
		return true;
	test_skip("no SMEP or SMAP");
	return false;
}

#define VA : : "r"(TEST_VA) : "rax", "memory"

static void fetch(u32 vector)
{
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%rsp, %%rbx\n\tmovq $1f, trap_resume\n\tcall *%0\n"
			 "1:\tmov %%rbx, %%rsp\n\tmovq $0, trap_resume" ::"r"(TEST_VA)
			 : "rbx", "memory");
	CHECK_EQ(trap.vector, vector);
	if (vector == V_PF)
		CHECK_EQ(trap.error, PF_P | PF_I);
}

/* The whole identity map becomes supervisor's, else the test itself could not run under SMEP. */
static void identity_user(bool user)
{
	for (unsigned i = 0; i < 4; i++)
		page_dir_pointers[i] =
			user ? page_dir_pointers[i] | PTE_U : page_dir_pointers[i] & ~PTE_U;
	flush_tlb();
}

static void smep(void)
{
	if (!have())
		return;
	page[0] = 0xc3;
	identity_user(false);
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W | PTE_U);
	fetch(NO_TRAP);
	write_cr4(read_cr4() | CR4_SMEP);
	fetch(V_PF);
	EXPECT_OK("mov (%0), %%rax", VA);
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W);
	fetch(NO_TRAP);
	write_cr4(read_cr4() & ~CR4_SMEP);
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W | PTE_U);
	fetch(NO_TRAP);
	identity_user(true);
}

static void smap(void)
{
	if (!have())
		return;
	page[0] = 0xc3;
	identity_user(false);
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W | PTE_U);
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(V_PF, PF_P, "mov (%0), %%rax", VA);
	EXPECT(V_PF, PF_P | PF_W, "movb $0, 8(%0)", VA);
	fetch(NO_TRAP); /* SMAP is about data */
	EXPECT_OK("stac\n\tmov (%0), %%rax\n\tclac", VA);
	EXPECT_OK("stac\n\tmovb $0, 8(%0)\n\tclac", VA);
	EXPECT(V_PF, PF_P, "mov (%0), %%rax", VA);
	/* AC by POPF opens too, and an interrupt through a gate leaves AC as it is. */
	write_flags(read_flags() | FLAG_AC);
	EXPECT_OK("mov (%0), %%rax", VA);
	write_flags(read_flags() & ~FLAG_AC);
	/* Supervisor pages are not concerned. */
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W);
	EXPECT_OK("mov (%0), %%rax", VA);
	write_cr4(read_cr4() & ~CR4_SMAP);
	identity_user(true);
}

static void implicit(void)
{
	static u64 ldt[4] = { 0 };

	/* An implicit supervisor access (here: loading from an LDT in user memory) ignores AC. */
	if (!have())
		return;
	identity_user(false);
	ldt[1] = descriptor(0, 0xfffff, 0x93, 0xc);
	memcpy(page, ldt, sizeof ldt);
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W | PTE_U);
	gdt[FREE0 / 8] = descriptor(TEST_VA & 0xffffffff, 31, 0x82, 0);
	gdt[FREE0 / 8 + 1] = TEST_VA >> 32;
	__asm__ volatile("lldt %w0" ::"r"(FREE0));
	write_cr4(read_cr4() | CR4_SMAP);
	EXPECT(V_PF, PF_P, "mov %w0, %%es", : : "r"(8 | 4));
	CHECK_EQ(trap.cr2 & ~7ul, TEST_VA + 8);
	write_flags(read_flags() | FLAG_AC);
	EXPECT(V_PF, PF_P, "mov %w0, %%es", : : "r"(8 | 4));
	write_flags(read_flags() & ~FLAG_AC);
	write_cr4(read_cr4() & ~CR4_SMAP);
	EXPECT_OK("mov %w0, %%es", : : "r"(8 | 4));
	__asm__ volatile("lldt %w0\n\tmov %w0, %%es" ::"r"(0));
	identity_user(true);
}

static ulong at_ring3(ulong unused)
{
	EXPECT_OK("mov (%0), %%rax", VA);
	EXPECT(V_UD, 0, "stac", : :);
	EXPECT(V_UD, 0, "clac", : :);
	return 1;
}

static void ring3(void)
{
	if (!have())
		return;
	/* With SMAP on, ring 3's own accesses are not restricted. The runtime's data is user memory
	 * here. */
	pt_map(TEST_VA, (ulong)page, PTE_P | PTE_W | PTE_U);
	CHECK_EQ(user_call(at_ring3, 0), 1);
}

const struct test tests[] = {
	{ "SMEP", smep, CHEAP },
	{ "SMAP", smap, CHEAP },
	{ "implicit access", implicit, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ 0 },
};
