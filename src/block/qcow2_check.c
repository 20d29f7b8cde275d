/*
 * Counts the references to each cluster of the file and compares. What it walks is bounded by the
 * file: no L1 table, and no L2 table within one L1 table, is walked twice.
 */
#include "base/must.h"
#include "base/scope.h"
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CLUSTERS_MAX  BIT64(28)
#define SNAPSHOT_HEAD 40u
#define MANY	      0xffffu /* counts stop here */

struct count {
	struct qcow2 *q;
	struct block_check *c;
	bool repair;
	u64 clusters; /* of the file */
	u16 *refs;
	u8 *buf; /* one cluster */
	u32 walk;
};

static void PRINTF(2, 3) wrong(struct count *n, const char *fmt, ...)
{
	va_list args;

	if (n->c->errors++)
		return;
	va_start(args, fmt);
	vsnprintf(n->c->first, sizeof(n->c->first), fmt, args);
	va_end(args);
}

/* ---- counting ---- */

static bool add(struct count *n, u64 at, u64 len, const char *what)
{
	u64 first = at >> n->q->cluster_bits, last = (at + len - 1) >> n->q->cluster_bits;

	if (!len)
		return true;
	if (!at || last >= n->clusters || last < first) {
		wrong(n, "%s at 0x%llx lies outside of the file", what, (unsigned long long)at);
		return false;
	}
	for (u64 i = first; i <= last; i++)
		n->refs[i] = (u16)min_u64(n->refs[i] + 1u, MANY);
	return true;
}

static bool add_aligned(struct count *n, u64 at, u64 len, const char *what)
{
	if (qcow2_aligned(n->q, at))
		return add(n, at, len, what);
	wrong(n, "%s at 0x%llx is not at a cluster", what, (unsigned long long)at);
	return false;
}

/* A cluster that another table of the same walk has already led to. */
static bool seen(const struct count *n, u64 at)
{
	return n->refs[at >> n->q->cluster_bits] > n->walk + 1;
}

static void count_entry(struct count *n, u64 entry)
{
	u64 at = entry & ENTRY_OFFSET, len;

	if (entry & ENTRY_PACKED) {
		qcow2_packed_range(n->q, entry, &at, &len);
		/* The last sector may be cut off at the end of the file. */
		u64 end = n->clusters << n->q->cluster_bits;

		add(n, at, at < end ? min_u64(len, end - at) : len, "packed data");
	} else if (at) {
		add_aligned(n, at, n->q->cluster, "data");
	}
}

static int count_l2(struct count *n, u64 at)
{
	int rc = io_pread(n->q->n->meta, n->buf, n->q->cluster, at);

	for (u64 i = 0; i < qcow2_per_l2(n->q) && !rc; i++)
		count_entry(n, get_be64(n->buf + 8 * i));
	return rc;
}

/* `l1` is in the file's byte order. */
static int count_tree(struct count *n, const u8 *l1, u32 entries)
{
	int rc = 0;

	for (u32 i = 0; i < entries && !rc; i++) {
		if (n->c->progress)
			n->c->progress(n->c->ctx, i, entries);
		u64 at = get_be64(l1 + 8ull * i) & ENTRY_OFFSET;

		if (!at || !add_aligned(n, at, n->q->cluster, "an L2 table"))
			continue;
		if (seen(n, at))
			wrong(n, "the L2 table at 0x%llx is referred to twice",
				(unsigned long long)at);
		else
			rc = count_l2(n, at);
	}
	n->walk++;
	return rc;
}

static int count_l1(struct count *n, u64 at, u64 entries)
{
	u64 len = 8 * entries;
	AUTO_FREE u8 *l1 = NULL;

	if (!entries)
		return 0;
	if (entries > QCOW2_L1_MAX || !add_aligned(n, at, len, "an L1 table"))
		return 0;
	if (n->refs[at >> n->q->cluster_bits] > 1) {
		wrong(n, "the L1 table at 0x%llx is referred to twice", (unsigned long long)at);
		return 0;
	}
	l1 = malloc(len); /* it lies in the file */
	if (!l1)
		return -ENOMEM;
	int rc = io_pread(n->q->n->meta, l1, len, at);

	return rc ? rc : count_tree(n, l1, (u32)entries);
}

