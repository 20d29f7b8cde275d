/* Interrupt controllers and timers: 8259A and 8254 data sheets, SDM 3A chapter 11, 82093AA data
 * sheet. */
#include "apic.h"

void pic_init(u8 master_vector, u8 slave_vector)
{
	outb(0x20, 0x11); /* ICW1: edge, cascade, ICW4 follows */
	outb(0xa0, 0x11);
	outb(0x21, master_vector);
	outb(0xa1, slave_vector);
	outb(0x21, 4); /* the slave is on IR2 */
	outb(0xa1, 2);
	outb(0x21, 1); /* 8086 mode */
	outb(0xa1, 1);
	pic_mask(0xffff);
	/* Virtual wire mode (MP 1.4, 3.6.2.2): the pair's output comes in through LINT0. */
	lapic_write(APIC_SPURIOUS, 0x100 | APIC_SPURIOUS_VECTOR);
	lapic_write(APIC_LINT0, 0x700);
}

void pic_mask(u16 mask)
{
	outb(0x21, (u8)mask);
	outb(0xa1, (u8)(mask >> 8));
}

void pic_eoi(unsigned irq)
{
	if (irq >= 8)
		outb(0xa0, 0x20);
	outb(0x20, 0x20);
}

bool pic_wait_pending(unsigned irq)
{
	u16 port = irq < 8 ? 0x20 : 0xa0;

	for (unsigned i = 0; i < 1000000; i++) {
		outb(port, 0x0a); /* OCW3: read the IRR */
		if (inb(port) >> (irq & 7) & 1)
			return true;
	}
	return false;
}

static void pit_program(u8 mode, u16 ticks)
{
	outb(0x43, 0x30 | mode << 1); /* channel 0, low then high byte */
	outb(0x40, (u8)ticks);
	outb(0x40, (u8)(ticks >> 8));
}

void pit_oneshot(u16 ticks) { pit_program(0, ticks); }
void pit_periodic(u16 ticks) { pit_program(2, ticks); }

void lapic_enable(void)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
	lapic_write(APIC_SPURIOUS, 0x100 | APIC_SPURIOUS_VECTOR);
	lapic_write(APIC_TPR, 0);
	lapic_write(APIC_TIMER, APIC_MASKED);
	lapic_write(APIC_LINT0, APIC_MASKED);
	lapic_write(APIC_LINT1, APIC_MASKED);
	lapic_write(APIC_TIMER_DIVIDE, 0xb); /* by 1 */
	lapic_write(APIC_TIMER_INIT, 0);
}

bool wait_for(volatile u32 *counter, u32 want)
{
	/* Channel 2 as the clock: its reload of 65536 ticks lasts 55 ms on any machine. */
	outb(0x61, (inb(0x61) & 0xfc) | 1);
	for (unsigned round = 0; round < 60; round++) {
		outb(0x43, 0xb0);
		outb(0x42, 0xff);
		outb(0x42, 0xff);
		__asm__ volatile("sti");
		for (unsigned i = 0; i < 4000000 && !(inb(0x61) & 0x20); i++) {
			if (*counter >= want)
				break;
			__asm__ volatile("pause");
		}
		__asm__ volatile("cli");
		if (*counter >= want)
			return true;
	}
	return false;
}

u32 ioapic_read(u8 reg)
{
	*(volatile u32 *)IOAPIC = reg;
	return *(volatile u32 *)(IOAPIC + 0x10);
}

void ioapic_write(u8 reg, u32 v)
{
	*(volatile u32 *)IOAPIC = reg;
	*(volatile u32 *)(IOAPIC + 0x10) = v;
}

void ioapic_route(unsigned pin, u32 low, u8 destination)
{
	ioapic_write((u8)(0x11 + pin * 2), (u32)destination << 24);
	ioapic_write((u8)(0x10 + pin * 2), low);
}
