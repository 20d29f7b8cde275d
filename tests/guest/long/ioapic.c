/* IOAPIC: registers, edge and level routes, masks, remote IRR (82093AA data sheet). */
#include "apic.h"

static volatile u32 count;

static void on_irq(struct frame *f)
{
	count++;
	lapic_write(APIC_EOI, 0);
}

static void setup(void)
{
	lapic_enable();
	pic_init(0x20, 0x28);
	trap_hook[0x60] = on_irq;
	for (unsigned pin = 0; pin < 24; pin++)
		ioapic_route(pin, APIC_MASKED, 0);
	/* The test before may have left an interrupt that had already been accepted. A
	 * software-only KVM overlooks short windows, unless something exits in them. */
	__asm__ volatile("sti");
	(void)inb(0x61);
	(void)inb(0x61);
	__asm__ volatile("cli");
	count = 0;
}

static void registers(void)
{
	setup();
	CHECK_EQ(ioapic_read(1) >> 16 & 0xff, 23);
	ioapic_write(0x14, 0x1ffff);
	/* Delivery status and remote IRR are read-only. */
	CHECK_EQ(ioapic_read(0x14), 0x1ffff & ~0x5000u);
	ioapic_write(0x15, 0x12000000);
	CHECK_EQ(ioapic_read(0x15), 0x12000000);
	ioapic_write(0x14, APIC_MASKED);
}

static unsigned pit_pin(void) { return 2; } /* ISA IRQ 0 is wired to pin 2 (MADT override) */

static void edge(void)
{
	setup();
	ioapic_route(pit_pin(), 0x60, (u8)(lapic_read(APIC_ID) >> 24));
	pit_periodic(1193);
	CHECK(wait_for(&count, 5));
	ioapic_route(pit_pin(), APIC_MASKED, 0);
	pit_oneshot(0xffff);
}

static void masked(void)
{
	setup();
	ioapic_route(pit_pin(), APIC_MASKED | 0x60, (u8)(lapic_read(APIC_ID) >> 24));
	pit_periodic(1193);
	for (unsigned i = 0; i < 3000; i++) {
		inb(0x61);
		__asm__ volatile("sti\n\tnop\n\tcli");
	}
	CHECK_EQ(count, 0);
	pit_oneshot(0xffff);
}

static void logical(void)
{
	setup();
	lapic_write(APIC_DFR, 0xffffffff);
	lapic_write(APIC_LDR, 0x04000000);
	ioapic_route(pit_pin(), 0x800 | 0x60, 0x04);
	pit_periodic(1193);
	CHECK(wait_for(&count, 3));
	ioapic_route(pit_pin(), APIC_MASKED, 0);
	pit_oneshot(0xffff);
}

static volatile u32 uart_isr_irr;

static void on_uart(struct frame *f)
{
	/* Remote IRR stands until the EOI of a level interrupt. */
	uart_isr_irr = ioapic_read(0x10 + 4 * 2);
	count++;
	(void)inb(0x3fa);
	outb(0x3f9, 0);
	lapic_write(APIC_EOI, 0);
}

static void level(void)
{
	setup();
	trap_hook[0x61] = on_uart;
	ioapic_route(4, 0x8000 | 0x61, (u8)(lapic_read(APIC_ID) >> 24));
	outb(0x3fc, 8);
	outb(0x3f9, 2); /* the transmitter is empty: an interrupt at once */
	CHECK(wait_for(&count, 1));
	CHECK(uart_isr_irr & 0x4000);
	CHECK(!(ioapic_read(0x10 + 4 * 2) & 0x4000));
	ioapic_route(4, APIC_MASKED, 0);
	outb(0x3fc, 0);
}

const struct test tests[] = {
	{ "registers", registers, CHEAP },
	{ "edge", edge, 3 },
	{ "masked", masked, 3 },
	{ "logical destination", logical, 3 },
	{ "level", level, 20 },
	{ 0 },
};
