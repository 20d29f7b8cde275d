/*
 * Every fault and trap a 64-bit program can raise at will: vector, error code and saved RIP
 * (SDM 3A 6.15: faults save the instruction's own address, traps the next one's).
 */
#include "paging.h"

static void divide(void)
{
	EXPECT(V_DE, 0, "divl %%ecx", : : "a"(1), "d"(0), "c"(0));
	EXPECT(V_DE, 0, "divq %%rcx", : : "a"(0), "d"(7ul), "c"(7ul));
	EXPECT(V_DE, 0, "idivl %%ecx", : : "a"(0x80000000), "d"(0xffffffff), "c"(0xffffffff));
	EXPECT(V_DE, 0, "idivb %%cl", : : "a"(0x8000), "c"(1));
}

static void breakpoint(void)
{
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	EXPECT_AT(V_BP, 0, 2, ".byte 0xcd, 3", : :);
	EXPECT_AT(V_OF, 0, 2, "int $4", : :);
}

static void undefined(void)
{
	EXPECT(V_UD, 0, "ud2", : :);
	EXPECT(V_UD, 0, ".byte 0x06", : :);			/* push es */
	EXPECT(V_UD, 0, ".byte 0x27", : :);			/* daa */
	EXPECT(V_UD, 0, ".byte 0xf0, 0x01, 0xc0", : :);		/* lock add reg, reg */
	EXPECT(V_UD, 0, ".byte 0x0f, 0xb9, 0xc0", : :);		/* ud1 */
	EXPECT(V_UD, 0, ".byte 0x8e, 0xc8", : : "a"(KDATA));	/* mov cs, ax */
	EXPECT(V_UD, 0, ".byte 0x0f, 0x20, 0xc8", : : : "rax"); /* mov rax, cr1 */
}

static void protection(void)
{
	ulong bad = 0x8000000000000000;

	EXPECT(V_GP, 0, "mov (%0), %%rax", : : "r"(bad) : "rax");
	EXPECT(V_GP, 0, "movb $1, (%0)", : : "r"(bad) : "memory");
}

static void stack_fault(void)
{
	/* RBP- and RSP-based accesses raise #SS(0) when not canonical (SDM 1 3.3.7.1). */
	trap.vector = NO_TRAP;
	__asm__ volatile("push %%rbp\n\tmov %0, %%rbp\n\tmovq $1f, trap_at\n\t"
			 "movq $2f, trap_resume\n1:\tmov 8(%%rbp), %%rax\n2:\tpop %%rbp" ::"r"(
				 0x8000000000000000)
			 : "rax", "memory");
	check_trap(__LINE__, "mov 8(rbp)", V_SS, 0, 0);
}

static void page(void)
{
	EXPECT(V_PF, 0, "mov (%0), %%rax", : : "r"(TEST_VA) : "rax");
	CHECK_EQ(trap.cr2, TEST_VA);
	EXPECT(V_PF, PF_W, "movq $1, 8(%0)", : : "r"(TEST_VA) : "memory");
	CHECK_EQ(trap.cr2, TEST_VA + 8);
}

static void read_modify_write(void)
{
	/* One access with the intent to write: W is set although nothing could even be read. */
	EXPECT(V_PF, PF_W, "incl (%0)", : : "r"(TEST_VA) : "memory");
	EXPECT(V_PF, PF_W, "lock addl $1, (%0)", : : "r"(TEST_VA) : "memory");
	EXPECT(V_PF, PF_W, "xchg %%eax, (%0)", : : "r"(TEST_VA) : "eax", "memory");
}

static void resume_flag(void)
{
	/* RF is set in the flags saved by a fault, clear in a trap's (SDM 3B 17.3.1.1). */
	EXPECT(V_PF, 0, "mov (%0), %%rax", : : "r"(TEST_VA) : "rax");
	CHECK(trap.flags & FLAG_RF);
	EXPECT(V_UD, 0, "ud2", : :);
	CHECK(trap.flags & FLAG_RF);
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	CHECK(!(trap.flags & FLAG_RF));
}

