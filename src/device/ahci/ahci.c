/*
 * Serial ATA host bus adapter (Serial ATA AHCI 1.3.1) as in Intel's ICH9 (316972, chapter 15): six
 * ports in 4 KiB of memory behind BAR 5, native command queues of 32, messages (MSI) or a wire. It
 * has no port multipliers, enclosures or command coalescing; the link's power states are not
 * modelled, and DMA Setup frames, which only tell of a transfer that is about to happen, do not
 * appear in memory. See ahci_priv.h for who does what.
 */
#include "base/log.h"
#include "device/ahci/ahci_priv.h"
#include <errno.h>

/* Registers of the adapter, 3.1 */
enum {
	CAP = 0x00, /* 3.1.1: what it can do */
	GHC = 0x04, /* 3.1.2: global control */
	IS = 0x08,  /* 3.1.3: ports that interrupt */
	PI = 0x0c,  /* 3.1.4: ports that there are */
	VS = 0x10,  /* 3.1.5: version */
	PORTS = 0x100,
};

#define PORT_LEN   0x80u
#define BAR	   5u
#define BAR_LEN	   4096u
#define VERSION	   0x00010301u
#define PORTS_BITS (BIT(AHCI_PORTS) - 1)
#define GHC_RESET  BIT(0)
#define GHC_ENABLE BIT(1)
#define GHC_AHCI   BIT(31)
/* 64-bit addresses, queued commands, override, only AHCI, third generation, 32 slots */
#define CAP_VALUE                                                                   \
	(BIT(31) | BIT(30) | BIT(24) | 3u << 20 | BIT(18) | (AHCI_SLOTS - 1) << 8 | \
		(AHCI_PORTS - 1))

/* Configuration space, ICH9 15.1: what the ports are, and which are enabled */
#define CONFIG_MAP   0x90u
#define CONFIG_PORTS 0x92u
#define MAP_AHCI     0x40u

/* Helpers */

/* 3.1.2, 3.1.3: a wire is high while a port's bit is set, a message is sent when a cause is new. */
void ahci_drive(struct ahci *h) { pci_intx(&h->pci, h->is && h->ghc & GHC_ENABLE); }

void ahci_interrupt(struct ahci_port *p, u32 what)
{
	struct ahci *h = p->hba;

	p->is |= what;
	if (!(ahci_port_causes(p) & p->ie))
		return;
	h->is |= BIT(p->index);
	if (h->ghc & GHC_ENABLE)
		pci_notify(&h->pci, 0);
	ahci_drive(h);
}

/* 10.4.3 */
static void reset_adapter(struct ahci *h)
{
	h->ghc = GHC_AHCI;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_port_reset(&h->ports[i]);
	h->is = 0;
	ahci_drive(h);
}

/* Reads */

static u32 read_register(struct ahci *h, u64 at)
{
	if (at >= PORTS)
		return at < PORTS + AHCI_PORTS * PORT_LEN
			       ? ahci_port_read(&h->ports[(at - PORTS) / PORT_LEN],
					 (unsigned)(at % PORT_LEN))
			       : 0;
	switch (at) {
	case CAP: return CAP_VALUE;
	case GHC: return h->ghc;
	case IS: return h->is;
	case PI: return PORTS_BITS;
	case VS: return VERSION;
	default: return 0;
	}
}

/* Registers are dwords; pieces of them may be read. */
static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	u64 at = offset & ~3ull, both = read_register(ctx, at);

	if ((offset & 3) + size > 4)
		both |= (u64)read_register(ctx, at + 4) << 32;
	return both >> 8 * (offset & 3);
}

/* Writes */

static void write_ghc(struct ahci *h, u32 value)
{
	if (value & GHC_RESET) {
		reset_adapter(h);
		return;
	}
	h->ghc = GHC_AHCI | (value & GHC_ENABLE);
	if (h->is && value & GHC_ENABLE)
		pci_notify(&h->pci, 0);
}

/* A port whose causes are still there sets its bit again. */
static void write_is(struct ahci *h, u32 value)
{
	h->is &= ~value;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		if (value & BIT(i))
			ahci_interrupt(&h->ports[i], 0);
}

static void write_register(struct ahci *h, u64 at, u32 value)
{
	if (at >= PORTS + AHCI_PORTS * PORT_LEN)
		return;
	if (at >= PORTS)
		ahci_port_write(
			&h->ports[(at - PORTS) / PORT_LEN], (unsigned)(at % PORT_LEN), value);
	else if (at == GHC)
		write_ghc(h, value);
	else if (at == IS)
		write_is(h, value);
	ahci_drive(h);
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct ahci *h = ctx;

	if (size < 4 || offset & (size - 1)) {
		guest_err(h->dev.name, "%u-byte write at 0x%x", size, (unsigned)offset);
		return;
	}
	write_register(h, offset, (u32)value);
	if (size == 8)
		write_register(h, offset + 4, (u32)(value >> 32));
}

