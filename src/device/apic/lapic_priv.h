/* Shared by the parts of the local APIC: the core, its registers, its timer and its bus. */
#pragma once
#include "device/apic/lapic.h"

/* Registers, by number: tables 10-1 and 10-6 */

enum {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10, /* eight words each */
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR = 0x30,
	REG_ICR_HIGH = 0x31,
	REG_LVT = 0x32,
	REG_INITIAL_COUNT = 0x38,
	REG_CURRENT_COUNT = 0x39,
	REG_DIVIDE = 0x3e,
	REG_SELF_IPI = 0x3f,
};

/* A local vector table entry, figure 10-8. */
#define LVT_VECTOR     0xffu
#define LVT_MODE(v)    ((v) >> 8 & 7)
#define LVT_PENDING    BIT(12) /* delivery status; read-only, we are never busy */
#define LVT_REMOTE_IRR BIT(14) /* LINT0 level: accepted, not yet EOIed; read-only */
#define LVT_LEVEL      BIT(15)
#define LVT_MASKED     BIT(16)
#define LVT_TIMER_MODE (BIT(17) | BIT(18))

#define TIMER_ONE_SHOT	   0u
#define TIMER_PERIODIC	   BIT(17)
#define TIMER_TSC_DEADLINE BIT(18)

#define SVR_ENABLE	 BIT(8)
#define SVR_EOI_DIRECTED BIT(12) /* suppress EOI broadcasts */

/* Error status register, 10.5.3. */
#define ESR_SEND_VECTOR	   BIT(5)
#define ESR_RECEIVE_VECTOR BIT(6)
#define ESR_REGISTER	   BIT(7)

/* Interrupt command register, figure 10-12. */
#define ICR_LOGICAL	 BIT(11)
#define ICR_PENDING	 BIT(12)
#define ICR_ASSERT	 BIT(14)
#define ICR_LEVEL	 BIT(15)
#define ICR_SHORTHAND(v) ((v) >> 18 & 3)
enum icr_shorthand { ICR_NONE, ICR_SELF, ICR_ALL, ICR_OTHERS };

/* lapic.c: accepting and acknowledging. */
void lapic_notify(struct lapic *l); /* tells the vcpu when something is deliverable */
/* Delivers to this APIC; false when its state refuses the message. */
bool lapic_deliver(struct lapic *l, const struct apic_message *msg);
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt entry);
void lapic_lint_changed(struct lapic *l, unsigned pin); /* its LVT entry was written */
void lapic_error(struct lapic *l, u32 esr_bit);
void lapic_eoi(struct lapic *l);
u32 lapic_ppr(const struct lapic *l);
/* The register state after power-up and INIT (10.4.7): all but the id and IA32_APIC_BASE. */
void lapic_reset_registers(struct lapic *l);

/* lapic_bus.c: sending. */
void lapic_send_icr(struct lapic *l);
void lapic_self_ipi(struct lapic *l, u8 vector);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
void lapic_timer_restore(struct lapic *l);		 /* arms what loaded state says */
void lapic_timer_leave(struct lapic *l);		 /* disarms; the state stays as it is */
void lapic_timer_take_count(struct lapic *l, u32 count); /* state only: nothing is armed */
u32 lapic_timer_count(const struct lapic *l);
void lapic_timer_set_count(struct lapic *l, u32 count);
void lapic_timer_set_divide(struct lapic *l, u32 value);
void lapic_timer_mode_changed(struct lapic *l, u32 old_lvt);
void lapic_timer_set_deadline(struct lapic *l, u64 tsc);
