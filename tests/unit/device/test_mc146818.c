/* The real-time clock: time, formats, flags and their interrupts, CMOS memory. */
#include "device/legacy/legacy.h"
#include "device/legacy/mc146818_calendar.h"
#include "rig.h"

#define SECOND 1000000000ull

static u8 get(struct rig *r, u8 index)
{
	out8(r, 0x70, index);
	return in8(r, 0x71);
}

static void set(struct rig *r, u8 index, u8 v)
{
	out8(r, 0x70, index);
	out8(r, 0x71, v);
}

/* Registers 0, 2, 4, 7, 8, 9, 0x32 against hh:mm:ss and yyyy-mm-dd written as BCD. */
static void assert_time(struct rig *r, u32 time, u32 date)
{
	u32 got_time = (u32)(get(r, 4) << 16 | get(r, 2) << 8 | get(r, 0));
	u32 got_date =
		(u32)get(r, 0x32) << 24 | (u32)(get(r, 9) << 16 | get(r, 8) << 8 | get(r, 7));

	assert_int_equal(got_time, time);
	assert_int_equal(got_date, date);
}

static void set_bcd(struct rig *r, u32 time, u32 date)
{
	set(r, 4, (u8)(time >> 16));
	set(r, 2, (u8)(time >> 8));
	set(r, 0, (u8)time);
	set(r, 0x32, (u8)(date >> 24));
	set(r, 9, (u8)(date >> 16));
	set(r, 8, (u8)(date >> 8));
	set(r, 7, (u8)date);
}

static void time_starts_at_the_wall_clock_and_passes(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	assert_time(&r, 0x000000, 0x20000101);
	assert_int_equal(get(&r, 6), 7); /* Saturday */
	assert_int_equal(get(&r, 0xd), 0x80);
	clock_advance(&r.clock, 59 * SECOND + SECOND - 1);
	assert_time(&r, 0x000059, 0x20000101);
	clock_advance(&r.clock, 1);
	assert_time(&r, 0x000100, 0x20000101);
	clock_advance(&r.clock, 59ull * 86400 * SECOND);
	assert_time(&r, 0x000100, 0x20000229);
	assert_int_equal(get(&r, 6), 3); /* Tuesday */
	clock_advance(&r.clock, 86400 * SECOND);
	assert_time(&r, 0x000100, 0x20000301);
	rig_close(&r);
}

static void century_and_year_carry(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set_bcd(&r, 0x235959, 0x20991231);
	clock_advance(&r.clock, SECOND);
	assert_time(&r, 0x000000, 0x21000101);
	set_bcd(&r, 0x235959, 0x21000228);
	clock_advance(&r.clock, SECOND);
	assert_time(&r, 0x000000, 0x21000301);
	rig_close(&r);
}

static void binary_and_twelve_hour_formats(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 0xb, 0x06);
	set(&r, 0x32, 20);
	set_bcd(&r, 23 << 16 | 59 << 8 | 58, 20u << 24 | 24 << 16 | 12 << 8 | 31);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(get(&r, 0), 59);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(get(&r, 9), 25);
	set(&r, 0xb, 0x00);
	set_bcd(&r, 0x115959, 0x20240105);
	clock_advance(&r.clock, SECOND);
	assert_time(&r, 0x920000, 0x20240105); /* 12 PM */
	set(&r, 4, 0x91);		       /* 11 PM */
	clock_advance(&r.clock, 3600 * SECOND);
	assert_time(&r, 0x120000, 0x20240106); /* 12 AM */
	rig_close(&r);
}

static void set_bit_stops_updates(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 0xb, 0x92);
	assert_int_equal(get(&r, 0xb), 0x82); /* and clears UIE */
	clock_advance(&r.clock, 10 * SECOND);
	assert_int_equal(get(&r, 0), 0);
	assert_int_equal(get(&r, 0xa) & 0x80, 0);
	set(&r, 0xb, 0x02);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(get(&r, 0), 1);
	rig_close(&r);
}

