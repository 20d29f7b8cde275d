/*
 * A channel (ATA/ATAPI-6, T13/1410D: registers 7, commands 8, protocol 9): two drives see what is
 * written to the registers, the selected one answers, and does commands. What commands mean is
 * ata/ata.h's and atapi.c's business; here they get their data.
 *
 * Programmed transfers go through a buffer of one block: a sector, more with the multiple commands,
 * or what a packet's byte count allows. Where only one drive is on the channel, the other one's
 * registers read as zeros, as if the one that is there answered for it.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/ide/ide_priv.h"

/* Registers, by their offset */
enum { DATA, FEATURES, COUNT, LBA_LOW, LBA_MID, LBA_HIGH, DEVICE, COMMAND };
#define ERROR  FEATURES
#define STATUS COMMAND

#define DEVICE_ONES  0xa0u /* read as ones since there are no others than they */
#define DIAGNOSE     0x90u /* ATA/ATAPI-6 8.11 */
#define DEVICE_RESET 0x08u
#define PACKET	     0xa0u
#define IDENTIFY_CD  0xa1u
#define FEATURE_DMA  BIT(0) /* of a packet */

/* Interrupt reason, in the count register: what the driver is to do with packets */
#define REASON_COMMAND 0x01u
#define REASON_IN      0x02u
#define REASON_END     0x03u

static bool is_there(const struct ide_drive *d) { return d->disk.ops; }

static void set(struct ide_register *r, u8 v)
{
	r->before = r->now;
	r->now = v;
}

/* ---- ends ---- */

void ide_interrupt(struct ide_channel *c)
{
	c->irq = true;
	if (!(c->control & IDE_CONTROL_OFF))
		ide_master_irq(c);
	ide_drive_lines(c->ide);
}

void ide_end(struct ide_channel *c, u8 error)
{
	struct ide_drive *d = ide_selected(c);

	c->phase = IDE_IDLE;
	d->error = error;
	d->status = (u8)(ATA_READY | (error ? ATA_STATUS_ERR : 0));
	if (d->cd && c->command == PACKET)
		d->count.now = REASON_END;
	ide_interrupt(c);
}

/* ---- programmed transfers ---- */

static void show(struct ide_channel *c, enum ide_phase phase)
{
	struct ide_drive *d = ide_selected(c);

	c->phase = (u8)phase;
	/* An answer goes on in the buffer, of the disk each block is a new one. */
	c->at = phase == IDE_PACKET || c->from_disk || c->to_disk ? 0 : (u32)c->offset;
	c->end = c->at + c->len;
	d->status = ATA_READY | ATA_STATUS_DRQ;
	if (c->command != PACKET)
		return;
	d->count.now = phase == IDE_IN ? REASON_IN : phase == IDE_PACKET ? REASON_COMMAND : 0;
	d->lba[1].now = (u8)c->len;
	d->lba[2].now = (u8)(c->len >> 8);
}

void ide_run(struct ide_channel *c, struct ata_plan plan, const struct iovec *iov, unsigned iovcnt)
{
	struct ata_disk *disk = &ide_selected(c)->disk;

	c->phase = IDE_WORK;
	c->busy = true;
	c->job.disk = disk;
	c->job.plan = plan;
	c->job.iov = iov;
	c->job.iovcnt = iovcnt;
	ata_run(&c->job);
	disk->ops->kick(disk->ctx);
}

/* Moves the next block of the disk: into the buffer, or out of it. */
static void work(struct ide_channel *c)
{
	struct ide_drive *d = ide_selected(c);

	d->status = ATA_STATUS_BSY;
	c->own = (struct iovec){ c->buffer, c->len };
	ide_run(c,
		(struct ata_plan){ .action = c->from_disk ? ATA_READ : ATA_WRITE,
			.offset = c->offset,
			.len = c->len,
			.stable = c->stable },
		&c->own, 1);
}

