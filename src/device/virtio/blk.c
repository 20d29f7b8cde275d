/*
 * Block device (virtio 1.2 5.2): requests go to the disk as they come, on up to eight queues, and
 * come back in any order.
 *
 * A request holds the chain it came in; the disk reads and writes guest memory where the chain's
 * segments say. The head is taken off the first of them and the status byte off the last before
 * that, so what is left is the data. Requests are kept in a list of free ones when they are done:
 * there are never more than the queues have entries.
 *
 * A driver that has not accepted VIRTIO_BLK_F_FLUSH relies on writes being stable when they are
 * done (5.2.6.2): each is followed by a flush.
 */
#include "device/virtio/blk.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/mmio.h"
#include "device/virtio/virtio.h"
#include <errno.h>
#include <stdlib.h>

/* 5.2.3 */
#define F_SEG_MAX      BIT64(2)
#define F_RO	       BIT64(5)
#define F_BLK_SIZE     BIT64(6)
#define F_FLUSH	       BIT64(9)
#define F_TOPOLOGY     BIT64(10)
#define F_MQ	       BIT64(12)
#define F_DISCARD      BIT64(13)
#define F_WRITE_ZEROES BIT64(14)

/* 5.2.4 */
enum config {
	CAPACITY = 0,
	SEG_MAX = 12,
	BLK_SIZE = 20,
	PHYSICAL_EXP = 24,
	OPT_IO_SIZE = 28,
	NUM_QUEUES = 34,
	DISCARD_SECTORS = 36,
	DISCARD_SEG = 40,
	DISCARD_ALIGN = 44,
	ZEROES_SECTORS = 48,
	ZEROES_SEG = 52,
	ZEROES_UNMAP = 56,
	CONFIG_LEN = 60,
};

/* 5.2.6 */
enum {
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_ZEROES = 13
};
enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPP = 2 };
#define HEAD_SIZE  16u
#define ID_SIZE	   20u
#define RANGE_SIZE 16u
#define UNMAP	   BIT(0)

/* Room for data in a chain, and what one request may move or clear at once. */
#define SEGMENTS    (VIRTQ_SIZE_MAX - 2)
#define DATA_MAX    (256 * MiB)
#define SECTORS_MAX (u32)(GiB / BLOCK_SECTOR)

struct blk {
	struct virtio v;
	u64 queues;   /* property */
	char *serial; /* property */
	struct blk_request *free;
};

struct blk_request {
	struct block_request r;
	struct blk *b;
	struct blk_request *next;
	unsigned queue;
	bool reads, writes;
	u8 *status;
	u64 status_at;
	struct virtq_chain c;
};

static struct blk *blk_of(struct virtio *v) { return container_of(v, struct blk, v); }

/* ---- requests ---- */

static struct blk_request *take_request(struct blk *b)
{
	struct blk_request *q = b->free;

	if (!q)
		return malloc(sizeof(*q));
	b->free = q->next;
	return q;
}

static void keep_request(struct blk *b, struct blk_request *q)
{
	q->next = b->free;
	b->free = q;
}

static void finish(struct blk_request *q, u8 status)
{
	struct blk *b = q->b;
	struct memory *m = b->v.dev.env.memory;
	u64 data = q->reads && status == STATUS_OK ? q->c.in_len : 0;

	virtq_written(&q->c, m, data);
	*q->status = status;
	memory_written(m, gpa(q->status_at), 1);
	/* The status is behind the data, so all of it counts as written (2.7.8.2). */
	virtio_push(&b->v, q->queue, q->c.id, q->c.slots, (u32)q->c.in_len + 1);
	virtio_interrupt(&b->v, q->queue);
	keep_request(b, q);
}

static void done(struct block_request *r, int rc)
{
	struct blk_request *q = container_of(r, struct blk_request, r);
	const struct device_env *env = &q->b->v.dev.env;

	if (!rc && q->writes && !virtio_has(&q->b->v, F_FLUSH)) {
		q->writes = false;
		r->op = BLOCK_FLUSH;
		r->iovcnt = 0;
		r->offset = r->len = 0;
		env->disk->submit(env->disk_ctx, r);
		env->disk->kick(env->disk_ctx);
		return;
	}
	finish(q, !rc ? STATUS_OK : rc == -EOPNOTSUPP ? STATUS_UNSUPP : STATUS_IOERR);
}

