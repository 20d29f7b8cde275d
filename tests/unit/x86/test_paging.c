/*
 * The page walker against a second one written in the plainest way (one function per mode, straight
 * from the tables of SDM 3A chapter 4), on random tables, modes and accesses; then the cases with
 * another processor in between.
 */
#include "fake.h"

/* --- the reference ---------------------------------------------------------------------------- */

struct expect {
	bool fault;
	u32 error;
	struct x86_xlat x;
	unsigned marks; /* entries whose A (and D) are set on success */
	u64 at[4];
	unsigned size;
};

struct rights {
	bool w, u, nx;
};

static bool ref_user(const struct x86_state *s, unsigned access)
{
	if (access & ACCESS_USER)
		return true;
	if (access & ACCESS_SYSTEM)
		return false;
	return SEG_DPL(s->seg[X86_SS].attr) == 3;
}

static void ref_fault(const struct x86_state *s, unsigned access, u32 bits, struct expect *e)
{
	e->fault = true;
	e->error = bits;
	if (access & ACCESS_WRITE)
		e->error |= 2;
	if (ref_user(s, access))
		e->error |= 4;
	if ((access & ACCESS_FETCH) &&
		((s->cr4 & CR4_SMEP) || ((s->cr4 & CR4_PAE) && (s->efer & EFER_NXE))))
		e->error |= 16;
}

static void ref_finish(
	const struct x86_state *s, unsigned access, struct rights r, struct expect *e)
{
	bool write = access & ACCESS_WRITE, fetch = access & ACCESS_FETCH, ok = true;

	if (ref_user(s, access)) {
		ok = r.u && (!write || r.w);
	} else {
		if (write && !r.w && (s->cr0 & CR0_WP))
			ok = false;
		if (fetch && r.u && (s->cr4 & CR4_SMEP))
			ok = false;
		if (!fetch && r.u && (s->cr4 & CR4_SMAP)) {
			if (access & ACCESS_SYSTEM)
				ok = false;
			else if (!(s->rflags & FLAG_AC))
				ok = false;
		}
	}
	if (fetch && r.nx)
		ok = false;
	if (!ok) {
		ref_fault(s, access, 1, e);
		return;
	}
	e->x.writable = r.w;
	e->x.user = r.u;
	e->x.executable = !r.nx;
}

static bool ref_entry(
	struct fake *f, u64 at, unsigned size, struct rights *r, struct expect *e, u64 *entry)
{
	*entry = fake_get(f, at, size);
	e->at[e->marks++] = at;
	e->size = size;
	r->w = r->w && (*entry & 2);
	r->u = r->u && (*entry & 4);
	r->nx = r->nx || (size == 8 && *entry >> 63);
	return *entry & 1;
}

static void ref_page(
	const struct x86_state *s, u64 base, u64 size, u64 va, u64 entry, struct expect *e)
{
	e->x.gpa = gpa(base + va % size);
	e->x.page_size = size;
	e->x.global = (entry >> 8 & 1) && (s->cr4 & CR4_PGE);
	e->x.dirty = entry >> 6 & 1;
}

static bool ref_high(const struct fake *f, u64 entry, unsigned top)
{
	for (unsigned i = f->model.phys_bits; i <= top; i++)
		if (entry >> i & 1)
			return true;
	return !(f->cpu.s.efer & EFER_NXE) && entry >> 63;
}

static void ref32(struct fake *f, u32 va, unsigned access, struct expect *e)
{
	struct x86_state *s = &f->cpu.s;
	struct rights r = { true, true, false };
	u64 pde, pte;

	if (!ref_entry(f, (s->cr3 & 0xfffff000) + (va >> 22) * 4, 4, &r, e, &pde)) {
		ref_fault(s, access, 0, e);
		return;
	}
	if ((pde & 0x80) && (s->cr4 & CR4_PSE)) {
		if (pde >> 21 & 1) { /* 40 physical bits: only this one is reserved */
			ref_fault(s, access, 9, e);
			return;
		}
		ref_page(s, (pde & 0xffc00000) | (pde >> 13 & 0xff) << 32, 4 * MiB, va, pde, e);
		ref_finish(s, access, r, e);
		return;
	}
	if (!ref_entry(f, (pde & 0xfffff000) + (va >> 12 & 1023) * 4, 4, &r, e, &pte)) {
		ref_fault(s, access, 0, e);
		return;
	}
	ref_page(s, pte & 0xfffff000, 4 * KiB, va, pte, e);
	ref_finish(s, access, r, e);
}

