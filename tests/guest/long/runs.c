/*
 * Several accesses by one register, one after the other: the fields of a structure, upwards and
 * downwards, of any size, read and written, near the edges of pages and over them; while the
 * register moves, and while it is another one's turn.
 */
#include "paging.h"

#define EDGE (TEST_VA + PAGE)

static u8 pages[3][PAGE] ALIGNED(4096);
static u8 model[2 * PAGE];

/* In physical memory the second page lies below the first one. */
static void map(u64 flags_of_second)
{
	pt_map(TEST_VA, (ulong)pages[2], PTE_P | PTE_W | PTE_U);
	pt_map(EDGE, (ulong)pages[0], flags_of_second);
}

static void fill(void)
{
	map(PTE_P | PTE_W | PTE_U);
	for (unsigned i = 0; i < 2 * PAGE; i++)
		*(volatile u8 *)(TEST_VA + i) = model[i] = (u8)(i * 7 + (i >> 8));
}

static u64 take(ulong at, unsigned size)
{
	u64 v = 0;

	memcpy(&v, model + (at - TEST_VA), size);
	return v;
}

static void put(ulong at, u64 v, unsigned size) { memcpy(model + (at - TEST_VA), &v, size); }

static void compare(int line)
{
	for (unsigned i = 0; i < 2 * PAGE; i++)
		if (((volatile u8 *)TEST_VA)[i] != model[i])
			check_fail(line, "byte", i, model[i]);
}

/* ---- the fields of a structure ---- */

/* Writes first, so that all that is near can share its check; the last one is too far away. */
#define FIELDS(reg)                                                             \
	static NOINLINE u64 fields_##reg(ulong at)                              \
	{                                                                       \
		u64 sum;                                                        \
                                                                                \
		__asm__ volatile("push %%" #reg "\n\tmov %[at], %%" #reg "\n\t" \
				 "movq $1, 16(%%" #reg ")\n\t"                  \
				 "movl $2, (%%" #reg ")\n\t"                    \
				 "mov 16(%%" #reg "), %%rax\n\t"                \
				 "movq $-3, 40(%%" #reg ")\n\t"                 \
				 "movw $4, -24(%%" #reg ")\n\t"                 \
				 "add -32(%%" #reg "), %%rax\n\t"               \
				 "addq $7, 16(%%" #reg ")\n\t"                  \
				 "add 18(%%" #reg "), %%rax\n\t"                \
				 "movb $9, 60(%%" #reg ")\n\t"                  \
				 "mov -32(%%" #reg "), %%rdx\n\t"               \
				 "mov %%rdx, 64(%%" #reg ")\n\t"                \
				 "lock addl $5, 64(%%" #reg ")\n\t"             \
				 "mov %%rax, 200(%%" #reg ")\n\t"               \
				 "pop %%" #reg                                  \
				 : "=&a"(sum), [at] "+d"(at)                    \
				 :                                              \
				 : "memory", "cc");                             \
		return sum;                                                     \
	}

FIELDS(rbx)
FIELDS(rcx)
FIELDS(rsi)
FIELDS(rbp)
FIELDS(r8)
FIELDS(r10)
FIELDS(r12)
FIELDS(r13)
FIELDS(r15)

static u64 model_fields(ulong at)
{
	u64 sum;

	put(at + 16, 1, 8);
	put(at, 2, 4);
	sum = take(at + 16, 8);
	put(at + 40, -3ull, 8);
	put(at - 24, 4, 2);
	sum += take(at - 32, 8);
	put(at + 16, take(at + 16, 8) + 7, 8);
	sum += take(at + 18, 8);
	put(at + 60, 9, 1);
	put(at + 64, take(at - 32, 8), 8);
	put(at + 64, (u32)take(at + 64, 4) + 5, 4);
	put(at + 200, sum, 8);
	return sum;
}

static u64 (*const fields_of[])(ulong) = { fields_rbx, fields_rcx, fields_rsi, fields_rbp,
	fields_r8, fields_r10, fields_r12, fields_r13, fields_r15 };

static void fields_at(ulong at)
{
	for (unsigned i = 0; i < ARRAY_LEN(fields_of); i++) {
		u64 want = model_fields(at);

		CHECK_EQ(fields_of[i](at), want);
	}
}

static void fields_in_a_page(void)
{
	fill();
	for (ulong at = TEST_VA + 32; at < TEST_VA + 2048; at += 52)
		fields_at(at);
	compare(__LINE__);
}

