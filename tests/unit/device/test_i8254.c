/* The 8254: modes by their outputs and counts, latches, gate, interrupts without drift. */
#include "device/legacy/legacy.h"
#include "rig.h"

#define HZ 1193182u

/* Moves to the first nanosecond of the tick that is n after the present one. */
static void ticks(struct rig *r, u64 n)
{
	u64 now = clock_ticks(clock_now(&r->clock), HZ);

	clock_advance(&r->clock, clock_ns(now + n, HZ) - clock_now(&r->clock));
}

static void program(struct rig *r, unsigned n, unsigned mode, u16 count)
{
	out8(r, 0x43, (u8)(n << 6 | 0x30 | mode << 1));
	out8(r, (u16)(0x40 + n), (u8)count);
	out8(r, (u16)(0x40 + n), (u8)(count >> 8));
}

static u16 count(struct rig *r, unsigned n)
{
	u16 low;

	out8(r, 0x43, (u8)(n << 6));
	low = in8(r, (u16)(0x40 + n));
	return (u16)(low | in8(r, (u16)(0x40 + n)) << 8);
}

static u8 status(struct rig *r, unsigned n)
{
	out8(r, 0x43, (u8)(0xe0 | 2u << n));
	return in8(r, (u16)(0x40 + n));
}

static bool out2(struct rig *r) { return in8(r, 0x61) & 0x20; }

static void mode_0_rises_once_after_the_count(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 0, 100);
	assert_int_equal(status(&r, 0), 0x70); /* OUT low, null count, both bytes */
	ticks(&r, 1);
	assert_int_equal(status(&r, 0), 0x30);
	assert_int_equal(count(&r, 0), 100);
	ticks(&r, 99);
	assert_int_equal(count(&r, 0), 1);
	assert_int_equal(r.rises[0], 0);
	ticks(&r, 1);
	assert_int_equal(r.rises[0], 1);
	assert_int_equal(status(&r, 0), 0xb0);
	/* It counts on through zero. */
	ticks(&r, 1);
	assert_int_equal(count(&r, 0), 0xffff);
	ticks(&r, 200000);
	assert_int_equal(r.rises[0], 1);
	rig_close(&r);
}

static void mode_2_interrupts_each_period_without_drift(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 2, 11932); /* about 100 Hz */
	memset(r.rises, 0, sizeof(r.rises));
	for (unsigned i = 0; i < 1000; i++)
		clock_advance(&r.clock, 10007003);
	assert_int_equal(r.rises[0], (clock_ticks(1000ull * 10007003, HZ) - 1) / 11932);
	rig_close(&r);
}

static void mode_2_counts_from_n_to_1(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x61, 1);
	program(&r, 2, 2, 10);
	ticks(&r, 1);
	assert_int_equal(count(&r, 2), 10);
	ticks(&r, 8);
	assert_int_equal(count(&r, 2), 2);
	assert_true(out2(&r));
	ticks(&r, 1);
	assert_int_equal(count(&r, 2), 1);
	assert_false(out2(&r));
	ticks(&r, 1);
	assert_int_equal(count(&r, 2), 10);
	assert_true(out2(&r));
	rig_close(&r);
}

static void mode_2_new_count_waits_for_the_end_of_the_cycle(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x61, 1);
	program(&r, 2, 2, 10);
	ticks(&r, 5);
	out8(&r, 0x42, 20);
	out8(&r, 0x42, 0);
	assert_true(status(&r, 2) & 0x40);
	ticks(&r, 5);
	assert_int_equal(count(&r, 2), 1);
	ticks(&r, 1);
	assert_int_equal(count(&r, 2), 20);
	assert_false(status(&r, 2) & 0x40);
	rig_close(&r);
}

