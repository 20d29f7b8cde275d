/*
 * The guest clock: nanoseconds since the machine was powered on, not counting pauses, and timers on
 * it. The machine drives it (a timerfd and the host's monotonic clock); a unit test drives it by
 * hand. Devices arm timers and are called back with the machine's lock held.
 */
#pragma once
#include "base/types.h"

struct clock_timer {
	void (*fire)(void *ctx);
	void *ctx;
	u64 deadline; /* guest ns; meaningful while armed */
	bool armed;
	struct clock_timer *next; /* the clock's list, sorted by deadline */
};

struct guest_clock {
	u64 (*host_ns)(void *ctx);		/* monotonic; NULL: manual clock */
	void (*rearm)(void *ctx, u64 deadline); /* the earliest deadline changed; ~0 for none */
	void *ctx;
	u64 base;      /* guest ns = host_ns() - base while running */
	u64 frozen_at; /* guest ns while paused or manual */
	bool running;
	bool firing; /* inside clock_run(): rearm() is called once, at its end */
	struct clock_timer *timers;
};

void clock_init(struct guest_clock *c);
u64 clock_now(const struct guest_clock *c);
void clock_resume(struct guest_clock *c);
void clock_pause(struct guest_clock *c);

void timer_init(struct clock_timer *t, void (*fire)(void *), void *ctx);
void timer_arm(struct guest_clock *c, struct clock_timer *t, u64 deadline); /* guest ns; replaces */
void timer_cancel(struct guest_clock *c, struct clock_timer *t);
/* Fires everything due, in deadline order; returns the next deadline or ~0. */
u64 clock_run(struct guest_clock *c);
/* Manual clock: moves time forward, firing timers at their exact times. A timer that always re-arms
 * itself at or before now would never let it return. */
void clock_advance(struct guest_clock *c, u64 ns);

/* ticks of a hz oscillator elapsed in ns, without overflow for 500 years of any hz < 2^33. */
static inline u64 clock_ticks(u64 ns, u64 hz) { return (u64)((u128)ns * hz / 1000000000u); }
/* The smallest ns at which `ticks` ticks of hz have elapsed. */
static inline u64 clock_ns(u64 ticks, u64 hz)
{
	return (u64)(((u128)ticks * 1000000000u + hz - 1) / hz);
}
