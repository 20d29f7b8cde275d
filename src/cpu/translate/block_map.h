/*
 * Where translated blocks are found by a hash of what they are for.
 *
 * A bucket is one cache line of the host, so that finding a block costs two lines, the bucket's and
 * the block's own, however many there are. It is a cache: where a bucket is full, what was found
 * in it longest ago makes room (a library's blocks at the address of a process that is gone). A
 * block that is not found is only made again; links and jump tables still lead to the old one,
 * which is as good.
 *
 * Threads: the vcpu's.
 */
#pragma once
#include "base/types.h"

#define BLOCK_MAP_BUCKETS 65536u
#define BLOCK_MAP_WAYS	  8u

struct block_bucket {
	u32 tag[BLOCK_MAP_WAYS]; /* a part of the hash, never 0; 0: empty */
	u32 ref[BLOCK_MAP_WAYS]; /* see tblock_at() */
};
struct block_map {
	struct block_bucket bucket[BLOCK_MAP_BUCKETS] __attribute__((aligned(64)));
};

struct translator;
struct tblock;

/* Is this the block that is meant? Others may have its hash. */
typedef bool block_fits(struct translator *t, const struct tblock *b, const void *key);

/* A number of what a block is for: the upper half is a bucket, near those of the code around it. */
u64 block_hash(u64 gpa, u64 rip, unsigned space);
void block_map_add(struct translator *t, struct block_map *m, u64 hash, const struct tblock *b);
/* One that fits, or NULL. */
struct tblock *block_map_find(
	struct translator *t, struct block_map *m, u64 hash, block_fits *fits, const void *key);
/* All that fit. */
void block_map_remove(
	struct translator *t, struct block_map *m, u64 hash, block_fits *fits, const void *key);
void block_map_clear(struct block_map *m);
