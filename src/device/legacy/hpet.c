/*
 * High precision event timers (IA-PC HPET specification 1.0a): a 100 MHz 64-bit counter and three
 * comparators, each one-shot or periodic, 64 or 32 bits wide, edge, level or message-signalled.
 *
 * The counter is not stepped: `counter` is its value at guest time `counter_at`, from which it runs
 * while the block is enabled. A comparator's timer is armed for its next match. A periodic one adds
 * its period at each match (2.3.9.2.2), and skips those that passed while nobody could look:
 * matches are served at most every HPET_MIN_TICK, in phase, so that a period of one tick costs the
 * host no more than that.
 *
 * A match that nobody hears of, an edge with its interrupt disabled, does not wake the host: it is
 * served before the next access, or before the state is saved. Linux leaves its periodic timer so
 * when it has found the local APIC's.
 */
#include "device/legacy/hpet.h"
#include "base/bits.h"
#include "base/log.h"

/* Registers, 2.3 */

#define TICK_NS	  10u
#define PERIOD_FS 10000000ull
#define TIMERS	  3u

#define REG_CAPABILITIES 0x000
#define REG_CONFIG	 0x010
#define REG_STATUS	 0x020
#define REG_COUNTER	 0x0f0
#define REG_TIMER	 0x100 /* then every 0x20 */
#define TIMER_CONFIG	 0x00
#define TIMER_COMPARATOR 0x08
#define TIMER_FSB	 0x10

#define CONFIG_ENABLE BIT(0)
#define CONFIG_LEGACY BIT(1)

#define TN_LEVEL	BIT(1)
#define TN_INTERRUPT	BIT(2)
#define TN_PERIODIC	BIT(3)
#define TN_PERIODIC_CAP BIT(4)
#define TN_SIZE_CAP	BIT(5)
#define TN_VALUE_SET	BIT(6)
#define TN_32BIT	BIT(8)
#define TN_ROUTE(c)	bits(c, 13, 9)
#define TN_FSB		BIT(14)
#define TN_FSB_CAP	BIT(15)
#define TN_WRITABLE	0x7f4eu
#define TN_ROUTES	0x00f00000ull /* pins 20 to 23, which no other device has */
#define TN_CAPABILITIES (TN_PERIODIC_CAP | TN_SIZE_CAP | TN_FSB_CAP | TN_ROUTES << 32)

#define NEVER (~0ull)

static const u64 capabilities = HPET_ID | PERIOD_FS << 32;

/* State */

struct hpet_timer {
	struct hpet *hpet;
	struct clock_timer timer;
	u64 config; /* the guest's bits */
	u64 comparator;
	u64 period; /* last value written in periodic mode */
	u64 fsb;    /* address in the high half, data in the low */
	/* Derived, while enabled: */
	u64 match; /* the counter, all 64 bits of it, at the next match */
	u64 due;   /* guest ns at which that is served; NEVER */
};

struct hpet {
	struct device dev;
	u64 config, status;
	u64 counter, counter_at;
	struct hpet_timer timers[TIMERS];
};

/* Helpers */

static inline bool enabled(const struct hpet *h) { return h->config & CONFIG_ENABLE; }
static inline unsigned number(const struct hpet_timer *t)
{
	return (unsigned)(t - t->hpet->timers);
}

static u64 counter_now(const struct hpet *h)
{
	if (!enabled(h))
		return h->counter;
	return h->counter + (clock_now(h->dev.env.clock) - h->counter_at) / TICK_NS;
}

/* Periodic in effect: a period of 0 matches but once. */
static bool repeats(const struct hpet_timer *t) { return t->config & TN_PERIODIC && t->period; }

static u64 width_mask(const struct hpet_timer *t)
{
	return t->config & TN_32BIT ? 0xffffffff : ~0ull;
}

/* Its matches leave no trace but a periodic comparator's step. */
static bool silent(const struct hpet_timer *t) { return !(t->config & (TN_LEVEL | TN_INTERRUPT)); }

static bool routable(u64 config) { return TN_ROUTES >> TN_ROUTE(config) & 1; }

/* The output: legacy replacement overrides the route of timers 0 and 1 (2.3.5). After reset the
 * route names no pin. */
static const struct irq_line *output(const struct hpet_timer *t)
{
	static const struct irq_line unconnected;
	const struct hpet *h = t->hpet;

	if (h->config & CONFIG_LEGACY && number(t) < 2)
		return &h->dev.env.lines[number(t) ? HPET_LINE_IRQ8 : HPET_LINE_IRQ0];
	return routable(t->config) ? &h->dev.env.lines[TN_ROUTE(t->config)] : &unconnected;
}