static void next_block(struct ide_channel *c, bool first)
{
	if (!c->left) {
		ide_end(c, 0);
		return;
	}
	c->len = (u32)min_u64(c->left, c->block);
	if (c->from_disk) {
		work(c);
		return;
	}
	show(c, c->to_disk ? IDE_OUT : IDE_IN);
	/* The first block of a write is asked for without an interrupt. */
	if (!first || !c->to_disk)
		ide_interrupt(c);
}

static void buffer_is_through(struct ide_channel *c)
{
	if (c->phase == IDE_PACKET) {
		atapi_packet(c);
	} else if (c->phase == IDE_OUT) {
		work(c);
	} else {
		c->left -= c->len;
		c->offset += c->len;
		if (!c->left && c->command != PACKET) { /* no interrupt behind the last block */
			c->phase = IDE_IDLE;
			ide_selected(c)->status = ATA_READY;
			return;
		}
		next_block(c, false);
	}
}

void ide_finish(struct ide_channel *c, int error)
{
	struct ide_drive *d = ide_selected(c);

	if (c->by_master && !error)
		ide_master_ends(c);
	if (error && d->cd) { /* of the medium: unrecovered read error */
		d->sense = 3;
		d->sense_code = 0x11;
		error = 3 << 4;
	}
	if (error || c->by_master) {
		c->left = 0;
		ide_end(c, (u8)error);
	} else if (c->from_disk) {
		show(c, IDE_IN);
		ide_interrupt(c);
	} else {
		c->left -= c->len;
		c->offset += c->len;
		next_block(c, false);
	}
}

static void job_done(struct ata_job *job)
{
	struct ide_channel *c = container_of(job, struct ide_channel, job);

	c->busy = false;
	if (c->phase == IDE_WORK)
		ide_finish(c, job->plan.error);
	ide_drive_lines(c->ide);
}

void ide_transfer(struct ide_channel *c)
{
	struct ide_drive *d = ide_selected(c);

	if (!c->by_master) {
		next_block(c, true);
		return;
	}
	c->phase = IDE_MASTER;
	d->status = ATA_READY | ATA_STATUS_DRQ;
	if (c->command == PACKET)
		d->count.now = c->to_disk ? 0 : REASON_IN;
	ide_master_run(c);
}

/* ---- commands ---- */

void ide_signature(struct ide_drive *d)
{
	d->count.now = d->lba[0].now = 1;
	d->lba[1].now = d->cd ? 0x14 : 0;
	d->lba[2].now = d->cd ? 0xeb : 0;
	d->error = ATA_DIAGNOSTIC_GOOD;
	d->status = !is_there(d) ? 0 : d->cd ? 0 : ATA_READY;
}

static bool is_multiple(u8 op)
{
	return op == 0x29 || op == 0x39 || op == 0xc4 || op == 0xc5 || op == 0xce;
}

static struct ata_command command_of(const struct ide_channel *c, const struct ide_drive *d)
{
	struct ata_command a = { .op = c->command,
		.device = c->device,
		.features = (u16)(c->features.now | c->features.before << 8),
		.count = (u16)(d->count.now | d->count.before << 8) };

	for (unsigned i = 0; i < 3; i++)
		a.lba |= (u64)d->lba[i].now << 8 * i | (u64)d->lba[i].before << (24 + 8 * i);
	return a;
}

/* What the registers hold behind a command that has no data. */
static void put_results(struct ide_channel *c, const struct ata_plan *p)
{
	struct ide_drive *d = ide_selected(c);

	d->count = (struct ide_register){ (u8)p->count, (u8)(p->count >> 8) };
	for (unsigned i = 0; i < 3; i++)
		d->lba[i] = (struct ide_register){ (u8)(p->lba >> 8 * i),
			(u8)(p->lba >> (24 + 8 * i)) };
	if (c->command == 0xf8) /* a 28-bit address as a result */
		c->device = (u8)((c->device & 0xf0) | (p->lba >> 24 & 15));
}

static void flush(struct ide_channel *c)
{
	c->by_master = c->to_disk = true; /* one step, and then it is over */
	c->from_disk = c->longer = false;
	c->left = 0;
	ide_selected(c)->status = ATA_STATUS_BSY;
	ide_run(c, (struct ata_plan){ .action = ATA_FLUSH }, NULL, 0);
}

