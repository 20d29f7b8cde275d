/* The local APIC's timer under a manual clock: counts, periods, deadlines. */
#include "apic_fixture.h"

struct rig rig;

#define ONE_SHOT 0x00030u
#define PERIODIC 0x20030u
#define DEADLINE 0x40030u

/* Interrupts taken by processor 0 while time passes in steps. */
static unsigned interrupts_in(u64 ns, u64 step)
{
	unsigned n = 0;

	for (u64 done = 0; done < ns; done += step) {
		clock_advance(&rig.clock, step);
		if (ack(0) == 0x30) {
			n++;
			eoi(0);
		}
	}
	return n;
}

static void one_shot(void **state)
{
	wr(0, LVT_T, ONE_SHOT);
	wr(0, DIVIDE, 0xb); /* by 1 */
	wr(0, COUNT_INIT, 1000);
	assert_int_equal(rd(0, COUNT_NOW), 1000);
	clock_advance(&rig.clock, 400);
	assert_int_equal(rd(0, COUNT_NOW), 600);
	clock_advance(&rig.clock, 599);
	assert_int_equal(rd(0, COUNT_NOW), 1);
	assert_int_equal(ack(0), -1);
	clock_advance(&rig.clock, 1);
	assert_int_equal(rd(0, COUNT_NOW), 0);
	assert_int_equal(ack(0), 0x30);
	eoi(0);
	assert_int_equal(interrupts_in(10000, 100), 0);
	assert_int_equal(rd(0, COUNT_INIT), 1000);
}

static void every_divisor(void **state)
{
	static const struct {
		u8 code, divisor;
	} rows[] = { { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 },
		{ 11, 1 } };

	wr(0, LVT_T, ONE_SHOT);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		wr(0, DIVIDE, rows[i].code);
		wr(0, COUNT_INIT, 10);
		clock_advance(&rig.clock, 10u * rows[i].divisor - 1);
		assert_int_equal(ack(0), -1);
		clock_advance(&rig.clock, 1);
		assert_int_equal(ack(0), 0x30);
		eoi(0);
	}
}

static void divide_changes_while_counting(void **state)
{
	wr(0, LVT_T, ONE_SHOT);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1000);
	clock_advance(&rig.clock, 500);
	wr(0, DIVIDE, 0); /* by 2 */
	assert_int_equal(rd(0, COUNT_NOW), 500);
	clock_advance(&rig.clock, 999);
	assert_int_equal(ack(0), -1);
	clock_advance(&rig.clock, 1);
	assert_int_equal(ack(0), 0x30);
}

static void periodic(void **state)
{
	wr(0, LVT_T, PERIODIC);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1000000);
	assert_int_equal(interrupts_in(10000000, 10000), 10);
	assert_int_equal(rd(0, COUNT_NOW), 1000000);
	clock_advance(&rig.clock, 250000);
	assert_int_equal(rd(0, COUNT_NOW), 750000);
	wr(0, LVT_T, PERIODIC | 0x10000); /* masked: counts on */
	assert_int_equal(interrupts_in(10000000, 10000), 0);
	wr(0, LVT_T, ONE_SHOT); /* the running period is the last */
	assert_int_equal(interrupts_in(10000000, 10000), 1);
	wr(0, COUNT_INIT, 0);
	assert_int_equal(rd(0, COUNT_NOW), 0);
}

static void tiny_period_is_bounded(void **state)
{
	wr(0, LVT_T, PERIODIC);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1);
	u64 before = rig.notes[0].intr;

	clock_advance(&rig.clock, 1000000);
	u64 calls = rig.notes[0].intr - before;
	assert_true(calls >= 10 && calls <= 21);
	wr(0, COUNT_INIT, 7000); /* the count follows the true period */
	clock_advance(&rig.clock, 7000 * 3 + 100);
	assert_int_equal(rd(0, COUNT_NOW), 6900);
}

static void deadline(void **state)
{
	u64 v, tsc = rig_tsc(NULL);

	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, tsc + 100)); /* not in that mode: ignored */
	assert_true(lapic_msr_read(rig.cpu[0], 0x6e0, &v));
	assert_int_equal(v, 0);
	wr(0, LVT_T, DEADLINE);
	wr(0, COUNT_INIT, 50);
	assert_int_equal(rd(0, COUNT_INIT), 0);

	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, tsc + 2001)); /* 1000.5 ns */
	clock_advance(&rig.clock, 1000);
	assert_int_equal(ack(0), -1);
	clock_advance(&rig.clock, 1);
	assert_int_equal(ack(0), 0x30);
	eoi(0);
	assert_true(lapic_msr_read(rig.cpu[0], 0x6e0, &v));
	assert_int_equal(v, 0);

	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, 1)); /* long past: now */
	assert_int_equal(ack(0), 0x30);
	eoi(0);
	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, ~0ull));
	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, rig_tsc(NULL) + 10));
	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, 0)); /* disarms */
	assert_int_equal(interrupts_in(1000, 10), 0);

	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, rig_tsc(NULL) + 10));
	wr(0, LVT_T, ONE_SHOT); /* leaving the mode disarms */
	assert_int_equal(interrupts_in(1000, 10), 0);
}

static void deadline_follows_the_tsc(void **state)
{
	wr(0, LVT_T, DEADLINE);
	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, rig_tsc(NULL) + 2000000));
	rig.tsc_offset += 1900000;
	lapic_tsc_changed(rig.cpu[0]);
	clock_advance(&rig.clock, 50000);
	assert_int_equal(ack(0), 0x30);
	eoi(0);
	assert_true(lapic_msr_write(rig.cpu[0], 0x6e0, rig_tsc(NULL) + 2000));
	rig.tsc_offset -= 1000000; /* behind our back: it must still not be early */
	clock_advance(&rig.clock, 1000);
	assert_int_equal(ack(0), -1);
	assert_int_equal(interrupts_in(1000000, 1000), 1);
}

static void absent_without_tsc(void **state)
{
	u64 v;

	rig.cpu[0]->wiring.tsc_hz = 0;
	assert_false(lapic_msr_read(rig.cpu[0], 0x6e0, &v));
	assert_false(lapic_msr_write(rig.cpu[0], 0x6e0, 0));
	wr(0, LVT_T, DEADLINE);
	assert_int_equal(rd(0, LVT_T), ONE_SHOT);
	rig.cpu[0]->tsc_deadline = 5; /* a saved state from elsewhere */
	lapic_class.loaded(&rig.cpu[0]->dev);
	lapic_tsc_changed(rig.cpu[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(one_shot),
		RIG_TEST(every_divisor),
		RIG_TEST(divide_changes_while_counting),
		RIG_TEST(periodic),
		RIG_TEST(tiny_period_is_bounded),
		RIG_TEST(deadline),
		RIG_TEST(deadline_follows_the_tsc),
		RIG_TEST(absent_without_tsc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
