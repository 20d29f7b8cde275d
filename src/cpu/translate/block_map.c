/* See block_map.h. */
#include "cpu/translate/block_map.h"
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"
#include <string.h>

_Static_assert(sizeof(struct block_bucket) == 64, "a bucket is a cache line");

#define MIX 0x9e3779b97f4a7c15ull
/* So many bytes of code share a bucket that no more blocks begin in them than it holds: those would
 * be made again and again. */
#define AREA_SHIFT 4u
#define PAGE_AREAS BIT(PAGE_SHIFT - AREA_SHIFT)

/* Above: the bucket; below: the tag. What lies side by side in the guest's memory does so in the
 * map, too: code is found in about the order that it lies in. */
u64 block_hash(u64 gpa, u64 rip, unsigned space)
{
	u64 page = (gpa >> PAGE_SHIFT ^ rip >> PAGE_SHIFT << 20 ^ (u64)space << 60) * MIX;
	u64 bucket = (page >> 32 & ~(PAGE_AREAS - 1ull)) | (gpa >> AREA_SHIFT & (PAGE_AREAS - 1));

	return bucket << 32 | (u32)(page ^ ((gpa & PAGE_MASK) * MIX) >> 32);
}

static struct block_bucket *bucket_of(struct block_map *m, u64 hash)
{
	return &m->bucket[hash >> 32 & (BLOCK_MAP_BUCKETS - 1)];
}

static u32 tag_of(u64 hash) { return (u32)hash | 1; }

void block_map_add(struct translator *t, struct block_map *m, u64 hash, const struct tblock *b)
{
	struct block_bucket *k = bucket_of(m, hash);
	unsigned at = 0;

	while (at < BLOCK_MAP_WAYS - 1 && k->tag[at])
		at++;
	memmove(k->tag + 1, k->tag, at * sizeof(k->tag[0]));
	memmove(k->ref + 1, k->ref, at * sizeof(k->ref[0]));
	k->tag[0] = tag_of(hash);
	k->ref[0] = pool_ref(t, b);
}

void block_map_remove(
	struct translator *t, struct block_map *m, u64 hash, block_fits *fits, const void *key)
{
	struct block_bucket *k = bucket_of(m, hash);

	for (unsigned i = 0; i < BLOCK_MAP_WAYS; i++)
		if (k->tag[i] == tag_of(hash) && fits(t, tblock_at(t, k->ref[i]), key))
			k->tag[i] = 0;
}

/* The next time it is found sooner, and stays longer. */
static void move_up(struct block_bucket *k, unsigned i)
{
	u32 tag = k->tag[i], ref = k->ref[i];

	k->tag[i] = k->tag[i - 1];
	k->ref[i] = k->ref[i - 1];
	k->tag[i - 1] = tag;
	k->ref[i - 1] = ref;
}

struct tblock *block_map_find(
	struct translator *t, struct block_map *m, u64 hash, block_fits *fits, const void *key)
{
	struct block_bucket *k = bucket_of(m, hash);

	for (unsigned i = 0; i < BLOCK_MAP_WAYS; i++) {
		if (k->tag[i] != tag_of(hash))
			continue;
		struct tblock *b = tblock_at(t, k->ref[i]);
		if (!fits(t, b, key))
			continue;
		if (i)
			move_up(k, i);
		return b;
	}
	return NULL;
}

void block_map_clear(struct block_map *m) { pages_forget(m, sizeof(*m)); }
