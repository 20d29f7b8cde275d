/* See ata.h. Commands by table: how they transfer, how wide their registers are, what they do. */
#include "device/ata/ata.h"
#include "base/bits.h"
#include <errno.h>

enum operation {
	OP_READ,
	OP_WRITE,
	OP_VERIFY,
	OP_TRIM,
	OP_FLUSH,
	OP_IDENTIFY,
	OP_FEATURES,
	OP_MULTIPLE,
	OP_GEOMETRY,
	OP_DIAGNOSE,
	OP_MAX,
	OP_LOG,
	OP_POWER, /* is told which */
	OP_STANDBY,
	OP_NOTHING,
};

#define WIDE   BIT(0) /* 48-bit */
#define STABLE BIT(1)
#define BLOCKS BIT(2) /* in blocks of the multiple setting */

/* Sections of ACS-3; what that no longer has, with the last document that did. */
static const struct row {
	u8 op;
	enum operation what;
	enum ata_transfer transfer;
	u8 flags;
} rows[] = {
	{ 0x06, OP_TRIM, ATA_DMA, WIDE },	    /* 7.5 data set management */
	{ 0x10, OP_NOTHING, ATA_NO_DATA, 0 },	    /* recalibrate: ATA-3 */
	{ 0x20, OP_READ, ATA_PIO, 0 },		    /* 7.28 read sectors */
	{ 0x21, OP_READ, ATA_PIO, 0 },		    /* the same, without retries: ATA-4 */
	{ 0x24, OP_READ, ATA_PIO, WIDE },	    /* 7.29 read sectors ext */
	{ 0x25, OP_READ, ATA_DMA, WIDE },	    /* 7.22 read dma ext */
	{ 0x27, OP_MAX, ATA_NO_DATA, WIDE },	    /* read native max address ext: ACS-2 */
	{ 0x29, OP_READ, ATA_PIO, WIDE | BLOCKS },  /* 7.27 read multiple ext */
	{ 0x2f, OP_LOG, ATA_PIO, WIDE },	    /* 7.24 read log ext */
	{ 0x30, OP_WRITE, ATA_PIO, 0 },		    /* 7.67 write sectors */
	{ 0x31, OP_WRITE, ATA_PIO, 0 },		    /* the same, without retries: ATA-4 */
	{ 0x34, OP_WRITE, ATA_PIO, WIDE },	    /* 7.68 write sectors ext */
	{ 0x35, OP_WRITE, ATA_DMA, WIDE },	    /* 7.59 write dma ext */
	{ 0x39, OP_WRITE, ATA_PIO, WIDE | BLOCKS }, /* 7.65 write multiple ext */
	{ 0x3d, OP_WRITE, ATA_DMA, WIDE | STABLE }, /* 7.60 write dma fua ext */
	{ 0x40, OP_VERIFY, ATA_NO_DATA, 0 },	    /* 7.32 read verify sectors */
	{ 0x41, OP_VERIFY, ATA_NO_DATA, 0 },	    /* the same, without retries: ATA-4 */
	{ 0x42, OP_VERIFY, ATA_NO_DATA, WIDE },	    /* 7.33 read verify sectors ext */
	{ 0x47, OP_LOG, ATA_DMA, WIDE },	    /* 7.25 read log dma ext */
	{ 0x60, OP_READ, ATA_QUEUED, WIDE },	    /* 7.23 read fpdma queued */
	{ 0x61, OP_WRITE, ATA_QUEUED, WIDE },	    /* 7.61 write fpdma queued */
	{ 0x70, OP_NOTHING, ATA_NO_DATA, 0 },	    /* seek: ATA/ATAPI-6 */
	{ 0x90, OP_DIAGNOSE, ATA_NO_DATA, 0 },	    /* 7.9 execute device diagnostic */
	{ 0x91, OP_GEOMETRY, ATA_NO_DATA, 0 },	    /* initialize device parameters: ATA/ATAPI-5 */
	{ 0xc4, OP_READ, ATA_PIO, BLOCKS },	    /* 7.26 read multiple */
	{ 0xc5, OP_WRITE, ATA_PIO, BLOCKS },	    /* 7.64 write multiple */
	{ 0xc6, OP_MULTIPLE, ATA_NO_DATA, 0 },	    /* 7.46 set multiple mode */
	{ 0xc8, OP_READ, ATA_DMA, 0 },		    /* 7.21 read dma */
	{ 0xc9, OP_READ, ATA_DMA, 0 },		    /* the same, without retries: ATA-4 */
	{ 0xca, OP_WRITE, ATA_DMA, 0 },		    /* 7.58 write dma */
	{ 0xcb, OP_WRITE, ATA_DMA, 0 },		    /* the same, without retries: ATA-4 */
	{ 0xce, OP_WRITE, ATA_PIO, WIDE | STABLE | BLOCKS }, /* 7.66 write multiple fua ext */
	{ 0xe0, OP_STANDBY, ATA_NO_DATA, 0 },		     /* 7.50 standby immediate */
	{ 0xe1, OP_NOTHING, ATA_NO_DATA, 0 },		     /* 7.15 idle immediate */
	{ 0xe2, OP_STANDBY, ATA_NO_DATA, 0 },		     /* 7.49 standby */
	{ 0xe3, OP_NOTHING, ATA_NO_DATA, 0 },		     /* 7.14 idle */
	{ 0xe5, OP_POWER, ATA_NO_DATA, 0 },		     /* 7.3 check power mode */
	{ 0xe6, OP_STANDBY, ATA_NO_DATA, 0 },		     /* 7.47 sleep */
	{ 0xe7, OP_FLUSH, ATA_NO_DATA, 0 },		     /* 7.10 flush cache */
	{ 0xea, OP_FLUSH, ATA_NO_DATA, WIDE },		     /* 7.11 flush cache ext */
	{ 0xec, OP_IDENTIFY, ATA_PIO, 0 },		     /* 7.12 identify device */
	{ 0xef, OP_FEATURES, ATA_NO_DATA, 0 },		     /* 7.45 set features */
	{ 0xf8, OP_MAX, ATA_NO_DATA, 0 },		     /* read native max address: ACS-2 */
};

