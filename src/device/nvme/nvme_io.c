/*
 * Commands of the I/O queues (NVMe 1.4 chapter 6): each becomes one request of the disk, except
 * that ranges to be deallocated go one after the other, in pieces, and that a write that must be
 * stable when it is done (Force Unit Access, or the write cache disabled) is followed by a flush.
 *
 * Requests are kept in a list of free ones when they are done.
 */
#include "device/nvme/nvme_priv.h"
#include <errno.h>
#include <stdlib.h>

enum { OP_FLUSH = 0x00, OP_WRITE = 0x01, OP_READ = 0x02, OP_ZEROES = 0x08, OP_DATASET = 0x09 };

#define FUA	       BIT(30) /* dword 12 */
#define BLOCKS(c)      ((u64)(u16)(c)->dw[2] + 1)
#define FIRST(c)       ((c)->dw[0] | (u64)(c)->dw[1] << 32)
#define DEALLOCATE     BIT(2) /* dword 11 of Dataset Management */
#define RANGE_SIZE     16u
#define RANGES_MAX     256u
#define PIECE_MAX      GiB /* deallocated at once */
#define ALL_NAMESPACES 0xffffffffu

struct nvme_request {
	struct block_request r;
	struct nvme *n;
	struct nvme_request *next;
	u16 sq, id;
	bool stable; /* a flush is to follow */
	u64 first;   /* block, for the error log */
	unsigned range, ranges;
	u64 at, left; /* bytes of the range that is being deallocated */
	union {
		struct dma_map map;
		u8 range_data[RANGES_MAX * RANGE_SIZE];
	};
};

static void done(struct block_request *r, int rc);

static struct nvme_request *take_request(struct nvme *n)
{
	struct nvme_request *q = n->free;

	if (q)
		n->free = q->next;
	else
		q = malloc(sizeof(*q));
	if (q)
		n->in_flight++;
	return q;
}

static void keep_request(struct nvme_request *q)
{
	struct nvme *n = q->n;

	q->next = n->free;
	n->free = q;
	n->in_flight--;
}

void nvme_io_free(struct nvme *n)
{
	while (n->free) {
		struct nvme_request *q = n->free;

		n->free = q->next;
		free(q);
	}
}

static void submit(struct nvme_request *q, enum block_op op, u64 offset, u64 len)
{
	const struct device_env *env = &q->n->dev.env;
	bool data = op == BLOCK_READ || op == BLOCK_WRITE;

	q->r = (struct block_request){ .op = op,
		.offset = offset,
		.len = len,
		.iov = data ? q->map.iov : NULL,
		.iovcnt = data ? q->map.count : 0,
		.done = done };
	env->disk->submit(env->disk_ctx, &q->r);
}

/* ---- ends ---- */

static enum nvme_status status_of(enum block_op op, int rc)
{
	switch (rc) {
	case 0: return NVME_OK;
	case -ENOSPC: return NVME_CAPACITY_EXCEEDED;
	case -EPERM: return NVME_WRITE_PROTECTED;
	default: return op == BLOCK_READ ? NVME_READ_ERROR : NVME_WRITE_FAULT;
	}
}

static void fail(struct nvme *n, unsigned sq, u16 id, enum nvme_status status, u64 lba)
{
	n->media_errors += status == NVME_READ_ERROR || status == NVME_WRITE_FAULT;
	nvme_log_error(
		n, &(struct nvme_error){
			   .lba = lba, .nsid = 1, .sq = (u16)sq, .id = id, .status = (u16)status });
	nvme_complete(n, sq, id, status, 0);
}

/* The next piece of the ranges is under way: true; false when none is left. */
static bool next_piece(struct nvme_request *q)
{
	while (!q->left && q->range < q->ranges) {
		const u8 *range = q->range_data + RANGE_SIZE * q->range++;

		q->left = (u64)get_le32(range + 4) * BLOCK_SECTOR;
		q->at = get_le64(range + 8) * BLOCK_SECTOR;
	}
	if (!q->left)
		return false;
	u64 at = q->at, len = min_u64(q->left, PIECE_MAX);

	q->at += len;
	q->left -= len;
	submit(q, BLOCK_DISCARD, at, len);
	return true;
}

static void count(struct nvme *n, const struct block_request *r)
{
	u64 blocks = r->len / BLOCK_SECTOR;

	n->reads += r->op == BLOCK_READ;
	n->writes += r->op == BLOCK_WRITE;
	n->blocks_read += r->op == BLOCK_READ ? blocks : 0;
	n->blocks_written += r->op == BLOCK_WRITE ? blocks : 0;
}

static void end(struct nvme_request *q, int rc)
{
	struct nvme *n = q->n;
	unsigned sq = q->sq;
	u16 id = q->id;
	u64 first = q->first;
	enum nvme_status status = status_of(q->r.op, rc);

	if (!rc && q->r.op == BLOCK_READ)
		dma_written(&q->map, n->dev.env.memory, q->map.len);
	keep_request(q);
	if (status)
		fail(n, sq, id, status, first);
	else
		nvme_complete(n, sq, id, status, 0);
	nvme_run(n); /* what waited for it */
}

