/*
 * The code cache: where translated blocks live, how they are found, joined and forgotten.
 *
 * Code (share.h) and descriptors are bump-allocated; memory comes back only when everything is
 * dropped. A program counter finds its block by a bitmap of where blocks begin, and the id that is
 * before each block's code.
 *
 * Removing. A block dies when its bytes are written (code_map): incoming links go back to their
 * exits, its jump table entry goes. Translation flushes empty the fast tables, of the half of the
 * address space they concern, through logs of what was filled. What they mean for code: itlb.c,
 * upper.c.
 */
#include "base/must.h"
#include "cpu/interpret/native.h"
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <x86intrin.h>

#define STARTS_SIZE (CACHE_SIZE / 4 / 8)
_Static_assert(TBLOCKS_MAX <= BIT(21), "ids in exit codes");

/* The tables that code looks into are large and sparse: a small machine is not worth them. */
#define HUGE_TABLES_RAM (512 * MiB)

static void use_huge_pages(struct translator *t, size_t ctx_size)
{
	pages_huge(t->pool, POOL_SIZE);
	pages_huge(t->by_id, TBLOCKS_MAX * sizeof(*t->by_id));
	pages_huge(t->starts, STARTS_SIZE);
	pages_huge(t, sizeof(*t));
	if (memory_ram_size(t->c->v->memory) >= HUGE_TABLES_RAM)
		pages_huge(t->ctx, ctx_size);
}

/*
 * All zero is empty, so that untouched tables cost no memory: a zero tag can only seem to hit where
 * the sum of an address and at most 32 KiB has no page bits, in the first page and the last nine.
 * Their entries say so. A zero jump entry hits for RIP 0 only.
 */
static void tables_begin(struct translator *t)
{
	for (unsigned space = 0; space < MMU_SPACES; space++) {
		for (unsigned kind = 0; kind < 2; kind++) {
			u64 *neg = t->ctx->fast[space][kind].neg;

			neg[0] = FAST_INVALID;
			for (unsigned i = FAST_ENTRIES - 9; i < FAST_ENTRIES; i++)
				neg[i] = FAST_INVALID;
		}
	}
	t->spaces_begun = 0;
}

/* There is code of the space, which may look for RIP 0 there, or where code goes on behind it
 * (facts_next_space()). Most machines have code of few. */
static void space_begin(struct translator *t, unsigned space)
{
	unsigned firm = space == CODE_LOOSE	     ? CODE_WINDOW
			: space == CODE_KERNEL_LOOSE ? CODE_KERNEL
						     : space;

	t->ctx->jump[firm].targets[0].code = (u64)(uintptr_t)t->lookup_miss;
	t->ctx->jump[code_space_loose(firm)].targets[0].code = (u64)(uintptr_t)t->lookup_miss;
	t->spaces_begun |= BIT(firm) | BIT(code_space_loose(firm));
}

int tcache_open(struct translator *t, struct err *err)
{
	size_t ctx_size = align_up(sizeof(struct tctx), PAGE_SIZE);

	/* Side by side, so that code reaches its slots relative to RIP. */
	t->ctx = pages_new(ctx_size + CACHE_SIZE);
	t->pool = pages_new(POOL_SIZE);
	t->by_id = pages_new(TBLOCKS_MAX * sizeof(*t->by_id));
	t->starts = pages_new(STARTS_SIZE);
	if (!t->ctx || !t->pool || !t->by_id || !t->starts)
		return err_set(err, -ENOMEM, "translate: no memory for the code cache");
	if (!(t->options & OPTION_NO_HUGE))
		use_huge_pages(t, ctx_size);
	if (codemem_open(&t->mem, CACHE_SIZE, (u8 *)t->ctx + ctx_size, err) < 0)
		return -ENOMEM;
	if (retain_open(t) < 0 || upper_open(t) < 0)
		return err_set(err, -ENOMEM, "translate: no memory for address spaces");
	t->ctx->itlb_mask = (ITLB_ENTRIES - 1ull) << PAGE_SHIFT;
	t->ctx->index_mask = (FAST_ENTRIES - 1ull) << PAGE_SHIFT;
	t->ctx->page_mask = ~PAGE_MASK;
	t->ctx->jump_mask = (JUMP_ENTRIES - 1ull) << JUMP_SHIFT;
	t->ctx->status_mask = FLAGS_STATUS;
	t->ctx->bit_mask32 = 31;
	t->ctx->bit_mask64 = 63;
	emit_stubs(t);
	tables_begin(t);
	t->stubs_end = t->used;
	t->block_ops = t->options & OPTION_SINGLE ? 1 : BODY_OPS;
	t->pool_used = POOL_START;
	t->chunk_size = t->options & OPTION_SMALL_CACHE ? CHUNK_SMALL : CHUNK_SIZE;
	t->used = t->outs_at = 0; /* no chunk yet */
	return share_open(t, err);
}

