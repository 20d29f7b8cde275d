/* See block_map.h. */
#include "cpu/translate/block_map.h"
#include "cpu/translate/translate_priv.h"
#include <string.h>

_Static_assert(sizeof(((struct block_map *)0)->bucket[0]) == 64, "a bucket is a cache line");

u64 block_hash(u64 gpa, u64 rip, unsigned space)
{
	u64 h = (gpa ^ rip << 20 ^ (u64)space) * 0x9e3779b97f4a7c15ull;

	return h ^ h >> 32;
}

static unsigned bucket_of(u64 hash) { return (unsigned)(hash >> 32) & (BLOCK_MAP_BUCKETS - 1); }
static u32 tag_of(u64 hash) { return (u32)hash | 1; }

void block_map_add(struct translator *t, struct tblock *b)
{
	u64 hash = block_hash(b->unit.gpa, b->rip, b->space);
	u32 *tag = t->blocks.bucket[bucket_of(hash)].tag,
	    *ref = t->blocks.bucket[bucket_of(hash)].ref;
	unsigned at = 0;

	while (at < BLOCK_MAP_WAYS - 1 && tag[at])
		at++;
	memmove(tag + 1, tag, at * sizeof(*tag));
	memmove(ref + 1, ref, at * sizeof(*ref));
	tag[0] = tag_of(hash);
	ref[0] = tblock_ref(t, b);
}

void block_map_remove(struct translator *t, const struct tblock *b)
{
	u64 hash = block_hash(b->unit.gpa, b->rip, b->space);
	u32 *tag = t->blocks.bucket[bucket_of(hash)].tag,
	    *ref = t->blocks.bucket[bucket_of(hash)].ref;

	for (unsigned i = 0; i < BLOCK_MAP_WAYS; i++)
		if (tag[i] && ref[i] == tblock_ref(t, b))
			tag[i] = 0;
}

/* The next time it is found sooner, and stays longer. */
static void move_up(u32 *tag, u32 *ref, unsigned i)
{
	u32 other_tag = tag[i - 1], other_ref = ref[i - 1];

	tag[i - 1] = tag[i];
	ref[i - 1] = ref[i];
	tag[i] = other_tag;
	ref[i] = other_ref;
}

struct tblock *block_map_find(struct translator *t, u64 gpa, u64 rip, unsigned space,
	bool (*fits)(struct translator *t, const struct tblock *b))
{
	u64 hash = block_hash(gpa, rip, space);
	u32 *tag = t->blocks.bucket[bucket_of(hash)].tag,
	    *ref = t->blocks.bucket[bucket_of(hash)].ref;

	for (unsigned i = 0; i < BLOCK_MAP_WAYS; i++) {
		if (tag[i] != tag_of(hash))
			continue;
		struct tblock *b = tblock_at(t, ref[i]);
		if (b->unit.gpa != gpa || b->rip != rip || b->space != space ||
			(fits && !fits(t, b)))
			continue;
		if (i)
			move_up(tag, ref, i);
		return b;
	}
	return NULL;
}

void block_map_clear(struct translator *t) { memset(&t->blocks, 0, sizeof(t->blocks)); }
