/* See kernel_window.h. */
#include "cpu/translate/kernel_window.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define POPULATE_PAGES 16u /* larger runs are for the host to fill in as they are touched */

static size_t reserved(void)
{
	return KERNEL_REGIONS * (KERNEL_PIECE + WINDOW_GUARD) + WINDOW_GUARD;
}

int kernel_window_open(struct kernel_window *w, struct memory *m)
{
	*w = (struct kernel_window){ .memory = m };
	memset(w->region, WINDOW_NOWHERE, sizeof(w->region));
	u8 *base = window_reserve(NULL, reserved());
	if (base == MAP_FAILED)
		return -ENOMEM;
	w->base = base;
	return 0;
}

void kernel_window_close(struct kernel_window *w)
{
	if (w->base)
		munmap(w->base, reserved());
	w->base = NULL;
}

/* ---- regions ---- */

static u8 *region_base(const struct kernel_window *w, unsigned region)
{
	return w->base + WINDOW_GUARD + region * (KERNEL_PIECE + WINDOW_GUARD);
}

/* The canonical address a piece begins at. */
static u64 piece_base(unsigned piece)
{
	return (u64)((s64)((u64)piece << (KERNEL_SHIFT + 16)) >> 16);
}

unsigned kernel_window_region_for(struct kernel_window *w, u64 at)
{
	unsigned piece = kernel_window_piece(at);
	struct kernel_pieces *p = &w->pieces;
	bool low = piece < KERNEL_PIECES / 2;

	if (!w->base || (u64)((s64)(at << 16) >> 16) != at)
		return WINDOW_NOWHERE;
	if (w->region[piece] != WINDOW_NOWHERE)
		return w->region[piece];
	if (p->used == KERNEL_REGIONS || (low && p->used_low == KERNEL_LOW_REGIONS))
		return WINDOW_NOWHERE;
	p->used_low += low;
	p->piece[p->used] = (u16)piece;
	return w->region[piece] = (u8)p->used++;
}

bool kernel_window_adopt(struct kernel_window *w, const struct kernel_pieces *p)
{
	if (!w->base || w->pieces.used == p->used)
		return false;
	w->pieces = *p;
	for (unsigned r = 0; r < p->used; r++)
		w->region[p->piece[r]] = (u8)r;
	return true;
}

u64 kernel_window_delta(const struct kernel_window *w, unsigned piece)
{
	unsigned r = w->region[piece];

	if (r == WINDOW_NOWHERE)
		return BIT64(47) + BIT64(46) - ((u64)piece << KERNEL_SHIFT);
	return (u64)(uintptr_t)region_base(w, r) - piece_base(piece);
}

static u8 *host_of(const struct kernel_window *w, u64 va)
{
	return (u8 *)(uintptr_t)(va + kernel_window_delta(w, kernel_window_piece(va)));
}

bool kernel_window_within(const struct kernel_window *w, u64 host)
{
	return w->base && host - (u64)(uintptr_t)w->base < reserved();
}

u64 kernel_window_guest(const struct kernel_window *w, u64 host)
{
	for (unsigned r = 0; r < w->pieces.used; r++) {
		u64 into = host - (u64)(uintptr_t)region_base(w, r);

		if (into < KERNEL_PIECE)
			return piece_base(w->pieces.piece[r]) + into;
	}
	return WINDOW_NO_GUEST;
}

/* ---- extents ---- */

/* As numbers: a pointer would leave all memory. */
static u64 host_minus_va(const u8 *host, u64 va) { return (u64)(uintptr_t)host - va; }

static bool touches(const struct kernel_extent *x, u64 va, const u8 *host, u64 pages, bool writable)
{
	u64 end = x->va + (x->pages << PAGE_SHIFT);

	return x->writable == writable &&
	       host_minus_va(x->host, x->va) == host_minus_va(host, va) && va <= end &&
	       x->va <= va + (pages << PAGE_SHIFT) &&
	       kernel_window_piece(x->va) == kernel_window_piece(va);
}

