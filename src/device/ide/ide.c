/*
 * IDE controller as the PIIX3's function 1 (Intel 82371SB, 290550, chapters 2.3 and 3.3): two
 * channels at the ports and on the interrupt lines where PCs have had them since the AT, and a bus
 * master of 16 ports behind BAR 4. Timings can be set and do nothing. See ide_priv.h.
 *
 * lines[0] is IRQ14, lines[1] IRQ15.
 */
#include "base/bits.h"
#include "device/ide/ide_priv.h"
#include <errno.h>

/* Registers */

enum { WINDOW_PRIMARY, WINDOW_PRIMARY_CONTROL, WINDOW_SECONDARY, WINDOW_SECONDARY_CONTROL };

#define BAR	  4u
#define BAR_LEN	  16u
#define BAR_SHARE 8u

/* Configuration space, 2.3: each channel's timing, whose highest bit has it decode its ports. */
#define IDETIM(n)     (0x40u + 2 * (n))
#define IDETIM_DECODE 0x8000u
#define SIDETIM	      0x44u

/* Helpers */

static struct ide *ide_of(struct device *d) { return container_of(d, struct ide, dev); }

static bool decodes(const struct ide *ide, unsigned channel)
{
	return get_le16(ide->pci.config + IDETIM(channel)) & IDETIM_DECODE;
}

void ide_drive_lines(struct ide *ide)
{
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		const struct ide_channel *c = &ide->channels[i];

		irq_set(&ide->dev.env.lines[i], c->irq && !(c->control & IDE_CONTROL_OFF));
	}
}

/* Reads */

static u64 ide_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct ide *ide = ide_of(d);
	struct ide_channel *c = &ide->channels[window / 2];

	if (!decodes(ide, window / 2))
		return mask_bytes(size);
	return window & 1 ? ide_channel_status(c) : ide_channel_read(c, (unsigned)offset, size);
}

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	struct ide *ide = ctx;

	return ide_master_read(
		&ide->channels[offset / BAR_SHARE], (unsigned)(offset % BAR_SHARE), size);
}

/* Writes */

static void ide_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct ide *ide = ide_of(d);
	struct ide_channel *c = &ide->channels[window / 2];

	if (!decodes(ide, window / 2))
		return;
	if (window & 1)
		ide_channel_control(c, (u8)value);
	else
		ide_channel_write(c, (unsigned)offset, size, value);
	ide_drive_lines(ide);
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct ide *ide = ctx;

	ide_master_write(
		&ide->channels[offset / BAR_SHARE], (unsigned)(offset % BAR_SHARE), size, value);
	ide_drive_lines(ide);
}

/* A driver that becomes master of the bus only after it has started the transfer. */
static void config_wrote(void *ctx, unsigned at, unsigned size)
{
	struct ide *ide = ctx;

	for (unsigned i = 0; at <= PCI_COMMAND && at + size > PCI_COMMAND && i < IDE_CHANNELS; i++)
		ide_master_run(&ide->channels[i]);
	ide_drive_lines(ide);
}

/* Reset */

static void ide_reset(struct device *d)
{
	struct ide *ide = ide_of(d);

	for (unsigned i = 0; i < IDE_DRIVES; i++) {
		struct ide_drive *drive = &ide->channels[i / IDE_UNITS].drives[i % IDE_UNITS];

		drive->cd = ide->cds[i];
		drive->disk.serial = ide->serials[i];
	}
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		ide_channel_reset(&ide->channels[i]);
	pci_reset(&ide->pci);
	ide_drive_lines(ide);
}

static void ide_loaded(struct device *d)
{
	struct ide *ide = ide_of(d);

	pci_loaded(&ide->pci);
	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		ide_channel_loaded(&ide->channels[i]);
	ide_drive_lines(ide);
}

/* Init */

static void connect(struct ide *ide, unsigned i, void *ctx)
{
	struct ide_channel *c = &ide->channels[i / IDE_UNITS];
	struct ata_disk *disk = &c->drives[i % IDE_UNITS].disk;

	c->ide = ide;
	c->index = i / IDE_UNITS;
	disk->name = ide->dev.name;
	disk->ops = ctx ? ide->dev.env.disk : NULL;
	disk->ctx = ctx;
}

static int ide_init(struct device *d, struct err *err)
{
	static const struct pci_identity who = {
		.vendor = 0x8086, .device = 0x7010, .class = 0x010180
	};
	static const struct pci_ops ops = { bar_read, bar_write, NULL, config_wrote };
	struct ide *ide = ide_of(d);

	if (!d->env.disk || !d->env.pci || !d->env.memory)
		return err_set(err, -EINVAL, "no disk, PCI bus or memory");
	connect(ide, 0, d->env.disk_ctx);
	for (unsigned i = 1; i < IDE_DRIVES; i++)
		connect(ide, i, d->env.disk_more[i - 1]);
	pci_init(&ide->pci, d->name, &who, &ops, ide);
	pci_add_bar(&ide->pci, BAR, PCI_BAR_IO, BAR_LEN);
	for (unsigned i = 0; i < IDE_CHANNELS; i++) {
		put_le16(ide->pci.config + IDETIM(i), IDETIM_DECODE);
		put_le16(ide->pci.writable + IDETIM(i), 0xf3ff);
	}
	ide->pci.writable[SIDETIM] = 0xff;
	return pci_attach(d->env.pci, &ide->pci, d->env.slot, err);
}

static void ide_fini(struct device *d)
{
	struct ide *ide = ide_of(d);

	for (unsigned i = 0; i < IDE_CHANNELS; i++)
		ide_channel_settle(&ide->channels[i]);
	pci_detach(&ide->pci);
}

/* Tables */

#define DRIVE(n)                                                               \
	{ "serial" #n, "serial number of drive " #n ", 20 bytes", PROP_STRING, \
		offsetof(struct ide, serials[n]), 0, 0, 0 },                   \
	{                                                                      \
		"cd" #n, "drive " #n " is a CD-ROM drive", PROP_BOOL,          \
			offsetof(struct ide, cds[n]), 0, 0, 1                  \
	}

static const struct prop ide_props[] = {
	DRIVE(0),
	DRIVE(1),
	DRIVE(2),
	DRIVE(3),
	PROP_END,
};

static const struct field ide_state[] = {
	FIELD_SUB(struct ide, pci, struct pci_function, pci_function_fields),
	FIELD_SUB(struct ide, channels, struct ide_channel, ide_channel_fields),
	FIELD_END,
};

const struct device_class ide_class = {
	.name = "ide",
	.doc = "IDE controller, as the PIIX3's, with ATA disks and CD-ROM drives",
	.size = sizeof(struct ide),
	.init = ide_init,
	.reset = ide_reset,
	.fini = ide_fini,
	.read = ide_read,
	.write = ide_write,
	.loaded = ide_loaded,
	.windows = { { BUS_PORT, 0x1f0, 8 }, { BUS_PORT, 0x3f6, 1 }, { BUS_PORT, 0x170, 8 },
		{ BUS_PORT, 0x376, 1 } },
	.props = ide_props,
	.state = ide_state,
};