void tcache_close(struct translator *t)
{
	share_close(t);
	upper_close(t);
	retain_close(t);
	pages_free(t->ctx, align_up(sizeof(struct tctx), PAGE_SIZE) + CACHE_SIZE);
	pages_free(t->pool, POOL_SIZE);
	pages_free(t->by_id, TBLOCKS_MAX * sizeof(*t->by_id));
	pages_free(t->starts, STARTS_SIZE);
	if (t->mem.rw)
		munmap(t->mem.rw, t->mem.size); /* the running view went with the context */
}

/* ---- the fast TLB ---- */

static void fast_drop(struct translator *t, unsigned half)
{
	for (unsigned i = 0; i < t->fill_count[half]; i++)
		t->ctx->fast[t->fills[half][i].space][t->fills[half][i].kind]
			.neg[t->fills[half][i].index] = FAST_INVALID;
	t->fill_count[half] = 0;
}

unsigned tcache_fast_index(const struct translator *t, u64 at)
{
	u64 mask = t->ctx->index_mask;
	unsigned index = 0;

	for (unsigned n = 0; mask; mask &= mask - 1, n++)
		index |= (unsigned)(at >> __builtin_ctzll(mask) & 1) << n;
	return index;
}

/*
 * Two pages that are used in turn and share an entry would miss at every access. Which bits of an
 * address are its index is free, and not known to the code: when an entry changes hands again and
 * again, a bit in which its two pages differ takes the place of the highest one. Low bits stay, so
 * that an area's pages lie side by side.
 */
static void settle_dispute(struct translator *t, unsigned index, u64 page, u64 other)
{
	struct dispute *d = &t->disputes[index & (DISPUTES - 1)];
	u64 mask = t->ctx->index_mask, differ = (page ^ other) & ADDRESS_BITS & ~PAGE_MASK;

	if (d->index != index || d->fills != t->fast_fills / DISPUTE_FILLS)
		*d = (struct dispute){ .index = index, .fills = t->fast_fills / DISPUTE_FILLS };
	u64 run_end = mask + BIT64(PAGE_SHIFT); /* the carry ends where the low run does */
	unsigned highest = (unsigned)__builtin_ctzll(run_end & ~mask) - 1;
	if (++d->count < DISPUTE_LIMIT || !differ || highest < PAGE_SHIFT + FAST_LOW_BITS)
		return;
	fast_drop(t, 0);
	fast_drop(t, 1);
	retain_forget(t); /* it names entries by the old index */
	t->ctx->index_mask = (mask & ~BIT64(highest)) | (differ & -differ);
	d->count = 0;
}

