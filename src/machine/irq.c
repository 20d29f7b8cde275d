/*
 * Interrupt routing (MP specification 1.4 3.6.2; the MADT says the same to the guest):
 *
 *   ISA line n ---+--> 8259 pair, input n --> INTR --> LINT0 of processor 0's local APIC
 *                 +--> I/O APIC, pin n (line 0: pin 2) --> message --> local APICs
 *
 * An engine may keep the local APICs (cpu/irqchip.h): messages then go to it, and INTR is posted to
 * processor 0, whose APIC in the engine says whether LINT0 takes it.
 *
 * Both ways are always live; a guest masks the one it does not use. A local APIC that is globally
 * disabled passes LINT0 to the processor's INTR pin itself (lapic.c). Devices that share a line are
 * or-ed: each part owns a bit of the line's level.
 */
#include "device/legacy/acpi_pm.h"
#include "device/legacy/i8259.h"
#include "machine/machine_priv.h"
#include "machine/requests.h"
#include "os/tsc.h"
#include <stdatomic.h>

#define PIT_PIN 2u /* where line 0 arrives at the I/O APIC */

static void drive(struct machine_part *p, u64 *levels, bool level)
{
	*levels = level ? *levels | p->bit : *levels & ~p->bit;
}

static void note(const struct machine *m)
{
	if (unlikely(m->requests))
		requests_interrupt(m->requests);
}

void irq_pin(void *part, unsigned n, bool level)
{
	struct machine_part *p = part;
	struct machine *m = p->machine;

	if (level)
		note(m);
	drive(p, &m->pin_levels[n], level);
	if (m->ioapic)
		ioapic_set_irq(m->ioapic, n, m->pin_levels[n]);
}

void irq_isa(void *part, unsigned n, bool level)
{
	struct machine_part *p = part;
	struct machine *m = p->machine;

	drive(p, &m->isa_levels[n], level);
	if (m->pic)
		pic_set_irq(m->pic, n, m->isa_levels[n]);
	irq_pin(p, n ? n : PIT_PIN, level);
}

/* With the HPET's legacy replacement on, the 8254 and the real-time clock interrupt nobody
 * (IA-PC HPET 1.0a 2.4.1). */
void irq_replaceable(void *part, unsigned n, bool level)
{
	struct machine_part *p = part;

	irq_isa(part, n, level && !p->machine->replaced);
}

void irq_replace(void *part, unsigned n, bool level)
{
	((struct machine_part *)part)->machine->replaced = level;
}

void irq_intr(void *part, unsigned n, bool level)
{
	struct machine *m = ((struct machine_part *)part)->machine;
	struct vcpu *v = &m->cpus[0].v;

	m->intr = level;
	if (!v->irqchip)
		lapic_set_lint(m->cpus[0].lapic, 0, level);
	else if (level)
		vcpu_post(v, ATTN_INTR);
}

void irq_event(void *part, unsigned n, bool level)
{
	struct machine *m = ((struct machine_part *)part)->machine;

	if (level && m->pm)
		acpi_pm_event(m->pm, n);
}

void irq_msi(void *machine, u64 address, u32 data)
{
	struct machine *m = machine;
	struct vcpu *v = &m->cpus[0].v;

	note(m);
	if (v->irqchip)
		v->irqchip->send(v, address, data);
	else
		lapic_bus_msi(&m->apics, address, data);
}

/* What a local APIC asks of its processor */

static void cpu_intr(void *ctx) { vcpu_post(&((struct machine_cpu *)ctx)->v, ATTN_INTR); }
static void cpu_nmi(void *ctx) { vcpu_post(&((struct machine_cpu *)ctx)->v, ATTN_NMI); }
static void cpu_init(void *ctx) { vcpu_post(&((struct machine_cpu *)ctx)->v, ATTN_INIT); }

static void cpu_sipi(void *ctx, u8 vector)
{
	struct machine_cpu *c = ctx;

	atomic_store(&c->v.sipi_vector, vector);
	vcpu_post(&c->v, ATTN_SIPI);
}

static int cpu_extint(void *ctx)
{
	struct machine *m = ((struct machine_cpu *)ctx)->machine;

	return m->pic ? pic_ack(m->pic) : -1;
}

/* In a pause it stands, as the guest's clock does. */
static u64 cpu_tsc(void *ctx)
{
	const struct machine_cpu *c = ctx;

	return (c->machine->paused ? c->machine->paused_tsc : tsc_read()) + c->tsc_offset;
}

static void eoi(void *ctx, u8 vector)
{
	struct machine *m = ctx;

	if (m->ioapic)
		ioapic_eoi(m->ioapic, vector);
}

void irq_wire_cpu(struct machine_cpu *c)
{
	struct machine *m = c->machine;

	if (c->v.irqchip) { /* the engine's APIC does all this; ours knows the time */
		c->lapic->wiring = (struct lapic_wiring){
			.ctx = c, .guest_tsc = cpu_tsc, .tsc_hz = m->model.tsc_hz
		};
		return;
	}
	c->lapic->wiring = (struct lapic_wiring){
		.ctx = c,
		.intr = cpu_intr,
		.nmi = cpu_nmi,
		.init = cpu_init,
		.sipi = cpu_sipi,
		.extint = cpu_extint,
		.guest_tsc = cpu_tsc,
		.tsc_hz = m->model.tsc_hz,
	};
	m->apics.eoi = eoi;
	m->apics.eoi_ctx = m;
	lapic_bus_add(&m->apics, c->lapic);
}
