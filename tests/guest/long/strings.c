/* String instructions: all sizes, both directions, overlap, 32-bit addresses, flags, segment
 * override. */
#include "guest.h"

static u8 buffer[256] ALIGNED(64);

static void fill(void)
{
	for (unsigned i = 0; i < 256; i++)
		buffer[i] = (u8)i;
}

#define STRING(insn, si, di, cx, ...) \
	__asm__ volatile(insn : "+S"(si), "+D"(di), "+c"(cx) : __VA_ARGS__ : "memory", "cc")

static void sizes(void)
{
	static const u8 unit[] = { 1, 2, 4, 8 };

	for (unsigned i = 0; i < 4; i++) {
		u8 *s = buffer, *d = buffer + 128;
		ulong n = 5;

		fill();
		if (i == 0)
			STRING("rep movsb", s, d, n);
		else if (i == 1)
			STRING("rep movsw", s, d, n);
		else if (i == 2)
			STRING("rep movsl", s, d, n);
		else
			STRING("rep movsq", s, d, n);
		CHECK_EQ(n, 0);
		CHECK_EQ(s - buffer, 5 * unit[i]);
		CHECK_EQ(d - buffer, 128 + 5 * unit[i]);
		CHECK_EQ(buffer[128 + 5 * unit[i] - 1], 5 * unit[i] - 1);
		CHECK_EQ(buffer[128 + 5 * unit[i]], 128 + 5 * unit[i]);
	}
}

static void overlap_forward(void)
{
	u8 *s = buffer, *d = buffer + 1;
	ulong n = 100;

	/* Element by element: the first byte spreads. */
	fill();
	STRING("rep movsb", s, d, n);
	for (unsigned i = 0; i <= 100; i++)
		CHECK_EQ(buffer[i], 0);
	CHECK_EQ(buffer[101], 101);
	fill();
	s = buffer;
	d = buffer + 3;
	n = 20;
	STRING("rep movsl", s, d, n);
	CHECK_EQ(buffer[3], 0);
	CHECK_EQ(buffer[6], 3);	    /* the first element wrote 3..6 with 0..3 */
	CHECK_EQ(buffer[7], 0 + 1); /* the second read 4..7 as 1, 2, 3, 7 */
	CHECK_EQ(buffer[10], 7);
}

static void overlap_backward(void)
{
	u8 *s = buffer + 99, *d = buffer + 109;
	ulong n = 100;

	fill();
	STRING("std\n\trep movsb\n\tcld", s, d, n);
	for (unsigned i = 0; i < 100; i++)
		CHECK_EQ(buffer[10 + i], i);
	CHECK_EQ(s - buffer, (u64)-1);
}

/* Long runs, downwards and upwards, over the edges of pages and over themselves: as the elements
 * one by one would have it. */
#define LONG_AT 4400
static u8 area[2 * 4096] ALIGNED(4096), model[2 * 4096];

static void long_run(unsigned size, bool down, long apart, ulong count)
{
	u8 *s = area + LONG_AT, *d = s + apart;
	ulong n = count;
	long step = down ? -(long)size : (long)size;

	for (unsigned i = 0; i < sizeof(area); i++)
		model[i] = area[i] = (u8)(i * 37 + (i >> 8));
	for (ulong i = 0; i < count; i++) {
		long at = LONG_AT + (long)i * step;
		u8 element[8];

		memcpy(element, model + at, size);
		memcpy(model + at + apart, element, size);
	}
	if (down)
		__asm__ volatile("std" ::: "cc");
	if (size == 1)
		STRING("rep movsb", s, d, n);
	else if (size == 2)
		STRING("rep movsw", s, d, n);
	else if (size == 4)
		STRING("rep movsl", s, d, n);
	else
		STRING("rep movsq", s, d, n);
	__asm__ volatile("cld" ::: "cc");
	CHECK_EQ(n, 0);
	CHECK_EQ(s - area, LONG_AT + (long)count * step);
	CHECK_EQ(d - s, apart);
	CHECK_EQ(memcmp(area, model, sizeof(area)), 0);
}

static void long_runs(void)
{
	static const s32 apart[] = { 1, 3, 8, 1000, -1, -8, -80 };

	for (unsigned size = 1; size <= 8; size *= 2) {
		for (unsigned i = 0; i < ARRAY_LEN(apart); i++) {
			long_run(size, true, apart[i], 700 / size);
			long_run(size, false, apart[i], 400 / size);
		}
	}
}

static void fill_downwards(void)
{
	ulong s = 0, n = 300;
	u8 *d = area + 4400;

	memset(area, 0, sizeof(area));
	STRING("std\n\trep stosw\n\tcld", s, d, n, "a"(0x1234));
	CHECK_EQ(d - area, 4400 - 600);
	CHECK_EQ(area[4401], 0x12);
	CHECK_EQ(area[4402], 0);
	for (unsigned i = 3802; i < 4402; i++)
		CHECK_EQ(area[i], i & 1 ? 0x12 : 0x34);
	CHECK_EQ(area[3801], 0);
}