static void done(struct block_request *r, int rc)
{
	struct nvme_request *q = container_of(r, struct nvme_request, r);
	const struct device_env *env = &q->n->dev.env;
	bool more = false;

	if (!rc && r->op == BLOCK_DISCARD) {
		more = next_piece(q);
	} else if (!rc) {
		count(q->n, r);
		more = q->stable;
		q->stable = false;
		if (more)
			submit(q, BLOCK_FLUSH, 0, 0);
	}
	if (more)
		env->disk->kick(env->disk_ctx);
	else
		end(q, rc);
}

/* ---- beginnings: a status, or NVME_LATER when the disk has it ---- */

static enum nvme_status check_range(const struct nvme *n, u64 first, u64 blocks, bool write)
{
	struct block_info info = nvme_disk(n);

	if (!range_ok(first, blocks, info.size / BLOCK_SECTOR))
		return NVME_LBA_RANGE;
	return write && info.readonly ? NVME_WRITE_PROTECTED : NVME_OK;
}

static enum nvme_status transfer(struct nvme_request *q, const struct nvme_command *c)
{
	struct nvme *n = q->n;
	bool write = c->op == OP_WRITE;
	u64 len = BLOCKS(c) * BLOCK_SECTOR;
	enum nvme_status status = check_range(n, FIRST(c), BLOCKS(c), write);

	if (!status)
		status = nvme_map_data(n, c, len, !write, &q->map);
	if (status)
		return status;
	q->stable = write && (c->dw[2] & FUA || !nvme_caches_writes(n));
	submit(q, write ? BLOCK_WRITE : BLOCK_READ, FIRST(c) * BLOCK_SECTOR, len);
	return NVME_LATER;
}

static enum nvme_status write_zeroes(struct nvme_request *q, const struct nvme_command *c)
{
	enum nvme_status status = check_range(q->n, FIRST(c), BLOCKS(c), true);

	if (status)
		return status;
	q->stable = c->dw[2] & FUA || !nvme_caches_writes(q->n);
	submit(q, BLOCK_ZERO, FIRST(c) * BLOCK_SECTOR, BLOCKS(c) * BLOCK_SECTOR);
	return NVME_LATER;
}

static enum nvme_status flush(struct nvme_request *q, const struct nvme_command *c)
{
	submit(q, BLOCK_FLUSH, 0, 0);
	return NVME_LATER;
}

/* 6.7: hints other than "deallocate" are only hints. */
static enum nvme_status dataset(struct nvme_request *q, const struct nvme_command *c)
{
	unsigned ranges = (u8)c->dw[0] + 1u;
	enum nvme_status status = nvme_get_data(q->n, c, q->range_data, ranges * RANGE_SIZE);

	for (unsigned i = 0; !status && i < ranges; i++) {
		const u8 *range = q->range_data + RANGE_SIZE * i;

		status = check_range(q->n, get_le64(range + 8), get_le32(range + 4), true);
	}
	if (status || !(c->dw[1] & DEALLOCATE))
		return status;
	q->ranges = ranges;
	return next_piece(q) ? NVME_LATER : NVME_OK;
}

static const struct row {
	u8 op;
	bool changes;
	enum nvme_status (*fn)(struct nvme_request *q, const struct nvme_command *c);
} rows[] = {
	{ OP_FLUSH, false, flush },
	{ OP_WRITE, true, transfer },
	{ OP_READ, false, transfer },
	{ OP_ZEROES, true, write_zeroes },
	{ OP_DATASET, true, dataset },
};

void nvme_io_effects(u32 effects[256])
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		effects[rows[i].op] = BIT(0) | (rows[i].changes ? BIT(1) : 0);
}

static const struct row *row_of(u8 op)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].op == op)
			return &rows[i];
	return NULL;
}

static enum nvme_status begin(struct nvme_request *q, const struct nvme_command *c)
{
	const struct row *row = row_of(c->op);

	if (!row)
		return NVME_INVALID_OPCODE;
	if (c->flags & 3) /* fused with another */
		return NVME_INVALID_FIELD;
	if (c->nsid != 1 && !(c->op == OP_FLUSH && c->nsid == ALL_NAMESPACES))
		return NVME_INVALID_NAMESPACE;
	return row->fn(q, c);
}

void nvme_io(struct nvme *n, unsigned sq, const struct nvme_command *c)
{
	struct nvme_request *q = take_request(n);

	if (!q) {
		fail(n, sq, c->id, NVME_INTERNAL_ERROR, 0);
		return;
	}
	q->n = n;
	q->sq = (u16)sq;
	q->id = c->id;
	q->stable = false;
	q->first = FIRST(c);
	q->range = q->ranges = 0;
	q->at = q->left = 0;
	enum nvme_status status = begin(q, c);

	if (status == NVME_LATER)
		return;
	keep_request(q);
	if (status)
		fail(n, sq, c->id, status, FIRST(c));
	else
		nvme_complete(n, sq, c->id, NVME_OK, 0);
}

static void flushed(struct block_request *r, int rc) {}

void nvme_io_flush_now(struct nvme *n)
{
	const struct device_env *env = &n->dev.env;
	struct block_request r = { .op = BLOCK_FLUSH, .done = flushed };

	env->disk->submit(env->disk_ctx, &r);
	env->disk->kick(env->disk_ctx);
	env->disk->drain(env->disk_ctx);
}
