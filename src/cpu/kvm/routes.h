/*
 * KVM's table of interrupt routes: what each GSI, a number that KVM gives no other meaning, sends.
 * All of ours are messages. The first IRQCHIP_PINS belong to the I/O APIC's pins; the others are
 * handed out, one for each event descriptor.
 *
 * A pin has a route only while it is level-triggered. The I/O APIC itself sends its messages, so
 * KVM needs a route for one thing: to know whose EOIs it must report. Every change of the table
 * makes KVM wait for all vcpus, and guests write the redirection table often.
 *
 * Pure data, no system calls; the caller has the lock.
 */
#pragma once
#include "cpu/irqchip.h"
#include <linux/kvm.h>
#include <stddef.h>

#define ROUTES_EVENTS 232u
#define ROUTES_MAX    (IRQCHIP_PINS + ROUTES_EVENTS)

struct routes {
	struct {
		u64 address;
		u32 data;
		bool used;
	} gsi[ROUTES_MAX];
};

/* struct kvm_irq_routing with room for its entries. */
struct routes_image {
	u32 nr, flags;
	struct kvm_irq_routing_entry entries[ROUTES_MAX];
};
_Static_assert(offsetof(struct routes_image, entries) == offsetof(struct kvm_irq_routing, entries),
	"struct kvm_irq_routing");

/* What a pin sends now; true: the table has changed, and KVM must be told. */
bool routes_set_pin(struct routes *r, unsigned pin, u64 address, u32 data);
/* A free GSI for an event's message, or -ENOSPC. */
int routes_add(struct routes *r, u64 address, u32 data);
void routes_remove(struct routes *r, unsigned gsi);
void routes_build(const struct routes *r, struct routes_image *image);