/* The page directory and below, the same in PAE and 4-level paging but for `top`. */
static void ref_pd(struct fake *f, u64 pd, u64 va, unsigned access, unsigned top, struct rights r,
	struct expect *e)
{
	struct x86_state *s = &f->cpu.s;
	u64 entry;

	if (!ref_entry(f, pd + (va >> 21 & 511) * 8, 8, &r, e, &entry)) {
		ref_fault(s, access, 0, e);
		return;
	}
	if (ref_high(f, entry, top) || ((entry & 0x80) && (entry & 0x1fe000))) {
		ref_fault(s, access, 9, e);
		return;
	}
	if (entry & 0x80) {
		ref_page(s, entry & 0xfffffffe00000ull, 2 * MiB, va, entry, e);
		ref_finish(s, access, r, e);
		return;
	}
	if (!ref_entry(f, (entry & 0xffffffffff000ull) + (va >> 12 & 511) * 8, 8, &r, e, &entry)) {
		ref_fault(s, access, 0, e);
		return;
	}
	if (ref_high(f, entry, top)) {
		ref_fault(s, access, 9, e);
		return;
	}
	ref_page(s, entry & 0xffffffffff000ull, 4 * KiB, va, entry, e);
	ref_finish(s, access, r, e);
}

static void ref_pae(struct fake *f, u32 va, unsigned access, struct expect *e)
{
	struct x86_state *s = &f->cpu.s;
	struct rights r = { true, true, false };
	u64 pdpte = fake_get(f, (s->cr3 & 0xffffffe0) + (va >> 30) * 8, 8);

	if (!(pdpte & 1))
		ref_fault(s, access, 0, e);
	else if ((pdpte & 0x1e6) || pdpte >> f->model.phys_bits)
		ref_fault(s, access, 9, e);
	else
		ref_pd(f, pdpte & 0xffffffffff000ull, va, access, 62, r, e);
}

static void ref_long(struct fake *f, u64 va, unsigned access, struct expect *e)
{
	struct x86_state *s = &f->cpu.s;
	struct rights r = { true, true, false };
	u64 entry;

	if (!ref_entry(f, (s->cr3 & 0xffffffffff000ull) + (va >> 39 & 511) * 8, 8, &r, e, &entry)) {
		ref_fault(s, access, 0, e);
		return;
	}
	if (ref_high(f, entry, 51) || (entry & 0x80)) {
		ref_fault(s, access, 9, e);
		return;
	}
	if (!ref_entry(f, (entry & 0xffffffffff000ull) + (va >> 30 & 511) * 8, 8, &r, e, &entry)) {
		ref_fault(s, access, 0, e);
		return;
	}
	if (ref_high(f, entry, 51) || ((entry & 0x80) && (entry & 0x3fffe000))) {
		ref_fault(s, access, 9, e);
		return;
	}
	if (entry & 0x80) {
		ref_page(s, entry & 0xfffffc0000000ull, 1 * GiB, va, entry, e);
		ref_finish(s, access, r, e);
		return;
	}
	ref_pd(f, entry & 0xffffffffff000ull, va, access, 51, r, e);
}

/* --- random tables ---------------------------------------------------------------------------- */

enum mode { MODE_32, MODE_PAE, MODE_LONG };

#define POOL	   0x20000u
#define POOL_PAGES 4u

/* Mostly valid: present, pointing into the pool, now and then a reserved bit or nothing at all. */
static u64 random_entry(u64 *seed, enum mode mode)
{
	u64 r = fake_random(seed);
	u64 entry = (POOL + (r >> 60 & (POOL_PAGES - 1)) * 0x1000) | 1;

	entry |= r & 0xf7e & ~0x80ull;
	if (!(r >> 12 & 3))
		entry |= 0x80 | ((r >> 14 & 3) ? 0 : r & 0x7fe000);
	if (!(r >> 16 & 7))
		entry &= ~1ull;
	if ((r >> 20 & 3))
		entry |= 6;
	if (mode != MODE_32 && !(r >> 24 & 7))
		entry |= BIT64(63);
	if (mode != MODE_32 && !(r >> 28 & 31))
		entry |= BIT64(32 + (r >> 33 & 31));
	return entry;
}

