/*
 * Who receives an interrupt message (SDM 3A 10.6.2), and how one comes to be: the interrupt
 * command register (10.6.1), a device's MSI write and an I/O APIC's message (10.11).
 *
 * xAPICs and x2APICs can share a bus. A message from an x2APIC carries 32 bits of destination
 * (`wide`); all others carry eight, of which 0xff addresses everyone.
 */
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "device/apic/lapic_priv.h"

#define MSI_RANGE    0xfee00000ull
#define MSI_LOGICAL  BIT(2)
#define MSI_REDIRECT BIT(3)

#define DFR_FLAT    0xfu /* model, bits 31:28; figure 10-14 */
#define DFR_CLUSTER 0x0u

static u32 broadcast(bool wide) { return wide ? ~0u : 0xff; }

/* 10.6.2.2: an 8-bit set of processors, or a cluster number and a 4-bit set in it. */
static bool matches_xapic_logical(const struct lapic *l, u32 dest)
{
	u32 mine = l->ldr >> 24;

	switch (l->dfr >> 28) {
	case DFR_FLAT: return dest <= 0xff && (dest & mine);
	case DFR_CLUSTER: return dest >> 4 == mine >> 4 && (dest & mine & 0xf);
	default: return false;
	}
}

/* 10.12.10.1: a 16-bit cluster number and a 16-bit set. */
static bool matches_x2apic_logical(const struct lapic *l, u32 dest)
{
	return dest >> 16 == l->ldr >> 16 && (dest & l->ldr & 0xffff);
}

static bool matches(const struct lapic *l, const struct apic_message *msg)
{
	if (!lapic_enabled(l) || l == msg->except)
		return false;
	if (msg->dest == broadcast(msg->wide))
		return true;
	if (lapic_x2apic(l))
		return msg->logical ? matches_x2apic_logical(l, msg->dest) : msg->dest == l->id;
	return msg->logical ? matches_xapic_logical(l, msg->dest) : msg->dest == l->id >> 24;
}

/* Lowest priority, 10.6.2.4: least processor priority; equals take turns. */
static bool send_lowest(struct lapic_bus *bus, const struct apic_message *msg)
{
	struct lapic *best = NULL;

	for (unsigned i = 0; i < bus->count; i++) {
		struct lapic *l = bus->apics[(bus->turn + i) % bus->count];

		if (matches(l, msg) && (l->svr & SVR_ENABLE) &&
			(!best || lapic_ppr(l) < lapic_ppr(best)))
			best = l;
	}
	bus->turn = bus->count ? (bus->turn + 1) % bus->count : 0;
	return best && lapic_deliver(best, msg);
}

bool lapic_bus_send(struct lapic_bus *bus, const struct apic_message *msg)
{
	bool taken = false;

	if (msg->mode == APIC_LOWEST)
		return send_lowest(bus, msg);
	for (unsigned i = 0; i < bus->count; i++)
		if (matches(bus->apics[i], msg))
			taken |= lapic_deliver(bus->apics[i], msg);
	return taken;
}

void lapic_bus_add(struct lapic_bus *bus, struct lapic *l)
{
	must(bus->count < LAPIC_BUS_MAX, "more than %d local APICs", LAPIC_BUS_MAX);
	bus->apics[bus->count++] = l;
	l->bus = bus;
}

bool lapic_bus_msi(struct lapic_bus *bus, u64 address, u32 data)
{
	struct apic_message msg = {
		.dest = (u32)bits(address, 19, 12),
		.vector = (u8)bits(data, 7, 0),
		.mode = (u8)bits(data, 10, 8),
		.logical = address & MSI_LOGICAL,
		.level = data & ICR_LEVEL,
	};

	if (address >> 20 != MSI_RANGE >> 20 || msg.mode == APIC_REMOTE_READ ||
		msg.mode == APIC_SIPI) {
		guest_err("msi", "invalid message: 0x%x to 0x%llx", data,
			(unsigned long long)address);
		return false;
	}
	if (msg.mode == APIC_FIXED && address & MSI_REDIRECT)
		msg.mode = APIC_LOWEST;
	return lapic_bus_send(bus, &msg);
}

/* Interrupt command register */

/* Table 10-3: with "self" and "all" only fixed interrupts are valid. */
static bool shorthand_valid(enum icr_shorthand to, u8 mode)
{
	return to == ICR_NONE || to == ICR_OTHERS || mode == APIC_FIXED;
}

void lapic_send_icr(struct lapic *l)
{
	u32 low = (u32)l->icr, high = (u32)(l->icr >> 32);
	enum icr_shorthand to = ICR_SHORTHAND(low);
	struct apic_message msg = {
		.dest = lapic_x2apic(l) ? high : high >> 24,
		.vector = (u8)low,
		.mode = (u8)bits(low, 10, 8),
		.logical = low & ICR_LOGICAL,
		.wide = lapic_x2apic(l),
	};

	if (!l->bus || msg.mode == APIC_EXTINT || !shorthand_valid(to, msg.mode)) {
		guest_err(l->dev.name, "invalid interrupt command 0x%08x", low);
		return;
	}
	/* INIT level de-assert resynchronised arbitration ids; processors since the P4 have none.
	 */
	if (msg.mode == APIC_INIT && (low & (ICR_LEVEL | ICR_ASSERT)) == ICR_LEVEL)
		return;
	if ((msg.mode == APIC_FIXED || msg.mode == APIC_LOWEST) && msg.vector < 16) {
		lapic_error(l, ESR_SEND_VECTOR);
		return;
	}
	if (to == ICR_SELF) {
		lapic_deliver(l, &msg);
		return;
	}
	if (to != ICR_NONE) {
		msg.dest = broadcast(msg.wide);
		msg.except = to == ICR_OTHERS ? l : NULL;
	}
	lapic_bus_send(l->bus, &msg);
}

void lapic_self_ipi(struct lapic *l, u8 vector)
{
	struct apic_message msg = { .vector = vector, .mode = APIC_FIXED };

	if (vector < 16)
		lapic_error(l, ESR_SEND_VECTOR);
	else
		lapic_deliver(l, &msg);
}
