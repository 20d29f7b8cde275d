/* Where guest offsets are; reading packed clusters. */
#include "base/scope.h"
#include "block/qcow2_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

/* NULL in *t: not allocated. */
int qcow2_l2(struct qcow2 *q, u64 offset, bool wait, struct qcow2_table **t)
{
	u64 i = (offset >> q->cluster_bits) / qcow2_per_l2(q);

	*t = NULL;
	if (i >= q->l1.count)
		return -EIO;
	if (!(q->l1.entry[i] & ENTRY_OFFSET))
		return 0;
	return qcow2_cached(q, &q->l2, (u32)i, q->l1.entry[i] & ENTRY_OFFSET, wait, t);
}

/* 1: as it should be; else -EIO. The header's cluster holds no data. */
static int is_data_offset(const struct qcow2 *q, u64 at)
{
	return at && qcow2_aligned(q, at) ? 1 : -EIO;
}

/* What one L2 entry says. */
static int classify(const struct qcow2 *q, u64 entry, bool own, bool write, struct extent *e)
{
	u64 at = entry & ENTRY_OFFSET;

	if (entry & ENTRY_PACKED)
		e->kind = EXTENT_PACKED;
	else if (q->version >= 3 && entry & ENTRY_ZERO)
		e->kind = EXTENT_ZERO;
	else if (!at)
		e->kind = EXTENT_ABSENT;
	else if (is_data_offset(q, at) < 0)
		return -EIO;
	else if (write && !(own && entry & ENTRY_COPIED))
		e->kind = EXTENT_PACKED; /* that is, not in place */
	else
		e->kind = EXTENT_DATA;
	e->at = e->kind == EXTENT_DATA ? at : 0;
	return 0;
}

static bool continues(const struct extent *first, const struct extent *next, u64 distance)
{
	return next->kind == first->kind && first->kind != EXTENT_PACKED &&
	       (first->kind != EXTENT_DATA || next->at == first->at + distance);
}

int qcow2_map(struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e)
{
	struct qcow2 *q = n->data;
	struct qcow2_table *t;
	u64 number = offset >> q->cluster_bits, within = offset & (q->cluster - 1);
	u64 i = number % qcow2_per_l2(q), have;
	struct extent next = { 0 };
	int rc = qcow2_l2(q, offset, wait, &t);

	if (rc)
		return rc;
	if (!t) {
		have = (qcow2_per_l2(q) - i) * q->cluster - within;
		*e = (struct extent){ EXTENT_ABSENT, 0, min_u64(len, have) };
		return 0;
	}
	bool own = q->l1.entry[number / qcow2_per_l2(q)] & ENTRY_COPIED;

	rc = classify(q, get_be64(t->data + 8 * i), own, write, e);
	if (rc)
		return rc;
	u64 clusters = 1;

	for (have = q->cluster - within; have < len && i + clusters < qcow2_per_l2(q);
		clusters++, have += q->cluster)
		if (classify(q, get_be64(t->data + 8 * (i + clusters)), own, write, &next) ||
			!continues(e, &next, clusters * q->cluster))
			break;
	if (e->kind == EXTENT_DATA)
		e->at += within;
	e->len = min_u64(len, have);
	return 0;
}

/* ---- packed clusters ---- */

/* Bits below x are the offset, in bytes; those up to 61 the number of further sectors. */
void qcow2_packed_range(const struct qcow2 *q, u64 entry, u64 *at, u64 *len)
{
	u32 x = 62 - (q->cluster_bits - 8);
	u64 sectors = bits(entry, 61, x) + 1;

	*at = bits(entry, x - 1, 0);
	*len = sectors * 512 - (*at & 511);
}

static int inflate_all(const u8 *src, u64 len, u8 *dst, u64 size)
{
	z_stream s = { .next_in = (u8 *)(uintptr_t)src,
		.avail_in = (uInt)len,
		.next_out = dst,
		.avail_out = (uInt)size };
	int rc;

	if (inflateInit2(&s, -15) != Z_OK)
		return -ENOMEM;
	rc = inflate(&s, Z_FINISH);
	inflateEnd(&s);
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR || rc == Z_OK) && !s.avail_out ? 0 : -EIO;
}

/* What follows the frame in the last sector is somebody else's. */
static int unzstd_all(const u8 *src, u64 len, u8 *dst, u64 size)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	ZSTD_inBuffer in = { src, len, 0 };
	ZSTD_outBuffer out = { dst, size, 0 };
	size_t rc = 1;

	if (!ctx)
		return -ENOMEM;
	while (out.pos < size && in.pos < len && rc && !ZSTD_isError(rc))
		rc = ZSTD_decompressStream(ctx, &out, &in);
	ZSTD_freeDCtx(ctx);
	return out.pos == size ? 0 : -EIO;
}

/* The whole cluster at a guest offset, into q->unpacked. */
static int unpack(struct qcow2 *q, u64 offset, u64 entry)
{
	AUTO_FREE u8 *src = NULL;
	u64 at, len;
	int rc;

	qcow2_packed_range(q, entry, &at, &len);
	q->packed_at = ~0ull;
	if (!q->unpacked)
		q->unpacked = malloc(q->cluster);
	src = malloc(len); /* at most two clusters */
	if (!q->unpacked || !src)
		return -ENOMEM;
	rc = io_pread(q->n->meta, src, len, at);
	if (!rc)
		rc = (q->compression ? unzstd_all : inflate_all)(src, len, q->unpacked, q->cluster);
	if (!rc)
		q->packed_at = offset;
	return rc;
}

int qcow2_read(struct node *n, u64 offset, u8 *buf, u64 len)
{
	struct qcow2 *q = n->data;
	u64 within = offset & (q->cluster - 1), start = offset - within;
	struct qcow2_table *t;
	int rc = qcow2_l2(q, offset, true, &t);

	if (rc || !t || !range_ok(within, len, q->cluster))
		return rc ? rc : -EIO;
	if (q->packed_at != start)
		rc = unpack(q, start,
			get_be64(t->data + 8 * ((offset >> q->cluster_bits) % qcow2_per_l2(q))));
	if (!rc)
		memcpy(buf, q->unpacked + within, len);
	return rc;
}
