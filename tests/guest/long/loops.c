/*
 * Loops whose rounds are alike until one is not: a pointer that leaves its page or its part of the
 * address space, an operand that is not accessed after all, an instruction that the loop changes.
 * What holds of a register in the first rounds must not be believed in that one.
 */
#include "paging.h"

#define FAR_VA	 0x7f0000000000ul /* where stacks and libraries are */
#define ROUNDS	 40ul
#define STRIDE	 0x20000000ul
#define USER_RWX (PTE_P | PTE_W | PTE_U)

static u8 pages[2][4096] ALIGNED(4096);
static u8 code[4096] ALIGNED(4096);

static void map_two(void)
{
	for (unsigned i = 0; i < 2; i++)
		pt_map(FAR_VA + i * PAGE, (ulong)pages[i], USER_RWX);
}

/* There is no 1025th word. */
static ulong off_the_end(ulong unused)
{
	ulong at = FAR_VA, n = 0, sum = 0;

	ATTEMPT("1: add (%0), %2\n\tadd $8, %0\n\tinc %1\n\tjmp 1b",
		: "+r"(at), "+r"(n), "+r"(sum)::"memory", "cc");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA + 2 * PAGE);
	CHECK_EQ(at, FAR_VA + 2 * PAGE);
	CHECK_EQ(n, 1024);
	CHECK_EQ(sum, 1024 * 3);
	return 0;
}

/* A list that goes to and fro between two parts of the address space: each pointer, and the one
 * that is returned, less `less`. The last one is 0 before that. */
static ulong make_list(ulong less)
{
	volatile ulong *near = (ulong *)(void *)pages[0], *far = (ulong *)FAR_VA;

	for (unsigned i = 0; i < ROUNDS; i++) /* the same bytes, seen twice */
		near[8 * i] = (ulong)(i + 1 == ROUNDS ? NULL
				      : i % 10 < 5    ? &far[8 * (i + 1)]
						      : &near[8 * (i + 1)]) -
			      less;
	return (ulong)near - less;
}

static ulong to_and_fro(ulong unused)
{
	ulong at = make_list(0), n = 0;

	__asm__ volatile("1: inc %1\n\tmov (%0), %0\n\ttest %0, %0\n\tjnz 1b"
			 : "+r"(at), "+r"(n)::"memory", "cc");
	CHECK_EQ(n, ROUNDS);
	return 0;
}

/* Strides that an empty mask keeps from being accesses, up to where nothing is. */
static ulong stride_masked(ulong unused)
{
	ulong at = FAR_VA, n = 0;

	ATTEMPT("vpxor %%xmm1, %%xmm1, %%xmm1\n"
		"1: vpmaskmovd (%0), %%xmm1, %%xmm0\n\tadd %2, %0\n\tinc %1\n\t"
		"cmp $1000, %1\n\tjne 1b",
		: "+r"(at), "+r"(n)
		: "r"(STRIDE)
		: "cc");
	CHECK_EQ(trap.vector, NO_TRAP);
	ATTEMPT("mov (%0), %1", : "+r"(at), "+r"(n)::"memory");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA + 1000 * STRIDE);
	at = (ulong)pages[0];
	n = 0;
	ATTEMPT("1: vpmaskmovd (%0,%1,8), %%xmm1, %%xmm0\n\tadd $0x20000000, %1\n\t"
		"cmp %2, %1\n\tjb 1b\n\tmov (%0,%1,8), %0",
		: "+r"(at), "+r"(n)
		: "r"(1500 * STRIDE)
		: "cc", "memory");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, (ulong)pages[0] + 8 * 1500 * STRIDE);
	return 0;
}

/* The second stride is a fault. */
static ulong stride_constant(ulong unused)
{
	ulong at = FAR_VA, n = 0;

	ATTEMPT("1: mov (%0), %1\n\tadd $0x20000000, %0\n\tjmp 1b",
		: "+r"(at), "+r"(n)::"memory", "cc");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA + STRIDE);
	CHECK_EQ(at, FAR_VA + STRIDE);
	return 0;
}

/* There is no 1025th element, nor one before the first. */
static ulong elements(ulong unused)
{
	ulong at = FAR_VA, n = 0, sum = 0;

	ATTEMPT("1: add (%0,%1,8), %2\n\tinc %1\n\tjmp 1b",
		: "+r"(at), "+r"(n), "+r"(sum)::"memory", "cc");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA + 2 * PAGE);
	CHECK_EQ(n, 1024);
	CHECK_EQ(sum, 1024 * 3);
	ATTEMPT("1: sub -8(%0,%1,8), %2\n\tdec %1\n\tjmp 1b",
		: "+r"(at), "+r"(n), "+r"(sum)::"memory", "cc");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA - 8);
	CHECK_EQ(n, 0);
	CHECK_EQ(sum, 0);
	return 0;
}

