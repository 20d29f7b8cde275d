/* How the translator uses its window: who runs with it, and what happens when an access misses it.
 * window.h has the theory. */
#include "base/bits.h"
#include "cpu/translate/emit.h"
#include <errno.h>
#include <stdlib.h>
#include <x86intrin.h>

#define TICKS_A_SECOND 400u
#define LOOKUP_MISSES  4u /* then the general form */
#define SHOW_MISSES    8u
#define GROUP	       16u  /* pages looked at around one that is shown */
#define LARGE_GROUP    512u /* the same where the guest uses large pages */

int window_use(struct translator *t, struct err *err)
{
	t->hints = calloc(HINTS, sizeof(*t->hints));
	if (!t->hints)
		return err_set(err, -ENOMEM, "translate: no memory for the window's hints");
	/* Without room in the address space everything runs in the general form. */
	if (!(t->options & (OPTION_NO_WINDOW | OPTION_NO_FAST_TLB)))
		window_open(&t->window, t->c->v->memory);
	kernel_window_use(t);
	for (unsigned r = 0; r < WINDOW_REGIONS; r++)
		t->ctx->window_delta[r] = t->window.delta[r];
	for (unsigned bits = 0; bits < WINDOW_DELTAS; bits++)
		t->ctx->deltas[bits] = window_delta(&t->window, bits);
	return 0;
}

void window_unuse(struct translator *t)
{
	window_close(&t->window);
	kernel_window_close(&t->kernel);
	free(t->hints);
}

u8 window_code_space(const struct translator *t)
{
	const struct x86_state *s = t->c->s;

	if (t->c->code_bits == 32)
		return (u8)(CODE_FLAT + t->c->mmu.space);
	if (t->c->mmu.space != MMU_USER)
		return kernel_window_code_space(t);
	if (!t->window.base || s->cr3 != t->window.owner || t->c->mmu.watch)
		return (u8)t->c->mmu.space;
	return window_region_of(s->gpr[RSP], 1) == WINDOW_HIGH ? CODE_WINDOW : CODE_LOOSE;
}

void window_enter(struct translator *t)
{
	u64 fs = t->c->s->seg[X86_FS].base;
	unsigned region = window_region_of(fs, 1);

	t->ctx->fs_window =
		region == WINDOW_NOWHERE ? BIT64(48) | BIT64(45) : fs + t->window.delta[region];
}

/* Does the window that b was made for still belong to what is running? */
static bool still_window(const struct translator *t, const struct tblock *b)
{
	unsigned now = window_code_space(t);

	return code_space_window(now) && code_space_mmu(now) == code_space_mmu(b->space);
}

bool window_resume(struct translator *t, const struct tblock *b, const struct tinsn *next)
{
	const u64 *gpr = t->c->s->gpr;

	if (!still_window(t, b) || next->sums)
		return false;
	if (window_stack_region(t, b->space) != WINDOW_NOWHERE && window_code_space(t) != b->space)
		return false;
	const u64 known = b->facts[next->facts];
	for (u64 facts = ~known; facts;) {
		unsigned g = (unsigned)__builtin_ctzll(facts) / 4;
		unsigned region = known >> (4 * g) & 15;

		if (window_region_at(t, b->space, gpr[g]) != region)
			return false;
		facts &= ~(15ull << (4 * g));
	}
	if (next->aux < ALL_REGIONS)
		t->ctx->aux = t->ctx->window_delta[next->aux];
	else if (AUX_IS_REG(next->aux) && code_space_kernel_window(b->space))
		t->ctx->aux = t->ctx->kernel_deltas[kernel_window_piece(gpr[AUX_REG(next->aux)])];
	else if (AUX_IS_REG(next->aux))
		t->ctx->aux = t->ctx->deltas[gpr[AUX_REG(next->aux)] >> WINDOW_SHIFT &
					     (WINDOW_DELTAS - 1)];
	return true;
}

/* ---- hints ---- */

