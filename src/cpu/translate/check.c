/* See check.h. */
#include "cpu/translate/check.h"
#include "base/must.h"
#include "cpu/translate/translate_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPARED	   64u /* flushes between two looks at everything */
#define MAPS_CHUNK 32768u
#define CLAIM_NS   2000000000ull /* a claim comes through in this time */

struct check {
	bool anew; /* a flush of everything is being checked */
	int maps;  /* /proc/self/maps */
	u64 inode[MEMORY_REGIONS_MAX];
	unsigned flushes;
	char buf[MAPS_CHUNK + 1];
};

static bool wrong(char *to, const char *what, u64 at, const void *host)
{
	snprintf(to, CHECK_TEXT, "%s: linear 0x%llx leads to %p", what, (unsigned long long)at,
		host);
	return false;
}

/* ---- frames and stores ---- */

/* The flags of the page of guest memory that a host address lies in, by its slots: an independent
 * way from that of who made the entry. */
static _Atomic u8 *page_flags(const struct translator *t, const u8 *host, bool *rom)
{
	const struct memory *m = t->c->v->memory;

	for (unsigned i = 0; i < m->slot_count; i++) {
		const struct memory_slot *s = &m->slots[i];
		u64 offset = (u64)(uintptr_t)host - (u64)(uintptr_t)s->region->host;

		if (offset - s->offset >= s->size)
			continue;
		*rom = s->region->rom;
		return &s->region->flags[offset >> PAGE_SHIFT];
	}
	return NULL;
}

/* Another thread that claims the page sets the flag first, and tells us a moment later. */
static bool claim_is_coming(struct translator *t, _Atomic u8 *flags)
{
	if (!(atomic_load(flags) & MEM_DIRTY))
		return false;
	for (u64 turns = 0; turns < CLAIM_NS / 1000; turns++) {
		if (atomic_load(&t->purge) || !(atomic_load(flags) & MEM_CODE))
			return true;
		sched_yield();
	}
	return false;
}

static bool frame_ok(
	struct translator *t, const char *what, u64 at, const u8 *host, bool store, char *to)
{
	bool rom = false;
	_Atomic u8 *flags = page_flags(t, host, &rom);

	if (!flags || (u64)(uintptr_t)host & PAGE_MASK)
		return wrong(to, what, at, host);
	if (store && (rom || ((atomic_load(flags) & (MEM_DIRTY | MEM_CODE)) != MEM_DIRTY &&
				     !claim_is_coming(t, flags))))
		return snprintf(to, CHECK_TEXT,
			       "%s: stores to linear 0x%llx go unreported, flags 0x%x%s", what,
			       (unsigned long long)at, atomic_load(flags), rom ? ", ROM" : ""),
		       false;
	return true;
}

static bool fast_valid(const struct fast_table *f, unsigned i)
{
	/* All zero is empty, but in the first entry, where it is page 0 (tcache_open()). */
	return f->neg[i] != FAST_INVALID && (f->neg[i] || !i);
}

static bool fast_ok(struct translator *t, char *to)
{
	for (unsigned space = 0; space < MMU_SPACES; space++)
		for (unsigned kind = 0; kind < 2; kind++) {
			const struct fast_table *f = &t->ctx->fast[space][kind];

			for (unsigned i = 0; i < FAST_ENTRIES; i++)
				if (fast_valid(f, i) &&
					!frame_ok(t, "fast TLB", -f->neg[i],
						(u8 *)(uintptr_t)(f->add[i] - f->neg[i]), kind, to))
					return false;
		}
	return true;
}

