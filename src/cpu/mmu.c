/* See mmu.h for the model. */
#include "cpu/mmu.h"
#include "base/bits.h"
#include "base/must.h"
#include "x86/exception.h"
#include "x86/mode.h"
#include <x86intrin.h>

/* Both kinds of regions in one set of numbers. */
#define REGION_2M(at) ((at) >> 21 << 1)
#define REGION_1G(at) ((at) >> 30 << 1 | 1)

/* ---- large pages ---- */

static unsigned region_bit(u64 region)
{
	return (unsigned)(region ^ region >> 12) % (8 * sizeof(struct mmu_regions));
}

static bool has_region(const struct mmu_regions *r, u64 region)
{
	unsigned bit = region_bit(region);

	return r->bits[bit / 64] & BIT64(bit % 64);
}

static void add_region(struct mmu_regions *r, u64 region)
{
	unsigned bit = region_bit(region);

	r->bits[bit / 64] |= BIT64(bit % 64);
}

void mmu_regions_note(struct mmu_regions *r, u64 at, u64 page_size)
{
	if (page_size > 4 * MiB) {
		add_region(r, REGION_1G(at));
		return;
	}
	add_region(r, REGION_2M(at));
	if (page_size == 4 * MiB)
		add_region(r, REGION_2M(at ^ 2 * MiB));
}

u64 mmu_regions_reach(const struct mmu_regions *r, u64 at)
{
	if (has_region(r, REGION_1G(at)))
		return GiB;
	return has_region(r, REGION_2M(at)) ? 4 * MiB : PAGE_SIZE;
}

void mmu_regions_add(struct mmu_regions *r, const struct mmu_regions *more)
{
	for (unsigned i = 0; i < ARRAY_LEN(r->bits); i++)
		r->bits[i] |= more->bits[i];
}

void mmu_note_large(struct mmu *m, u64 at, u64 page_size)
{
	mmu_regions_note(&m->large[at >> 63], at, page_size);
}

u64 mmu_flush_reach(const struct mmu *m, u64 at)
{
	return mmu_regions_reach(&m->large[at >> 63], at);
}

/* Nothing is left of the lower half when its entries have been flushed, or are another's. */
static void forget_large(struct mmu *m, enum x86_flush kind, unsigned pcid)
{
	const struct x86_state *s = &m->v->x86.s;
	bool ours =
		kind == X86_FLUSH_NONGLOBAL ||
		(kind == X86_FLUSH_PCID && (!(s->cr4 & CR4_PCIDE) || pcid == (s->cr3 & CR3_PCID)));

	if (ours)
		m->large[0] = (struct mmu_regions){ 0 };
	if (kind == X86_FLUSH_ALL)
		memset(m->large, 0, sizeof(m->large));
}

/* ---- entries ---- */

static void bump(struct mmu *m, unsigned half)
{
	if (++m->generation[half] <= MMU_GEN_MAX)
		return;
	for (unsigned space = 0; space < MMU_SPACES; space++)
		memset(m->table[space][half], 0, sizeof(m->table[space][half]));
	m->generation[half] = 1;
}

static void drop_page(struct mmu *m, u64 at)
{
	for (unsigned space = 0; space < MMU_SPACES; space++) {
		struct mmu_entry *e = &m->table[space][at >> 63][mmu_index(at)];
		memset(e->tag, 0, sizeof(e->tag));
	}
}

/* Entries are not tagged with a PCID: every flush of some PCID's entries drops all non-global ones,
 * which the architecture allows at any time. */
static void flush_many(struct mmu *m, enum x86_flush kind)
{
	m->epoch++;
	m->flushes++;
	bump(m, 0);
	if (kind == X86_FLUSH_ALL || mmu_upper_many(m))
		bump(m, 1);
	for (unsigned i = 0; !mmu_upper_many(m) && i < m->upper_count; i++)
		drop_page(m, m->upper[i]);
	m->upper_count = 0;
}

/* An entry is made from a page of the upper half that is not global. */
static void note_upper(struct mmu *m, u64 at, u64 page_size)
{
	unsigned i = 0;

	if (page_size > PAGE_SIZE)
		m->upper_count = MMU_UPPER + 1;
	if (mmu_upper_many(m))
		return;
	while (i < m->upper_count && m->upper[i] != (at & ~PAGE_MASK))
		i++;
	if (i < MMU_UPPER)
		m->upper[i] = at & ~PAGE_MASK;
	if (i == m->upper_count)
		m->upper_count++;
}

void mmu_init(struct mmu *m, struct vcpu *v)
{
	memset(m, 0, sizeof(*m));
	m->v = v;
	m->generation[0] = m->generation[1] = 1;
	mmu_refresh(m);
}

/* DR7: any enabled slot whose R/W field is not 00 (execution). */
static bool data_breakpoints_armed(u64 dr7)
{
	for (unsigned i = 0; i < 4; i++)
		if ((dr7 >> (2 * i) & 3) && (dr7 >> (16 + 4 * i) & 3))
			return true;
	return false;
}

