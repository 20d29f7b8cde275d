/*
 * Address translation (SDM 3A chapter 4).
 *
 * The three paging modes are three rows of a table: entry size and, for each level from the root,
 * which address bits index it, which bits are reserved and whether an entry may map a page itself.
 * One loop walks all of them. A translation is
 *
 *   walk    reads one entry per level, without side effects: not present, reserved bit, or a page
 *   rights  x86_check_rights() on what the walk found
 *   mark    sets A at each level from the root down, and D in the leaf for a write, with one
 *           compare-and-swap per entry that needs it. If an entry has changed since it was read,
 *           everything is done again: another processor may have taken the right away, and D must
 *           never be set in an entry that does not permit the write (SDM 3A 4.8)
 *
 * In steady state nothing needs marking and a translation costs its loads. Entries that live
 * outside writable memory cannot be marked; they are used as they are.
 */
#include "x86/paging.h"
#include "base/bits.h"
#include "x86/cpuid.h"
#include "x86/mode.h"

#define PTE_P  X86_PTE_P
#define PTE_W  X86_PTE_W
#define PTE_U  X86_PTE_U
#define PTE_A  X86_PTE_A
#define PTE_D  X86_PTE_D
#define PTE_PS X86_PTE_PS
#define PTE_G  X86_PTE_G
#define PTE_NX X86_PTE_NX

#define MASK(hi, lo) ((~0ull >> (63 - (hi))) & (~0ull << (lo)))

#define LEVELS_MAX X86_LEVELS_MAX

enum large { LARGE_NEVER, LARGE_ALWAYS, LARGE_IF_PSE, LARGE_IF_1G };

struct level {
	u8 shift; /* lowest linear-address bit that indexes this level's table */
	u8 index_bits;
	enum large large;
	bool bare;	    /* a PAE PDPTE: neither rights nor an accessed flag */
	u64 reserved;	    /* in every entry */
	u64 reserved_large; /* besides, in entries that map a page */
};

struct format {
	u8 entry_size;
	u8 high;  /* physical-address bits up to this one are reserved from MAXPHYADDR on */
	u64 root; /* the bits of CR3 that locate the root */
	struct level level[LEVELS_MAX];
};

/* SDM 3A 4.3, tables 4-4 to 4-6. PSE-36 bits are pse36_reserved()'s. */
static const struct format format32 = {
	.entry_size = 4, .high = 0, .root = MASK(31, 12),
	.level = {
		{ .shift = 22, .index_bits = 10, .large = LARGE_IF_PSE, .reserved_large = BIT64(21) },
		{ .shift = 12, .index_bits = 10 },
	},
};

/* SDM 3A 4.4, tables 4-8 to 4-11. */
#define PDPTE_RESERVED (MASK(2, 1) | MASK(8, 5) | PTE_NX)
static const struct format format_pae = {
	.entry_size = 8, .high = 62, .root = MASK(31, 5),
	.level = {
		{ .shift = 30, .index_bits = 2, .bare = true, .reserved = PDPTE_RESERVED },
		{ .shift = 21, .index_bits = 9, .large = LARGE_ALWAYS, .reserved_large = MASK(20, 13) },
		{ .shift = 12, .index_bits = 9 },
	},
};

/* SDM 3A 4.5, tables 4-15 to 4-20. */
static const struct format format_long = {
	.entry_size = 8, .high = 51, .root = MASK(51, 12),
	.level = {
		{ .shift = 39, .index_bits = 9, .reserved = PTE_PS },
		{ .shift = 30, .index_bits = 9, .large = LARGE_IF_1G, .reserved_large = MASK(29, 13) },
		{ .shift = 21, .index_bits = 9, .large = LARGE_ALWAYS, .reserved_large = MASK(20, 13) },
		{ .shift = 12, .index_bits = 9 },
	},
};

static const struct format *current_format(const struct x86_state *s)
{
	if (x86_long_mode(s))
		return &format_long;
	return s->cr4 & CR4_PAE ? &format_pae : &format32;
}

struct walk {
	struct x86_xlat x;
	unsigned depth; /* entries read */
	unsigned size;	/* bytes of an entry */
	bool bare_root;
	gpa_t at[LEVELS_MAX];
	u64 entry[LEVELS_MAX];
};

#define WALK_OK (~0u)

static bool maps_page(const struct x86_cpu *cpu, const struct level *l, u64 entry)
{
	if (l->shift == PAGE_SHIFT)
		return true;
	if (!(entry & PTE_PS))
		return false;
	switch (l->large) {
	case LARGE_NEVER: return false;
	case LARGE_ALWAYS: return true;
	case LARGE_IF_PSE: return cpu->s.cr4 & CR4_PSE;
	case LARGE_IF_1G: return x86_model_has(cpu->model, 0x80000001, 0, 3, 26);
	}
	return false;
}

/* Bits that must be zero in every 8-byte entry: physical addresses that do not exist, NX without
 * NXE. */
