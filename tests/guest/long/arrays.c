/*
 * Arrays that an instruction names by its displacement, as a kernel's code does: the register is
 * only how far into the array to go, and says nothing of where the access is.
 */
#include "paging.h"

/* Where Linux has its text, and its modules (Documentation/x86/x86_64/mm.rst). */
#define TEXT_VA	  0xffffffff90000000ul
#define MODULE_VA 0xffffffffc0550000ul
#define WORDS	  512u
#define ROUNDS	  300u

static u64 text[WORDS] ALIGNED(4096), module[WORDS] ALIGNED(4096);

/* clang-format off */
#define AT(va) #va "(%[at])"
#define ADD(va) "addq " AT(va) ", %[sum]"
#define TAKE(va) "decq " AT(va)
/* clang-format on */

static void fill(u64 *words, u64 first, ulong va)
{
	for (unsigned i = 0; i < WORDS; i++)
		words[i] = first + i;
	pt_map(va, (ulong)words, PTE_P | PTE_W | PTE_A | PTE_D | PTE_G);
}

static u64 sum_from(u64 first) { return WORDS * first + WORDS * (WORDS - 1ull) / 2; }

static void read(void)
{
	u64 sum = 0;

	fill(text, 1000, TEXT_VA);
	fill(module, 2000, MODULE_VA);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (ulong at = 0; at < sizeof(text); at += 8) {
			__asm__ volatile(ADD(-0x70000000) "\n\t" ADD(-0x3fab0000)
					 : [sum] "+r"(sum)
					 : [at] "r"(at)
					 : "cc", "memory");
		}
	}
	CHECK_EQ(sum, ROUNDS * (sum_from(1000) + sum_from(2000)));
}

static void write(void)
{
	fill(text, 1000, TEXT_VA);
	fill(module, 2000, MODULE_VA);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (ulong at = 0; at < sizeof(text); at += 8) {
			__asm__ volatile(TAKE(-0x70000000) "\n\t" TAKE(-0x3fab0000)
					 :
					 : [at] "r"(at)
					 : "cc", "memory");
		}
	}
	for (unsigned i = 0; i < WORDS; i += 37) {
		CHECK_EQ(text[i], 1000 + i - ROUNDS);
		CHECK_EQ(module[i], 2000 + i - ROUNDS);
	}
}

/* The same instruction goes into the array with one register, and anywhere with another. */
static void both(void)
{
	u64 sum = 0;

	fill(text, 1000, TEXT_VA);
	fill(module, 2000, MODULE_VA);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 4; i++) {
			ulong at = i % 2 ? TEXT_VA - MODULE_VA + 8 * i : 8 * i;

			__asm__ volatile(ADD(-0x3fab0000)
					 : [sum] "+r"(sum)
					 : [at] "r"(at)
					 : "cc", "memory");
		}
	}
	CHECK_EQ(sum, ROUNDS * (2000 + 1001 + 2002 + 1003ull));
}

const struct test tests[] = {
	{ "read", read, 1 },
	{ "write", write, 1 },
	{ "both", both, 1 },
	{ 0 },
};
