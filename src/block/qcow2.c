/* Opening and closing; tables in memory. qcow2_priv.h has the theory. */
#include "base/log.h"
#include "base/scope.h"
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_BYTES (32 * MiB) /* of each cache, if nothing in it is unwritten */
#define CACHE_LEAST 8u

/* ---- tables in memory ---- */

static bool is_clean(const struct qcow2_table *t) { return t->from == t->to; }

/* Makes room for one more, unless all are unwritten. */
static void evict(struct qcow2_cache *c)
{
	for (u32 i = 0; i < c->slots && c->loaded >= c->limit; i++) {
		struct qcow2_table **t = &c->slot[c->hand];

		c->hand = c->hand + 1 == c->slots ? 0 : c->hand + 1;
		if (*t && is_clean(*t)) {
			free(*t);
			*t = NULL;
			c->loaded--;
		}
	}
}

void qcow2_forget(struct qcow2_cache *c)
{
	for (u32 i = 0; i < c->slots; i++) {
		free(c->slot[i]);
		c->slot[i] = NULL;
	}
	c->loaded = 0;
}

static struct qcow2_table *add(struct qcow2 *q, struct qcow2_cache *c, u32 i, u64 at)
{
	struct qcow2_table *t = calloc(1, sizeof(*t) + q->cluster);

	if (!t)
		return NULL;
	evict(c);
	t->at = at;
	c->slot[i] = t;
	c->loaded++;
	return t;
}

int qcow2_cached(
	struct qcow2 *q, struct qcow2_cache *c, u32 i, u64 at, bool wait, struct qcow2_table **t)
{
	int rc;

	*t = c->slot[i];
	if (*t)
		return 0;
	if (!wait)
		return -EAGAIN;
	if (!qcow2_aligned(q, at) || !at)
		return -EIO;
	*t = add(q, c, i, at);
	if (!*t)
		return -ENOMEM;
	rc = io_pread(q->n->meta, (*t)->data, q->cluster, at);
	if (rc) {
		free(*t);
		c->slot[i] = NULL;
		c->loaded--;
	}
	return rc;
}

int qcow2_new_table(struct qcow2 *q, struct qcow2_cache *c, u32 i, u64 at, struct qcow2_table **t)
{
	if (c->slot[i]) {
		free(c->slot[i]);
		c->slot[i] = NULL;
		c->loaded--;
	}
	*t = add(q, c, i, at);
	if (!*t)
		return -ENOMEM;
	qcow2_touch(*t, 0, (u32)q->cluster);
	q->changed = true;
	return 0;
}

void qcow2_touch(struct qcow2_table *t, u32 from, u32 len)
{
	bool clean = is_clean(t);

	t->from = clean ? from : (u32)min_u64(t->from, from);
	t->to = clean ? from + len : (u32)max_u64(t->to, from + len);
}

void qcow2_list_set(struct qcow2_list *l, u32 i, u64 value)
{
	bool clean = l->from == l->to;

	l->entry[i] = value;
	l->from = clean ? i : (u32)min_u64(l->from, i);
	l->to = clean ? i + 1 : (u32)max_u64(l->to, i + 1);
}

/* ---- the header ---- */

/* What could not be written, for want of space or not, is gone, and no second try tells. */
int qcow2_sync(struct qcow2 *q)
{
	if (!q->n->sync)
		return 0;
	node_wait_begin(q->n);
	if (fdatasync(q->n->meta))
		q->lost = true;
	node_wait_end(q->n);
	return q->lost ? -EIO : 0;
}

int qcow2_put_header(struct qcow2 *q, u32 at, const void *bytes, u32 len)
{
	return io_pwrite(q->n->meta, bytes, len, at);
}

static int put_feature(struct qcow2 *q, u32 at, u64 *feature, u64 value)
{
	u8 bytes[8];
	int rc;

	put_be64(bytes, value);
	rc = qcow2_put_header(q, at, bytes, sizeof(bytes));
	if (!rc)
		*feature = value;
	return rc;
}

int qcow2_begin(struct qcow2 *q)
{
	int rc = 0;

	q->changed = true;
	if (q->version < 3 || q->incompatible & INCOMPATIBLE_DIRTY)
		return 0;
	if (q->autoclear)
		rc = put_feature(q, HEADER_AUTOCLEAR, &q->autoclear, 0);
	if (!rc)
		rc = put_feature(q, HEADER_INCOMPATIBLE, &q->incompatible,
			q->incompatible | INCOMPATIBLE_DIRTY);
	return rc ? rc : qcow2_sync(q);
}