void tcache_fill(struct translator *t, u64 at, unsigned size, bool write)
{
	struct mmu *m = &t->c->mmu;
	struct mmu_entry *e = mmu_find(m, at, size, write ? MMU_WRITE : MMU_READ);
	unsigned half = (unsigned)(at >> 63), i = tcache_fast_index(t, at);

	if (!e || (t->options & OPTION_NO_FAST_TLB))
		return;
	if (write && !memory_quiet(e->flags))
		return;
	if (t->fill_count[half] == FILL_LOG)
		fast_drop(t, half);
	t->fills[half][t->fill_count[half]].index = (u16)i;
	t->fills[half][t->fill_count[half]].space = (u8)m->space;
	t->fills[half][t->fill_count[half]].kind = write;
	t->fill_count[half]++;
	struct fast_table *f = &t->ctx->fast[m->space][write];
	u64 page = at & ~PAGE_MASK, before = -f->neg[i];
	f->neg[i] = -page;
	f->add[i] = (u64)(uintptr_t)e->host - page;
	t->fast_fills++;
	if (before && before != -FAST_INVALID && before != page)
		settle_dispute(t, i, page, before);
	check_filled(t, at, write);
}

static void drop_page_stores(struct translator *t, const u8 *host_page)
{
	for (unsigned half = 0; half < 2; half++) {
		for (unsigned n = 0; n < t->fill_count[half]; n++) {
			struct fast_table *f =
				&t->ctx->fast[t->fills[half][n].space][t->fills[half][n].kind];
			unsigned i = t->fills[half][n].index;

			if (t->fills[half][n].kind &&
				f->add[i] - f->neg[i] == (u64)(uintptr_t)host_page)
				f->neg[i] = FAST_INVALID;
		}
	}
}

/* Our own stores to the page are seen from now on. */
static void see_stores(struct translator *t, const u8 *host_page)
{
	drop_page_stores(t, host_page);
	window_protect(&t->window, host_page);
	kernel_window_hide_page(&t->kernel, host_page);
	retain_forget_stores(t, host_page);
}

void tcache_purge(struct translator *t)
{
	const u8 *pages[CLAIMED];
	unsigned count;

	pthread_mutex_lock(&t->claimed_lock);
	count = t->claimed_count;
	memcpy(pages, t->claimed, sizeof(pages));
	t->claimed_count = 0;
	pthread_mutex_unlock(&t->claimed_lock);
	if (count <= CLAIMED) {
		for (unsigned i = 0; i < count; i++)
			see_stores(t, pages[i]);
		return;
	}
	fast_drop(t, 0);
	fast_drop(t, 1);
	retain_forget_stores(t, NULL);
	window_hide_all(&t->window);
	kernel_window_hide_all(&t->kernel);
}

/*
 * A memory_watcher: a page is being claimed by some engine. Our own stores to it are seen once the
 * page's entries are gone; another vcpu's, once it has left its code and will drop them before it
 * enters again. Nobody waits while in code, so two that claim at once do not wait for each other.
 */
void tcache_claimed(void *translator, const u8 *host_page)
{
	struct translator *t = translator;

	if (translate_current == t) {
		see_stores(t, host_page);
		return;
	}
	pthread_mutex_lock(&t->claimed_lock);
	if (t->claimed_count < CLAIMED)
		t->claimed[t->claimed_count] = host_page;
	t->claimed_count = (unsigned)min_u64(t->claimed_count + 1, CLAIMED + 1);
	pthread_mutex_unlock(&t->claimed_lock);
	atomic_store(&t->purge, true);
	if (atomic_load(&t->in_code))
		translate_signal(t);
	while (atomic_load(&t->in_code) && atomic_load(&t->purge))
		sched_yield();
}

/* ---- links and jumps ---- */

/* Links are cut and joined again far more often than they come to lead elsewhere: one that is cut
 * stays in its target's list. */
static void unlink_one(const struct translator *t, struct link *l)
{
	if (!l->chained)
		return;
	l->chained = false;
	link_point(t, l, l->out);
}

static void forget_target(struct translator *t, struct link *l)
{
	u32 self = pool_ref(t, l);
	u32 *p = &tblock_at(t, l->to)->incoming;

	while (*p != self)
		p = &link_at(t, *p)->next_in;
	*p = l->next_in;
	l->to = 0;
}