static void fields_over_the_edge(void)
{
	fill();
	for (ulong at = EDGE - 240; at < EDGE + 40; at += 3)
		fields_at(at);
	compare(__LINE__);
}

static ulong user_fields(ulong wrong)
{
	for (unsigned round = 0; round < 20; round++) {
		for (ulong at = EDGE - 1000; at < EDGE + 1000; at += 77) {
			for (unsigned i = 0; i < ARRAY_LEN(fields_of); i++) {
				u64 want = model_fields(at);

				wrong += fields_of[i](at) != want;
			}
		}
	}
	return wrong;
}

static void ring3(void)
{
	fill();
	CHECK_EQ(user_call(user_fields, 0), 0);
	compare(__LINE__);
}

/* Displacements of eight bits and of more. */
static void far_apart(void)
{
	fill();
	for (ulong at = TEST_VA + 320; at < EDGE + 400; at += 4) {
		__asm__ volatile("movq $1, -120(%0)\n\tmovq $2, -136(%0)\n\t"
				 "movq $3, 124(%0)\n\tmovq $4, 140(%0)\n\t"
				 "movq $5, -300(%0)\n\tmovq $6, -316(%0)" ::"S"(at)
				 : "memory");
		put(at - 120, 1, 8);
		put(at - 136, 2, 8);
		put(at + 124, 3, 8);
		put(at + 140, 4, 8);
		put(at - 300, 5, 8);
		put(at - 316, 6, 8);
	}
	compare(__LINE__);
}

/* ---- the register moves ---- */

static void moves(void)
{
	fill();
	for (unsigned round = 0; round < CHEAP; round++) {
		ulong at = TEST_VA + (round * 24) % 2000, end;

		__asm__ volatile("movl $1, (%[p])\n\t"
				 "add $8, %[p]\n\t"
				 "movl $2, (%[p])\n\t"
				 "lea 16(%[p]), %[p]\n\t"
				 "movl $3, -4(%[p])\n\t"
				 "inc %[p]\n\t"
				 "movb $4, (%[p])\n\t"
				 "sub $20, %[p]\n\t"
				 "movb $5, 4(%[p])\n\t"
				 "and $-16, %[p]\n\t"
				 "movb $6, 8(%[p])"
				 : [p] "=r"(end)
				 : "0"(at)
				 : "memory", "cc");
		put(at, 1, 4);
		put(at + 8, 2, 4);
		put(at + 20, 3, 4);
		put(at + 25, 4, 1);
		put(at + 9, 5, 1);
		ulong low = (at + 5) & ~15ul;
		put(low + 8, 6, 1);
		CHECK_EQ(end, low);
	}
	compare(__LINE__);
}

/* A list: the register is what was just read by it; then a part of it is written. */
static void follows(void)
{
	fill();
	for (ulong at = TEST_VA; at < EDGE + 1024; at += 1024) {
		put(at, at + 1024, 8);
		*(volatile u64 *)at = at + 1024;
	}
	for (unsigned round = 0; round < CHEAP; round++) {
		ulong p = TEST_VA, sum = 0;

		__asm__ volatile("mov (%[p]), %[p]\n\t"
				 "add 8(%[p]), %[sum]\n\t"
				 "mov (%[p]), %[p]\n\t"
				 "add 8(%[p]), %[sum]\n\t"
				 "mov (%[p]), %[p]\n\t"
				 "add 8(%[p]), %[sum]\n\t"
				 "mov (%[p]), %[p]\n\t"
				 "add 8(%[p]), %[sum]\n\t"
				 "mov $16, %b[p]\n\t"
				 "add (%[p]), %[sum]"
				 : [p] "+b"(p), [sum] "+a"(sum)
				 :
				 : "memory", "cc");
		CHECK_EQ(p, EDGE + 16);
		u64 want = 0;
		for (ulong at = TEST_VA + 1024; at <= EDGE; at += 1024)
			want += take(at + 8, 8);
		CHECK_EQ(sum, want + take(EDGE + 16, 8));
	}
}

