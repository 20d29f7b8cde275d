/*
 * The bus master (82371SB 3.3; SFF-8038i): a table of regions, each an even address and a length
 * of up to 64 KiB, the last one marked. A command's data goes to the regions, or comes from them,
 * in order, when the drive has a command for it and the driver has started the master.
 *
 * Where a transfer has ended is what the two low status bits tell: active and interrupt, the
 * regions are longer; interrupt alone, they are as long; neither, they are too short.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/ide/ide_priv.h"

/* BMICX, BMISX and BMIDTPX in 82371SB's words */
enum { COMMAND = 0, STATUS = 2, TABLE = 4 };

#define COMMAND_START BIT(0)		/* SSBM */
#define COMMAND_IN    BIT(3)		/* RWCON: to memory */
#define STATUS_ACTIVE BIT(0)		/* BMIDEA */
#define STATUS_ERROR  BIT(1)		/* IDE DMA Error */
#define STATUS_IRQ    BIT(2)		/* IDEINTS */
#define STATUS_DMA    (BIT(5) | BIT(6)) /* DMA0CAP, DMA1CAP: the driver's own notes */

/* A physical region descriptor: address, length, and EOT in the last one */
#define REGION_LEN  8u
#define REGION_LAST BIT(31)
#define REGIONS_MAX (64 * KiB / REGION_LEN) /* a table does not cross 64 KiB */

/* Reads */

static u8 byte_at(const struct ide_channel *c, unsigned at)
{
	switch (at) {
	case COMMAND: return c->master;
	case STATUS: return c->master_status;
	case TABLE:
	case TABLE + 1:
	case TABLE + 2:
	case TABLE + 3: return (u8)(c->table >> 8 * (at - TABLE));
	default: return 0;
	}
}

u64 ide_master_read(struct ide_channel *c, unsigned at, unsigned size)
{
	u64 value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (u64)byte_at(c, at + i) << 8 * i;
	return value;
}

/* The transfer */

/* Collects the regions that hold `left` bytes; how much they hold beyond that is of no interest
 * but whether it is something. -1: they are too short, or not memory. */
static int collect(struct ide_channel *c, bool in)
{
	struct memory *m = c->ide->dev.env.memory;
	u64 left = c->left;
	bool last = false;

	dma_clear(&c->map);
	c->longer = false;
	for (unsigned i = 0; i < REGIONS_MAX && !last && left; i++) {
		u8 region[REGION_LEN];

		if (!memory_read(m, gpa(c->table + (u64)i * REGION_LEN), region, sizeof(region)))
			return -1;
		u64 len = get_le16(region + 4) & ~1u;
		len = len ? len : 64 * KiB;
		last = get_le32(region + 4) & REGION_LAST;
		if (!dma_add(&c->map, m, get_le32(region) & ~1u, min_u64(len, left), in))
			return -1;
		c->longer = !last || len > left;
		left -= min_u64(len, left);
	}
	return left ? -1 : 0;
}

static void from_buffer(struct ide_channel *c)
{
	dma_put(&c->map, c->ide->dev.env.memory, c->buffer, c->left);
	ide_finish(c, 0);
}

static void to_or_from_disk(struct ide_channel *c)
{
	ide_run(c,
		(struct ata_plan){ .action = c->from_disk ? ATA_READ : ATA_WRITE,
			.offset = c->offset,
			.len = c->left,
			.stable = c->stable },
		c->map.iov, c->map.count);
}

void ide_master_run(struct ide_channel *c)
{
	if (c->phase != IDE_MASTER || !(c->master & COMMAND_START) || !pci_is_master(&c->ide->pci))
		return;
	c->master_status |= STATUS_ACTIVE;
	if (!!(c->master & COMMAND_IN) == c->to_disk || collect(c, !c->to_disk)) {
		guest_err(
			c->ide->dev.name, "channel %u: no memory for the command's data", c->index);
		c->master_status = (u8)((c->master_status & ~STATUS_ACTIVE) | STATUS_ERROR);
		ide_finish(c, ATA_ERROR_ABRT);
		return;
	}
	if (c->from_disk || c->to_disk)
		to_or_from_disk(c);
	else
		from_buffer(c);
}

void ide_master_ends(struct ide_channel *c)
{
	if (c->from_disk)
		dma_written(&c->map, c->ide->dev.env.memory, c->left);
	if (!c->longer)
		c->master_status &= (u8)~STATUS_ACTIVE;
}

/* Writes */

/* Stopping waits for what is under way: memory is the driver's again. */
static void write_command(struct ide_channel *c, u8 v)
{
	bool was = c->master & COMMAND_START;

	c->master = v & (COMMAND_START | COMMAND_IN);
	if (was && !(v & COMMAND_START)) {
		if (c->by_master)
			ide_channel_settle(c);
		c->master_status &= (u8)~STATUS_ACTIVE;
	} else if (!was) {
		ide_master_run(c);
	}
}

/* The drive's interrupt line has risen. */
void ide_master_irq(struct ide_channel *c) { c->master_status |= STATUS_IRQ; }

void ide_master_write(struct ide_channel *c, unsigned at, unsigned size, u64 value)
{
	for (unsigned i = 0; i < size && at + i < TABLE + 4; i++) {
		u8 v = (u8)(value >> 8 * i);
		unsigned shift = 8 * (at + i - TABLE);

		if (at + i == COMMAND)
			write_command(c, v);
		else if (at + i == STATUS)
			c->master_status =
				(u8)((c->master_status & ~(v & (STATUS_ERROR | STATUS_IRQ)) &
					     ~STATUS_DMA) |
					(v & STATUS_DMA));
		else if (at + i >= TABLE)
			c->table = (c->table & ~(0xffu << shift)) | ((u32)v << shift);
		c->table &= ~3u;
	}
}

/* Reset */

void ide_master_reset(struct ide_channel *c)
{
	c->master = c->master_status = 0;
	c->table = 0;
}
