/* See share.h. */
#include "cpu/translate/share.h"
#include "base/bits.h"
#include "base/must.h"
#include "base/scope.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/native.h"
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Found by their memory, which is all that the vcpus of a machine have in common here. */
#define SHARED_MAX 64u
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *list[SHARED_MAX];

struct key {
	u64 gpa, rip, baked;
	u8 space;
	u8 stack; /* where blocks of the kernel's window assume stacks to be */
};

struct template
{
	struct key key;
	const struct translator *maker;
	u64 life; /* the maker's, when it made the block */
	u32 id;
	u32 next; /* as in the hash */
	const struct tblock *block;
	size_t outs_at, outs_size; /* in the image */
};

static unsigned chunks(const struct translator *t)
{
	return t->options & OPTION_SMALL_CACHE ? t->shared->users : CACHE_SIZE / CHUNK_SIZE;
}

/* ---- life ---- */

static struct shared **find_locked(const struct memory *m)
{
	for (unsigned i = 0; i < SHARED_MAX; i++)
		if (list[i] ? list[i]->memory == m : !m)
			return &list[i];
	return NULL;
}

static struct shared *shared_new(struct memory *m)
{
	struct shared *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->memory = m;
	s->pool = pages_new(TEMPLATES * sizeof(struct template));
	if (!s->pool) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

int share_open(struct translator *t, struct err *err)
{
	AUTO_LOCK(&list_lock);
	struct shared **at = find_locked(t->c->v->memory);

	if (!at) {
		at = find_locked(NULL);
		if (!at || !(*at = shared_new(t->c->v->memory)))
			return err_set(err, -ENOMEM, "translate: no memory for the code cache");
	}
	t->shared = *at;
	t->shared->users++;
	t->epoch = t->shared->epoch;
	return 0;
}

void share_close(struct translator *t)
{
	AUTO_LOCK(&list_lock);
	struct shared *s = t->shared;

	if (!s || --s->users)
		return;
	*find_locked(s->memory) = NULL;
	pages_free(s->pool, TEMPLATES * sizeof(struct template));
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- chunks and epochs ---- */

static void new_epoch_locked(struct shared *s)
{
	s->next = 0;
	if (s->count)
		memset(s->hash, 0, sizeof(s->hash));
	s->count = 0;
	s->epoch++;
}

bool share_chunk(struct translator *t)
{
	struct shared *s = t->shared;
	AUTO_LOCK(&s->lock);

	if (s->next == chunks(t))
		new_epoch_locked(s);
	if (t->epoch != s->epoch)
		return false;
	size_t at = s->next * t->chunk_size;
	t->used = s->next ? at : t->stubs_end;
	t->outs_at = at + t->chunk_size;
	t->next_id = s->next * CHUNK_IDS;
	t->end_id = t->next_id + CHUNK_IDS;
	s->next++;
	return true;
}

void share_dropped(struct translator *t)
{
	struct shared *s = t->shared;
	AUTO_LOCK(&s->lock);

	t->life++;
	if (s->users == 1)
		new_epoch_locked(s);
	if (t->epoch == s->epoch)
		return; /* its chunk is its own still */
	t->epoch = s->epoch;
	t->used = t->outs_at = 0;
	t->next_id = t->end_id = 0;
}

/* ---- the kernel's window ---- */

static void adopt_pieces_locked(struct translator *t)
{
	if (kernel_window_adopt(&t->kernel, &t->shared->pieces))
		kernel_window_tell(t);
}

unsigned share_region_for(struct translator *t, u64 at)
{
	struct shared *s = t->shared;
	AUTO_LOCK(&s->lock);

	kernel_window_adopt(&t->kernel, &s->pieces);
	unsigned r = kernel_window_region_for(&t->kernel, at);
	s->pieces = t->kernel.pieces;
	kernel_window_tell(t);
	return r;
}

/* ---- templates ---- */

static struct key key_of(const struct translator *t, u64 gpa, u64 rip, u8 space)
{
	return (struct key){ gpa, tcache_key(t, space, rip), t->baked, space,
		code_space_kernel_window(space) ? t->stack_region : WINDOW_NOWHERE };
}

static bool same_key(const struct key *a, const struct key *b)
{
	return a->gpa == b->gpa && a->rip == b->rip && a->space == b->space &&
	       a->baked == b->baked && a->stack == b->stack;
}

static struct template *numbered(const struct shared *s, u32 number)
{
	return number ? &s->pool[number - 1] : NULL;
}

/* block_hash() has a bucket from bit 32 on: here two places for each. */
#define HASH_SHIFT 31u

/* Where the number of the template for a key is, or where it would be appended. */
static u32 *slot(struct shared *s, const struct key *k)
{
	u32 *p = &s->hash[(block_hash(k->gpa, k->rip, k->space) >> HASH_SHIFT) % SHARED_HASH];

	while (*p && !same_key(&numbered(s, *p)->key, k))
		p = &numbered(s, *p)->next;
	return p;
}

bool share_wanted(const struct translator *t)
{
	return t->shared->users > 1 && !(t->options & OPTION_NO_SHARE);
}

void share_publish(struct translator *t, const struct tblock *b, size_t outs_size)
{
	struct shared *s = t->shared;

	/* What lies on two pages depends on two translations; there is little of it. */
	if (!share_wanted(t) || b->unit.gpa2 != CODE_NO_PAGE)
		return;
	AUTO_LOCK(&s->lock);
	if (t->epoch != s->epoch || s->count == TEMPLATES)
		return;
	const struct key key = key_of(t, b->unit.gpa, b->rip, b->space);
	u32 *p = slot(s, &key);
	const struct template *old = numbered(s, *p); /* its place is taken */
	s->pool[s->count++] = (struct template){ .next = old ? old->next : 0,
		.key = key,
		.maker = t,
		.life = t->life,
		.id = b->id,
		.block = b,
		.outs_at = t->outs_at,
		.outs_size = outs_size };
	*p = s->count;
}

void share_forget(struct translator *t, const struct tblock *b)
{
	struct shared *s = t->shared;
	const struct key k = key_of(t, b->unit.gpa, b->rip, b->space);

	if (!share_wanted(t))
		return;
	AUTO_LOCK(&s->lock);
	if (t->epoch != s->epoch)
		return;
	u32 *p = slot(s, &k);
	const struct template *x = numbered(s, *p);
	if (x && x->id == b->id)
		*p = x->next;
}

/* ---- copying ---- */

/* But for the constant that its code reads from memory (emit_patched.c). */
static bool same_bytes(const struct tblock *b, const u8 *now)
{
	const struct code_unit *u = &b->unit;
	unsigned live = u->live_bytes ? u->live_at : u->bytes, behind = live + u->live_bytes;

	return !memcmp(b->bytes, now, live) &&
	       !memcmp(b->bytes + behind, now + behind, u->bytes - behind);
}

/* Operations that refer to the maker's stubs are decoded again; false: there is no room for ours.
 */
static bool copy_ops(struct translator *t, struct tblock *b, struct op *ops)
{
	struct build d UNINITIALIZED;

	for (unsigned i = 0; i < b->count; i++) {
		const struct tinsn *in = &b->insns[i];
		struct op *op = in->op == NO_OP ? NULL : &ops[in->op];

		if (op && (op->exec == op_native || op->exec == op_native_mem) &&
			decode_full(t->c, b->bytes + in->guest_at,
				(unsigned)(b->unit.bytes - in->guest_at), code_space_bits(b->space),
				op, &d) != DECODE_OK)
			return false;
	}
	return true;
}

/* The maker may be patching its exits at this moment; all of those are written again behind it. */
static void copy_code(struct translator *t, const struct template *x, struct tblock *b)
{
	const u8 *from = x->maker->mem.rw;
	size_t at = (size_t)(b->code - t->mem.rx) - TBLOCK_HEAD;

	memcpy(t->mem.rw + at, from + at, b->code_size + TBLOCK_HEAD);
	memcpy(t->mem.rw + x->outs_at, from + x->outs_at, x->outs_size);
	tcache_unpatch(t, b);
}

/* All that stays as it was made, and nothing that its maker may be changing. */
static struct tblock as_made(const struct tblock *from)
{
	return (struct tblock){
		.unit = { .gpa = from->unit.gpa,
			.gpa2 = from->unit.gpa2,
			.bytes = from->unit.bytes,
			.live_at = from->unit.live_at,
			.live_bytes = from->unit.live_bytes,
			.keeper = from->unit.keeper },
		.rip = from->rip,
		.id = from->id,
		.gate_out = from->gate_out,
		.gate = from->gate,
		.code_size = from->code_size,
		.space = from->space,
		.floats = from->floats,
		.count = from->count,
		.op_count = from->op_count,
		.link_count = from->link_count,
		.fact_count = from->fact_count,
		.vector_from = from->vector_from,
		.x87_from = from->x87_from,
	};
}

static void copy_links(struct translator *t, struct tblock *b, const struct tblock *from)
{
	struct link links[BLOCK_LINKS] UNINITIALIZED;

	for (unsigned i = 0; i < from->link_count; i++)
		links[i] = link_as_made(&from->links[i]);
	tblock_add_links(t, b, links, from->link_count);
}

static struct tblock *copy(struct translator *t, const struct template *x)
{
	const struct tblock *from = x->block, made = as_made(from);
	struct tblock *b = tblock_place(t);

	tblock_pooled(t, &made, sizeof(made));
	copy_links(t, b, from);
	struct op *ops = tblock_pooled(t, from->ops, b->op_count * sizeof(*ops));

	b->insns = tblock_pooled(t, from->insns, tblock_insns_size(b));
	if (from->relocs)
		b->relocs = tblock_pooled(t, from->relocs, relocs_size(from->relocs));
	b->code = (u8 *)(uintptr_t)t->mem.rx + (from->code - x->maker->mem.rx);
	b->ops = ops;
	b->facts = tblock_pooled(t, from->facts, b->fact_count * sizeof(u64));
	b->bytes = tblock_pooled(t, from->bytes, b->unit.bytes);
	if (!copy_ops(t, b, ops))
		return NULL;
	copy_code(t, x, b);
	if (b->floats)
		itlb_recheck(t, b); /* its maker may have shut it */
	tcache_add(t, b);
	rebase_offer(t, b);
	t->copied++;
	return b;
}

struct tblock *share_find(struct translator *t, const struct code_bytes *src)
{
	struct shared *s = t->shared;
	const struct key k = key_of(t, src->gpa, t->c->s->rip, t->code_space);

	if (!share_wanted(t))
		return NULL;
	AUTO_LOCK(&s->lock);
	if (t->epoch != s->epoch)
		return NULL;
	const struct template *x = numbered(s, *slot(s, &k));
	if (!x || x->life != x->maker->life || !same_bytes(x->block, src->host))
		return NULL;
	adopt_pieces_locked(t);
	return copy(t, x);
}
