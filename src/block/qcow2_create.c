/* New images, always of version 3 unless an old one is asked for; other sizes. */
#include "base/scope.h"
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_CLUSTER (64 * KiB)
#define REFCOUNT_ORDER	4u

struct layout {
	u64 cluster, bits;
	u64 l1_entries, l1, rt, rb; /* the last three in clusters */
};

static u64 divide_up(u64 a, u64 b) { return a / b + !!(a % b); }

/* A refcount table for the image when it is full, with room for its own tables. */
static int lay_out(const struct block_create *c, struct layout *l, struct err *err)
{
	u64 per_l2, per_rb, all;

	l->cluster = c->cluster ? c->cluster : DEFAULT_CLUSTER;
	if (l->cluster < 512 || l->cluster > 2 * MiB || l->cluster & (l->cluster - 1))
		return err_set(err, -EINVAL,
			"the cluster size must be a power of two between 512"
			" bytes and 2M");
	l->bits = (u64)__builtin_ctzll(l->cluster);
	per_l2 = l->cluster / 8;
	per_rb = l->cluster * 8 >> REFCOUNT_ORDER;
	if (c->size > BLOCK_SIZE_MAX || divide_up(c->size, l->cluster * per_l2) > QCOW2_L1_MAX)
		return err_set(err, -EFBIG, "too large for clusters of %llu bytes",
			(unsigned long long)l->cluster);
	l->l1_entries = max_u64(1, divide_up(c->size, l->cluster * per_l2));
	l->l1 = max_u64(1, divide_up(l->l1_entries * 8, l->cluster));
	all = divide_up(c->size, l->cluster);
	all += all / per_l2 + l->l1 + all / per_rb + 64;
	l->rt = divide_up(divide_up(all, per_rb) * 8, l->cluster);
	if (l->rt * per_l2 > QCOW2_RT_MAX)
		return err_set(err, -EFBIG, "too large for clusters of %llu bytes",
			(unsigned long long)l->cluster);
	l->rb = 1;
	while (l->rb * per_rb < 1 + l->rt + l->rb + l->l1)
		l->rb++;
	return 0;
}

static u8 *put_extension(u8 *at, u32 type, const char *text)
{
	u32 len = (u32)strlen(text);

	put_be32(at, type);
	put_be32(at + 4, len);
	memcpy(at + 8, text, len);
	return at + 8 + align_up(len, 8);
}

static int put_names(
	const struct block_create *c, const struct layout *l, u8 *h, u32 at, struct err *err)
{
	u64 len = c->backing ? strlen(c->backing) : 0;
	u8 *end = h + at;

	if (!len)
		return 0;
	if (len >= BLOCK_NAME_MAX || at + 64 + len > l->cluster)
		return err_set(err, -ENAMETOOLONG, "the name of the backing file is too long");
	if (c->backing_format)
		end = put_extension(end, EXTENSION_FORMAT, c->backing_format);
	end += 8; /* EXTENSION_END */
	memcpy(end, c->backing, len);
	put_be64(h + HEADER_BACKING, (u64)(end - h));
	put_be32(h + HEADER_BACKING_LEN, (u32)len);
	return 0;
}

static int put_header(const struct block_create *c, const struct layout *l, u8 *h, struct err *err)
{
	u32 len = c->old ? HEADER_V2_END : HEADER_ROOM;

	put_be32(h, QCOW2_MAGIC);
	put_be32(h + HEADER_VERSION, c->old ? 2 : 3);
	put_be32(h + HEADER_CLUSTER_BITS, (u32)l->bits);
	put_be64(h + HEADER_SIZE, c->size);
	put_be32(h + HEADER_L1_SIZE, (u32)l->l1_entries);
	put_be64(h + HEADER_L1, (1 + l->rt + l->rb) << l->bits);
	put_be64(h + HEADER_RT, l->cluster);
	put_be32(h + HEADER_RT_CLUSTERS, (u32)l->rt);
	if (!c->old) {
		put_be64(h + HEADER_COMPATIBLE, c->lazy ? COMPATIBLE_LAZY : 0);
		put_be32(h + HEADER_REFCOUNT_ORDER, REFCOUNT_ORDER);
		put_be32(h + HEADER_LENGTH, len);
	}
	return put_names(c, l, h, len, err);
}

static int put_refcounts(int fd, const struct layout *l)
{
	u64 used = 1 + l->rt + l->rb + l->l1;
	AUTO_FREE u8 *table = calloc(l->rb, 8), *blocks = calloc(l->rb, l->cluster);
	int rc;

	if (!table || !blocks)
		return -ENOMEM;
	for (u64 i = 0; i < l->rb; i++)
		put_be64(table + 8 * i, (1 + l->rt + i) << l->bits);
	for (u64 i = 0; i < used; i++)
		put_be16(blocks + 2 * i, 1);
	rc = io_pwrite(fd, blocks, l->rb * l->cluster, (1 + l->rt) << l->bits);
	return rc ? rc : io_pwrite(fd, table, 8 * l->rb, l->cluster);
}

