/* HPET under a manual clock: counter, one-shot, periodic, widths, routes. */
#include "device/legacy/hpet.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

static struct guest_clock guest_clock;
static struct device *h;
static unsigned edges[DEVICE_LINES_MAX], messages;
static bool levels[DEVICE_LINES_MAX];

static void set_line(void *ctx, unsigned n, bool level)
{
	edges[n] += level && !levels[n];
	levels[n] = level;
}

static void send(void *ctx, u64 address, u32 data)
{
	assert_int_equal(address, 0xfee01000);
	assert_int_equal(data, 0x55);
	messages++;
}

static int up(void **state)
{
	struct device_env env = { .clock = &guest_clock, .msi = { .send = send } };
	struct err err;

	clock_init(&guest_clock);
	for (unsigned i = 0; i < DEVICE_LINES_MAX; i++) {
		env.lines[i] = (struct irq_line){ set_line, NULL, i };
		edges[i] = 0;
		levels[i] = false;
	}
	messages = 0;
	h = device_new(&hpet_class, "hpet", &env, &err);
	assert_non_null(h);
	return 0;
}

static int down(void **state)
{
	device_free(h);
	return 0;
}

static u64 rd(unsigned at) { return hpet_class.read(h, 0, at, 8); }
static void wr(unsigned at, u64 v) { hpet_class.write(h, 0, at, 8, v); }
static void wr32(unsigned at, u32 v) { hpet_class.write(h, 0, at, 4, v); }
static void ticks(u64 n) { clock_advance(&guest_clock, n * 10); }

#define ROUTE(pin) ((u64)(pin) << 9)

static void counter(void **state)
{
	assert_int_equal(rd(0), 10000000ull << 32 | HPET_ID);
	ticks(5);
	assert_int_equal(rd(0xf0), 0);
	wr(0xf0, 0xffffffff);
	wr(0x10, 1);
	ticks(3);
	assert_int_equal(rd(0xf0), 0x100000002);
	assert_int_equal(hpet_class.read(h, 0, 0xf4, 4), 1);
	wr(0x10, 0);
	ticks(100);
	assert_int_equal(rd(0xf0), 0x100000002);
	wr32(0xf4, 0);
	assert_int_equal(rd(0xf0), 2);
}

static void one_shot(void **state)
{
	wr(0x100, 4 | ROUTE(20));
	wr(0x108, 1000);
	wr(0x10, 1);
	ticks(999);
	assert_int_equal(edges[20], 0);
	ticks(1);
	assert_int_equal(edges[20], 1);
	ticks(1000000);
	assert_int_equal(edges[20], 1);
	assert_int_equal(rd(0x108), 1000);
	assert_int_equal(rd(0x20), 0); /* edges leave no status */
}

static void narrow_wraps(void **state)
{
	wr(0x120, 4 | 0x100 | ROUTE(21));
	wr(0x128, 0xabcd00000010);
	assert_int_equal(rd(0x128), 0x10);
	wr(0xf0, 0xfffffff0);
	wr(0x10, 1);
	ticks(0x20);
	assert_int_equal(edges[21], 1);
	ticks(0x100000000);
	assert_int_equal(edges[21], 2);
}

static void periodic(void **state)
{
	wr(0x100, 4 | 8 | 0x40 | ROUTE(20));
	wr(0x108, 100000); /* accumulator and period */
	assert_int_equal(rd(0x100) & 0x40, 0);
	wr(0x10, 1);
	for (unsigned i = 1; i <= 10; i++) {
		ticks(99999);
		assert_int_equal(edges[20], i - 1);
		ticks(1);
		assert_int_equal(edges[20], i);
	}
	assert_int_equal(rd(0x108), 1100000);
	wr(0x108, 50000); /* the period alone; the pending match stays */
	assert_int_equal(rd(0x108), 1100000);
	ticks(100000);
	assert_int_equal(edges[20], 11);
	assert_int_equal(rd(0x108), 1150000);
}

/* As Linux does it: first match at counter + delta, then the period in a second write. */
static void periodic_in_two_writes(void **state)
{
	wr(0x10, 1);
	ticks(12345);
	wr32(0x100, 4 | 8 | 0x40 | 0x100 | ROUTE(20));
	wr32(0x108, 12345 + 40000);
	wr32(0x108, 40000);
	ticks(40000);
	assert_int_equal(edges[20], 1);
	ticks(40000 * 4);
	assert_int_equal(edges[20], 5);
}

