/*
 * One code cache for the vcpus of a machine: what one has translated, the others copy.
 *
 * Layout. Each vcpu has its own image of the cache, behind its own context: code reaches its slots
 * relative to RIP, and its exits are patched as that vcpu's translations and attention want it. But
 * all images have one layout. The cache is given out in chunks, each to one vcpu, which makes its
 * blocks there, with ids that come with the chunk; so a block that another vcpu copies has the same
 * place in both images, and everything in its code is right as it is.
 *
 * So what code holds as a constant must be the same for all of them: guest addresses, host
 * addresses of guest memory, offsets of slots; where a window is, is loaded from its slot.
 *
 * Templates. Who makes a block where others might want it leaves a template: what the block was
 * made from and under which assumptions (the key), whose it is, and where its code is. The
 * descriptor stays the maker's: what of it is read is not changed once the block is made, and is
 * there until the maker drops all that it has, which ends one of its lives and with it, under the
 * lock, all of its templates. Who has no block for the code at hand and finds a template whose
 * bytes are those of guest memory copies it, with the exits that its maker may have joined since
 * set back. The copier claims the page before it compares, so it hears of whatever is stored there
 * from then on.
 *
 * Epochs. Chunks come back all at once. Who needs one when none is left begins a new epoch: there
 * are no templates, and all chunks are free. The other vcpus go on with what their images hold,
 * which is theirs alone, until they need a chunk, too; then they drop it all and join.
 * So the maker of a template of this epoch has not overwritten its code.
 *
 * Regions of the kernel's window (kernel_window.h) have the same numbers in all vcpus' windows.
 *
 * Threads: any vcpu's. The lock is a leaf.
 */
#pragma once
#include "cpu/translate/kernel_window.h"
#include <pthread.h>

struct translator;
struct tblock;
struct code_bytes;

#define CHUNK_SIZE  (1 * MiB)
#define CHUNK_SMALL (256 * KiB) /* with small-cache: one for each vcpu */
#define CHUNK_IDS   8192u

#define SHARED_HASH BIT(19)
#define TEMPLATES   BIT(20) /* when there are so many there are no more in this epoch */

struct template;

struct shared {
	struct memory *memory; /* identifies the machine */
	unsigned users;	       /* changes only while no vcpu runs */
	pthread_mutex_t lock;
	_Atomic u64 epoch;
	unsigned next; /* chunk */
	struct template *pool;
	unsigned count;	       /* of them */
	u32 hash[SHARED_HASH]; /* the first template's number from 1, or 0 */
	struct kernel_pieces pieces;
};

NODISCARD int share_open(struct translator *t, struct err *err);
void share_close(struct translator *t);
/* Gives t a chunk. False: the epoch is over; tcache_clear(), then try again. */
NODISCARD bool share_chunk(struct translator *t);
/* Everything of t's was dropped. */
void share_dropped(struct translator *t);

/* Are blocks left for others? Fixed while any vcpu runs. */
bool share_wanted(const struct translator *t);
/* A copy of another vcpu's block for the current RIP and modes, or NULL. The page is claimed. */
struct tblock *share_find(struct translator *t, const struct code_bytes *src);
/* b was just made; its exits begin at t->outs_at. */
void share_publish(struct translator *t, const struct tblock *b, size_t outs_size);
/* Something was learnt: b is to be made another way, by whoever needs it next. */
void share_forget(struct translator *t, const struct tblock *b);
/* The region of the kernel's window for an address, as kernel_window_region_for(). */
unsigned share_region_for(struct translator *t, u64 at);
