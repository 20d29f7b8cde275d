/*
 * qcow2, versions 2 and 3 (docs/interop/qcow2.txt of QEMU is the specification; its words are used
 * here).
 *
 * L1 and the refcount table are in memory; L2 tables and refcount blocks are cached, in the file's
 * byte order. Changes are made in memory only and reach the file in qcow2_flush(), in this order,
 * with the disk waited for in between:
 *
 *   1. the data that new clusters hold;
 *   2. refcounts, which only ever have become larger since the last flush;
 *   3. L2 tables, then L1;
 *   4. refcounts of what is not referenced any more (`pending`), which may be used again from now.
 *
 * So at no time does a table in the file point at something that is not there or counts as free. An
 * end between 2 and 3, or 3 and 4, leaves leaks, and there the dirty bit comes in (version 3): it
 * is set, and on the disk, before the first change, and cleared on closing; who opens an image that
 * has it counts again. With it the disk need not be waited for around 2 and 4. Images of version 2
 * have no such bit: they are counted whenever they are opened for writing.
 *
 * A cluster that an L2 table does not say to be its own (COPIED) is never written to: what is
 * shared with snapshots, packed, zero or in a backing file is copied to a new one first.
 */
#pragma once
#include "base/bits.h"
#include "block/format.h"

#define QCOW2_MAGIC	    0x514649fbu
#define QCOW2_L1_MAX	    (4u * 1024 * 1024) /* entries */
#define QCOW2_RT_MAX	    (1024u * 1024)     /* entries */
#define QCOW2_SNAPSHOTS_MAX 65536u

/* Offsets of header fields. */
enum {
	HEADER_MAGIC = 0,
	HEADER_VERSION = 4,
	HEADER_BACKING = 8,
	HEADER_BACKING_LEN = 16,
	HEADER_CLUSTER_BITS = 20,
	HEADER_SIZE = 24,
	HEADER_CRYPT = 32,
	HEADER_L1_SIZE = 36,
	HEADER_L1 = 40,
	HEADER_RT = 48,
	HEADER_RT_CLUSTERS = 56,
	HEADER_SNAPSHOTS = 60,
	HEADER_SNAPSHOTS_AT = 64,
	HEADER_V2_END = 72,
	HEADER_INCOMPATIBLE = 72,
	HEADER_COMPATIBLE = 80,
	HEADER_AUTOCLEAR = 88,
	HEADER_REFCOUNT_ORDER = 96,
	HEADER_LENGTH = 100,
	HEADER_V3_END = 104,
	HEADER_COMPRESSION = 104,
	HEADER_ROOM = 112,
};

#define INCOMPATIBLE_DIRTY	 BIT64(0)
#define INCOMPATIBLE_CORRUPT	 BIT64(1)
#define INCOMPATIBLE_DATA_FILE	 BIT64(2)
#define INCOMPATIBLE_COMPRESSION BIT64(3)
#define INCOMPATIBLE_SUBCLUSTERS BIT64(4)
#define COMPATIBLE_LAZY		 BIT64(0)
#define AUTOCLEAR_BITMAPS	 BIT64(0)

#define EXTENSION_END	 0u
#define EXTENSION_FORMAT 0xe2792acau

/* L1 and L2 entries. */
#define ENTRY_COPIED BIT64(63)
#define ENTRY_PACKED BIT64(62)
#define ENTRY_ZERO   BIT64(0)
#define ENTRY_OFFSET 0x00fffffffffffe00ull

static inline u16 get_be16(const void *p) { return __builtin_bswap16(get_le16(p)); }
static inline u32 get_be32(const void *p) { return __builtin_bswap32(get_le32(p)); }
static inline u64 get_be64(const void *p) { return __builtin_bswap64(get_le64(p)); }
static inline void put_be16(void *p, u16 v) { put_le16(p, __builtin_bswap16(v)); }
static inline void put_be32(void *p, u32 v) { put_le32(p, __builtin_bswap32(v)); }
static inline void put_be64(void *p, u64 v) { put_le64(p, __builtin_bswap64(v)); }

/* One cluster of a table, as it is or will be in the file at `at`. */
struct qcow2_table {
	u64 at;
	u32 from, to; /* bytes that the file does not have yet; from == to: none */
	u8 data[];
};

struct qcow2_cache {
	struct qcow2_table **slot;
	u32 slots, loaded, limit, hand;
};