int qcow2_create(int fd, const struct block_create *c, struct err *err)
{
	struct layout l = { 0 };
	int rc = lay_out(c, &l, err);

	if (rc)
		return rc;
	AUTO_FREE u8 *header = calloc(1, l.cluster);

	rc = header ? put_header(c, &l, header, err) : err_set(err, -ENOMEM, "no memory");
	if (rc)
		return rc;
	rc = put_refcounts(fd, &l);
	if (!rc && ftruncate(fd, (off_t)((1 + l.rt + l.rb + l.l1) << l.bits)))
		rc = -errno;
	if (!rc)
		rc = io_pwrite(fd, header, l.cluster, 0);
	return rc ? err_set(err, rc, "%s", strerror(-rc)) : 0;
}

/* ---- other sizes ---- */

/* A longer L1 table, elsewhere; the old one's clusters are free with the next flush. */
static int grow_l1(struct qcow2 *q, u64 entries)
{
	struct qcow2_list old = q->l1;
	u64 clusters = divide_up(entries * 8, q->cluster), at;
	struct qcow2_table **slots;
	u64 *list;
	int rc = qcow2_flush_tables(q);

	if (!rc)
		rc = qcow2_alloc(q, clusters, &at);
	if (rc)
		return rc;
	list = calloc(entries + 1, 8);
	slots = calloc(entries + 1, sizeof(*slots));
	if (!list || !slots) {
		free(list);
		free(slots);
		return -ENOMEM;
	}
	memcpy(list, old.entry, 8ull * old.count);
	memcpy(slots, q->l2.slot, old.count * sizeof(*slots));
	free(old.entry);
	free(q->l2.slot);
	q->l2.slot = slots;
	q->l2.slots = (u32)entries;
	q->l1 = (struct qcow2_list){ list, at, (u32)entries, 0, (u32)entries };
	rc = qcow2_flush_tables(q);
	if (!rc) {
		u8 header[12];

		put_be32(header, (u32)entries);
		put_be64(header + 4, at);
		rc = qcow2_put_header(q, HEADER_L1_SIZE, header, sizeof(header));
	}
	for (u64 i = 0; i < divide_up(8ull * old.count, q->cluster) && !rc; i++)
		rc = qcow2_unref_later(q, old.at + (i << q->cluster_bits));
	return rc;
}

static int set_size(struct qcow2 *q, u64 size)
{
	u8 bytes[8];
	int rc = qcow2_flush_tables(q);

	put_be64(bytes, size);
	if (!rc)
		rc = qcow2_put_header(q, HEADER_SIZE, bytes, sizeof(bytes));
	if (!rc)
		rc = qcow2_sync(q);
	if (!rc)
		q->n->size = size;
	return rc;
}

static int grow(struct qcow2 *q, u64 size)
{
	u64 old = q->n->size, entries = divide_up(size, q->cluster * qcow2_per_l2(q));
	u64 edge = min_u64(align_up(old, q->cluster), size);
	int rc = qcow2_begin(q);

	if (!rc && entries > q->l1.count)
		rc = grow_l1(q, entries);
	if (!rc)
		rc = set_size(q, size);
	/* What the last cluster had behind the old end, or a longer backing file has. */
	if (!rc && edge > old)
		rc = qcow2_drop(q->n, old, edge - old, true);
	if (!rc && q->n->backing && q->n->backing->size > edge)
		rc = qcow2_drop(q->n, edge, min_u64(q->n->backing->size, size) - edge, true);
	return rc;
}

static int shrink(struct qcow2 *q, u64 size)
{
	u64 first = align_up(size, q->cluster);
	int rc = qcow2_begin(q);

	if (!rc && first < q->n->size)
		rc = qcow2_drop(q->n, first, q->n->size - first, false);
	return rc ? rc : set_size(q, size);
}

int qcow2_resize(struct node *n, u64 size, struct err *err)
{
	struct qcow2 *q = n->data;
	int rc;

	if (size > BLOCK_SIZE_MAX || divide_up(size, q->cluster * qcow2_per_l2(q)) > QCOW2_L1_MAX)
		return err_set(err, -EFBIG, "%s: too large for its clusters", n->path);
	if (size < n->size && q->snapshots)
		return err_set(
			err, -EINVAL, "%s: has snapshots and cannot become smaller", n->path);
	rc = size > n->size ? grow(q, size) : size < n->size ? shrink(q, size) : 0;
	return rc ? err_set(err, rc, "%s: %s", n->path, strerror(-rc)) : 0;
}
