/* 16-bit strings, loops and far transfers: SI and DI wrap, CX counts, 32-bit forms by prefix. */
#include "guest.h"

static u8 data[64];

static void movs(void)
{
	u16 s = (u16)(u32)data, d = (u16)(u32)data + 32, c = 16;

	for (unsigned i = 0; i < 64; i++)
		data[i] = (u8)i;
	/* 16-bit addressing leaves the upper halves of the registers alone. */
	u32 si = 0xabcd0000 | s, di = 0x12340000 | d, cx = 0x56780000 | c;
	__asm__ volatile("rep movsb (%%si), %%es:(%%di)" : "+S"(si), "+D"(di), "+c"(cx)::"memory");
	CHECK_EQ(si, 0xabcd0000 | (s + 16u));
	CHECK_EQ(di, 0x12340000 | (d + 16u));
	CHECK_EQ(cx, 0x56780000);
	CHECK_EQ(data[47], 15);
}

static void wrap(void)
{
	u32 di = 0xfffe, cx = 4, ax;

	/* DI wraps within the segment. */
	__asm__ volatile("pushw %%es\n\tmov %3, %%es\n\tmovb $0xaa, %%al\n\t"
			 "rep stosb %%al, %%es:(%%di)\n\tpopw %%es"
			 : "+D"(di), "+c"(cx), "=&a"(ax)
			 : "r"((u16)0x5000)
			 : "memory");
	CHECK_EQ(di & 0xffff, 2);
	u8 a, b;
	__asm__ volatile("mov %2, %%fs\n\tmovb %%fs:0xffff, %0\n\tmovb %%fs:1, %1\n\t"
			 "mov %3, %%fs"
			 : "=&q"(a), "=&q"(b)
			 : "r"((u16)0x5000), "r"((u16)0)
			 : "memory");
	CHECK_EQ(a, 0xaa);
	CHECK_EQ(b, 0xaa);
}

/* More than a few elements at once, over the end of the segment: what is behind it is untouched. */
static u8 far_byte(u16 segment, u16 at)
{
	u8 v;

	__asm__ volatile("mov %1, %%fs\n\tmovb %%fs:(%%bx), %0\n\tmov %3, %%fs"
			 : "=&q"(v)
			 : "r"(segment), "b"((u32)at), "r"((u16)0));
	return v;
}

static void many_wrap(void)
{
	u32 di = 0xffe0, si = (u16)(u32)data, cx = 64;

	for (unsigned i = 0; i < 64; i++)
		data[i] = (u8)(i + 1);
	__asm__ volatile("pushw %%es\n\tmov %3, %%es\n\trep movsb (%%si), %%es:(%%di)\n\t"
			 "popw %%es"
			 : "+S"(si), "+D"(di), "+c"(cx)
			 : "r"((u16)0x5000)
			 : "memory");
	CHECK_EQ(di, 0x20);
	CHECK_EQ(cx, 0);
	CHECK_EQ(far_byte(0x5000, 0xffe0), 1);
	CHECK_EQ(far_byte(0x5000, 0xffff), 32);
	CHECK_EQ(far_byte(0x5000, 0), 33);
	CHECK_EQ(far_byte(0x5000, 0x1f), 64);
	/* And what is found there. */
	di = 0xffe1;
	cx = 0x50;
	__asm__ volatile("pushw %%es\n\tmov %2, %%es\n\tmovb $33, %%al\n\t"
			 "repne scasb %%es:(%%di), %%al\n\tpopw %%es"
			 : "+D"(di), "+c"(cx)
			 : "r"((u16)0x5000)
			 : "eax", "cc");
	CHECK_EQ(di, 1);
	CHECK_EQ(cx, 0x50 - 0x20);
}

/* Downwards, over the beginning of the segment. */
static void wrap_downwards(void)
{
	u32 di = 0x1f, si = (u16)(u32)data + 63, cx = 64;

	for (unsigned i = 0; i < 64; i++)
		data[i] = (u8)(i + 1);
	__asm__ volatile("pushw %%es\n\tmov %3, %%es\n\tstd\n\trep movsb (%%si), %%es:(%%di)\n\t"
			 "cld\n\tpopw %%es"
			 : "+S"(si), "+D"(di), "+c"(cx)
			 : "r"((u16)0x5000)
			 : "memory", "cc");
	CHECK_EQ(di & 0xffff, 0xffdf);
	CHECK_EQ(cx, 0);
	CHECK_EQ(far_byte(0x5000, 0x1f), 64);
	CHECK_EQ(far_byte(0x5000, 0), 33);
	CHECK_EQ(far_byte(0x5000, 0xffff), 32);
	CHECK_EQ(far_byte(0x5000, 0xffe0), 1);
}