/* Two registers in turns, in two pages; and registers that have no place of their own. */
static void turns(void)
{
	fill();
	for (unsigned round = 0; round < CHEAP; round++) {
		u64 got;

		__asm__ volatile("mov $11, %%r10d\n\tmov $12, %%r11d\n\tmov $13, %%r15d\n\t"
				 "mov %%r10, (%[a])\n\t"
				 "mov %%r11, 8(%[a])\n\t"
				 "mov %%r15, (%[b])\n\t"
				 "add 8(%[a]), %%r15\n\t"
				 "add %%r15, 8(%[b])\n\t"
				 "lea (%%r10,%%r11), %%r10\n\t"
				 "add %%r10, 16(%[b])\n\t"
				 "xadd %%r11, (%[a])\n\t"
				 "mov 16(%[a]), %%ah\n\t"
				 "mov %%ah, 24(%[a])\n\t"
				 "mov %%r11, %[got]"
				 : [got] "=&D"(got)
				 : [a] "b"(TEST_VA + 8 * (round % 300)), [b] "S"(EDGE + 640)
				 : "memory", "cc", "r10", "r11", "r15", "rax");
		ulong a = TEST_VA + 8 * (round % 300), b = EDGE + 640;
		put(a, 11, 8);
		put(a + 8, 12, 8);
		put(b, 13, 8);
		put(b + 8, take(b + 8, 8) + 25, 8);
		put(b + 16, take(b + 16, 8) + 23, 8);
		put(a, 23, 8);
		put(a + 24, take(a + 16, 1), 1);
		CHECK_EQ(got, 11);
	}
	compare(__LINE__);
}

/* ---- the stack ---- */

static void stack_at(ulong at)
{
	u64 got;

	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %[at], %%rsp\n\t"
			 "push $1\n\t"
			 "push %%rcx\n\t"
			 "movl $2, 12(%%rsp)\n\t"
			 "sub $24, %%rsp\n\t"
			 "movq $3, 8(%%rsp)\n\t"
			 "push %%rcx\n\t"
			 "addq $4, 40(%%rsp)\n\t"
			 "pop %%rax\n\t"
			 "add $24, %%rsp\n\t"
			 "add 8(%%rsp), %%rax\n\t"
			 "pop %%rdx\n\t"
			 "add %%rdx, %%rax\n\t"
			 "pop %%rdx\n\t"
			 "mov %%rbx, %%rsp"
			 : "=&a"(got)
			 : [at] "D"(at), "c"(at * 3)
			 : "memory", "cc", "rbx", "rdx");
	put(at - 8, 1, 8);
	put(at - 16, at * 3, 8);
	put(at - 4, 2, 4);
	put(at - 32, 3, 8);
	put(at - 48, at * 3, 8);
	put(at - 8, take(at - 8, 8) + 4, 8);
	CHECK_EQ(got, at * 3 + take(at - 8, 8) + at * 3);
}

static void pushes_at(ulong at)
{
	u64 got;

	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %[at], %%rsp\n\t"
			 "push $1\n\tpush %%rcx\n\tpush $3\n\tpush %%rcx\n\t"
			 "pop %%rax\n\tpop %%rdx\n\tpop %%rdx\n\tpop %%rcx\n\t"
			 "add %%rcx, %%rax\n\tadd %%rdx, %%rax\n\tmov %%rbx, %%rsp"
			 : "=&a"(got)
			 : [at] "D"(at), "c"(at * 5)
			 : "memory", "cc", "rbx", "rdx");
	put(at - 8, 1, 8);
	put(at - 16, at * 5, 8);
	put(at - 24, 3, 8);
	put(at - 32, at * 5, 8);
	CHECK_EQ(got, at * 10 + 1);
}

/* No trap or interrupt comes meanwhile: it would be pushed there. */
static void stack(void)
{
	fill();
	for (ulong at = EDGE + 64; at > EDGE - 16; at -= 4)
		pushes_at(at);
	for (unsigned round = 0; round < CHEAP; round++)
		stack_at(TEST_VA + 64 + 8 * (round % 400));
	for (ulong at = EDGE - 16; at < EDGE + 64; at += 4)
		stack_at(at);
	compare(__LINE__);
}

/* ---- what may not be touched ---- */

