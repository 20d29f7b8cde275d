/* Read-modify-write instructions, locked and not: CMPXCHG, CMPXCHG8B/16B, XADD, XCHG; bit
 * operations. */
#include "paging.h"

static u64 word[4] ALIGNED(64);

static void cmpxchg(void)
{
	ulong a = 5;
	u8 z;

	word[0] = 5;
	__asm__ volatile("lock cmpxchgq %3, %1\n\tsetz %2"
			 : "+a"(a), "+m"(word[0]), "=q"(z)
			 : "r"(9ul)
			 : "cc");
	CHECK_EQ(z, 1);
	CHECK_EQ(word[0], 9);
	__asm__ volatile("lock cmpxchgq %3, %1\n\tsetz %2"
			 : "+a"(a), "+m"(word[0]), "=q"(z)
			 : "r"(11ul)
			 : "cc");
	CHECK_EQ(z, 0);
	CHECK_EQ(a, 9);
	CHECK_EQ(word[0], 9);
	/* 32-bit register forms zero-extend what they write. */
	a = 0xffffffff00000009;
	ulong r = 0xffffffff00000009;
	__asm__ volatile("cmpxchgl %k2, %k1\n\tsetz %b3"
			 : "+a"(a), "+r"(r)
			 : "r"(7ul), "d"(0)
			 : "cc");
	CHECK_EQ(r, 7);
}

static void cmpxchg8b(void)
{
	u32 a = 1, d = 2;
	u8 z;

	word[0] = 0x0000000200000001;
	__asm__ volatile("lock cmpxchg8b %2\n\tsetz %3"
			 : "+a"(a), "+d"(d), "+m"(word[0]), "=q"(z)
			 : "b"(3), "c"(4)
			 : "cc");
	CHECK_EQ(z, 1);
	CHECK_EQ(word[0], 0x0000000400000003);
	__asm__ volatile("cmpxchg8b %2\n\tsetz %3"
			 : "+a"(a), "+d"(d), "+m"(word[0]), "=q"(z)
			 : "b"(5), "c"(6)
			 : "cc");
	CHECK_EQ(z, 0);
	CHECK_EQ(a, 3);
	CHECK_EQ(d, 4);
	EXPECT(V_UD, 0, ".byte 0x0f, 0xc7, 0xc8", : :); /* register operand */
}

static void cmpxchg16b(void)
{
	u64 a = 1, d = 2;
	u8 z;

	word[0] = 1;
	word[1] = 2;
	__asm__ volatile("lock cmpxchg16b %2\n\tsetz %3"
			 : "+a"(a), "+d"(d), "+m"(*(u64(*)[2])word), "=q"(z)
			 : "b"(3ul), "c"(4ul)
			 : "cc");
	CHECK_EQ(z, 1);
	CHECK_EQ(word[0], 3);
	CHECK_EQ(word[1], 4);
	__asm__ volatile("lock cmpxchg16b %2\n\tsetz %3"
			 : "+a"(a), "+d"(d), "+m"(*(u64(*)[2])word), "=q"(z)
			 : "b"(5ul), "c"(6ul)
			 : "cc");
	CHECK_EQ(z, 0);
	CHECK_EQ(a, 3);
	CHECK_EQ(d, 4);
	EXPECT(V_GP, 0, "cmpxchg16b 8(%0)",
		:
		: "r"(word), "a"(0), "b"(0), "c"(0), "d"(0)
		: "memory");
}

static void failed_compare_writes(void)
{
	static u64 page[512] ALIGNED(4096);

	/* CMPXCHG writes its destination even when the comparison fails: a read-only page faults.
	 */
	pt_map(TEST_VA, (ulong)page, PTE_P);
	EXPECT(V_PF, PF_P | PF_W, "lock cmpxchgl %%ecx, (%0)",
		:
		: "r"(TEST_VA), "a"(1), "c"(2)
		: "memory", "cc");
}

