/*
 * Blocks for code that was translated before, at another address.
 *
 * Every process has its libraries elsewhere, and itself, too (ASLR), but the code is the same, in
 * the same pages of the host's memory. Most blocks do not care (itlb.c, Floating code). Those of
 * the window do, which reach what is near RIP by constants. Such a block is copied and not made:
 * the same guest bytes at the same physical address become the same host code, but for
 *
 *   slots       are named relative to RIP: moved by as much as the code moves
 *   addresses   near the guest's RIP (operands, return addresses): moved with it
 *   exits       have stubs of their own, which name the block
 *   the check   names the page (itlb.c)
 *
 * and all of that is listed when a block is made (struct relocs). What a block was made under is
 * the same, or checked by its code. That includes the window's regions (window.h): a block is
 * copied within its region only, and not near the region's ends, so that whatever is near RIP is in
 * the same one as before.
 *
 * Instructions and operations are the original's; memory of descriptors comes back all at once.
 */
#include "base/bits.h"
#include "cpu/translate/emit.h"
#include <string.h>

#define NEAR (BIT64(31) + PAGE_SIZE) /* as far as code reaches, and more */

void rebase_dropped(struct translator *t) { block_map_clear(&t->origins); }

/* The region that all that is near it lies in; 0: there is none, or it is the first one, where
 * constants are shorter. */
static unsigned region_near(u64 rip)
{
	unsigned region = window_region_of(rip, 1);

	return region != WINDOW_NOWHERE && window_region_of(rip - NEAR, 1) == region &&
			       window_region_of(rip + NEAR, 1) == region
		       ? region
		       : 0;
}

static u64 origin_hash(u64 gpa, u8 space) { return block_hash(gpa, 0, space); }

void rebase_offer(struct translator *t, struct tblock *b)
{
	if (b->relocs && region_near(b->rip))
		block_map_add(t, &t->origins, origin_hash(b->unit.gpa, b->space), b);
}

static bool same_code(struct translator *t, const struct tblock *b, const void *key)
{
	const struct tblock *other = key;

	return b->unit.gpa == other->unit.gpa && b->space == other->space;
}

void rebase_forget(struct translator *t, const struct tblock *b)
{
	block_map_remove(t, &t->origins, origin_hash(b->unit.gpa, b->space), same_code, b);
}

/* The code, with all but its exits right for its new place. */
static void move_code(const struct tblock *from, u8 *rw, s64 shift, u64 by)
{
	const struct relocs *r = from->relocs;
	const u16 *at = r->at;

	memcpy(rw, from->code, from->code_size);
	for (unsigned i = 0; i < r->slots; i++, at++)
		put_le32(rw + *at, (u32)(get_le32(rw + *at) - shift));
	for (unsigned i = 0; i < r->addresses; i++, at++)
		put_le64(rw + *at, get_le64(rw + *at) + by);
}

static void make_outs(struct translator *t, struct tblock *b, u8 *rw)
{
	const struct relocs *r = b->relocs;
	const u16 *site = r->at + r->slots + r->addresses, *what = site + r->outs;
	struct out outs[OUTS_MAX] UNINITIALIZED;

	for (unsigned i = 0; i < r->outs; i++)
		outs[i] = (struct out){ rw + site[i],
			EXIT_CODE(what[i] >> 8, b->id, what[i] & 0xff) };
	emit_outs(t, b, b->links, outs, r->outs);
}

static void move_links(
	struct translator *t, struct tblock *b, const struct tblock *from, u32 shift, u64 by)
{
	struct link links[BLOCK_LINKS] UNINITIALIZED;

	for (unsigned i = 0; i < from->link_count; i++) {
		links[i] = link_as_made(&from->links[i]);
		links[i].site += shift;
		links[i].target += by;
	}
	tblock_add_links(t, b, links, from->link_count);
}

static struct tblock *rebase(struct translator *t, const struct tblock *from, u64 rip)
{
	u8 *rw = t->mem.rw + t->used + TBLOCK_HEAD;
	const u8 *rx = codemem_rx(&t->mem, rw);
	struct tblock *b = tblock_place(t);
	size_t outs_before = t->outs_at;
	s64 shift = rx - from->code;
	u64 by = rip - from->rip;

	tblock_pooled(t, from, sizeof(*b));
	b->rip = rip;
	b->id = t->next_id;
	b->code = (u8 *)(uintptr_t)rx;
	b->cut = false;
	b->incoming = 0;
	memcpy(rw - TBLOCK_HEAD, &b->id, TBLOCK_HEAD);
	move_code(from, rw, shift, by);
	itlb_recheck(t, b);
	move_links(t, b, from, (u32)shift, by);
	make_outs(t, b, rw);
	tcache_open_gate(t, b);
	tblock_commit(t, b, outs_before);
	t->rebased++;
	return b;
}

struct wanted {
	u64 gpa;
	unsigned region;
};

static bool serves(struct translator *t, const struct tblock *b, const void *key)
{
	const struct wanted *w = key;

	/* Its bytes are still there: a store to them would have killed it. */
	return b->unit.gpa == w->gpa && b->space == t->code_space && b->unit.valid &&
	       window_region_of(b->rip, 1) == w->region;
}

struct tblock *rebase_find(struct translator *t, u64 gpa)
{
	u64 rip = t->c->s->rip;
	const struct wanted w = { gpa, region_near(rip) };
	const struct tblock *b = w.region ? block_map_find(t, &t->origins,
						    origin_hash(gpa, t->code_space), serves, &w)
					  : NULL;

	return b ? rebase(t, b, rip) : NULL;
}