static void loops(void)
{
	u32 c = 0x30003, n = 0;

	__asm__ volatile("1:\tinc %0\n\tloop 1b" : "+r"(n), "+c"(c)::"cc");
	CHECK_EQ(n, 3);
	CHECK_EQ(c, 0x30000);
	c = 2;
	n = 0;
	__asm__ volatile("1:\tinc %0\n\tloopl 1b" : "+r"(n), "+c"(c)::"cc");
	CHECK_EQ(n, 2);
	__asm__ volatile("xor %0, %0\n\tjcxz 1f\n\tinc %0\n1:\tjecxz 2f\n\torl $2, %0\n2:"
			 : "=&r"(n)
			 : "c"(0x10000)
			 : "cc");
	CHECK_EQ(n, 2);
}

/* Far code: at 0x6000:0, called with 16- and 32-bit return frames. */
static const u8 far_code[] = { 0x8c, 0xc8, 0xcb /* mov %cs, %ax; lret */, 0x90, 0x8c, 0xc8, 0x66,
	0xcb /* lretl */, 0x8c, 0xc8, 0xca, 4, 0 /* lret $4 */ };

static void far_calls(void)
{
	ulong cs, before, after;

	for (unsigned i = 0; i < sizeof far_code; i++)
		__asm__ volatile(
			"mov %2, %%fs\n\tmovb %0, %%fs:(%%bx)\n\tmov %3, %%fs" ::"q"(far_code[i]),
			"b"(i), "r"((u16)0x6000), "r"((u16)0)
			: "memory");
	__asm__ volatile("mov %%esp, %1\n\tlcallw $0x6000, $0\n\tmov %%esp, %2"
			 : "=&a"(cs), "=&r"(before), "=&r"(after)::"memory");
	CHECK_EQ(cs & 0xffff, 0x6000);
	CHECK_EQ(before, after);
	__asm__ volatile("mov %%esp, %1\n\tlcalll $0x6000, $4\n\tmov %%esp, %2"
			 : "=&a"(cs), "=&r"(before), "=&r"(after)::"memory");
	CHECK_EQ(cs & 0xffff, 0x6000);
	CHECK_EQ(before, after);
	__asm__ volatile("mov %%esp, %1\n\tpushl $0\n\tlcallw $0x6000, $8\n\tmov %%esp, %2"
			 : "=&a"(cs), "=&r"(before), "=&r"(after)::"memory");
	CHECK_EQ(before, after);
}

static void near_forms(void)
{
	u32 v;

	/* A near 16-bit call pushes two bytes. */
	__asm__ volatile("mov %%esp, %%ecx\n\tcallw 1f\n1:\tsub %%esp, %%ecx\n\t"
			 "popw %%ax\n\tmov %%ecx, %0"
			 : "=r"(v)::"eax", "ecx", "memory", "cc");
	CHECK_EQ(v, 2);
	__asm__ volatile("mov %%esp, %%ecx\n\tcalll 1f\n1:\tsub %%esp, %%ecx\n\t"
			 "popl %%eax\n\tmov %%ecx, %0"
			 : "=r"(v)::"eax", "ecx", "memory", "cc");
	CHECK_EQ(v, 4);
}

static void addressing(void)
{
	u16 ea;

	/* All 16-bit base and index pairs. */
#define EA(form, want)                                                                         \
	__asm__ volatile("push %%ebp\n\tmov $0x1000, %%bp\n\tleaw " form ", %%ax\n\tpop %%ebp" \
			 : "=a"(ea)                                                            \
			 : "b"(0x100), "S"(0x20), "D"(3));                                     \
	CHECK_EQ(ea, want)
	EA("(%%bx,%%si)", 0x120);
	EA("(%%bx,%%di)", 0x103);
	EA("(%%bp,%%si)", 0x1020);
	EA("0x10(%%bp,%%di)", 0x1013);
	EA("-1(%%si)", 0x1f);
	EA("0x7fff(%%di)", 0x8002);
	EA("(%%bp)", 0x1000);
	EA("-0x200(%%bx)", 0xff00);
}

static void ports(void)
{
	u32 si = (u32)data, cx = 3;

	data[0] = 1;
	data[1] = 2;
	data[2] = 0x5c;
	__asm__ volatile("rep outsb (%%si), %%dx" : "+S"(si), "+c"(cx) : "d"(0x3ff) : "memory");
	CHECK_EQ(inb(0x3ff), 0x5c);
	CHECK_EQ(si, (u32)data + 3);
}

const struct test tests[] = {
	{ "movs", movs, CHEAP },
	{ "wrap", wrap, CHEAP },
	{ "many wrap", many_wrap, CHEAP },
	{ "wrap downwards", wrap_downwards, CHEAP },
	{ "loops", loops, CHEAP },
	{ "far calls", far_calls, CHEAP },
	{ "near calls", near_forms, CHEAP },
	{ "addressing", addressing, CHEAP },
	{ "outs", ports, CHEAP },
	{ 0 },
};
