/*
 * One counter of an 8254 (Intel 231164, "Mode Definitions" and "Operation Common to All Modes").
 *
 * A count written takes effect on the next CLK, so `start` is the tick after the write. From
 * there e = now - start ticks have been counted, and with N the count:
 *
 *	mode 0	OUT low until e = N			counts on through zero
 *	mode 1	OUT low from the trigger until e = N	counts on through zero
 *	mode 2	OUT low while e mod N = N-1		reloads each N
 *	mode 3	OUT high in the first (N+1)/2 of each N	counts by two, reloads each half
 *	mode 4	OUT low while e = N			counts on through zero
 *	mode 5	as 4, started by the trigger
 *
 * A count written in mode 2 waits for the end of the cycle, in mode 3 for that of the half-cycle;
 * counter_settle() makes that switch when its time has passed.
 */
#include "device/legacy/i8254_counter.h"

#define CONTROL_BCD BIT(0)

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

static unsigned mode_of(const struct counter *c)
{
	unsigned mode = c->control >> 1 & 7;

	return mode > 5 ? mode & 3 : mode; /* 6 and 7 are 2 and 3 */
}

static enum access access_of(const struct counter *c) { return c->control >> 4 & 3; }
static bool is_triggered(const struct counter *c) { return mode_of(c) == 1 || mode_of(c) == 5; }

bool counter_is_periodic(const struct counter *c) { return mode_of(c) == 2 || mode_of(c) == 3; }

/* A register's content as a number of ticks; never 0. */
static u32 ticks_of(const struct counter *c, u16 raw)
{
	if (!(c->control & CONTROL_BCD))
		return raw ? raw : 0x10000;
	if (!raw)
		return 10000;
	return (raw >> 12) * 1000u + (raw >> 8 & 15) * 100u + (raw >> 4 & 15) * 10u + (raw & 15);
}

static u16 raw_of(const struct counter *c, u64 ticks)
{
	unsigned v;

	if (!(c->control & CONTROL_BCD))
		return (u16)ticks;
	v = (unsigned)(ticks % 10000);
	return (u16)(v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10);
}

static u32 high_half(u32 n) { return (n + 1) / 2; }

static bool is_loaded(const struct counter *c, u64 now) { return (s64)(now - c->start) >= 0; }

static u64 elapsed(const struct counter *c, u64 now)
{
	if (c->run == COUNTER_HELD)
		return c->held;
	return is_loaded(c, now) ? now - c->start : 0;
}

bool counter_out(const struct counter *c, u64 now)
{
	u32 n = ticks_of(c, c->count);
	u64 e = elapsed(c, now);

	if (c->run == COUNTER_IDLE)
		return mode_of(c) != 0;
	if (c->run == COUNTER_COUNTING && !is_loaded(c, now))
		return c->out_before;
	switch (mode_of(c)) {
	case 0:
	case 1: return e >= n;
	case 2: return c->run == COUNTER_HELD || n == 1 || e % n != n - 1;
	case 3: return c->run == COUNTER_HELD || e % n < high_half(n);
	default: return e != n;
	}
}

static u64 value(const struct counter *c, u64 now)
{
	u32 n = ticks_of(c, c->count);
	u64 e = elapsed(c, now);
	u64 wrap = c->control & CONTROL_BCD ? 10000 : 0x10000;

	switch (mode_of(c)) {
	case 2: return n - e % n;
	case 3:
		e %= n;
		if (e >= high_half(n))
			e -= high_half(n);
		return (n & ~1u) - 2 * e;
	default: return n + wrap - e % wrap;
	}
}

/* Where a pending switch begins a low half of mode 3 rather than a cycle. */
static bool switches_mid_cycle(const struct counter *c)
{
	return c->switching && (c->switch_at - c->start) % ticks_of(c, c->count) != 0;
}

u64 counter_rise(const struct counter *c, u64 now)
{
	u32 n = ticks_of(c, c->count);
	u64 e = elapsed(c, now);

	if (c->run != COUNTER_COUNTING)
		return ~0ull;
	switch (mode_of(c)) {
	case 0:
	case 1: return e < n ? c->start + n : ~0ull;
	case 2:
	case 3:
		if (switches_mid_cycle(c))
			return c->switch_at + ticks_of(c, c->reload) / 2;
		return c->start + (e / n + 1) * n;
	default: return e <= n ? c->start + n + 1 : ~0ull;
	}
}

void counter_settle(struct counter *c, u64 now)
{
	bool mid_cycle;

	if (!c->switching || now < c->switch_at)
		return;
	mid_cycle = switches_mid_cycle(c);
	c->count = c->reload;
	c->start = c->switch_at;
	/* A switch after mode 3's high half begins a low one. */
	if (mid_cycle)
		c->start -= high_half(ticks_of(c, c->count));
	c->switching = false;
}

