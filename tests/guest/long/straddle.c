/* Accesses and instructions that cross a page boundary, the second page present, missing or
 * protected. */
#include "paging.h"

static u8 first[4096] ALIGNED(4096), second[4096] ALIGNED(4096);

#define EDGE   (TEST_VA + 0x1000)
#define FAR_VA 0x180000000000ul

static void map(u64 flags_of_second)
{
	/* In physical memory the two pages are the other way round. */
	pt_map(TEST_VA, (ulong)first, PTE_P | PTE_W);
	pt_map(EDGE, (ulong)second, flags_of_second);
}

static void data_both_present(void)
{
	map(PTE_P | PTE_W);
	for (unsigned i = 1; i < 8; i++) {
		*(volatile u64 *)(EDGE - i) = 0x1122334455667788;
		CHECK_EQ(*(volatile u64 *)(EDGE - i), 0x1122334455667788);
		CHECK_EQ(first[4096 - i], 0x88);
		CHECK_EQ(second[7 - i], 0x11);
	}
	*(volatile u64 *)(EDGE - 3) = 10;
	__asm__ volatile("lock addq $5, (%0)" ::"r"(EDGE - 3) : "memory");
	CHECK_EQ(*(volatile u64 *)(EDGE - 3), 15);
}

static void data_second_missing(void)
{
	map(0);
	memset(first, 0x5a, sizeof first);
	EXPECT(V_PF, 0, "mov (%0), %%rax", : : "r"(EDGE - 4) : "rax");
	CHECK_EQ(trap.cr2, EDGE); /* the first byte that could not be reached */
	EXPECT(V_PF, PF_W, "mov %0, (%1)", : : "r"(0ul), "r"(EDGE - 4) : "memory");
	CHECK_EQ(trap.cr2, EDGE);
	CHECK_EQ(first[4095], 0x5a); /* all or nothing */
	CHECK_EQ(first[4092], 0x5a);
}

static void rmw_second_missing(void)
{
	map(0);
	memset(first, 0x5a, sizeof first);
	EXPECT(V_PF, PF_W, "addl %k0, (%1)", : : "r"(1ul), "r"(EDGE - 2) : "memory");
	CHECK_EQ(first[4095], 0x5a);
}

static void data_second_read_only(void)
{
	map(PTE_P);
	memset(first, 0x5a, sizeof first);
	EXPECT_OK("mov (%0), %%rax", : : "r"(EDGE - 4) : "rax");
	EXPECT(V_PF, PF_P | PF_W, "mov %0, (%1)", : : "r"(0ul), "r"(EDGE - 4) : "memory");
	CHECK_EQ(trap.cr2, EDGE);
	CHECK_EQ(first[4095], 0x5a);
}

/* Tables that are indexed by an address fold it, and a carry may change all that is folded in. */
static void data_behind_each_carry(void)
{
	static const unsigned bits[] = { 21, 25, 29, 30, 33, 37, 39, 41 };

	for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
		ulong edge = FAR_VA + (1ul << bits[i]);

		pt_map(edge - 4096, (ulong)first, PTE_P | PTE_W);
		pt_map(edge, (ulong)second, PTE_P | PTE_W);
		memset(first, 0x5a, sizeof first);
		memset(second, 0xa5, sizeof second);
		for (unsigned before = 1; before < 8; before++) {
			*(volatile u64 *)(edge - before) = 0x1122334455667788 + i;
			CHECK_EQ(*(volatile u64 *)(edge - before), 0x1122334455667788 + i);
			CHECK_EQ(first[4096 - before], 0x88 + i);
			CHECK_EQ(first[4095 - before], 0x5a);
			CHECK_EQ(second[7 - before], 0x11);
			CHECK_EQ(second[8 - before], 0xa5);
			memset(second, 0xa5, 8);
		}
	}
}

static void push_across(void)
{
	map(PTE_P | PTE_W);
	ulong v;
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %1, %%rsp\n\tpush %2\n\tpop %0\n\t"
			 "mov %%rbx, %%rsp"
			 : "=&r"(v)
			 : "r"(EDGE + 3), "r"(0x1234567890abcdef)
			 : "rbx", "memory");
	CHECK_EQ(v, 0x1234567890abcdef);
}

