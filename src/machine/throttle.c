#include "machine/throttle.h"
#include "base/bits.h"
#include "base/must.h"

#define SECOND 1000000000u

/* Nanoseconds of a limit that so much of it takes. */
static u64 cost(u64 amount, u64 limit)
{
	return limit ? (u64)min_u64((u64)(((u128)amount * SECOND + limit - 1) / limit), BIT64(62))
		     : 0;
}

static u64 bytes_of(const struct block_request *r)
{
	return r->op == BLOCK_READ || r->op == BLOCK_WRITE ? r->len : 0;
}

/* When the bucket has enough for whoever comes next: it is then at most a burst from full. */
static u64 ready_at(u64 full) { return full > THROTTLE_BURST_NS ? full - THROTTLE_BURST_NS : 0; }

static u64 next_at(const struct throttle *t)
{
	return max_u64(ready_at(t->ops_full), ready_at(t->bytes_full));
}

static void take(u64 *full, u64 now, u64 ns)
{
	u64 from = max_u64(*full, now);

	*full = from + min_u64(ns, ~0ull - from);
}

static void pass(struct throttle *t, struct block_request *r, u64 now)
{
	take(&t->ops_full, now, cost(1, t->limits.ops));
	take(&t->bytes_full, now, cost(bytes_of(r), t->limits.bytes));
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
	*t = (struct throttle){ .limits = *limits, .block = block, .clock = clock };
	must(clock || !(limits->ops | limits->bytes), "limits without a clock");
	t->last = &t->first;
	timer_init(&t->timer, fire, t);
}

void throttle_submit(struct throttle *t, struct block_request *r)
{
	t->requests++;
	if (!(t->limits.ops | t->limits.bytes)) {
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