static struct hint *hint_at(const struct translator *t, u64 key)
{
	return &t->hints[(key ^ (key >> 13)) & (HINTS - 1)];
}

static u64 hint_key(unsigned code_space, u64 gpa)
{
	return gpa | (code_space == CODE_KERNEL_LOOSE ? HINT_LOOSE : 0);
}

static unsigned hint_page(u64 gpa) { return (unsigned)(gpa >> PAGE_SHIFT) & (HINT_PAGES - 1); }

u8 window_hint_of(const struct translator *t, unsigned code_space, u64 gpa)
{
	unsigned page = hint_page(gpa);
	u64 key = hint_key(code_space, gpa);

	if (!(t->hint_pages[page / 64] & BIT64(page % 64)))
		return HINT_GUESS; /* as nearly all */
	const struct hint *h = hint_at(t, key);
	return h->key == key ? h->hint : HINT_GUESS;
}

/* The form that the instruction has in this block does not serve: after so many misses, another.
 * Other blocks with the same instruction follow when they miss. */
static void learn(struct translator *t, struct tblock *b, unsigned index, u8 to, unsigned misses)
{
	u64 gpa = b->unit.gpa + b->insns[index].guest_at, key = hint_key(b->space, gpa);
	struct hint *h = hint_at(t, key);

	t->hint_pages[hint_page(gpa) / 64] |= BIT64(hint_page(gpa) % 64);
	if (h->key != key)
		*h = (struct hint){ .key = key };
	if (h->hint <= b->insns[index].hint && ++h->misses < misses)
		return;
	if (h->hint < to && h->hint <= b->insns[index].hint) {
		h->hint = to;
		h->misses = 0;
	}
	tcache_kill(t, b);
}

/* ---- misses ---- */

struct shown {
	u8 *host;
	bool writable;
};

/* What a page may be shown as, without any effect on the guest but accessed bits. */
static bool page_at(struct translator *t, u64 va, struct shown *out)
{
	struct mmu *m = &t->c->mmu;
	int result;
	struct mmu_entry *e = mmu_fill(m, va, ACCESS_READ | ACCESS_USER, &result);

	if (!e)
		return false;
	out->host = e->host;
	out->writable = mmu_find(m, va, 1, MMU_WRITE) && memory_quiet(e->flags);
	return true;
}

/* How many of the next pages in this direction continue the run. */
static unsigned run_length(
	struct translator *t, u64 va, const struct shown *first, s64 step, u64 mask)
{
	unsigned n = 0;

	for (u64 next = va + (u64)step; !((next ^ va) & ~mask); next += (u64)step) {
		struct shown p;
		const u8 *follows = first->host + (s64)(n + 1) * step;

		if (window_has(&t->window, next, false) || !page_at(t, next, &p) ||
			p.host != follows || p.writable != first->writable)
			break;
		n++;
	}
	return n;
}

/* Shows the page and its neighbours that lie side by side in guest-physical memory, too. */
static bool show(struct translator *t, u64 at, bool write)
{
	u64 va = at & ~PAGE_MASK;
	struct shown p;

	if (window_region_of(at, 1) == WINDOW_NOWHERE || !page_at(t, va, &p))
		return false;
	if (write && !p.writable)
		return false;
	u64 reach = mmu_flush_reach(&t->c->mmu, va); /* known once it has been looked up */
	bool large = reach > PAGE_SIZE;
	u64 mask = ((large ? LARGE_GROUP : GROUP) << PAGE_SHIFT) - 1;
	unsigned before = run_length(t, va, &p, -(s64)PAGE_SIZE, mask);
	unsigned after = run_length(t, va, &p, PAGE_SIZE, mask);
	u64 first = va - ((u64)before << PAGE_SHIFT);
	u8 *host = p.host - ((u64)before << PAGE_SHIFT);

	window_show(&t->window, first, host, before + 1 + after, p.writable);
	if (large)
		window_note_large(&t->window, va, reach);
	check_shown(t, first, host, before + 1 + after, p.writable);
	return true;
}