/* Each is a head, extra data, an id and a name, padded to 8 bytes. */
static int count_snapshots(struct count *n)
{
	u64 at = n->q->snapshots_at;
	u8 h[SNAPSHOT_HEAD];
	int rc = 0;

	for (u32 i = 0; i < n->q->snapshots && !rc; i++) {
		if (!range_ok(at, sizeof(h), n->clusters << n->q->cluster_bits)) {
			wrong(n, "the snapshots lie outside of the file");
			return 0;
		}
		rc = io_pread(n->q->n->meta, h, sizeof(h), at);
		if (!rc)
			rc = count_l1(n, get_be64(h), get_be32(h + 8));
		at += align_up(
			SNAPSHOT_HEAD + (u64)get_be32(h + 36) + get_be16(h + 12) + get_be16(h + 14),
			8);
	}
	if (n->q->snapshots && !rc)
		add_aligned(n, n->q->snapshots_at, at - n->q->snapshots_at, "the snapshot table");
	return rc;
}

static void count_refcounts(struct count *n)
{
	struct qcow2 *q = n->q;

	add_aligned(n, q->rt.at, 8ull * q->rt.count, "the refcount table");
	for (u32 i = 0; i < q->rt.count; i++) {
		u64 at = q->rt.entry[i] & ENTRY_OFFSET;
		bool good = !at || add_aligned(n, at, q->cluster, "a refcount block");

		if (at && good && n->refs[at >> q->cluster_bits] > 1) {
			wrong(n, "the refcount block at 0x%llx is something else, too",
				(unsigned long long)at);
			n->refs[at >> q->cluster_bits]--;
			good = false;
		}
		if (!good && n->repair)
			qcow2_list_set(&q->rt, i, 0);
	}
}

static int count_all(struct count *n)
{
	int rc;

	n->refs[0]++;
	rc = count_l1(n, n->q->l1.at, n->q->l1.count);
	if (!rc)
		rc = count_snapshots(n);
	if (!rc)
		count_refcounts(n);
	return rc;
}

/* ---- comparing ---- */

static int compare_one(struct count *n, u64 i)
{
	u64 have = 0, want = n->refs[i];
	int rc = qcow2_refcount(n->q, i, &have);

	if (rc || have == want || (want == MANY && have > want))
		return rc;
	if (n->repair) {
		n->c->repaired++;
		return qcow2_refcount_set(n->q, i, want);
	}
	if (have > want)
		n->c->leaks++;
	else
		wrong(n, "cluster %llu has %llu references and a refcount of %llu",
			(unsigned long long)i, (unsigned long long)want, (unsigned long long)have);
	return 0;
}

static int compare_all(struct count *n)
{
	struct qcow2 *q = n->q;
	int rc = 0;

	q->append_at = n->repair ? n->clusters : 0;
	for (u64 i = 0; i < n->clusters && !rc; i++) {
		n->c->used += n->refs[i] > 0;
		rc = compare_one(n, i);
	}
	/* New blocks of refcounts are counted, too, perhaps in further new ones. */
	for (u64 i = n->clusters; i < q->append_at && !rc; i++)
		rc = qcow2_refcount_set(q, i, 1);
	q->append_at = 0;
	if (!rc && n->repair)
		rc = qcow2_write_refcounts(q);
	return rc;
}

/* ---- the COPIED bits of the active tables: set where the refcount is exactly 1 ---- */

static bool copied_is_right(const struct count *n, u64 entry)
{
	u64 at = entry & ENTRY_OFFSET, i = at >> n->q->cluster_bits;
	bool must = !(entry & ENTRY_PACKED) && at && i < n->clusters && n->refs[i] == 1;

	return !!(entry & ENTRY_COPIED) == must || (!(entry & ENTRY_PACKED) && i >= n->clusters);
}

