#include "machine/throttle.h"
#include "base/bits.h"
#include "base/must.h"

static u64 bytes_of(const struct block_request *r)
{
	return r->op == BLOCK_READ || r->op == BLOCK_WRITE ? r->len : 0;
}

static u64 next_at(const struct throttle *t)
{
	return max_u64(bucket_ready(&t->ops), bucket_ready(&t->bytes));
}

static void pass(struct throttle *t, struct block_request *r, u64 now)
{
	bucket_take(&t->ops, now, 1);
	bucket_take(&t->bytes, now, bytes_of(r));
	block_submit(t->block, r);
}

static struct block_request *take_first(struct throttle *t)
{
	struct block_request *r = t->first;

	t->first = r->next;
	if (!t->first)
		t->last = &t->first;
	return r;
}

static void fire(void *ctx)
{
	struct throttle *t = ctx;
	u64 now = clock_now(t->clock);

	while (t->first && next_at(t) <= now)
		pass(t, take_first(t), now);
	if (t->first)
		timer_arm(t->clock, &t->timer, next_at(t));
	block_kick(t->block);
}

void throttle_init(struct throttle *t, struct block *block, struct guest_clock *clock,
	const struct throttle_limits *limits)
{
	*t = (struct throttle){ .block = block, .clock = clock };
	t->ops.limit = limits->ops;
	t->bytes.limit = limits->bytes;
	must(clock || !(limits->ops | limits->bytes), "limits without a clock");
	t->last = &t->first;
	timer_init(&t->timer, fire, t);
}

void throttle_submit(struct throttle *t, struct block_request *r)
{
	t->requests++;
	if (!(t->ops.limit | t->bytes.limit)) {
		block_submit(t->block, r);
		return;
	}
	u64 now = clock_now(t->clock);

	if (!t->first && next_at(t) <= now) {
		pass(t, r, now);
		return;
	}
	r->next = NULL;
	*t->last = r;
	t->last = &r->next;
	t->waited++;
	timer_arm(t->clock, &t->timer, next_at(t));
}

void throttle_release(struct throttle *t)
{
	while (t->first)
		block_submit(t->block, take_first(t));
	if (t->clock)
		timer_cancel(t->clock, &t->timer);
}