static void submit(struct blk_request *q, enum block_op op, u64 offset, u64 len)
{
	const struct device_env *env = &q->b->v.dev.env;
	struct virtq_chain *c = &q->c;

	q->r = (struct block_request){ .op = op, .offset = offset, .len = len, .done = done };
	q->reads = op == BLOCK_READ;
	q->writes = op != BLOCK_READ && op != BLOCK_FLUSH;
	if (op == BLOCK_READ || op == BLOCK_WRITE) {
		q->r.iov = q->reads ? c->iov + c->out : c->iov;
		q->r.iovcnt = q->reads ? c->in : c->out;
	}
	env->disk->submit(env->disk_ctx, &q->r);
}

/* Takes `len` bytes off the beginning of the out-segments. */
static void skip_out(struct virtq_chain *c, u64 len)
{
	unsigned gone = 0;

	c->out_len -= len;
	while (gone < c->out && c->iov[gone].iov_len <= len)
		len -= c->iov[gone++].iov_len;
	memmove(c->iov, c->iov + gone, (c->out + c->in - gone) * sizeof(c->iov[0]));
	memmove(c->at, c->at + gone, (c->out + c->in - gone) * sizeof(c->at[0]));
	c->out -= gone;
	if (len) {
		c->iov[0].iov_base = (u8 *)c->iov[0].iov_base + len;
		c->iov[0].iov_len -= len;
		c->at[0] += len;
	}
}

/* Takes the last in-byte for the status. */
static void take_status(struct blk_request *q)
{
	struct virtq_chain *c = &q->c;
	struct iovec *last = &c->iov[c->out + c->in - 1];

	last->iov_len--;
	c->in_len--;
	q->status = (u8 *)last->iov_base + last->iov_len;
	q->status_at = c->at[c->out + c->in - 1] + last->iov_len;
	if (!last->iov_len)
		c->in--;
}

/* What is wrong with a transfer, as a status; STATUS_OK: nothing. */
static u8 check(const struct blk *b, u64 sector, u64 len, bool write)
{
	u64 capacity = get_le64(b->v.config + CAPACITY);

	if (write && b->v.features & F_RO)
		return STATUS_IOERR;
	if (len % BLOCK_SECTOR || len > DATA_MAX ||
		!range_ok(sector, len / BLOCK_SECTOR, capacity)) {
		guest_err(b->v.dev.name, "request for 0x%llx bytes at sector 0x%llx",
			(unsigned long long)len, (unsigned long long)sector);
		return STATUS_IOERR;
	}
	return STATUS_OK;
}

static void transfer(struct blk_request *q, u64 sector, bool write)
{
	u64 len = write ? q->c.out_len : q->c.in_len;
	u8 status = check(q->b, sector, len, write);

	if (status != STATUS_OK || !len)
		finish(q, status);
	else
		submit(q, write ? BLOCK_WRITE : BLOCK_READ, sector * BLOCK_SECTOR, len);
}

static void send_id(struct blk_request *q)
{
	char id[ID_SIZE] = "";

	if (q->b->serial) /* not terminated when it fills the field, 5.2.6 */
		memcpy(id, q->b->serial, strnlen(q->b->serial, ID_SIZE));
	virtq_write(&q->c, q->b->v.dev.env.memory, 0, id, ID_SIZE);
	finish(q, STATUS_OK);
}

/* One range, as the configuration says (5.2.6.2). */
static void clear(struct blk_request *q, bool zeroes)
{
	u8 range[RANGE_SIZE];
	u32 flags, count;
	u64 sector;

	if (q->c.out_len != RANGE_SIZE) {
		finish(q, q->c.out_len > RANGE_SIZE ? STATUS_IOERR : STATUS_UNSUPP);
		return;
	}
	virtq_read(&q->c, 0, range, sizeof(range));
	sector = get_le64(range);
	count = get_le32(range + 8);
	flags = get_le32(range + 12);
	if (flags & (zeroes ? ~UNMAP : ~0u)) {
		finish(q, STATUS_UNSUPP);
		return;
	}
	u8 status = check(q->b, sector, 0, true);

	if (count > SECTORS_MAX || !range_ok(sector, count, get_le64(q->b->v.config + CAPACITY)))
		status = STATUS_IOERR;
	if (status != STATUS_OK || !count)
		finish(q, status);
	else
		submit(q, zeroes ? BLOCK_ZERO : BLOCK_DISCARD, sector * BLOCK_SECTOR,
			(u64)count * BLOCK_SECTOR);
}

static void begin(struct blk_request *q)
{
	u8 head[HEAD_SIZE];

	if (virtq_read(&q->c, 0, head, sizeof(head)) < sizeof(head)) {
		finish(q, STATUS_IOERR);
		return;
	}
	skip_out(&q->c, HEAD_SIZE);
	u64 sector = get_le64(head + 8);

	switch (get_le32(head)) {
	case TYPE_IN: transfer(q, sector, false); break;
	case TYPE_OUT: transfer(q, sector, true); break;
	case TYPE_FLUSH: submit(q, BLOCK_FLUSH, 0, 0); break;
	case TYPE_ID: send_id(q); break;
	case TYPE_DISCARD: clear(q, false); break;
	case TYPE_ZEROES: clear(q, true); break;
	default: finish(q, STATUS_UNSUPP); break;
	}
}