static void xadd_xchg(void)
{
	ulong r = 5, f;

	word[0] = 7;
	__asm__ volatile("lock xaddq %0, %1\n\tpushf\n\tpop %2"
			 : "+r"(r), "+m"(word[0]), "=r"(f)::"cc");
	CHECK_EQ(r, 7);
	CHECK_EQ(word[0], 12);
	CHECK_EQ(f & FLAGS_STATUS, FLAG_PF); /* 12 has two bits */
	__asm__ volatile("xchgl %k0, %1" : "+r"(r), "+m"(word[0]));
	CHECK_EQ(r, 12);
	CHECK_EQ(word[0], 7);
	ulong same = 3;
	__asm__ volatile("xaddq %0, %0" : "+r"(same)::"cc");
	CHECK_EQ(same, 6);
}

static void locked_forms(void)
{
	word[0] = 0xf0;
	__asm__ volatile("lock orb $1, %0\n\tlock andb $0xf1, %0\n\t"
			 "lock xorb $0x10, %0\n\tlock addw $1, %0\n\t"
			 "lock subl $2, %0\n\tlock incq %0\n\tlock decq %0\n\t"
			 "lock notb %0\n\tlock negb %0\n\tstc\n\tlock adcq $0, %0\n\t"
			 "stc\n\tlock sbbq $1, %0"
			 : "+m"(word[0])::"cc");
	CHECK_EQ(word[0], 0xe0);
}

static void bit_offsets(void)
{
	u8 c;

	/* A register bit offset is signed and reaches beyond the operand (SDM 2 3.1.1.9). */
	memset(word, 0, sizeof word);
	__asm__ volatile("btsq %1, %0" : "+m"(word[1]) : "r"(64l + 3) : "memory", "cc");
	CHECK_EQ(word[2], 8);
	__asm__ volatile("btsq %1, %0" : "+m"(word[1]) : "r"(-1l) : "memory", "cc");
	CHECK_EQ(word[0], 0x8000000000000000);
	__asm__ volatile("btsl %1, %0" : "+m"(word[1]) : "r"(-33) : "memory", "cc");
	CHECK_EQ(word[0], 0x8000000080000000);
	__asm__ volatile("btcw %w1, %0" : "+m"(word[1]) : "r"(-16) : "memory", "cc");
	CHECK_EQ(word[0], 0x8001000080000000);
	__asm__ volatile("lock btrq %2, %0\n\tsetc %1"
			 : "+m"(word[1]), "=q"(c)
			 : "r"(-1l)
			 : "memory", "cc");
	CHECK_EQ(c, 1);
	CHECK_EQ(word[0], 0x0001000080000000);
	/* An immediate or a register operand wraps instead. */
	memset(word, 0, sizeof word);
	__asm__ volatile("btsq $67, %0" : "+m"(word[1])::"memory", "cc");
	CHECK_EQ(word[1], 8);
	ulong r = 0;
	__asm__ volatile("btsq %1, %0" : "+r"(r) : "r"(65ul) : "cc");
	CHECK_EQ(r, 2);
}

static void bit_scan(void)
{
	ulong r, f;

	__asm__ volatile("bsfq %2, %0\n\tpushf\n\tpop %1" : "=r"(r), "=r"(f) : "r"(0x100ul) : "cc");
	CHECK_EQ(r, 8);
	CHECK_EQ(f & FLAG_ZF, 0);
	__asm__ volatile("bsrq %1, %0" : "=r"(r) : "r"(0x1800000000000000) : "cc");
	CHECK_EQ(r, 60);
	__asm__ volatile("bsrq %1, %0\n\tpushf\n\tpop %0" : "=r"(f) : "r"(0ul) : "cc");
	CHECK_EQ(f & FLAG_ZF, FLAG_ZF);
}

const struct test tests[] = {
	{ "cmpxchg", cmpxchg, CHEAP },
	{ "cmpxchg8b", cmpxchg8b, CHEAP },
	{ "cmpxchg16b", cmpxchg16b, CHEAP },
	{ "failed compare", failed_compare_writes, CHEAP },
	{ "xadd and xchg", xadd_xchg, CHEAP },
	{ "locked forms", locked_forms, CHEAP },
	{ "bit offsets", bit_offsets, CHEAP },
	{ "bit scan", bit_scan, CHEAP },
	{ 0 },
};