static int end(struct qcow2 *q)
{
	int rc = q->changed ? qcow2_flush_tables(q) : 0;

	if (rc || q->version < 3 || !(q->incompatible & INCOMPATIBLE_DIRTY))
		return rc;
	rc = qcow2_sync(q);
	if (!rc)
		rc = put_feature(q, HEADER_INCOMPATIBLE, &q->incompatible,
			q->incompatible & ~INCOMPATIBLE_DIRTY);
	return rc ? rc : qcow2_sync(q);
}

/* ---- reading the header ---- */

static bool qcow2_probe(const u8 *head)
{
	u32 version = get_be32(head + HEADER_VERSION);

	return get_be32(head) == QCOW2_MAGIC && version >= 2;
}

static int refuse(const struct qcow2 *q, struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "%s: %s", q->n->path, what);
}

static int check_features(struct qcow2 *q, struct err *err)
{
	const u64 known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION;

	if (q->incompatible & INCOMPATIBLE_DATA_FILE)
		return refuse(q, err, "keeps its data in another file, which is not supported");
	if (q->incompatible & INCOMPATIBLE_SUBCLUSTERS)
		return refuse(q, err, "has extended L2 entries, which are not supported");
	if (q->incompatible & ~known)
		return err_set(err, -EINVAL, "%s: has unknown incompatible features 0x%llx",
			q->n->path, (unsigned long long)(q->incompatible & ~known));
	if (q->compression > 1)
		return refuse(q, err, "its compression method is unknown");
	if (!q->n->writable || q->n->no_repair)
		return 0;
	if (q->incompatible & INCOMPATIBLE_CORRUPT)
		return refuse(q, err, "is marked corrupt: strata image check --repair first");
	if (q->autoclear & AUTOCLEAR_BITMAPS)
		return refuse(q, err,
			"has persistent bitmaps, which writing would spoil: qemu-img"
			" bitmap --remove first");
	return 0;
}

static int parse_header(struct qcow2 *q, const u8 *h, struct err *err)
{
	if (get_be32(h) != QCOW2_MAGIC)
		return refuse(q, err, "not a qcow2 image");
	q->version = get_be32(h + HEADER_VERSION);
	if (q->version != 2 && q->version != 3)
		return refuse(q, err, "not version 2 or 3 of qcow2");
	q->cluster_bits = get_be32(h + HEADER_CLUSTER_BITS);
	if (q->cluster_bits < 9 || q->cluster_bits > 21)
		return refuse(q, err, "its cluster size is not between 512 bytes and 2 MiB");
	q->cluster = BIT64(q->cluster_bits);
	if (get_be32(h + HEADER_CRYPT))
		return refuse(q, err, "is encrypted, which is not supported");
	q->snapshots = get_be32(h + HEADER_SNAPSHOTS);
	q->snapshots_at = get_be64(h + HEADER_SNAPSHOTS_AT);
	if (q->snapshots > QCOW2_SNAPSHOTS_MAX)
		return refuse(q, err, "has too many snapshots");
	q->refcount_order = 4;
	q->header_length = HEADER_V2_END;
	if (q->version < 3)
		return 0;
	q->incompatible = get_be64(h + HEADER_INCOMPATIBLE);
	q->compatible = get_be64(h + HEADER_COMPATIBLE);
	q->autoclear = get_be64(h + HEADER_AUTOCLEAR);
	q->refcount_order = get_be32(h + HEADER_REFCOUNT_ORDER);
	q->header_length = get_be32(h + HEADER_LENGTH);
	if (q->refcount_order > 6)
		return refuse(q, err, "its refcounts are wider than 64 bits");
	if (q->header_length < HEADER_V3_END || q->header_length > q->cluster)
		return refuse(q, err, "its header has an impossible length");
	if (q->header_length > HEADER_COMPRESSION && q->incompatible & INCOMPATIBLE_COMPRESSION)
		q->compression = h[HEADER_COMPRESSION];
	return check_features(q, err);
}

