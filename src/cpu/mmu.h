/*
 * The software memory management unit that engines without hardware paging share: a TLB in front of
 * x86_translate(), and every linear access built on it.
 *
 * Address spaces. Rights depend on who asks, so there is one table per kind of asker:
 *   MMU_SYSTEM  supervisor, SMAP enforced (CPL<3 with AC=0; implicit accesses at any CPL)
 *   MMU_USER    CPL 3
 *   MMU_OPEN    supervisor with EFLAGS.AC set while CR4.SMAP is on (inside STAC..CLAC)
 * Each table is split by the sign of the address, because kernels map their half with global pages:
 * a flush of non-global entries then costs nothing there unless a non-global one was cached.
 *
 * Entries. A slot holds three tags, one for reads, writes and fetches: the page's linear address
 * or-ed with the half's generation. A tag is set only when the access is allowed without any side
 * effect still to come: no fault, A (and for writes D) already set, backed by RAM. So a hit needs
 * one compare. Flushing bumps the generation; tags of older generations never match, and when the
 * 12-bit generation wraps the tables are cleared.
 *
 * Invariants: a matching write tag implies RAM that is not ROM; a tag never outlives INVLPG, CR3,
 * CR4 or EFER changes (x86_ops.flush), nor a change of slots.
 *
 * Stores look at the page's flags byte after writing: anything but "dirty and no code" takes the
 * slow path that reports the write (memory_written), which is how self-modifying code and dirty
 * logging see every store. While data breakpoints are armed or alignment checking is on, no tags
 * are set, so all accesses take the slow path, which checks.
 *
 * Threads: one mmu per vcpu, its thread only.
 */
#pragma once
#include "cpu/vcpu.h"
#include "x86/paging.h"
#include <stdatomic.h>
#include <string.h>

enum mmu_space { MMU_SYSTEM, MMU_USER, MMU_OPEN, MMU_SPACES };
enum mmu_kind { MMU_READ, MMU_WRITE, MMU_FETCH, MMU_KINDS };

#define MMU_ENTRIES 512u /* per half of a table; power of two */
#define MMU_UPPER   32u
#define MMU_GEN_MAX PAGE_MASK

struct mmu_entry {
	u64 tag[MMU_KINDS];
	u8 *host; /* of the page's first byte */
	_Atomic u8 *flags;
	u64 gpa; /* of the page */
};

/* 2 MiB and 1 GiB regions with large pages, hashed. */
struct mmu_regions {
	u64 bits[64];
};

struct mmu {
	struct vcpu *v;
	enum mmu_space space; /* of ordinary accesses now; mmu_refresh() keeps it */
	bool watch;	      /* data breakpoints are armed, or alignment is checked: set no tags */
	bool align;	      /* alignment is checked: CPL 3, CR0.AM, EFLAGS.AC */
	u64 watch_hits;	      /* DR6 bits collected since the instruction began */
	u64 cr3;	      /* the entries' */
	u64 generation[2];
	/* Where large pages were cached from; by half, since kernels map all memory so and programs
	 * little, and are the ones whose pages are flushed one by one. The lower half's is the
	 * current address space's. */
	struct mmu_regions large[2];
	/* Pages of the upper half that entries were made from which are not global: kernels have a
	 * few. More than MMU_UPPER: others, too. */
	u64 upper[MMU_UPPER];
	unsigned upper_count;
	bool lower_global; /* some entry of the lower half was made from a global page */
	u64 epoch;	   /* counts flushes: caches keyed by linear address compare it */
	u64 fills, flushes;
	/* Who caches entries of ours; NULL: nobody. `flushed` is the architecture's flush,
	 * `switched` another CR3 without one: for what is not tagged with a CR3, that is a flush,
	 * too. */
	void (*flushed)(void *ctx, enum x86_flush kind, u64 at, unsigned pcid);
	void (*switched)(void *ctx);
	void *flushed_ctx;
	struct mmu_entry table[MMU_SPACES][2][MMU_ENTRIES];
};