/* The counting element takes the count register on the next CLK. */
static void load(struct counter *c, u64 now, bool out_before)
{
	c->out_before = out_before;
	c->count = c->reload;
	c->start = now + 1;
	c->held = 0;
	c->run = c->gate || is_triggered(c) ? COUNTER_COUNTING : COUNTER_HELD;
	c->switching = c->waiting = false;
}

/* ---- GATE ---- */

static void gate_rose(struct counter *c, u64 now)
{
	if (is_triggered(c) && (c->waiting || c->run == COUNTER_COUNTING)) {
		load(c, now, counter_out(c, now));
	} else if (c->run == COUNTER_HELD && counter_is_periodic(c)) {
		load(c, now, true);
	} else if (c->run == COUNTER_HELD) {
		c->start = now - c->held;
		c->run = COUNTER_COUNTING;
	}
}

static void gate_fell(struct counter *c, u64 now)
{
	if (is_triggered(c) || c->run != COUNTER_COUNTING)
		return;
	c->held = elapsed(c, now);
	c->run = COUNTER_HELD;
	c->switching = false;
}

void counter_set_gate(struct counter *c, bool gate, u64 now)
{
	if (gate == c->gate)
		return;
	c->gate = gate;
	if (gate)
		gate_rose(c, now);
	else
		gate_fell(c, now);
}

/* ---- writes ---- */

void counter_control(struct counter *c, u8 word, u64 now)
{
	if ((word >> 4 & 3) == ACCESS_LATCH) {
		counter_latch_count(c, now);
		return;
	}
	c->control = word & 0x3f;
	c->run = COUNTER_IDLE;
	c->latched = 0;
	c->status_latched = c->write_high = c->read_high = false;
	c->switching = c->waiting = false;
}

static void switch_later(struct counter *c, u64 now)
{
	u32 n = ticks_of(c, c->count);
	u64 e = elapsed(c, now);
	u64 cycle = c->start + e / n * n;

	if (mode_of(c) == 3 && e % n < high_half(n) && n > 1)
		c->switch_at = cycle + high_half(n);
	else
		c->switch_at = cycle + n;
	c->switching = true;
}

static void count_written(struct counter *c, u16 raw, u64 now)
{
	c->reload = raw;
	if (is_triggered(c))
		c->waiting = true;
	else if (counter_is_periodic(c) && c->run == COUNTER_COUNTING)
		switch_later(c, now);
	else
		load(c, now, mode_of(c) != 0);
}

void counter_write(struct counter *c, u8 v, u64 now)
{
	switch (access_of(c)) {
	case ACCESS_LATCH: return; /* no control word yet */
	case ACCESS_LOW: count_written(c, v, now); return;
	case ACCESS_HIGH: count_written(c, (u16)(v << 8), now); return;
	case ACCESS_BOTH: break;
	}
	c->write_high = !c->write_high;
	if (!c->write_high) {
		count_written(c, (u16)(v << 8 | c->low), now);
		return;
	}
	c->low = v;
	/* Mode 0: the first byte stops the count and takes OUT low. */
	if (mode_of(c) == 0)
		c->run = COUNTER_IDLE;
}

/* ---- reads ---- */

void counter_latch_count(struct counter *c, u64 now)
{
	if (c->latched)
		return;
	c->latch = raw_of(c, value(c, now));
	c->latched = access_of(c) == ACCESS_BOTH ? 2 : 1;
}

void counter_latch_status(struct counter *c, u64 now)
{
	bool null = c->run == COUNTER_IDLE || c->waiting || c->switching ||
		    (c->run == COUNTER_COUNTING && !is_loaded(c, now));

	if (c->status_latched)
		return;
	c->status = (u8)(counter_out(c, now) << 7 | null << 6 | c->control);
	c->status_latched = true;
}

u8 counter_read(struct counter *c, u64 now)
{
	u16 v = c->latched ? c->latch : raw_of(c, value(c, now));
	bool high = access_of(c) == ACCESS_HIGH || (access_of(c) == ACCESS_BOTH && c->read_high);

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	if (access_of(c) == ACCESS_BOTH)
		c->read_high = !c->read_high;
	if (c->latched)
		c->latched--;
	return (u8)(high ? v >> 8 : v);
}

const struct field counter_state[] = {
	FIELD(struct counter, start),
	FIELD(struct counter, held),
	FIELD(struct counter, switch_at),
	FIELD(struct counter, reload),
	FIELD(struct counter, count),
	FIELD(struct counter, latch),
	FIELD_MAX(struct counter, control, 0x3f),
	FIELD_MAX(struct counter, run, COUNTER_HELD),
	FIELD_MAX(struct counter, latched, 2),
	FIELD(struct counter, status),
	FIELD(struct counter, low),
	FIELD(struct counter, gate),
	FIELD(struct counter, switching),
	FIELD(struct counter, waiting),
	FIELD(struct counter, out_before),
	FIELD(struct counter, status_latched),
	FIELD(struct counter, write_high),
	FIELD(struct counter, read_high),
	FIELD_END,
};