static void random_tables(struct fake *f, u64 *seed, enum mode mode)
{
	unsigned size = mode == MODE_32 ? 4 : 8;

	for (unsigned at = 0; at < POOL_PAGES * 0x1000; at += size)
		fake_put(f, POOL + at, size, random_entry(seed, mode));
	if (mode == MODE_PAE) /* most PDPTEs would be reserved otherwise */
		for (unsigned i = 0; i < 3; i++)
			fake_put(f, POOL + 8 * i, 8,
				(POOL + 0x1000) | (i < 2) | (i == 1 ? 0x20 : 0));
}

static void random_controls(struct x86_state *s, u64 *seed, enum mode mode)
{
	u64 r = fake_random(seed);

	s->cr0 = CR0_PE | CR0_PG | (r & 1 ? CR0_WP : 0);
	s->cr4 = (r & 2 ? CR4_SMEP : 0) | (r & 4 ? CR4_SMAP : 0) | (r & 8 ? CR4_PGE : 0) |
		 (r & 16 ? CR4_PSE : 0) | (mode == MODE_32 ? 0 : CR4_PAE);
	s->efer = (r & 32 ? EFER_NXE : 0) | (mode == MODE_LONG ? EFER_LMA | EFER_LME : 0);
	s->rflags = FLAG_ONE | (r & 64 ? FLAG_AC : 0);
	s->seg[X86_SS].attr = A_DATA | A_DPL(r >> 8 & 3);
	s->cr3 = POOL;
}

static unsigned random_access(u64 *seed)
{
	static const unsigned kind[] = { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };
	static const unsigned who[] = { 0, 0, ACCESS_SYSTEM, ACCESS_USER };
	u64 r = fake_random(seed);

	return kind[r % 3] | who[r >> 8 & 3];
}

static void reference(struct fake *f, enum mode mode, u64 va, unsigned access, struct expect *e)
{
	*e = (struct expect){ 0 };
	if (mode == MODE_32)
		ref32(f, (u32)va, access, e);
	else if (mode == MODE_PAE)
		ref_pae(f, (u32)va, access, e);
	else
		ref_long(f, va, access, e);
	if (e->fault)
		return;
	for (unsigned i = 0; i < e->marks; i++)
		fake_put(f, e->at[i], 1, fake_get(f, e->at[i], 1) | 0x20);
	if (access & ACCESS_WRITE) {
		u64 leaf = e->at[e->marks - 1];

		fake_put(f, leaf, 1, fake_get(f, leaf, 1) | 0x40);
		e->x.dirty = true;
	}
}

static void assert_same_xlat(const struct x86_xlat *a, const struct x86_xlat *b)
{
	assert_int_equal(a->gpa.v, b->gpa.v);
	assert_int_equal(a->page_size, b->page_size);
	assert_int_equal(a->writable, b->writable);
	assert_int_equal(a->user, b->user);
	assert_int_equal(a->executable, b->executable);
	assert_int_equal(a->dirty, b->dirty);
	assert_int_equal(a->global, b->global);
}

/* Walks that begin where the last one ended come to the same end. */
static void walks_nearby(struct fake *f, u64 va, u64 *seed)
{
	struct x86_near near = { 0 };

	for (unsigned i = 0; i < 6; i++) {
		u64 at = va ^ (fake_random(seed) & (i < 4 ? 0x1fffff : 0x7fffffff));
		struct x86_xlat alone, after;
		bool found = x86_peek(&f->cpu, gva(at), &alone);

		assert_int_equal(x86_peek_near(&f->cpu, gva(at), &near, &after), found);
		if (!found)
			continue;
		assert_same_xlat(&after, &alone);
		assert_int_equal(after.gpa.v, alone.gpa.v);
		assert_int_equal(after.accessed, alone.accessed);
	}
}

