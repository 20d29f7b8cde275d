/*
 * A local APIC as an array of register values, to give it to another keeper and take it back.
 *
 * Registers that only show something (the processor priority) are filled in for whoever looks, and
 * not taken. The version is each keeper's own. A one-shot timer that has run out is given with an
 * initial count of zero: KVM would start it again (Linux arch/x86/kvm/lapic.c, a current count of
 * zero is "now"), and an interrupt more is worse than a register that guests never read.
 */
#include "base/bits.h"
#include "device/apic/lapic_priv.h"

static void give_map(const u64 map[4], u32 reg[8])
{
	for (unsigned i = 0; i < 8; i++)
		reg[i] = (u32)(map[i / 2] >> (i % 2 * 32));
}

static void take_map(u64 map[4], const u32 reg[8])
{
	for (unsigned i = 0; i < 4; i++)
		map[i] = reg[2 * i] | (u64)reg[2 * i + 1] << 32;
}

void lapic_give(struct lapic *l, u32 reg[LAPIC_REGS])
{
	for (unsigned i = 0; i < LAPIC_REGS; i++)
		reg[i] = 0;
	reg[REG_ID] = l->id;
	reg[REG_VERSION] = LAPIC_VERSION;
	reg[REG_TPR] = l->tpr;
	reg[REG_PPR] = lapic_ppr(l);
	reg[REG_LDR] = l->ldr;
	reg[REG_DFR] = l->dfr;
	reg[REG_SVR] = l->svr;
	give_map(l->isr, reg + REG_ISR);
	give_map(l->tmr, reg + REG_TMR);
	give_map(l->irr, reg + REG_IRR);
	reg[REG_ESR] = l->esr;
	reg[REG_ICR] = (u32)l->icr;
	reg[REG_ICR_HIGH] = (u32)(l->icr >> 32);
	for (unsigned i = 0; i < LVT_COUNT; i++)
		reg[REG_LVT + i] = l->lvt[i];
	reg[REG_CURRENT_COUNT] = lapic_timer_count(l);
	reg[REG_INITIAL_COUNT] = reg[REG_CURRENT_COUNT] ? l->initial_count : 0;
	reg[REG_DIVIDE] = l->divide;
	lapic_timer_leave(l);
}

void lapic_take(struct lapic *l, const u32 reg[LAPIC_REGS])
{
	l->id = reg[REG_ID];
	l->tpr = reg[REG_TPR];
	l->ldr = reg[REG_LDR];
	l->dfr = reg[REG_DFR];
	l->svr = reg[REG_SVR];
	take_map(l->isr, reg + REG_ISR);
	take_map(l->tmr, reg + REG_TMR);
	take_map(l->irr, reg + REG_IRR);
	l->esr = reg[REG_ESR];
	l->errors = 0;
	l->icr = reg[REG_ICR] | (u64)reg[REG_ICR_HIGH] << 32;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = reg[REG_LVT + i];
	l->initial_count = reg[REG_INITIAL_COUNT];
	l->divide = reg[REG_DIVIDE];
	lapic_timer_take_count(l, reg[REG_CURRENT_COUNT]);
}