static void tiny_period_is_bounded(void **state)
{
	wr(0x100, 4 | 8 | 0x40 | ROUTE(20));
	wr(0x108, 1);
	wr(0x10, 1);
	ticks(1000000);
	assert_in_range(edges[20], 100, 1000000 / HPET_MIN_TICK + 1);
	assert_true(rd(0x108) >= 1000000 - HPET_MIN_TICK);
	wr(0x100, 4 | 8 | 0x40 | ROUTE(20));
	wr(0x108, 0); /* period 0 */
	ticks(1000000);
}

static bool wakes(void) { return guest_clock.timers; }

/* Nobody hears of it: the host sleeps, and yet the comparator steps, whoever looks and when. */
static void silent_periodic(void **state)
{
	wr(0x10, 1);
	wr(0x100, 8 | 0x40 | 0x100 | ROUTE(20)); /* 32 bits: wraps in 43 s */
	wr(0x108, 30000);
	assert_false(wakes());
	ticks(45000);
	assert_int_equal(rd(0x108), 60000);
	ticks(300000000000);
	assert_int_equal(rd(0x108), (300000000000 + 60000) & 0xffffffff); /* 30,000 divides it */
	assert_int_equal(edges[20], 0);
	wr(0x100, 4 | 8 | 0x100 | ROUTE(20));
	assert_true(wakes());
	ticks(14999);
	assert_int_equal(edges[20], 0);
	ticks(1);
	assert_int_equal(edges[20], 1);
	wr(0x100, 8 | 0x100 | ROUTE(20));
	assert_false(wakes());
}

static void level(void **state)
{
	wr(0x140, 2 | 4 | ROUTE(22));
	wr(0x148, 10);
	wr(0x10, 1);
	ticks(10);
	assert_true(levels[22]);
	assert_int_equal(rd(0x20), 4);
	wr(0x20, 3);
	assert_true(levels[22]);
	wr(0x20, 4);
	assert_false(levels[22]);
	wr(0x148, 30);
	ticks(20);
	assert_true(levels[22]);
	wr(0x140, 2 | ROUTE(22)); /* interrupt disabled */
	assert_false(levels[22]);
}

static void legacy_and_message(void **state)
{
	wr(0x10, 3);
	assert_true(levels[HPET_LINE_LEGACY]);
	wr(0x100, 4 | ROUTE(20));
	wr(0x108, 100);
	wr(0x120, 4 | ROUTE(20));
	wr(0x128, 200);
	wr(0x140, 4 | 0x4000);
	wr(0x148, 300);
	wr(0x150, 0xfee01000ull << 32 | 0x55);
	ticks(1000);
	assert_int_equal(edges[HPET_LINE_IRQ0], 1);
	assert_int_equal(edges[HPET_LINE_IRQ8], 1);
	assert_int_equal(edges[20], 0);
	assert_int_equal(messages, 1);
	wr(0x10, 1);
	assert_false(levels[HPET_LINE_LEGACY]);
	wr(0x100, 4 | ROUTE(31)); /* no such route: not kept */
	assert_int_equal(rd(0x100) & ROUTE(31), 0);
}

static void odd_accesses(void **state)
{
	for (unsigned at = 0; at < HPET_SIZE; at++)
		for (unsigned size = 1; size <= 8; size *= 2) {
			hpet_class.write(h, 0, at, size, ~0ull);
			hpet_class.read(h, 0, at, size);
			ticks(1);
		}
	ticks(1000000);
}

static void save_and_load(void **state)
{
	struct device_env env = { .clock = &guest_clock };
	struct blob saved = { 0 };
	struct err err = { 0 };
	char text[64];
	size_t used;
	struct device *copy = device_new(&hpet_class, "copy", &env, &err);

	wr(0x100, 4 | 8 | 0x40 | ROUTE(20));
	wr(0x108, 100000);
	wr(0x140, 2 | 4 | ROUTE(22));
	wr(0x148, 10);
	wr(0x120, 8 | 0x40); /* silent */
	wr(0x128, 70000);
	wr(0x10, 1);
	ticks(250000);
	assert_int_equal(device_save(h, &saved), 0);
	assert_int_equal(device_load(copy, saved.data, saved.len, &used, &err), 0);
	assert_null(state_diff(hpet_class.state, h, copy, text, sizeof(text)));
	ticks(250000); /* they run on alike */
	assert_int_equal(rd(0x128), 560000);
	hpet_class.saving(copy);
	assert_null(state_diff(hpet_class.state, h, copy, text, sizeof(text)));
	assert_int_equal(rd(0x108), 600000);
	blob_free(&saved);
	device_free(copy);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(counter),
		TEST(one_shot),
		TEST(narrow_wraps),
		TEST(periodic),
		TEST(periodic_in_two_writes),
		TEST(tiny_period_is_bounded),
		TEST(silent_periodic),
		TEST(level),
		TEST(legacy_and_message),
		TEST(odd_accesses),
		TEST(save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
