/* How the translator uses the kernel's window; kernel_window.h has the theory. */
#include "base/bits.h"
#include "cpu/translate/emit.h"

#define SMALL_GROUP 64u	 /* pages looked at around one that is shown ... */
#define LARGE_GROUP 512u /* ... and within one large page */
/* A page that is stored to for the first time: so many, aligned, are taken to be dirty with it. A
 * page counted dirty too early is only copied once more than it must be. */
#define DIRTY_GROUP 64u

#define STACK_VOTES 4u /* ticks until another region is believed to have the stacks */

void kernel_window_use(struct translator *t)
{
	u32 off = OPTION_NO_WINDOW | OPTION_NO_KERNEL_WINDOW | OPTION_NO_FAST_TLB;

	t->stack_region = t->stack_seen = WINDOW_NOWHERE;
	t->ctx->kernel_piece_mask = (u64)(KERNEL_PIECES - 1) << KERNEL_SHIFT;
	t->ctx->kernel_mask = ~0ull << KERNEL_SHIFT;
	if (!(t->options & off))
		kernel_window_open(&t->kernel, t->c->v->memory);
	for (unsigned piece = 0; piece < KERNEL_PIECES && t->kernel.base; piece++)
		t->ctx->kernel_deltas[piece] = kernel_window_delta(&t->kernel, piece);
}

unsigned window_region_at(const struct translator *t, unsigned code_space, u64 at)
{
	if (!code_space_kernel_window(code_space))
		return window_region_of(at, 1);
	unsigned r = kernel_window_region_of(&t->kernel, at);
	return r == WINDOW_NOWHERE ? r : WINDOW_REGIONS + r;
}

unsigned window_stack_region(const struct translator *t, unsigned code_space)
{
	if (code_space == CODE_WINDOW)
		return WINDOW_HIGH;
	return code_space == CODE_KERNEL ? t->stack_region : WINDOW_NOWHERE;
}

u8 kernel_window_code_space(const struct translator *t)
{
	const struct mmu *m = &t->c->mmu;

	if (!t->kernel.base || m->watch)
		return (u8)m->space;
	if (m->space == MMU_OPEN)
		return CODE_KERNEL_OPEN;
	bool stack = t->stack_region != WINDOW_NOWHERE &&
		     window_region_at(t, CODE_KERNEL, t->c->s->gpr[RSP]) == t->stack_region;
	return stack ? CODE_KERNEL : CODE_KERNEL_LOOSE;
}

void kernel_window_enter(struct translator *t)
{
	u64 gs = t->c->s->seg[X86_GS].base;

	t->ctx->gs_window = gs + t->ctx->kernel_deltas[kernel_window_piece(gs)];
}

void kernel_window_tell(struct translator *t)
{
	for (unsigned r = 0; r < t->kernel.pieces.used; r++) {
		unsigned piece = t->kernel.pieces.piece[r];
		u64 delta = kernel_window_delta(&t->kernel, piece);

		t->ctx->kernel_deltas[piece] = delta;
		t->ctx->window_delta[WINDOW_REGIONS + r] = delta;
	}
}

static unsigned assign(struct translator *t, u64 at)
{
	unsigned r = kernel_window_region_of(&t->kernel, at);

	return r == WINDOW_NOWHERE && t->kernel.base ? share_region_for(t, at) : r;
}

void kernel_window_expect(struct translator *t, u64 at)
{
	if (kernel_window_region_of(&t->kernel, at) == WINDOW_NOWHERE &&
		t->c->mmu.space == MMU_SYSTEM && mmu_find(&t->c->mmu, at, 1, MMU_READ))
		assign(t, at);
}

/* ---- what is shown ---- */

struct run {
	u8 *host; /* of the page that was missed */
	gpa_t gpa;
	bool may_write, writable;
	bool many_local; /* pages that are not global need not be listed */
};

/* The page `by` pages away, whose translation is known to continue the run: is it to be shown the
 * same way? */
