/*
 * POPF and PUSHF (SDM 2): every flag comes back as it was written, the same instruction being given
 * one value after the other. Status flags, IF and the rest change by turns, as only the first two
 * need nothing but themselves.
 */
#include "guest.h"

#define FREE   (FLAGS_STATUS | FLAG_DF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID)
#define ROUNDS 500u

/* What is read back; the flags are left so, but for DF, which C expects to be clear. */
static ulong through_flags(ulong value)
{
	ulong read;

	__asm__ volatile("push %1\n\tpopf\n\tpushf\n\tpop %0\n\tcld"
			 : "=r"(read)
			 : "r"(value)
			 : "memory", "cc");
	return read;
}

static ulong random(void)
{
	static u32 x = 1;

	x = x * 1664525 + 1013904223;
	return x >> 8;
}

static void status(void)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		ulong value = (random() & FLAGS_STATUS) | 2;

		CHECK_EQ(through_flags(value), value);
	}
}

/* Bits that do not exist read as bit 1 set, 3, 5 and 15 clear, whatever is written. */
static void all(void)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		ulong some = i & 3 ? FLAGS_STATUS : FREE;
		ulong value = random() & some;
		ulong odd = i & 64 ? 1ul << 3 | 1ul << 5 | 1ul << 15 : 0;

		CHECK_EQ(through_flags(value | odd), value | 2);
	}
	through_flags(2);
}

/* A conditional jump right behind it takes the new flags. */
static void branch(void)
{
	ulong taken = 0, want = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		ulong value = random() & FLAGS_STATUS;

		want += !!(value & FLAG_CF);
		__asm__ volatile("push %1\n\tpopf\n\tjnc 1f\n\tadd $1, %0\n1:"
				 : "+r"(taken)
				 : "r"(value)
				 : "memory", "cc");
	}
	CHECK_EQ(taken, want);
}

const struct test tests[] = {
	{ "status", status, CHEAP },
	{ "all", all, CHEAP },
	{ "branch", branch, CHEAP },
	{ 0 },
};
