/*
 * What is kept of an address space while another one runs.
 *
 * The tables that code uses (fast TLB, ITLB) hold the lower half of one address space. What the
 * logs name is put aside when CR3 changes and put back when the same tables return, the most recent
 * entries of each kind, so that a switch costs what the working set is worth and no more.
 *
 * With PCIDs a kernel may go back and forth without a flush (MOV to CR3 with bit 63); a processor
 * then finds its entries as it left them, and so do we. After a flush, or without PCIDs, what was
 * kept is doubtful. A processor may fetch any translation before it is needed (SDM 3A 4.10.2.3), so
 * what the ITLB said is looked up in the guest's tables when it comes back, and what is still true
 * is put back; what was known of data pages is not. Without accessed bits nothing counts as true,
 * since a fetch would set them.
 *
 * It is put back when code of the lower half is about to run: a kernel that patches its code
 * changes CR3 twice for each patch, and never runs any in between.
 *
 * Stores without a check are forgotten by whoever claims code.
 */
#include "base/bits.h"
#include "cpu/translate/translate_priv.h"
#include <stdlib.h>

#define TABLES(cr3) ((cr3) & ~0xfffull)
#define KEPT_MAX    512u /* of each kind */

struct kept_page {
	u64 neg, add;
	u16 index;
	u8 space, kind;
};

struct kept_space {
	u64 cr3;
	bool used, doubtful;
	unsigned pages, codes;
	struct kept_page page[KEPT_MAX];
	struct itlb_entry code[KEPT_MAX];
	struct mmu_regions large; /* where pages are of large ones */
};

static const u8 *kept_host(const struct kept_page *p)
{
	return (const u8 *)(uintptr_t)(p->add - p->neg);
}

int retain_open(struct translator *t)
{
	if (t->options & OPTION_NO_RETAIN)
		return 0;
	t->kept = calloc(KEPT_SPACES, sizeof(*t->kept));
	return t->kept ? 0 : -1;
}

void retain_close(struct translator *t) { free(t->kept); }

void retain_forget(struct translator *t)
{
	for (unsigned i = 0; t->kept && i < KEPT_SPACES; i++)
		t->kept[i].used = false;
}

void retain_doubt(struct translator *t)
{
	for (unsigned i = 0; t->kept && i < KEPT_SPACES; i++)
		t->kept[i].doubtful = true;
}

void retain_doubt_pcid(struct translator *t, unsigned pcid)
{
	for (unsigned i = 0; t->kept && i < KEPT_SPACES; i++)
		if ((t->kept[i].cr3 & CR3_PCID) == pcid)
			t->kept[i].doubtful = true;
}

void retain_forget_stores(struct translator *t, const u8 *host_page)
{
	for (unsigned i = 0; t->kept && i < KEPT_SPACES; i++) {
		struct kept_space *k = &t->kept[i];
		unsigned left = 0;

		for (unsigned n = 0; k->used && n < k->pages; n++)
			if (!k->page[n].kind || (host_page && kept_host(&k->page[n]) != host_page))
				k->page[left++] = k->page[n];
		k->pages = left;
	}
}

void retain_each(const struct translator *t,
	void (*page)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx)
{
	for (unsigned i = 0; t->kept && i < KEPT_SPACES; i++) {
		const struct kept_space *k = &t->kept[i];

		for (unsigned n = 0; k->used && n < k->pages; n++)
			page(ctx, -k->page[n].neg, kept_host(&k->page[n]), k->page[n].kind);
	}
}

/* ---- what the guest's tables say ---- */

void retain_look_again(struct translator *t)
{
	t->looks++;
	t->looked_near = (struct x86_near){ 0 };
}

static const struct looked_up *look_up(struct translator *t, u64 va)
{
	struct looked_up *l = &t->looked_up[(va >> PAGE_SHIFT) % LOOKED_UP];
	struct x86_cpu *cpu = &t->c->v->x86;

	if (l->look == t->looks && l->va == va)
		return l;
	l->look = t->looks;
	l->va = va;
	/* Pages of the upper half that are not global are named one by one when they are used
	 * (mmu.upper): these are to be used anew. */
	l->found = x86_peek_near(cpu, gva(va), &t->looked_near, &l->x) && l->x.accessed &&
		   (l->x.global || !(va >> 63) || !x86_paging(&cpu->s));
	if (l->found && l->x.page_size > PAGE_SIZE)
		mmu_note_large(&t->c->mmu, va, l->x.page_size);
	return l;
}