void mmu_init(struct mmu *m, struct vcpu *v);

/* Are there too many of them to name? */
static inline bool mmu_upper_many(const struct mmu *m) { return m->upper_count > MMU_UPPER; }

/* After CPL, EFLAGS.AC, CR0, CR3, CR4 or DR7 may have changed. */
void mmu_refresh(struct mmu *m);
void mmu_flush(struct mmu *m, enum x86_flush kind, u64 at, unsigned pcid);
/* How much the flush of one page flushes: all around the address that this power of two of bytes
 * divides. PAGE_SIZE, or where the address may lie in a large page that entries were made from
 * 1 GiB, or 4 MiB, which hold the smaller large pages of either format. */
u64 mmu_flush_reach(const struct mmu *m, u64 at);
/* For what engines cache of a translation themselves: it is of such a page. Also while they are
 * told of a flush. */
void mmu_note_large(struct mmu *m, u64 at, u64 page_size);
/* The same for what they cache of address spaces that are not the current one. */
u64 mmu_regions_reach(const struct mmu_regions *r, u64 at);
void mmu_regions_note(struct mmu_regions *r, u64 at, u64 page_size);
void mmu_regions_add(struct mmu_regions *r, const struct mmu_regions *more);

/* Kernels keep what they use together in areas that are far apart and start alike: all of an
 * address counts. */
ALWAYS_INLINE unsigned mmu_index(u64 at)
{
	u64 page = at >> PAGE_SHIFT;

	return (unsigned)(page ^ page >> 9 ^ page >> 18 ^ page >> 27) & (MMU_ENTRIES - 1);
}

/* The entry that allows this access to all its bytes at once, or NULL: then take a slow function.
 */
ALWAYS_INLINE struct mmu_entry *mmu_find(struct mmu *m, u64 at, unsigned size, enum mmu_kind kind)
{
	unsigned half = (unsigned)(at >> 63);
	struct mmu_entry *e = &m->table[m->space][half][mmu_index(at)];

	if (unlikely(e->tag[kind] != ((at & ~PAGE_MASK) | m->generation[half]) ||
		     (at & PAGE_MASK) + size > PAGE_SIZE))
		return NULL;
	return e;
}

/* After a store through e->host: report it unless there is nothing new to say. */
void mmu_report_store(struct mmu *m, struct mmu_entry *e, u64 at, unsigned size);
ALWAYS_INLINE void mmu_stored(struct mmu *m, struct mmu_entry *e, u64 at, unsigned size)
{
	u8 flags = atomic_load_explicit(e->flags, memory_order_relaxed);

	if (unlikely((flags & (MEM_DIRTY | MEM_CODE)) != MEM_DIRTY))
		mmu_report_store(m, e, at, size);
}

/* Any access, any crossing, any memory; len <= 4096. All or nothing as to faults. */
int mmu_read(struct mmu *m, u64 at, void *buf, unsigned len, unsigned access);
int mmu_write(struct mmu *m, u64 at, const void *buf, unsigned len, unsigned access);

/* Fills (if needed) and returns the entry for an access within one page; NULL with X86_FAULT
 * prepared in *result, or NULL with X86_OK when the page is not plain RAM for this access. */
struct mmu_entry *mmu_fill(struct mmu *m, u64 at, unsigned access, int *result);

/* Only checks that [at, at+len) may be accessed so, setting A/D bits as the access would. */
int mmu_probe(struct mmu *m, u64 at, unsigned len, unsigned access);

/*
 * The x86_ops of engines built on this mmu. x86_cpu.ctx is the vcpu and vcpu->mmu the mmu. An
 * engine that keeps caches of its own keyed by linear address compares mmu->epoch, or copies this
 * struct and replaces `flush` and `mode_changed`.
 */
extern const struct x86_ops mmu_x86_ops;
