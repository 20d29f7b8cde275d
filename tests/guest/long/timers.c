/* HPET, RTC periodic interrupts and the ACPI PM timer (HPET 1.0a, MC146818, ACPI 6.4 4.8.3.3). */
#include "acpi.h"
#include "apic.h"

static volatile u32 count;

static void on_hpet(struct frame *f)
{
	count++;
	lapic_write(APIC_EOI, 0);
}

static void on_rtc(struct frame *f)
{
	count++;
	outb(0x70, 0x0c);
	(void)inb(0x71);
	pic_eoi(8);
}

static u8 cmos(u8 reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static void cmos_write(u8 reg, u8 v)
{
	outb(0x70, reg);
	outb(0x71, v);
}

#define HPET(reg) (*(volatile u64 *)(hpet + (reg)))

static void hpet_counter(void)
{
	ulong hpet = acpi_hpet_base();
	u64 first;

	if (!hpet) {
		test_skip("no HPET");
		return;
	}
	CHECK((HPET(0) >> 32) <= 100000000 && HPET(0) >> 32); /* the period in femtoseconds */
	HPET(0x10) = 0;
	HPET(0xf0) = 0;
	CHECK_EQ(HPET(0xf0), 0);
	HPET(0x10) = 1;
	first = HPET(0xf0);
	for (unsigned i = 0; i < 10; i++)
		CHECK(HPET(0xf0) >= first);
	for (unsigned i = 0; i < 1000000 && HPET(0xf0) == first; i++)
		;
	CHECK(HPET(0xf0) > first);
	HPET(0x10) = 0;
	first = HPET(0xf0);
	CHECK_EQ(HPET(0xf0), first); /* halted */
}

static void hpet_interrupt(void)
{
	ulong hpet = acpi_hpet_base();
	u64 ticks, pin = 2;

	if (!hpet) {
		test_skip("no HPET");
		return;
	}
	ticks = 1000000000000 / (HPET(0) >> 32); /* a millisecond */
	lapic_enable();
	pic_init(0x20, 0x28);
	trap_hook[0x62] = on_hpet;
	count = 0;
	while (pin < 24 && !(HPET(0x100) >> (32 + pin) & 1))
		pin++;
	CHECK(pin < 24);
	ioapic_route((unsigned)pin, 0x62, (u8)(lapic_read(APIC_ID) >> 24));
	HPET(0x10) = 0;
	HPET(0xf0) = 0;
	HPET(0x100) = pin << 9 | 1 << 6 | 1 << 3 | 1 << 2; /* set value, periodic, enabled, edge */
	HPET(0x108) = ticks;
	HPET(0x108) = ticks;
	HPET(0x10) = 1;
	CHECK(wait_for(&count, 5));
	HPET(0x100) = 0;
	HPET(0x10) = 0;
	ioapic_route((unsigned)pin, APIC_MASKED, 0);
}

static void rtc_periodic(void)
{
	pic_init(0x20, 0x28);
	trap_hook[0x28] = on_rtc;
	count = 0;
	cmos_write(0x0a, 0x26); /* 32.768 kHz, 1024 Hz */
	(void)cmos(0x0c);
	cmos_write(0x0b, 0x42); /* PIE, 24 hours, BCD */
	pic_mask((u16)~0x104);
	CHECK(wait_for(&count, 5));
	cmos_write(0x0b, 0x02);
	(void)cmos(0x0c);
	pic_mask(0xffff);
}

static void rtc_registers(void)
{
	CHECK(cmos(0x0d) & 0x80); /* the battery is good */
	cmos_write(0x50, 0xa5);
	CHECK_EQ(cmos(0x50), 0xa5);
	while (cmos(0x0a) & 0x80)
		;
	CHECK(cmos(0) < 0x60);
	CHECK((cmos(0) & 15) < 10);
	CHECK(cmos(7) >= 1 && cmos(7) <= 0x31);
	CHECK(cmos(8) >= 1 && cmos(8) <= 0x12);
}

static void pm_timer(void)
{
	u16 port = acpi_pm_timer_port();
	u32 last, total = 0;

	if (!port) {
		test_skip("no PM timer");
		return;
	}
	last = inl(port);
	for (unsigned i = 0; i < 1000; i++) {
		u32 now = inl(port), step = (now - last) & 0xffffff;

		CHECK(step < 0x400000); /* never backwards, and more than a second apart only if
					   stopped */
		total += step;
		last = now;
	}
	for (unsigned i = 0; i < 10000000 && !total; i++)
		total = (inl(port) - last) & 0xffffff;
	CHECK(total);
}

const struct test tests[] = {
	{ "HPET counter", hpet_counter, 20 },
	{ "HPET interrupt", hpet_interrupt, 3 },
	{ "RTC registers", rtc_registers, CHEAP },
	{ "RTC periodic", rtc_periodic, 3 },
	{ "PM timer", pm_timer, 3 },
	{ 0 },
};