/* mov $0x1122334455667788, %rax; ret: 10 bytes and one */
static const u8 code[] = { 0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xc3 };

static void put_code(ulong at)
{
	for (unsigned i = 0; i < sizeof code; i++)
		*(volatile u8 *)(at + i) = code[i];
}

static ulong call(ulong at)
{
	ulong v;
	__asm__ volatile("call *%1" : "=a"(v) : "r"(at) : "memory");
	return v;
}

static void code_both_present(void)
{
	map(PTE_P | PTE_W);
	for (unsigned i = 1; i < 10; i++) {
		put_code(EDGE - i);
		CHECK_EQ(call(EDGE - i), 0x1122334455667788);
	}
}

static void on_fetch_fault(struct frame *f)
{
	trap.vector = V_PF;
	trap.error = (u32)f->error;
	trap.ip = f->ip;
	trap.cr2 = read_cr2();
	pt_map(EDGE, (ulong)second, PTE_P | PTE_W); /* and run it again */
}

static void code_second_missing(void)
{
	for (unsigned i = 1; i < 10; i++) {
		map(PTE_P | PTE_W);
		put_code(EDGE - i);
		pt_map(EDGE, 0, 0);
		trap.vector = NO_TRAP;
		trap_hook[V_PF] = on_fetch_fault;
		CHECK_EQ(call(EDGE - i), 0x1122334455667788);
		trap_hook[V_PF] = NULL;
		CHECK_EQ(trap.vector, V_PF);
		CHECK_EQ(trap.error, PF_I);
		CHECK_EQ(trap.ip, EDGE - i); /* the instruction's start, */
		CHECK_EQ(trap.cr2, EDGE);    /* not where the fetch failed */
	}
}

static void code_second_no_execute(void)
{
	map(PTE_P | PTE_W);
	put_code(EDGE - 3);
	pt_map(EDGE, (ulong)second, PTE_P | PTE_W | PTE_NX);
	trap.vector = NO_TRAP;
	trap_hook[V_PF] = on_fetch_fault;
	CHECK_EQ(call(EDGE - 3), 0x1122334455667788);
	trap_hook[V_PF] = NULL;
	CHECK_EQ(trap.error, PF_P | PF_I);
	CHECK_EQ(trap.cr2, EDGE);
}

static void exact_end(void)
{
	/* An instruction that ends with its page does not touch the next one. */
	map(PTE_P | PTE_W);
	put_code(EDGE - sizeof code);
	pt_map(EDGE, 0, 0);
	CHECK_EQ(call(EDGE - sizeof code), 0x1122334455667788);
}

static void remapped_tail(void)
{
	/* The second half changes by mapping alone: engines that cache code must notice. */
	static u8 other[4096] ALIGNED(4096);

	map(PTE_P | PTE_W);
	put_code(EDGE - 6);
	memcpy(other, second, sizeof other);
	other[3] = 0x99;
	CHECK_EQ(call(EDGE - 6), 0x1122334455667788);
	pt_map(EDGE, (ulong)other, PTE_P);
	CHECK_EQ(call(EDGE - 6), 0x9922334455667788);
}

static void too_long(void)
{
	/* 15 bytes are the limit: #GP(0), not #UD (SDM 2 2.3.11, SDM 3A 6.15). */
	EXPECT(V_GP, 0, ".fill 15, 1, 0x66\n\tnop", : :);
	EXPECT_OK(".fill 14, 1, 0x66\n\tnop", : :);
}

const struct test tests[] = {
	{ "data, both present", data_both_present, CHEAP },
	{ "data, second missing", data_second_missing, CHEAP },
	{ "read-modify-write, second missing", rmw_second_missing, CHEAP },
	{ "data, second read-only", data_second_read_only, CHEAP },
	{ "data, behind each carry", data_behind_each_carry, CHEAP },
	{ "stack", push_across, CHEAP },
	{ "code, both present", code_both_present, CHEAP },
	{ "code, second missing", code_second_missing, CHEAP },
	{ "code, second not executable", code_second_no_execute, CHEAP },
	{ "code up to the edge", exact_end, CHEAP },
	{ "code with a remapped tail", remapped_tail, CHEAP },
	{ "too long an instruction", too_long, CHEAP },
	{ 0 },
};