static void held_divider_updates_half_a_second_after_release(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	clock_advance(&r.clock, 123456789);
	set(&r, 0xa, 0x76);
	clock_advance(&r.clock, 10 * SECOND);
	set(&r, 0xa, 0x26);
	clock_advance(&r.clock, SECOND / 2 - 1);
	assert_int_equal(get(&r, 0), 0);
	clock_advance(&r.clock, 1);
	assert_int_equal(get(&r, 0), 1);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(get(&r, 0), 2);
	rig_close(&r);
}

static void uip_leads_each_update(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	assert_int_equal(get(&r, 0xa), 0x26);
	clock_advance(&r.clock, SECOND - 2228001);
	assert_int_equal(get(&r, 0xa), 0x26);
	clock_advance(&r.clock, 1);
	assert_int_equal(get(&r, 0xa), 0xa6);
	clock_advance(&r.clock, 2228000);
	assert_int_equal(get(&r, 0xa), 0x26);
	assert_int_equal(get(&r, 0), 1);
	rig_close(&r);
}

static void update_interrupt_comes_each_second(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 0xb, 0x12);
	for (unsigned i = 1; i <= 5; i++) {
		clock_advance(&r.clock, SECOND);
		assert_int_equal(r.rises[0], i);
		assert_int_equal(get(&r, 0xc) & 0xb0, 0x90);
		assert_false(r.level[0]);
	}
	/* Unacknowledged, the line stays up and costs no timer. */
	clock_advance(&r.clock, 5 * SECOND);
	assert_int_equal(r.rises[0], 6);
	assert_null(r.clock.timers);
	rig_close(&r);
}

static void periodic_interrupt_follows_the_rate(void **state)
{
	static const struct {
		u8 rate;
		u32 hz;
	} rates[] = {
		{ 1, 256 },
		{ 2, 128 },
		{ 3, 8192 },
		{ 6, 1024 },
		{ 15, 2 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rates); i++) {
		struct rig r;
		unsigned acks = 0;

		rig_open(&r, &rtc_class);
		set(&r, 0xa, 0x20 | rates[i].rate);
		set(&r, 0xb, 0x42);
		while (clock_now(&r.clock) < SECOND) {
			clock_advance(&r.clock, 50000);
			acks += (get(&r, 0xc) & 0xc0) == 0xc0;
		}
		assert_int_equal(acks, rates[i].hz);
		assert_int_equal(r.rises[0], rates[i].hz);
		rig_close(&r);
	}
}

static void flags_are_set_without_their_interrupts(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(get(&r, 0xc), 0x50);
	assert_int_equal(get(&r, 0xc), 0);
	assert_int_equal(r.rises[0], 0);
	assert_null(r.clock.timers);
	rig_close(&r);
}

static void alarm_matches_time_and_wildcards(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 5, 0x13);
	set(&r, 3, 0x02);
	set(&r, 1, 0x30);
	set(&r, 0xb, 0x22);
	clock_advance(&r.clock, (13 * 3600 + 2 * 60 + 30) * SECOND - 1);
	assert_int_equal(r.rises[0], 0);
	clock_advance(&r.clock, 1);
	assert_int_equal(r.rises[0], 1);
	assert_int_equal(get(&r, 0xc) & 0xa0, 0xa0);
	/* The next one is a day later. */
	clock_advance(&r.clock, 86399 * SECOND);
	assert_int_equal(r.rises[0], 1);
	clock_advance(&r.clock, SECOND);
	assert_int_equal(r.rises[0], 2);
	get(&r, 0xc);
	/* Any hour, any minute: each minute at second 30. */
	set(&r, 5, 0xff);
	set(&r, 3, 0xc0);
	for (unsigned i = 0; i < 10; i++) {
		clock_advance(&r.clock, 60 * SECOND);
		assert_int_equal(get(&r, 0xc) & 0xa0, 0xa0);
	}
	/* A second that never comes. */
	set(&r, 1, 0x7b);
	clock_advance(&r.clock, 100000 * SECOND);
	assert_int_equal(get(&r, 0xc) & 0x20, 0);
	rig_close(&r);
}