static void set_target(struct translator *t, struct link *l, struct tblock *to)
{
	if (l->to == pool_ref(t, to))
		return;
	if (l->to)
		forget_target(t, l);
	l->to = pool_ref(t, to);
	l->next_in = to->incoming;
	to->incoming = pool_ref(t, l);
}

void tcache_open_gate(const struct translator *t, const struct tblock *b)
{
	static const u8 nop5[5] = { 0x0f, 0x1f, 0x44, 0x00, 0x00 };

	if (b->gate != NO_GATE)
		memcpy(codemem_rw(&t->mem, b->code + b->gate), nop5, sizeof(nop5));
}

void tcache_unlink_out(struct translator *t, struct tblock *b)
{
	for (unsigned i = 0; i < b->link_count; i++)
		unlink_one(t, &b->links[i]);
	tcache_open_gate(t, b);
	b->cut = false;
}

void tcache_unpatch(struct translator *t, const struct tblock *b)
{
	for (unsigned i = 0; i < b->link_count; i++)
		link_point(t, &b->links[i], b->links[i].out);
	tcache_open_gate(t, b);
}

/* Is `to`, all of it, in the page that the owner ends in? */
static bool in_page_of(const struct tblock *owner, const struct tblock *to)
{
	return !((owner->rip ^ to->rip) & ~PAGE_MASK) &&
	       !((owner->unit.gpa ^ to->unit.gpa) & ~PAGE_MASK) && owner->unit.gpa2 == CODE_NO_PAGE;
}

/* Where in the code of `to` the link may lead. */
static unsigned link_enters(const struct translator *t, struct link *l, const struct tblock *to)
{
	if (to->floats ? l->target >= PAGE_SIZE
		       : tblock_entry(to) && !in_page_of(link_owner(l), to))
		return 0; /* to the check of its page */
	if (to == link_owner(l) && l->loop)
		return l->loop;
	bool fetched = l->vectors && !to->vector_from && !(t->baked & BAKED_COUNT);
	return tblock_entry(to) + (fetched ? VECTOR_LOOK : 0);
}

void tcache_link(struct translator *t, struct link *l, struct tblock *to)
{
	const struct tblock *owner = link_owner(l);

	if (l->chained || owner->cut || !owner->unit.valid)
		return;
	if (to->floats && !owner->floats)
		return; /* it says nobody where it goes */
	set_target(t, l, to);
	l->chained = true;
	link_point(t, l, (u32)(to->code - t->mem.rx) + link_enters(t, l, to));
	t->links_made++;
}

static void jump_clear(struct translator *t, unsigned space, unsigned index)
{
	t->ctx->jump[space].targets[index] =
		(struct jump_target){ 0, (u64)(uintptr_t)t->lookup_miss };
}

static void jumps_drop(struct translator *t)
{
	for (unsigned i = 0; i < t->jump_count; i++)
		jump_clear(t, t->jumps[i].space, t->jumps[i].index);
	t->jump_count = 0;
}

void tcache_jump(struct translator *t, struct tblock *to)
{
	u64 rip = t->c->s->rip;
	unsigned n, i = jump_index(rip);

	if (t->jump_count == JUMP_LOG)
		jumps_drop(t);
	n = t->jump_count++;
	t->jumps[n].index = i;
	t->jumps[n].space = to->space;
	t->ctx->jump[to->space].targets[i] = (struct jump_target){ -rip, (u64)(uintptr_t)to->code };
}

/*
 * Translations of the half were flushed. A processor may fetch them again the next moment, and so
 * do we, at once: what still leads where the guest's tables lead stays. A kernel flushes far more
 * than it has changed. Where one flush of the lower half follows another so soon that looking would
 * take more than a part of the time, its pages are dropped instead.
 */
#define FLUSH_PART  5u
#define DROP_AROUND (4 * MiB) /* more is dropped with its half: pages are dropped one by one */

static void lower_flush(struct translator *t)
{
	u64 start = __rdtsc();

	if (!t->kept || start - t->flush_end < (FLUSH_PART - 1) * t->flush_took) {
		itlb_drop(t);
		return;
	}
	retain_look_again(t);
	itlb_flush(t);
	t->flush_end = __rdtsc();
	t->flush_took = t->flush_end - start;
}