static bool continues(struct translator *t, const struct run *r, s64 by, bool dirty_with_it)
{
	struct memory_page p =
		memory_page(t->c->v->memory, gpa(r->gpa.v + (u64)(by * (s64)PAGE_SIZE)));

	if (p.host != r->host + by * (s64)PAGE_SIZE || p.rom)
		return false;
	if (dirty_with_it &&
		!(atomic_load_explicit(p.flags, memory_order_relaxed) & (MEM_DIRTY | MEM_CODE)))
		atomic_fetch_or(p.flags, MEM_DIRTY);
	return (r->may_write && memory_quiet(p.flags)) == r->writable;
}

/* Does the linear page `by` pages away lead to the physical page as many away, with the same
 * rights? */
static bool translates(struct translator *t, u64 va, const struct run *r, s64 by)
{
	struct x86_cpu *cpu = &t->c->v->x86;
	struct x86_xlat x;
	gva_t at = gva(va + (u64)(by * (s64)PAGE_SIZE));

	return x86_translate(cpu, at, ACCESS_READ | ACCESS_SYSTEM, &x) == X86_OK &&
	       (x.gpa.v & ~PAGE_MASK) == r->gpa.v + (u64)(by * (s64)PAGE_SIZE) &&
	       (x.global || !(va >> 63) || r->many_local) &&
	       (x.dirty && !x86_check_rights(&cpu->s, &x, ACCESS_WRITE | ACCESS_SYSTEM)) ==
		       r->may_write;
}

static unsigned run_length(
	struct translator *t, u64 va, const struct run *r, s64 step, unsigned group, bool large)
{
	u64 page = va >> PAGE_SHIFT;
	unsigned n = 0;

	for (s64 by = step; !((page ^ (page + (u64)by)) & ~(u64)(group - 1)); by += step, n++) {
		bool near = !((page ^ (page + (u64)by)) & ~(u64)(DIRTY_GROUP - 1));

		if ((!large && !translates(t, va, r, by)) ||
			!continues(t, r, by, near && r->writable))
			break;
	}
	return n;
}

bool kernel_window_reveal(struct translator *t, u64 at, bool write)
{
	struct mmu *m = &t->c->mmu;
	struct x86_cpu *cpu = &t->c->v->x86;
	struct x86_xlat x;
	u64 va = at & ~PAGE_MASK;

	if (x86_translate(cpu, gva(va), ACCESS_READ | ACCESS_SYSTEM, &x) != X86_OK ||
		assign(t, va) == WINDOW_NOWHERE)
		return false;
	struct memory_page p = memory_page(t->c->v->memory, x.gpa);
	if (!p.host || p.rom)
		return false;
	struct run r = { .host = p.host,
		.gpa = gpa(x.gpa.v & ~PAGE_MASK),
		.may_write =
			x.dirty && !x86_check_rights(&cpu->s, &x, ACCESS_WRITE | ACCESS_SYSTEM) };
	r.writable = r.may_write && memory_quiet(p.flags);
	if (write && !r.writable)
		return false;
	bool large = x.page_size >= LARGE_GROUP * PAGE_SIZE;
	unsigned group = large ? LARGE_GROUP : SMALL_GROUP;
	if (x.page_size > PAGE_SIZE)
		mmu_note_large(m, va, x.page_size);
	bool local = at >> 63 && !x.global && x86_paging(&cpu->s);
	r.many_local = t->kernel.local_many || (local && x.page_size > PAGE_SIZE);
	if (local && !r.many_local)
		group = 1; /* each is to be listed */
	unsigned before = run_length(t, va, &r, -1, group, large);
	unsigned after = run_length(t, va, &r, 1, group, large);
	u64 first = va - ((u64)before << PAGE_SHIFT), pages = before + 1 + after;
	u8 *host = r.host - ((u64)before << PAGE_SHIFT);
	bool ok = kernel_window_show(&t->kernel, first, host, pages, r.writable);

	/* Behind it: to show it, all else may have had to be hidden. */
	if (r.many_local)
		t->kernel.local_many = true;
	else if (local)
		kernel_window_note_local(&t->kernel, va, r.host, r.writable);
	check_shown(t, first, host, pages, r.writable);
	return ok;
}