static void mode_3_is_a_square_wave(void **state)
{
	static const struct {
		u16 n, at, count;
		bool out;
	} points[] = {
		{ 8, 0, 8, true },
		{ 8, 3, 2, true },
		{ 8, 4, 8, false },
		{ 8, 7, 2, false },
		{ 8, 8, 8, true },
		{ 7, 0, 6, true },
		{ 7, 3, 0, true },
		{ 7, 4, 6, false },
		{ 7, 6, 2, false },
		{ 7, 7, 6, true },
	};
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x61, 1);
	for (unsigned i = 0; i < ARRAY_LEN(points); i++) {
		program(&r, 2, 3, points[i].n);
		ticks(&r, 1 + points[i].at);
		assert_int_equal(count(&r, 2), points[i].count);
		assert_int_equal(out2(&r), points[i].out);
	}
	rig_close(&r);
}

static void mode_3_new_count_waits_for_the_half_cycle(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x61, 1);
	program(&r, 2, 3, 20);
	ticks(&r, 5);
	out8(&r, 0x42, 8);
	out8(&r, 0x42, 0);
	/* High until 10 ticks after the load, then low for 4 and high for 4. */
	ticks(&r, 5);
	assert_true(out2(&r));
	ticks(&r, 1);
	assert_false(out2(&r));
	assert_int_equal(count(&r, 2), 8);
	ticks(&r, 3);
	assert_false(out2(&r));
	ticks(&r, 1);
	assert_true(out2(&r));
	ticks(&r, 4);
	assert_false(out2(&r));
	rig_close(&r);
}

static void mode_4_strobes_once(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 4, 50);
	memset(r.rises, 0, sizeof(r.rises));
	ticks(&r, 51);
	assert_int_equal(status(&r, 0) & 0x80, 0);
	ticks(&r, 1);
	assert_int_equal(status(&r, 0) & 0x80, 0x80);
	assert_int_equal(r.rises[0], 1);
	ticks(&r, 70000);
	assert_int_equal(r.rises[0], 1);
	rig_close(&r);
}

static void gate_triggers_modes_1_and_5(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 2, 1, 30);
	ticks(&r, 100);
	assert_true(out2(&r));
	out8(&r, 0x61, 1);
	ticks(&r, 1);
	assert_false(out2(&r));
	ticks(&r, 20);
	out8(&r, 0x61, 0);
	out8(&r, 0x61, 1); /* retriggered: 30 more */
	ticks(&r, 1 + 29);
	assert_false(out2(&r));
	ticks(&r, 1);
	assert_true(out2(&r));

	out8(&r, 0x61, 0);
	program(&r, 2, 5, 30);
	out8(&r, 0x61, 1);
	ticks(&r, 1 + 30);
	assert_false(out2(&r));
	ticks(&r, 1);
	assert_true(out2(&r));
	rig_close(&r);
}

static void gate_stops_and_resumes_mode_0(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x61, 1);
	program(&r, 2, 0, 100);
	ticks(&r, 41);
	assert_int_equal(count(&r, 2), 60);
	out8(&r, 0x61, 0);
	ticks(&r, 1000);
	assert_int_equal(count(&r, 2), 60);
	out8(&r, 0x61, 1);
	ticks(&r, 59);
	assert_false(out2(&r));
	ticks(&r, 1);
	assert_true(out2(&r));
	rig_close(&r);
}

static void bcd_counts_in_decimal(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x43, 0x31);
	out8(&r, 0x40, 0x00);
	out8(&r, 0x40, 0x10); /* 1000 */
	ticks(&r, 2);
	assert_int_equal(count(&r, 0), 0x0999);
	ticks(&r, 999 + 1);
	assert_int_equal(count(&r, 0), 0x9999);
	rig_close(&r);
}

static void latched_values_stay_until_read(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 2, 0x1234);
	ticks(&r, 1);
	out8(&r, 0x43, 0xc2); /* read back status and count of counter 0 */
	ticks(&r, 0x100);
	out8(&r, 0x43, 0x00); /* ignored: a count is latched already */
	assert_int_equal(in8(&r, 0x40), 0xb4);
	assert_int_equal(in8(&r, 0x40), 0x34);
	assert_int_equal(in8(&r, 0x40), 0x12);
	assert_int_equal(in8(&r, 0x40), 0x34);
	assert_int_equal(in8(&r, 0x40), 0x11);
	assert_int_equal(in8(&r, 0x43), 0xff);
	rig_close(&r);
}