static void gates(void)
{
	/* A gate of a type that long mode does not know: #GP(vector * 8 + IDT), SDM
	 * 3A 6.12.1, 6.13. */
	idt_set(0x50, trap_stubs, 0x85);
	EXPECT(V_GP, 0x50 * 8 + 2, "int $0x50", : :);
	/* A not-present gate: #NP with the IDT bit (SDM 3A 6.13). */
	idt_set(0x51, trap_stubs, 0x0e);
	EXPECT(V_NP, 0x51 * 8 + 2, "int $0x51", : :);
	/* A gate to a null and to a data selector: #GP(0), #GP(selector). */
	idt[0x52 * 2] = gate(0, (ulong)trap_stubs, 0x8e, 0);
	EXPECT(V_GP, 0, "int $0x52", : :);
	idt[0x52 * 2] = gate(KDATA, (ulong)trap_stubs, 0x8e, 0);
	EXPECT(V_GP, KDATA, "int $0x52", : :);
	idt[0x52 * 2] = gate(KCODE32, (ulong)trap_stubs, 0x8e, 0);
	EXPECT(V_GP, KCODE32, "int $0x52", : :);
}

static ulong in_ring3(ulong unused)
{
	EXPECT(V_GP, 0, "cli", : :);
	EXPECT(V_GP, 0, "hlt", : :);
	EXPECT(V_GP, 0, "mov %%cr0, %%rax", : : : "rax");
	EXPECT(V_GP, 0, "lgdt (%0)", : : "r"(user_stack));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x10), "a"(0), "d"(0));
	EXPECT(V_GP, 0, "invlpg (%0)", : : "r"(TEST_VA));
	EXPECT(V_GP, 0, "clts", : :);
	EXPECT_AT(V_BP, 0, 1, "int3", : :); /* gate DPL 3 */
	EXPECT(V_PF, PF_U, "mov (%0), %%rax", : : "r"(TEST_VA) : "rax");
	EXPECT(V_PF, PF_U | PF_W, "movl $0, (%0)", : : "r"(TEST_VA) : "memory");
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	CHECK_EQ(trap.cs, UCODE64 | 3);
	return 0x1234;
}

static ulong closed_gate(ulong unused)
{
	EXPECT(V_GP, 0x53 * 8 + 2, "int $0x53", : :); /* gate DPL 0 */
	return 0;
}

static void ring3_gate(void)
{
	idt_set(0x53, trap_stubs, 0x8e);
	user_call(closed_gate, 0);
}

static void ring3(void)
{
	CHECK_EQ(user_call(in_ring3, 0), 0x1234);
	/* The frame of a trap from ring 3 starts at the TSS's RSP0, SS and the rest above it. */
	CHECK_EQ(&trap.frame->ss + 1, ring0_stack + sizeof ring0_stack);
	CHECK_EQ(trap.frame->ss, UDATA | 3);
}

static void aligned_stack(void)
{
	/* 64-bit delivery aligns the stack to 16 bytes before pushing (SDM 3A 6.14.2). */
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	CHECK_EQ(((ulong)&trap.frame->ss + 8) & 15, 0);
	ulong sp;
	__asm__ volatile("mov %%rsp, %0\n\tsub $8, %%rsp\n\tmovq $1f, trap_resume\n\t"
			 "int3\n1:\tadd $8, %%rsp"
			 : "=&r"(sp)::"memory");
	CHECK_EQ(trap.frame->sp, sp - 8);
	CHECK_EQ(((ulong)&trap.frame->ss + 8) & 15, 0);
}

const struct test tests[] = {
	{ "divide error", divide, CHEAP },
	{ "breakpoint and int n", breakpoint, CHEAP },
	{ "undefined opcode", undefined, CHEAP },
	{ "general protection", protection, CHEAP },
	{ "stack fault", stack_fault, CHEAP },
	{ "page fault", page, CHEAP },
	{ "read-modify-write", read_modify_write, CHEAP },
	{ "saved RF", resume_flag, CHEAP },
	{ "gates", gates, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "ring 3 and a closed gate", ring3_gate, CHEAP },
	{ "aligned stack", aligned_stack, CHEAP },
	{ 0 },
};