static void flush_half(struct translator *t, unsigned half)
{
	fast_drop(t, half);
	(half ? upper_flush : lower_flush)(t);
}

static void drop_around(struct translator *t, u64 at, u64 size)
{
	at &= ~(size - 1);
	for (u64 end = at + size; at != end; at += PAGE_SIZE) {
		unsigned i = tcache_fast_index(t, at);

		for (unsigned space = 0; space < MMU_SPACES; space++)
			for (unsigned w = 0; w < 2; w++)
				t->ctx->fast[space][w].neg[i] = FAST_INVALID;
		(at >> 63 ? upper_flush_page : itlb_drop_page)(t, at);
	}
}

static void drop_upper_nonglobal(struct translator *t)
{
	const struct mmu *m = &t->c->mmu;

	if (mmu_upper_many(m))
		flush_half(t, 1);
	for (unsigned i = 0; !mmu_upper_many(m) && i < m->upper_count; i++)
		drop_around(t, m->upper[i], PAGE_SIZE);
}

/* Another CR3, whatever was flushed with it. */
void tcache_switched(void *translator)
{
	struct translator *t = translator;

	kernel_window_switched(t);
	retain_leave(t);
	fast_drop(t, 0);
	if (t->c->mmu.lower_global)
		lower_flush(t); /* most of it is what it was */
	else
		itlb_drop(t);
	drop_upper_nonglobal(t);
	retain_enter(t);
}

static void flush_page(struct translator *t, u64 at)
{
	u64 reach = mmu_flush_reach(&t->c->mmu, at);

	if (reach > DROP_AROUND)
		flush_half(t, (unsigned)(at >> 63));
	else
		drop_around(t, at, reach);
}

static void flush(struct translator *t, enum x86_flush kind, u64 at, unsigned pcid)
{
	bool tagged = t->c->s->cr4 & CR4_PCIDE, ours = !tagged || pcid == (t->cr3 & CR3_PCID);

	window_flushed(t, kind, at, pcid);
	kernel_window_flushed(t, kind, at);
	/* On the way to another CR3, which is in the state already: what is in the tables is
	 * the last one's, and is put aside soon. */
	t->leave_doubtful |= t->cr3 != t->c->s->cr3;
	switch (kind) {
	case X86_FLUSH_PAGE:
		if (t->enter_waits) /* what is still to be put back may name the page */
			retain_doubt_pcid(t, (unsigned)(t->cr3 & CR3_PCID));
		flush_page(t, at);
		return;
	case X86_FLUSH_PCID_PAGE:
		retain_doubt_pcid(t, pcid);
		if (ours)
			flush_page(t, at);
		return;
	case X86_FLUSH_PCID:
		retain_doubt_pcid(t, pcid);
		if (!ours || t->leave_doubtful) {
			drop_upper_nonglobal(t); /* mmu.c names them no longer */
			return;
		}
		break;
	case X86_FLUSH_NONGLOBAL: retain_doubt(t); break;
	case X86_FLUSH_ALL:
		retain_doubt(t);
		flush_half(t, 1);
		break;
	}
	if (t->leave_doubtful) {
		tcache_switched(t);
		return;
	}
	flush_half(t, 0);
	if (kind != X86_FLUSH_ALL)
		drop_upper_nonglobal(t);
}

void tcache_flushed(void *translator, enum x86_flush kind, u64 at, unsigned pcid)
{
	struct translator *t = translator;

	flush(t, kind, at, pcid);
	check_flushed(t, kind, at);
}

/* ---- blocks ---- */

/* What a block is for. */
struct sought {
	u64 gpa, rip;
	u8 space;
};

/* As far as code reaches, and more. Nearer to where addresses end its links might lead beyond,
 * which is looked at when a block is made. */
#define FLOAT_NEAR (BIT64(31) + PAGE_SIZE)

