/*
 * Host bridge in the manner of the Q35's memory controller hub (Intel 316966): the way from ports
 * and from memory to the configuration space of bus 0, and a function of its own in slot 0.
 *
 * Ports (PCI 3.0 3.2.2.3.2): a dword at 0xcf8 selects, 0xcfc to 0xcff are the four bytes selected.
 * Narrower accesses to 0xcf8 are not the bridge's; the byte at 0xcf9 is the chipset's reset
 * control register, which therefore lives here.
 *
 * The PAM registers, by which firmware has memory below 1 MiB come from RAM instead of ROM, can be
 * written and read back and do nothing: it always comes from RAM, where the machine has put a copy
 * of the ROM. There is no system management RAM to open.
 *
 * Memory: PCIEXBAR says where 256 MiB show all of configuration space, 4 KiB a function (PCI
 * Express 7.2.2), if anywhere. There is one bus; the others read as ones.
 */
#include "device/pci/q35.h"
#include "base/bits.h"
#include "base/log.h"
#include "bus/pci.h"
#include <errno.h>

/* Registers */

enum { WINDOW_ADDRESS, WINDOW_DATA };

#define ADDRESS_ENABLE BIT(31)
#define ADDRESS_BUS(a) bits(a, 23, 16)
#define ADDRESS_DEV(a) ((unsigned)bits(a, 15, 11))
#define ADDRESS_FN(a)  bits(a, 10, 8)
#define ADDRESS_BITS   0x80fffffcu

#define ECAM_BUS(o) bits(o, 27, 20)
#define ECAM_DEV(o) ((unsigned)bits(o, 19, 15))
#define ECAM_FN(o)  bits(o, 14, 12)
#define ECAM_REG(o) ((unsigned)bits(o, 11, 0))

/* 256 MiB is the only length offered: bits 2:1, which choose others, are zero. */
#define PCIEXBAR_BASE  0x0000007ff0000000ull
#define PCIEXBAR_RESET 0x00000000e0000000ull

/* PAM0 to PAM6 (registers 90h to 96h): two bits for whether a piece is read from RAM and written to
 * it. SMRAM (9Dh): C_BASE_SEG, the only value that there is. */
#define PAM0_WRITABLE 0x30u /* HIENABLE: 0xf0000-0xfffff */
#define PAM_WRITABLE  0x33u /* LOENABLE and HIENABLE: two pieces of 16 KiB each */
#define PAM_COUNT     7u
#define SMRAM_RESET   0x02u /* segment 0xa0000, closed */

#define RESET_OFFSET 1u /* in the window at 0xcf8 */
#define RST_CPU	     BIT(2)
#define RST_STORED   (BIT(1) | BIT(3))

/* State */

struct q35 {
	struct device dev;
	struct pci_function fn;
	u32 address;
	u8 reset_control;
	u64 ecam; /* while it is shown */
	bool shown;
};

static struct q35 *q35_of(struct device *d) { return container_of(d, struct q35, dev); }

/* Helpers */

static struct pci_bus *pci_of(struct q35 *q) { return q->dev.env.pci; }

/* The slot addressed; one that does not exist for other buses and functions. */
static unsigned slot_of(u64 bus, unsigned dev, u64 fn) { return bus || fn ? PCI_SLOTS : dev; }

static u64 ecam_read(void *ctx, u64 offset, unsigned size)
{
	struct q35 *q = ctx;
	unsigned slot = slot_of(ECAM_BUS(offset), ECAM_DEV(offset), ECAM_FN(offset));

	if (size == 8)
		return ecam_read(ctx, offset, 4) | ecam_read(ctx, offset + 4, 4) << 32;
	return pci_config_read(pci_of(q), slot, ECAM_REG(offset), size);
}

static void ecam_write(void *ctx, u64 offset, unsigned size, u64 value)
{
	struct q35 *q = ctx;
	unsigned slot = slot_of(ECAM_BUS(offset), ECAM_DEV(offset), ECAM_FN(offset));

	if (size == 8) {
		ecam_write(ctx, offset, 4, (u32)value);
		ecam_write(ctx, offset + 4, 4, value >> 32);
		return;
	}
	pci_config_write(pci_of(q), slot, ECAM_REG(offset), size, (u32)value);
}

static const struct bus_handler ecam_handler = { ecam_read, ecam_write };

static void hide_ecam(struct q35 *q)
{
	if (q->shown)
		bus_remove(pci_of(q)->bus, BUS_MMIO, q->ecam);
	q->shown = false;
}