/* Each access faults by itself, when those before it have happened. */
#define TRIES 4u
static void second_missing(void)
{
	for (unsigned i = 0; i < TRIES; i++) {
		ulong at = EDGE - 16;

		fill();
		for (unsigned k = 0; k < 40; k++) /* it is used to being in one page */
			__asm__ volatile("movq $1, (%0)\n\tmovq $2, 8(%0)\n\tmovq $3, 16(%0)\n\t"
					 "movq $4, 24(%0)" ::"r"(TEST_VA)
					 : "memory");
		map(0);
		memset(pages[2], 0x5a, PAGE);
		EXPECT_AT(V_PF, PF_W, 0, "movq $3, 16(%0)\n\tmovq $4, 24(%0)", ::"S"(at)
			  : "memory");
		CHECK_EQ(trap.cr2, EDGE);
		EXPECT_AT(V_PF, PF_W, 7, "movq $1, (%0)\n\tmovq $3, 16(%0)\n\tmovq $2, 8(%0)",
			  ::"S"(at)
			  : "memory");
		CHECK_EQ(trap.cr2, EDGE);
		CHECK_EQ(*(volatile u64 *)at, 1);
		CHECK_EQ(*(volatile u64 *)(at + 8), 0x5a5a5a5a5a5a5a5aull);
		EXPECT_AT(V_PF, PF_W, 7, "movq $1, (%0)\n\tmovq $3, 12(%0)", ::"S"(at) : "memory");
		CHECK_EQ(trap.cr2, EDGE);
		EXPECT_AT(V_PF, 0, 3, "mov (%0), %%rax\n\tmov 16(%0), %%rbx\n\tmov 8(%0), %%rax",
			  ::"S"(at)
			  : "rax", "rbx");
		CHECK_EQ(trap.cr2, EDGE);
	}
}

static void read_only(void)
{
	ulong cr0 = read_cr0();

	write_cr0(cr0 | CR0_WP);
	for (unsigned i = 0; i < TRIES; i++) {
		fill();
		map(PTE_P);
		for (ulong at = EDGE; at < EDGE + 512; at += 64) {
			u64 v;

			EXPECT_OK("mov (%1), %0\n\tmov 8(%1), %0\n\tmov 24(%1), %0",
				  : "=&r"(v)
				  : "r"(at));
			CHECK_EQ(v, take(at + 24, 8));
			EXPECT_AT(V_PF, PF_P | PF_W, 4,
				  "mov 8(%0), %%rax\n\tmov %%rax, 16(%0)\n\tmov %%rax, (%0)",
				  ::"S"(at)
				  : "rax", "memory");
			CHECK_EQ(trap.cr2, at + 16);
		}
	}
	write_cr0(cr0);
	map(PTE_P | PTE_W | PTE_U);
	compare(__LINE__);
}

/* ---- in the middle of one ---- */

/* An instruction that traps, or is not executed as itself, between two accesses. */
static void interrupted(void)
{
	fill();
	for (unsigned round = 0; round < CHEAP; round++) {
		ulong at = TEST_VA + 16 * (round % 200);

		EXPECT_AT(V_DE, 0, 7, "movq $1, (%0)\n\tdivl %k1\n\tmovq $2, 8(%0)", ::"S"(at),
			  "c"(0), "a"(1), "d"(0)
			  : "memory", "cc");
		put(at, 1, 8);
		__asm__ volatile("movq $3, 8(%0)\n\tcpuid\n\tmovq $4, 16(%0)" ::"S"(at), "a"(0)
				 : "rbx", "rcx", "rdx", "memory");
		put(at + 8, 3, 8);
		put(at + 16, 4, 8);
		__asm__ volatile("movq $5, 24(%0)\n\tinvlpg (%0)\n\tincq 24(%0)" ::"S"(at)
				 : "memory", "cc");
		put(at + 24, 6, 8);
	}
	compare(__LINE__);
}

/* The page becomes another one between two accesses. */
static void remapped(void)
{
	u64 *entry = pt_entry(TEST_VA, 1), here, there;

	fill();
	here = *entry;
	there = *pt_entry(EDGE, 1);
	for (unsigned round = 0; round < CHEAP; round++) {
		__asm__ volatile(
			"movq $1, (%0)\n\tmov %2, (%1)\n\tinvlpg (%0)\n\tmovq $2, 8(%0)" ::"S"(
				TEST_VA),
			"D"(entry), "a"(there)
			: "memory");
		pt_set(entry, here, TEST_VA);
	}
	put(TEST_VA, 1, 8);
	put(EDGE + 8, 2, 8);
	compare(__LINE__);
}

const struct test tests[] = {
	{ "fields in a page", fields_in_a_page, 3 },
	{ "fields over the edge", fields_over_the_edge, 2 },
	{ "far apart", far_apart, 2 },
	{ "ring 3", ring3, 2 },
	{ "moves", moves, 1 },
	{ "follows", follows, 1 },
	{ "turns", turns, 1 },
	{ "stack", stack, 2 },
	{ "second missing", second_missing, 2 },
	{ "read only", read_only, 2 },
	{ "interrupted", interrupted, 1 },
	{ "remapped", remapped, 1 },
	{ 0 },
};
