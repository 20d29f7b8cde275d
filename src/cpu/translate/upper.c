/*
 * Where the upper half has code. A kernel's code stays where it is, in all address spaces, so links
 * and jump tables lead there without a check (as they do not in the lower half: itlb.c). The pages
 * that have such code are listed; when they are flushed, each is looked up in the guest's tables,
 * and what leads to code of a page that is not there any more is cut.
 *
 * Pages that are not global count as gone: they are named one by one when they are used
 * (mmu.upper), to be flushed with CR3, and this says nothing of their use.
 */
#include "base/bits.h"
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"

#define UPPER_PAGES 8192u		  /* hashed; a power of two */
#define UPPER_MOST  (UPPER_PAGES / 4 * 3) /* when there are more, all are forgotten */
#define UPPER_USER  1u
#define UPPER_GONE  (~0ull)

struct upper_page {
	u64 key; /* its linear address, UPPER_USER with it if user code may run there; 0: free */
	u64 gpa; /* or UPPER_GONE */
};

int upper_open(struct translator *t)
{
	t->upper = pages_new(UPPER_PAGES * sizeof(*t->upper));
	return t->upper ? 0 : -1;
}

void upper_close(struct translator *t) { pages_free(t->upper, UPPER_PAGES * sizeof(*t->upper)); }

/* Where it is, or would be. */
static struct upper_page *find(const struct translator *t, u64 key)
{
	unsigned i = (unsigned)(key >> PAGE_SHIFT) % UPPER_PAGES;

	while (t->upper[i].key && t->upper[i].key != key)
		i = (i + 1) % UPPER_PAGES;
	return &t->upper[i];
}

static void cut_unit(void *ctx, struct code_unit *u)
{
	if (u->keeper == CODE_TRANSLATED)
		tcache_detach(ctx, container_of(u, struct tblock, unit));
}

static bool has_code(const struct upper_page *p) { return p->key && p->gpa != UPPER_GONE; }

/* What leads there, if anything does, and to other linear pages of the same physical one. */
static void cut(struct translator *t, struct upper_page *p)
{
	if (has_code(p))
		code_map_each(&t->c->code, p->gpa, cut_unit, t);
	p->gpa = UPPER_GONE;
}

static void look(struct translator *t, struct upper_page *p)
{
	if (has_code(p) && (!t->kept || !retain_page_leads_to(t, p->key & ~PAGE_MASK, p->gpa,
						p->key & UPPER_USER)))
		cut(t, p);
}

void upper_forget(struct translator *t)
{
	if (t->upper_count)
		pages_forget(t->upper, UPPER_PAGES * sizeof(*t->upper));
	t->upper_count = 0;
}

void upper_note(struct translator *t, u64 va, u64 page, bool user)
{
	u64 key = (va & ~PAGE_MASK) | (user ? UPPER_USER : 0);
	struct upper_page *p = find(t, key);

	if (likely(p->gpa == page && p->key))
		return;
	if (!p->key && t->upper_count == UPPER_MOST) {
		for (unsigned i = 0; i < UPPER_PAGES; i++)
			cut(t, &t->upper[i]);
		upper_forget(t);
		p = find(t, key);
	}
	t->upper_count += !p->key;
	cut(t, p); /* it was elsewhere, and no flush has said so yet */
	*p = (struct upper_page){ key, page };
}

void upper_flush(struct translator *t)
{
	retain_look_again(t);
	for (unsigned i = 0; t->upper_count && i < UPPER_PAGES; i++)
		look(t, &t->upper[i]);
}

void upper_flush_page(struct translator *t, u64 at)
{
	u64 va = at & ~PAGE_MASK;
	struct upper_page *system = find(t, va), *user = find(t, va | UPPER_USER);

	if (!system->key && !user->key)
		return;
	t->code_flushes++;
	retain_look_again(t);
	look(t, system);
	look(t, user);
}
