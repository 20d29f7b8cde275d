/*
 * The block cache: straight runs of decoded instructions, found again by guest-physical address.
 *
 * A block is one run of at most BLOCK_OPS instructions that ends at a control transfer, at anything
 * that may change how code decodes, or at the end of its page. Its ops are followed by a sentinel
 * that leaves the block, so the run loop needs no count. An instruction that straddles two pages is
 * a block of its own that remembers both physical pages.
 *
 * Keys are physical, because kernels write code through another virtual alias than they run it:
 * (address of the first byte, code width). In front sits the jump cache (interp.jump) keyed by
 * linear address, valid while no translation was flushed, the code width and the privilege are the
 * same.
 *
 * Writes to code come to blocks_written(), and through the code map (cpu/code_map.h) kill the
 * blocks they overlap. A dead block's ops all become "leave the block", so that a block which
 * overwrites itself stops after the store, as the architecture demands for the same linear address
 * (SDM 3A 11.6). Memory of dead blocks is reclaimed when the pool is full: then everything is
 * dropped.
 *
 * Writes by other threads (DMA, other vcpus) are queued and applied by the owner at its next block
 * boundary (ATTN_CODE).
 */
#pragma once
#include "cpu/interpret/interp.h"

#define BLOCK_OPS 48u

struct block {
	struct code_unit unit;
	u16 bits;
	u16 count;
	struct block *hash_next;
	struct op ops[]; /* count + sentinel */
};

/* Where code bytes come from: one page, or what its physical address reads as on the bus. */
struct code_bytes {
	u64 gpa;
	const u8 *host; /* of the byte at gpa; NULL: not RAM */
	_Atomic u8 *flags;
};
/* Translates a linear address for fetching; X86_FAULT with the fault prepared. */
int blocks_fetch(struct interp *c, u64 linear, struct code_bytes *src);
struct blocks *blocks_new(struct interp *c, struct err *err);
void blocks_free(struct blocks *b);
void blocks_clear(struct interp *c);

/* The block at the current RIP, decoding it if needed; NULL with a fault prepared. */
struct block *blocks_find(struct interp *c);

/* A memory_watcher; any thread. */
void blocks_written(void *interp, gpa_t at, u64 len);
/* Any range, any thread: more than a few pages drop everything. */
void blocks_forget(struct interp *c, gpa_t at, u64 len);
/* Applies queued writes; the owner's thread. */
void blocks_apply(struct interp *c);
/* The calling thread runs this interpreter from now on (NULL: none). */
void blocks_owner(struct interp *c);
