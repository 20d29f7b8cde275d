/*
 * The kernel's window: pages of the supervisor, mapped into the monitor where translated kernel
 * code reaches them with one addition, like window.h does for user code.
 *
 * Regions. A kernel has its memory in a few of the 512 pieces of 512 GiB that make up the linear
 * address space (the entries of a PML4): the direct map of RAM, stacks, page descriptors, its text.
 * A piece gets one of KERNEL_REGIONS regions when it is first used, for good; other pieces are
 * reached in the general form.
 *
 * Safety. The sum of any value and a piece's delta is in the piece's region or its guards if the
 * value lies in the piece, and not canonical otherwise, since bits 39 to 47 select the delta and
 * whatever else bits 48 to 63 hold stays in the sum. A piece without a region has a delta that sets
 * bits 46 and 47: such a sum is not canonical, or an address of the host's kernel.
 *
 * Exactness. As in window.h a page is shown with rights that the page walk grants a supervisor's
 * access without EFLAGS.AC, with its accessed bit set, and writable only if the dirty bit is set
 * and no code is claimed from it. There is no owner: all address spaces share the kernel's half.
 * What differs between them, pieces of the lower half, is hidden when CR3 changes.
 *
 * What is shown is kept as extents: runs of pages side by side in linear and in host memory, shown
 * with the same rights. They may contain pages that have come to be shown with other rights (and
 * are in another extent, too), or, when there was no room for more extents, pages that are hidden
 * again; one that is hidden comes back by a miss.
 *
 * When translations are flushed, what the guest's tables still say stays: a processor may fetch it
 * again the next moment. A kernel flushes everything for a few pages, and each miss costs a signal.
 * So after a flush of all translations all extents are looked at again (kernel_window_review), and
 * after one of those that are not global the pages that are not (kernel_window_review_local), which
 * are listed for that, since a kernel has few of them and changes CR3 all the time.
 *
 * Threads: one per vcpu, its thread only.
 */
#pragma once
#include "base/types.h"
#include "cpu/translate/window.h"
#include "memory/memory.h"

#define KERNEL_REGIONS	   6u
#define KERNEL_LOW_REGIONS 2u /* of them, for pieces of the lower half */
#define KERNEL_SHIFT	   39u
#define KERNEL_PIECE	   BIT64(KERNEL_SHIFT)
#define KERNEL_PIECES	   512u
#define KERNEL_EXTENTS	   1024u
#define KERNEL_HOLES	   16384u /* runs hidden one by one before everything is */

#define KERNEL_LOCAL 32u /* pages that are not global, shown at once */

/* Which pieces have regions: by number. */
struct kernel_pieces {
	u16 piece[KERNEL_REGIONS];
	unsigned used, used_low;
};

struct kernel_extent {
	u64 va;
	u8 *host;
	u64 pages;
	bool writable;
};

/* A page that is shown, or was. */
struct kernel_page {
	u64 va;
	u8 *host;
	bool writable;
};

struct kernel_window {
	u8 *base; /* NULL: this host gave no room */
	struct memory *memory;
	u8 region[KERNEL_PIECES]; /* by bits 39 to 47: its number, or WINDOW_NOWHERE */
	struct kernel_pieces pieces;
	struct kernel_extent extents[KERNEL_EXTENTS];
	unsigned count, holes;
	struct kernel_page local[KERNEL_LOCAL]; /* not global: the latest */
	unsigned local_count, local_next;
	bool local_many; /* there are others, which are not listed: whoever shows them says so */
	u64 shown, drops, faults;
};

int kernel_window_open(struct kernel_window *w, struct memory *m);
void kernel_window_close(struct kernel_window *w);

static inline unsigned kernel_window_piece(u64 at)
{
	return (unsigned)(at >> KERNEL_SHIFT) & (KERNEL_PIECES - 1);
}
/* The region that a canonical address lies in, or WINDOW_NOWHERE. */
static inline unsigned kernel_window_region_of(const struct kernel_window *w, u64 at)
{
	return (u64)((s64)(at << 16) >> 16) == at ? w->region[kernel_window_piece(at)]
						  : WINDOW_NOWHERE;
}
/* The same, and gives the piece a region if one is left. */
unsigned kernel_window_region_for(struct kernel_window *w, u64 at);
/* Gives regions as another window of the machine has: `p` has all of w's. True: there were some. */
bool kernel_window_adopt(struct kernel_window *w, const struct kernel_pieces *p);
/* What is added to an address of the piece; see Safety. */
u64 kernel_window_delta(const struct kernel_window *w, unsigned piece);

/* Shows `pages` pages from the one at `va`, all in a piece that has a region, whose bytes are RAM
 * at `host`. False: the host refused, and nothing is shown any more. */
bool kernel_window_show(struct kernel_window *w, u64 va, u8 *host, u64 pages, bool writable);
/* All around `va` that `size`, a power of two of at least a page, divides. */
void kernel_window_hide(struct kernel_window *w, u64 va, u64 size);
void kernel_window_hide_all(struct kernel_window *w);
/* Hides what is not to be shown so any more. still: is the page, with these rights? *pages: for how
 * many from there on its answer is good, 1 at least. */
void kernel_window_review(struct kernel_window *w,
	bool (*still)(void *ctx, u64 va, const u8 *host, bool writable, u64 *pages), void *ctx);
/* The page at va, just shown, is not global. One that was listed before may be hidden. */
void kernel_window_note_local(struct kernel_window *w, u64 va, u8 *host, bool writable);
/* As kernel_window_review(), of pages that are not global; all is hidden if they are not listed. */
void kernel_window_review_local(struct kernel_window *w,
	bool (*still)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx);
/* What depends on CR3 without being global: the lower half's pieces. */
void kernel_window_hide_low(struct kernel_window *w);
/* Hides what shows this RAM page. */
void kernel_window_hide_page(struct kernel_window *w, const u8 *host);
/* As those of window.h. */
bool kernel_window_within(const struct kernel_window *w, u64 host);
u64 kernel_window_guest(const struct kernel_window *w, u64 host);