static void begin_transfer(struct ide_channel *c, const struct ata_plan *p)
{
	const struct ata_disk *disk = &ide_selected(c)->disk;

	c->from_disk = p->action == ATA_READ;
	c->to_disk = p->action == ATA_WRITE;
	c->by_master = p->transfer == ATA_DMA;
	c->stable = p->stable;
	c->offset = p->offset; /* 0 for an answer */
	c->left = p->len;
	c->block = BLOCK_SECTOR * (is_multiple(c->command) ? disk->multiple : 1);
	if (p->action == ATA_ANSWER)
		memcpy(c->buffer, p->answer, ATA_ANSWER_LEN);
	ide_transfer(c);
}

static void run_on_disk(struct ide_channel *c)
{
	struct ide_drive *d = ide_selected(c);
	struct ata_command a = command_of(c, d);
	struct ata_plan *p = &c->job.plan;

	ata_decode(&d->disk, &a, p);
	switch (p->action) {
	case ATA_END:
		if (!p->error)
			put_results(c, p);
		ide_end(c, p->error);
		break;
	case ATA_FLUSH: flush(c); break;
	case ATA_TRIM: ide_end(c, ATA_ERROR_ABRT); break; /* not over this wire */
	case ATA_ANSWER:
	case ATA_READ:
	case ATA_WRITE: {
		struct ata_plan plan = *p;

		begin_transfer(c, &plan);
		break;
	}
	}
}

static void run_on_cd(struct ide_channel *c)
{
	struct ide_drive *d = ide_selected(c);
	u32 limit = d->lba[1].now | (u32)d->lba[2].now << 8;

	switch (c->command) {
	case PACKET:
		c->by_master = c->features.now & FEATURE_DMA;
		/* Blocks of a programmed transfer are even, and fit the buffer. */
		c->block = (u32)min_u64(limit & ~1u ? limit & ~1u : IDE_BUFFER, IDE_BUFFER);
		c->len = ATAPI_PACKET;
		show(c, IDE_PACKET);
		break;
	case IDENTIFY_CD:
		atapi_identify(d, c->buffer);
		c->from_disk = c->to_disk = c->by_master = false;
		c->offset = 0;
		c->left = ATA_ANSWER_LEN;
		c->block = BLOCK_SECTOR;
		ide_transfer(c);
		break;
	case DEVICE_RESET:
		ide_signature(d);
		c->phase = IDE_IDLE;
		break;
	case 0xef: /* set features, and commands about power: as a disk's */
	case 0xe0:
	case 0xe1:
	case 0xe5:
	case 0xe6: run_on_disk(c); break;
	default:
		ide_signature(d); /* so that whoever asks for a disk knows */
		ide_end(c, ATA_ERROR_ABRT);
		break;
	}
}

static void diagnose(struct ide_channel *c)
{
	for (unsigned i = 0; i < IDE_UNITS; i++)
		ide_signature(&c->drives[i]);
	c->device = 0;
	c->phase = IDE_IDLE;
	ide_interrupt(c);
}

static void write_command(struct ide_channel *c, u8 v)
{
	struct ide_drive *d = ide_selected(c);

	if (!is_there(d) && v != DIAGNOSE)
		return;
	/* A command in the middle of another is the driver's fault; a reset is not. */
	if (c->phase != IDE_IDLE && v != DEVICE_RESET) {
		guest_err(
			c->ide->dev.name, "command 0x%02x while 0x%02x is running", v, c->command);
		return;
	}
	ide_channel_settle(c);
	c->irq = false;
	c->command = v;
	d->error = 0;
	d->status = ATA_STATUS_BSY;
	if (v == DIAGNOSE)
		diagnose(c);
	else if (d->cd)
		run_on_cd(c);
	else
		run_on_disk(c);
}

/* ---- reads ---- */

static u64 read_data(struct ide_channel *c, unsigned size)
{
	u64 value = 0;

	if (c->phase != IDE_IN)
		return 0;
	for (unsigned i = 0; i < size && c->at < c->end; i++)
		value |= (u64)c->buffer[c->at++] << 8 * i;
	if (c->at == c->end)
		buffer_is_through(c);
	return value;
}

