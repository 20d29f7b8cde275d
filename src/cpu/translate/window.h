/*
 * The window: the user pages of one guest address space, mapped into the monitor where translated
 * code reaches them with one addition, and no TLB check.
 *
 * Regions. Guest user addresses are used in a few places only: programs at fixed addresses and
 * their heap (0), position-independent programs and their heap (0x5555...), libraries, mappings
 * and stacks (0x7f...). Each is a region of 4 TiB, shown at `delta` from its guest addresses, with
 * guard space around it. Elsewhere the general form serves.
 *
 * Safety. Host addresses are formed from guest values by adding a region's delta, so the value
 * must be known to lie in that region: bits 42 to 49 are compared or select the delta from
 * `deltas[]`; whatever is in bits 50 to 63 must be zero for the sum to be canonical. An entry of
 * `deltas[]` that belongs to no region makes every sum non-canonical. What else a
 * displacement and a scaled index of 32 bits can add, up to 36 GiB either way, ends in the region
 * or in its guards. So translated code can reach pages of the window and nothing else, whatever the
 * guest's registers hold.
 *
 * Exactness. A page is shown only with rights that an access has already been granted by the page
 * walk, with the accessed (and for stores the dirty) bit set: the window is a TLB made of host
 * mappings. It obeys the same flushes as the processor's entries for one address space, the owner.
 * A writable page is also dirty and holds no code (memory.h), so that stores need no report.
 *
 * What is not shown faults: SIGSEGV leaves translated code, the interpreter executes the
 * instruction, and the page is shown for the next time.
 *
 * Who owns it. One address space at a time, by its CR3: the one whose user code was running at
 * WINDOW_VOTES timer ticks more than all others'. A storm of faults, of ours or of the guest's own,
 * takes the window away again, since a page that is touched once is not worth a mapping of the
 * host; so what switches, forks or faults a lot stays with the general form, which costs more for
 * each access and nothing for each flush. For the same reason a page that the owner flushes again
 * and again, as who changes its protection does, is not shown again: instructions that want it get
 * the general form.
 *
 * Threads: one window per vcpu, its thread only.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "cpu/mmu.h"
#include "memory/memory.h"

#define WINDOW_SHIFT   42u
#define WINDOW_SIZE    BIT64(WINDOW_SHIFT)
#define WINDOW_GUARD   (64ull * GiB)
#define WINDOW_DELTAS  256u
#define WINDOW_PAGES   32768u /* shown at once; the host allows 65530 mappings */
#define WINDOW_HOSTS   4096u
#define WINDOW_NOWHERE 0xffu
/* Ticks that a candidate must run for more than all others: to show what a program uses costs as
 * much as the window gains in about so long, and most of a boot's programs end before. */
#define WINDOW_VOTES 48u

enum window_region { WINDOW_LOW, WINDOW_PIE, WINDOW_HIGH, WINDOW_REGIONS };

struct window_page {
	u64 va;	  /* guest page address | WINDOW_USED | WINDOW_WRITABLE; 0: free */
	u8 *host; /* the RAM page it shows */
};

/* A page that the guest's flushes have hidden: how often since a tick. */
struct window_churn {
	u64 va, tick;
	unsigned times;
};
#define WINDOW_CHURNS 64u

struct window {
	u8 *base; /* NULL: this host gave no room */
	u64 delta[WINDOW_REGIONS];
	u64 owner;		     /* CR3's table address; ~0: nobody */
	u64 candidate;		     /* who may be next ... */
	unsigned votes;		     /* ... and its ticks, less those of others */
	u64 refused;		     /* lost the window lately ... */
	unsigned refusals, patience; /* ... this often; ticks until it may have it again */
	unsigned faults, mended;     /* since the last tick; mended: by the guest's kernel */
	unsigned rough;		     /* ticks in succession with many faults */
	u64 awaited; /* the owner faulted on this page: it is to be shown when that is mended; 0:
			none */
	bool awaited_write;
	u64 ticks;
	struct window_churn churns[WINDOW_CHURNS]; /* direct-mapped */
	unsigned count, in_region[WINDOW_REGIONS]; /* pages shown */
	struct mmu_regions large;		   /* where they are of large ones */
	struct memory *memory;
	struct window_page *pages; /* open addressing */
	u16 shows[WINDOW_HOSTS];   /* pages shown whose host page hashes to this */
	u64 shown, drops, fault_count, takeovers;
};

int window_open(struct window *w, struct memory *m);
void window_close(struct window *w);
/* What is added to an address with these bits 42 to 49; see Safety. */
u64 window_delta(const struct window *w, unsigned bits);
/* The region that [at, at+len) lies in, or WINDOW_NOWHERE. */
unsigned window_region_of(u64 at, u64 len);
/* Bits 42 to 49 of a region's addresses. */
unsigned window_bits(unsigned region);

/* Shows `pages` pages from the one at `va`, whose bytes are RAM at `host`. */
void window_show(struct window *w, u64 va, u8 *host, unsigned pages, bool writable);
/* What is shown there is, or may be, of a large page of the guest's. */
void window_note_large(struct window *w, u64 va, u64 page_size);
/* Hides what a flush of the page at `va` flushes: it, or all of the large page that it is in. */
void window_hide(struct window *w, u64 va);
/* Has the page been hidden so often lately that showing it again is not worth it? */
bool window_churns(const struct window *w, u64 va);
void window_hide_all(struct window *w);
void window_give(struct window *w, u64 cr3);
/* The owner loses it, for a while. */
void window_lose(struct window *w);
/* Makes what shows this RAM page read-only. */
void window_protect(struct window *w, const u8 *host);
/* From time to time, with the address space that is running. */
void window_tick(struct window *w, u64 cr3);
bool window_has(const struct window *w, u64 va, bool writable);
/* For whoever checks that it is right. The RAM page shown at va, or NULL; all pages; is this an
 * address of ours, and what does the guest have there? */
const u8 *window_shows(const struct window *w, u64 va);
void window_each(const struct window *w,
	void (*page)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx);
bool window_within(const struct window *w, u64 host);
#define WINDOW_NO_GUEST (~0ull) /* nothing: it is in no region */
u64 window_guest(const struct window *w, u64 host);

/* ---- for both windows ---- */
/* Address space that nothing can be reached in, at `at` (NULL: anywhere) in place of what is there;
 * MAP_FAILED with errno. */
void *window_reserve(void *at, u64 size);
/* The region of RAM or ROM that the host address is in, or NULL. */
const struct memory_region *window_source(const struct memory *m, const u8 *host);
