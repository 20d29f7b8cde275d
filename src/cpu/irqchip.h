/*
 * Local APICs that an engine keeps itself. An engine that does sets vcpu->irqchip in open(); the
 * machine then sends its interrupt messages here instead of to its own local APICs, whose state it
 * hands over before the guest runs and takes back to save it. The 8259 pair, the I/O APIC and all
 * timers but the local ones stay the machine's.
 *
 * Towards the machine, through vcpu_ops:
 *   eoi          a level-triggered interrupt, of a route below, has been handled
 *   interrupt    the vector of the 8259 pair, asked for once ATTN_INTR is posted and the guest
 * takes external interrupts (LINT0, IF) INIT and start-up messages go from one of the engine's
 * APICs to another and are not seen.
 */
#pragma once
#include "base/types.h"

struct vcpu;

/* Pins of an I/O APIC for which an engine keeps routes. */
#define IRQCHIP_PINS 24u

/* The registers by their number, which is the offset in the page / 16 (SDM 3A table 10-1). The
 * interrupt command's upper half is at 0x31, in x2APIC mode too; EOI and self IPI have no state. */
#define IRQCHIP_REGS 64u

struct irqchip_lapic {
	u64 base;	  /* IA32_APIC_BASE */
	u64 tsc_deadline; /* IA32_TSC_DEADLINE; 0: disarmed */
	u32 reg[IRQCHIP_REGS];
};

struct cpu_irqchip {
	/* A message as a device writes it (SDM 3A 10.11). Any thread; `v` is any vcpu of the
	 * machine, here and below. */
	void (*send)(struct vcpu *v, u64 address, u32 data);
	/* What an I/O APIC's pin sends: of level-triggered ones the engine reports the EOI. Before
	 * the first send(); any thread. */
	void (*route)(struct vcpu *v, unsigned pin, u64 address, u32 data);
	/* The state of v's own local APIC; as pull and push of struct cpu_engine, and after them. 0
	 * or -errno with v->error. */
	int (*pull)(struct vcpu *v, struct irqchip_lapic *l);
	int (*push)(struct vcpu *v, const struct irqchip_lapic *l);
};
