/* Real-mode addresses: segment times 16, offsets that wrap, the first bytes above 1 MiB (SDM
 * 3B 20.1). */
#include "guest.h"

static u8 peek(u16 segment, u16 offset)
{
	u8 v;
	__asm__ volatile("mov %1, %%fs\n\tmovb %%fs:(%%bx), %0\n\tmov %2, %%fs"
			 : "=q"(v)
			 : "r"(segment), "r"((u16)0), "b"(offset)
			 : "memory");
	return v;
}

static void poke(u16 segment, u16 offset, u8 v)
{
	__asm__ volatile("mov %1, %%fs\n\tmovb %0, %%fs:(%%bx)\n\tmov %2, %%fs" ::"q"(v),
			 "r"(segment), "r"((u16)0), "b"(offset)
			 : "memory");
}

static void same_byte(void)
{
	poke(0x2000, 0x1234, 0x5a);
	CHECK_EQ(peek(0x2123, 0x0004), 0x5a);
	poke(0x2123, 4, 0xa5);
	CHECK_EQ(peek(0x2000, 0x1234), 0xa5);
}

static void above_1m(void)
{
	/* A20 is on: FFFF:0010 is 1 MiB, not 0. */
	u8 low = *(volatile u8 *)0x500;

	poke(0xffff, 0x510, (u8)~low);
	CHECK_EQ(*(volatile u8 *)0x500, low);
	CHECK_EQ(peek(0xffff, 0x510), (u8)~low);
}

static void offset_wrap(void)
{
	u16 v;

	/* Effective addresses are computed modulo 64 KiB. */
	poke(0x3000, 0x0010, 0x77);
	__asm__ volatile("mov %2, %%fs\n\tmov $0xfff0, %%bx\n\tmov $0x20, %%si\n\t"
			 "movzbw %%fs:(%%bx, %%si), %0\n\tmov %1, %%fs"
			 : "=r"(v)
			 : "r"((u16)0), "r"((u16)0x3000)
			 : "ebx", "esi", "memory");
	CHECK_EQ(v, 0x77);
}

static void crossing(void)
{
	/* A word at 0xffff does not wrap: #GP, or #SS through SS (SDM 3A 6.15). */
	EXPECT(V_GP, 0, "movw %%fs:0xffff, %%ax", : : : "eax");
	EXPECT(V_GP, 0, "movl %%fs:0xfffd, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movb %%fs:(%0), %%al", : : "r"(0x10000) : "eax");
	EXPECT(V_SS, 0, "movw %%ss:0xffff, %%ax", : : : "eax");
	EXPECT_OK("movw %%fs:0xfffe, %%ax", : : : "eax");
}

static void segment_registers(void)
{
	u32 got;

	__asm__ volatile("mov %1, %%gs\n\tmov %%gs, %%eax\n\tmov %2, %%gs"
			 : "=a"(got)
			 : "r"((u16)0xabcd), "r"((u16)0));
	CHECK_EQ(got & 0xffff, 0xabcd);
	static struct {
		u16 offset, selector;
	} p = { 0x1111, 0x2222 };
	u16 off, sel;
	__asm__ volatile("lfs %2, %0\n\tmov %%fs, %1\n\tmov %3, %%fs"
			 : "=&r"(off), "=&r"(sel)
			 : "m"(p), "r"((u16)0));
	CHECK_EQ(off, 0x1111);
	CHECK_EQ(sel, 0x2222);
}

static void stack_wrap(void)
{
	u16 v;

	/* PUSH at SP = 0 goes to FFFE of the segment. */
	__asm__ volatile("mov %%ss, %%ecx\n\tmov %%esp, %%edx\n\tmov %1, %%ss\n\t"
			 "xor %%esp, %%esp\n\tpushw $0x4567\n\tmov %%sp, %0\n\t"
			 "mov %%ecx, %%ss\n\tmov %%edx, %%esp"
			 : "=&r"(v)
			 : "r"((u16)0x4000)
			 : "ecx", "edx", "memory");
	CHECK_EQ(v, 0xfffe);
	CHECK_EQ(peek(0x4000, 0xfffe), 0x67);
	CHECK_EQ(peek(0x4000, 0xffff), 0x45);
}

const struct test tests[] = {
	{ "same byte", same_byte, CHEAP },
	{ "above 1 MiB", above_1m, CHEAP },
	{ "offsets wrap", offset_wrap, CHEAP },
	{ "crossing the end", crossing, CHEAP },
	{ "segment registers", segment_registers, CHEAP },
	{ "stack wraps", stack_wrap, CHEAP },
	{ 0 },
};
