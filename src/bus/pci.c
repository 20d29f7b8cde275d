/* See pci.h: describing a function, and accesses to its configuration space. */
#include "bus/pci.h"
#include "base/bits.h"
#include "base/must.h"
#include "bus/pci_priv.h"
#include <errno.h>

/* 3.0 6.2.2: all that a function without memory-write-and-invalidate, parity and so on has. */
#define COMMAND_WRITABLE \
	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define CAPABILITIES_START 0x40u

void pci_bus_init(struct pci_bus *b, struct bus *bus, struct msi_sink msi)
{
	*b = (struct pci_bus){ .bus = bus, .msi = msi };
}

/* ---- describing a function ---- */

void pci_init(struct pci_function *fn, const char *name, const struct pci_identity *who,
	const struct pci_ops *ops, void *ctx)
{
	*fn = (struct pci_function){
		.name = name, .ops = ops, .ctx = ctx, .end = CAPABILITIES_START
	};
	put_le16(fn->config + PCI_VENDOR, who->vendor);
	put_le16(fn->config + PCI_DEVICE, who->device);
	put_le16(fn->config + PCI_SUBVENDOR, who->subvendor);
	put_le16(fn->config + PCI_SUBDEVICE, who->subdevice);
	put_le32(fn->config + PCI_REVISION, who->class << 8 | who->revision);
	put_le16(fn->writable + PCI_COMMAND, COMMAND_WRITABLE);
	if (who->intx) {
		fn->config[PCI_PIN] = 1;
		fn->writable[PCI_LINE] = 0xff;
	}
	fn->last = PCI_CAPABILITIES;
	for (unsigned i = 0; i < PCI_BARS; i++)
		fn->bars[i] = (struct pci_bar){ .fn = fn, .index = i };
}

/* 3.0 6.2.5.1: the low bits say what it is, the rest is an address of `size` alignment. */
void pci_add_bar(struct pci_function *fn, unsigned bar, enum pci_bar_kind kind, u64 size)
{
	unsigned at = PCI_BAR0 + 4 * bar;
	bool wide = kind == PCI_BAR_MEMORY64;

	must(bar + wide < PCI_BARS && size >= 16 && !(size & (size - 1)),
		"%s: BAR %u, 0x%llx bytes", fn->name, bar, (unsigned long long)size);
	fn->bars[bar].kind = kind;
	fn->bars[bar].size = size;
	fn->config[at] = kind == PCI_BAR_IO ? 1 : wide ? 0xc : 0; /* 64-bit: prefetchable */
	put_le32(fn->writable + at, (u32) ~(size - 1));
	if (wide)
		put_le32(fn->writable + at + 4, (u32)(~(size - 1) >> 32));
}

void pci_add_doorbells(struct pci_function *fn, unsigned bar, u64 first, u32 step, unsigned count)
{
	fn->bars[bar].doorbells = (struct pci_doorbells){ first, step, count };
}

unsigned pci_add_capability(struct pci_function *fn, enum pci_capability id, unsigned len)
{
	unsigned at = fn->end;

	must(range_ok(at, len, PCI_CONFIG_SIZE), "%s: no room for capability %u", fn->name, id);
	fn->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
	fn->config[fn->last] = (u8)at;
	fn->config[at] = (u8)id;
	fn->last = at + 1;
	fn->end = (unsigned)align_up(at + len, 4);
	return at;
}

static unsigned free_slot(const struct pci_bus *b)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && b->slots[slot])
		slot++;
	return slot;
}

int pci_attach(struct pci_bus *b, struct pci_function *fn, unsigned slot, struct err *err)
{
	if (slot == PCI_ANY_SLOT)
		slot = free_slot(b);
	if (slot >= PCI_SLOTS)
		return err_set(err, -ENOSPC, "%s: no PCI slot is free", fn->name);
	if (b->slots[slot])
		return err_set(err, -EBUSY, "%s: PCI slot %u holds %s", fn->name, slot,
			b->slots[slot]->name);
	memcpy(fn->initial, fn->config, sizeof(fn->initial));
	fn->bus = b;
	fn->slot = slot;
	b->slots[slot] = fn;
	pci_mask_entries(fn);
	return 0;
}

