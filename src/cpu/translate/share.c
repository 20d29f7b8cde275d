/* See share.h. */
#include "cpu/translate/share.h"
#include "base/bits.h"
#include "base/must.h"
#include "base/scope.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/native.h"
#include "cpu/translate/translate_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
	struct template *next;
	struct key key;
	const struct translator *maker;
	const struct tblock *block;
	const struct tinsn *insns;
	const struct relocs *relocs;
	const struct link *links;
	const struct op *ops;
	const u64 *facts;
	const u8 *bytes;
	size_t outs_at, outs_size; /* in the image */
};

#define TEMPLATE_MAX (DESCRIPTOR_MAX + sizeof(struct template) + 16)

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
	s->pool = mmap(NULL, SHARED_POOL, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->pool == MAP_FAILED) {
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
	munmap(s->pool, SHARED_POOL);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- chunks and epochs ---- */

static void new_epoch_locked(struct shared *s)
{
	s->next = 0;
	if (s->pool_used)
		memset(s->hash, 0, sizeof(s->hash));
	s->pool_used = 0;
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
	return (struct key){ gpa, rip, t->baked, space,
		code_space_kernel_window(space) ? t->stack_region : WINDOW_NOWHERE };
}

static bool same_key(const struct key *a, const struct key *b)
{
	return a->gpa == b->gpa && a->rip == b->rip && a->space == b->space &&
	       a->baked == b->baked && a->stack == b->stack;
}

/* Where the template for a key is, or where it would be appended. */
static struct template **slot(struct shared *s, const struct key *k)
{
	struct template **p = &s->hash[(block_hash(k->gpa, k->rip, k->space) >> 32) % SHARED_HASH];

	while (*p && !same_key(&(*p)->key, k))
		p = &(*p)->next;
	return p;
}

static void *pooled(struct shared *s, const void *from, size_t size)
{
	u8 *to = s->pool + s->pool_used;

	memcpy(to, from, size);
	s->pool_used += align_up(size, 16);
	return to;
}

bool share_wanted(const struct translator *t)
{
	return t->shared->users > 1 && !(t->options & OPTION_NO_SHARE);
}

void share_publish(struct translator *t, const struct tblock *b, size_t outs_size)
{
	struct shared *s = t->shared;
	struct template x = { .key = key_of(t, b->unit.gpa, b->rip, b->space),
		.maker = t,
		.outs_at = t->outs_at,
		.outs_size = outs_size };

	/* What lies on two pages depends on two translations; there is little of it. */
	if (!share_wanted(t) || b->unit.gpa2 != CODE_NO_PAGE)
		return;
	AUTO_LOCK(&s->lock);
	if (t->epoch != s->epoch || s->pool_used + TEMPLATE_MAX > SHARED_POOL)
		return;
	x.block = pooled(s, b, sizeof(*b));
	x.insns = pooled(s, b->insns, tblock_insns_size(b));
	x.relocs = b->relocs ? pooled(s, b->relocs, relocs_size(b->relocs)) : NULL;
	x.links = pooled(s, b->links, b->link_count * sizeof(struct link));
	x.ops = pooled(s, b->ops, b->op_count * sizeof(struct op));
	x.facts = pooled(s, b->facts, b->fact_count * sizeof(u64));
	x.bytes = pooled(s, b->bytes, b->unit.bytes);
	struct template **p = slot(s, &x.key);
	x.next = *p ? (*p)->next : NULL; /* it takes an older one's place */
	*p = pooled(s, &x, sizeof(x));
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
	struct template **p = slot(s, &k);
	if (*p && (*p)->block->id == b->id)
		*p = (*p)->next;
}

/* ---- copying ---- */

/* But for the constant that its code reads from memory (emit_patched.c). */
static bool same_bytes(const struct template *x, const u8 *now)
{
	const struct code_unit *u = &x->block->unit;
	unsigned live = u->live_bytes ? u->live_at : u->bytes, behind = live + u->live_bytes;

	return !memcmp(x->bytes, now, live) &&
	       !memcmp(x->bytes + behind, now + behind, u->bytes - behind);
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

static struct tblock *copy(struct translator *t, const struct template *x)
{
	struct tblock *b = tblock_pooled(t, x->block, sizeof(*b));
	struct op *ops = tblock_pooled(t, x->ops, b->op_count * sizeof(*ops));

	b->insns = tblock_pooled(t, x->insns, tblock_insns_size(b));
	if (x->relocs)
		b->relocs = tblock_pooled(t, x->relocs, relocs_size(x->relocs));
	b->code = (u8 *)(uintptr_t)t->mem.rx + (b->code - x->maker->mem.rx);
	b->unit.ctx = t;
	b->ops = ops;
	b->facts = tblock_pooled(t, x->facts, b->fact_count * sizeof(u64));
	b->bytes = tblock_pooled(t, x->bytes, b->unit.bytes);
	b->links = tblock_pooled(t, x->links, b->link_count * sizeof(struct link));
	for (unsigned i = 0; i < b->link_count; i++)
		b->links[i].owner = pool_ref(t, b);
	if (!copy_ops(t, b, ops))
		return NULL;
	copy_code(t, x, b);
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
	const struct template *x = *slot(s, &k);
	if (!x || !same_bytes(x, src->host))
		return NULL;
	adopt_pieces_locked(t);
	return copy(t, x);
}