bool tcache_floats(const struct translator *t, unsigned code_space, u64 rip)
{
	return code_space == MMU_USER && rip < BIT64(47) - FLOAT_NEAR &&
	       !(t->options & OPTION_NO_FLOAT);
}

u64 tcache_key(const struct translator *t, unsigned code_space, u64 rip)
{
	return tcache_floats(t, code_space, rip) ? rip & PAGE_MASK : rip;
}

static u64 hash_of(const struct tblock *b) { return block_hash(b->unit.gpa, b->rip, b->space); }

static bool is_block(struct translator *t, const struct tblock *b, const void *key)
{
	return b == key;
}

static bool is_sought(struct translator *t, const struct tblock *b, const void *key)
{
	const struct sought *k = key;

	return b->unit.gpa == k->gpa && b->rip == k->rip && b->space == k->space;
}

void tcache_detach(struct translator *t, struct tblock *b)
{
	while (b->incoming) {
		struct link *l = link_at(t, b->incoming);

		unlink_one(t, l);
		forget_target(t, l);
	}
	if (b->floats)
		return; /* jumps that lead to it find its check */
	unsigned i = jump_index(b->rip);
	if (t->ctx->jump[b->space].targets[i].code == (u64)(uintptr_t)b->code)
		jump_clear(t, b->space, i);
}

void tcache_killed(void *translator, struct code_unit *u)
{
	struct translator *t = translator;
	struct tblock *b = container_of(u, struct tblock, unit);

	patched_note(t, b);
	tcache_detach(t, b);
	if (b->floats)
		itlb_shut(t, b);
	block_map_remove(t, &t->blocks, hash_of(b), is_block, b);
	/* The block may be running right now: it must not go on past the store. */
	tcache_unlink_out(t, b);
}

/* Something about it has been learnt: the next time it is made anew. */
void tcache_kill(struct translator *t, struct tblock *b)
{
	if (!b->unit.valid)
		return;
	share_forget(t, b);
	rebase_forget(t, b);
	b->unit.valid = false; /* the code map drops it when it comes across it */
	tcache_killed(t, &b->unit);
}

static void forget_starts(struct translator *t)
{
	size_t words = t->chunk_size / 4 / 64;

	for (unsigned chunk = 0; chunk < CHUNKS_MAX; chunk++) {
		if (!(t->touched[chunk / 64] & BIT64(chunk % 64)))
			continue;
		memset(t->starts + chunk * words, 0, words * sizeof(*t->starts));
		memset(t->by_id + chunk * CHUNK_IDS, 0, CHUNK_IDS * sizeof(struct tblock *));
	}
	memset(t->touched, 0, sizeof(t->touched));
}

void tcache_add(struct translator *t, struct tblock *b)
{
	size_t start = (size_t)(b->code - t->mem.rx) / 4;
	unsigned chunk = b->id / CHUNK_IDS;

	if (unlikely(!(t->spaces_begun & BIT(b->space))))
		space_begin(t, b->space);
	code_map_add(&t->c->code, &b->unit);
	t->by_id[b->id] = b;
	t->starts[start / 64] |= BIT64(start % 64);
	t->touched[chunk / 64] |= BIT64(chunk % 64);
	block_map_add(t, &t->blocks, hash_of(b), b);
}

/* interp_hooks.dropped: the code map is empty and the interpreter's stubs are gone. */
void tcache_dropped(void *translator)
{
	struct translator *t = translator;

	jumps_drop(t);
	upper_forget(t);
	retain_forget(t);
	block_map_clear(&t->blocks);
	share_dropped(t);
	rebase_dropped(t);
	forget_starts(t);
	t->pool_used = POOL_START;
	t->cut_block = NULL;
	t->pending = NULL; /* this may be between its exit and what it leads to */
	t->dropped = true;
	t->clears++;
}

/* Drops everything, the interpreter's blocks too: they share the code map. */
void tcache_clear(struct translator *t)
{
	blocks_clear(t->c);
	natives_clear(t->c->natives);
}