/* A table that is wholly in memory, in the host's byte order. */
struct qcow2_list {
	u64 *entry;
	u64 at;
	u32 count;
	u32 from, to; /* entries that the file does not have yet */
};

struct qcow2 {
	struct node *n;
	u32 version, cluster_bits, refcount_order, header_length, compression;
	u64 cluster; /* bytes */
	u64 incompatible, compatible, autoclear;
	u32 snapshots;
	u64 snapshots_at;
	struct qcow2_list l1, rt;
	struct qcow2_cache l2, rb;
	u64 hint;      /* no free cluster lies below this number */
	u64 append_at; /* not 0: refcount blocks are appended here (repair) */
	u64 *pending;  /* offsets of clusters that lose a reference with the next flush */
	size_t pendings, pending_room;
	bool changed;  /* the file's tables are behind */
	bool lost;     /* what was waited for has failed: so does every flush */
	u64 packed_at; /* the guest offset of `unpacked`; ~0: nothing */
	u8 *unpacked;
};

static inline u64 qcow2_per_l2(const struct qcow2 *q) { return q->cluster / 8; }
static inline u64 qcow2_per_rb(const struct qcow2 *q)
{
	return q->cluster * 8 >> q->refcount_order;
}
static inline bool qcow2_aligned(const struct qcow2 *q, u64 offset)
{
	return !(offset & (q->cluster - 1));
}

/* ---- qcow2.c ---- */

/* -EAGAIN without `wait` when it is not in memory. */
NODISCARD int qcow2_cached(
	struct qcow2 *q, struct qcow2_cache *c, u32 i, u64 at, bool wait, struct qcow2_table **t);
NODISCARD int qcow2_new_table(
	struct qcow2 *q, struct qcow2_cache *c, u32 i, u64 at, struct qcow2_table **t);
void qcow2_forget(struct qcow2_cache *c); /* everything; nothing of it is unwritten */
void qcow2_touch(struct qcow2_table *t, u32 from, u32 len);
void qcow2_list_set(struct qcow2_list *l, u32 i, u64 value);
/* Before any change: tells the file, and clears what other programs' changes make wrong. */
NODISCARD int qcow2_begin(struct qcow2 *q);
NODISCARD int qcow2_sync(struct qcow2 *q);
NODISCARD int qcow2_put_header(struct qcow2 *q, u32 at, const void *bytes, u32 len);

/* ---- qcow2_refcount.c ---- */

NODISCARD int qcow2_refcount(struct qcow2 *q, u64 number, u64 *value);
NODISCARD int qcow2_refcount_set(struct qcow2 *q, u64 number, u64 value);
/* `count` clusters in a row, each with one reference. */
NODISCARD int qcow2_alloc(struct qcow2 *q, u64 count, u64 *offset);
/* The cluster right behind, if it is free: 1, 0 or -errno. */
NODISCARD int qcow2_alloc_next(struct qcow2 *q, u64 offset);
void qcow2_unalloc(struct qcow2 *q, u64 offset, u64 count); /* nothing points there yet */
NODISCARD int qcow2_unref_later(struct qcow2 *q, u64 offset);
NODISCARD int qcow2_flush_tables(struct qcow2 *q);
NODISCARD int qcow2_write_refcounts(struct qcow2 *q);

/* ---- qcow2_map.c ---- */

/* Where packed data lies in the file. */
void qcow2_packed_range(const struct qcow2 *q, u64 entry, u64 *at, u64 *len);
NODISCARD int qcow2_map(
	struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e);
NODISCARD int qcow2_read(struct node *n, u64 offset, u8 *buf, u64 len);
NODISCARD int qcow2_l2(struct qcow2 *q, u64 offset, bool wait, struct qcow2_table **t);

/* ---- qcow2_write.c ---- */

NODISCARD int qcow2_write(
	struct node *n, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len);
NODISCARD int qcow2_drop(struct node *n, u64 offset, u64 len, bool zero);

/* ---- qcow2_check.c, qcow2_create.c ---- */

NODISCARD int qcow2_check(struct node *n, bool repair, struct block_check *c, struct err *err);
NODISCARD int qcow2_create(int fd, const struct block_create *c, struct err *err);
NODISCARD int qcow2_resize(struct node *n, u64 size, struct err *err);
