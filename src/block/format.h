/*
 * What a format is: where the bytes of an image lie in its file.
 *
 * A node is one opened file; the backing chain is a list of nodes. All functions of a format are
 * called with the chain to themselves (the block's format lock, or because nobody else knows it).
 *
 * Requirements. A file is hostile: offsets and sizes from it are checked against the file before
 * they are used, tables are bounded by the file or by a constant, loops end. Whatever is wrong is a
 * struct err at open, or -EIO afterwards, never more.
 */
#pragma once
#include "block/block.h"

#define BLOCK_NAME_MAX 1024u /* of a backing file, with its end */
#define BLOCK_SIZE_MAX (BIT64(62))

struct block_format;

struct node {
	const struct block_format *format;
	void *data; /* the format's */
	char *path;
	int fd;	  /* for the guest's data: past the page cache, or synchronous, as the mode wants */
	int meta; /* through the page cache; may be the same */
	struct mapped map; /* `fd`, if it is a file in memory */
	bool writable, direct, probed, no_repair;
	bool sync;     /* flushes mean something: not BLOCK_UNSAFE */
	u64 size;      /* of the image: set by open */
	u64 file_size; /* of the file, when it was opened */
	u32 optimal;   /* set by open where it is more than a sector */
	char backing_name[BLOCK_NAME_MAX], backing_format[16]; /* set by open; may be empty */
	struct node *backing;
	/* The block's, NULL without one. quiesce() waits until nothing is under way that was mapped
	 * before. blocking(): between `true` and `false` the chain is only waiting for the host,
	 * and others may map it; nothing may be half changed then. */
	void (*quiesce)(void *ctx);
	void (*blocking)(void *ctx, bool begins);
	void *ctx;
};

enum extent_kind {
	EXTENT_DATA, /* in the file, at `at` */
	EXTENT_ZERO,
	EXTENT_ABSENT, /* as the backing file has it; zeroes without one */
	EXTENT_PACKED, /* only the format can read it */
};

struct extent {
	enum extent_kind kind;
	u64 at, len;
};

/* What `strata image check` finds. */
struct block_check {
	u64 clusters, used; /* of the file, in use */
	u64 errors, leaks, repaired;
	char first[160];				  /* the first error, for a person */
	void (*progress)(void *ctx, u64 done, u64 total); /* set by the caller; may be NULL */
	void *ctx;
};

struct block_create {
	u64 size;
	u32 cluster; /* 0: the format's default */
	bool old;    /* the oldest version that is still written */
	bool lazy;
	const char *backing, *backing_format;
};

struct block_format {
	const char *name, *doc;
	bool (*probe)(const u8 *head); /* the first BLOCK_SECTOR bytes, zeroes behind the end */
	bool writable, backing;
	NODISCARD int (*open)(struct node *n, struct err *err);
	/* What [offset, offset + len) is, for as far as it is one thing; in the image. `write`:
	 * data only where it may be overwritten in place. Without `wait`, -EAGAIN where a file
	 * would have to be read. */
	NODISCARD int (*map)(
		struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e);
	/* Within one packed extent. */
	NODISCARD int (*read)(struct node *n, u64 offset, u8 *buf, u64 len);
	NODISCARD int (*write)(
		struct node *n, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len);
	NODISCARD int (*drop)(struct node *n, u64 offset, u64 len, bool zero);
	/* Does a flush need more than the file's own? NULL: never. */
	bool (*dirty)(const struct node *n);
	NODISCARD int (*flush)(struct node *n);
	/* The last words to a file; close() follows whatever it says. */
	NODISCARD int (*finish)(struct node *n);
	void (*close)(struct node *n);
	/* For tools; NULL where the format has no such thing. */
	NODISCARD int (*create)(int fd, const struct block_create *c, struct err *err);
	NODISCARD int (*resize)(struct node *n, u64 size, struct err *err);
	/* Of a node that was opened for writing or with no_repair. */
	NODISCARD int (*check)(struct node *n, bool repair, struct block_check *c, struct err *err);
	void (*describe)(const struct node *n,
		void (*say)(void *ctx, const char *key, const char *value, bool number), void *ctx);
};

extern const struct block_format *const formats[];
extern const unsigned formats_count;
extern const struct block_format raw_format, qcow2_format, vdi_format, vhdx_format, vmdk_format;

const struct block_format *formats_find(const char *name); /* or NULL */
const struct block_format *formats_probe(const u8 *head);  /* raw if nothing else */

/* The backing file `name` of the image at `path`: beside it, unless the name is absolute. NULL: no
 * memory. */
char *node_beside(const char *path, const char *name);
/* A chain from path downwards. */
NODISCARD int node_open(
	struct node **n, const char *path, const struct block_options *options, struct err *err);
int node_close(struct node *n); /* and what is below; the first error of its finish() */
/* Where a byte lies in the chain: EXTENT_DATA or EXTENT_PACKED of *in, or EXTENT_ZERO. */
NODISCARD int node_map(
	struct node *top, u64 offset, u64 len, bool wait, struct node **in, struct extent *e);
NODISCARD int node_read(
	struct node *top, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len);
NODISCARD int node_read_buf(struct node *top, u64 offset, void *buf, u64 len);
/* A table that must lie in the file, which thus bounds its size; free() it. */
NODISCARD int node_read_table(
	struct node *n, u64 at, u64 len, void **table, const char *what, struct err *err);
/* Around a call that waits for the disk: see blocking(). */
void node_wait_begin(struct node *n);
void node_wait_end(struct node *n);
/* Zeroes where nothing else writes them, for formats and hosts that know no holes. */
NODISCARD int node_write_zeroes(struct node *n, u64 offset, u64 len);
/* A hole in the file; where the host cannot, nothing. */
void node_punch(struct node *n, u64 offset, u64 len);