static void memory_sizes_follow_the_properties(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	assert_int_equal(device_set(r.dev, "ram_below_4g", "3G", NULL), 0);
	assert_int_equal(device_set(r.dev, "ram_above_4g", "0x140000000", NULL), 0);
	assert_int_equal(get(&r, 0x15) | get(&r, 0x16) << 8, 640);
	assert_int_equal(get(&r, 0x17) | get(&r, 0x18) << 8, 0xffff);
	assert_int_equal(get(&r, 0x30) | get(&r, 0x31) << 8, 0xffff);
	assert_int_equal(get(&r, 0x34) | get(&r, 0x35) << 8, (3 * 1024 - 16) * 16);
	assert_int_equal(get(&r, 0x5b) | get(&r, 0x5c) << 8 | get(&r, 0x5d) << 16, 5 * 1024 * 16);
	assert_int_equal(device_set(r.dev, "ram_below_4g", "32M", NULL), 0);
	assert_int_equal(get(&r, 0x17) | get(&r, 0x18) << 8, 31 * 1024);
	assert_int_equal(get(&r, 0x34) | get(&r, 0x35) << 8, 16 * 16);
	assert_true(device_set(r.dev, "ram_below_4g", "5G", NULL) < 0);
	assert_true(device_set(r.dev, "ram_below_4g", "-1", NULL) < 0);
	assert_true(device_set(r.dev, "ram_below_4g", "1X", NULL) < 0);
	assert_true(device_set(r.dev, "ram_below_4g", "99999999999G", NULL) < 0);
	assert_true(device_set(r.dev, "colour", "1", NULL) < 0);
	rig_close(&r);
}

static void memory_keeps_what_is_written_and_reset_keeps_the_time(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 0x80 | 0x7f, 0xab); /* bit 7 masks NMI */
	assert_int_equal(get(&r, 0x7f), 0xab);
	assert_int_equal(in8(&r, 0x70), 0xff);
	out16(&r, 0x70, 0x5a40); /* index and data in one access */
	assert_int_equal(get(&r, 0x40), 0x5a);
	set(&r, 0xb, 0x72);
	clock_advance(&r.clock, 7 * SECOND);
	assert_true(r.level[0]);
	r.dev->class->reset(r.dev);
	assert_false(r.level[0]);
	assert_int_equal(get(&r, 0xb), 0x02);
	assert_int_equal(get(&r, 0), 7);
	assert_int_equal(get(&r, 0x7f), 0xab);
	rig_close(&r);
}

static void every_day_converts_both_ways(void **state)
{
	struct rtc_date last = { 0, 1, 0 };

	for (u32 day = 0; day < 3652425; day++) {
		struct rtc_date d = rtc_date(day);

		if (rtc_days(d) != day)
			fail_msg("day %u", day);
		if (d.day != last.day + 1 && d.day != 1)
			fail_msg("day %u does not follow", day);
		last = d;
	}
	assert_int_equal(last.year, 9999);
	assert_int_equal(last.day, 31);
}

static void script(struct rig *r)
{
	clock_advance(&r->clock, 40 * SECOND);
	get(r, 0xc);
	clock_advance(&r->clock, 3 * SECOND / 2);
	set(r, 0xa, 0x2f);
	clock_advance(&r->clock, 90 * SECOND);
	get(r, 0xc);
	get(r, 0);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	rig_open(&r, &rtc_class);
	set(&r, 0xb, 0x72);
	set(&r, 1, 0x33);
	set(&r, 3, 0xff);
	set(&r, 5, 0xff);
	clock_advance(&r.clock, 1234567890);
	get(&r, 0xc);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_starts_at_the_wall_clock_and_passes),
		cmocka_unit_test(century_and_year_carry),
		cmocka_unit_test(binary_and_twelve_hour_formats),
		cmocka_unit_test(set_bit_stops_updates),
		cmocka_unit_test(held_divider_updates_half_a_second_after_release),
		cmocka_unit_test(uip_leads_each_update),
		cmocka_unit_test(update_interrupt_comes_each_second),
		cmocka_unit_test(periodic_interrupt_follows_the_rate),
		cmocka_unit_test(flags_are_set_without_their_interrupts),
		cmocka_unit_test(alarm_matches_time_and_wildcards),
		cmocka_unit_test(memory_sizes_follow_the_properties),
		cmocka_unit_test(memory_keeps_what_is_written_and_reset_keeps_the_time),
		cmocka_unit_test(every_day_converts_both_ways),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("mc146818", tests, NULL, NULL);
}