/* Reads a table that must lie in the file, so that the file bounds what is allocated. */
static int read_list(struct qcow2 *q, struct qcow2_list *l, struct err *err, const char *what)
{
	u64 len = 8ull * l->count;
	int rc;

	if (!qcow2_aligned(q, l->at) || !range_ok(l->at, len, q->n->file_size))
		return err_set(
			err, -EINVAL, "%s: its %s lies outside of the file", q->n->path, what);
	l->entry = calloc(l->count + 1ull, 8);
	if (!l->entry)
		return err_set(err, -ENOMEM, "%s: no memory for its %s", q->n->path, what);
	rc = io_pread(q->n->meta, l->entry, len, l->at);
	if (rc)
		return err_set(err, rc, "%s: %s", q->n->path, strerror(-rc));
	for (u32 i = 0; i < l->count; i++)
		l->entry[i] = get_be64(&l->entry[i]);
	return 0;
}

static int make_cache(struct qcow2 *q, struct qcow2_cache *c, u32 slots)
{
	c->slots = slots;
	c->limit = (u32)max_u64(CACHE_LEAST, CACHE_BYTES / q->cluster);
	c->slot = calloc(slots + 1ull, sizeof(struct qcow2_table *));
	return c->slot ? 0 : -ENOMEM;
}

static int read_l1(struct qcow2 *q, const u8 *h, struct err *err)
{
	u64 size = get_be64(h + HEADER_SIZE), per_entry = q->cluster * qcow2_per_l2(q);

	q->l1.at = get_be64(h + HEADER_L1);
	q->l1.count = get_be32(h + HEADER_L1_SIZE);
	if (size > BLOCK_SIZE_MAX || q->l1.count > QCOW2_L1_MAX)
		return refuse(q, err, "is too large");
	if (size > per_entry * q->l1.count)
		return refuse(q, err, "its L1 table is too short for its size");
	q->n->size = align_up(size, BLOCK_SECTOR);
	return read_list(q, &q->l1, err, "L1 table");
}

static int read_rt(struct qcow2 *q, const u8 *h, struct err *err)
{
	u64 entries = get_be32(h + HEADER_RT_CLUSTERS) * qcow2_per_l2(q);

	q->rt.at = get_be64(h + HEADER_RT);
	if (entries > QCOW2_RT_MAX || !entries)
		return refuse(q, err, "its refcount table has an impossible size");
	q->rt.count = (u32)entries;
	return read_list(q, &q->rt, err, "refcount table");
}

static int read_backing_name(struct qcow2 *q, const u8 *h, struct err *err)
{
	u64 at = get_be64(h + HEADER_BACKING);
	u32 len = get_be32(h + HEADER_BACKING_LEN);
	int rc;

	if (!at)
		return 0;
	if (len >= BLOCK_NAME_MAX || !range_ok(at, len, q->n->file_size))
		return refuse(q, err, "the name of its backing file is too long");
	rc = io_pread(q->n->meta, q->n->backing_name, len, at);
	q->n->backing_name[len] = 0;
	if (rc)
		return err_set(err, rc, "%s: %s", q->n->path, strerror(-rc));
	if (strstr(q->n->backing_name, "://") || !strncmp(q->n->backing_name, "json:", 5))
		return refuse(q, err, "its backing file is not a file, which is not supported");
	return 0;
}

/* Type, length, data, each padded to 8 bytes, until type 0, all within the first cluster. */
static int read_extensions(struct qcow2 *q, struct err *err)
{
	AUTO_FREE u8 *head = malloc(q->cluster);
	u64 at = q->header_length;
	int rc = head ? io_pread(q->n->meta, head, q->cluster, 0) : -ENOMEM;

	if (rc)
		return err_set(err, rc, "%s: %s", q->n->path, strerror(-rc));
	while (range_ok(at, 8, q->cluster)) {
		u32 type = get_be32(head + at), len = get_be32(head + at + 4);

		at += 8;
		if (type == EXTENSION_END)
			break;
		if (!range_ok(at, len, q->cluster))
			return refuse(q, err, "a header extension is too long");
		if (type == EXTENSION_FORMAT && len < sizeof(q->n->backing_format)) {
			memcpy(q->n->backing_format, head + at, len);
			q->n->backing_format[len] = 0;
		}
		at += align_up(len, 8);
	}
	return 0;
}