static unsigned one_walk(struct fake *f, enum mode mode, u64 *seed)
{
	static u8 before[POOL_PAGES * 0x1000], wanted[POOL_PAGES * 0x1000];
	u64 va = fake_random(seed) & (mode == MODE_LONG ? 0x7fffffffffff : 0xffffffff);
	unsigned access = random_access(seed);
	struct expect e;
	struct x86_xlat x, peek;
	struct x86_walk walk;
	int result;
	bool peeked;

	random_controls(&f->cpu.s, seed, mode);
	memcpy(before, f->ram + POOL, sizeof(before));
	reference(f, mode, va, access, &e);
	memcpy(wanted, f->ram + POOL, sizeof(wanted));
	memcpy(f->ram + POOL, before, sizeof(before));
	peeked = x86_peek(&f->cpu, gva(va), &peek);
	x86_walk(&f->cpu, gva(va), &walk);
	walks_nearby(f, va, seed);
	assert_memory_equal(before, f->ram + POOL, sizeof(before));
	assert_int_equal(walk.end == X86_WALK_PAGE, peeked);
	result = x86_translate(&f->cpu, gva(va), access, &x);
	assert_memory_equal(wanted, f->ram + POOL, sizeof(wanted));
	assert_int_equal(result == X86_FAULT, e.fault);
	if (e.fault) {
		assert_int_equal(f->cpu.fault.vector, X86_PF);
		assert_int_equal(f->cpu.fault.error, e.error);
		assert_int_equal(f->cpu.fault.address, va);
		assert_int_equal(walk.end, !(e.error & PF_PRESENT) ? X86_WALK_NOT_PRESENT
					   : e.error & PF_RSVD	   ? X86_WALK_RESERVED
								   : X86_WALK_PAGE);
		return 0;
	}
	assert_same_xlat(&x, &e.x);
	assert_true(peeked);
	assert_int_equal(peek.gpa.v, x.gpa.v);
	assert_same_xlat(&walk.to, &peek);
	assert_int_equal(walk.size, e.size);
	/* The entries that the reference has marked are the last of the walk. */
	assert_in_range(walk.depth, e.marks, e.marks + 1);
	for (unsigned i = 0; i < e.marks; i++) {
		unsigned level = walk.depth - e.marks + i;
		u64 entry = fake_get(f, e.at[i], e.size);

		if (range_ok(e.at[i] - POOL, e.size, sizeof(before)))
			memcpy(&entry, before + (e.at[i] - POOL), e.size);
		assert_int_equal(walk.level[level].at.v, e.at[i]);
		assert_int_equal(walk.level[level].entry, entry);
	}
	return 1;
}

static void check_mode(enum mode mode, u64 seed)
{
	struct fake *f = fake_new();
	unsigned good = 0;

	for (unsigned i = 0; i < 20000; i++) {
		if (i % 64 == 0)
			random_tables(f, &seed, mode);
		good += one_walk(f, mode, &seed);
	}
	assert_in_range(good, 1000, 19000); /* both outcomes are well exercised */
	fake_free(f);
}

static void walk_32bit_matches_reference(void **state) { check_mode(MODE_32, 0x1234); }
static void walk_pae_matches_reference(void **state) { check_mode(MODE_PAE, 0x5678); }
static void walk_long_matches_reference(void **state) { check_mode(MODE_LONG, 0x9abc); }

/* --- other processors ------------------------------------------------------------------------- */

/* 4 KiB tables at fixed places under fake_long()'s root. */
#define PT (FAKE_PML4 + 0x3000)

static struct fake *with_small_pages(void)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	fake_put(f, FAKE_PML4 + 0x2000, 8, PT | 7);
	fake_put(f, PT, 8, 0x6000 | 7);
	return f;
}

static bool revoke_write(struct fake *f, gpa_t at)
{
	if (at.v == PT)
		fake_put(f, PT, 8, 0x6000 | 5);
	return true;
}

static void write_right_revoked_before_d_faults_and_leaves_d_clear(void **state)
{
	struct fake *f = with_small_pages();
	struct x86_xlat x;

	f->before_cas = revoke_write;
	assert_fault(
		f, x86_translate(&f->cpu, gva(0), ACCESS_WRITE, &x), X86_PF, PF_PRESENT | PF_WRITE);
	assert_int_equal(fake_get(f, PT, 8), 0x6000 | 5);
	fake_free(f);
}

static bool move_page(struct fake *f, gpa_t at)
{
	if (at.v == PT && (fake_get(f, PT, 8) & ~0xfffull) == 0x6000)
		fake_put(f, PT, 8, 0x7000 | 7);
	return true;
}

static void entry_changed_under_walk_is_walked_again(void **state)
{
	struct fake *f = with_small_pages();
	struct x86_xlat x;

	f->before_cas = move_page;
	assert_ok(x86_translate(&f->cpu, gva(0x12), ACCESS_WRITE, &x));
	assert_int_equal(x.gpa.v, 0x7012);
	assert_int_equal(fake_get(f, PT, 8), 0x7000 | 0x67);
	fake_free(f);
}