/* A driver that becomes master of the bus only after its commands. */
static void config_wrote(void *ctx, unsigned at, unsigned size)
{
	struct ahci *h = ctx;

	for (unsigned i = 0; at <= PCI_COMMAND && at + size > PCI_COMMAND && i < AHCI_PORTS; i++)
		ahci_command_run(&h->ports[i]);
}

/* Reset */

static void ahci_reset(struct device *d)
{
	struct ahci *h = ahci_of(d);

	for (unsigned i = 0; i < AHCI_PORTS; i++)
		h->ports[i].disk.serial = h->serials[i];
	reset_adapter(h);
	pci_reset(&h->pci);
}

static void ahci_loaded(struct device *d)
{
	struct ahci *h = ahci_of(d);

	pci_loaded(&h->pci);
	h->ghc = GHC_AHCI | (h->ghc & GHC_ENABLE);
	h->is &= PORTS_BITS;
	for (unsigned i = 0; i < AHCI_PORTS; i++)
		ahci_port_loaded(&h->ports[i]);
	ahci_drive(h);
}

/* Init */

static void connect(struct ahci *h, unsigned i, void *ctx)
{
	struct ahci_port *p = &h->ports[i];

	p->hba = h;
	p->index = i;
	p->disk.name = h->dev.name;
	p->disk.sata = true;
	p->disk.ops = ctx ? h->dev.env.disk : NULL;
	p->disk.ctx = ctx;
}

static int ahci_init(struct device *d, struct err *err)
{
	static const struct pci_identity who = { .vendor = 0x8086,
		.device = 0x2922,
		.subvendor = 0x8086,
		.subdevice = 0x2922,
		.class = 0x010601,
		.revision = 2,
		.intx = true };
	static const struct pci_ops ops = { bar_read, bar_write, NULL, config_wrote };
	struct ahci *h = ahci_of(d);

	if (!d->env.disk || !d->env.pci || !d->env.memory)
		return err_set(err, -EINVAL, "no disk, PCI bus or memory");
	connect(h, 0, d->env.disk_ctx);
	for (unsigned i = 1; i < AHCI_PORTS; i++)
		connect(h, i, d->env.disk_more[i - 1]);
	pci_init(&h->pci, d->name, &who, &ops, h);
	pci_add_bar(&h->pci, BAR, PCI_BAR_MEMORY, BAR_LEN);
	pci_add_msi(&h->pci, 1);
	h->pci.config[CONFIG_MAP] = MAP_AHCI;
	h->pci.writable[CONFIG_PORTS] = PORTS_BITS;
	return pci_attach(d->env.pci, &h->pci, d->env.slot, err);
}

static void ahci_fini(struct device *d)
{
	struct ahci *h = ahci_of(d);

	for (unsigned i = 0; i < AHCI_PORTS; i++) {
		h->ports[i].halted = true;
		ahci_command_settle(&h->ports[i]);
		ahci_command_free(&h->ports[i]);
	}
	pci_detach(&h->pci);
}

/* Tables */

#define SERIAL(n)                                                                               \
	{                                                                                       \
		"serial" #n, "serial number of the disk at port " #n ", 20 bytes", PROP_STRING, \
			offsetof(struct ahci, serials[n]), 0, 0, 0                              \
	}

static const struct prop ahci_props[] = {
	SERIAL(0),
	SERIAL(1),
	SERIAL(2),
	SERIAL(3),
	SERIAL(4),
	SERIAL(5),
	PROP_END,
};

static const struct field ahci_state[] = {
	FIELD_SUB(struct ahci, pci, struct pci_function, pci_function_fields),
	FIELD(struct ahci, ghc),
	FIELD(struct ahci, is),
	FIELD_SUB(struct ahci, ports, struct ahci_port, ahci_port_fields),
	FIELD_END,
};

const struct device_class ahci_class = {
	.name = "ahci",
	.doc = "AHCI adapter, as the ICH9's, with SATA disks",
	.size = sizeof(struct ahci),
	.init = ahci_init,
	.reset = ahci_reset,
	.fini = ahci_fini,
	.loaded = ahci_loaded,
	.props = ahci_props,
	.state = ahci_state,
};
