/*
 * MC146818A real-time clock with 128 bytes of CMOS memory (Motorola MC146818A/D), at 0x70-0x71 as
 * in a PC: index with the NMI mask in bit 7, then data. The century is in byte 0x32, and the
 * memory sizes that firmware leaves for boot code are filled in from the properties.
 *
 * Time is computed, not ticked. `chain` is the guest time at which the divider chain started;
 * whole seconds since then are updates of the time registers, and 32768ths of a second are what
 * the periodic rate is divided from. settle() brings registers and flags from the time they were
 * last looked at (`seen`) up to now, and is called before every access. The time registers keep
 * what the guest wrote, in the format it chose; they are decoded only to be advanced.
 *
 * Register C's flags are set whether or not their interrupts are enabled. A timer is armed only for
 * a flag that is enabled and clear, so that a guest that does not acknowledge costs nothing.
 *
 * lines[0] is IRQ8: high while an enabled flag is set.
 */
#include "base/bits.h"
#include "device/legacy/legacy.h"
#include "device/legacy/mc146818_calendar.h"
#include <errno.h>

#define RTC_INDEX_NMI BIT(7)
#define RTC_RAM_SIZE  128u

enum {
	RTC_SECONDS,
	RTC_SECONDS_ALARM,
	RTC_MINUTES,
	RTC_MINUTES_ALARM,
	RTC_HOURS,
	RTC_HOURS_ALARM,
	RTC_WEEKDAY,
	RTC_DAY,
	RTC_MONTH,
	RTC_YEAR,
	RTC_A,
	RTC_B,
	RTC_C,
	RTC_D,
	RTC_EQUIPMENT = 0x14,
	RTC_BASE_KIB = 0x15,	   /* below 640 KiB */
	RTC_EXTENDED_KIB = 0x17,   /* from 1 MiB, at most 0xffff */
	RTC_EXTENDED_KIB_2 = 0x30, /* the same, as found by the power-on test */
	RTC_CENTURY = 0x32,
	RTC_ABOVE_16M_64K = 0x34, /* from 16 MiB, in 64 KiB units */
	RTC_ABOVE_4G_64K = 0x5b,  /* three bytes */
};

#define A_RATE	   0x0fu
#define A_DIVIDER  0x70u
#define A_HELD	   0x60u /* both upper divider bits: chain held in reset */
#define A_UIP	   BIT(7)
#define A_POWER_ON 0x26u /* 32768 Hz, 1024 Hz */
#define B_24H	   BIT(1)
#define B_BINARY   BIT(2)
#define B_SQWE	   BIT(3)
#define B_UIE	   BIT(4)
#define B_AIE	   BIT(5)
#define B_PIE	   BIT(6)
#define B_SET	   BIT(7)
/* The flags stand where their enables are in B. */
#define C_UF   BIT(4)
#define C_AF   BIT(5)
#define C_PF   BIT(6)
#define C_IRQF BIT(7)
#define D_VRT  BIT(7)

#define HOUR_PM	  BIT(7)
#define ALARM_ANY 0xc0u
#define EQUIPMENT (BIT(1) | BIT(2)) /* FPU, pointing device */

#define SECOND_NS  1000000000ull
#define CHAIN_HZ   32768u
#define DAY	   86400u
#define UPDATE_NS  (244000u + 1984000u) /* UIP leads the update, which takes this long (table 6) */
#define RELEASE_NS (SECOND_NS / 2)	/* first update after the chain is released */
#define YEAR_2000  946684800ull		/* when nobody says what time it is */

struct rtc {
	struct device dev;
	struct clock_timer timer;
	u64 ram_below_4g, ram_above_4g; /* properties */
	u64 chain, seen;
	u8 ram[RTC_RAM_SIZE];
	u8 index;
	bool nmi_masked;
};

static struct rtc *rtc_of(struct device *d) { return container_of(d, struct rtc, dev); }

/* ---- the register format ---- */