static u8 read_register(struct ide_channel *c, unsigned at)
{
	const struct ide_drive *d = ide_selected(c);
	bool before = c->control & IDE_CONTROL_HOB;

	if (at == DEVICE)
		return c->device | DEVICE_ONES;
	if (!is_there(d))
		return 0;
	switch (at) {
	case ERROR: return d->error;
	case COUNT: return before ? d->count.before : d->count.now;
	case STATUS: c->irq = false; return d->status;
	default: {
		const struct ide_register *r = &d->lba[at - LBA_LOW];

		return before ? r->before : r->now;
	}
	}
}

u64 ide_channel_read(struct ide_channel *c, unsigned at, unsigned size)
{
	u64 value = 0;

	if (at == DATA) {
		value = read_data(c, size);
	} else {
		for (unsigned i = 0; i < size; i++)
			value |= (u64)read_register(c, at + i) << 8 * i;
	}
	ide_drive_lines(c->ide);
	return value;
}

u8 ide_channel_status(struct ide_channel *c)
{
	return is_there(ide_selected(c)) ? ide_selected(c)->status : 0;
}

/* ---- writes ---- */

static void write_data(struct ide_channel *c, unsigned size, u64 value)
{
	if (c->phase != IDE_OUT && c->phase != IDE_PACKET)
		return;
	for (unsigned i = 0; i < size && c->at < c->end; i++)
		c->buffer[c->at++] = (u8)(value >> 8 * i);
	if (c->at == c->end)
		buffer_is_through(c);
}

static void write_register(struct ide_channel *c, unsigned at, u8 v)
{
	c->control &= (u8)~IDE_CONTROL_HOB;
	if (at == FEATURES)
		set(&c->features, v);
	else if (at == DEVICE && c->phase == IDE_IDLE)
		c->device = v;
	else if (at == COMMAND)
		write_command(c, v);
	for (unsigned i = 0; i < IDE_UNITS && c->phase == IDE_IDLE; i++) {
		if (at == COUNT)
			set(&c->drives[i].count, v);
		else if (at >= LBA_LOW && at <= LBA_HIGH)
			set(&c->drives[i].lba[at - LBA_LOW], v);
	}
}

void ide_channel_write(struct ide_channel *c, unsigned at, unsigned size, u64 value)
{
	if (at == DATA)
		write_data(c, size, value);
	for (unsigned i = 0; at != DATA && i < size; i++)
		write_register(c, at + i, (u8)(value >> 8 * i));
}

void ide_channel_control(struct ide_channel *c, u8 v)
{
	bool was = c->control & IDE_CONTROL_SRST;

	c->control = v & (IDE_CONTROL_OFF | IDE_CONTROL_SRST | IDE_CONTROL_HOB);
	if (v & IDE_CONTROL_SRST && !was) {
		ide_channel_settle(c);
		c->phase = IDE_IDLE;
		c->irq = false;
		for (unsigned i = 0; i < IDE_UNITS; i++)
			c->drives[i].status = ATA_STATUS_BSY;
	} else if (!(v & IDE_CONTROL_SRST) && was) {
		c->device = 0;
		for (unsigned i = 0; i < IDE_UNITS; i++)
			ide_signature(&c->drives[i]);
	}
}

/* ---- reset, tables ---- */

void ide_channel_settle(struct ide_channel *c)
{
	/* What has ended may go on with the next block. */
	while (c->busy)
		c->job.disk->ops->drain(c->job.disk->ctx);
}