/* False: too many. */
static bool add_extent(struct kernel_window *w, u64 va, u8 *host, u64 pages, bool writable)
{
	for (unsigned i = 0; i < w->count; i++) {
		struct kernel_extent *x = &w->extents[i];

		if (!touches(x, va, host, pages, writable))
			continue;
		u64 end = max_u64(x->va + (x->pages << PAGE_SHIFT), va + (pages << PAGE_SHIFT));
		if (va < x->va) {
			x->va = va;
			x->host = host;
		}
		x->pages = (end - x->va) >> PAGE_SHIFT;
		return true;
	}
	if (w->count == KERNEL_EXTENTS)
		return false;
	w->extents[w->count++] = (struct kernel_extent){ va, host, pages, writable };
	return true;
}

/* ---- showing and hiding ---- */

bool kernel_window_show(struct kernel_window *w, u64 va, u8 *host, u64 pages, bool writable)
{
	const struct memory_region *m = window_source(w->memory, host);

	if (!m)
		return false;
	if (!add_extent(w, va, host, pages, writable)) {
		kernel_window_hide_all(w);
		add_extent(w, va, host, pages, writable);
	}
	if (mmap(host_of(w, va), pages << PAGE_SHIFT, PROT_READ | (writable ? PROT_WRITE : 0),
		    MAP_SHARED | MAP_FIXED | (pages <= POPULATE_PAGES ? MAP_POPULATE : 0), m->fd,
		    (off_t)(host - m->host)) == MAP_FAILED) {
		kernel_window_hide_all(w); /* too many mappings */
		return false;
	}
	w->shown += pages;
	return true;
}

static void hide_region(struct kernel_window *w, unsigned r)
{
	must(window_reserve(region_base(w, r), KERNEL_PIECE) != MAP_FAILED,
		"hiding a region: errno %d", errno);
}

static void hide_pieces(struct kernel_window *w, unsigned from, unsigned end)
{
	u64 regions = 0;
	unsigned kept = 0;

	for (unsigned i = 0; i < w->count; i++) {
		unsigned piece = kernel_window_piece(w->extents[i].va);

		if (piece >= from && piece < end)
			regions |= BIT64(w->region[piece]);
		else
			w->extents[kept++] = w->extents[i];
	}
	w->drops += !!regions;
	w->count = kept;
	for (unsigned r = 0; r < KERNEL_REGIONS; r++)
		if (regions & BIT64(r))
			hide_region(w, r);
}

void kernel_window_hide_all(struct kernel_window *w)
{
	hide_pieces(w, 0, KERNEL_PIECES);
	w->holes = 0;
	w->local_count = 0;
	w->local_many = false;
}

void kernel_window_hide_low(struct kernel_window *w) { hide_pieces(w, 0, KERNEL_PIECES / 2); }

/* Pages of an extent. A hole takes mappings from the host, which has not enough for any number. */
static void hide_some(struct kernel_window *w, u64 va, u64 pages)
{
	if (++w->holes > KERNEL_HOLES ||
		window_reserve(host_of(w, va), pages << PAGE_SHIFT) == MAP_FAILED)
		kernel_window_hide_all(w);
}

/*
 * Pages of extent i, `pages` from the n-th on, were hidden; returns where the rest of it begins.
 * What is behind them becomes an extent of its own at the end of all, so that they are not looked
 * at again; if there is room for no more, the extent keeps a hole.
 */
static u64 take_out(struct kernel_window *w, unsigned i, u64 n, u64 pages)
{
	struct kernel_extent *x = &w->extents[i], rest = *x;

	rest.va += (n + pages) << PAGE_SHIFT;
	rest.host += (n + pages) << PAGE_SHIFT;
	rest.pages -= n + pages;
	if (!n) {
		*x = rest;
		return 0;
	}
	if (rest.pages && w->count == KERNEL_EXTENTS)
		return n + pages;
	x->pages = n;
	if (rest.pages)
		w->extents[w->count++] = rest;
	return n;
}

static void drop_empty(struct kernel_window *w)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < w->count; i++)
		if (w->extents[i].pages)
			w->extents[kept++] = w->extents[i];
	w->count = kept;
}

