/*
 * Guest-physical memory: RAM and ROM regions, and one byte of flags per page.
 *
 * A region is one memfd (so that it can be shared with other processes, snapshotted and cloned).
 * A slot places a range of a region at a guest-physical address; two slots may show the same range
 * (the BIOS ROM at 4 GiB and its alias below 1 MiB). Addresses outside all slots belong to the bus.
 *
 * Page flags are the single mechanism behind self-modifying code, migration, display refresh and
 * page-table tracking: whoever writes guest RAM by any route sets MEM_DIRTY and, when MEM_CODE is
 * set, tells the watchers. memory_write() does that; code that writes through a host pointer calls
 * memory_written() afterwards.
 *
 * Threads: slots change only while no vcpu runs. Reads, writes and flags: any thread; flags are
 * updated atomically. Guest data races are the guest's own.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <pthread.h>
#include <stdatomic.h>

#define MEMORY_REGIONS_MAX  8
#define MEMORY_SLOTS_MAX    16
#define MEMORY_WATCHERS_MAX 16

/* Page flags. */
#define MEM_DIRTY BIT(0) /* written since the flag was last cleared */
#define MEM_CODE  BIT(1) /* an engine holds decoded or translated code from here */
#define MEM_TABLE BIT(2) /* an engine tracks page tables here */
#define MEM_QUIET \
	BIT(3) /* some engine may store here without looking at the flags: memory_quiet() */

struct memory_region {
	char name[16];
	u8 *host;	   /* page-aligned mapping of the whole region */
	_Atomic u8 *flags; /* one per page */
	u8 *claims;	   /* one per page: engines that hold code from it; under claim_lock */
	u64 size;	   /* bytes, multiple of PAGE_SIZE */
	int fd;
	bool rom;    /* guest writes are ignored */
	bool device; /* of a device: it is not counted as RAM, and no code is taken from it, so
			that it can be shown elsewhere without anything to forget */
};

struct memory_slot {
	u64 base; /* guest-physical, page-aligned */
	u64 size;
	u64 offset; /* into the region */
	struct memory_region *region;
};

struct memory_watcher {
	/* [at, at+len) in a claimed page was written; any thread. len <= PAGE_SIZE, one page. */
	void (*code_written)(void *ctx, gpa_t at, u64 len);
	/* A page with MEM_QUIET is being claimed, MEM_CODE is set: stores that could go unreported
	 * must have been seen, and must not go unreported again, when this returns. Any thread.
	 * NULL: all stores look at the flags. */
	void (*code_claimed)(void *ctx, const u8 *host_page);
	void *ctx;
};

struct memory {
	struct memory_region regions[MEMORY_REGIONS_MAX];
	struct memory_slot slots[MEMORY_SLOTS_MAX]; /* sorted by base, disjoint */
	struct memory_watcher watchers[MEMORY_WATCHERS_MAX];
	unsigned region_count, slot_count, watcher_count;
	pthread_mutex_t claim_lock;
};

void memory_init(struct memory *m);
void memory_fini(struct memory *m);

/* Creates a zero-filled region; NULL with err filled when the host refuses. size > 0. */
struct memory_region *memory_add_region(
	struct memory *m, const char *name, u64 size, bool rom, struct err *err);
/* Shows [offset, offset+size) of the region at base. Refuses overlaps and misalignment. */
NODISCARD int memory_add_slot(struct memory *m, struct memory_region *r, gpa_t base, u64 offset,
	u64 size, struct err *err);
/* Shows all of a device's region at base and nowhere else; at 0: nowhere. Refused, it is shown
 * nowhere. Whoever caches pages must forget them all. */
NODISCARD int memory_show(struct memory *m, struct memory_region *r, gpa_t base, struct err *err);
void memory_watch(struct memory *m, const struct memory_watcher *w);
void memory_unwatch(struct memory *m, void *ctx);

/*
 * An engine is about to decode bytes of this page: from the return on, every store to it, by any
 * thread, is reported to the watchers. Claims are counted; the last release lets stores go
 * unreported again.
 */
void memory_claim_code(struct memory *m, gpa_t page);
void memory_release_code(struct memory *m, gpa_t page);
/*
 * Before an engine lets stores to a page go without a look at its flags: true if it may, since the
 * page is dirty and nobody claims it. Whoever claims it later tells the watchers.
 */
static inline bool memory_quiet(_Atomic u8 *flags)
{
	u8 now = atomic_load_explicit(flags, memory_order_relaxed);

	if ((now & (MEM_DIRTY | MEM_CODE)) != MEM_DIRTY)
		return false;
	if (!(now & MEM_QUIET))
		now = atomic_fetch_or(flags, MEM_QUIET);
	return !(now & MEM_CODE);
}

/* One page as engines cache it; host is NULL when gpa is not RAM or ROM. */
struct memory_page {
	u8 *host; /* of the page's first byte */
	_Atomic u8 *flags;
	bool rom;
	bool device;
};
struct memory_page memory_page(const struct memory *m, gpa_t at);

/* Host pointer to len bytes that must lie in one slot, or NULL. Reading only, unless the caller
 * calls memory_written() for what it wrote. */
u8 *memory_host(const struct memory *m, gpa_t at, u64 len);

/* Copies; false when any byte is not RAM (nothing copied) or, for writes, is ROM. */
NODISCARD bool memory_read(const struct memory *m, gpa_t at, void *buf, u64 len);
NODISCARD bool memory_write(struct memory *m, gpa_t at, const void *buf, u64 len);
NODISCARD bool memory_fill(struct memory *m, gpa_t at, u8 byte, u64 len);
void memory_written(struct memory *m, gpa_t at, u64 len);
/*
 * Zeroes into the whole pages of [at, at+len), by giving their memory back to the host: it comes
 * again when somebody touches it, through whatever mapping. Host pointers stay valid, and the store
 * is reported as any other, so engines drop code that they hold from there. false: not all of it is
 * RAM (nothing was done), or the host refused (some of it may be done, and what is not is as it
 * was). Any thread, no lock needed.
 */
NODISCARD bool memory_discard(struct memory *m, gpa_t at, u64 len);

/* Fills a ROM or RAM region from the host side: loaders. false: out of range. */
NODISCARD bool memory_load(struct memory *m, gpa_t at, const void *buf, u64 len);

/* Bytes that the host holds for guests' memory: pages that were never touched, or were given back,
 * do not count. Any thread. */
u64 memory_held(const struct memory *m);
/* Bytes of RAM (neither ROM nor a device's), and the highest RAM address + 1. */
u64 memory_ram_size(const struct memory *m);
u64 memory_ram_top(const struct memory *m);
