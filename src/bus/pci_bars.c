/* BARs as windows on the machine's bus (see pci.h), and the addresses that firmware gives them. */
#include "base/bits.h"
#include "base/log.h"
#include "bus/pci_priv.h"

static u64 bar_read(void *ctx, u64 offset, unsigned size)
{
	struct pci_bar *bar = ctx;
	struct pci_function *fn = bar->fn;
	u64 value;

	if (pci_msix_read(fn, bar->index, offset, size, &value))
		return value;
	return fn->ops && fn->ops->read ? fn->ops->read(fn->ctx, bar->index, offset, size)
					: mask_bytes(size);
}

static void bar_write(void *ctx, u64 offset, unsigned size, u64 value)
{
	struct pci_bar *bar = ctx;
	struct pci_function *fn = bar->fn;

	if (!pci_msix_write(fn, bar->index, offset, size, value) && fn->ops && fn->ops->write)
		fn->ops->write(fn->ctx, bar->index, offset, size, value);
}

static const struct bus_handler bar_handler = { bar_read, bar_write };

static enum bus_space space_of(const struct pci_bar *bar)
{
	return bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
}

static u64 base_of(const struct pci_bar *bar)
{
	const u8 *reg = bar->fn->config + PCI_BAR0 + 4 * bar->index;
	u64 base = get_le32(reg);

	if (bar->kind == PCI_BAR_MEMORY64)
		base |= (u64)get_le32(reg + 4) << 32;
	return base & ~(bar->size - 1);
}

static void unmap(struct pci_bus *b, struct pci_bar *bar)
{
	if (bar->mapped)
		bus_remove(b->bus, space_of(bar), bar->at);
	bar->mapped = false;
}

/* An address of 0 is none: that is how BARs come out of reset. */
static void map(struct pci_bus *b, struct pci_bar *bar)
{
	u16 enabled = bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	u64 base = base_of(bar);
	struct err err = { 0 };

	if (bar->kind == PCI_BAR_NONE || !(pci_command(bar->fn) & enabled) || !base)
		return;
	if (bus_add(b->bus, space_of(bar), base, bar->size, &bar_handler, bar, bar->fn->name,
		    &err)) {
		guest_err(bar->fn->name, "BAR %u: %s", bar->index, err.text);
		return;
	}
	bar->at = base;
	bar->mapped = true;
}

static void each(struct pci_bus *b, void (*fn)(struct pci_bus *, struct pci_bar *))
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		for (unsigned i = 0; b->slots[slot] && i < PCI_BARS; i++)
			fn(b, &b->slots[slot]->bars[i]);
}

void pci_remap(struct pci_bus *b)
{
	each(b, unmap);
	each(b, map);
	if (b->moved)
		b->moved(b->moved_ctx);
}

void pci_each_doorbell(const struct pci_bus *b, void (*fn)(void *ctx, u64 at), void *ctx)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		for (unsigned i = 0; b->slots[slot] && i < PCI_BARS; i++) {
			const struct pci_bar *bar = &b->slots[slot]->bars[i];

			for (unsigned n = 0; bar->mapped && n < bar->doorbells.count; n++)
				fn(ctx, bar->at + bar->doorbells.first +
						(u64)n * bar->doorbells.step);
		}
}

/* ---- what firmware does ---- */

/* Takes the next `size` bytes of a window, naturally aligned; 0 when they are not there. */
static u64 take(struct pci_window *w, u64 size)
{
	u64 base, end = w->base + w->len;

	if (!w->len || !add_ok(w->base, size - 1, &base))
		return 0;
	base = align_down(base, size);
	if (base > end || size > end - base)
		return 0;
	w->base = base + size;
	w->len = end - w->base;
	return base;
}

static u64 take_memory(struct pci_map *left, const struct pci_bar *bar)
{
	u64 at = take(&left->low[0], bar->size);

	if (!at)
		at = take(&left->low[1], bar->size);
	return at || bar->kind != PCI_BAR_MEMORY64 ? at : take(&left->high, bar->size);
}

static void assign(struct pci_bus *b, struct pci_map *left, struct pci_bar *bar)
{
	unsigned reg = PCI_BAR0 + 4 * bar->index, slot = bar->fn->slot;

	if (bar->kind == PCI_BAR_NONE)
		return;
	u64 at = bar->kind == PCI_BAR_IO ? take(&left->io, bar->size) : take_memory(left, bar);
	if (!at)
		log_warn(bar->fn->name, "no room for BAR %u, 0x%llx bytes", bar->index,
			(unsigned long long)bar->size);
	pci_config_write(b, slot, reg, 4, (u32)at);
	if (bar->kind == PCI_BAR_MEMORY64)
		pci_config_write(b, slot, reg + 4, 4, (u32)(at >> 32));
}

void pci_assign(struct pci_bus *b, const struct pci_map *map)
{
	struct pci_map left = *map;

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *fn = b->slots[slot];

		if (!fn)
			continue;
		for (unsigned i = 0; i < PCI_BARS; i++)
			assign(b, &left, &fn->bars[i]);
		pci_config_write(b, slot, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
		pci_config_write(b, slot, PCI_LINE, 1, map->first_pin + pci_link(slot, 1));
	}
}