static void single_byte_access_reads_and_writes_one_half(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	out8(&r, 0x43, 0x24); /* high byte only, mode 2 */
	out8(&r, 0x40, 0x10);
	ticks(&r, 1);
	assert_int_equal(in8(&r, 0x40), 0x10);
	ticks(&r, 1);
	assert_int_equal(in8(&r, 0x40), 0x0f);
	out8(&r, 0x43, 0x14); /* low byte only */
	out8(&r, 0x40, 0x80);
	ticks(&r, 3);
	assert_int_equal(in8(&r, 0x40), 0x7e);
	rig_close(&r);
}

static void absurd_rates_are_coalesced(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 2, 2);
	memset(r.rises, 0, sizeof(r.rises));
	clock_advance(&r.clock, 1000000000);
	assert_in_range(r.rises[0], 10000, 20001);
	rig_close(&r);
}

static void late_host_merges_missed_edges(void **state)
{
	struct rig r;

	rig_open(&r, &pit_class);
	program(&r, 0, 2, 1193);
	memset(r.rises, 0, sizeof(r.rises));
	r.clock.frozen_at += 100000000; /* a hundred periods while nobody looked */
	assert_true(clock_run(&r.clock) > clock_now(&r.clock));
	assert_int_equal(r.rises[0], 1);
	clock_advance(&r.clock, 1000000);
	assert_int_equal(r.rises[0], 2);
	rig_close(&r);
}

static void refresh_bit_toggles(void **state)
{
	struct rig r;
	unsigned changes = 0;
	u8 last = 0;

	rig_open(&r, &pit_class);
	for (unsigned i = 0; i < 1000; i++) {
		u8 v = in8(&r, 0x61) & 0x10;

		changes += v != last;
		last = v;
		clock_advance(&r.clock, 1000);
	}
	assert_in_range(changes, 60, 70); /* each 15 us */
	rig_close(&r);
}

static void script(struct rig *r)
{
	ticks(r, 12345);
	count(r, 0);
	in8(r, 0x40);
	out8(r, 0x42, 1);
	out8(r, 0x61, 3);
	ticks(r, 54321);
}

static void state_survives_migration(void **state)
{
	for (unsigned mode = 0; mode < 6; mode++) {
		struct rig r;

		rig_open(&r, &pit_class);
		program(&r, 0, mode, 1000);
		program(&r, 2, mode, 777);
		ticks(&r, 333);
		out8(&r, 0x42, 5);
		in8(&r, 0x40);
		out8(&r, 0x43, 0xc4);
		rig_check_migration(&r, script);
		rig_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mode_0_rises_once_after_the_count),
		cmocka_unit_test(mode_2_interrupts_each_period_without_drift),
		cmocka_unit_test(mode_2_counts_from_n_to_1),
		cmocka_unit_test(mode_2_new_count_waits_for_the_end_of_the_cycle),
		cmocka_unit_test(mode_3_is_a_square_wave),
		cmocka_unit_test(mode_3_new_count_waits_for_the_half_cycle),
		cmocka_unit_test(mode_4_strobes_once),
		cmocka_unit_test(gate_triggers_modes_1_and_5),
		cmocka_unit_test(gate_stops_and_resumes_mode_0),
		cmocka_unit_test(bcd_counts_in_decimal),
		cmocka_unit_test(latched_values_stay_until_read),
		cmocka_unit_test(single_byte_access_reads_and_writes_one_half),
		cmocka_unit_test(absurd_rates_are_coalesced),
		cmocka_unit_test(late_host_merges_missed_edges),
		cmocka_unit_test(refresh_bit_toggles),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("i8254", tests, NULL, NULL);
}
