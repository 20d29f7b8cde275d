/* See window.h. */
#include "cpu/translate/window.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define USED	 BIT64(0)
#define WRITABLE BIT64(1)
#define SLOTS	 (2 * WINDOW_PAGES)
#define NOBODY	 (~0ull)

#define FAULTS_A_TICK 400u /* more cost more than the window gains ... */
#define ROUGH_FAULTS  80u  /* ... and so do these, when it is not only for a start: ... */
#define ROUGH_TICKS   16u  /* ... for so long */
#define MENDED_A_TICK 80u  /* the same: it does little but touch new pages */
#define PATIENCE_MAX  32u  /* ticks */
#define CHURN_TIMES   16u  /* that a page is hidden in this many ticks */
#define CHURN_TICKS   4u
#define AROUND_MAX    1024u /* pages that are looked for one by one */

static const u64 region_base[WINDOW_REGIONS] = {
	[WINDOW_LOW] = 0,
	[WINDOW_PIE] = 0x540000000000,
	[WINDOW_HIGH] = 0x7c0000000000,
};

unsigned window_bits(unsigned region) { return (unsigned)(region_base[region] >> WINDOW_SHIFT); }

unsigned window_region_of(u64 at, u64 len)
{
	for (unsigned r = 0; r < WINDOW_REGIONS; r++)
		if (at - region_base[r] < WINDOW_SIZE)
			return range_ok(at - region_base[r], len, WINDOW_SIZE) ? r : WINDOW_NOWHERE;
	return WINDOW_NOWHERE;
}

u64 window_delta(const struct window *w, unsigned bits)
{
	for (unsigned r = 0; r < WINDOW_REGIONS; r++)
		if (bits == window_bits(r))
			return w->delta[r];
	/* Bits 47 to 49 of any sum are 010, with a margin for displacements: not canonical. */
	return BIT64(48) + BIT64(45) - ((u64)bits << WINDOW_SHIFT);
}

static size_t reserved(void)
{
	return WINDOW_REGIONS * (WINDOW_SIZE + WINDOW_GUARD) + WINDOW_GUARD;
}