/* The shared TLB also says which guest-physical page it is. */
static bool mmu_ok(struct translator *t, char *to)
{
	struct mmu *m = &t->c->mmu;

	for (unsigned space = 0; space < MMU_SPACES; space++)
		for (unsigned half = 0; half < 2; half++)
			for (unsigned i = 0; i < MMU_ENTRIES; i++) {
				const struct mmu_entry *e = &m->table[space][half][i];
				struct memory_page p = memory_page(t->c->v->memory, gpa(e->gpa));

				for (unsigned k = 0; k < MMU_KINDS; k++) {
					if (!e->tag[k] ||
						(e->tag[k] & PAGE_MASK) != m->generation[half])
						continue;
					if (!p.host || p.host != e->host || p.flags != e->flags ||
						(k == MMU_WRITE && p.rom))
						return wrong(
							to, "TLB", e->tag[k] & ~PAGE_MASK, e->host);
				}
			}
	return true;
}

struct looking {
	struct translator *t;
	const char *what;
	char *to;
	bool ok;
};

static void look_at_page(void *ctx, u64 va, const u8 *host, bool store)
{
	struct looking *l = ctx;

	l->ok = l->ok && frame_ok(l->t, l->what, va, host, store, l->to);
}

static bool kernel_extents_ok(struct translator *t, char *to)
{
	for (unsigned i = 0; i < t->kernel.count; i++) {
		const struct kernel_extent *x = &t->kernel.extents[i];

		for (u64 n = 0; n < x->pages; n++)
			if (!frame_ok(t, "kernel's window", x->va + (n << PAGE_SHIFT),
				    x->host + (n << PAGE_SHIFT), false, to))
				return false;
	}
	return true;
}

/* ---- the host's mappings ---- */

struct mapping {
	u64 start, end, offset, inode;
	char rights[5];
};

/* Does a run that was shown have va at this byte of its region? What was there before it may be
 * part of an older one. */
static bool extent_shows(const struct translator *t, u64 va, u64 offset)
{
	const struct kernel_window *w = &t->kernel;

	for (unsigned i = 0; i < w->count; i++) {
		const struct kernel_extent *x = &w->extents[i];
		const struct memory_region *r = window_source(t->c->v->memory, x->host);

		if (va - x->va < x->pages << PAGE_SHIFT && r &&
			(u64)(x->host - r->host) + (va - x->va) == offset)
			return true;
	}
	return false;
}

static bool window_page_shows(
	const struct translator *t, u64 va, const struct memory_region *r, u64 offset, bool store)
{
	const u8 *host = window_shows(&t->window, va);

	return host && (u64)(host - r->host) == offset &&
	       (!store || window_has(&t->window, va, true));
}

static const struct memory_region *region_of(const struct translator *t, u64 inode)
{
	const struct memory *m = t->c->v->memory;

	for (unsigned i = 0; i < m->region_count; i++)
		if (t->check->inode[i] == inode)
			return &m->regions[i];
	return NULL;
}

/* What the guest's tables say now of a page that has just been translated. */
static bool granted(struct translator *t, u64 va, unsigned access, const u8 *host, char *to)
{
	struct x86_cpu *cpu = &t->c->v->x86;
	struct x86_xlat x;

	if (!x86_peek(cpu, gva(va), &x) || x86_check_rights(&cpu->s, &x, access) ||
		((access & ACCESS_WRITE) && !x.dirty))
		return wrong(to, "not what the guest's tables grant", va, host);
	struct memory_page p = memory_page(t->c->v->memory, x.gpa);
	if (p.host != host)
		return wrong(to, "not where the guest's tables lead", va, host);
	return true;
}

/* One page of a mapping, `into` bytes from its start: it is what the window believes to show at va.
 */
static bool page_ok(
	struct translator *t, const struct mapping *m, u64 into, bool kernel, u64 va, char *to)
{
	const char *what = kernel ? "mapping of the kernel's window" : "mapping of the window";
	const struct memory_region *r = region_of(t, m->inode);
	bool store = m->rights[1] == 'w';
	u64 offset = m->offset + into;

