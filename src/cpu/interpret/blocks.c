/* See blocks.h for the model. */
#include "cpu/interpret/blocks.h"
#include "base/must.h"
#include "cpu/interpret/decode.h"
#include "os/pages.h"
#include "x86/transfer.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define POOL_SIZE  (48 * MiB)
#define HASH_SIZE  32768u
#define QUEUE_SIZE 256u

struct write {
	u64 at, len; /* within one page */
};

struct blocks {
	u8 *pool;
	size_t used;
	struct block *hash[HASH_SIZE];
	pthread_mutex_t lock; /* guards the queue */
	struct write queue[QUEUE_SIZE];
	unsigned queued;
	bool overflow;
};

static __thread struct interp *running;

void blocks_owner(struct interp *c) { running = c; }

void blocks_free(struct blocks *b)
{
	if (!b)
		return;
	pages_free(b->pool, POOL_SIZE);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

void blocks_clear(struct interp *c)
{
	struct blocks *b = c->blocks;

	memset(b->hash, 0, sizeof(b->hash));
	code_map_clear(&c->code);
	b->used = 0;
	c->block_epoch++;
	if (c->hooks.dropped)
		c->hooks.dropped(c->hooks.ctx);
}

static void *pool_alloc(struct blocks *b, size_t size)
{
	size = align_up(size, 16);
	if (b->used + size > POOL_SIZE)
		return NULL;
	void *p = b->pool + b->used;
	b->used += size;
	return p;
}

static u32 hash_block(u64 at, unsigned bits)
{
	return (u32)((at ^ (at >> 13) ^ (at >> 26)) * 2 + (bits >> 5)) & (HASH_SIZE - 1);
}

/* ---- writes to code ---- */

static int op_leave_block(struct interp *c, const struct op *op)
{
	counter_add(&c->retired, -1ull); /* the loop counts what it executes; this is nothing */
	return OP_JUMP;
}

static void kill_block(void *ctx, struct code_unit *u)
{
	struct blocks *b = ctx;
	struct block *k = container_of(u, struct block, unit);

	for (unsigned i = 0; i <= k->count; i++)
		k->ops[i].exec = op_leave_block;
	struct block **h = &b->hash[hash_block(u->gpa, k->bits)];
	while (*h && *h != k)
		h = &(*h)->hash_next;
	if (*h)
		*h = k->hash_next;
}

struct blocks *blocks_new(struct interp *c, struct err *err)
{
	struct blocks *b = calloc(1, sizeof(*b));

	if (!b) {
		err_set(err, -ENOMEM, "interpret: no memory for the block cache");
		return NULL;
	}
	b->pool = pages_new(POOL_SIZE);
	if (!b->pool) {
		free(b);
		err_set(err, -ENOMEM, "interpret: no memory for the block cache");
		return NULL;
	}
	pthread_mutex_init(&b->lock, NULL);
	c->code.keepers[CODE_INTERPRETED].kill = kill_block;
	c->code.keepers[CODE_INTERPRETED].ctx = b;
	return b;
}

/* Leaves a write for the owner; what does not fit the queue drops everything. */
static void enqueue(struct interp *c, u64 at, u64 len, bool everything)
{
	struct blocks *b = c->blocks;

	pthread_mutex_lock(&b->lock);
	struct write *last = b->queued ? &b->queue[b->queued - 1] : NULL;
	/* A page is filled or cleared by many stores side by side. */
	if (!everything && last && last->at + last->len == at && !((last->at ^ at) & ~PAGE_MASK))
		last->len += len;
	else if (everything || b->queued == QUEUE_SIZE)
		b->overflow = true;
	else
		b->queue[b->queued++] = (struct write){ at, len };
	pthread_mutex_unlock(&b->lock);
	vcpu_post(c->v, ATTN_CODE);
}

void blocks_written(void *interp, gpa_t at, u64 len)
{
	struct interp *c = interp;

	if (running == c)
		code_map_write(&c->code, at.v, len);
	else
		enqueue(c, at.v, len, false);
}

void blocks_forget(struct interp *c, gpa_t at, u64 len)
{
	bool everything = len > 16 * PAGE_SIZE;

	if (everything)
		enqueue(c, 0, 0, true);
	for (u64 n; !everything && len; at.v += n, len -= n) {
		n = min_u64(len, PAGE_SIZE - (at.v & PAGE_MASK));
		enqueue(c, at.v, n, false);
	}
}

void blocks_apply(struct interp *c)
{
	struct blocks *b = c->blocks;

	pthread_mutex_lock(&b->lock);
	if (b->overflow)
		blocks_clear(c);
	else
		for (unsigned i = 0; i < b->queued; i++)
			code_map_write(&c->code, b->queue[i].at, b->queue[i].len);
	b->queued = 0;
	b->overflow = false;
	pthread_mutex_unlock(&b->lock);
}

/* ---- building ---- */

int blocks_fetch(struct interp *c, u64 linear, struct code_bytes *src)
{
	int result;
	struct mmu_entry *e = mmu_fill(&c->mmu, linear, ACCESS_FETCH, &result);

	if (result != X86_OK)
		return X86_FAULT;
	if (e) {
		*src = (struct code_bytes){ .gpa = e->gpa | (linear & PAGE_MASK),
			.host = e->host + (linear & PAGE_MASK),
			.flags = e->flags };
		return X86_OK;
	}
	/* Data breakpoints keep the TLB empty; or there is no RAM. */
	struct x86_xlat x;
	TRY(x86_translate(&c->v->x86, gva(linear), ACCESS_FETCH, &x));
	struct memory_page p = memory_page(c->v->memory, x.gpa);
	*src = (struct code_bytes){ .gpa = x.gpa.v,
		.host = p.host && !p.device ? p.host + (x.gpa.v & PAGE_MASK) : NULL,
		.flags = p.flags };
	return X86_OK;
}

static u64 linear_rip(const struct interp *c)
{
	return c->code_bits == 64 ? c->s->rip : (u32)(c->s->rip + c->s->seg[X86_CS].base);
}

static const struct op sentinel = { .exec = op_leave_block, .base = REG_NONE, .index = REG_NONE };

/* The limit that code bytes must stay within, relative to RIP; in 64-bit code there is none. */
static u64 code_room(const struct interp *c)
{
	u64 limit = c->s->seg[X86_CS].limit;

	if (c->code_bits == 64)
		return ~0ull;
	return c->s->rip <= limit ? limit - c->s->rip + 1 : 0;
}

static struct block *commit(struct interp *c, const struct op *ops, unsigned count, unsigned bytes,
	const struct code_bytes *src, const struct code_bytes *src2)
{
	struct blocks *b = c->blocks;
	size_t size = sizeof(struct block) + (count + 1) * sizeof(struct op);

	struct block *k = pool_alloc(b, size);
	must(k, "block pool without the room that was made");
	*k = (struct block){ .bits = c->code_bits, .count = (u16)count };
	k->unit = (struct code_unit){ .gpa = src->gpa,
		.gpa2 = src2 ? src2->gpa & ~PAGE_MASK : CODE_NO_PAGE,
		.bytes = (u16)bytes,
		.keeper = CODE_INTERPRETED };
	memcpy(k->ops, ops, count * sizeof(struct op));
	k->ops[count] = sentinel;
	code_map_add(&c->code, &k->unit);
	struct block **h = &b->hash[hash_block(src->gpa, k->bits)];
	k->hash_next = *h;
	*h = k;
	return k;
}

static struct op fault_op(op_fn *exec)
{
	return (struct op){
		.exec = exec, .length = 1, .base = REG_NONE, .index = REG_NONE, .flags = OPF_END
	};
}

static int op_too_long(struct interp *c, const struct op *op)
{
	x86_gp(&c->v->x86, 0);
	return OP_FAULT;
}

static void drop_all(struct interp *c)
{
	blocks_clear(c);
	natives_clear(c->natives);
}

/* An instruction whose bytes straddle two pages (or that runs into CS's limit). */
static struct block *build_straddling(
	struct interp *c, u64 linear, const struct code_bytes *src, unsigned avail, u64 room)
{
	u8 bytes[15];
	struct code_bytes src2;
	struct op op;

	if (blocks_fetch(c, (linear | PAGE_MASK) + 1, &src2) != X86_OK)
		return NULL;
	code_map_claim(&c->code, src->gpa);
	code_map_claim(&c->code, src2.gpa);
	memcpy(bytes, src->host, avail);
	if (src2.host)
		memcpy(bytes + avail, src2.host, 15 - avail);
	else
		memset(bytes + avail, 0xff, 15 - avail);
	enum decode_result r = decode(c, bytes, 15, c->code_bits, &op);
	if (r == DECODE_FULL) {
		drop_all(c);
		return build_straddling(c, linear, src, avail, room);
	}
	if (r == DECODE_TOO_LONG)
		op = fault_op(op_too_long);
	if (op.length > room) {
		x86_gp(&c->v->x86, 0);
		return NULL;
	}
	return commit(c, &op, 1, op.length, src, op.length > avail ? &src2 : NULL);
}

/* Room for the largest block, before anything is decoded: clearing gives up the claims on pages. */
static void make_room(struct interp *c)
{
	if (c->blocks->used + sizeof(struct block) + (BLOCK_OPS + 1) * sizeof(struct op) >
		POOL_SIZE)
		blocks_clear(c);
}

static struct block *build(struct interp *c, u64 linear, const struct code_bytes *src)
{
	struct op ops[BLOCK_OPS];
	u64 room = code_room(c);
	unsigned page_left = (unsigned)(PAGE_SIZE - (linear & PAGE_MASK)), at = 0, n = 0;

	code_map_claim(&c->code, src->gpa);
	while (n < BLOCK_OPS && at < page_left && at < room) {
		unsigned avail = page_left - at < 15 ? page_left - at : 15;
		enum decode_result r = decode(c, src->host + at, avail, c->code_bits, &ops[n]);

		if (r == DECODE_FULL) {
			/* Stubs of this very block go too: start over. */
			drop_all(c);
			return build(c, linear, src);
		}
		if (r == DECODE_TRUNCATED) {
			if (!n)
				return build_straddling(c, linear, src, avail, room);
			break;
		}
		if (r == DECODE_TOO_LONG)
			ops[n] = fault_op(op_too_long);
		if (at + ops[n].length > room)
			break;
		at += ops[n].length;
		if (ops[n++].flags & OPF_END)
			break;
	}
	if (!n) {
		x86_gp(&c->v->x86, 0); /* beyond CS's limit */
		return NULL;
	}
	return commit(c, ops, n, at, src, NULL);
}

/* What a jump cache entry depends on besides the address. Both epochs only grow. */
static u64 context(const struct interp *c)
{
	u64 width = c->code_bits >> 5; /* 0, 1, 2 */

	return (c->mmu.epoch + c->block_epoch) << 4 | width << 2 | (u64)c->mmu.space;
}

static struct block *lookup(struct interp *c, const struct code_bytes *src, u64 linear)
{
	struct block *k = c->blocks->hash[hash_block(src->gpa, c->code_bits)];

	for (; k; k = k->hash_next) {
		if (k->unit.gpa != src->gpa || k->bits != c->code_bits)
			continue;
		if (k->unit.gpa2 == CODE_NO_PAGE)
			return k;
		struct code_bytes second;
		if (blocks_fetch(c, (linear | PAGE_MASK) + 1, &second) != X86_OK)
			return NULL; /* the fault stands; build would find it too */
		if ((second.gpa & ~PAGE_MASK) == k->unit.gpa2)
			return k;
	}
	return NULL;
}

static struct block *nowhere(struct interp *c)
{
	/* Fetching from what is not RAM reads all ones, which is no instruction. */
	x86_ud(&c->v->x86);
	return NULL;
}

struct block *blocks_find(struct interp *c)
{
	u64 linear = linear_rip(c), ctx = context(c);
	struct jump_entry *j = &c->jump[(linear ^ (linear >> 13)) & (JUMP_CACHE - 1)];

	if (likely(j->rip == linear && j->epoch == ctx && j->block->unit.valid)) {
		if (likely(c->code_bits == 64 || j->block->unit.bytes <= code_room(c)))
			return j->block;
	}
	if (c->code_bits == 64 && !x86_canonical(linear)) {
		x86_gp(&c->v->x86, 0);
		return NULL;
	}
	struct code_bytes src;
	if (blocks_fetch(c, linear, &src) != X86_OK)
		return NULL;
	if (!src.host)
		return nowhere(c);
	c->v->x86.fault.vector = 0xff;
	struct block *k = lookup(c, &src, linear);
	if (!k && c->v->x86.fault.vector != 0xff)
		return NULL;
	if (k && k->unit.bytes > code_room(c))
		k = NULL;
	if (!k) {
		make_room(c);
		k = build(c, linear, &src);
	}
	if (k)
		*j = (struct jump_entry){ .rip = linear, .epoch = context(c), .block = k };
	return k;
}
