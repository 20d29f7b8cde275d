/* The interrupt controllers and timers of a PC, just far enough to test them. */
#pragma once
#include "guest.h"

/* i8259 pair and i8254 */
void pic_init(u8 master_vector, u8 slave_vector); /* everything masked */
void pic_mask(u16 mask);
void pic_eoi(unsigned irq);
bool pic_wait_pending(unsigned irq); /* polls the IRR for up to about a second */
void pit_oneshot(u16 ticks);	     /* channel 0, mode 0 */
void pit_periodic(u16 ticks);	     /* channel 0, mode 2 */

/* local APIC through its page */
#define LAPIC 0xfee00000ul
enum {
	APIC_ID = 0x20,
	APIC_VERSION = 0x30,
	APIC_TPR = 0x80,
	APIC_PPR = 0xa0,
	APIC_EOI = 0xb0,
	APIC_LDR = 0xd0,
	APIC_DFR = 0xe0,
	APIC_SPURIOUS = 0xf0,
	APIC_ISR = 0x100,
	APIC_IRR = 0x200,
	APIC_ESR = 0x280,
	APIC_ICR = 0x300,
	APIC_ICR_HIGH = 0x310,
	APIC_TIMER = 0x320,
	APIC_LINT0 = 0x350,
	APIC_LINT1 = 0x360,
	APIC_TIMER_INIT = 0x380,
	APIC_TIMER_NOW = 0x390,
	APIC_TIMER_DIVIDE = 0x3e0,
};
#define APIC_MASKED	     0x10000u
#define APIC_SELF	     0x40000u
#define APIC_SPURIOUS_VECTOR 0xff

static inline u32 lapic_read(u32 reg) { return *(volatile u32 *)(LAPIC + reg); }
static inline void lapic_write(u32 reg, u32 v) { *(volatile u32 *)(LAPIC + reg) = v; }
static inline bool lapic_irr(u8 v)
{
	return lapic_read(APIC_IRR + (v / 32) * 0x10u) >> (v % 32) & 1;
}
static inline bool lapic_isr(u8 v)
{
	return lapic_read(APIC_ISR + (v / 32) * 0x10u) >> (v % 32) & 1;
}
void lapic_enable(void); /* software-enabled, LVTs masked, TPR 0 */

/* Waits, interrupts on, until *counter is at least `want`; false after about three seconds of PIT
 * time. */
bool wait_for(volatile u32 *counter, u32 want);

/* IOAPIC */
#define IOAPIC 0xfec00000ul
u32 ioapic_read(u8 reg);
void ioapic_write(u8 reg, u32 v);
void ioapic_route(unsigned pin, u32 low, u8 destination);