#define DEVICE_LBA    BIT(6)
#define DEVICE_FUA    BIT(7) /* of queued commands */
#define LBA28	      0x0fffffffull
#define LBA48	      0x0000ffffffffffffull
#define MULTIPLE_MAX  16u
#define MODE_PIO      0x0cu /* flow control, mode 4 */
#define MODE_UDMA     0x45u
#define POWER_ACTIVE  0xffu
#define POWER_STANDBY 0x00u
#define TRIM	      BIT(0) /* features of Data Set Management */
#define LOG_LIST      0x00u
#define LOG_QUEUE     0x10u
#define PIECE_MAX     GiB /* trimmed at once */
#define RANGE_SIZE    8u

/* Set Features, 7.45 */
enum {
	CACHE_ON = 0x02,
	SET_MODE = 0x03,
	LOOKAHEAD_OFF = 0x55,
	KEEP_SETTINGS = 0x66,
	CACHE_OFF = 0x82,
	LOOKAHEAD_ON = 0xaa,
	REVERT_SETTINGS = 0xcc,
};

const struct field ata_fields[] = {
	FIELD(struct ata_disk, cache),
	FIELD(struct ata_disk, lookahead),
	FIELD(struct ata_disk, standby),
	FIELD_MAX(struct ata_disk, multiple, MULTIPLE_MAX),
	FIELD(struct ata_disk, mode),
	FIELD(struct ata_disk, heads),
	FIELD(struct ata_disk, sectors),
	FIELD(struct ata_disk, failed_tag),
	FIELD(struct ata_disk, failed_status),
	FIELD(struct ata_disk, failed_error),
	FIELD(struct ata_disk, failed_lba),
	FIELD(struct ata_disk, failed_count),
	FIELD_END,
};

void ata_reset(struct ata_disk *d)
{
	d->cache = d->lookahead = true;
	d->standby = false;
	d->multiple = MULTIPLE_MAX;
	d->mode = MODE_UDMA;
	d->heads = ATA_HEADS;
	d->sectors = ATA_SECTORS;
	d->failed_tag = d->failed_status = d->failed_error = 0;
	d->failed_lba = 0;
	d->failed_count = 0;
}

void ata_loaded(struct ata_disk *d)
{
	if (!d->heads || d->heads > ATA_HEADS || !d->sectors || d->sectors > 255) {
		d->heads = ATA_HEADS;
		d->sectors = ATA_SECTORS;
	}
}

/* ---- decoding ---- */

static void refuse(struct ata_plan *p, u8 error)
{
	p->action = ATA_END;
	p->status = ATA_READY | ATA_STATUS_ERR;
	p->error = error;
}

/* 28-bit addresses may be cylinders, heads and sectors, which count from 1 (ATA/ATAPI-5; later
 * documents have blocks only). */
static u64 block_of(const struct ata_disk *d, const struct ata_command *c, bool wide)
{
	u64 cylinder = bits(c->lba, 23, 8), head = c->device & 15, sector = c->lba & 255;

	if (wide)
		return c->lba & LBA48;
	if (c->device & DEVICE_LBA)
		return (c->lba & 0xffffff) | head << 24;
	return sector ? (cylinder * d->heads + head) * d->sectors + sector - 1 : LBA48;
}