/* A level output follows its status bit. */
static void drive(const struct hpet_timer *t)
{
	bool asserted = t->config & TN_LEVEL && t->config & TN_INTERRUPT && !(t->config & TN_FSB) &&
			enabled(t->hpet) && t->hpet->status & BIT(number(t));

	irq_set(output(t), asserted);
}

static void interrupt(struct hpet_timer *t)
{
	if (t->config & TN_LEVEL) {
		t->hpet->status |= BIT(number(t));
		drive(t);
	} else if (!(t->config & TN_INTERRUPT)) {
		return;
	} else if (t->config & TN_FSB) {
		msi_send(&t->hpet->dev.env.msi, t->fsb >> 32, (u32)t->fsb);
	} else {
		irq_pulse(output(t));
	}
}

/*
 * Arms for the next match, served at least `least` ticks from now. The counter meets a comparator
 * it equals already only after wrapping round, which in 64 bits it never does.
 */
static void arm(struct hpet_timer *t, u64 least)
{
	struct hpet *h = t->hpet;
	u64 now = counter_now(h), before = (t->comparator - now - 1) & width_mask(t);

	if (!enabled(h) || before >= BIT64(56)) {
		t->due = NEVER;
	} else {
		t->match = now + before + 1;
		/* From the counter's own zero of phase, so that rounding does not add up. */
		t->due = h->counter_at + (now - h->counter + max_u64(before + 1, least)) * TICK_NS;
	}
	if (t->due == NEVER || silent(t))
		timer_cancel(h->dev.env.clock, &t->timer);
	else
		timer_arm(h->dev.env.clock, &t->timer, t->due);
}

/* Moves a periodic comparator past the counter by whole periods. */
static void advance(struct hpet_timer *t)
{
	u64 mask = width_mask(t), period = t->period & mask;
	u64 late = counter_now(t->hpet) - t->match;

	if (period)
		t->comparator = (t->comparator + (late / period + 1) * period) & mask;
}

static void fire(void *ctx)
{
	struct hpet_timer *t = ctx;

	if (repeats(t))
		advance(t);
	arm(t, HPET_MIN_TICK);
	interrupt(t);
}

/* The host may be late, and wakes nobody for the silent. What is due has happened before the
 * guest's access that comes now. */
static void serve_due(struct hpet *h)
{
	u64 now = clock_now(h->dev.env.clock);

	for (unsigned i = 0; i < TIMERS; i++) {
		if (h->timers[i].due <= now)
			fire(&h->timers[i]);
	}
}

static void drive_all(struct hpet *h)
{
	irq_set(&h->dev.env.lines[HPET_LINE_LEGACY], h->config & CONFIG_LEGACY);
	for (unsigned i = 0; i < TIMERS; i++)
		drive(&h->timers[i]);
}

static void arm_all(struct hpet *h)
{
	for (unsigned i = 0; i < TIMERS; i++)
		arm(&h->timers[i], 0);
}

/* Reads */

static u64 read_timer(const struct hpet_timer *t, u64 offset)
{
	switch (offset) {
	case TIMER_CONFIG: return t->config | TN_CAPABILITIES;
	case TIMER_COMPARATOR: return t->comparator;
	case TIMER_FSB: return t->fsb;
	default: return 0;
	}
}

static u64 read_reg(const struct hpet *h, u64 offset)
{
	if (offset >= REG_TIMER)
		return offset < REG_TIMER + 0x20 * TIMERS
			       ? read_timer(&h->timers[(offset - REG_TIMER) / 0x20], offset % 0x20)
			       : 0;
	switch (offset) {
	case REG_CAPABILITIES: return capabilities;
	case REG_CONFIG: return h->config;
	case REG_STATUS: return h->status;
	case REG_COUNTER: return counter_now(h);
	default: return 0;
	}
}

static u64 hpet_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct hpet *h = (struct hpet *)d;

	serve_due(h);
	return (read_reg(h, offset & ~7ull) >> (offset % 8 * 8)) & mask_bytes(size);
}

/* Writes. Each gets the register's new value and which bits of it were written. */

static void write_config(struct hpet *h, u64 value)
{
	/* The old routes let go of their lines before the new ones take theirs. */
	for (unsigned i = 0; (value ^ h->config) & CONFIG_LEGACY && i < TIMERS; i++)
		irq_set(output(&h->timers[i]), false);
	h->counter = counter_now(h);
	h->counter_at = clock_now(h->dev.env.clock);
	h->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
	arm_all(h);
	drive_all(h);
}

static void write_counter(struct hpet *h, u64 value)
{
	h->counter = value;
	h->counter_at = clock_now(h->dev.env.clock);
	arm_all(h);
}

/* Writing ones clears level interrupts (2.3.6). */
static void write_status(struct hpet *h, u64 value)
{
	h->status &= ~value;
	drive_all(h);
}