/* What code others may copy from this image stays. */
void tcache_forget(struct translator *t)
{
	tcache_clear(t);
	window_hide_all(&t->window);
	kernel_window_hide_all(&t->kernel);
	itlb_drop(t);
	pages_forget(t->ctx->itlb, sizeof(t->ctx->itlb));
	pages_forget(t->ctx->fast, sizeof(t->ctx->fast));
	pages_forget(t->ctx->jump, sizeof(t->ctx->jump));
	t->fill_count[0] = t->fill_count[1] = 0;
	t->jump_count = 0;
	tables_begin(t);
	pages_forget(t->pool, POOL_SIZE);
	pages_forget(t->by_id, TBLOCKS_MAX * sizeof(*t->by_id));
	pages_forget(t->starts, STARTS_SIZE);
	if (t->shared->users == 1)
		codemem_forget(&t->mem, t->stubs_end, CACHE_SIZE);
	t->rests++;
}

/* Also in signal handlers. */
struct tblock *tcache_by_code(const struct translator *t, const u8 *pc)
{
	size_t at = (size_t)(pc - t->mem.rx) / 4, word = at / 64;
	size_t most = word < EMIT_MAX / 4 / 64 + 1 ? word : EMIT_MAX / 4 / 64 + 1;
	u64 bits = t->starts[word] & (~0ull >> (63 - at % 64));

	for (size_t n = 0; !bits && n < most; n++)
		bits = t->starts[--word];
	if (!bits)
		return NULL;
	const u8 *start = t->mem.rx + (word * 64 + 63 - (size_t)__builtin_clzll(bits)) * 4;
	struct tblock *b = t->by_id[get_le32(start - TBLOCK_HEAD)];
	return (size_t)(pc - b->code) < b->code_size ? b : NULL;
}

/* Is there a block like b that begins so far behind it, in b's first page? */
bool tcache_has(struct translator *t, const struct tblock *b, u64 at)
{
	u64 gpa = b->unit.gpa + at, rip = b->rip + at;

	const struct sought sought = { gpa, rip, b->space };

	return !((b->unit.gpa ^ gpa) & ~PAGE_MASK) &&
	       block_map_find(t, &t->blocks, block_hash(gpa, rip, b->space), is_sought, &sought);
}

static bool second_page_matches(struct translator *t, const struct tblock *b)
{
	struct code_bytes second;

	if (b->unit.gpa2 == CODE_NO_PAGE)
		return true;
	return blocks_fetch(t->c, (t->c->s->rip | PAGE_MASK) + 1, &second) == X86_OK &&
	       (second.gpa & ~PAGE_MASK) == b->unit.gpa2;
}

static bool is_usable(struct translator *t, const struct tblock *b, const void *key)
{
	return is_sought(t, b, key) && second_page_matches(t, b);
}

struct tblock *tcache_find(struct translator *t, bool *interpret)
{
	struct interp *c = t->c;
	u64 rip = c->s->rip;
	struct code_bytes src;

	*interpret = false;
	if (!x86_canonical(rip)) {
		x86_gp(&c->v->x86, 0);
		return NULL;
	}
	if (blocks_fetch(c, rip, &src) != X86_OK)
		return NULL;
	if (!src.host) {
		*interpret = true;
		return NULL;
	}
	u64 key = tcache_key(t, t->code_space, rip);
	const struct sought sought = { src.gpa, key, t->code_space };
	struct tblock *b = block_map_find(
		t, &t->blocks, block_hash(src.gpa, key, t->code_space), is_usable, &sought);
	if (b)
		return b;
	u64 since = stats_now(t);
	tblock_room(t);
	code_map_claim(&c->code, src.gpa);
	b = rebase_find(t, src.gpa); /* first: it asks nobody */
	if (!b)
		b = share_find(t, &src);
	if (!b)
		b = tblock_make(t, &src, interpret);
	if (t->stats)
		t->stats->translate_ns += stats_now(t) - since;
	return b;
}