void mmu_refresh(struct mmu *m)
{
	const struct x86_state *s = &m->v->x86.s;

	if (x86_cpl(s) == 3)
		m->space = MMU_USER;
	else if ((s->rflags & FLAG_AC) && (s->cr4 & CR4_SMAP))
		m->space = MMU_OPEN;
	else
		m->space = MMU_SYSTEM;

	/* Entries carry no PCID: another CR3 means other translations, whatever was flushed with
	 * it. */
	if (unlikely(s->cr3 != m->cr3)) {
		m->cr3 = s->cr3;
		if (m->switched)
			m->switched(m->flushed_ctx);
		forget_large(m, X86_FLUSH_NONGLOBAL, 0);
		flush_many(m, X86_FLUSH_NONGLOBAL);
	}

	m->align = m->space == MMU_USER && (s->cr0 & CR0_AM) && (s->rflags & FLAG_AC);
	bool watch = data_breakpoints_armed(s->dr7) || m->align;
	if (unlikely(watch != m->watch)) {
		m->watch = watch;
		mmu_flush(m, X86_FLUSH_ALL, 0, 0);
	}
}

/* ---- flushes ---- */

/* Drops every entry in the 1 GiB around `at`: at least the large page, never wrong. */
static void drop_region(struct mmu *m, u64 at)
{
	unsigned half = (unsigned)(at >> 63);

	for (unsigned space = 0; space < MMU_SPACES; space++) {
		for (unsigned i = 0; i < MMU_ENTRIES; i++) {
			struct mmu_entry *e = &m->table[space][half][i];

			for (unsigned k = 0; k < MMU_KINDS; k++)
				if ((e->tag[k] ^ at) >> 30 == 0)
					e->tag[k] = 0;
		}
	}
}

void mmu_flush(struct mmu *m, enum x86_flush kind, u64 at, unsigned pcid)
{
	forget_large(m, kind, pcid);
	if (m->flushed)
		m->flushed(m->flushed_ctx, kind, at, pcid);
	if (kind == X86_FLUSH_ALL)
		m->lower_global = false;
	if (kind != X86_FLUSH_PAGE && kind != X86_FLUSH_PCID_PAGE) {
		flush_many(m, kind);
		return;
	}
	m->epoch++;
	m->flushes++;
	if (mmu_flush_reach(m, at) > PAGE_SIZE) {
		/* Any address in a large page invalidates all of it, of which we hold 4 KiB pieces.
		 */
		drop_region(m, at);
		return;
	}
	drop_page(m, at);
}

static enum mmu_space space_of(const struct mmu *m, unsigned access)
{
	if (access & ACCESS_SYSTEM)
		return MMU_SYSTEM;
	if (access & ACCESS_USER)
		return MMU_USER;
	return m->space;
}

static enum mmu_kind kind_of(unsigned access)
{
	if (access & ACCESS_WRITE)
		return MMU_WRITE;
	return access & ACCESS_FETCH ? MMU_FETCH : MMU_READ;
}