static void plan_transfer(
	struct ata_disk *d, const struct ata_command *c, const struct row *row, struct ata_plan *p)
{
	bool wide = row->flags & WIDE, queued = row->transfer == ATA_QUEUED;
	u32 count = queued ? c->features : wide ? c->count : (u8)c->count;
	u64 first = block_of(d, c, wide);

	if (!count)
		count = wide ? 65536 : 256;
	p->lba = first;
	p->tag = queued ? (u8)bits(c->count, 7, 3) : 0;
	if (queued && !d->sata) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	if (!range_ok(first, count, ata_blocks(d))) {
		refuse(p, ATA_ERROR_IDNF);
		return;
	}
	if ((row->flags & BLOCKS && !d->multiple) ||
		(row->what == OP_WRITE && d->ops->info(d->ctx).readonly)) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	if (row->what == OP_VERIFY)
		return;
	p->action = row->what == OP_READ ? ATA_READ : ATA_WRITE;
	p->offset = first * BLOCK_SECTOR;
	p->len = (u64)count * BLOCK_SECTOR;
	p->stable = row->what == OP_WRITE &&
		    (row->flags & STABLE || !d->cache || (queued && c->device & DEVICE_FUA));
}

static void plan_trim(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	u64 len = (u64)c->count * 512;

	if (c->features != TRIM || !len || len > ATA_TRIM_MAX || d->ops->info(d->ctx).readonly) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	p->action = ATA_TRIM;
	p->len = len;
}

static void plan_features(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	u8 mode = (u8)c->count;

	switch ((u8)c->features) {
	case CACHE_ON: d->cache = true; break;
	case CACHE_OFF:
		d->cache = false;
		p->action = ATA_FLUSH;
		break;
	case LOOKAHEAD_ON: d->lookahead = true; break;
	case LOOKAHEAD_OFF: d->lookahead = false; break;
	case KEEP_SETTINGS:
	case REVERT_SETTINGS: break;
	case SET_MODE:
		if (mode <= 1 || (mode >= 8 && mode <= MODE_PIO) ||
			(mode >= 0x20 && mode <= 0x22) || (mode >= 0x40 && mode <= 0x46))
			d->mode = mode;
		else
			refuse(p, ATA_ERROR_ABRT);
		break;
	default: refuse(p, ATA_ERROR_ABRT); break;
	}
}

static void plan_multiple(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	u8 n = (u8)c->count;

	if (n > MULTIPLE_MAX || n & (n - 1))
		refuse(p, ATA_ERROR_ABRT);
	else
		d->multiple = n;
}

static void plan_geometry(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	if (!(u8)c->count) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	d->sectors = (u8)c->count;
	d->heads = (u16)((c->device & 15) + 1);
}

/* A log's page of 512 bytes; the number of the page is in the address's middle byte. */
static void plan_log(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	u8 log = (u8)c->lba, page = (u8)(c->lba >> 8), sum = 0;
	u8 *to = p->answer;

	if (page || c->count != 1 || (log != LOG_LIST && !(log == LOG_QUEUE && d->sata))) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	memset(to, 0, ATA_ANSWER_LEN);
	p->action = ATA_ANSWER;
	p->len = ATA_ANSWER_LEN;
	if (log == LOG_LIST) { /* its version, then the pages of each log */
		put_le16(to, 1);
		put_le16(to + 2 * LOG_QUEUE, d->sata);
		return;
	}
	/* 9.15: what failed, as its registers would have been */
	to[0] = d->failed_status ? d->failed_tag : 0x80;
	to[2] = d->failed_status;
	to[3] = d->failed_error;
	for (unsigned i = 0; i < 3; i++) {
		to[4 + i] = (u8)(d->failed_lba >> 8 * i);
		to[8 + i] = (u8)(d->failed_lba >> (24 + 8 * i));
	}
	to[7] = DEVICE_LBA;
	put_le16(to + 12, d->failed_count);
	for (unsigned i = 0; i < ATA_ANSWER_LEN - 1; i++)
		sum = (u8)(sum + to[i]);
	to[ATA_ANSWER_LEN - 1] = (u8)-sum;
}

static const struct row *row_of(u8 op)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].op == op)
			return &rows[i];
	return NULL;
}

static void plan(
	struct ata_disk *d, const struct ata_command *c, const struct row *row, struct ata_plan *p)
{
	switch (row->what) {
	case OP_READ:
	case OP_WRITE:
	case OP_VERIFY: plan_transfer(d, c, row, p); break;
	case OP_TRIM: plan_trim(d, c, p); break;
	case OP_FLUSH: p->action = ATA_FLUSH; break;
	case OP_IDENTIFY:
		ata_identify(d, p->answer);
		p->action = ATA_ANSWER;
		p->len = ATA_ANSWER_LEN;
		break;
	case OP_FEATURES: plan_features(d, c, p); break;
	case OP_MULTIPLE: plan_multiple(d, c, p); break;
	case OP_GEOMETRY: plan_geometry(d, c, p); break;
	case OP_DIAGNOSE:
		p->error = ATA_DIAGNOSTIC_GOOD;
		p->count = 1;
		p->lba = 1;
		break;
	case OP_MAX:
		p->lba = ata_blocks(d) - 1;
		if (!(row->flags & WIDE))
			p->lba = min_u64(p->lba, LBA28);
		break;
	case OP_LOG: plan_log(d, c, p); break;
	case OP_POWER: p->count = d->standby ? POWER_STANDBY : POWER_ACTIVE; break;
	case OP_STANDBY:
		d->standby = true;
		p->action = ATA_FLUSH;
		break;
	case OP_NOTHING: break;
	}
}