static u64 reserved_bits(const struct x86_cpu *cpu, const struct format *f)
{
	if (f->entry_size == 4)
		return 0;
	return (MASK(f->high, 0) & ~(BIT64(cpu->model->phys_bits) - 1)) |
	       (cpu->s.efer & EFER_NXE ? 0 : PTE_NX);
}

/* PSE-36: bits 20:13 of a 4 MiB entry are address bits 39:32, as far as they exist (SDM 3A table
 * 4-4). */
static u64 large_base32(u64 entry) { return (entry & MASK(31, 22)) | bits(entry, 20, 13) << 32; }
static u64 pse36_reserved(unsigned phys_bits)
{
	return phys_bits >= 40 ? 0 : MASK(20, phys_bits - 19);
}

static bool leaf_reserved(
	const struct x86_cpu *cpu, const struct walk *w, const struct level *l, u64 entry)
{
	if (l->shift == PAGE_SHIFT)
		return false;
	if (w->size == 4 && (entry & pse36_reserved(cpu->model->phys_bits)))
		return true;
	return entry & l->reserved_large;
}

static void found_page(
	const struct x86_state *s, struct walk *w, const struct level *l, u64 entry, u64 va)
{
	u64 offset = BIT64(l->shift) - 1;
	u64 base = w->size == 4 && l->shift != PAGE_SHIFT ? large_base32(entry)
							  : entry & MASK(51, 12) & ~offset;

	w->x.gpa = gpa(base | (va & offset));
	w->x.page_size = offset + 1;
	w->x.dirty = entry & PTE_D;
	w->x.global = (entry & PTE_G) && (s->cr4 & CR4_PGE);
}

/* Fills w and returns WALK_OK, or the #PF error bits that the tables alone decide: none when an
 * entry is not present. From `near` on, if that is near: then w has no entries of tables before. */
static u32 walk_near(struct x86_cpu *cpu, u64 va, struct walk *w, struct x86_near *near)
{
	const struct format *f = current_format(&cpu->s);
	u64 table = cpu->s.cr3 & f->root;
	u64 reserved = reserved_bits(cpu, f);
	u64 all = ~0ull, any = 0; /* of the entries that carry rights */

	w->size = f->entry_size;
	w->bare_root = f->level[0].bare;
	unsigned i = 0;
	if (near && near->shift && va >> near->shift == near->region) {
		i = near->level;
		table = near->table;
		all = near->all;
		any = near->any;
	}
	for (;; i++) {
		const struct level *l = &f->level[i];
		u64 index = bits(va, l->shift + l->index_bits - 1, l->shift);
		gpa_t at = gpa(table + index * f->entry_size);
		u64 entry = cpu->ops->phys_load(cpu, at, f->entry_size);

		w->at[i] = at;
		w->entry[i] = entry;
		w->depth = i + 1;
		if (!(entry & PTE_P))
			return 0;
		if (entry & (l->reserved | reserved))
			return PF_PRESENT | PF_RSVD;
		if (near && maps_page(cpu, l, entry)) {
			unsigned shift = l->shift + l->index_bits;

			*near = (struct x86_near){ va >> shift, table, all, any, i, shift };
		}
		all &= l->bare ? ~0ull : entry;
		any |= l->bare ? 0 : entry;
		if (maps_page(cpu, l, entry)) {
			if (leaf_reserved(cpu, w, l, entry))
				return PF_PRESENT | PF_RSVD;
			found_page(&cpu->s, w, l, entry, va);
			break;
		}
		if (l->large == LARGE_IF_1G && (entry & PTE_PS))
			return PF_PRESENT | PF_RSVD;
		table = entry & MASK(51, 12);
	}
	w->x.accessed = all & PTE_A;
	w->x.writable = all & PTE_W;
	w->x.user = all & PTE_U;
	w->x.executable = f->entry_size == 4 || !(any & PTE_NX);
	return WALK_OK;
}

static u32 walk(struct x86_cpu *cpu, u64 va, struct walk *w) { return walk_near(cpu, va, w, NULL); }

/* One entry: true unless it changed under us. */
static bool mark_entry(struct x86_cpu *cpu, const struct walk *w, unsigned i, u64 set)
{
	u64 old = w->entry[i];

	if ((old & set) == set)
		return true;
	if (cpu->ops->phys_cas(cpu, w->at[i], old, old | set, w->size))
		return true;
	return cpu->ops->phys_load(cpu, w->at[i], w->size) == old; /* not writable memory */
}

static bool mark(struct x86_cpu *cpu, struct walk *w, bool write)
{
	unsigned leaf = w->depth - 1;

	if (likely(w->x.accessed && (w->x.dirty || !write)))
		return true;
	for (unsigned i = w->bare_root ? 1 : 0; i < leaf; i++)
		if (unlikely(!mark_entry(cpu, w, i, PTE_A)))
			return false;
	if (unlikely(!mark_entry(cpu, w, leaf, PTE_A | (write ? PTE_D : 0))))
		return false;
	w->x.dirty |= write;
	w->x.accessed = true;
	return true;
}

static bool user_access(const struct x86_state *s, unsigned access)
{
	return (access & ACCESS_USER) || (!(access & ACCESS_SYSTEM) && x86_cpl(s) == 3);
}

