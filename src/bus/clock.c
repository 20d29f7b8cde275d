/*
 * The guest clock and its timers.
 *
 * Time: while running, now = host_ns() - base; while paused (and always on a manual clock)
 * now = frozen_at. Pausing and resuming move base, so that guest time has no gap and no jump.
 *
 * Timers: a singly linked list sorted by deadline. A machine has about a dozen, most of them
 * disarmed, so that a list beats anything cleverer. Timers with equal deadlines fire in the order
 * they were armed.
 *
 * The list's head decides when the machine must wake up: rearm() reports each change of it. A
 * callback may arm, replace or cancel any timer, its own included.
 *
 * A timer that re-arms itself in the past must not keep the caller for ever: one clock_run() fires
 * at most RUN_MAX callbacks and then reports a deadline already due, so the machine's loop turns.
 */
#include "bus/clock.h"
#include "base/bits.h"
#include "base/must.h"

#define NO_DEADLINE (~0ull)
#define RUN_MAX	    1024u

void clock_init(struct guest_clock *c) { *c = (struct guest_clock){ 0 }; }

u64 clock_now(const struct guest_clock *c)
{
	return c->running ? c->host_ns(c->ctx) - c->base : c->frozen_at;
}

static u64 head_deadline(const struct guest_clock *c)
{
	return c->timers ? c->timers->deadline : NO_DEADLINE;
}

static void report(struct guest_clock *c)
{
	if (c->rearm && c->running && !c->firing)
		c->rearm(c->ctx, head_deadline(c));
}

void clock_resume(struct guest_clock *c)
{
	if (c->running || !c->host_ns)
		return;
	c->base = c->host_ns(c->ctx) - c->frozen_at;
	c->running = true;
	report(c);
}

void clock_pause(struct guest_clock *c)
{
	if (!c->running)
		return;
	c->frozen_at = clock_now(c);
	c->running = false;
	if (c->rearm)
		c->rearm(c->ctx, NO_DEADLINE);
}

void timer_init(struct clock_timer *t, void (*fire)(void *), void *ctx)
{
	*t = (struct clock_timer){ .fire = fire, .ctx = ctx };
}

static void unlink_timer(struct guest_clock *c, struct clock_timer *t)
{
	struct clock_timer **at = &c->timers;

	while (*at && *at != t)
		at = &(*at)->next;
	must(*at == t, "armed timer not on its clock");
	*at = t->next;
	t->next = NULL;
	t->armed = false;
}

static void link_timer(struct guest_clock *c, struct clock_timer *t)
{
	struct clock_timer **at = &c->timers;

	while (*at && (*at)->deadline <= t->deadline)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
	t->armed = true;
}

void timer_arm(struct guest_clock *c, struct clock_timer *t, u64 deadline)
{
	u64 before = head_deadline(c);

	if (t->armed)
		unlink_timer(c, t);
	t->deadline = deadline;
	link_timer(c, t);
	if (head_deadline(c) != before)
		report(c);
}

void timer_cancel(struct guest_clock *c, struct clock_timer *t)
{
	u64 before = head_deadline(c);

	if (!t->armed)
		return;
	unlink_timer(c, t);
	if (head_deadline(c) != before)
		report(c);
}

/* Fires the earliest timer if it is due at `now`. */
static bool fire_one(struct guest_clock *c, u64 now)
{
	struct clock_timer *t = c->timers;

	if (!t || t->deadline > now)
		return false;
	unlink_timer(c, t);
	t->fire(t->ctx);
	return true;
}

u64 clock_run(struct guest_clock *c)
{
	u64 now = clock_now(c);
	u64 before = head_deadline(c);

	c->firing = true;
	for (unsigned n = 0; n < RUN_MAX && fire_one(c, now); n++)
		;
	c->firing = false;
	if (head_deadline(c) != before)
		report(c);
	return head_deadline(c);
}

void clock_advance(struct guest_clock *c, u64 ns)
{
	u64 end = c->frozen_at + min_u64(ns, ~c->frozen_at);

	must(!c->running, "advancing a running clock");
	while (c->timers && c->timers->deadline <= end) {
		if (c->timers->deadline > c->frozen_at)
			c->frozen_at = c->timers->deadline;
		fire_one(c, c->frozen_at);
	}
	c->frozen_at = end;
}
