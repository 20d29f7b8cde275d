/* Port permission at CPL 3: IOPL and the TSS bitmap, with #GP for strings too (SDM 1 19.5). */
#include "guest.h"

#define SCRATCH 0x3ff /* COM1's scratch register */

static void allow(u16 port, bool yes)
{
	if (yes)
		tss.bitmap[port / 8] &= (u8) ~(1 << port % 8);
	else
		tss.bitmap[port / 8] |= (u8)(1 << port % 8);
}

static ulong denied(ulong unused)
{
	static u8 buffer[4];

	EXPECT(V_GP, 0, "outb %%al, %%dx", : : "a"(1), "d"(SCRATCH));
	EXPECT(V_GP, 0, "inb %%dx, %%al", : : "d"(SCRATCH) : "eax");
	EXPECT(V_GP, 0, "inl $0x80, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "outsb", : : "S"(buffer), "d"(SCRATCH));
	EXPECT(V_GP, 0, "rep insb", : : "D"(buffer), "c"(2ul), "d"(SCRATCH) : "memory");
	EXPECT(V_GP, 0, "cli", : :);
	EXPECT(V_GP, 0, "sti", : :);
	return 0;
}

static void nothing_allowed(void)
{
	user_flags = 2;
	user_call(denied, 0);
}

static ulong allowed(ulong value)
{
	EXPECT_OK("outb %%al, %%dx", : : "a"(value), "d"(SCRATCH));
	EXPECT(V_GP, 0, "outw %%ax, %%dx", : : "a"(value), "d"(SCRATCH)); /* 0x400 is not allowed */
	return inb(SCRATCH);
}

static void bitmap(void)
{
	static u8 value;

	allow(SCRATCH, true);
	value++;
	CHECK_EQ(user_call(allowed, value), value);
	allow(SCRATCH, false);
	user_call(denied, 0);
}

static ulong wide(ulong want)
{
	if (want)
		EXPECT_OK("inl %%dx, %%eax", : : "d"(0xed) : "eax");
	else
		EXPECT(V_GP, 0, "inl %%dx, %%eax", : : "d"(0xed) : "eax");
	return 0;
}

static void all_bytes(void)
{
	/* Every byte's bit must be clear; here they lie in two bytes of the map. */
	for (u16 p = 0xed; p < 0xf1; p++)
		allow(p, true);
	user_call(wide, 1);
	for (u16 p = 0xed; p < 0xf1; p++) {
		allow(p, false);
		user_call(wide, 0);
		allow(p, true);
	}
	for (u16 p = 0xed; p < 0xf1; p++)
		allow(p, false);
}

static ulong privileged(ulong unused)
{
	ulong before = read_flags();

	EXPECT_OK("outb %%al, %%dx", : : "a"(1), "d"(SCRATCH));
	EXPECT_OK("cli", : :);
	/* POPF may change IF now, but never IOPL. */
	write_flags(2);
	return (before ^ read_flags()) & FLAG_IOPL;
}

static void iopl3(void)
{
	user_flags = 2 | FLAG_IOPL;
	CHECK_EQ(user_call(privileged, 0), 0);
	user_flags = 2;
}

static ulong pop_all(ulong unused)
{
	write_flags(0x3202); /* neither IF nor IOPL at CPL 3 with IOPL 0 */
	return read_flags() & (FLAG_IF | FLAG_IOPL);
}

static void popf_ring3(void) { CHECK_EQ(user_call(pop_all, 0), 0); }

static ulong at_limit(ulong port)
{
	EXPECT(V_GP, 0, "inb %%dx, %%al", : : "d"(port) : "eax");
	return 0;
}

static void short_map(void)
{
	/* Two bytes are read: the second must be within the limit as well. */
	u64 saved = gdt[TSS_SEL / 8];

	allow(0x80, true);
	allow(0x88, true);
	gdt[TSS_SEL / 8] =
		descriptor((u32)(ulong)&tss, offsetof(struct tss, bitmap) + 0x10, 0x89, 0);
	__asm__ volatile("ltr %w0" ::"r"(TSS_SEL));
	user_call(at_limit, 0x80); /* byte 0x10 is the last one, 0x11 lies outside */
	user_call(at_limit, 0x88);
	gdt[TSS_SEL / 8] = saved & ~(1ull << 41);
	__asm__ volatile("ltr %w0" ::"r"(TSS_SEL));
	allow(0x80, false);
	allow(0x88, false);
}

const struct test tests[] = {
	{ "nothing allowed", nothing_allowed, CHEAP },
	{ "bitmap", bitmap, CHEAP },
	{ "all bytes of an access", all_bytes, CHEAP },
	{ "IOPL 3", iopl3, CHEAP },
	{ "popf", popf_ring3, CHEAP },
	{ "short map", short_map, CHEAP },
	{ 0 },
};