void window_faulted(struct translator *t)
{
	const struct x86_fault *f = &t->c->v->x86.fault;

	if (f->vector != X86_PF)
		return;
	t->window.awaited = f->address & ~PAGE_MASK;
	t->window.awaited_write = f->error & PF_WRITE;
}

/* Not where the window is there to be tested. */
static bool churns(const struct translator *t, u64 va)
{
	return !(t->options & OPTION_WINDOW_ALWAYS) && window_churns(&t->window, va);
}

void window_returned(struct translator *t)
{
	struct window *w = &t->window;
	u64 va = w->awaited;

	w->awaited = 0;
	if (va && !window_has(w, va, w->awaited_write) && !churns(t, va)) {
		w->mended++;
		show(t, va, w->awaited_write);
	}
}

/* Was the access not in any region at all? Then it relied on the wrong one: a page that is not
 * shown yet makes a page fault within its region. */
static bool strayed(const struct translator *t, bool kernel)
{
	u64 at = t->ctx->trap_at;

	return t->ctx->trap - 1 != X86_PF ||
	       (kernel ? kernel_window_guest(&t->kernel, at) : window_guest(&t->window, at)) ==
		       WINDOW_NO_GUEST;
}

bool window_missed(struct translator *t, struct tblock *b, unsigned index, u64 at, bool write)
{
	const struct tinsn *in = &b->insns[index];
	u64 last = at + in->bytes - 1;

	if (!still_window(t, b))
		return false;
	bool kernel = code_space_kernel_window(b->space);
	if (kernel) {
		t->kernel.faults++;
	} else {
		t->window.faults++;
		t->window.fault_count++;
	}
	if (strayed(t, kernel)) {
		learn(t, b, index, in->hint == HINT_GUESS ? HINT_LOOKUP : HINT_GENERAL,
			in->hint == HINT_GUESS ? 1 : LOOKUP_MISSES);
		return false;
	}
	if (!kernel && churns(t, at)) {
		learn(t, b, index, HINT_GENERAL, 1);
		return false;
	}
	bool (*reveal)(struct translator * t, u64 at, bool write) =
		kernel ? kernel_window_reveal : show;
	bool ok = reveal(t, at, write);
	if ((at ^ last) & ~PAGE_MASK)
		ok = reveal(t, last, write) && ok;
	if (!ok)
		learn(t, b, index, HINT_GENERAL, SHOW_MISSES);
	return ok;
}

/* ---- flushes, time ---- */

void window_flushed(struct translator *t, enum x86_flush kind, u64 at, unsigned pcid)
{
	struct window *w = &t->window;
	const struct x86_state *s = t->c->s;
	bool tagged = s->cr4 & CR4_PCIDE;

	if (!w->count)
		return;
	switch (kind) {
	case X86_FLUSH_ALL: window_hide_all(w); return;
	case X86_FLUSH_NONGLOBAL:
		/* Others' translations stay until the owner runs again, which is a flush, too. */
		if (s->cr3 == w->owner)
			window_hide_all(w);
		return;
	case X86_FLUSH_PCID:
		if (!tagged || pcid == (w->owner & CR3_PCID))
			window_hide_all(w);
		return;
	case X86_FLUSH_PAGE:
	case X86_FLUSH_PCID_PAGE:
		if (!tagged || pcid == (w->owner & CR3_PCID) ||
			(kind == X86_FLUSH_PAGE && t->c->mmu.lower_global))
			window_hide(w, at);
		return;
	}
	unreachable();
}

void window_clock(struct translator *t)
{
	u64 now = __rdtsc();

	if (now - t->tick < t->c->v->x86.model->tsc_hz / TICKS_A_SECOND)
		return;
	t->tick = now;
	window_tick(&t->window, t->c->s->cr3);
	kernel_window_clock(t);
}