	if (!r || offset >= r->size)
		return wrong(to, "a mapping of another file", va, NULL);
	if (kernel ? !extent_shows(t, va, offset) : !window_page_shows(t, va, r, offset, store))
		return wrong(to, what, va, r->host + offset);
	if (kernel && t->check->anew &&
		!granted(t, va, ACCESS_SYSTEM | (store ? ACCESS_WRITE : ACCESS_READ),
			r->host + offset, to))
		return false;
	return frame_ok(t, what, va, r->host + offset, store, to);
}

static bool mapping_ok(struct translator *t, const struct mapping *m, bool kernel, char *to)
{
	if (!strncmp(m->rights, "---", 3))
		return true;
	if (m->rights[2] == 'x' || m->rights[3] != 's')
		return wrong(to, "a mapping with other rights", m->start, NULL);
	for (u64 into = 0; into < m->end - m->start; into += PAGE_SIZE) {
		u64 at = m->start + into;
		u64 va =
			kernel ? kernel_window_guest(&t->kernel, at) : window_guest(&t->window, at);

		if (!page_ok(t, m, into, kernel, va, to))
			return false;
	}
	return true;
}

static bool line_ok(struct translator *t, const char *line, char *to)
{
	unsigned long long start, end, offset, inode;
	struct mapping m;

	if (sscanf(line, "%llx-%llx %4s %llx %*s %llu", &start, &end, m.rights, &offset, &inode) !=
		5)
		return true;
	m.start = start;
	m.end = end;
	m.offset = offset;
	m.inode = inode;
	if (window_within(&t->window, start))
		return mapping_ok(t, &m, false, to);
	return !kernel_window_within(&t->kernel, start) || mapping_ok(t, &m, true, to);
}

/* Lines that a chunk ends within wait for the next one. */
static bool mappings_ok(struct translator *t, char *to)
{
	struct check *c = t->check;
	size_t have = 0;
	ssize_t n;

	if (c->maps < 0 || lseek(c->maps, 0, SEEK_SET) < 0)
		return true;
	while ((n = read(c->maps, c->buf + have, MAPS_CHUNK - have)) > 0) {
		char *at = c->buf, *end;

		have += (size_t)n;
		c->buf[have] = 0;
		for (; (end = strchr(at, '\n')); at = end + 1) {
			*end = 0;
			if (!line_ok(t, at, to))
				return false;
		}
		have -= (size_t)(at - c->buf);
		memmove(c->buf, at, have);
	}
	return true;
}

/* ---- moments ---- */

bool check_all(struct translator *t, char *to)
{
	struct looking kept = { t, "address space that is kept", to, true };
	struct looking window = { t, "window", to, true };

	*to = 0;
	retain_each(t, look_at_page, &kept);
	window_each(&t->window, look_at_page, &window);
	return kept.ok && window.ok && fast_ok(t, to) && mmu_ok(t, to) &&
	       kernel_extents_ok(t, to) && mappings_ok(t, to);
}

static unsigned space_access(const struct translator *t)
{
	switch (t->c->mmu.space) {
	case MMU_SYSTEM: return ACCESS_SYSTEM;
	case MMU_USER: return ACCESS_USER;
	case MMU_OPEN:
	case MMU_SPACES: break;
	}
	return 0;
}

bool check_entry(struct translator *t, u64 at, bool write, char *to)
{
	const struct fast_table *f = &t->ctx->fast[t->c->mmu.space][write];
	unsigned i = tcache_fast_index(t, at);
	u64 va = at & ~PAGE_MASK;
	const u8 *host = (const u8 *)(uintptr_t)(f->add[i] + va);

	*to = 0;
	if (!fast_valid(f, i) || -f->neg[i] != va)
		return true;
	return frame_ok(t, "fast TLB", va, host, write, to) &&
	       granted(t, va, space_access(t) | (write ? ACCESS_WRITE : ACCESS_READ), host, to);
}

