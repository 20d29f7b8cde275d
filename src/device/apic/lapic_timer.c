/*
 * The local APIC's timer (SDM 3A 10.5.4): one-shot, periodic, TSC-deadline.
 *
 * The counter is never stepped. What is kept is the guest time at which it is next zero
 * (zero_at), from which any count follows: the input clock is 1 GHz, so a count lasts
 * `count * divisor` nanoseconds. In periodic mode the count is taken modulo the period, so it is
 * right however late the host calls.
 *
 * A guest may ask for a period of a nanosecond. Interrupts are then delivered at most every
 * FIRE_INTERVAL_MIN, in phase with the true period, and periods that passed unserved are dropped,
 * as the IRR would have merged them anyway.
 */
#include "base/bits.h"
#include "device/apic/lapic_priv.h"

#define FIRE_INTERVAL_MIN 50000u       /* ns */
#define DEADLINE_MAX	  (1ull << 62) /* ns ahead: a century; keeps sums in range */
#define DEADLINE_RETRY	  1000u	       /* ns, when guest TSC and guest clock disagree */

static inline u64 now_ns(const struct lapic *l) { return clock_now(l->dev.env.clock); }
static inline u32 timer_mode(const struct lapic *l) { return l->lvt[LVT_TIMER] & LVT_TIMER_MODE; }

/* Divide configuration, figure 10-10: bits 3, 1 and 0 are log2(divisor) - 1, with 7 for 1. */
static u64 divisor(const struct lapic *l)
{
	u32 code = (l->divide & 3) | (l->divide >> 1 & 4);

	return BIT64((code + 1) & 7);
}

static u64 period_ns(const struct lapic *l) { return l->initial_count * divisor(l); }

/* Nanoseconds until the counter's next zero; 0 when it has stopped there. */
static u64 time_left(const struct lapic *l)
{
	u64 now = now_ns(l), period = period_ns(l);

	if (!l->zero_at)
		return 0;
	if (timer_mode(l) != TIMER_PERIODIC || !period)
		return l->zero_at > now ? l->zero_at - now : 0;
	/* zero_at may be some periods ahead (FIRE_INTERVAL_MIN) or behind (the host is late). */
	if (l->zero_at > now)
		return (l->zero_at - now - 1) % period + 1;
	return period - (now - l->zero_at) % period;
}

static void start(struct lapic *l, u64 ns)
{
	l->zero_at = now_ns(l) + ns;
	timer_arm(l->dev.env.clock, &l->timer, l->zero_at);
}

void lapic_timer_stop(struct lapic *l)
{
	l->zero_at = 0;
	l->tsc_deadline = 0;
	timer_cancel(l->dev.env.clock, &l->timer);
}

static void arm_deadline(struct lapic *l, u64 least_ns)
{
	u64 tsc = l->wiring.guest_tsc(l->wiring.ctx);
	u64 ticks = l->tsc_deadline > tsc ? l->tsc_deadline - tsc : 0;
	u128 ns = ((u128)ticks * 1000000000u + l->wiring.tsc_hz - 1) / l->wiring.tsc_hz;

	ns = ns < DEADLINE_MAX ? ns : DEADLINE_MAX;
	timer_arm(l->dev.env.clock, &l->timer, now_ns(l) + max_u64((u64)ns, least_ns));
}

static void fire_deadline(struct lapic *l)
{
	if (l->wiring.guest_tsc(l->wiring.ctx) < l->tsc_deadline) {
		arm_deadline(l, DEADLINE_RETRY);
		return;
	}
	l->tsc_deadline = 0;
	lapic_raise_lvt(l, LVT_TIMER);
}

static void fire_periodic(struct lapic *l)
{
	u64 period = period_ns(l);
	u64 earliest = now_ns(l) + FIRE_INTERVAL_MIN;
	u64 next = l->zero_at + period;

	if (next < earliest)
		next += (earliest - next + period - 1) / period * period;
	l->zero_at = next;
	timer_arm(l->dev.env.clock, &l->timer, next);
}

static void fire(void *ctx)
{
	struct lapic *l = ctx;

	if (l->tsc_deadline) {
		fire_deadline(l);
		return;
	}
	if (timer_mode(l) == TIMER_PERIODIC && l->initial_count)
		fire_periodic(l);
	else
		l->zero_at = 0;
	lapic_raise_lvt(l, LVT_TIMER);
}

void lapic_timer_leave(struct lapic *l) { timer_cancel(l->dev.env.clock, &l->timer); }

void lapic_timer_take_count(struct lapic *l, u32 count)
{
	l->zero_at = count ? now_ns(l) + count * divisor(l) : 0;
}

void lapic_timer_init(struct lapic *l) { timer_init(&l->timer, fire, l); }

void lapic_timer_restore(struct lapic *l)
{
	timer_cancel(l->dev.env.clock, &l->timer);
	if (!l->wiring.tsc_hz)
		l->tsc_deadline = 0;
	if (l->tsc_deadline)
		arm_deadline(l, 0);
	else if (l->zero_at)
		timer_arm(l->dev.env.clock, &l->timer, l->zero_at);
}

/* Registers */

u32 lapic_timer_count(const struct lapic *l)
{
	u64 div = divisor(l);

	return (u32)((time_left(l) + div - 1) / div);
}

void lapic_timer_set_count(struct lapic *l, u32 count)
{
	if (timer_mode(l) == TIMER_TSC_DEADLINE)
		return; /* ignored, 10.5.4.1 */
	lapic_timer_stop(l);
	l->initial_count = count;
	if (count)
		start(l, period_ns(l));
}

/* A running counter goes on from its present value at the new rate. */
void lapic_timer_set_divide(struct lapic *l, u32 value)
{
	u64 count = lapic_timer_count(l);
	bool running = l->zero_at;

	l->divide = value;
	if (running)
		start(l, count * divisor(l));
}

/* Entering or leaving TSC-deadline mode disarms; the others may change while counting. */
void lapic_timer_mode_changed(struct lapic *l, u32 old_lvt)
{
	u32 changed = (old_lvt ^ l->lvt[LVT_TIMER]) & LVT_TIMER_MODE;

	if (changed & TIMER_TSC_DEADLINE) {
		lapic_timer_stop(l);
		l->initial_count = 0;
	}
}

void lapic_timer_set_deadline(struct lapic *l, u64 tsc)
{
	if (timer_mode(l) != TIMER_TSC_DEADLINE)
		return;
	lapic_timer_stop(l);
	l->tsc_deadline = tsc;
	if (!tsc)
		return;
	if (l->wiring.guest_tsc(l->wiring.ctx) >= tsc)
		fire_deadline(l);
	else
		arm_deadline(l, 0);
}

void lapic_tsc_changed(struct lapic *l)
{
	if (l->tsc_deadline)
		arm_deadline(l, 0);
}