void ata_decode(struct ata_disk *d, const struct ata_command *c, struct ata_plan *p)
{
	const struct row *row = row_of(c->op);

	p->action = ATA_END;
	p->transfer = row ? row->transfer : ATA_NO_DATA;
	p->offset = p->len = 0;
	p->stable = false;
	p->tag = 0;
	p->status = ATA_READY;
	p->error = 0;
	p->count = c->count;
	p->lba = c->lba;
	if (!row) {
		refuse(p, ATA_ERROR_ABRT);
		return;
	}
	if (row->transfer != ATA_NO_DATA && row->what != OP_IDENTIFY)
		d->standby = false;
	plan(d, c, row, p);
}

/* ---- running ---- */

static void done(struct block_request *r, int rc);

static void submit(struct ata_job *j, enum block_op op, u64 offset, u64 len)
{
	bool data = op == BLOCK_READ || op == BLOCK_WRITE;

	j->r = (struct block_request){ .op = op,
		.offset = offset,
		.len = len,
		.iov = data ? j->iov : NULL,
		.iovcnt = data ? j->iovcnt : 0,
		.done = done };
	j->disk->ops->submit(j->disk->ctx, &j->r);
}

/* 7.5: 48 bits of address and 16 of length. The next piece is under way: true. A range that
 * does not lie on the disk ends the command: -EINVAL in *rc. */
static bool next_piece(struct ata_job *j, int *rc)
{
	while (!j->left && j->range < j->plan.len / RANGE_SIZE) {
		u64 range = get_le64(j->ranges + RANGE_SIZE * j->range++);

		if (!range_ok(range & LBA48, range >> 48, ata_blocks(j->disk))) {
			*rc = -EINVAL;
			return false;
		}
		j->at = (range & LBA48) * BLOCK_SECTOR;
		j->left = (range >> 48) * BLOCK_SECTOR;
	}
	if (!j->left)
		return false;
	u64 at = j->at, len = min_u64(j->left, PIECE_MAX);

	j->at += len;
	j->left -= len;
	submit(j, BLOCK_DISCARD, at, len);
	return true;
}

static void end(struct ata_job *j, int rc)
{
	struct ata_plan *p = &j->plan;

	if (rc) {
		refuse(p, p->action == ATA_READ ? ATA_ERROR_UNC
			  : rc == -EINVAL	? ATA_ERROR_IDNF
						: ATA_ERROR_ABRT);
		p->action = ATA_END;
	}
	if (rc && p->transfer == ATA_QUEUED) {
		j->disk->failed_tag = p->tag;
		j->disk->failed_status = p->status;
		j->disk->failed_error = p->error;
		j->disk->failed_lba = p->lba;
		j->disk->failed_count = p->count;
	}
	j->done(j);
}

static void done(struct block_request *r, int rc)
{
	struct ata_job *j = container_of(r, struct ata_job, r);

	bool more = !rc && r->op == BLOCK_DISCARD && next_piece(j, &rc);

	if (!rc && !more && j->plan.stable) {
		j->plan.stable = false;
		submit(j, BLOCK_FLUSH, 0, 0);
		more = true;
	}
	if (more)
		j->disk->ops->kick(j->disk->ctx);
	else
		end(j, rc);
}

void ata_run(struct ata_job *j)
{
	struct ata_plan *p = &j->plan;
	int rc = 0;

	switch (p->action) {
	case ATA_READ: submit(j, BLOCK_READ, p->offset, p->len); return;
	case ATA_WRITE: submit(j, BLOCK_WRITE, p->offset, p->len); return;
	case ATA_TRIM:
		j->range = 0;
		j->left = 0;
		if (next_piece(j, &rc))
			return;
		/* Nothing to trim, or nonsense: a flush is the way to an end that comes later. */
		p->len = 0;
		if (rc)
			refuse(p, ATA_ERROR_IDNF);
		submit(j, BLOCK_FLUSH, 0, 0);
		return;
	case ATA_FLUSH:
	case ATA_END:
	case ATA_ANSWER: submit(j, BLOCK_FLUSH, 0, 0); return;
	}
}
