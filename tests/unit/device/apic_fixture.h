/* A few local APICs on one bus, driven by a manual clock, with vcpus that only take notes. */
#pragma once
#include "device/apic/lapic.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the above */

#define CPUS   20
#define TSC_HZ 2000000000ull

/* Register offsets in the xAPIC page */
enum {
	ID = 0x20,
	VERSION = 0x30,
	TPR = 0x80,
	PPR = 0xa0,
	EOI = 0xb0,
	LDR = 0xd0,
	DFR = 0xe0,
	SVR = 0xf0,
	ISR = 0x100,
	TMR = 0x180,
	IRR = 0x200,
	ESR = 0x280,
	ICR = 0x300,
	ICR_HIGH = 0x310,
	LVT_T = 0x320,
	LVT_L0 = 0x350,
	LVT_L1 = 0x360,
	LVT_E = 0x370,
	COUNT_INIT = 0x380,
	COUNT_NOW = 0x390,
	DIVIDE = 0x3e0,
};

struct notes {
	unsigned intr, nmi, init, sipi, extints;
	u8 sipi_vector;
	int pic_vector; /* what the 8259 will answer */
};

struct rig {
	struct guest_clock clock;
	struct lapic_bus bus;
	struct lapic *cpu[CPUS];
	struct notes notes[CPUS];
	u64 tsc_offset;
	unsigned eois;
	u8 last_eoi;
};

extern struct rig rig;

static inline void note_intr(void *ctx) { ((struct notes *)ctx)->intr++; }
static inline void note_nmi(void *ctx) { ((struct notes *)ctx)->nmi++; }
static inline void note_init(void *ctx) { ((struct notes *)ctx)->init++; }
static inline void note_sipi(void *ctx, u8 vector)
{
	((struct notes *)ctx)->sipi++;
	((struct notes *)ctx)->sipi_vector = vector;
}
static inline int note_extint(void *ctx)
{
	((struct notes *)ctx)->extints++;
	return ((struct notes *)ctx)->pic_vector;
}
static inline u64 rig_tsc(void *ctx)
{
	return clock_ticks(clock_now(&rig.clock), TSC_HZ) + rig.tsc_offset;
}
static inline void note_eoi(void *ctx, u8 vector)
{
	rig.eois++;
	rig.last_eoi = vector;
}

static inline u32 rd(unsigned cpu, unsigned reg)
{
	return (u32)lapic_mmio_read(rig.cpu[cpu], reg, 4);
}
static inline void wr(unsigned cpu, unsigned reg, u32 v)
{
	lapic_mmio_write(rig.cpu[cpu], reg, 4, v);
}
static inline bool wrmsr(unsigned cpu, unsigned reg, u64 v)
{
	return lapic_msr_write(rig.cpu[cpu], 0x800 + reg / 16, v);
}
static inline u64 rdmsr(unsigned cpu, unsigned reg)
{
	u64 v = 0;

	assert_true(lapic_msr_read(rig.cpu[cpu], 0x800 + reg / 16, &v));
	return v;
}
static inline int ack(unsigned cpu) { return lapic_ack(rig.cpu[cpu]); }
static inline void eoi(unsigned cpu) { wr(cpu, EOI, 0); }
static inline void send_ipi(unsigned cpu, u32 dest, u32 command)
{
	wr(cpu, ICR_HIGH, dest << 24);
	wr(cpu, ICR, command);
}
static inline void to_x2apic(unsigned cpu)
{
	assert_true(lapic_msr_write(rig.cpu[cpu], 0x1b, rig.cpu[cpu]->base | APIC_BASE_EXTD));
}
/* Bit set of the processors that have something to take. */
static inline u32 pending_set(void)
{
	u32 set = 0;

	for (unsigned i = 0; i < CPUS; i++)
		set |= lapic_pending(rig.cpu[i]) ? BIT(i) : 0;
	return set;
}

static inline int rig_up(void **state)
{
	struct err err;

	rig = (struct rig){ 0 };
	clock_init(&rig.clock);
	clock_advance(&rig.clock, 1000);
	rig.bus.eoi = note_eoi;
	for (unsigned i = 0; i < CPUS; i++) {
		struct device_env env = { .clock = &rig.clock };
		struct lapic *l =
			(struct lapic *)(void *)device_new(&lapic_class, "lapic", &env, &err);

		assert_non_null(l);
		l->wiring = (struct lapic_wiring){ &rig.notes[i], note_intr, note_nmi, note_init,
			note_sipi, note_extint, rig_tsc, TSC_HZ };
		l->initial_id = i;
		l->bsp = i == 0;
		lapic_class.reset(&l->dev);
		lapic_bus_add(&rig.bus, l);
		rig.cpu[i] = l;
		rig.notes[i].pic_vector = -1;
		wr(i, SVR, 0x1ff);
	}
	return 0;
}

static inline int rig_down(void **state)
{
	for (unsigned i = 0; i < CPUS; i++)
		device_free(&rig.cpu[i]->dev);
	return 0;
}

#define RIG_TEST(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)
