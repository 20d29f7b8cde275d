/* Big real mode: limits loaded in protected mode stay when the processor goes back (SDM 3A 9.9.2).
 */
#include "guest.h"

static u64 table[3] ALIGNED(8) = { 0, 0x00cf93000000ffff, 0x000093000000ffff };

static struct {
	u16 limit;
	u32 base;
} __attribute__((packed)) pointer;

/* Gives FS the limit of the descriptor and leaves protected mode at once; CS stays what it is. */
static void load_fs(u16 selector)
{
	pointer.limit = sizeof table - 1;
	pointer.base = (u32)table;
	__asm__ volatile("lgdtl %0\n\tmov %%cr0, %%eax\n\tor $1, %%al\n\t"
			 "mov %%eax, %%cr0\n\tjmp 1f\n1:\tmov %1, %%fs\n\t"
			 "and $0xfe, %%al\n\tmov %%eax, %%cr0\n\tjmp 2f\n2:" ::"m"(pointer),
			 "r"(selector)
			 : "eax", "memory");
}

static void high_memory(void)
{
	u32 v;

	load_fs(8);
	__asm__ volatile("movl $0x12345678, %%fs:(%1)\n\tmovl %%fs:(%1), %0"
			 : "=r"(v)
			 : "r"(0x300000)
			 : "memory");
	CHECK_EQ(v, 0x12345678);
	/* Loading a real-mode value changes the base, not the limit. */
	__asm__ volatile("mov %2, %%fs\n\tmovl %%fs:(%1), %0"
			 : "=r"(v)
			 : "r"(0x300000 - 0x10000), "r"((u16)0x1000)
			 : "memory");
	CHECK_EQ(v, 0x12345678);
	__asm__ volatile("mov %0, %%fs" ::"r"((u16)0));
}

static void limit_again(void)
{
	load_fs(16);
	__asm__ volatile("mov %0, %%fs" ::"r"((u16)0));
	EXPECT(V_GP, 0, "movl %%fs:(%0), %%eax", : : "r"(0x300000) : "eax");
}

static void copy(void)
{
	/* A REP with 32-bit addresses over high memory, as boot loaders do. */
	static u32 from[4] = { 1, 2, 3, 4 }, back[4];

	load_fs(8);
	for (unsigned i = 0; i < 4; i++)
		__asm__ volatile("movl %0, %%fs:(%1)" ::"r"(from[i]), "r"(0x400000 + i * 4)
				 : "memory");
	for (unsigned i = 0; i < 4; i++) {
		u32 si = 0x400000 + i * 4;
		__asm__ volatile("lodsl %%fs:(%%esi), %%eax" : "=a"(back[i]), "+S"(si)::"memory");
	}
	CHECK_EQ(memcmp(from, back, sizeof from), 0);
	__asm__ volatile("mov %0, %%fs" ::"r"((u16)0));
}

static void data32(void)
{
	/* 32-bit operands and addresses by prefix. */
	u32 v = 0xffff0000;

	__asm__ volatile("addl $0x12345, %0\n\tlea 0x1000(%0, %0, 4), %0" : "+r"(v)::"cc");
	CHECK_EQ(v, (u32)(0x2345u * 5u + 0x1000u));
}

const struct test tests[] = {
	{ "high memory", high_memory, CHEAP },
	{ "copy", copy, CHEAP },
	{ "32-bit operands", data32, CHEAP },
	{ "limit again", limit_again, CHEAP },
	{ 0 },
};