static bool read_only_tables(struct fake *f, gpa_t at) { return false; }

static void tables_in_rom_translate_without_marks(void **state)
{
	struct fake *f = with_small_pages();
	struct x86_xlat x;

	f->before_cas = read_only_tables;
	assert_ok(x86_translate(&f->cpu, gva(0x12), ACCESS_WRITE, &x));
	assert_int_equal(x.gpa.v, 0x6012);
	assert_int_equal(fake_get(f, PT, 8), 0x6000 | 7);
	fake_free(f);
}

static void tables_outside_ram_fault_on_reserved_bits(void **state)
{
	struct fake *f = fake_new();
	struct x86_xlat x;

	fake_long(f, 0);
	f->cpu.s.cr3 = 1 * GiB;
	assert_fault(
		f, x86_translate(&f->cpu, gva(0), ACCESS_READ, &x), X86_PF, PF_PRESENT | PF_RSVD);
	fake_free(f);
}

static void gigabyte_page_without_the_feature_is_reserved(void **state)
{
	struct fake *f = fake_new();
	struct x86_xlat x;

	fake_long(f, 0);
	fake_put(f, FAKE_PML4 + 0x1000, 8, 0x87);
	assert_ok(x86_translate(&f->cpu, gva(0x234567), ACCESS_READ, &x));
	assert_int_equal(x.page_size, GiB);
	fake_leaf(f, 0x80000001)->edx = 0;
	assert_fault(
		f, x86_translate(&f->cpu, gva(0), ACCESS_READ, &x), X86_PF, PF_PRESENT | PF_RSVD);
	fake_free(f);
}

static void pse36_reserves_what_the_processor_lacks(void **state)
{
	struct fake *f = fake_new();
	struct x86_xlat x;

	fake_protected(f, 0);
	f->cpu.s.cr0 |= CR0_PG;
	f->cpu.s.cr4 = CR4_PSE;
	f->cpu.s.cr3 = POOL;
	f->model.phys_bits = 36;
	fake_put(f, POOL, 4, BIT(16) | 0x83); /* address bit 35 */
	assert_ok(x86_translate(&f->cpu, gva(0x1234), ACCESS_READ, &x));
	assert_int_equal(x.gpa.v, BIT64(35) + 0x1234);
	fake_put(f, POOL, 4, BIT(17) | 0x83); /* address bit 36 */
	assert_fault(
		f, x86_translate(&f->cpu, gva(0), ACCESS_READ, &x), X86_PF, PF_PRESENT | PF_RSVD);
	fake_free(f);
}

static void pdptes_with_reserved_bits_are_refused(void **state)
{
	struct fake *f = fake_new();

	fake_put(f, POOL + 0x20, 8, 0x1000 | 1);
	fake_put(f, POOL + 0x28, 8, ~1ull); /* not present: nothing is reserved */
	assert_ok(x86_check_pdptes(&f->cpu, POOL + 0x20));
	fake_put(f, POOL + 0x38, 8, BIT64(40) | 1);
	assert_fault(f, x86_check_pdptes(&f->cpu, POOL + 0x20), X86_GP, 0);
	fake_free(f);
}

static void no_paging_maps_everything_to_itself(void **state)
{
	struct fake *f = fake_new();
	struct x86_xlat x;

	assert_ok(x86_translate(&f->cpu, gva(0x100000010), ACCESS_WRITE, &x));
	assert_int_equal(x.gpa.v, 0x10); /* 32 bits wrap */
	assert_true(x.writable && x.dirty);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(walk_32bit_matches_reference),
		cmocka_unit_test(walk_pae_matches_reference),
		cmocka_unit_test(walk_long_matches_reference),
		cmocka_unit_test(write_right_revoked_before_d_faults_and_leaves_d_clear),
		cmocka_unit_test(entry_changed_under_walk_is_walked_again),
		cmocka_unit_test(tables_in_rom_translate_without_marks),
		cmocka_unit_test(tables_outside_ram_fault_on_reserved_bits),
		cmocka_unit_test(gigabyte_page_without_the_feature_is_reserved),
		cmocka_unit_test(pse36_reserves_what_the_processor_lacks),
		cmocka_unit_test(pdptes_with_reserved_bits_are_refused),
		cmocka_unit_test(no_paging_maps_everything_to_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