bool retain_page_leads_to(struct translator *t, u64 va, u64 gpa, bool user)
{
	const struct looked_up *l = look_up(t, va);
	unsigned access = ACCESS_FETCH | (user ? ACCESS_USER : ACCESS_SYSTEM);

	return l->found && (l->x.gpa.v & ~PAGE_MASK) == gpa &&
	       !x86_check_rights(&t->c->v->x86.s, &l->x, access);
}

/* ---- putting aside ---- */

static void keep_pages(struct translator *t, struct kept_space *k)
{
	for (unsigned n = t->fill_count[0]; n-- && k->pages < KEPT_MAX;) {
		unsigned i = t->fills[0][n].index;
		u8 space = t->fills[0][n].space, kind = t->fills[0][n].kind;
		struct fast_table *f = &t->ctx->fast[space][kind];

		/* Flushed, or kept already; or a page of the upper half has taken its place, whose
		 * flushes are not told to what is kept. */
		if (f->neg[i] == FAST_INVALID || -f->neg[i] >> 63)
			continue;
		k->page[k->pages++] =
			(struct kept_page){ f->neg[i], f->add[i], (u16)i, space, kind };
		f->neg[i] = FAST_INVALID;
	}
}

static struct kept_space *slot_for(struct translator *t, u64 cr3)
{
	unsigned i = 0;

	while (i < KEPT_SPACES && t->kept[i].used && TABLES(t->kept[i].cr3) != TABLES(cr3))
		i++;
	return &t->kept[i < KEPT_SPACES ? i : t->kept_next++ % KEPT_SPACES];
}

void retain_leave(struct translator *t)
{
	bool doubtful = t->leave_doubtful || !(t->c->s->cr4 & CR4_PCIDE);

	t->leave_doubtful = false;
	if (!t->kept || t->c->mmu.lower_global)
		return;
	if (t->enter_waits) {
		t->enter_waits = false; /* nothing of it was put back: it is kept as it was */
		return;
	}
	struct kept_space *k = slot_for(t, t->cr3);
	k->used = true;
	k->doubtful = doubtful;
	k->cr3 = t->cr3;
	k->pages = 0;
	if (!doubtful) {
		k->large = t->c->mmu.large[0];
		keep_pages(t, k);
	}
	k->codes = itlb_keep(t, k->code, KEPT_MAX);
}

/* ---- putting back: the oldest first ---- */

static void put_pages(struct translator *t, const struct kept_space *k)
{
	for (unsigned n = k->pages; n-- && t->fill_count[0] < FILL_LOG;) {
		const struct kept_page *p = &k->page[n];
		struct fast_table *f = &t->ctx->fast[p->space][p->kind];

		f->neg[p->index] = p->neg;
		f->add[p->index] = p->add;
		t->fills[0][t->fill_count[0]].index = p->index;
		t->fills[0][t->fill_count[0]].space = p->space;
		t->fills[0][t->fill_count[0]++].kind = p->kind;
	}
}

void retain_enter(struct translator *t)
{
	t->cr3 = t->c->s->cr3;
	t->enter_waits = t->kept;
}

void retain_enter_now(struct translator *t)
{
	struct kept_space *k = t->kept;

	t->enter_waits = false;
	while (k < t->kept + KEPT_SPACES && !(k->used && TABLES(k->cr3) == TABLES(t->cr3)))
		k++;
	if (k == t->kept + KEPT_SPACES)
		return;
	bool doubtful = k->doubtful || k->cr3 != t->cr3;
	k->used = false;
	retain_look_again(t);
	if (!doubtful) {
		mmu_regions_add(&t->c->mmu.large[0], &k->large);
		put_pages(t, k);
	}
	itlb_put_back(t, k->code, k->codes, doubtful);
}
