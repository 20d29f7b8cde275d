#include "cpu/kvm/routes.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>

#define DATA_LEVEL BIT(15) /* trigger mode, SDM 3A 10.11.2 */

static bool set(struct routes *r, unsigned gsi, bool used, u64 address, u32 data)
{
	bool same = r->gsi[gsi].used == used &&
		    (!used || (r->gsi[gsi].address == address && r->gsi[gsi].data == data));

	r->gsi[gsi].used = used;
	r->gsi[gsi].address = address;
	r->gsi[gsi].data = data;
	return !same;
}

bool routes_set_pin(struct routes *r, unsigned pin, u64 address, u32 data)
{
	must(pin < IRQCHIP_PINS, "pin %u", pin);
	return set(r, pin, data & DATA_LEVEL, address, data);
}

int routes_add(struct routes *r, u64 address, u32 data)
{
	for (unsigned gsi = IRQCHIP_PINS; gsi < ROUTES_MAX; gsi++)
		if (!r->gsi[gsi].used) {
			set(r, gsi, true, address, data);
			return (int)gsi;
		}
	return -ENOSPC;
}

void routes_remove(struct routes *r, unsigned gsi)
{
	must(gsi >= IRQCHIP_PINS && gsi < ROUTES_MAX, "GSI %u", gsi);
	set(r, gsi, false, 0, 0);
}

void routes_build(const struct routes *r, struct routes_image *image)
{
	*image = (struct routes_image){ 0 };
	for (unsigned gsi = 0; gsi < ROUTES_MAX; gsi++)
		if (r->gsi[gsi].used)
			image->entries[image->nr++] = (struct kvm_irq_routing_entry){
				.gsi = gsi,
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi.address_lo = (u32)r->gsi[gsi].address,
				.u.msi.address_hi = (u32)(r->gsi[gsi].address >> 32),
				.u.msi.data = r->gsi[gsi].data,
			};
}