static int fix_copied(struct count *n, u64 place, u64 *entry, const char *what)
{
	u8 bytes[8];

	if (copied_is_right(n, *entry))
		return 0;
	if (!n->repair) {
		wrong(n, "the entry 0x%llx of %s says wrongly whether it is shared",
			(unsigned long long)*entry, what);
		return 0;
	}
	*entry ^= ENTRY_COPIED;
	n->c->repaired++;
	put_be64(bytes, *entry);
	return io_pwrite(n->q->n->meta, bytes, sizeof(bytes), place);
}

static int check_copied_l2(struct count *n, u64 at)
{
	int rc = io_pread(n->q->n->meta, n->buf, n->q->cluster, at);

	for (u64 i = 0; i < qcow2_per_l2(n->q) && !rc; i++) {
		u64 entry = get_be64(n->buf + 8 * i);

		rc = fix_copied(n, at + 8 * i, &entry, "an L2 table");
	}
	return rc;
}

static int check_copied(struct count *n)
{
	struct qcow2_list *l1 = &n->q->l1;
	int rc = 0;

	for (u32 i = 0; i < l1->count && !rc; i++) {
		u64 at = l1->entry[i] & ENTRY_OFFSET;

		if (!at || !qcow2_aligned(n->q, at) || at >> n->q->cluster_bits >= n->clusters ||
			n->refs[at >> n->q->cluster_bits] > n->walk)
			continue; /* reported before */
		rc = fix_copied(n, l1->at + 8ull * i, &l1->entry[i], "the L1 table");
		if (!rc)
			rc = check_copied_l2(n, at);
	}
	return rc;
}

/* ---- the whole ---- */

static int clear_marks(struct count *n)
{
	struct qcow2 *q = n->q;
	u8 bytes[8];

	if (q->version < 3 || !n->repair || n->c->errors)
		return 0;
	q->incompatible &= ~INCOMPATIBLE_CORRUPT;
	put_be64(bytes, q->incompatible);
	return qcow2_put_header(q, HEADER_INCOMPATIBLE, bytes, sizeof(bytes));
}

static int run(struct count *n)
{
	int rc = count_all(n);

	if (!rc)
		rc = compare_all(n);
	if (!rc)
		rc = check_copied(n);
	if (!rc && n->repair)
		rc = qcow2_sync(n->q);
	if (!rc)
		rc = clear_marks(n);
	return rc;
}

int qcow2_check(struct node *node, bool repair, struct block_check *c, struct err *err)
{
	struct qcow2 *q = node->data;
	struct count n = { .q = q, .c = c, .repair = repair };
	struct stat st;
	int rc = 0;

	must(q->rt.entry, "%s was not opened to be checked", node->path);
	if (q->autoclear & AUTOCLEAR_BITMAPS)
		return err_set(err, -EINVAL,
			"%s: has persistent bitmaps, which are not counted here:"
			" use qemu-img check",
			node->path);
	if (fstat(node->meta, &st))
		return err_set(err, -errno, "%s: %s", node->path, strerror(errno));
	n.clusters = align_up((u64)st.st_size, q->cluster) >> q->cluster_bits;
	if (n.clusters > CLUSTERS_MAX || !n.clusters)
		return err_set(err, -EFBIG, "%s: too large to be checked", node->path);
	c->clusters = n.clusters;
	n.refs = calloc(n.clusters, sizeof(u16));
	n.buf = malloc(q->cluster);
	rc = n.refs && n.buf ? run(&n) : -ENOMEM;
	free(n.refs);
	free(n.buf);
	/* What was repaired in the file is not in the tables in memory. */
	if (repair)
		qcow2_forget(&q->l2);
	return rc ? err_set(err, rc, "%s: checking: %s", node->path, strerror(-rc)) : 0;
}