/* ---- flushes, time ---- */

/* Would an access by this translation change nothing in the guest's tables, and lead there? */
static bool grants(struct translator *t, const struct x86_xlat *x, const u8 *host, bool writable)
{
	unsigned access = ACCESS_SYSTEM | (writable ? ACCESS_WRITE : ACCESS_READ);

	return x->accessed && (x->dirty || !writable) &&
	       !x86_check_rights(&t->c->v->x86.s, x, access) &&
	       memory_page(t->c->v->memory, x->gpa).host == host;
}

static bool still_local(void *ctx, u64 va, const u8 *host, bool writable)
{
	struct translator *t = ctx;
	struct x86_xlat x;

	return !(t->options & OPTION_NO_RETAIN) && x86_peek(&t->c->v->x86, gva(va), &x) &&
	       x.page_size == PAGE_SIZE && grants(t, &x, host, writable);
}

struct review {
	struct translator *t;
	struct x86_near near;
};

static bool still_global(void *ctx, u64 va, const u8 *host, bool writable, u64 *pages)
{
	struct review *r = ctx;
	struct translator *t = r->t;
	struct x86_xlat x;

	*pages = 1;
	if (!x86_peek_near(&t->c->v->x86, gva(va), &r->near, &x))
		return false;
	*pages = (x.page_size - (va & (x.page_size - 1))) >> PAGE_SHIFT;
	if (!x.global || !grants(t, &x, host, writable))
		return false;
	if (x.page_size > PAGE_SIZE)
		mmu_note_large(&t->c->mmu, va, x.page_size);
	return true;
}

void kernel_window_switched(struct translator *t)
{
	kernel_window_hide_low(&t->kernel);
	kernel_window_review_local(&t->kernel, still_local, t);
}

static void flushed_all(struct translator *t)
{
	if (t->options & OPTION_NO_RETAIN || !x86_paging(&t->c->v->x86.s)) {
		kernel_window_hide_all(&t->kernel);
		return;
	}
	struct review r = { .t = t };

	kernel_window_hide_low(&t->kernel);
	kernel_window_review(&t->kernel, still_global, &r);
}

void kernel_window_flushed(struct translator *t, enum x86_flush kind, u64 at)
{
	if (!t->kernel.count)
		return;
	switch (kind) {
	case X86_FLUSH_ALL: flushed_all(t); return;
	case X86_FLUSH_NONGLOBAL:
	case X86_FLUSH_PCID: kernel_window_switched(t); return;
	case X86_FLUSH_PAGE:
	case X86_FLUSH_PCID_PAGE:
		kernel_window_hide(&t->kernel, at, mmu_flush_reach(&t->c->mmu, at));
		return;
	}
}

void kernel_window_clock(struct translator *t)
{
	unsigned r;

	/* With interrupts off it may be on its way in or out, on a stack for that only. */
	if (!t->kernel.base || t->c->code_bits != 64 || t->c->mmu.space == MMU_USER ||
		!x86_irq_enabled(t->c->s))
		return;
	r = window_region_at(t, CODE_KERNEL, t->c->s->gpr[RSP]);
	/* In the top piece there is text, and the stack of a kernel that boots. */
	if (r == t->stack_region)
		t->stack_votes = 0;
	if (r == WINDOW_NOWHERE || r == t->stack_region ||
		t->kernel.pieces.piece[r - WINDOW_REGIONS] == KERNEL_PIECES - 1)
		return;
	if (r != t->stack_seen) {
		t->stack_seen = (u8)r;
		t->stack_votes = 0;
	}
	if (++t->stack_votes < STACK_VOTES)
		return;
	/* Blocks rely on where RSP is: all are made again. */
	t->stack_region = (u8)r;
	t->stack_votes = 0;
	tcache_clear(t);
}
