/* Local APIC: timer modes, self-IPIs, priorities and CR8, HLT wake-up (SDM 3A 11). */
#include "apic.h"

static volatile u32 count, order[8], ordered;

static void on_timer(struct frame *f)
{
	count++;
	lapic_write(APIC_EOI, 0);
}

static void on_ordered(struct frame *f)
{
	if (ordered < 8)
		order[ordered++] = (u32)f->vector;
	lapic_write(APIC_EOI, 0);
}

static void setup(void)
{
	lapic_enable();
	trap_hook[0x40] = on_timer;
	for (unsigned v = 0x50; v <= 0x90; v += 0x10)
		trap_hook[v] = on_ordered;
	count = ordered = 0;
}

static void self_ipi(u8 vector) { lapic_write(APIC_ICR, APIC_SELF | vector); }
static void window(void) { __asm__ volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory"); }

static void one_shot(void)
{
	setup();
	lapic_write(APIC_TIMER, 0x40);
	lapic_write(APIC_TIMER_INIT, 100000);
	CHECK(wait_for(&count, 1));
	CHECK_EQ(lapic_read(APIC_TIMER_NOW), 0);
	for (unsigned i = 0; i < 1000; i++)
		window();
	CHECK_EQ(count, 1);
}

static void periodic(void)
{
	setup();
	lapic_write(APIC_TIMER, 0x20040);
	lapic_write(APIC_TIMER_INIT, 1000000);
	CHECK(wait_for(&count, 10));
	lapic_write(APIC_TIMER_INIT, 0);
	window();
	count = 0;
	for (unsigned i = 0; i < 1000; i++)
		window();
	CHECK_EQ(count, 0);
}

static void deadline(void)
{
	setup();
	if (!(cpuid(1, 0).c & 1u << 24)) {
		test_skip("no TSC-deadline timer");
		return;
	}
	lapic_write(APIC_TIMER, 0x40040);
	wrmsr(0x6e0, rdtsc() + 2000000);
	CHECK(wait_for(&count, 1));
	CHECK_EQ(rdmsr(0x6e0), 0); /* disarmed by firing */
	wrmsr(0x6e0, rdtsc() + (1ull << 40));
	wrmsr(0x6e0, 0); /* disarmed by hand */
	wrmsr(0x6e0, 1); /* in the past: at once */
	CHECK(wait_for(&count, 2));
}

/* Interrupts on for a while: 55 ms of PIT time at least, unless something comes. */
static void let_pass(void)
{
	u32 none = count + 1;

	outb(0x61, (inb(0x61) & 0xfc) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	__asm__ volatile("sti");
	while (!(inb(0x61) & 0x20) && count < none)
		__asm__ volatile("pause");
	__asm__ volatile("cli");
}

/* An armed deadline is a value of the counter, not a distance: whoever moves the counter moves the
 * moment (SDM 3A 10.5.4.1). 2^34 ticks are some seconds. */
static void moved_counter(void)
{
	const u64 far = 1ull << 34;

	setup();
	if (!(cpuid(1, 0).c & 1u << 24)) {
		test_skip("no TSC-deadline timer");
		return;
	}
	lapic_write(APIC_TIMER, 0x40040);
	wrmsr(0x6e0, rdtsc() + far);
	wrmsr(0x10, rdtsc() + far);
	CHECK(wait_for(&count, 1));
	CHECK_EQ(count, 1);

	wrmsr(0x6e0, rdtsc() + 20000000);
	wrmsr(0x10, rdtsc() - far);
	let_pass();
	CHECK_EQ(count, 1);
	if (cpuid(7, 0).b & 2) { /* TSC_ADJUST moves it, too */
		wrmsr(0x3b, rdmsr(0x3b) + far);
		CHECK(wait_for(&count, 2));
		CHECK_EQ(count, 2);
	}
	wrmsr(0x6e0, 0);
}

static void halt(void)
{
	setup();
	lapic_write(APIC_TIMER, 0x40);
	lapic_write(APIC_TIMER_INIT, 500000);
	__asm__ volatile("sti\n\thlt\n\tcli" ::: "memory");
	CHECK_EQ(count, 1);
}

static void priority(void)
{
	setup();
	/* All pending at once are taken from the highest down. */
	self_ipi(0x50);
	self_ipi(0x70);
	self_ipi(0x60);
	CHECK(lapic_irr(0x50) && lapic_irr(0x60) && lapic_irr(0x70));
	for (unsigned i = 0; i < 3; i++)
		window();
	CHECK_EQ(ordered, 3);
	CHECK_EQ(order[0], 0x70);
	CHECK_EQ(order[1], 0x60);
	CHECK_EQ(order[2], 0x50);
}

static void task_priority(void)
{
	ulong cr8;

	setup();
	__asm__ volatile("mov %0, %%cr8" ::"r"(6ul));
	CHECK_EQ(lapic_read(APIC_TPR), 0x60); /* CR8 is TPR[7:4] */
	self_ipi(0x60);
	self_ipi(0x70);
	window();
	window();
	CHECK_EQ(ordered, 1); /* class 6 is held back, class 7 is not */
	CHECK_EQ(order[0], 0x70);
	lapic_write(APIC_TPR, 0x50);
	__asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
	CHECK_EQ(cr8, 5);
	window();
	CHECK_EQ(ordered, 2);
	CHECK_EQ(order[1], 0x60);
	lapic_write(APIC_TPR, 0);
}

static volatile u32 nested;

static void on_outer(struct frame *f)
{
	CHECK(lapic_isr(0x80));
	CHECK_EQ(lapic_read(APIC_PPR) & 0xf0, 0x80);
	self_ipi(0x70); /* lower: waits */
	self_ipi(0x90); /* higher: nests */
	window();
	window();
	nested = ordered;
	lapic_write(APIC_EOI, 0);
}

static void nesting(void)
{
	setup();
	trap_hook[0x80] = on_outer;
	self_ipi(0x80);
	window();
	window();
	CHECK_EQ(nested, 1);
	CHECK_EQ(order[0], 0x90);
	CHECK_EQ(ordered, 2);
	CHECK_EQ(order[1], 0x70);
}

static void registers(void)
{
	setup();
	CHECK_EQ(lapic_read(APIC_ID) >> 24, cpuid(1, 0).b >> 24);
	CHECK((lapic_read(APIC_VERSION) & 0xff) >= 0x10);
	lapic_write(APIC_LDR, 0x12000000);
	CHECK_EQ(lapic_read(APIC_LDR), 0x12000000);
	lapic_write(APIC_TIMER_DIVIDE, 3);
	CHECK_EQ(lapic_read(APIC_TIMER_DIVIDE), 3);
}

const struct test tests[] = {
	{ "registers", registers, CHEAP },
	{ "one-shot", one_shot, 5 },
	{ "periodic", periodic, 2 },
	{ "TSC deadline", deadline, 5 },
	{ "moved counter", moved_counter, 2 },
	{ "hlt", halt, 10 },
	{ "priority", priority, CHEAP },
	{ "task priority", task_priority, CHEAP },
	{ "nesting", nesting, CHEAP },
	{ 0 },
};