static void show_ecam(struct q35 *q)
{
	u64 reg = get_le64(q->fn.config + Q35_PCIEXBAR);
	struct err err = { 0 };

	hide_ecam(q);
	q->ecam = reg & PCIEXBAR_BASE;
	if (!(reg & Q35_ECAM_ON))
		return;
	if (bus_add(pci_of(q)->bus, BUS_MMIO, q->ecam, Q35_ECAM_LEN, &ecam_handler, q, q->dev.name,
		    &err))
		guest_err(q->dev.name, "PCIEXBAR: %s", err.text);
	else
		q->shown = true;
}

static void config_wrote(void *ctx, unsigned at, unsigned size)
{
	if (at < Q35_PCIEXBAR + 8 && Q35_PCIEXBAR < at + size)
		show_ecam(ctx);
}

/* Reads */

static u64 q35_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct q35 *q = q35_of(d);
	u32 a = q->address;

	if (window == WINDOW_ADDRESS) {
		if (size == 1 && offset == RESET_OFFSET)
			return q->reset_control;
		return size == 4 ? a : mask_bytes(size);
	}
	if (!(a & ADDRESS_ENABLE))
		return mask_bytes(size);
	return pci_config_read(pci_of(q), slot_of(ADDRESS_BUS(a), ADDRESS_DEV(a), ADDRESS_FN(a)),
		(a & 0xfc) + (unsigned)offset, size);
}

/* Writes */

static void write_reset(struct q35 *q, u8 v)
{
	bool rose = v & RST_CPU && !(q->reset_control & RST_CPU);

	q->reset_control = v & (RST_STORED | RST_CPU);
	if (rose && q->dev.env.reset)
		q->dev.env.reset(q->dev.env.machine);
}

static void q35_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct q35 *q = q35_of(d);
	u32 a = q->address;

	if (window == WINDOW_ADDRESS && size == 4)
		q->address = value & ADDRESS_BITS;
	else if (window == WINDOW_ADDRESS && size == 1 && offset == RESET_OFFSET)
		write_reset(q, (u8)value);
	else if (window == WINDOW_DATA && a & ADDRESS_ENABLE)
		pci_config_write(pci_of(q), slot_of(ADDRESS_BUS(a), ADDRESS_DEV(a), ADDRESS_FN(a)),
			(a & 0xfc) + (unsigned)offset, size, (u32)value);
}

/* Reset */

static void q35_reset(struct device *d)
{
	struct q35 *q = q35_of(d);

	q->address = q->reset_control = 0;
	pci_reset(&q->fn);
	show_ecam(q);
}

static void q35_loaded(struct device *d)
{
	struct q35 *q = q35_of(d);

	pci_loaded(&q->fn);
	show_ecam(q);
}

/* Init */

static int q35_init(struct device *d, struct err *err)
{
	static const struct pci_identity identity = {
		.vendor = 0x8086, .device = 0x29c0, .class = 0x060000, .revision = 2
	};
	static const struct pci_ops ops = { .config_wrote = config_wrote };
	struct q35 *q = q35_of(d);

	if (!d->env.pci)
		return err_set(err, -EINVAL, "no PCI bus");
	pci_init(&q->fn, d->name, &identity, &ops, q);
	put_le64(q->fn.config + Q35_PCIEXBAR, PCIEXBAR_RESET);
	put_le64(q->fn.writable + Q35_PCIEXBAR, PCIEXBAR_BASE | Q35_ECAM_ON);
	for (unsigned i = 0; i < PAM_COUNT; i++)
		q->fn.writable[Q35_PAM + i] = i ? PAM_WRITABLE : PAM0_WRITABLE;
	q->fn.config[Q35_SMRAM] = SMRAM_RESET;
	for (unsigned i = 0; i < PCI_LINKS; i++)
		d->env.pci->links[i] = d->env.lines[i];
	return pci_attach(d->env.pci, &q->fn, Q35_SLOT, err);
}

static void q35_fini(struct device *d)
{
	struct q35 *q = q35_of(d);

	hide_ecam(q);
	pci_detach(&q->fn);
}

/* Tables */

static const struct field q35_state[] = {
	FIELD_SUB(struct q35, fn, struct pci_function, pci_function_fields),
	FIELD(struct q35, address),
	FIELD(struct q35, reset_control),
	FIELD_END,
};

const struct device_class q35_class = {
	.name = "q35",
	.doc = "PCI host bridge, as the Q35's, with the reset control register",
	.size = sizeof(struct q35),
	.init = q35_init,
	.reset = q35_reset,
	.fini = q35_fini,
	.read = q35_read,
	.write = q35_write,
	.loaded = q35_loaded,
	.windows = { { BUS_PORT, 0xcf8, 4 }, { BUS_PORT, 0xcfc, 4 } },
	.state = q35_state,
};