static void blk_notify(struct virtio *v, unsigned queue)
{
	struct blk *b = blk_of(v);
	struct blk_request *q;

	while ((q = take_request(b)) && virtio_pop(v, queue, &q->c)) {
		q->b = b;
		q->queue = queue;
		q->reads = q->writes = false;
		if (!q->c.in) {
			keep_request(b, q);
			virtio_broken(v, "a request without room for its status");
			return;
		}
		take_status(q);
		begin(q);
	}
	if (q)
		keep_request(b, q);
	v->dev.env.disk->kick(v->dev.env.disk_ctx);
}

/* ---- reset, init, tables ---- */

/* Nothing may touch the driver's memory any more. */
static void settle(struct virtio *v)
{
	if (v->dev.env.disk)
		v->dev.env.disk->drain(v->dev.env.disk_ctx);
}

static void blk_reset(struct device *d)
{
	struct virtio *v = virtio_of(d);
	struct block_info info = d->env.disk->info(d->env.disk_ctx);
	u64 queues = blk_of(v)->queues;
	u32 optimal = info.optimal / BLOCK_SECTOR;

	v->queue_count = (unsigned)queues;
	v->features = v->type->features | (info.readonly ? F_RO : F_DISCARD | F_WRITE_ZEROES) |
		      (queues > 1 ? F_MQ : 0);
	memset(v->config, 0, CONFIG_LEN);
	put_le64(v->config + CAPACITY, info.size / BLOCK_SECTOR);
	put_le32(v->config + SEG_MAX, SEGMENTS);
	put_le32(v->config + BLK_SIZE, BLOCK_SECTOR);
	v->config[PHYSICAL_EXP] = 3; /* 4 KiB */
	put_le32(v->config + OPT_IO_SIZE, optimal);
	put_le16(v->config + NUM_QUEUES, (u16)queues);
	put_le32(v->config + DISCARD_SECTORS, SECTORS_MAX);
	put_le32(v->config + DISCARD_SEG, 1);
	put_le32(v->config + DISCARD_ALIGN, optimal ? optimal : 8);
	put_le32(v->config + ZEROES_SECTORS, SECTORS_MAX);
	put_le32(v->config + ZEROES_SEG, 1);
	v->config[ZEROES_UNMAP] = 1;
	virtio_power_on(d);
}

static int blk_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 2,
		.class = 0x010000,
		.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY,
		.queues = VIRTIO_BLK_QUEUES_MAX,
		.config_len = CONFIG_LEN,
		.notify = blk_notify,
		.reset = settle,
	};

	if (!d->env.disk)
		return err_set(err, -EINVAL, "no disk");
	return virtio_init(virtio_of(d), &type, err);
}

static void blk_fini(struct device *d)
{
	struct blk *b = blk_of(virtio_of(d));

	virtio_fini(d);
	while (b->free) {
		struct blk_request *q = b->free;

		b->free = q->next;
		free(q);
	}
}

static const struct prop blk_props[] = {
	VIRTIO_PROPS(struct blk),
	{ "queues", "request queues", PROP_U64, offsetof(struct blk, queues), 1, 1,
		VIRTIO_BLK_QUEUES_MAX },
	{ "serial", "what the guest is told as the disk's serial number, 20 bytes", PROP_STRING,
		offsetof(struct blk, serial), 0, 0, 0 },
	PROP_END,
};

static const struct field blk_state[] = {
	FIELD_SUB(struct blk, v, struct virtio, virtio_fields),
	FIELD_END,
};

#define BLK_CLASS                                                                           \
	.size = sizeof(struct blk), .init = blk_init, .reset = blk_reset, .fini = blk_fini, \
	.loaded = virtio_loaded, .props = blk_props, .state = blk_state

const struct device_class virtio_blk_class = {
	.name = "virtio-blk",
	.doc = "virtio block device",
	BLK_CLASS,
};

const struct device_class virtio_blk_mmio_class = {
	.name = "virtio-blk-mmio",
	.doc = "virtio block device whose registers are memory-mapped",
	BLK_CLASS,
	.read = virtio_mmio_read,
	.write = virtio_mmio_write,
	.windows = { { BUS_MMIO, 0, VIRTIO_MMIO_LEN } },
};