static u8 encode(const struct rtc *r, unsigned v)
{
	return (u8)(r->ram[RTC_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, u8 v)
{
	return r->ram[RTC_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15);
}

static u8 encode_hour(const struct rtc *r, unsigned hour)
{
	if (r->ram[RTC_B] & B_24H)
		return encode(r, hour);
	return encode(r, hour % 12 ? hour % 12 : 12) | (u8)(hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc *r, u8 v)
{
	if (r->ram[RTC_B] & B_24H)
		return decode(r, v);
	return decode(r, v & (u8)~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static u32 time_of_day(const struct rtc *r)
{
	return decode_hour(r, r->ram[RTC_HOURS]) * 3600 + decode(r, r->ram[RTC_MINUTES]) * 60 +
	       decode(r, r->ram[RTC_SECONDS]);
}

static u32 days(const struct rtc *r)
{
	return rtc_days((struct rtc_date){
		decode(r, r->ram[RTC_CENTURY]) * 100 + decode(r, r->ram[RTC_YEAR]),
		decode(r, r->ram[RTC_MONTH]), decode(r, r->ram[RTC_DAY]) });
}

static void set_time(struct rtc *r, u32 day, u32 second)
{
	struct rtc_date date = rtc_date(day);

	r->ram[RTC_SECONDS] = encode(r, second % 60);
	r->ram[RTC_MINUTES] = encode(r, second / 60 % 60);
	r->ram[RTC_HOURS] = encode_hour(r, second / 3600);
	r->ram[RTC_DAY] = encode(r, date.day);
	r->ram[RTC_MONTH] = encode(r, date.month);
	r->ram[RTC_YEAR] = encode(r, date.year % 100);
	r->ram[RTC_CENTURY] = encode(r, date.year / 100 % 100);
}

/* The weekday is a counter of its own, which the guest may have set to anything. */
static void advance(struct rtc *r, u64 seconds)
{
	u32 was = days(r);
	u64 total = time_of_day(r) + seconds;
	u32 now = was + (u32)(total / DAY);
	unsigned weekday = decode(r, r->ram[RTC_WEEKDAY]) + 6;

	set_time(r, now, (u32)(total % DAY));
	r->ram[RTC_WEEKDAY] = encode(r, (weekday + now - was) % 7 + 1);
}

/* ---- alarm ---- */

static bool alarm_matches(u8 alarm, u8 value)
{
	return (alarm & ALARM_ANY) == ALARM_ANY || alarm == value;
}

/* Some second, minute and hour must match; a guest may have written what never comes. */
static bool alarm_is_possible(const struct rtc *r)
{
	bool second = false, minute = false, hour = false;

	for (unsigned v = 0; v < 60; v++) {
		second |= alarm_matches(r->ram[RTC_SECONDS_ALARM], encode(r, v));
		minute |= alarm_matches(r->ram[RTC_MINUTES_ALARM], encode(r, v));
		hour |= v < 24 && alarm_matches(r->ram[RTC_HOURS_ALARM], encode_hour(r, v));
	}
	return second && minute && hour;
}

/* Seconds until the alarm matches next, 1 to 86400; 0 for never. */
static u32 alarm_in(const struct rtc *r)
{
	u32 from = time_of_day(r);
	u32 t = from + 1;

	if (!alarm_is_possible(r))
		return 0;
	for (;;) {
		if (!alarm_matches(r->ram[RTC_HOURS_ALARM], encode_hour(r, t / 3600 % 24)))
			t = (t / 3600 + 1) * 3600;
		else if (!alarm_matches(r->ram[RTC_MINUTES_ALARM], encode(r, t / 60 % 60)))
			t = (t / 60 + 1) * 60;
		else if (!alarm_matches(r->ram[RTC_SECONDS_ALARM], encode(r, t % 60)))
			t++;
		else
			return t - from;
	}
}

/* ---- time ---- */

static bool is_held(const struct rtc *r) { return (r->ram[RTC_A] & A_HELD) == A_HELD; }

/* Chain ticks between two periodic flags; 0: none. Rates 1 and 2 repeat 8 and 9 (table 5). */
static u32 period(const struct rtc *r)
{
	unsigned rate = r->ram[RTC_A] & A_RATE;

	if (rate == 0)
		return 0;
	return 1u << (rate < 3 ? rate + 6 : rate - 1);
}

static u64 periods(const struct rtc *r, u64 at)
{
	return clock_ticks(at - r->chain, CHAIN_HZ) / period(r);
}

static void settle(struct rtc *r, u64 now)
{
	u64 updates = (now - r->chain) / SECOND_NS - (r->seen - r->chain) / SECOND_NS;
	u64 seen = r->seen;

	r->seen = now;
	if (is_held(r))
		return;
	if (period(r) && periods(r, now) != periods(r, seen))
		r->ram[RTC_C] |= C_PF;
	if (updates && !(r->ram[RTC_B] & B_SET)) {
		u32 alarm = alarm_in(r);

		if (alarm && alarm <= updates)
			r->ram[RTC_C] |= C_AF;
		r->ram[RTC_C] |= C_UF;
		advance(r, updates);
	}
}

static u64 next_event(const struct rtc *r)
{
	u64 second = (r->seen - r->chain) / SECOND_NS;
	u8 wanted = r->ram[RTC_B] & (u8)~r->ram[RTC_C];
	u64 next = ~0ull;
	u32 alarm;

	if (is_held(r))
		return next;
	if (wanted & B_PIE && period(r))
		next = r->chain + clock_ns((periods(r, r->seen) + 1) * period(r), CHAIN_HZ);
	if (r->ram[RTC_B] & B_SET)
		return next;
	if (wanted & B_UIE)
		next = min_u64(next, r->chain + (second + 1) * SECOND_NS);
	alarm = wanted & B_AIE ? alarm_in(r) : 0;
	if (alarm)
		next = min_u64(next, r->chain + (second + alarm) * SECOND_NS);
	return next;
}

/* Drives the line and arms the timer; after settle() and whatever the guest changed. */
static void plan(struct rtc *r)
{
	u64 next = next_event(r);

	irq_set(&r->dev.env.lines[0], r->ram[RTC_C] & r->ram[RTC_B] & (C_PF | C_AF | C_UF));
	if (next == ~0ull)
		timer_cancel(r->dev.env.clock, &r->timer);
	else
		timer_arm(r->dev.env.clock, &r->timer, next);
}

static void rtc_fire(void *ctx)
{
	struct rtc *r = ctx;

	settle(r, clock_now(r->dev.env.clock));
	plan(r);
}

/* ---- reads ---- */

static u8 read_a(const struct rtc *r)
{
	bool updates = !is_held(r) && !(r->ram[RTC_B] & B_SET);
	u64 left = SECOND_NS - (r->seen - r->chain) % SECOND_NS;

	return r->ram[RTC_A] | (u8)(updates && left <= UPDATE_NS ? A_UIP : 0);
}

static u8 read_c(struct rtc *r)
{
	u8 v = r->ram[RTC_C];

	r->ram[RTC_C] = 0;
	return v | (u8)(v & r->ram[RTC_B] ? C_IRQF : 0);
}

static u64 rtc_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct rtc *r = rtc_of(d);
	u8 v;

	if (offset == 0)
		return 0xff; /* the index is write-only */
	settle(r, clock_now(d->env.clock));
	switch (r->index) {
	case RTC_A: v = read_a(r); break;
	case RTC_C: v = read_c(r); break;
	case RTC_D: v = D_VRT; break;
	default: v = r->ram[r->index]; break;
	}
	plan(r);
	return v;
}

/* ---- writes ---- */

static void write_a(struct rtc *r, u8 v)
{
	bool was_held = is_held(r);

	r->ram[RTC_A] = v & (u8)~A_UIP;
	if (was_held && !is_held(r))
		r->chain = r->seen - RELEASE_NS;
}

/* SET going high clears UIE (register B, "SET"). */
static void write_b(struct rtc *r, u8 v)
{
	if (v & B_SET && !(r->ram[RTC_B] & B_SET))
		v &= (u8)~B_UIE;
	r->ram[RTC_B] = v;
}

static void rtc_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct rtc *r = rtc_of(d);
	u8 v = (u8)value;

	if (offset == 0) {
		r->index = v & (u8)~RTC_INDEX_NMI;
		r->nmi_masked = v & RTC_INDEX_NMI;
		return;
	}
	settle(r, clock_now(d->env.clock));
	switch (r->index) {
	case RTC_A: write_a(r, v); break;
	case RTC_B: write_b(r, v); break;
	case RTC_C:
	case RTC_D: break;
	default: r->ram[r->index] = v; break;
	}
	plan(r);
}

/* ---- reset, init, tables ---- */

static void put_sizes(struct rtc *r)
{
	u64 low = r->ram_below_4g, high = r->ram_above_4g / (64 * KiB);
	u16 extended = (u16)min_u64(low > MiB ? (low - MiB) / KiB : 0, 0xffff);
	u16 above = (u16)min_u64(low > 16 * MiB ? (low - 16 * MiB) / (64 * KiB) : 0, 0xffff);

	put_le16(&r->ram[RTC_BASE_KIB], (u16)min_u64(low / KiB, 640));
	put_le16(&r->ram[RTC_EXTENDED_KIB], extended);
	put_le16(&r->ram[RTC_EXTENDED_KIB_2], extended);
	put_le16(&r->ram[RTC_ABOVE_16M_64K], above);
	put_le16(&r->ram[RTC_ABOVE_4G_64K], (u16)high);
	r->ram[RTC_ABOVE_4G_64K + 2] = (u8)(high >> 16);
}

/* The RESET pin leaves time, rate and memory alone (data sheet, "RESET"). */
static void rtc_reset(struct device *d)
{
	struct rtc *r = rtc_of(d);

	settle(r, clock_now(d->env.clock));
	r->ram[RTC_B] &= (u8) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
	r->ram[RTC_C] = 0;
	r->index = 0;
	r->nmi_masked = false;
	put_sizes(r);
	plan(r);
}

static int rtc_init(struct device *d, struct err *err)
{
	struct rtc *r = rtc_of(d);
	u64 wall = d->env.wall_clock ? d->env.wall_clock(d->env.machine) : YEAR_2000;
	u32 epoch = rtc_days((struct rtc_date){ 1970, 1, 1 });

	if (!d->env.clock)
		return err_set(err, -EINVAL, "no clock");
	timer_init(&r->timer, rtc_fire, r);
	r->ram[RTC_A] = A_POWER_ON;
	r->ram[RTC_B] = B_24H;
	r->ram[RTC_EQUIPMENT] = EQUIPMENT;
	wall %= 8000ull * 366 * DAY;
	set_time(r, epoch + (u32)(wall / DAY), (u32)(wall % DAY));
	r->ram[RTC_WEEKDAY] =
		encode(r, (unsigned)(wall / DAY + 4) % 7 + 1); /* 1970-01-01: Thursday, 5 */
	return 0;
}

static void rtc_fini(struct device *d) { timer_cancel(d->env.clock, &rtc_of(d)->timer); }

/* Times of a stream that do not fit this clock are taken as now. */
static void rtc_loaded(struct device *d)
{
	struct rtc *r = rtc_of(d);
	u64 now = clock_now(d->env.clock);

	if ((s64)(now - r->chain) < 0)
		r->chain = now;
	if ((s64)(now - r->seen) < 0 || (s64)(r->seen - r->chain) < 0)
		r->seen = now;
	plan(r);
}

/* As if it had been looked at last that much earlier. */
void rtc_pass(struct device *d, u64 ns)
{
	struct rtc *r = rtc_of(d);

	ns -= ns % SECOND_NS;
	r->chain -= ns;
	r->seen -= ns;
	settle(r, clock_now(d->env.clock));
	plan(r);
}

static const struct prop rtc_props[] = {
	{ "ram_below_4g", "bytes of memory below 4 GiB", PROP_U64,
		offsetof(struct rtc, ram_below_4g), 128 * MiB, 0, 4 * GiB },
	{ "ram_above_4g", "bytes of memory above 4 GiB", PROP_U64,
		offsetof(struct rtc, ram_above_4g), 0, 0, 1024 * GiB - 64 * KiB },
	PROP_END,
};

static const struct field rtc_state[] = {
	FIELD(struct rtc, chain),
	FIELD(struct rtc, seen),
	FIELD_ARRAY(struct rtc, ram, u8),
	FIELD_MAX(struct rtc, index, RTC_RAM_SIZE - 1),
	FIELD(struct rtc, nmi_masked),
	FIELD_END,
};

const struct device_class rtc_class = {
	.name = "rtc",
	.doc = "MC146818A real-time clock and CMOS memory",
	.size = sizeof(struct rtc),
	.width = 1,
	.init = rtc_init,
	.reset = rtc_reset,
	.fini = rtc_fini,
	.read = rtc_read,
	.write = rtc_write,
	.loaded = rtc_loaded,
	.windows = { { BUS_PORT, 0x70, 2 } },
	.props = rtc_props,
	.state = rtc_state,
};
