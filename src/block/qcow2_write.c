/* Writing where it cannot be done in place, zeroing and discarding. */
#include "base/scope.h"
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUN_MAX 64u /* clusters that are allocated together */
/* Unwritten tables are kept in memory up to here. */
#define UNWRITTEN_MAX 512u

/* Of what an L2 entry referred to and no longer does. */
static int drop_old(struct qcow2 *q, u64 entry)
{
	u64 at = entry & ENTRY_OFFSET, len = 1;
	int rc = 0;

	if (entry & ENTRY_PACKED)
		qcow2_packed_range(q, entry, &at, &len);
	else if (!at)
		return 0;
	u64 last = (at + len - 1) >> q->cluster_bits;

	for (u64 i = at >> q->cluster_bits; i <= last && !rc; i++)
		rc = qcow2_unref_later(q, i << q->cluster_bits);
	return rc;
}

/* The L2 table for an offset, made or copied so that it is this image's own. */
static int own_l2(struct qcow2 *q, u64 offset, struct qcow2_table **t)
{
	u32 i = (u32)((offset >> q->cluster_bits) / qcow2_per_l2(q));
	struct qcow2_table *old, *copy;
	u64 at;
	int rc = qcow2_l2(q, offset, true, &old);

	*t = old;
	if (rc || (old && q->l1.entry[i] & ENTRY_COPIED))
		return rc;
	rc = qcow2_alloc(q, 1, &at);
	if (rc)
		return rc;
	if (!old) {
		rc = qcow2_new_table(q, &q->l2, i, at, t);
	} else {
		/* The one in memory becomes the copy. */
		rc = qcow2_unref_later(q, old->at);
		copy = old;
		copy->at = at;
		qcow2_touch(copy, 0, (u32)q->cluster);
		q->changed = true;
	}
	if (rc)
		return rc;
	qcow2_list_set(&q->l1, i, at | ENTRY_COPIED);
	return 0;
}

static int set_entry(struct qcow2 *q, struct qcow2_table *t, u64 offset, u64 entry)
{
	u32 at = (u32)(8 * ((offset >> q->cluster_bits) % qcow2_per_l2(q)));
	int rc = qcow2_begin(q);

	if (!rc)
		rc = drop_old(q, get_be64(t->data + at));
	if (rc)
		return rc;
	put_be64(t->data + at, entry);
	qcow2_touch(t, at, 8);
	if (q->packed_at == align_down(offset, q->cluster))
		q->packed_at = ~0ull;
	return 0;
}

/* ---- writing ---- */

/* What the new clusters get besides the guest's data, from what the image shows there. */
static int copy_edge(struct qcow2 *q, u64 from, u64 len, u64 to)
{
	AUTO_FREE u8 *buf = len ? malloc(len) : NULL;
	int rc;

	if (!len)
		return 0;
	if (!buf)
		return -ENOMEM;
	/* A cluster may reach behind the end of the image. */
	u64 have = from < q->n->size ? min_u64(len, q->n->size - from) : 0;

	memset(buf + have, 0, len - have);
	rc = have ? node_read_buf(q->n, from, buf, have) : 0;
	if (rc)
		return rc;
	node_wait_begin(q->n);
	rc = io_pwrite(q->n->meta, buf, len, to);
	node_wait_end(q->n);
	return rc;
}

/* [offset, offset + len) with both edges, into `count` clusters at `at`. */
static int fill(struct qcow2 *q, u64 offset, const struct iovec *iov, unsigned rows, u64 len,
	u64 at, u64 count)
{
	u64 start = align_down(offset, q->cluster), head = offset - start;
	u64 tail = (count << q->cluster_bits) - head - len;
	int rc = copy_edge(q, start, head, at);

	if (!rc)
		rc = copy_edge(q, offset + len, tail, at + head + len);
	if (rc)
		return rc;
	node_wait_begin(q->n);
	rc = io_pwritev(q->n->meta, iov, rows, at + head);
	node_wait_end(q->n);
	return rc;
}

/* A run of clusters in the file; the number is made smaller to what there is in a row. */
static int alloc_run(struct qcow2 *q, u64 *count, u64 *at)
{
	int more = 1, rc = qcow2_alloc(q, 1, at);
	u64 have = 1;

	while (!rc && have < *count && more == 1) {
		more = qcow2_alloc_next(q, *at + ((have - 1) << q->cluster_bits));
		have += more == 1;
	}
	*count = have;
	return rc;
}

/* How many clusters from offset on must be new; at most RUN_MAX and the rest of the L2 table. */
static u64 new_clusters(struct qcow2 *q, u64 offset, u64 len)
{
	u64 number = offset >> q->cluster_bits;
	u64 last = (offset + len - 1) >> q->cluster_bits, n = 1;
	u64 room = qcow2_per_l2(q) - number % qcow2_per_l2(q);
	struct extent e;

	while (number + n <= last && n < min_u64(RUN_MAX, room) &&
		!qcow2_map(q->n, (number + n) << q->cluster_bits, 1, true, true, &e) &&
		e.kind != EXTENT_DATA)
		n++;
	return n;
}