/* How many pages from the n-th of an extent on are not to be shown any more: a mapping of the host
 * hides them together. */
static u64 gone(const struct kernel_extent *x, u64 n,
	bool (*still)(void *ctx, u64 va, const u8 *host, bool writable, u64 *pages), void *ctx)
{
	u64 from = n, pages;

	for (; n < x->pages; n += min_u64(pages, x->pages - n))
		if (still(ctx, x->va + (n << PAGE_SHIFT), x->host + (n << PAGE_SHIFT), x->writable,
			    &pages))
			break;
	return n - from;
}

void kernel_window_review(struct kernel_window *w,
	bool (*still)(void *ctx, u64 va, const u8 *host, bool writable, u64 *pages), void *ctx)
{
	/* What is taken out adds extents; hiding may have to hide everything. */
	for (unsigned i = 0; i < w->count; i++) {
		for (u64 n = 0; i < w->count && n < w->extents[i].pages;) {
			const struct kernel_extent x = w->extents[i];
			u64 by = n << PAGE_SHIFT, pages;
			bool stays = still(ctx, x.va + by, x.host + by, x.writable, &pages);

			pages = min_u64(pages, x.pages - n);
			if (stays) {
				n += pages;
				continue;
			}
			pages += gone(&x, n + pages, still, ctx);
			hide_some(w, x.va + by, pages);
			if (i < w->count)
				n = take_out(w, i, n, pages);
		}
	}
	drop_empty(w);
}

void kernel_window_hide(struct kernel_window *w, u64 va, u64 size)
{
	u64 first = va & ~(size - 1), last = first + (size - 1);
	bool any = false;

	/* Nothing near is shown; so it is with a program's pages. */
	if (size <= KERNEL_PIECE && kernel_window_region_of(w, va) == WINDOW_NOWHERE)
		return;
	for (unsigned i = 0; i < w->count; i++) {
		const struct kernel_extent *x = &w->extents[i];
		u64 end = x->va + ((x->pages << PAGE_SHIFT) - 1);

		if (!x->pages || x->va > last || end < first)
			continue;
		u64 from = max_u64(x->va, first), to = min_u64(end, last);
		take_out(w, i, (from - x->va) >> PAGE_SHIFT, (to - from + 1) >> PAGE_SHIFT);
		any = true;
	}
	if (!any)
		return;
	drop_empty(w);
	hide_some(w, first, size >> PAGE_SHIFT);
}

void kernel_window_hide_page(struct kernel_window *w, const u8 *host)
{
	for (unsigned i = 0; i < w->count; i++) {
		const struct kernel_extent *x = &w->extents[i];
		u64 into = (u64)(host - x->host);

		if (into < x->pages << PAGE_SHIFT) {
			hide_some(w, x->va + into, 1);
			if (i < w->count)
				take_out(w, i, into >> PAGE_SHIFT, 1);
		}
	}
	drop_empty(w);
}

/* ---- pages that are not global ---- */

void kernel_window_note_local(struct kernel_window *w, u64 va, u8 *host, bool writable)
{
	unsigned i = 0;

	while (i < w->local_count && w->local[i].va != va)
		i++;
	if (i == KERNEL_LOCAL) {
		i = w->local_next++ % KERNEL_LOCAL;
		kernel_window_hide(w, w->local[i].va, PAGE_SIZE);
		if (!w->local_count)
			i = 0; /* everything had to be hidden */
	}
	if (i == w->local_count)
		w->local_count++;
	w->local[i] = (struct kernel_page){ va, host, writable };
}

void kernel_window_review_local(struct kernel_window *w,
	bool (*still)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx)
{
	if (w->local_many) {
		kernel_window_hide_all(w);
		return;
	}
	unsigned count = w->local_count, kept = 0;

	for (unsigned i = 0; i < count && w->local_count; i++) {
		const struct kernel_page p = w->local[i];

		if (still(ctx, p.va, p.host, p.writable))
			w->local[kept++] = p;
		else
			kernel_window_hide(w, p.va, PAGE_SIZE);
	}
	if (w->local_count)
		w->local_count = kept;
}
