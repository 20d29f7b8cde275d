/*
 * Code that changes: in the same page, another page, through another mapping of the same frame, the
 * very next instruction, by a DMA-like string write. One processor needs no fence but a branch at
 * most, and real ones not even that (SDM 3A 8.1.3, 11.6).
 */
#include "paging.h"

static u8 code[8192] ALIGNED(4096);

/* mov $n, %eax; ret */
static void write_return(u8 *at, u32 n)
{
	volatile u8 *p = at;

	p[0] = 0xb8;
	for (unsigned i = 0; i < 4; i++)
		p[1 + i] = (u8)(n >> (8 * i));
	p[5] = 0xc3;
}

static u32 call(void *at)
{
	u32 v;
	__asm__ volatile("call *%1" : "=a"(v) : "r"(at) : "memory");
	return v;
}

static void rewrite(void)
{
	static u32 n;

	for (unsigned i = 0; i < 4; i++) {
		write_return(code, ++n);
		CHECK_EQ(call(code), n);
		CHECK_EQ(call(code), n);
	}
}

static void immediate_only(void)
{
	/* Linux patches like this: one byte inside an instruction that has run before. */
	write_return(code + 64, 0x100);
	for (unsigned i = 0; i < 8; i++) {
		*(volatile u8 *)(code + 65) = (u8)i;
		CHECK_EQ(call(code + 64), 0x100 + i);
	}
}

static void alias(void)
{
	pt_map(TEST_VA, (ulong)code, PTE_P | PTE_W);
	write_return(code + 128, 1);
	CHECK_EQ(call(code + 128), 1);
	write_return((u8 *)TEST_VA + 128, 2);
	CHECK_EQ(call(code + 128), 2);
	CHECK_EQ(call((u8 *)TEST_VA + 128), 2);
	write_return(code + 128, 3);
	CHECK_EQ(call((u8 *)TEST_VA + 128), 3);
}

static void other_frame(void)
{
	/* The same address maps another frame. */
	write_return(code + 256, 11);
	write_return(code + 4096 + 256, 22);
	pt_map(TEST_VA, (ulong)code, PTE_P | PTE_W);
	CHECK_EQ(call((u8 *)TEST_VA + 256), 11);
	pt_map(TEST_VA, (ulong)code + 4096, PTE_P | PTE_W);
	CHECK_EQ(call((u8 *)TEST_VA + 256), 22);
}

static void next_instruction(void)
{
	u32 v;

	/* The store changes the instruction right behind it. */
	__asm__ volatile("movb $0x11, 1f+1\n\tjmp 1f\n1:\tmov $0, %%eax" : "=a"(v)::"memory");
	CHECK_EQ(v, 0x11);
	__asm__ volatile("movb $0x22, 1f+1\n1:\tmov $0, %%eax" : "=a"(v)::"memory");
	CHECK_EQ(v, 0x22);
	__asm__ volatile("movb $0, 1f+1\n\tjmp 1f\n1:\tmov $5, %%eax" : "=a"(v)::"memory");
	CHECK_EQ(v, 0);
}

static void by_string(void)
{
	static u8 from[6] = { 0xb8, 0x33, 0, 0, 0, 0xc3 };
	void *s = from, *d = code + 300;
	ulong n = 6;

	write_return(code + 300, 5);
	CHECK_EQ(call(code + 300), 5);
	__asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
	CHECK_EQ(call(code + 300), 0x33);
}

static void across_pages(void)
{
	/* An instruction over the edge whose second half is rewritten. */
	u8 *at = code + 4096 - 3;

	write_return(at, 0x01010101);
	CHECK_EQ(call(at), 0x01010101);
	*(volatile u8 *)(code + 4096) = 7; /* immediate's third byte */
	CHECK_EQ(call(at), 0x01070101);
}

static void in_a_callee(void)
{
	/* The caller's return path is rewritten while the callee runs. */
	u8 *caller = code + 512, *callee = code + 600;
	volatile u8 *p = caller;

	/* call callee; mov $1, %eax; ret  --  movb $9, caller+6; ret */
	p[0] = 0xe8;
	*(volatile s32 *)(caller + 1) = (s32)(callee - caller - 5);
	write_return(caller + 5, 1);
	p = callee;
	p[0] = 0xc6;
	p[1] = 0x04;
	p[2] = 0x25;
	*(volatile u32 *)(callee + 3) = (u32)(ulong)(caller + 6);
	p[7] = 9;
	p[8] = 0xc3;
	CHECK_EQ(call(caller), 9);
}

static void data_beside(void)
{
	/* Data in a code page that changes all the time must stay right, and not crawl. */
	volatile u32 *count = (u32 *)(code + 1024);

	write_return(code + 1000, 77);
	*count = 0;
	for (unsigned i = 0; i < 100; i++) {
		*count += call(code + 1000);
		CHECK_EQ(*count, 77 * (i + 1));
	}
}

static void loop_body(void)
{
	/* inc %eax; loop: after 10 turns the INC becomes a DEC by its own store. */
	u32 v = 0;
	ulong c = 20;

	__asm__ volatile("movb $0xc0, 1f+1\n1:\tinc %%eax\n\tcmp $11, %%rcx\n\t"
			 "jne 2f\n\tmovb $0xc8, 1b+1\n2:\tloop 1b\n\tmovb $0xc0, 1b+1"
			 : "+a"(v), "+c"(c)::"memory", "cc");
	CHECK_EQ(v, 0);
}

/* Constants of every width, patched often enough that an engine may come to expect it; then more
 * than the constant changes. */
