/* Refcounts, free clusters, and the order in which tables reach the file. */
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- one refcount ---- */

static u64 get_count(const u8 *data, u32 order, u64 i)
{
	switch (order) {
	case 3: return data[i];
	case 4: return get_be16(data + 2 * i);
	case 5: return get_be32(data + 4 * i);
	case 6: return get_be64(data + 8 * i);
	}
	u32 width = 1u << order, per_byte = 8 / width;

	return data[i / per_byte] >> (i % per_byte * width) & (BIT(width) - 1);
}

static void put_count(u8 *data, u32 order, u64 i, u64 value)
{
	u32 width = 1u << order;

	switch (order) {
	case 3: data[i] = (u8)value; return;
	case 4: put_be16(data + 2 * i, (u16)value); return;
	case 5: put_be32(data + 4 * i, (u32)value); return;
	case 6: put_be64(data + 8 * i, value); return;
	}
	u32 shift = (u32)(i % (8 / width)) * width;
	u8 *byte = &data[i / (8 / width)];

	*byte = (u8)((*byte & ~((BIT(width) - 1) << shift)) | value << shift);
}

static int find_block(struct qcow2 *q, u64 number, struct qcow2_table **t)
{
	u64 i = number / qcow2_per_rb(q);

	*t = NULL;
	if (i >= q->rt.count || !(q->rt.entry[i] & ENTRY_OFFSET))
		return 0;
	return qcow2_cached(q, &q->rb, (u32)i, q->rt.entry[i] & ENTRY_OFFSET, true, t);
}

int qcow2_refcount(struct qcow2 *q, u64 number, u64 *value)
{
	struct qcow2_table *t;
	int rc = find_block(q, number, &t);

	*value = t ? get_count(t->data, q->refcount_order, number % qcow2_per_rb(q)) : 0;
	return rc;
}

/* ---- growing ---- */

static int make_block(struct qcow2 *q, u32 i);

/* A table of twice the size, behind everything that the old one can count. The old one is given
 * back with the next flush. */
static int grow_table(struct qcow2 *q)
{
	u64 first = q->rt.count * qcow2_per_rb(q), per_cluster = qcow2_per_l2(q);
	u64 entries = 2ull * q->rt.count, clusters = entries / per_cluster;
	struct qcow2_list old = q->rt;
	u8 header[12];
	int rc = 0;

	if (entries > QCOW2_RT_MAX || clusters + 1 > qcow2_per_rb(q))
		return -EFBIG;
	q->rt.entry = calloc(entries + 1, 8);
	struct qcow2_table **slots = calloc(entries + 1, sizeof(*slots));

	if (!q->rt.entry || !slots) {
		free(q->rt.entry);
		free(slots);
		q->rt = old;
		return -ENOMEM;
	}
	memcpy(q->rt.entry, old.entry, 8ull * old.count);
	memcpy(slots, q->rb.slot, old.count * sizeof(*slots));
	free(q->rb.slot);
	q->rb.slot = slots;
	q->rb.slots = q->rt.count = (u32)entries;
	q->rt.at = (first + 1) << q->cluster_bits;
	q->rt.from = 0;
	q->rt.to = q->rt.count;
	rc = make_block(q, old.count);
	for (u64 i = 0; i < clusters && !rc; i++)
		rc = qcow2_refcount_set(q, first + 1 + i, 1);
	if (!rc)
		rc = qcow2_write_refcounts(q);
	if (!rc)
		rc = qcow2_sync(q);
	put_be64(header, q->rt.at);
	put_be32(header + 8, (u32)clusters);
	if (!rc)
		rc = qcow2_put_header(q, HEADER_RT, header, sizeof(header));
	for (u64 i = 0; i < old.count / per_cluster && !rc; i++)
		rc = qcow2_unref_later(q, old.at + (i << q->cluster_bits));
	free(old.entry);
	return rc;
}