static void write_timer_config(struct hpet_timer *t, u64 value)
{
	irq_set(output(t), false);
	t->config = value & TN_WRITABLE;
	if (!routable(t->config)) /* reads back as it was not written, 2.3.8 */
		t->config &= ~(0x1full << 9);
	if (t->config & TN_32BIT) {
		t->comparator &= 0xffffffff;
		t->period &= 0xffffffff;
	}
	if (!(t->config & TN_LEVEL))
		t->hpet->status &= ~(u64)BIT(number(t));
	arm(t, 0);
	drive(t);
}

/*
 * 2.3.9.2.2: in periodic mode a write sets the period, and, once after VALUE_SET was written, the
 * comparator too.
 */
static void write_comparator(struct hpet_timer *t, u64 value, u64 written)
{
	u64 kept = ~written;

	if (!(t->config & TN_PERIODIC) || t->config & TN_VALUE_SET)
		t->comparator = ((t->comparator & kept) | (value & written)) & width_mask(t);
	if (t->config & TN_PERIODIC)
		t->period = ((t->period & kept) | (value & written)) & width_mask(t);
	t->config &= ~(u64)TN_VALUE_SET;
	arm(t, 0);
}

static void write_timer(struct hpet_timer *t, u64 offset, u64 value, u64 written)
{
	switch (offset) {
	case TIMER_CONFIG: write_timer_config(t, value); break;
	case TIMER_COMPARATOR: write_comparator(t, value, written); break;
	case TIMER_FSB: t->fsb = value; break;
	default: break;
	}
}

static void hpet_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct hpet *h = (struct hpet *)d;
	u64 reg = offset & ~7ull, shift = offset % 8 * 8;

	if (size < 4 || offset % size) {
		guest_err(d->name, "%u-byte write at 0x%llx", size, (unsigned long long)offset);
		return;
	}
	serve_due(h);
	u64 written = mask_bytes(size) << shift;
	u64 merged = (read_reg(h, reg) & ~written) | (value << shift & written);

	if (reg >= REG_TIMER && reg < REG_TIMER + 0x20 * TIMERS)
		write_timer(&h->timers[(reg - REG_TIMER) / 0x20], reg % 0x20, merged, written);
	else if (reg == REG_CONFIG)
		write_config(h, merged);
	else if (reg == REG_STATUS)
		write_status(h, merged & written);
	else if (reg == REG_COUNTER)
		write_counter(h, merged);
}

/* Reset */

static void hpet_reset(struct device *d)
{
	struct hpet *h = (struct hpet *)d;

	h->config = h->status = h->counter = 0;
	h->counter_at = clock_now(d->env.clock);
	for (unsigned i = 0; i < TIMERS; i++) {
		struct hpet_timer *t = &h->timers[i];

		t->config = t->period = t->fsb = 0;
		t->comparator = ~0ull;
	}
	arm_all(h);
	drive_all(h);
}

/* Init */

static int hpet_init(struct device *d, struct err *err)
{
	struct hpet *h = (struct hpet *)d;

	for (unsigned i = 0; i < TIMERS; i++) {
		h->timers[i].hpet = h;
		timer_init(&h->timers[i].timer, fire, &h->timers[i]);
	}
	return 0;
}

static void hpet_fini(struct device *d)
{
	struct hpet *h = (struct hpet *)d;

	for (unsigned i = 0; i < TIMERS; i++)
		timer_cancel(d->env.clock, &h->timers[i].timer);
}

static void hpet_saving(struct device *d) { serve_due((struct hpet *)d); }

static void hpet_loaded(struct device *d)
{
	arm_all((struct hpet *)d);
	drive_all((struct hpet *)d);
}

/* Tables */

static const struct field timer_state[] = {
	FIELD(struct hpet_timer, config),
	FIELD(struct hpet_timer, comparator),
	FIELD(struct hpet_timer, period),
	FIELD(struct hpet_timer, fsb),
	FIELD_END,
};

static const struct field hpet_state[] = {
	FIELD(struct hpet, config),
	FIELD(struct hpet, status),
	FIELD(struct hpet, counter),
	FIELD(struct hpet, counter_at),
	FIELD_SUB(struct hpet, timers, struct hpet_timer, timer_state),
	FIELD_END,
};

const struct device_class hpet_class = {
	.name = "hpet",
	.doc = "high precision event timers, three at 100 MHz",
	.size = sizeof(struct hpet),
	.init = hpet_init,
	.reset = hpet_reset,
	.fini = hpet_fini,
	.read = hpet_read,
	.write = hpet_write,
	.saving = hpet_saving,
	.loaded = hpet_loaded,
	.windows = { { BUS_MMIO, HPET_BASE, HPET_SIZE } },
	.state = hpet_state,
};
