/* See hotplug.h, which describes the registers: there is no document but that. */
#include "device/pci/hotplug.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"

enum { CAME = 0, LEAVE = 4, EJECT = 8 };

struct pci_hotplug {
	struct device dev;
	u32 came, leave; /* a bit for each slot */
};

static struct pci_hotplug *hotplug_of(struct device *d)
{
	return container_of(d, struct pci_hotplug, dev);
}

static void drive(struct pci_hotplug *h) { irq_set(&h->dev.env.lines[0], h->came | h->leave); }

static u32 slot_bit(unsigned slot)
{
	must(slot >= PCI_HOTPLUG_FIRST && slot < PCI_SLOTS, "slot %u", slot);
	return BIT(slot);
}

void pci_hotplug_came(struct device *d, unsigned slot)
{
	hotplug_of(d)->came |= slot_bit(slot);
	drive(hotplug_of(d));
}

void pci_hotplug_leave(struct device *d, unsigned slot)
{
	hotplug_of(d)->leave |= slot_bit(slot);
	drive(hotplug_of(d));
}

void pci_hotplug_gone(struct device *d, unsigned slot)
{
	struct pci_hotplug *h = hotplug_of(d);

	h->came &= ~slot_bit(slot);
	h->leave &= ~slot_bit(slot);
	if (!(h->came | h->leave))
		drive(h);
}

/* ---- reads ---- */

static u64 hotplug_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	const struct pci_hotplug *h = hotplug_of(d);
	u8 image[PCI_HOTPLUG_LEN] = { 0 };
	u64 value = 0;

	put_le32(image + CAME, h->came);
	put_le32(image + LEAVE, h->leave);
	if (range_ok(offset, size, sizeof(image)))
		memcpy(&value, image + offset, size);
	return value;
}

/* ---- writes ---- */

static void eject(struct pci_hotplug *h, u32 slots)
{
	for (unsigned slot = PCI_HOTPLUG_FIRST; slot < PCI_SLOTS; slot++) {
		if (!(slots & BIT(slot)))
			continue;
		pci_hotplug_gone(&h->dev, slot);
		if (h->dev.env.eject)
			h->dev.env.eject(h->dev.env.machine, slot);
	}
}

/* The registers are written as a whole, as the methods do. */
static void hotplug_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct pci_hotplug *h = hotplug_of(d);

	if (size != 4 || offset % 4) {
		guest_err(d->name, "%u-byte write to register %u", size, (unsigned)offset);
		return;
	}
	switch (offset) {
	case CAME: h->came &= ~(u32)value; break;
	case LEAVE: h->leave &= ~(u32)value; break;
	case EJECT: eject(h, (u32)value); return;
	default: return;
	}
	if (!(h->came | h->leave))
		drive(h);
}

/* ---- reset, init, tables ---- */

static void hotplug_reset(struct device *d)
{
	struct pci_hotplug *h = hotplug_of(d);

	h->came = h->leave = 0;
	drive(h);
}

static void hotplug_loaded(struct device *d)
{
	struct pci_hotplug *h = hotplug_of(d);

	h->came &= PCI_HOTPLUG_SLOTS;
	h->leave &= PCI_HOTPLUG_SLOTS;
	drive(h);
}

static const struct field hotplug_state[] = {
	FIELD(struct pci_hotplug, came),
	FIELD(struct pci_hotplug, leave),
	FIELD_END,
};

const struct device_class pci_hotplug_class = {
	.name = "pci_hotplug",
	.doc = "slots whose functions come and go",
	.size = sizeof(struct pci_hotplug),
	.reset = hotplug_reset,
	.read = hotplug_read,
	.write = hotplug_write,
	.loaded = hotplug_loaded,
	.windows = { { BUS_PORT, PCI_HOTPLUG_BASE, PCI_HOTPLUG_LEN } },
	.state = hotplug_state,
};