void pci_detach(struct pci_function *fn)
{
	if (!fn->bus)
		return;
	pci_reset(fn);
	fn->bus->slots[fn->slot] = NULL;
	fn->bus = NULL;
}

void pci_reset(struct pci_function *fn)
{
	memcpy(fn->config, fn->initial, sizeof(fn->config));
	fn->pending = 0;
	fn->intx = false;
	pci_mask_entries(fn);
	if (fn->bus) {
		pci_drive(fn);
		pci_remap(fn->bus);
	}
}

/* ---- state ---- */

const struct field pci_function_fields[] = {
	FIELD_BLOB(struct pci_function, config),
	FIELD_ARRAY(struct pci_function, entries, u32),
	FIELD(struct pci_function, pending),
	FIELD(struct pci_function, intx),
	FIELD_END,
};

void pci_loaded(struct pci_function *fn)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		u8 free_bits = fn->writable[i] | fn->clears[i];

		fn->config[i] = (u8)((fn->initial[i] & ~free_bits) | (fn->config[i] & free_bits));
	}
	if (!fn->bus)
		return;
	pci_drive(fn);
	pci_remap(fn->bus);
	pci_flush_messages(fn);
}

/* ---- a function at work ---- */

bool pci_is_master(const struct pci_function *fn) { return pci_command(fn) & PCI_COMMAND_MASTER; }

void pci_drive(struct pci_function *fn)
{
	struct pci_bus *b = fn->bus;
	unsigned link = pci_link(fn->slot, 1);
	bool level =
		fn->intx && !(pci_command(fn) & PCI_COMMAND_INTX_DISABLE) && !pci_has_messages(fn);

	fn->config[PCI_STATUS] = (u8)((fn->config[PCI_STATUS] & ~PCI_STATUS_INTX) |
				      (fn->intx ? PCI_STATUS_INTX : 0));
	b->asserted[link] =
		level ? b->asserted[link] | BIT(fn->slot) : b->asserted[link] & ~BIT(fn->slot);
	irq_set(&b->links[link], b->asserted[link]);
}

void pci_intx(struct pci_function *fn, bool level)
{
	if (fn->intx == level || !fn->bus)
		return;
	fn->intx = level;
	pci_drive(fn);
}

/* ---- configuration accesses ---- */

u32 pci_config_read(struct pci_bus *b, unsigned slot, unsigned at, unsigned size)
{
	struct pci_function *fn = slot < PCI_SLOTS ? b->slots[slot] : NULL;
	u32 value = 0;

	if (!fn || !range_ok(at, size, PCI_CONFIG_SIZE))
		return (u32)mask_bytes(size);
	if (fn->ops && fn->ops->config_reads)
		fn->ops->config_reads(fn->ctx, at, size);
	memcpy(&value, fn->config + at, size);
	return value;
}

static bool overlaps(unsigned at, unsigned size, unsigned from, unsigned to)
{
	return at < to && from < at + size;
}

void pci_config_write(struct pci_bus *b, unsigned slot, unsigned at, unsigned size, u32 value)
{
	struct pci_function *fn = slot < PCI_SLOTS ? b->slots[slot] : NULL;

	if (!fn || !range_ok(at, size, PCI_CONFIG_SIZE))
		return;
	for (unsigned i = 0; i < size; i++) {
		u8 *to = &fn->config[at + i], byte = (u8)(value >> 8 * i);
		u8 writable = fn->writable[at + i];

		*to = (u8)((*to & ~writable) | (byte & writable));
		*to &= (u8) ~(byte & fn->clears[at + i]);
	}
	if (overlaps(at, size, PCI_COMMAND, PCI_COMMAND + 2) ||
		overlaps(at, size, PCI_BAR0, PCI_BAR0 + 4 * PCI_BARS))
		pci_remap(b);
	pci_flush_messages(fn);
	pci_drive(fn);
	if (fn->ops && fn->ops->config_wrote)
		fn->ops->config_wrote(fn->ctx, at, size);
}