void ide_channel_reset(struct ide_channel *c)
{
	ide_channel_settle(c);
	c->job.done = job_done;
	c->phase = IDE_IDLE;
	c->device = c->control = c->command = 0;
	c->features = (struct ide_register){ 0, 0 };
	c->irq = c->from_disk = c->to_disk = c->by_master = c->stable = false;
	c->offset = c->left = 0;
	c->block = BLOCK_SECTOR;
	c->at = c->end = c->len = 0;
	memset(c->buffer, 0, sizeof(c->buffer));
	ide_master_reset(c);
	for (unsigned i = 0; i < IDE_UNITS; i++) {
		struct ide_drive *d = &c->drives[i];

		d->count = d->lba[0] = d->lba[1] = d->lba[2] = (struct ide_register){ 0, 0 };
		d->sense = d->sense_code = 0;
		ata_reset(&d->disk);
		ide_signature(d);
	}
}

/* A stream may say anything: what does not fit together is a command that never was. */
static bool fits(const struct ide_channel *c)
{
	const struct ide_drive *d = &c->drives[!!(c->device & IDE_DEVICE_SLAVE)];
	bool data = c->from_disk || c->to_disk;

	if (c->phase == IDE_IDLE)
		return true;
	if (c->phase == IDE_WORK || !is_there(d) || (c->from_disk && c->to_disk) || !c->block ||
		c->block > IDE_BUFFER || c->end > IDE_BUFFER)
		return false;
	if (c->phase == IDE_PACKET)
		return d->cd && c->at < c->end;
	if (data ? !range_ok(c->offset, c->left, d->disk.ops->info(d->disk.ctx).size) ||
				((c->offset | c->left) % BLOCK_SECTOR)
		 : !range_ok(c->offset, c->left, IDE_BUFFER))
		return false;
	if (c->phase == IDE_MASTER)
		return c->by_master && c->left;
	return !c->by_master && c->len && c->len <= c->left && c->at < c->end &&
	       (c->phase == IDE_OUT) == c->to_disk &&
	       (!data || (c->end == c->len && !((c->len | c->block) % BLOCK_SECTOR)));
}

void ide_channel_loaded(struct ide_channel *c)
{
	for (unsigned i = 0; i < IDE_UNITS; i++)
		ata_loaded(&c->drives[i].disk);
	c->table &= ~3u;
	if (c->busy) { /* what was under way before belongs to nobody */
		u8 phase = c->phase;

		c->phase = IDE_IDLE;
		ide_channel_settle(c);
		c->phase = phase;
	}
	if (!fits(c)) {
		c->phase = IDE_IDLE;
		ide_selected(c)->status = ATA_READY | ATA_STATUS_ERR;
	}
}

static const struct field register_fields[] = {
	FIELD(struct ide_register, now),
	FIELD(struct ide_register, before),
	FIELD_END,
};

static const struct field drive_fields[] = {
	FIELD_SUB(struct ide_drive, disk, struct ata_disk, ata_fields),
	FIELD_SUB(struct ide_drive, count, struct ide_register, register_fields),
	FIELD_SUB(struct ide_drive, lba, struct ide_register, register_fields),
	FIELD(struct ide_drive, error),
	FIELD(struct ide_drive, status),
	FIELD(struct ide_drive, sense),
	FIELD(struct ide_drive, sense_code),
	FIELD_END,
};

const struct field ide_channel_fields[] = {
	FIELD_SUB(struct ide_channel, drives, struct ide_drive, drive_fields),
	FIELD_SUB(struct ide_channel, features, struct ide_register, register_fields),
	FIELD(struct ide_channel, device),
	FIELD(struct ide_channel, control),
	FIELD(struct ide_channel, command),
	FIELD(struct ide_channel, irq),
	FIELD_MAX(struct ide_channel, phase, IDE_WORK),
	FIELD(struct ide_channel, from_disk),
	FIELD(struct ide_channel, to_disk),
	FIELD(struct ide_channel, by_master),
	FIELD(struct ide_channel, stable),
	FIELD(struct ide_channel, offset),
	FIELD(struct ide_channel, left),
	FIELD(struct ide_channel, block),
	FIELD(struct ide_channel, at),
	FIELD(struct ide_channel, end),
	FIELD(struct ide_channel, len),
	FIELD_BLOB(struct ide_channel, buffer),
	FIELD(struct ide_channel, master),
	FIELD(struct ide_channel, master_status),
	FIELD(struct ide_channel, table),
	FIELD_END,
};
