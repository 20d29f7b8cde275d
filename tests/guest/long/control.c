/* What control-register and flag writes must refuse (SDM 3A 2.5, 2.2.1; SDM 2 MOV CR, MOV DR). */
#include "guest.h"

static void cr0(void)
{
	ulong v = read_cr0();

	EXPECT(V_GP, 0, "mov %0, %%cr0", : : "r"(v & ~1ul));		     /* PG without PE */
	EXPECT(V_GP, 0, "mov %0, %%cr0", : : "r"(v | 1ul << 32));	     /* upper half */
	EXPECT(V_GP, 0, "mov %0, %%cr0", : : "r"((v | BIT(29)) & ~BIT(30))); /* NW without CD */
	EXPECT(V_GP, 0, "mov %0, %%cr0", : : "r"(0x11ul)); /* PG off in 64-bit code */
	CHECK_EQ(read_cr0(), v);
	/* Reserved low bits are ignored; LMSW cannot clear PE. */
	write_cr0(v | BIT(6));
	CHECK_EQ(read_cr0(), v);
	__asm__ volatile("lmsw %w0" ::"r"(v & 0xe));
	CHECK_EQ(read_cr0(), v);
}

static void cr4(void)
{
	ulong v = read_cr4();

	EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(v & ~CR4_PAE));
	EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(v | 1ul << 40));
	EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(v | 1ul << 15));
	CHECK_EQ(read_cr4(), v);
}

static void cr3_cr8(void)
{
	EXPECT(V_GP, 0, "mov %0, %%cr3", : : "r"(read_cr3() | 1ul << 62));
	EXPECT(V_GP, 0, "mov %0, %%cr8", : : "r"(16ul));
	EXPECT(V_UD, 0, ".byte 0x0f, 0x20, 0xc8", : : : "rax");
	EXPECT(V_UD, 0, ".byte 0x0f, 0x22, 0xe8", : : : "rax"); /* cr5 */
}

static void efer(void)
{
	u64 v = rdmsr(MSR_EFER);

	EXPECT(V_GP, 0, "wrmsr",
		:
		: "c"(MSR_EFER), "a"((u32)v & ~0x100u), "d"(0)); /* LME while paging */
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_EFER), "a"((u32)v), "d"(1));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(MSR_EFER), "a"((u32)v | 2), "d"(0));
	CHECK_EQ(rdmsr(MSR_EFER), v);
}

static void debug_registers(void)
{
	EXPECT(V_GP, 0, "mov %0, %%dr7", : : "r"(1ul << 32 | 0x400));
	EXPECT(V_GP, 0, "mov %0, %%dr6", : : "r"(1ul << 32));
	/* DR4 and DR5 are DR6 and DR7 unless CR4.DE. */
	write_dr7(0x400);
	ulong v;
	ATTEMPT("mov %%dr5, %0", : "=r"(v));
	CHECK_EQ(trap.vector, NO_TRAP);
	CHECK_EQ(v, 0x400);
	write_cr4(read_cr4() | CR4_DE);
	EXPECT(V_UD, 0, "mov %%dr5, %0", : "=r"(v));
	EXPECT(V_UD, 0, "mov %0, %%dr4", : : "r"(v));
	write_cr4(read_cr4() & ~CR4_DE);
}

static void lock_prefix(void)
{
	static u32 word;

	EXPECT(V_UD, 0, ".byte 0xf0, 0x89, 0xc0", : :); /* mov */
	EXPECT(V_UD, 0, ".byte 0xf0, 0x90", : :);	/* nop */
	EXPECT(V_UD, 0, ".byte 0xf0\n\tmov %0, %%eax", : : "m"(word) : "eax");
	EXPECT(V_UD, 0, ".byte 0xf0\n\tcmpl $0, %0", : : "m"(word));
	EXPECT(V_UD, 0, ".byte 0xf0\n\tbtl $0, %0", : : "m"(word));
	EXPECT(V_UD, 0, ".byte 0xf0\n\tadd %0, %%eax", : : "m"(word) : "eax");
}

static void non_canonical(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) pointer = { 0xff, 0x8000000000000000 };

	EXPECT(V_GP, 0, "lgdt %0", : : "m"(pointer));
	EXPECT(V_GP, 0, "lidt %0", : : "m"(pointer));
	EXPECT(V_GP, 0, "jmp *%0", : : "r"(0x8000000000000000));
	EXPECT(V_GP, 0, "call *%0", : : "r"(0x800000000000));
	trap.vector = NO_TRAP; /* RET faults before it pops: the address is still on the stack */
	__asm__ volatile(
		"movq $1f, trap_resume\n\tpush %0\n\tret\n1:\tadd $8, %%rsp" ::"r"(0x800000000000));
	CHECK_EQ(trap.vector, V_GP);
}

static void long_and_default(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) to = { 0, FREE0 };

	/* L and D together are reserved (SDM 3A 3.4.5). */
	gdt[FREE0 / 8] = 0x006f9b000000ffff;
	EXPECT(V_GP, FREE0, "ljmp *%0", : : "m"(to));
}

const struct test tests[] = {
	{ "CR0", cr0, CHEAP },
	{ "CR4", cr4, CHEAP },
	{ "CR3 and CR8", cr3_cr8, CHEAP },
	{ "EFER", efer, CHEAP },
	{ "debug registers", debug_registers, CHEAP },
	{ "lock prefix", lock_prefix, CHEAP },
	{ "L and D", long_and_default, CHEAP },
	{ "non-canonical", non_canonical, CHEAP },
	{ 0 },
};
