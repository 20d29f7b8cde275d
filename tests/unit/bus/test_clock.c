/* The guest clock: order, exact times, pauses, and timers that move themselves. */
#include "bus/clock.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

struct ticker {
	struct guest_clock *clock;
	struct clock_timer timer;
	u64 period, count, last;
};

static void tick(void *ctx)
{
	struct ticker *t = ctx;

	t->count++;
	t->last = clock_now(t->clock);
	if (t->period)
		timer_arm(t->clock, &t->timer, t->timer.deadline + t->period);
}

static void ticker_init(struct ticker *t, struct guest_clock *c, u64 period)
{
	*t = (struct ticker){ .clock = c, .period = period };
	timer_init(&t->timer, tick, t);
}

/* A host whose time the test sets, and which remembers the last deadline it was asked for. */
struct host {
	u64 now, deadline;
	unsigned rearms;
};

static u64 host_now(void *ctx) { return ((struct host *)ctx)->now; }

static void host_rearm(void *ctx, u64 deadline)
{
	struct host *h = ctx;

	h->deadline = deadline;
	h->rearms++;
}

static void manual_clock_fires_timers_at_their_exact_times(void **state)
{
	struct guest_clock c;
	struct ticker a, b;

	clock_init(&c);
	ticker_init(&a, &c, 30);
	ticker_init(&b, &c, 0);
	timer_arm(&c, &a.timer, 30);
	timer_arm(&c, &b.timer, 45);
	clock_advance(&c, 100);
	assert_int_equal(a.count, 3);
	assert_int_equal(a.last, 90);
	assert_int_equal(b.last, 45);
	assert_false(b.timer.armed);
	assert_int_equal(clock_now(&c), 100);
	assert_int_equal(clock_run(&c), 120);
	clock_advance(&c, 20);
	assert_int_equal(a.count, 4);
}

static void cancelled_and_replaced_timers_do_not_fire(void **state)
{
	struct guest_clock c;
	struct ticker a, b;

	clock_init(&c);
	ticker_init(&a, &c, 0);
	ticker_init(&b, &c, 0);
	timer_arm(&c, &a.timer, 10);
	timer_arm(&c, &b.timer, 10);
	timer_cancel(&c, &a.timer);
	timer_cancel(&c, &a.timer);
	timer_arm(&c, &b.timer, 50);
	clock_advance(&c, 49);
	assert_int_equal(a.count + b.count, 0);
	clock_advance(&c, 1);
	assert_int_equal(b.count, 1);
	assert_true(clock_run(&c) == ~0ull);
}

static void paused_time_does_not_pass(void **state)
{
	struct host h = { .now = 1000 };
	struct guest_clock c;
	struct ticker a;

	clock_init(&c);
	c.host_ns = host_now;
	c.rearm = host_rearm;
	c.ctx = &h;
	ticker_init(&a, &c, 0);
	timer_arm(&c, &a.timer, 100);
	assert_int_equal(h.rearms, 0);
	clock_resume(&c);
	assert_int_equal(h.deadline, 100);
	h.now += 60;
	assert_int_equal(clock_now(&c), 60);
	clock_pause(&c);
	assert_true(h.deadline == ~0ull);
	h.now += 5000;
	assert_int_equal(clock_now(&c), 60);
	clock_resume(&c);
	assert_int_equal(clock_now(&c), 60);
	assert_int_equal(clock_run(&c), 100);
	h.now += 40;
	assert_true(clock_run(&c) == ~0ull);
	assert_int_equal(a.count, 1);
}

static void rearm_reports_only_changes_of_the_earliest_deadline(void **state)
{
	struct host h = { 0 };
	struct guest_clock c;
	struct ticker a, b;

	clock_init(&c);
	c.host_ns = host_now;
	c.rearm = host_rearm;
	c.ctx = &h;
	clock_resume(&c);
	ticker_init(&a, &c, 100);
	ticker_init(&b, &c, 0);
	h.rearms = 0;
	timer_arm(&c, &a.timer, 100);
	timer_arm(&c, &b.timer, 500);
	assert_int_equal(h.rearms, 1);
	timer_cancel(&c, &b.timer);
	assert_int_equal(h.rearms, 1);
	h.now = 100;
	assert_int_equal(clock_run(&c), 200);
	assert_int_equal(h.rearms, 2);
	assert_int_equal(h.deadline, 200);
}

static void timer_that_stays_in_the_past_does_not_hold_the_caller(void **state)
{
	struct host h = { .now = 1 };
	struct guest_clock c;
	struct ticker a;

	clock_init(&c);
	c.host_ns = host_now;
	c.ctx = &h;
	clock_resume(&c);
	h.now = 1000000000;
	ticker_init(&a, &c, 1);
	timer_arm(&c, &a.timer, 1);
	assert_true(clock_run(&c) < clock_now(&c));
	assert_true(a.count > 0);
}

static void tick_conversion_does_not_drift(void **state)
{
	const u64 hz = 1193182, year = 365ull * 86400;

	assert_int_equal(clock_ticks(year * 1000000000u, hz), year * hz);
	for (u64 n = 1; n < 100000; n += 7) {
		assert_int_equal(clock_ticks(clock_ns(n, hz), hz), n);
		assert_int_equal(clock_ticks(clock_ns(n, hz) - 1, hz), n - 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manual_clock_fires_timers_at_their_exact_times),
		cmocka_unit_test(cancelled_and_replaced_timers_do_not_fire),
		cmocka_unit_test(paused_time_does_not_pass),
		cmocka_unit_test(rearm_reports_only_changes_of_the_earliest_deadline),
		cmocka_unit_test(timer_that_stays_in_the_past_does_not_hold_the_caller),
		cmocka_unit_test(tick_conversion_does_not_drift),
	};

	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