/* Both parts of the sum move, against each other: it stays where it is, or leaves at once. */
static ulong elements_slide(ulong unused)
{
	ulong at = FAR_VA, n = 0, left = 300;

	ATTEMPT("1: mov (%0,%1,8), %%rax\n\tadd $0x20000000, %0\n\tsub $0x4000000, %1\n\t"
		"dec %2\n\tjnz 1b",
		: "+r"(at), "+r"(n), "+r"(left)::"memory", "cc", "rax");
	CHECK_EQ(trap.vector, NO_TRAP);
	CHECK_EQ(at + 8 * n, FAR_VA);
	ATTEMPT("1: mov (%0,%1,8), %%rax\n\tadd $0x4000000, %1\n\tjmp 1b",
		: "+r"(at), "+r"(n)::"memory", "cc", "rax");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, FAR_VA + STRIDE);
	return 0;
}

/* The index itself is read from there, as a list's next element. */
static ulong elements_to_and_fro(ulong unused)
{
	ulong base = 8, index = make_list(8), n = 0;

	__asm__ volatile("1: inc %1\n\tmov (%2,%0), %0\n\tcmp $-8, %0\n\tjne 1b"
			 : "+r"(index), "+r"(n)
			 : "r"(base)
			 : "memory", "cc");
	CHECK_EQ(n, ROUNDS);
	return 0;
}

static void in_ring(ulong (*test)(ulong), bool user)
{
	map_two();
	for (unsigned i = 0; i < 512; i++)
		((volatile ulong *)(void *)pages[0])[i] = ((volatile ulong *)(void *)pages[1])[i] =
			3;
	if (user)
		user_call(test, 0);
	else
		test(0);
}

static void end_kernel(void) { in_ring(off_the_end, false); }
static void end_user(void) { in_ring(off_the_end, true); }
static void list_kernel(void) { in_ring(to_and_fro, false); }
static void list_user(void) { in_ring(to_and_fro, true); }
static void elements_kernel(void) { in_ring(elements, false); }
static void elements_user(void) { in_ring(elements, true); }
static void slide_kernel(void) { in_ring(elements_slide, false); }
static void slide_user(void) { in_ring(elements_slide, true); }
static void hop_kernel(void) { in_ring(elements_to_and_fro, false); }
static void hop_user(void) { in_ring(elements_to_and_fro, true); }
static void constant_user(void) { in_ring(stride_constant, true); }

static void masked_user(void)
{
	if (!(cpuid(7, 0).b & BIT(5)) /* AVX2 */) {
		test_skip("no AVX2");
		return;
	}
	write_cr4(read_cr4() | 0x40600); /* OSXSAVE, OSXMMEXCPT, OSFXSR */
	__asm__ volatile("xsetbv" ::"a"(7), "d"(0), "c"(0));
	in_ring(stride_masked, true);
}

/* mov $0, %ecx; 1: add $n, %eax; inc %ecx; mov %cl, the n; cmp $100, %ecx; jne 1b; ret */
static void own_constant(void)
{
	static const u8 text[] = { 0xb9, 0, 0, 0, 0, 0x05, 7, 0, 0, 0, 0xff, 0xc1, 0x88, 0x0d, 0, 0,
		0, 0, 0x83, 0xf9, 100, 0x75, 0xee, 0xc3 };
	ulong sum = 0;
	s32 back = 6 - 18;

	memcpy(code, text, sizeof(text));
	memcpy(code + 14, &back, sizeof(back));
	__asm__ volatile("call *%1" : "+a"(sum) : "r"(code) : "rcx", "memory", "cc");
	CHECK_EQ(sum, 7 + 99 * 100 / 2);
}

const struct test tests[] = {
	{ "off the end", end_kernel, ROUNDS },
	{ "off the end, ring 3", end_user, ROUNDS },
	{ "to and fro", list_kernel, ROUNDS },
	{ "to and fro, ring 3", list_user, ROUNDS },
	{ "elements", elements_kernel, ROUNDS },
	{ "elements, ring 3", elements_user, ROUNDS },
	{ "elements slide", slide_kernel, ROUNDS },
	{ "elements slide, ring 3", slide_user, ROUNDS },
	{ "elements to and fro", hop_kernel, ROUNDS },
	{ "elements to and fro, ring 3", hop_user, ROUNDS },
	{ "strides, ring 3", constant_user, ROUNDS },
	{ "empty mask, ring 3", masked_user, ROUNDS },
	{ "a constant of its own", own_constant, ROUNDS },
	{ 0 },
};