static void address_size(void)
{
	/* With 0x67 only the low halves count and are written, zero-extended. */
	ulong s = (ulong)buffer | 0xabcd00000000, d = (ulong)(buffer + 64) | 0x1234500000000,
	      n = 0x900000003;

	fill();
	STRING("rep addr32 movsb", s, d, n);
	CHECK_EQ(n, 0);
	CHECK_EQ(s, buffer + 3);
	CHECK_EQ(d, buffer + 67);
	CHECK_EQ(buffer[66], 2);
}

static void scan_flags(void)
{
	u8 *d = buffer, zf, cf;
	ulong n = 256, s = 0;

	fill();
	STRING("repne scasb", s, d, n, "a"(77));
	CHECK_EQ(d - buffer, 78);
	CHECK_EQ(n, 256 - 78);
	d = buffer;
	n = 3;
	__asm__ volatile("repne scasb\n\tsetz %0\n\tsetc %1"
			 : "=q"(zf), "=q"(cf), "+D"(d), "+c"(n)
			 : "a"(5)
			 : "memory", "cc");
	CHECK_EQ(zf, 0);
	CHECK_EQ(cf, 0); /* 5 - 2 */
	CHECK_EQ(n, 0);
	/* Count zero leaves the flags alone. */
	__asm__ volatile("xor %%ecx, %%ecx\n\tstc\n\trepe scasb\n\tsetc %0"
			 : "=q"(cf)::"ecx", "cc");
	CHECK_EQ(cf, 1);
}

static void compare(void)
{
	u8 *s = buffer, *d = buffer + 128, below;
	ulong n = 8;

	fill();
	memcpy(buffer + 128, buffer, 64);
	buffer[128 + 40] = 0xff;
	__asm__ volatile("repe cmpsq\n\tsetb %0"
			 : "=q"(below), "+S"(s), "+D"(d), "+c"(n)::"memory", "cc");
	CHECK_EQ(n, 2);
	CHECK_EQ(below, 1);
	CHECK_EQ(s - buffer, 48);
}

static void single(void)
{
	u8 *s = buffer + 10, *d = buffer + 200;
	u64 a = 0;

	fill();
	__asm__ volatile("lodsw\n\tstosl\n\tlodsq\n\tstosb" : "+a"(a), "+S"(s), "+D"(d)::"memory");
	CHECK_EQ(buffer[200], 10);
	CHECK_EQ(buffer[201], 11);
	CHECK_EQ(buffer[202], 0);
	CHECK_EQ(buffer[204], 12);
	CHECK_EQ(a, 0x131211100f0e0d0c);
	CHECK_EQ(s - buffer, 20);
	CHECK_EQ(d - buffer, 205);
}

static void override(void)
{
	ulong s = 16, d = (ulong)buffer + 128;

	/* A segment override moves the source only. */
	fill();
	wrmsr(MSR_FS_BASE, (ulong)buffer);
	__asm__ volatile("movsb %%fs:(%%rsi), %%es:(%%rdi)" : "+S"(s), "+D"(d)::"memory");
	wrmsr(MSR_FS_BASE, 0);
	CHECK_EQ(buffer[128], 16);
	CHECK_EQ(s, 17);
}

static void port_strings(void)
{
	/* INS and OUTS on COM1's scratch register, which holds what is written. */
	u8 *s = buffer + 5, *d = buffer + 100;
	ulong n = 4;

	fill();
	__asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(0x3ff) : "memory");
	CHECK_EQ(inb(0x3ff), 8);
	n = 3;
	__asm__ volatile("rep insb" : "+D"(d), "+c"(n) : "d"(0x3ff) : "memory");
	CHECK_EQ(buffer[100], 8);
	CHECK_EQ(buffer[102], 8);
	CHECK_EQ(buffer[103], 103);
	CHECK_EQ(d - buffer, 103);
}

const struct test tests[] = {
	{ "sizes", sizes, CHEAP },
	{ "overlap, forward", overlap_forward, CHEAP },
	{ "overlap, backward", overlap_backward, CHEAP },
	{ "long runs", long_runs, 1 },
	{ "fill downwards", fill_downwards, 1 },
	{ "32-bit addresses", address_size, CHEAP },
	{ "scas", scan_flags, CHEAP },
	{ "cmps", compare, CHEAP },
	{ "single steps", single, CHEAP },
	{ "segment override", override, CHEAP },
	{ "ins and outs", port_strings, CHEAP },
	{ 0 },
};
