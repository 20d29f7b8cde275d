/*
 * Saved states: a machine as a file. What is known here is the container; what its parts mean,
 * whoever has the machine knows (machine/saving.c).
 *
 *   head      4096 bytes: magic, version, where the parts are and what their checksums are; its own
 *             checksum last. Written when all the rest is on the disk, so that a file that was not
 *             finished has none
 *   chunks    zstd frames, each of up to SAVED_PAGES pages of one region of memory; pages of zeroes
 *             are left out
 *   parts     bytes with a name, and two that are the container's own: `regions`, names and sizes,
 *             and `memory`, for each chunk where it is, its checksum, and which pages it has
 *
 * All integers are little-endian, all checksums CRC-32C, of bytes as they are in the file. Another
 * version keeps the magic, the version and the head's checksum in their places, so that this one
 * can tell a newer file from a damaged one.
 *
 * A file is untrusted. saved_open() reads the head and the two tables, and whatever is said later
 * lies within the bounds that it has checked: sizes are bounded by the file's, chunks are in order
 * and none is there twice. saved_check() reads all of it and changes nothing; saved_load() fills
 * memory.
 *
 * Threads: one at a time for each file; saved_check() and saved_load() have helpers of their own.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define SAVED_VERSION	  1u
#define SAVED_PARTS_MAX	  64u
#define SAVED_REGIONS_MAX 8u
#define SAVED_NAME_SIZE	  16u
#define SAVED_PAGES	  256u
#define SAVED_CHUNK	  (SAVED_PAGES * PAGE_SIZE)

struct saved_region {
	char name[SAVED_NAME_SIZE]; /* zero-padded */
	u64 size;		    /* a multiple of PAGE_SIZE */
};

/* ---- making one ---- */

struct saved_out;

/* `fd`, which is borrowed, is an empty file. Regions are numbered in the order given. NULL: no
 * memory. */
struct saved_out *saved_begin(int fd, const struct saved_region *regions, unsigned count);
/* All return 0 or -errno; after the first error, all do. */
NODISCARD int saved_put(struct saved_out *o, const char *name, const void *data, size_t len);
/* Chunks come in order: of a region, from its beginning, SAVED_CHUNK bytes but for the last one.
 * Those that are not mentioned are zeroes. */
NODISCARD int saved_put_chunk(
	struct saved_out *o, unsigned region, u64 chunk, const u8 *data, size_t len);
/* All of it is on the disk when this returns 0. */
NODISCARD int saved_finish(struct saved_out *o, u64 id);
void saved_end(struct saved_out *o); /* in any case */

/* ---- reading one ---- */

struct saved;

/* `fd` is borrowed until saved_close(). Errors say what is wrong, not with which file. */
NODISCARD int saved_open(struct saved **s, int fd, struct err *err);
void saved_close(struct saved *s);

u64 saved_id(const struct saved *s);
unsigned saved_regions(const struct saved *s, const struct saved_region **regions);
u64 saved_bytes(const struct saved *s); /* of memory that the chunks hold */
/* A part, checked; free() it. NULL with err. */
u8 *saved_part(const struct saved *s, const char *name, size_t *len, struct err *err);

/*
 * These two go over all chunks, with that many threads; 0: one for each of the host's processors.
 * saved_check() looks at every checksum; progress, called by this thread, may be NULL. saved_load()
 * writes region i to fds[i], a file of the region's size that is one hole.
 */
NODISCARD int saved_check(const struct saved *s, unsigned threads,
	void (*progress)(void *ctx, u64 done, u64 total), void *ctx, struct err *err);
NODISCARD int saved_load(const struct saved *s, const int *fds, unsigned threads, struct err *err);