/* The block that counts a range of clusters is the first of them, all of which are free, or what is
 * appended. */
static int make_block(struct qcow2 *q, u32 i)
{
	u64 number = q->append_at ? q->append_at++ : i * qcow2_per_rb(q);
	struct qcow2_table *t;
	int rc;

	if (!number)
		return -EIO; /* where the header is: a damaged image counts nothing there */
	rc = qcow2_new_table(q, &q->rb, i, number << q->cluster_bits, &t);
	if (rc)
		return rc;
	qcow2_list_set(&q->rt, i, number << q->cluster_bits);
	if (number / qcow2_per_rb(q) == i)
		put_count(t->data, q->refcount_order, number % qcow2_per_rb(q), 1);
	return 0;
}

static int need_block(struct qcow2 *q, u64 number, struct qcow2_table **t)
{
	u64 i = number / qcow2_per_rb(q);
	int rc = 0;

	while (i >= q->rt.count && !rc)
		rc = grow_table(q);
	if (!rc && !(q->rt.entry[i] & ENTRY_OFFSET))
		rc = make_block(q, (u32)i);
	return rc ? rc : find_block(q, number, t);
}

int qcow2_refcount_set(struct qcow2 *q, u64 number, u64 value)
{
	u64 i = number % qcow2_per_rb(q), bits = i << q->refcount_order;
	u32 width = 1u << q->refcount_order;
	struct qcow2_table *t;
	int rc = need_block(q, number, &t);

	if (rc)
		return rc;
	if (width < 64 && value >> width)
		return -EOVERFLOW;
	put_count(t->data, q->refcount_order, i, value);
	qcow2_touch(t, (u32)(bits / 8), (u32)max_u64(width / 8, 1));
	q->changed = true;
	return 0;
}

/* ---- allocation ---- */

/* 1: free, 0: not, or -errno. */
static int is_free(struct qcow2 *q, u64 number)
{
	struct qcow2_table *t;
	u64 value;
	int rc = need_block(q, number, &t);

	if (!rc)
		rc = qcow2_refcount(q, number, &value);
	return rc ? rc : !value;
}

int qcow2_alloc(struct qcow2 *q, u64 count, u64 *offset)
{
	u64 from = q->hint, run = 0;
	int rc = qcow2_begin(q);

	for (u64 at = from; run < count && !rc; at++) {
		int free = is_free(q, at);

		if (free < 0)
			return free;
		run = free ? run + 1 : 0;
		if (!free)
			from = at + 1;
	}
	for (u64 i = 0; i < count && !rc; i++)
		rc = qcow2_refcount_set(q, from + i, 1);
	if (rc)
		return rc;
	if (count == 1)
		q->hint = from + 1;
	*offset = from << q->cluster_bits;
	return 0;
}

int qcow2_alloc_next(struct qcow2 *q, u64 offset)
{
	u64 number = (offset >> q->cluster_bits) + 1;
	int free = is_free(q, number);

	if (free == 1) {
		int rc = qcow2_refcount_set(q, number, 1);

		if (rc)
			return rc;
		if (q->hint == number)
			q->hint++;
	}
	return free;
}

void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 count)
{
	u64 number = offset >> q->cluster_bits;

	for (u64 i = 0; i < count; i++)
		if (qcow2_refcount_set(q, number + i, 0))
			return; /* a leak */
	q->hint = min_u64(q->hint, number);
}

int qcow2_unref_later(struct qcow2 *q, u64 offset)
{
	if (q->pendings == q->pending_room) {
		size_t room = q->pending_room ? 2 * q->pending_room : 64;
		u64 *p = realloc(q->pending, room * sizeof(*p));

		if (!p)
			return -ENOMEM;
		q->pending = p;
		q->pending_room = room;
	}
	q->pending[q->pendings++] = offset;
	q->changed = true;
	return 0;
}

