/*
 * 8254 programmable interval timer (Intel 231164) at 0x40-0x43, and the PC's system control port
 * 0x61, which holds counter 2's gate and shows its output. The counters are i8254_counter.c.
 *
 * Counter 0's OUT is lines[0] (IRQ0). A timer on the guest clock stands at OUT's next rising edge;
 * edges are multiples of the period in oscillator ticks since the count was loaded, so no error
 * accumulates. Only rising edges are timed: the line's falling edge is given together with the
 * next rising one, which an edge-triggered input cannot tell.
 *
 * A guest may ask for a million interrupts a second. In the periodic modes two interrupts are never
 * closer than PIT_MIN_NS; edges in between, and those missed while the host was late, merge
 * into one, and the next stays in phase.
 */
#include "base/bits.h"
#include "device/legacy/i8254_counter.h"
#include "device/legacy/legacy.h"
#include <errno.h>

/* No edge is further away than the largest count; a damaged state may say so. */
#define EDGE_MAX_TICKS 0x10002u

enum { WINDOW_COUNTERS, WINDOW_CONTROL };

#define PIT_HZ	      1193182u
#define PIT_MIN_NS    50000u
#define PIT_COUNTERS  3u
#define PIT_CONTROL   3u /* offset of the control word */
#define REFRESH_TICKS 18u

/* Read-back command (control word bits 7-6 = 11); the latches are active low. */
#define READBACK_NO_STATUS BIT(4)
#define READBACK_NO_COUNT  BIT(5)

/* Port 0x61. Bits 2 and 3 disable the parity and channel checks, which never fail here. */
#define SYS_GATE2   BIT(0)
#define SYS_REFRESH BIT(4)
#define SYS_OUT2    BIT(5)
#define SYS_STORED  0x0fu

struct pit {
	struct device dev;
	struct clock_timer timer;
	struct counter counters[PIT_COUNTERS];
	u64 edge;     /* tick of counter 0's next event; ~0: none */
	u64 last_irq; /* guest ns of the last periodic interrupt */
	u8 system;    /* port 0x61, the bits a guest writes */
};

static struct pit *pit_of(struct device *d) { return container_of(d, struct pit, dev); }

static u64 ticks_now(const struct pit *p)
{
	return clock_ticks(clock_now(p->dev.env.clock), PIT_HZ);
}

static void arm(struct pit *p, u64 now)
{
	u64 at;

	if (p->edge > now && p->edge - now > EDGE_MAX_TICKS) {
		timer_cancel(p->dev.env.clock, &p->timer);
		return;
	}
	at = clock_ns(p->edge, PIT_HZ);
	if (counter_is_periodic(&p->counters[0]))
		at = max_u64(at, p->last_irq + PIT_MIN_NS);
	timer_arm(p->dev.env.clock, &p->timer, at);
}

/* Delivers counter 0's edge if its time has come; called before anything changes the counter. */
static void catch_up(struct pit *p, u64 now)
{
	if (now >= p->edge) {
		irq_set(&p->dev.env.lines[0], false);
		irq_set(&p->dev.env.lines[0], true);
		p->last_irq = clock_now(p->dev.env.clock);
	}
	for (unsigned i = 0; i < PIT_COUNTERS; i++)
		counter_settle(&p->counters[i], now);
}

/* Finds the next edge and drives the line; called after anything has changed. */
static void plan(struct pit *p, u64 now)
{
	p->edge = counter_rise(&p->counters[0], now);
	irq_set(&p->dev.env.lines[0], counter_out(&p->counters[0], now));
	arm(p, now);
}

static void pit_fire(void *ctx)
{
	struct pit *p = ctx;
	u64 now = ticks_now(p);

	catch_up(p, now);
	plan(p, now);
}

/* ---- reads ---- */

static u8 read_system(const struct pit *p, u64 now)
{
	u8 v = p->system;

	if (now / REFRESH_TICKS & 1)
		v |= SYS_REFRESH;
	if (counter_out(&p->counters[2], now))
		v |= SYS_OUT2;
	return v;
}

static u64 pit_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct pit *p = pit_of(d);
	u64 now = ticks_now(p);

	for (unsigned i = 0; i < PIT_COUNTERS; i++)
		counter_settle(&p->counters[i], now);
	if (window == WINDOW_CONTROL)
		return read_system(p, now);
	if (offset == PIT_CONTROL)
		return 0xff; /* write-only */
	return counter_read(&p->counters[offset], now);
}

/* ---- writes ---- */

static void read_back(struct pit *p, u8 v, u64 now)
{
	for (unsigned i = 0; i < PIT_COUNTERS; i++) {
		if (!(v & BIT(i + 1)))
			continue;
		if (!(v & READBACK_NO_COUNT))
			counter_latch_count(&p->counters[i], now);
		if (!(v & READBACK_NO_STATUS))
			counter_latch_status(&p->counters[i], now);
	}
}

static void write_control(struct pit *p, u8 v, u64 now)
{
	if (v >> 6 == PIT_COUNTERS)
		read_back(p, v, now);
	else
		counter_control(&p->counters[v >> 6], v, now);
}

static void write_system(struct pit *p, u8 v, u64 now)
{
	p->system = v & SYS_STORED;
	counter_set_gate(&p->counters[2], v & SYS_GATE2, now);
}

static void pit_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct pit *p = pit_of(d);
	u64 now = ticks_now(p);

	catch_up(p, now);
	if (window == WINDOW_CONTROL)
		write_system(p, (u8)value, now);
	else if (offset == PIT_CONTROL)
		write_control(p, (u8)value, now);
	else
		counter_write(&p->counters[offset], (u8)value, now);
	plan(p, now);
}

/* ---- reset, init, tables ---- */

/* Power-on is undefined; what firmware leaves is not promised to guests started without one. */
static void pit_reset(struct device *d)
{
	struct pit *p = pit_of(d);

	for (unsigned i = 0; i < PIT_COUNTERS; i++)
		p->counters[i] = (struct counter){ .gate = i != 2 };
	p->system = 0;
	p->last_irq = 0;
	plan(p, ticks_now(p));
}

static void pit_loaded(struct device *d)
{
	struct pit *p = pit_of(d);
	u64 now = ticks_now(p);

	p->last_irq = min_u64(p->last_irq, clock_now(d->env.clock));
	irq_set(&d->env.lines[0], counter_out(&p->counters[0], now));
	arm(p, now);
}

static int pit_init(struct device *d, struct err *err)
{
	struct pit *p = pit_of(d);

	if (!d->env.clock)
		return err_set(err, -EINVAL, "no clock");
	timer_init(&p->timer, pit_fire, p);
	return 0;
}

static void pit_fini(struct device *d) { timer_cancel(d->env.clock, &pit_of(d)->timer); }

static const struct field pit_state[] = {
	FIELD_SUB(struct pit, counters, struct counter, counter_state),
	FIELD(struct pit, edge),
	FIELD(struct pit, last_irq),
	FIELD_MAX(struct pit, system, SYS_STORED),
	FIELD_END,
};

const struct device_class pit_class = {
	.name = "pit",
	.doc = "8254 interval timer and system control port",
	.size = sizeof(struct pit),
	.width = 1,
	.init = pit_init,
	.reset = pit_reset,
	.fini = pit_fini,
	.read = pit_read,
	.write = pit_write,
	.loaded = pit_loaded,
	.windows = { { BUS_PORT, 0x40, 4 }, { BUS_PORT, 0x61, 1 } },
	.state = pit_state,
};