static void patched_constants(void)
{
	static const u8 narrow[] = { 0xb8, 0, 0, 0, 0, 0xc3 };		     /* mov $0, %eax; ret */
	static const u8 extended[] = { 0x48, 0xc7, 0xc0, 0, 0, 0, 0, 0xc3 }; /* mov $0, %rax; ret */
	/* movabs $0, %r10; mov %r10, %rax; ret */
	static const u8 wide[] = { 0x49, 0xba, 0, 0, 0, 0, 0, 0, 0, 0, 0x4c, 0x89, 0xd0, 0xc3 };
	u8 *at = code + 1536;
	ulong v;

	for (unsigned i = 0; i < sizeof(narrow); i++)
		((volatile u8 *)at)[i] = narrow[i];
	for (unsigned i = 0; i < sizeof(extended); i++)
		((volatile u8 *)at)[64 + i] = extended[i];
	for (unsigned i = 0; i < sizeof(wide); i++)
		((volatile u8 *)at)[128 + i] = wide[i];
	for (unsigned i = 0; i < 20; i++) {
		*(volatile u32 *)(at + 1) = 0x80000000u + i;
		*(volatile u32 *)(at + 67) = 0x80000000u + i;
		*(volatile u64 *)(at + 130) = 0x123456789abcdef0 + i;
		__asm__ volatile("call *%1" : "=a"(v) : "r"(at) : "memory");
		CHECK_EQ(v, 0x80000000u + i);
		__asm__ volatile("call *%1" : "=a"(v) : "r"(at + 64) : "memory");
		CHECK_EQ(v, 0xffffffff80000000 + i);
		__asm__ volatile("call *%1" : "=a"(v) : "r"(at + 128) : "memory", "r10");
		CHECK_EQ(v, 0x123456789abcdef0 + i);
	}
	*(volatile u64 *)(at + 1) = 0xc3c0ff00000007; /* $7; inc %eax; ret */
	CHECK_EQ(call(at), 8);
	*(volatile u32 *)at = 0x010203b9; /* mov $0x10203, %ecx */
	*(volatile u8 *)(at + 4) = 0;
	__asm__ volatile("call *%1" : "=a"(v) : "r"(at), "0"(40) : "memory", "rcx");
	CHECK_EQ(v, 41);
}

/* jmp to */
static void write_jump(u8 *at, ulong to, ulong from)
{
	volatile u8 *p = at;
	u32 by = (u32)(to - (from + 5));

	p[0] = 0xe9;
	for (unsigned i = 0; i < 4; i++)
		p[1 + i] = (u8)(by >> (8 * i));
}

/*
 * Two jumps to other pages. What one of them leads to is written and runs again; then the page that
 * the other leads to is replaced. A jump that was joined to its target must be found at both
 * occasions.
 */
static void other_pages(void)
{
	static u8 frames[4][4096] ALIGNED(4096);
	const ulong first = TEST_VA, second = TEST_VA + 4096, third = TEST_VA + 2 * 4096;

	write_jump(frames[0], second, first);
	write_jump(frames[0] + 64, third, first + 64);
	write_return(frames[1], 1);
	write_return(frames[2], 10);
	write_return(frames[3], 20);
	for (unsigned i = 0; i < 3; i++)
		pt_map(TEST_VA + i * 4096, (ulong)frames[i], PTE_P | PTE_W);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(call((u8 *)first + 64), 10);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(call((u8 *)first), 1);
	write_return(frames[1], 2);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(call((u8 *)first), 2);
	pt_map(third, (ulong)frames[3], PTE_P | PTE_W);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(call((u8 *)first + 64), 20);
}

/*
 * A jump into a large page, another piece of which is flushed: that forgets all of the page (SDM 3A
 * 4.10.4.1). The flush comes with INVLPG, and with a CR4 that forgets everything.
 */
static void large_page(void)
{
	static u8 frame[4096] ALIGNED(4096);
	const ulong big = TEST_VA + (1ul << 30), target = big + 4096;
	u64 *pde = pt_entry(big, 2), at[2] = { 64ul << 20, 66ul << 20 };

	for (unsigned i = 0; i < 2; i++) {
		pt_set(pde, at[i] | PTE_P | PTE_W | PTE_PS, big);
		write_return((u8 *)target, 10 + i);
	}
	write_jump(frame, target, TEST_VA);
	pt_map(TEST_VA, (ulong)frame, PTE_P | PTE_W);
	for (unsigned turn = 0; turn < 6; turn++) {
		*(volatile u64 *)pde = at[turn & 1] | PTE_P | PTE_PS;
		if (turn & 2)
			write_cr4(read_cr4() ^ CR4_PGE);
		else
			invlpg(big + 5 * 4096);
		for (unsigned i = 0; i < 3; i++)
			CHECK_EQ(call((u8 *)TEST_VA), 10 + (turn & 1));
	}
	pt_set(pde, 0, big);
}

const struct test tests[] = {
	{ "rewritten function", rewrite, CHEAP },
	{ "one byte", immediate_only, CHEAP },
	{ "alias", alias, CHEAP },
	{ "other frame", other_frame, CHEAP },
	{ "next instruction", next_instruction, CHEAP },
	{ "string write", by_string, CHEAP },
	{ "across pages", across_pages, CHEAP },
	{ "caller rewritten by its callee", in_a_callee, CHEAP },
	{ "data beside code", data_beside, CHEAP },
	{ "loop body", loop_body, CHEAP },
	{ "patched constants", patched_constants, CHEAP },
	{ "large page", large_page, CHEAP },
	{ "jumps to other pages", other_pages, CHEAP },
	{ 0 },
};
