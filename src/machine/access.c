/*
 * What vcpus ask of the machine: ports, memory that is not RAM, interrupts, the local APIC's
 * registers. Called on the vcpu's thread; each takes the machine's lock for as long as the devices
 * need.
 */
#include "base/bits.h"
#include "device/legacy/i8259.h"
#include "machine/machine_priv.h"
#include "machine/requests.h"
#include "os/fd.h"
#include "x86/msr.h"
#include <stdatomic.h>

static struct machine_cpu *cpu_of(struct vcpu *v) { return container_of(v, struct machine_cpu, v); }

static void trace(struct vcpu *v, const char *what, u64 at, unsigned size, u64 value)
{
	if (unlikely(v->trace.exits))
		fprintf(v->trace.to, "cpu%u %s 0x%llx/%u 0x%llx\n", v->index, what,
			(unsigned long long)at, size, (unsigned long long)value);
}

/* --trace requests: any write may be a doorbell. */
static u64 left_guest(const struct machine *m)
{
	return unlikely(m->requests) ? fd_monotonic_ns() : 0;
}

static void rings(struct machine *m, const struct vcpu *v, u64 rang)
{
	if (unlikely(rang))
		requests_rang(m->requests, v->index, rang);
}

static void rung(struct machine *m, u64 rang)
{
	if (unlikely(rang))
		requests_rung(m->requests);
}

/* Where the engine keeps the local APICs, what comes here is for nobody's: the page of one that is
 * disabled. */
static bool decodes(struct vcpu *v, gpa_t at)
{
	return !v->irqchip && lapic_decodes(cpu_of(v)->lapic, at);
}

/* The 8259 pair's vector for an engine that keeps the local APICs. */
static int intr_locked(struct machine *m, struct vcpu *v)
{
	int vector = m->intr ? pic_ack(m->pic) : -1;

	if (m->intr)
		atomic_fetch_or(&v->attention, ATTN_INTR);
	return vector;
}

static int lapic_locked(struct lapic *l, struct vcpu *v)
{
	int vector = lapic_ack(l);

	if (lapic_pending(l))
		atomic_fetch_or(&v->attention, ATTN_INTR);
	return vector;
}

/* A message lists the highest priority's vector; there may be another one behind it. */
static int interrupt(void *ctx, struct vcpu *v)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	int vector = v->irqchip ? intr_locked(m, v) : lapic_locked(cpu_of(v)->lapic, v);
	m->counts.interrupts += vector >= 0;
	pthread_mutex_unlock(&m->lock);
	return vector;
}

static void eoi(void *ctx, struct vcpu *v, u8 vector)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	ioapic_eoi(m->ioapic, vector);
	pthread_mutex_unlock(&m->lock);
}

static u64 port_in(void *ctx, struct vcpu *v, u16 port, unsigned size)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	u64 value = bus_read(&m->bus, BUS_PORT, port, size);
	m->counts.port_ios++;
	pthread_mutex_unlock(&m->lock);
	trace(v, "in", port, size, value);
	return value;
}

static void port_out(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value)
{
	struct machine *m = ctx;

	trace(v, "out", port, size, value);
	u64 rang = left_guest(m);
	pthread_mutex_lock(&m->lock);
	rings(m, v, rang);
	bus_write(&m->bus, BUS_PORT, port, size, value);
	rung(m, rang);
	m->counts.port_ios++;
	pthread_mutex_unlock(&m->lock);
	console_wait(&m->console);
}

static u64 mmio_read(void *ctx, struct vcpu *v, gpa_t at, unsigned size)
{
	struct machine *m = ctx;
	u64 value;

	pthread_mutex_lock(&m->lock);
	if (decodes(v, at))
		value = lapic_mmio_read(cpu_of(v)->lapic, at.v & PAGE_MASK, size);
	else
		value = bus_read(&m->bus, BUS_MMIO, at.v, size);
	m->counts.mmios++;
	pthread_mutex_unlock(&m->lock);
	trace(v, "load", at.v, size, value);
	return value;
}

static void mmio_write(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value)
{
	struct machine *m = ctx;

	trace(v, "store", at.v, size, value);
	u64 rang = left_guest(m);
	pthread_mutex_lock(&m->lock);
	rings(m, v, rang);
	if (decodes(v, at))
		lapic_mmio_write(cpu_of(v)->lapic, at.v & PAGE_MASK, size, value);
	else
		bus_write(&m->bus, BUS_MMIO, at.v, size, value);
	rung(m, rang);
	m->counts.mmios++;
	pthread_mutex_unlock(&m->lock);
}

static bool msr_read(void *ctx, struct vcpu *v, u32 index, u64 *value)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	bool known = !v->irqchip && lapic_msr_read(cpu_of(v)->lapic, index, value);
	pthread_mutex_unlock(&m->lock);
	trace(v, known ? "rdmsr" : "rdmsr (unknown)", index, 8, known ? *value : 0);
	return known;
}

static bool msr_write(void *ctx, struct vcpu *v, u32 index, u64 value)
{
	struct machine *m = ctx;
	struct lapic *l = cpu_of(v)->lapic;

	trace(v, "wrmsr", index, 8, value);
	pthread_mutex_lock(&m->lock);
	bool known = !v->irqchip && lapic_msr_write(l, index, value);
	if (known)
		v->x86.s.apic_base = l->base; /* the APIC owns the register, the state shows it */
	pthread_mutex_unlock(&m->lock);
	return known;
}

static u64 cr8_read(void *ctx, struct vcpu *v)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	u64 value = lapic_cr8(cpu_of(v)->lapic);
	pthread_mutex_unlock(&m->lock);
	return value;
}

static void cr8_write(void *ctx, struct vcpu *v, u64 value)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	lapic_set_cr8(cpu_of(v)->lapic, value);
	pthread_mutex_unlock(&m->lock);
}

static void tsc_changed(void *ctx, struct vcpu *v)
{
	struct machine *m = ctx;
	struct machine_cpu *c = cpu_of(v);

	pthread_mutex_lock(&m->lock);
	c->tsc_offset = v->x86.s.tsc_offset;
	if (!v->irqchip)
		lapic_tsc_changed(c->lapic);
	pthread_mutex_unlock(&m->lock);
}

static u64 clock_ns_at(void *ctx, struct vcpu *v, u64 host_tsc)
{
	const struct machine *m = ctx;

	return (u64)((u128)(host_tsc - m->tsc_base) * 1000000000u / m->model.tsc_hz);
}

static u64 wall_ns(void *ctx, struct vcpu *v)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	u64 now = clock_now(&m->clock);
	pthread_mutex_unlock(&m->lock);
	return (u64)m->wall_base + now;
}

const struct vcpu_ops access_ops = {
	.interrupt = interrupt,
	.port_in = port_in,
	.port_out = port_out,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.msr_read = msr_read,
	.msr_write = msr_write,
	.cr8_read = cr8_read,
	.cr8_write = cr8_write,
	.tsc_changed = tsc_changed,
	.eoi = eoi,
	.clock_ns = clock_ns_at,
	.wall_ns = wall_ns,
};
