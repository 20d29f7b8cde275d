/*
 * The machine's side of an engine that keeps the local APICs (cpu/irqchip.h). Each processor still
 * has its device, but as a form: reset and the kernel's loading fill it in, it is given to the
 * engine before guest code runs, and taken back to be saved. In between nobody asks it for
 * anything.
 */
#include "machine/machine_priv.h"

_Static_assert(IRQCHIP_REGS == LAPIC_REGS, "one form of the registers");
_Static_assert(IRQCHIP_PINS == IOAPIC_PINS, "a route for each pin");

static const struct cpu_irqchip *chip_of(const struct machine *m) { return m->cpus[0].v.irqchip; }

static void route(void *machine, unsigned pin, u64 address, u32 data)
{
	struct machine *m = machine;

	chip_of(m)->route(&m->cpus[0].v, pin, address, data);
}

void irqchip_attach(struct machine *m)
{
	if (chip_of(m))
		ioapic_watch(m->ioapic, route, m);
}

int irqchip_give(struct machine_cpu *c)
{
	struct irqchip_lapic form = { .base = c->lapic->base,
		.tsc_deadline = c->lapic->tsc_deadline };

	if (!c->v.irqchip)
		return 0;
	lapic_give(c->lapic, form.reg);
	return c->v.irqchip->push(&c->v, &form);
}

int irqchip_take(struct machine_cpu *c)
{
	struct irqchip_lapic form;

	if (!c->v.irqchip)
		return 0;
	int ret = c->v.irqchip->pull(&c->v, &form);
	if (ret < 0)
		return ret;
	lapic_take(c->lapic, form.reg);
	c->lapic->base = c->v.x86.s.apic_base = form.base;
	c->lapic->tsc_deadline = form.tsc_deadline;
	return 0;
}