static const unsigned space_access[MMU_SPACES] = { ACCESS_SYSTEM, ACCESS_USER, 0 };
static const unsigned kind_access[MMU_KINDS] = { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

/* Where an access goes. */
struct target {
	gpa_t gpa;
	/* The page, if it is RAM, else `host` is NULL. A copy: an access may reach into a second
	 * page, which may take the entry's place. */
	struct mmu_entry page;
	struct mmu_entry *e; /* of the table; NULL: no RAM, or the translation may not be cached */
};

static int lookup(struct mmu *m, u64 at, unsigned access, struct target *t)
{
	struct x86_cpu *cpu = &m->v->x86;
	enum mmu_space space = space_of(m, access);
	enum mmu_kind kind = kind_of(access);
	unsigned half = (unsigned)(at >> 63);
	struct mmu_entry *e = &m->table[space][half][mmu_index(at)];
	u64 tag = (at & ~PAGE_MASK) | m->generation[half];

	if (e->tag[kind] == tag) {
		t->e = e;
		t->page = *e;
		t->gpa = gpa(e->gpa | (at & PAGE_MASK));
		return X86_OK;
	}

	struct x86_xlat x;
	TRY(x86_translate(cpu, gva(at), kind_access[kind] | space_access[space], &x));
	m->fills++;
	*t = (struct target){ .gpa = x.gpa };

	struct memory_page page = memory_page(m->v->memory, x.gpa);
	if (!page.host || (page.rom && kind == MMU_WRITE) || (page.device && kind == MMU_FETCH))
		return X86_OK;
	t->page = (struct mmu_entry){
		.host = page.host, .flags = page.flags, .gpa = x.gpa.v & ~PAGE_MASK
	};
	if (m->watch)
		return X86_OK;
	for (unsigned k = 0; k < MMU_KINDS; k++) {
		bool side_effect = k == MMU_WRITE && (!x.dirty || page.rom);
		if (!side_effect && !(k == MMU_FETCH && page.device) &&
			!x86_check_rights(&cpu->s, &x, kind_access[k] | space_access[space]))
			t->page.tag[k] = tag;
	}
	if (x.page_size > PAGE_SIZE)
		mmu_note_large(m, at, x.page_size);
	if (half && !x.global && x86_paging(&cpu->s))
		note_upper(m, at, x.page_size);
	if (!half && x.global && x86_paging(&cpu->s))
		m->lower_global = true;
	*e = t->page;
	t->e = e;
	return X86_OK;
}

struct mmu_entry *mmu_fill(struct mmu *m, u64 at, unsigned access, int *result)
{
	struct target t;

	*result = lookup(m, at, access, &t);
	return *result == X86_OK ? t.e : NULL;
}

void mmu_report_store(struct mmu *m, struct mmu_entry *e, u64 at, unsigned size)
{
	memory_written(m->v->memory, gpa(e->gpa | (at & PAGE_MASK)), size);
}

/* The bus sees naturally sized pieces: the largest power of two that fits and is aligned. */
static unsigned bus_piece(u64 at, unsigned len)
{
	unsigned n = 8;

	while (n > len || (at & (n - 1)))
		n >>= 1;
	return n;
}

static void bus_copy(struct vcpu *v, gpa_t at, u8 *in, const u8 *out, unsigned len)
{
	v->stats.mmios++;
	while (len) {
		/* An unaligned access of a legal size goes out whole: devices may care. */
		unsigned n =
			len == 1 || len == 2 || len == 4 || len == 8 ? len : bus_piece(at.v, len);

		if (in) {
			u64 value = v->ops->mmio_read(v->ops_ctx, v, at, n);
			memcpy(in, &value, n);
			in += n;
		} else {
			u64 value = 0;
			memcpy(&value, out, n);
			out += n;
			v->ops->mmio_write(v->ops_ctx, v, at, n, value);
		}
		at.v += n;
		len -= n;
	}
}

/* Addresses wrap at 4 GiB outside 64-bit code; in 64-bit code the caller checked canonical form. */
static u64 next_page(const struct mmu *m, u64 at)
{
	u64 next = (at | PAGE_MASK) + 1;

	return x86_long_mode(&m->v->x86.s) ? next : next & 0xffffffffu;
}

static void note_watch(struct mmu *m, u64 at, unsigned len, bool write)
{
	if (unlikely(m->watch) && m->v->x86.s.dr7 & 0xff)
		m->watch_hits |= x86_data_breakpoints(&m->v->x86.s, at, len, write);
}

static void store_piece(struct mmu *m, struct target *t, u64 at, const u8 *from, unsigned n)
{
	if (t->page.host) {
		u8 *to = t->page.host + (at & PAGE_MASK);

		/* A naturally sized piece is one store, as other processors must see it. */
		switch (n) {
		case 1: *(volatile u8 *)to = *from; break;
		case 2: *(volatile u16_any *)to = get_le16(from); break;
		case 4: *(volatile u32_any *)to = get_le32(from); break;
		case 8: *(volatile u64_any *)to = get_le64(from); break;
		default: memcpy(to, from, n); break;
		}
		mmu_stored(m, &t->page, at, n);
	} else {
		bus_copy(m->v, t->gpa, NULL, from, n);
	}
}

int mmu_read(struct mmu *m, u64 at, void *buf, unsigned len, unsigned access)
{
	unsigned first = (unsigned)min_u64(len, PAGE_SIZE - (at & PAGE_MASK));
	unsigned part[2] = { first, len - first };
	u64 where[2] = { at, next_page(m, at) };
	struct target t[2];

	for (unsigned i = 0; i < 2 && part[i]; i++)
		TRY(lookup(m, where[i], access & ~ACCESS_WRITE, &t[i]));
	for (unsigned i = 0; i < 2 && part[i]; i++) {
		if (t[i].page.host)
			memcpy(buf, t[i].page.host + (where[i] & PAGE_MASK), part[i]);
		else
			bus_copy(m->v, t[i].gpa, buf, NULL, part[i]);
		buf = (u8 *)buf + part[i];
	}
	note_watch(m, at, len, false);
	return X86_OK;
}

int mmu_write(struct mmu *m, u64 at, const void *buf, unsigned len, unsigned access)
{
	unsigned first = (unsigned)min_u64(len, PAGE_SIZE - (at & PAGE_MASK));
	unsigned part[2] = { first, len - first };
	u64 where[2] = { at, next_page(m, at) };
	struct target t[2];
	const u8 *from = buf;

	for (unsigned i = 0; i < 2 && part[i]; i++)
		TRY(lookup(m, where[i], access | ACCESS_WRITE, &t[i]));
	for (unsigned i = 0; i < 2 && part[i]; i++) {
		store_piece(m, &t[i], where[i], from, part[i]);
		from += part[i];
	}
	note_watch(m, at, len, true);
	return X86_OK;
}

int mmu_probe(struct mmu *m, u64 at, unsigned len, unsigned access)
{
	struct target t;

	TRY(lookup(m, at, access, &t));
	if ((at & PAGE_MASK) + len > PAGE_SIZE)
		TRY(lookup(m, next_page(m, at), access, &t));
	return X86_OK;
}