/* Nobody closed it, or, in version 2, nobody can say whether. */
static int repair_at_open(struct qcow2 *q, struct err *err)
{
	struct block_check c = { 0 };
	bool marked = q->incompatible & INCOMPATIBLE_DIRTY;
	int rc;

	if (!q->n->writable || q->n->no_repair || (q->version >= 3 && !marked))
		return 0;
	rc = qcow2_check(q->n, true, &c, err);
	if (rc)
		return rc;
	if (c.repaired)
		log_info(q->n->path, "was not closed: %llu of its entries put right",
			(unsigned long long)c.repaired);
	if (c.errors)
		return err_set(err, -EINVAL, "%s: is damaged: %s", q->n->path, c.first);
	return end(q) ? refuse(q, err, "cannot be repaired") : 0;
}

static int open_tables(struct qcow2 *q, const u8 *h, struct err *err)
{
	int rc = read_l1(q, h, err);

	if (!rc)
		rc = read_backing_name(q, h, err);
	if (!rc)
		rc = read_extensions(q, err);
	/* Who only reads has no use for refcounts, and can do with an image whose are broken; but
	 * not who checks. */
	if (!rc && (q->n->writable || q->n->no_repair))
		rc = read_rt(q, h, err);
	if (!rc && (make_cache(q, &q->l2, q->l1.count) || make_cache(q, &q->rb, q->rt.count)))
		rc = err_set(err, -ENOMEM, "%s: no memory for its tables", q->n->path);
	return rc ? rc : repair_at_open(q, err);
}

static int qcow2_open(struct node *n, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	u8 h[HEADER_ROOM];
	int rc;

	n->data = q;
	if (!q)
		return err_set(err, -ENOMEM, "no memory");
	q->n = n;
	q->packed_at = ~0ull;
	rc = io_pread(n->meta, h, sizeof(h), 0);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	rc = parse_header(q, h, err);
	if (rc)
		return rc;
	n->optimal = (u32)q->cluster;
	return open_tables(q, h, err);
}

static void free_cache(struct qcow2_cache *c)
{
	if (c->slot)
		qcow2_forget(c);
	free(c->slot);
}

static void qcow2_close(struct node *n)
{
	struct qcow2 *q = n->data;

	if (!q)
		return;
	free_cache(&q->l2);
	free_cache(&q->rb);
	free(q->l1.entry);
	free(q->rt.entry);
	free(q->pending);
	free(q->unpacked);
	free(q);
}

static int qcow2_finish(struct node *n) { return end(n->data); }

static bool qcow2_dirty(const struct node *n)
{
	const struct qcow2 *q = n->data;

	return q->changed;
}

static int qcow2_flush(struct node *n) { return qcow2_flush_tables(n->data); }

static void say_number(void (*say)(void *, const char *, const char *, bool), void *ctx,
	const char *key, u64 value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	say(ctx, key, text, true);
}

static void qcow2_describe(
	const struct node *n, void (*say)(void *, const char *, const char *, bool), void *ctx)
{
	const struct qcow2 *q = n->data;

	say_number(say, ctx, "version", q->version);
	say_number(say, ctx, "cluster-size", q->cluster);
	say_number(say, ctx, "snapshots", q->snapshots);
	say(ctx, "compression", q->compression ? "zstd" : "zlib", false);
	if (q->compatible & COMPATIBLE_LAZY)
		say(ctx, "lazy-refcounts", "true", true);
	if (q->incompatible & INCOMPATIBLE_DIRTY)
		say(ctx, "dirty", "true", true);
	if (q->incompatible & INCOMPATIBLE_CORRUPT)
		say(ctx, "corrupt", "true", true);
}

const struct block_format qcow2_format = {
	.name = "qcow2",
	.doc = "QEMU's format: grows with its contents, may stand on a backing file",
	.probe = qcow2_probe,
	.writable = true,
	.backing = true,
	.open = qcow2_open,
	.map = qcow2_map,
	.read = qcow2_read,
	.write = qcow2_write,
	.drop = qcow2_drop,
	.dirty = qcow2_dirty,
	.flush = qcow2_flush,
	.finish = qcow2_finish,
	.close = qcow2_close,
	.create = qcow2_create,
	.resize = qcow2_resize,
	.check = qcow2_check,
	.describe = qcow2_describe,
};