/* The bits of the error code that describe the access (SDM 3A 4.7). */
static u32 access_bits(const struct x86_state *s, unsigned access)
{
	bool fetch_reported = (s->cr4 & CR4_SMEP) || ((s->cr4 & CR4_PAE) && (s->efer & EFER_NXE));

	return (access & ACCESS_WRITE ? PF_WRITE : 0) | (user_access(s, access) ? PF_USER : 0) |
	       (access & ACCESS_FETCH && fetch_reported ? PF_FETCH : 0);
}

/* SDM 3A 4.6.1, one rule a line. */
static bool access_allowed(const struct x86_state *s, const struct x86_xlat *x, unsigned access)
{
	if ((access & ACCESS_FETCH) && !x->executable)
		return false;
	if (user_access(s, access))
		return x->user && (x->writable || !(access & ACCESS_WRITE));
	if (x->user && (access & ACCESS_FETCH))
		return !(s->cr4 & CR4_SMEP);
	if (x->user && (s->cr4 & CR4_SMAP) && ((access & ACCESS_SYSTEM) || !(s->rflags & FLAG_AC)))
		return false;
	return x->writable || !(access & ACCESS_WRITE) || !(s->cr0 & CR0_WP);
}

u32 x86_check_rights(const struct x86_state *s, const struct x86_xlat *x, unsigned access)
{
	if (!x86_paging(s) || likely(access_allowed(s, x, access)))
		return 0;
	return PF_PRESENT | access_bits(s, access);
}

static int page_fault(struct x86_cpu *cpu, gva_t at, u32 error)
{
	x86_fault_code(cpu, X86_PF, error);
	cpu->fault.address = at.v;
	return X86_FAULT;
}

static struct x86_xlat untranslated(u64 va)
{
	return (struct x86_xlat){
		.gpa = gpa(va),
		.page_size = PAGE_SIZE,
		.writable = true,
		.user = true,
		.executable = true,
		.dirty = true,
		.accessed = true,
	};
}

/* Outside long mode linear addresses have 32 bits and wrap. */
static u64 effective_linear(const struct x86_state *s, gva_t at)
{
	return x86_long_mode(s) ? at.v : (u32)at.v;
}

int x86_translate(struct x86_cpu *cpu, gva_t at, unsigned access, struct x86_xlat *out)
{
	u64 va = effective_linear(&cpu->s, at);
	struct walk w;

	if (!x86_paging(&cpu->s)) {
		*out = untranslated(va);
		return X86_OK;
	}
	do {
		u32 error = walk(cpu, va, &w);

		if (error != WALK_OK)
			return page_fault(cpu, gva(va), error | access_bits(&cpu->s, access));
		error = x86_check_rights(&cpu->s, &w.x, access);
		if (error)
			return page_fault(cpu, gva(va), error);
	} while (unlikely(!mark(cpu, &w, access & ACCESS_WRITE)));
	*out = w.x;
	return X86_OK;
}

bool x86_peek_near(struct x86_cpu *cpu, gva_t at, struct x86_near *near, struct x86_xlat *out)
{
	u64 va = effective_linear(&cpu->s, at);
	struct walk w;

	if (!x86_paging(&cpu->s)) {
		*out = untranslated(va);
		return true;
	}
	if (walk_near(cpu, va, &w, near) != WALK_OK)
		return false;
	*out = w.x;
	return true;
}

bool x86_peek(struct x86_cpu *cpu, gva_t at, struct x86_xlat *out)
{
	return x86_peek_near(cpu, at, NULL, out);
}

void x86_walk(struct x86_cpu *cpu, gva_t at, struct x86_walk *out)
{
	const struct format *f = current_format(&cpu->s);
	u64 va = effective_linear(&cpu->s, at);
	struct walk w;

	*out = (struct x86_walk){ .to = untranslated(va) };
	if (!x86_paging(&cpu->s))
		return;
	u32 error = walk(cpu, va, &w);

	out->end = error == WALK_OK ? X86_WALK_PAGE
		   : error	    ? X86_WALK_RESERVED
				    : X86_WALK_NOT_PRESENT;
	out->size = w.size;
	out->depth = w.depth;
	if (error == WALK_OK)
		out->to = w.x;
	for (unsigned i = 0; i < w.depth; i++) {
		const struct level *l = &f->level[i];

		out->level[i].at = w.at[i];
		out->level[i].entry = w.entry[i];
		out->level[i].index = (unsigned)bits(va, l->shift + l->index_bits - 1, l->shift);
		out->level[i].shift = l->shift;
	}
}

int x86_check_pdptes(struct x86_cpu *cpu, u64 cr3)
{
	u64 reserved = PDPTE_RESERVED | (MASK(63, 0) & ~(BIT64(cpu->model->phys_bits) - 1));

	for (unsigned i = 0; i < 4; i++) {
		u64 entry = cpu->ops->phys_load(cpu, gpa((cr3 & format_pae.root) + 8 * i), 8);

		if ((entry & PTE_P) && (entry & reserved))
			return x86_gp(cpu, 0);
	}
	return X86_OK;
}