/* 1: it is free now, 0: not yet, or -errno. */
static int unref(struct qcow2 *q, u64 offset)
{
	u64 number = offset >> q->cluster_bits, value;
	int rc = qcow2_refcount(q, number, &value);

	if (rc || !value)
		return rc; /* of a damaged image */
	rc = qcow2_refcount_set(q, number, value - 1);
	if (rc || value > 1)
		return rc;
	q->hint = min_u64(q->hint, number);
	return 1;
}

/* ---- to the file ---- */

static int write_cache(struct qcow2 *q, struct qcow2_cache *c)
{
	for (u32 i = 0; i < c->slots; i++) {
		struct qcow2_table *t = c->slot[i];

		if (!t || t->from == t->to)
			continue;
		int rc = io_pwrite(q->n->meta, t->data + t->from, t->to - t->from, t->at + t->from);

		if (rc)
			return rc;
		t->from = t->to = 0;
	}
	return 0;
}

static int write_list(struct qcow2 *q, struct qcow2_list *l)
{
	u32 count = l->to - l->from;
	u8 *bytes;
	int rc;

	if (!count)
		return 0;
	bytes = malloc(8ull * count);
	if (!bytes)
		return -ENOMEM;
	for (u32 i = 0; i < count; i++)
		put_be64(bytes + 8ull * i, l->entry[l->from + i]);
	rc = io_pwrite(q->n->meta, bytes, 8ull * count, l->at + 8ull * l->from);
	free(bytes);
	if (!rc)
		l->from = l->to = 0;
	return rc;
}

int qcow2_write_refcounts(struct qcow2 *q)
{
	bool marked = q->incompatible & INCOMPATIBLE_DIRTY;
	int rc = write_cache(q, &q->rb);

	if (!rc && q->rt.from != q->rt.to && !marked)
		rc = qcow2_sync(q);
	return rc ? rc : write_list(q, &q->rt);
}

static int write_references(struct qcow2 *q)
{
	int rc = write_cache(q, &q->l2);

	if (!rc && q->l1.from != q->l1.to)
		rc = qcow2_sync(q);
	return rc ? rc : write_list(q, &q->l1);
}

/* Counts what is pending; what is free then stays in the list, for give_back(). */
static int unref_pending(struct qcow2 *q)
{
	size_t free = 0;
	int rc = 0;

	for (size_t i = 0; i < q->pendings && rc >= 0; i++) {
		rc = unref(q, q->pending[i]);
		if (rc == 1)
			q->pending[free++] = q->pending[i];
	}
	rc = rc < 0 ? rc : qcow2_write_refcounts(q);
	/* What has been counted may be used again from now: not twice in this list. */
	q->pendings = rc ? 0 : free;
	return rc;
}

static void give_back(struct qcow2 *q)
{
	for (size_t i = 0; i < q->pendings; i++)
		node_punch(q->n, align_down(q->pending[i], q->cluster), q->cluster);
	q->pendings = 0;
}

/*
 * The numbers are those of qcow2_priv.h. With the dirty bit in the file, refcounts need not be on
 * the disk at any particular time, so all is written at once: an end of this process hardly ever
 * comes in between.
 */
int qcow2_flush_tables(struct qcow2 *q)
{
	bool marked = q->incompatible & INCOMPATIBLE_DIRTY;
	int rc = qcow2_sync(q); /* 1 */

	if (q->pendings && q->n->quiesce)
		q->n->quiesce(q->n->ctx);
	if (!rc)
		rc = qcow2_write_refcounts(q); /* 2 */
	if (!rc && !marked)
		rc = qcow2_sync(q);
	if (!rc)
		rc = write_references(q); /* 3 */
	if (!rc && !marked)
		rc = qcow2_sync(q);
	if (!rc)
		rc = unref_pending(q); /* 4 */
	else
		return rc;
	if (!rc && marked)
		rc = qcow2_sync(q);
	if (!rc)
		give_back(q);
	q->pendings = 0;
	q->changed = rc != 0;
	return rc;
}