/* Writes a first part of the range into new clusters; how much it was goes to *wrote. */
static int write_new(struct qcow2 *q, u64 offset, const struct iovec *iov, unsigned iovcnt,
	u64 skip, u64 len, u64 *wrote)
{
	u64 start = align_down(offset, q->cluster), count = new_clusters(q, offset, len), at;
	AUTO_FREE struct iovec *part = calloc(iovcnt + 1, sizeof(*part));
	struct qcow2_table *t;
	int rc = part ? own_l2(q, offset, &t) : -ENOMEM;

	if (!rc)
		rc = alloc_run(q, &count, &at);
	if (rc)
		return rc;
	*wrote = min_u64(len, start + (count << q->cluster_bits) - offset);
	unsigned rows = io_slice(iov, iovcnt, skip, *wrote, part);

	rc = fill(q, offset, part, rows, *wrote, at, count);
	if (rc) {
		qcow2_unalloc(q, at, count);
		return rc;
	}
	/* Filling may have read another table, and dropped this one to make room. */
	rc = own_l2(q, offset, &t);
	for (u64 i = 0; i < count && !rc; i++)
		rc = set_entry(q, t, start + (i << q->cluster_bits),
			(at + (i << q->cluster_bits)) | ENTRY_COPIED);
	return rc;
}

static int write_in_place(
	struct qcow2 *q, const struct iovec *iov, unsigned iovcnt, u64 skip, const struct extent *e)
{
	AUTO_FREE struct iovec *part = calloc(iovcnt + 1, sizeof(*part));

	if (!part)
		return -ENOMEM;
	return io_pwritev(q->n->meta, part, io_slice(iov, iovcnt, skip, e->len, part), e->at);
}

/* A guest that never flushes still gets its tables to the file. */
static int bound_unwritten(struct qcow2 *q)
{
	if (q->l2.loaded <= q->l2.limit + UNWRITTEN_MAX && q->pendings < MiB)
		return 0;
	return qcow2_flush_tables(q);
}

int qcow2_write(struct node *n, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len)
{
	struct qcow2 *q = n->data;
	struct extent e;
	int rc = 0;

	for (u64 done = 0; done < len && !rc; done += e.len) {
		rc = qcow2_map(n, offset + done, len - done, true, true, &e);
		if (!rc && e.kind == EXTENT_DATA)
			rc = write_in_place(q, iov, iovcnt, done, &e);
		else if (!rc)
			rc = write_new(q, offset + done, iov, iovcnt, done, len - done, &e.len);
		if (!rc)
			rc = bound_unwritten(q);
	}
	return rc;
}

/* ---- zeroes and discards ---- */

static bool shows_zeroes(struct node *n, u64 offset, u64 len)
{
	struct node *in;
	struct extent e;

	return !node_map(n, offset, len, true, &in, &e) && e.kind == EXTENT_ZERO && e.len == len;
}

static int zero_part(struct node *n, u64 offset, u64 len, bool zero)
{
	if (!zero || shows_zeroes(n, offset, len))
		return 0;
	return node_write_zeroes(n, offset, len);
}

/* A whole cluster, which then has no place in the file. */
static int drop_cluster(struct node *n, u64 offset, bool zero)
{
	struct qcow2 *q = n->data;
	struct qcow2_table *t;
	struct extent e;
	int rc = qcow2_map(n, offset, q->cluster, false, true, &e);

	if (rc || e.kind == EXTENT_ZERO || (e.kind == EXTENT_ABSENT && !n->backing))
		return rc;
	/* Version 2 has no word for a cluster that hides the backing file's. */
	if (n->backing && q->version < 3)
		return zero_part(n, offset, q->cluster, zero);
	rc = own_l2(q, offset, &t);
	return rc ? rc : set_entry(q, t, offset, n->backing ? ENTRY_ZERO : 0);
}

/* Everything of one L2 table that is not there, at once: the length, or 0. */
static u64 nothing_to_drop(struct node *n, u64 offset, u64 len)
{
	struct extent e;

	if (n->backing || qcow2_map(n, offset, len, false, true, &e) || e.kind != EXTENT_ABSENT)
		return 0;
	return e.len;
}

int qcow2_drop(struct node *n, u64 offset, u64 len, bool zero)
{
	struct qcow2 *q = n->data;
	u64 step;
	int rc = 0;

	for (; len && !rc; offset += step, len -= step) {
		step = nothing_to_drop(n, offset, len);
		if (step)
			continue;
		step = min_u64(len, q->cluster - (offset & (q->cluster - 1)));
		/* The last cluster may be one that the image ends in. */
		if (step == q->cluster || (qcow2_aligned(q, offset) && offset + step == n->size))
			rc = drop_cluster(n, offset, zero);
		else
			rc = zero_part(n, offset, step, zero);
		if (!rc)
			rc = bound_unwritten(q);
	}
	return rc;
}