void check_filled(struct translator *t, u64 at, bool write)
{
	char text[CHECK_TEXT];

	if (likely(!t->check))
		return;
	must(check_entry(t, at, write, text), "%s", text);
}

void check_shown(struct translator *t, u64 at, const u8 *host, u64 pages, bool store)
{
	bool user = t->c->mmu.space == MMU_USER;
	unsigned access =
		(user ? ACCESS_USER : ACCESS_SYSTEM) | (store ? ACCESS_WRITE : ACCESS_READ);
	char text[CHECK_TEXT];

	if (likely(!t->check))
		return;
	for (u64 n = 0; n < pages; n++, at += PAGE_SIZE, host += PAGE_SIZE)
		must(frame_ok(t, "window", at, host, store, text) &&
				granted(t, at, access, host, text),
			"%s", text);
}

/* Of one page, in any space. */
static bool page_gone(const struct translator *t, u64 at)
{
	for (unsigned space = 0; space < MMU_SPACES; space++)
		for (unsigned kind = 0; kind < 2; kind++) {
			const struct fast_table *f = &t->ctx->fast[space][kind];
			unsigned i = tcache_fast_index(t, at);

			if (fast_valid(f, i) && -f->neg[i] == (at & ~PAGE_MASK))
				return false;
		}
	return !itlb_has(t, at);
}

static bool half_gone(const struct translator *t, unsigned half)
{
	for (unsigned space = 0; space < MMU_SPACES; space++)
		for (unsigned kind = 0; kind < 2; kind++) {
			const struct fast_table *f = &t->ctx->fast[space][kind];

			for (unsigned i = 0; i < FAST_ENTRIES; i++)
				if (fast_valid(f, i) && -f->neg[i] >> 63 == half)
					return false;
		}
	return true;
}

/* A PCID's flush may be about another one. */
static bool flushed_ok(struct translator *t, enum x86_flush kind, u64 at, bool thorough)
{
	switch (kind) {
	case X86_FLUSH_PAGE: return page_gone(t, at);
	case X86_FLUSH_ALL:
		return !t->window.count && (!thorough || (half_gone(t, 0) && half_gone(t, 1)));
	case X86_FLUSH_NONGLOBAL: return !thorough || half_gone(t, 0);
	case X86_FLUSH_PCID:
	case X86_FLUSH_PCID_PAGE: return true;
	}
	return true;
}

void check_left(struct translator *t)
{
	must(!t->check || !t->ctx->false_fact,
		"--translate check: code relied on a fact that was false, before 0x%llx",
		(unsigned long long)t->c->s->rip);
}

void check_flushed(struct translator *t, enum x86_flush kind, u64 at)
{
	char text[CHECK_TEXT];

	if (likely(!t->check))
		return;
	bool thorough = ++t->check->flushes % SPARED == 1;

	must(flushed_ok(t, kind, at, thorough), "a flush (%d) of 0x%llx leaves something", kind,
		(unsigned long long)at);
	/* What the kernel's window still shows has been looked up again. */
	t->check->anew = kind == X86_FLUSH_ALL;
	if (thorough || t->check->anew)
		must(check_all(t, text), "%s", text);
	t->check->anew = false;
}

/* ---- life ---- */

int check_open(struct translator *t, struct err *err)
{
	const struct memory *m = t->c->v->memory;

	if (!(t->options & OPTION_CHECK))
		return 0;
	t->check = calloc(1, sizeof(*t->check));
	if (!t->check)
		return err_set(err, -ENOMEM, "translate: no memory for checks");
	t->check->maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	for (unsigned i = 0; i < m->region_count; i++) {
		struct stat st;

		if (!fstat(m->regions[i].fd, &st))
			t->check->inode[i] = st.st_ino;
	}
	return 0;
}

void check_close(struct translator *t)
{
	if (!t->check)
		return;
	if (t->check->maps >= 0)
		close(t->check->maps);
	free(t->check);
	t->check = NULL;
}
