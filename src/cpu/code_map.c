#include "cpu/code_map.h"
#include "base/bits.h"
#include "base/must.h"
#include <stdlib.h>
#include <string.h>

#define LINE_SHIFT 6u /* 64 lines of 64 bytes in a page */

struct code_page {
	u64 gpa;
	u64 lines; /* bit n: line n holds decoded bytes */
	bool claimed;
	struct code_unit *list;
	struct code_page *next;
};

static struct code_page **page_slot(struct code_map *m, u64 page)
{
	struct code_page **p = &m->pages[(page >> PAGE_SHIFT) & (CODE_PAGES - 1)];

	while (*p && (*p)->gpa != page)
		p = &(*p)->next;
	return p;
}

static u64 line_mask(u64 offset, u64 len)
{
	unsigned first = (unsigned)(offset >> LINE_SHIFT);
	unsigned last = (unsigned)((offset + len - 1) >> LINE_SHIFT);

	return (last == 63 ? ~0ull : BIT64(last + 1) - 1) & ~(BIT64(first) - 1);
}

/* The bytes of a unit within one of its pages: [*from, *to). */
static void extent_in(const struct code_unit *u, u64 page, u64 *from, u64 *to)
{
	u64 first = u->gpa & PAGE_MASK, end = first + u->bytes;

	if ((u->gpa & ~PAGE_MASK) == page) {
		*from = first;
		*to = min_u64(end, PAGE_SIZE);
	} else {
		*from = 0;
		*to = end - PAGE_SIZE;
	}
}

void code_map_claim(struct code_map *m, u64 at)
{
	u64 page = at & ~PAGE_MASK;
	struct code_page **slot = page_slot(m, page), *p = *slot;

	if (!p) {
		p = calloc(1, sizeof(*p));
		must(p, "no memory for a page's code map");
		p->gpa = page;
		*slot = p;
	}
	if (!p->claimed) {
		p->claimed = true;
		memory_claim_code(m->memory, gpa(page));
	}
}

static void add_to_page(struct code_map *m, struct code_unit *u, u64 page, unsigned which)
{
	struct code_page *p = *page_slot(m, page);
	u64 from, to;

	must(p && p->claimed, "code at 0x%llx was decoded without a claim",
		(unsigned long long)page);
	extent_in(u, page, &from, &to);
	p->lines |= line_mask(from, to - from);
	u->page_next[which] = p->list;
	p->list = u;
}

void code_map_add(struct code_map *m, struct code_unit *u)
{
	u64 page = u->gpa & ~PAGE_MASK;

	u->valid = true;
	add_to_page(m, u, page, 0);
	if (u->gpa2 != CODE_NO_PAGE && u->gpa2 != page)
		add_to_page(m, u, u->gpa2, 1);
}

/* Does the write, at an offset in the page of the unit's first byte, touch live bytes only? */
static bool only_live(const struct code_unit *u, u64 from, u64 to)
{
	u64 live = (u->gpa & PAGE_MASK) + u->live_at;

	return u->live_bytes && live <= from && to <= live + u->live_bytes;
}

void code_map_write(struct code_map *m, u64 at, u64 len)
{
	u64 page = at & ~PAGE_MASK, from = at & PAGE_MASK, to = from + len, lines = 0;
	struct code_page *p = *page_slot(m, page);

	if (!p || !p->claimed)
		return;
	/* A claimed page without units is being decoded for the first time, or was abandoned. */
	if (p->lines && !(p->lines & line_mask(from, len)))
		return;
	m->write_at = at;
	m->write_len = len;
	for (struct code_unit **link = &p->list; *link;) {
		struct code_unit *u = *link;
		unsigned which = (u->gpa & ~PAGE_MASK) != page;
		u64 u_from, u_to;

		extent_in(u, page, &u_from, &u_to);
		bool lives = !which && only_live(u, from, to);
		if (u->valid && u_from < to && from < u_to && !lives) {
			u->valid = false;
			m->keepers[u->keeper].kill(m->keepers[u->keeper].ctx, u);
		}
		/* A unit killed through its other page is dropped here. */
		if (!u->valid) {
			*link = u->page_next[which];
			continue;
		}
		lines |= line_mask(u_from, u_to - u_from);
		link = &u->page_next[which];
	}
	m->write_len = 0;
	p->lines = lines;
	if (!lines) {
		p->claimed = false;
		memory_release_code(m->memory, gpa(page));
	}
}

void code_map_each(
	struct code_map *m, u64 page, void (*each)(void *ctx, struct code_unit *u), void *ctx)
{
	const struct code_page *p = *page_slot(m, page);

	for (struct code_unit *u = p ? p->list : NULL; u;
		u = u->page_next[(u->gpa & ~PAGE_MASK) != page])
		if (u->valid)
			each(ctx, u);
}

void code_map_clear(struct code_map *m)
{
	for (unsigned i = 0; i < CODE_PAGES; i++) {
		while (m->pages[i]) {
			struct code_page *dead = m->pages[i];

			m->pages[i] = dead->next;
			if (dead->claimed)
				memory_release_code(m->memory, gpa(dead->gpa));
			free(dead);
		}
	}
}
