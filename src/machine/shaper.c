#include "machine/shaper.h"
#include "base/must.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MAX (128 * KiB) /* no network's is longer */

struct record {
	u32 len;
	bool head;
};

_Static_assert(SHAPER_QUEUE >= FRAME_MAX + sizeof(struct record), "a frame fits");

/* ---- the ring ---- */

static void put(struct shaper *s, const void *data, size_t len)
{
	size_t at = (s->first + s->used) % SHAPER_QUEUE, first = min_u64(len, SHAPER_QUEUE - at);

	memcpy(s->queue + at, data, first);
	memcpy(s->queue, (const u8 *)data + first, len - first);
	s->used += len;
}

static void take(struct shaper *s, void *data, size_t len)
{
	size_t first = min_u64(len, SHAPER_QUEUE - s->first);

	memcpy(data, s->queue + s->first, first);
	memcpy((u8 *)data + first, s->queue, len - first);
	s->first = (s->first + len) % SHAPER_QUEUE;
	s->used -= len;
}

/* By way of the room behind the ring: a frame may go round its end. */
static void send_first(struct shaper *s, u64 now)
{
	u8 *whole = s->queue + SHAPER_QUEUE;
	struct record r;

	take(s, &r, sizeof(r));
	must(r.len <= s->used, "a frame of %u bytes, %zu", r.len, s->used);
	take(s, whole, r.len);
	bucket_take(&s->out, now, r.len);
	s->send(s->ctx, whole, r.len, r.head);
}

/* ---- time ---- */

static void arm(struct shaper *s)
{
	u64 at = ~0ull;

	if (s->used)
		at = bucket_ready(&s->out);
	if (s->refused)
		at = min_u64(at, bucket_ready(&s->in));
	if (at != ~0ull)
		timer_arm(s->clock, &s->timer, at);
}

static void fire(void *ctx)
{
	struct shaper *s = ctx;
	u64 now = clock_now(s->clock);

	while (s->used && bucket_ready(&s->out) <= now)
		send_first(s, now);
	if (s->refused && bucket_ready(&s->in) <= now) {
		s->refused = false;
		s->room(s->ctx);
	}
	arm(s);
}

/* ---- the interface ---- */

void shaper_init(struct shaper *s, struct guest_clock *clock, void *ctx)
{
	*s = (struct shaper){ .clock = clock, .ctx = ctx };
	timer_init(&s->timer, fire, s);
}

int shaper_limit(struct shaper *s, u64 limit, struct err *err)
{
	shaper_forget(s);
	if (!limit)
		return 0;
	s->queue = malloc(SHAPER_QUEUE + FRAME_MAX);
	if (!s->queue)
		return err_set(err, -ENOMEM, "no memory for a network's limit");
	s->out.limit = s->in.limit = limit;
	return 0;
}

void shaper_forget(struct shaper *s)
{
	if (s->clock)
		timer_cancel(s->clock, &s->timer);
	free(s->queue);
	s->queue = NULL;
	s->out = s->in = (struct bucket){ 0 };
	s->first = s->used = 0;
	s->refused = false;
}

void shaper_send(struct shaper *s, const u8 *frame, size_t len, bool head)
{
	struct record r = { (u32)len, head };

	if (!s->queue) {
		s->send(s->ctx, frame, len, head);
		return;
	}
	u64 now = clock_now(s->clock);

	if (!s->used && bucket_ready(&s->out) <= now) {
		bucket_take(&s->out, now, len);
		s->send(s->ctx, frame, len, head);
		return;
	}
	if (len > FRAME_MAX || sizeof(r) + len > SHAPER_QUEUE - s->used) {
		s->lost++;
		return;
	}
	put(s, &r, sizeof(r));
	put(s, frame, len);
	arm(s);
}

bool shaper_may_receive(struct shaper *s)
{
	if (!s->queue || bucket_ready(&s->in) <= clock_now(s->clock))
		return true;
	s->refused = true;
	arm(s);
	return false;
}

void shaper_received(struct shaper *s, size_t len)
{
	if (s->queue)
		bucket_take(&s->in, clock_now(s->clock), len);
}
