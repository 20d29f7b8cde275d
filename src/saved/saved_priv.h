/* The file as it is (saved.h); the host is little-endian. */
#pragma once
#include "saved/saved.h"

#define SAVED_MAGIC	 "StrataSV"
#define SAVED_HEAD_SIZE	 4096u
#define SAVED_REGIONS	 "regions"
#define SAVED_MEMORY	 "memory"
#define SAVED_MEMORY_MAX BIT64(40)   /* bytes of one region */
#define SAVED_PART_MAX	 (256 * MiB) /* the list of chunks of such a one is smaller */

struct saved_part_at {
	char name[SAVED_NAME_SIZE];
	u64 at, len;
	u32 crc, reserved;
};

struct saved_head {
	char magic[8];
	u32 version;
	u32 part_count;
	u64 id;	  /* random: which saving this was */
	u64 size; /* of the whole file */
	struct saved_part_at parts[SAVED_PARTS_MAX];
	u8 reserved[SAVED_HEAD_SIZE - 32 - SAVED_PARTS_MAX * sizeof(struct saved_part_at) - 4];
	u32 crc; /* of what is before it */
};
_Static_assert(sizeof(struct saved_head) == SAVED_HEAD_SIZE, "the head");

/* One of `memory`. */
struct saved_chunk {
	u64 at; /* in the file */
	u32 len, crc;
	u32 region, reserved;
	u64 number;
	u64 pages[SAVED_PAGES / 64]; /* which it has: bit i is page i */
};
_Static_assert(sizeof(struct saved_chunk) == 64, "a chunk");

/* All of it, or -errno. */
NODISCARD int saved_write_at(int fd, const void *data, size_t len, u64 at);