void *window_reserve(void *at, u64 size)
{
	return mmap(at, size, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

int window_open(struct window *w, struct memory *m)
{
	*w = (struct window){
		.owner = NOBODY, .candidate = NOBODY, .refused = NOBODY, .memory = m
	};
	u8 *base = window_reserve(NULL, reserved());
	if (base == MAP_FAILED)
		return -ENOMEM;
	w->pages = calloc(SLOTS, sizeof(*w->pages));
	if (!w->pages) {
		munmap(base, reserved());
		return -ENOMEM;
	}
	w->base = base;
	for (unsigned r = 0; r < WINDOW_REGIONS; r++)
		w->delta[r] = (u64)(uintptr_t)base + WINDOW_GUARD +
			      r * (WINDOW_SIZE + WINDOW_GUARD) - region_base[r];
	return 0;
}

void window_close(struct window *w)
{
	if (w->base)
		munmap(w->base, reserved());
	free(w->pages);
	*w = (struct window){ 0 };
}

/* ---- what is shown ---- */

static unsigned slot_of(u64 va)
{
	u64 page = va >> PAGE_SHIFT;

	return (unsigned)((page * 0x9e3779b97f4a7c15ull) >> 32) & (SLOTS - 1);
}

/* How many of the pages shown may show this RAM page. */
static u16 *shows(struct window *w, const u8 *host)
{
	u64 page = (u64)(uintptr_t)host >> PAGE_SHIFT;

	return &w->shows[(page ^ page >> 12) & (WINDOW_HOSTS - 1)];
}

/* The page's entry, or the free one where it belongs. */
static struct window_page *find(const struct window *w, u64 va)
{
	unsigned i = slot_of(va);

	while (w->pages[i].va && (w->pages[i].va ^ va) >> PAGE_SHIFT)
		i = (i + 1) & (SLOTS - 1);
	return &w->pages[i];
}

bool window_has(const struct window *w, u64 va, bool writable)
{
	const struct window_page *p = find(w, va & ~PAGE_MASK);

	return p->va && (!writable || (p->va & WRITABLE));
}

const u8 *window_shows(const struct window *w, u64 va)
{
	const struct window_page *p = w->base ? find(w, va & ~PAGE_MASK) : NULL;

	return p && p->va ? p->host : NULL;
}

void window_each(const struct window *w,
	void (*page)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx)
{
	for (unsigned i = 0; w->base && i < SLOTS; i++)
		if (w->pages[i].va)
			page(ctx, w->pages[i].va & ~PAGE_MASK, w->pages[i].host,
				w->pages[i].va & WRITABLE);
}

bool window_within(const struct window *w, u64 host)
{
	return w->base && host - (u64)(uintptr_t)w->base < reserved();
}

u64 window_guest(const struct window *w, u64 host)
{
	for (unsigned r = 0; r < WINDOW_REGIONS; r++)
		if (window_region_of(host - w->delta[r], PAGE_SIZE) == r)
			return host - w->delta[r];
	return WINDOW_NO_GUEST;
}

static u8 *host_of(const struct window *w, u64 va)
{
	unsigned r = window_region_of(va, PAGE_SIZE);

	must(r != WINDOW_NOWHERE, "0x%llx is in no region", (unsigned long long)va);
	return (u8 *)(uintptr_t)(va + w->delta[r]);
}

const struct memory_region *window_source(const struct memory *m, const u8 *host)
{
	for (unsigned i = 0; i < m->region_count; i++)
		if ((size_t)(host - m->regions[i].host) < m->regions[i].size)
			return &m->regions[i];
	return NULL;
}

void window_show(struct window *w, u64 va, u8 *host, unsigned pages, bool writable)
{
	const struct memory_region *m = window_source(w->memory, host);
	u64 len = (u64)pages << PAGE_SHIFT;

	va &= ~PAGE_MASK;
	unsigned r = window_region_of(va, len);
	if (!m || r == WINDOW_NOWHERE)
		return;
	if (w->count + pages > WINDOW_PAGES)
		window_hide_all(w);
	if (mmap(host_of(w, va), len, PROT_READ | (writable ? PROT_WRITE : 0),
		    MAP_SHARED | MAP_FIXED | MAP_POPULATE, m->fd,
		    (off_t)(host - m->host)) == MAP_FAILED) {
		/* Too many mappings: the general form still serves. */
		window_lose(w);
		return;
	}
	for (unsigned i = 0; i < pages; i++, va += PAGE_SIZE, host += PAGE_SIZE) {
		struct window_page *p = find(w, va);

		w->count += !p->va;
		w->in_region[r] += !p->va;
		if (p->va)
			--*shows(w, p->host);
		++*shows(w, host);
		*p = (struct window_page){ .va = va | USED | (writable ? WRITABLE : 0),
			.host = host };
	}
	w->shown += pages;
}

/* Removal from open addressing: whatever follows moves up unless it is where it belongs. */
static void remove_entry(struct window *w, struct window_page *p)
{
	unsigned hole = (unsigned)(p - w->pages), i = hole;

	for (;;) {
		i = (i + 1) & (SLOTS - 1);
		if (!w->pages[i].va)
			break;
		unsigned want = slot_of(w->pages[i].va);
		if (((i - want) & (SLOTS - 1)) < ((i - hole) & (SLOTS - 1)))
			continue;
		w->pages[hole] = w->pages[i];
		hole = i;
	}
	w->pages[hole].va = 0;
}

static void note_hidden(struct window *w, u64 va)
{
	struct window_churn *c = &w->churns[va >> PAGE_SHIFT & (WINDOW_CHURNS - 1)];

	if (c->va != va || w->ticks - c->tick > CHURN_TICKS)
		*c = (struct window_churn){ .va = va, .tick = w->ticks };
	c->times++;
}

bool window_churns(const struct window *w, u64 va)
{
	const struct window_churn *c = &w->churns[va >> PAGE_SHIFT & (WINDOW_CHURNS - 1)];

	return c->va == (va & ~PAGE_MASK) && w->ticks - c->tick <= CHURN_TICKS &&
	       c->times > CHURN_TIMES;
}

/* false: it was not shown. */
static bool forget(struct window *w, u64 va)
{
	struct window_page *p = find(w, va);

	if (!p->va)
		return false;
	w->count--;
	w->in_region[window_region_of(va, PAGE_SIZE)]--;
	--*shows(w, p->host);
	remove_entry(w, p);
	note_hidden(w, va);
	return true;
}

static void hide(struct window *w, u64 va, u64 size)
{
	must(window_reserve(host_of(w, va), size) != MAP_FAILED, "hiding pages: errno %d", errno);
}

void window_hide(struct window *w, u64 va)
{
	u64 size = mmu_regions_reach(&w->large, va);
	bool any = false;

	if (size > AROUND_MAX * PAGE_SIZE) {
		window_hide_all(w);
		return;
	}
	va &= ~(size - 1);
	for (u64 by = 0; by < size && w->count; by += PAGE_SIZE)
		any |= forget(w, va + by);
	if (any)
		hide(w, va, size);
}

void window_note_large(struct window *w, u64 va, u64 page_size)
{
	mmu_regions_note(&w->large, va, page_size);
}

void window_hide_all(struct window *w)
{
	if (!w->count)
		return;
	for (unsigned r = 0; r < WINDOW_REGIONS; r++) {
		if (w->in_region[r])
			must(window_reserve((void *)(uintptr_t)(region_base[r] + w->delta[r]),
				     WINDOW_SIZE) != MAP_FAILED,
				"hiding a region: errno %d", errno);
		w->in_region[r] = 0;
	}
	memset(w->pages, 0, SLOTS * sizeof(*w->pages));
	memset(w->shows, 0, sizeof(w->shows));
	w->large = (struct mmu_regions){ 0 };
	w->count = 0;
	w->drops++;
}

void window_protect(struct window *w, const u8 *host)
{
	if (!w->count || !*shows(w, host))
		return;
	for (unsigned i = 0; i < SLOTS; i++) {
		struct window_page *p = &w->pages[i];

		if (!p->va || p->host != host || !(p->va & WRITABLE))
			continue;
		must(!mprotect(host_of(w, p->va & ~PAGE_MASK), PAGE_SIZE, PROT_READ),
			"protecting a page: errno %d", errno);
		p->va &= ~WRITABLE;
	}
}

/* ---- whose it is ---- */

void window_lose(struct window *w)
{
	if (w->owner == NOBODY)
		return;
	if (w->refused == w->owner) {
		w->refusals++;
	} else {
		w->refused = w->owner;
		w->refusals = 1;
	}
	w->patience = (unsigned)min_u64(1ull << min_u64(w->refusals, 6), PATIENCE_MAX);
	window_hide_all(w);
	w->owner = w->candidate = NOBODY;
	w->votes = 0;
	w->faults = w->mended = w->rough = 0;
}

void window_give(struct window *w, u64 cr3)
{
	if (cr3 == w->owner || !w->base)
		return;
	window_hide_all(w);
	w->owner = cr3;
	w->candidate = NOBODY;
	w->votes = 0;
	w->takeovers++;
}

void window_tick(struct window *w, u64 cr3)
{
	bool storm = w->faults > FAULTS_A_TICK || w->mended > MENDED_A_TICK;

	w->ticks++;
	w->rough = w->faults > ROUGH_FAULTS ? w->rough + 1 : 0;
	storm |= w->rough > ROUGH_TICKS;
	w->faults = w->mended = 0;
	if (!w->base)
		return;
	if (w->patience)
		w->patience--;
	else if (w->refusals && w->owner == w->refused)
		w->refusals--;
	if (storm && w->owner == cr3) {
		window_lose(w);
		return;
	}
	if (w->candidate != cr3 && w->votes) {
		w->votes--;
		return;
	}
	if (cr3 == w->owner || (cr3 == w->refused && w->patience))
		return;
	w->candidate = cr3;
	if (++w->votes == WINDOW_VOTES)
		window_give(w, cr3);
}
