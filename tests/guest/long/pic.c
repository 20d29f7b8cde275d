/* i8254 through the i8259 pair: delivery, masks, priority, EOI, HLT wake-up, spurious IRQ 7. */
#include "apic.h"

static volatile u32 ticks;
static volatile ulong halted_ip;

static void on_tick(struct frame *f)
{
	ticks++;
	halted_ip = f->ip;
	pic_eoi(0);
}

static void setup(void)
{
	pic_init(0x20, 0x28);
	trap_hook[0x20] = on_tick;
	ticks = 0;
}

static void periodic(void)
{
	setup();
	pit_periodic(1193); /* a millisecond */
	pic_mask((u16)~1);
	CHECK(wait_for(&ticks, 20));
	pic_mask(0xffff);
}

static void halt(void)
{
	extern char after_hlt[];

	setup();
	pic_mask((u16)~1);
	pit_oneshot(2000);
	__asm__ volatile("sti\n\thlt\n\t.globl after_hlt\nafter_hlt:\n\tcli" ::: "memory");
	CHECK_EQ(ticks, 1);
	CHECK_EQ(halted_ip, after_hlt); /* HLT has completed */
	pic_mask(0xffff);
}

static void one_shot_is_one(void)
{
	setup();
	pic_mask((u16)~1);
	pit_oneshot(500);
	CHECK(wait_for(&ticks, 1));
	for (unsigned i = 0; i < 2000; i++) {
		__asm__ volatile("sti\n\tnop\n\tcli");
		inb(0x80);
	}
	CHECK_EQ(ticks, 1);
	pic_mask(0xffff);
}

static void masked(void)
{
	setup();
	pit_oneshot(100);
	CHECK(pic_wait_pending(0));
	__asm__ volatile("sti\n\tnop\n\tnop\n\tcli");
	CHECK_EQ(ticks, 0);
	pic_mask((u16)~1); /* still pending: delivered as soon as it may */
	__asm__ volatile("sti\n\tnop\n\tnop\n\tcli");
	CHECK_EQ(ticks, 1);
	pic_mask(0xffff);
}

static void registers(void)
{
	setup();
	outb(0x21, 0xa5);
	outb(0xa1, 0x5a);
	CHECK_EQ(inb(0x21), 0xa5);
	CHECK_EQ(inb(0xa1), 0x5a);
	pic_mask(0xffff);
	outb(0x20, 0x0b); /* read the ISR */
	CHECK_EQ(inb(0x20), 0);
}

static volatile u32 nested_isr;

static void on_isr(struct frame *f)
{
	outb(0x20, 0x0b);
	nested_isr = inb(0x20);
	ticks++;
	pic_eoi(0);
}

static void in_service(void)
{
	setup();
	trap_hook[0x20] = on_isr;
	pic_mask((u16)~1);
	pit_oneshot(100);
	CHECK(wait_for(&ticks, 1));
	CHECK_EQ(nested_isr, 1);
	outb(0x20, 0x0b);
	CHECK_EQ(inb(0x20), 0);
	pic_mask(0xffff);
}

static void counting(void)
{
	u16 first, second;

	/* A latched count goes down. */
	pit_periodic(0);
	outb(0x43, 0);
	first = inb(0x40);
	first |= (u16)(inb(0x40) << 8);
	for (unsigned i = 0; i < 10; i++)
		inb(0x61);
	outb(0x43, 0);
	second = inb(0x40);
	second |= (u16)(inb(0x40) << 8);
	CHECK((u16)(first - second) < 60000);
	/* Read-back status of channel 0: mode 2, both bytes. */
	pit_periodic(1000);
	outb(0x43, 0xe2);
	CHECK_EQ(inb(0x40) & 0x3f, 0x34);
}

const struct test tests[] = {
	{ "registers", registers, CHEAP },
	{ "periodic", periodic, 3 },
	{ "hlt", halt, 20 },
	{ "one-shot", one_shot_is_one, 5 },
	{ "masked", masked, 20 },
	{ "in service", in_service, 20 },
	{ "counting", counting, 20 },
	{ 0 },
};
