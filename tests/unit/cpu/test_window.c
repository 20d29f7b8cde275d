/* The translator's window: what it shows, what it must never reach, and who owns it. */
#include "base/bits.h"
#include "cpu/translate/window.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES	 4096u
#define HIGH_VA	 0x7ffff0000000ull
#define LOW_VA	 0x400000ull
#define RESERVED (WINDOW_REGIONS * (WINDOW_SIZE + WINDOW_GUARD) + WINDOW_GUARD)

struct fixture {
	struct memory memory;
	struct memory_region *ram;
	struct window w;
	bool none;   /* a host that limits address space, or the thread sanitizer */
	int pipe[2]; /* the kernel says whether memory may be read or written */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	memory_init(&f->memory);
	f->ram = memory_add_region(&f->memory, "ram", PAGES * PAGE_SIZE, false, &err);
	assert_non_null(f->ram);
	assert_int_equal(memory_add_slot(&f->memory, f->ram, gpa(0), 0, f->ram->size, &err), 0);
	assert_int_equal(pipe(f->pipe), 0);
	f->none = window_open(&f->w, &f->memory) < 0;
	for (unsigned i = 0; i < PAGES; i++)
		f->ram->host[i * PAGE_SIZE] = (u8)(i * 7 + 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (!f->none)
		window_close(&f->w);
	memory_fini(&f->memory);
	close(f->pipe[0]);
	close(f->pipe[1]);
	free(f);
	return 0;
}

/* Not in setup(), which cannot skip. */
static struct fixture *fixture(void **state)
{
	struct fixture *f = *state;

	if (f->none)
		skip();
	return f;
}

static u8 *page(const struct fixture *f, unsigned i) { return f->ram->host + i * PAGE_SIZE; }

static u8 *shown_at(const struct fixture *f, u64 va)
{
	return (u8 *)(uintptr_t)(va + window_delta(&f->w, (unsigned)(va >> WINDOW_SHIFT) & 255));
}

static bool readable(const struct fixture *f, u64 va, u8 *byte)
{
	if (write(f->pipe[1], shown_at(f, va), 1) != 1) {
		assert_int_equal(errno, EFAULT);
		return false;
	}
	assert_int_equal(read(f->pipe[0], byte, 1), 1);
	return true;
}

static bool writable(const struct fixture *f, u64 va)
{
	u8 byte = 0x5a;

	assert_int_equal(write(f->pipe[1], &byte, 1), 1);
	if (read(f->pipe[0], shown_at(f, va), 1) == 1)
		return true;
	assert_int_equal(errno, EFAULT);
	assert_int_equal(read(f->pipe[0], &byte, 1), 1);
	return false;
}

/* ---- safety ---- */

/* Whatever is in a guest register, the sum that code would use is in the window or not canonical.
 */
static void window_sums_never_leave_the_window(void **state)
{
	static const u64 uppers[] = { 0, 1, 2, 0x1fff, 0x2000, 0x3fc0, 0x3ffe, 0x3fff };
	static const u64 lows[] = { 0, 1, 0x1234567890, WINDOW_SIZE / 2, WINDOW_SIZE - 1 };
	static const s64 disps[] = { 0, 1, -1, INT32_MAX, INT32_MIN, (s64)(36 * GiB),
		-(s64)(36 * GiB) };
	const struct fixture *f = fixture(state);
	u64 base = (u64)(uintptr_t)f->w.base;
	unsigned inside = 0;

	for (unsigned bits = 0; bits < WINDOW_DELTAS; bits++)
		for (unsigned u = 0; u < ARRAY_LEN(uppers); u++)
			for (unsigned l = 0; l < ARRAY_LEN(lows); l++)
				for (unsigned d = 0; d < ARRAY_LEN(disps); d++) {
					u64 value = uppers[u] << 50 | (u64)bits << WINDOW_SHIFT |
						    lows[l];
					u64 sum = value + window_delta(&f->w, bits) + (u64)disps[d];
					bool canonical = (u64)((s64)(sum << 16) >> 16) == sum;

					if (!canonical)
						continue;
					assert_true(sum - base < RESERVED);
					inside++;
				}
	assert_true(inside > 0);
}

static void window_regions_are_those_of_their_addresses(void **state)
{
	assert_int_equal(window_region_of(LOW_VA, 8), WINDOW_LOW);
	assert_int_equal(window_region_of(0x555555554000, 8), WINDOW_PIE);
	assert_int_equal(window_region_of(HIGH_VA, 8), WINDOW_HIGH);
	assert_int_equal(window_region_of(WINDOW_SIZE - 4, 8), WINDOW_NOWHERE);
	assert_int_equal(window_region_of(0x200000000000, 8), WINDOW_NOWHERE);
	assert_int_equal(window_region_of(0xffff888000000000, 8), WINDOW_NOWHERE);
	assert_int_equal(window_region_of(0x800000000000, 1), WINDOW_NOWHERE);
}

/* ---- pages ---- */

static void window_page_is_reachable_while_shown(void **state)
{
	struct fixture *f = fixture(state);
	u8 byte = 0;

	assert_false(readable(f, HIGH_VA, &byte));
	window_show(&f->w, HIGH_VA, page(f, 3), 1, false);
	assert_true(readable(f, HIGH_VA, &byte));
	assert_int_equal(byte, 3 * 7 + 1);
	assert_false(writable(f, HIGH_VA));
	window_show(&f->w, HIGH_VA, page(f, 3), 1, true);
	assert_true(writable(f, HIGH_VA));
	assert_int_equal(page(f, 3)[0], 0x5a);
	window_hide(&f->w, HIGH_VA);
	assert_false(readable(f, HIGH_VA, &byte));
	assert_false(window_has(&f->w, HIGH_VA, false));
}

static void window_protect_takes_only_the_right_to_write(void **state)
{
	struct fixture *f = fixture(state);
	u8 byte;

	window_show(&f->w, HIGH_VA, page(f, 5), 2, true);
	window_show(&f->w, LOW_VA, page(f, 6), 1, true);
	window_protect(&f->w, page(f, 6));
	assert_true(writable(f, HIGH_VA));
	assert_false(writable(f, HIGH_VA + PAGE_SIZE));
	assert_false(writable(f, LOW_VA));
	assert_true(readable(f, LOW_VA, &byte));
	assert_false(window_has(&f->w, LOW_VA, true));
	assert_true(window_has(&f->w, LOW_VA, false));
}

/* Hiding in random order moves entries in the table: none may be lost, none found twice. */
static void window_table_survives_hiding_in_any_order(void **state)
{
	struct fixture *f = fixture(state);
	static bool there[PAGES];
	unsigned count = 0;
	u32 random = 12345;

	for (unsigned n = 0; n < 20000; n++) {
		random = random * 1664525 + 1013904223;
		unsigned i = random >> 8 & (PAGES - 1);
		u64 va = HIGH_VA + (u64)i * PAGE_SIZE * 3;

		if (there[i])
			window_hide(&f->w, va);
		else
			window_show(&f->w, va, page(f, i), 1, random & 0x80);
		there[i] = !there[i];
		count = count + there[i] - !there[i];
		assert_int_equal(f->w.count, count);
	}
	for (unsigned i = 0; i < PAGES; i++) {
		u64 va = HIGH_VA + (u64)i * PAGE_SIZE * 3;
		u8 byte;

		assert_int_equal(window_has(&f->w, va, false), there[i]);
		assert_int_equal(readable(f, va, &byte), there[i]);
	}
	window_hide_all(&f->w);
	assert_int_equal(f->w.count, 0);
	for (unsigned i = 0; i < PAGES; i += 100)
		assert_false(window_has(&f->w, HIGH_VA + (u64)i * PAGE_SIZE * 3, false));
}

/* ---- ownership ---- */

static void window_goes_to_who_runs_more_than_all_others(void **state)
{
	struct fixture *f = fixture(state);
	unsigned ticks = 0;

	for (unsigned i = 0; i < 20 * WINDOW_VOTES; i++)
		window_tick(&f->w, i % 2 ? 0x1000 : 0x2000);
	assert_int_not_equal(f->w.owner, 0x1000);
	assert_int_not_equal(f->w.owner, 0x2000);
	while (f->w.owner != 0x2000 && ++ticks < 10 * WINDOW_VOTES)
		window_tick(&f->w, ticks % 4 ? 0x2000 : 0x1000);
	assert_in_range(ticks, WINDOW_VOTES, 3 * WINDOW_VOTES);
	/* And keeps it, unless another one runs more. */
	for (unsigned i = 0; i < 20 * WINDOW_VOTES; i++)
		window_tick(&f->w, i % 2 ? 0x1000 : 0x2000);
	assert_int_equal(f->w.owner, 0x2000);
	for (unsigned i = 0; i < 2 * WINDOW_VOTES; i++)
		window_tick(&f->w, 0x1000);
	assert_int_equal(f->w.owner, 0x1000);
}

static void window_page_that_comes_and_goes_churns_for_a_while(void **state)
{
	struct fixture *f = fixture(state);

	for (unsigned i = 0; i < 195; i++) {
		window_show(&f->w, HIGH_VA, page(f, 1), 1, true);
		window_hide(&f->w, HIGH_VA);
		if (i % 10 == 9)
			window_tick(&f->w, 1);
	}
	assert_true(window_churns(&f->w, HIGH_VA + 7));
	assert_false(window_churns(&f->w, HIGH_VA + PAGE_SIZE));
	for (unsigned i = 0; i < 10; i++)
		window_tick(&f->w, 1);
	assert_false(window_churns(&f->w, HIGH_VA));
	/* Once in a while is no reason, however often. */
	for (unsigned i = 0; i < 200; i++) {
		window_show(&f->w, HIGH_VA, page(f, 1), 1, true);
		window_hide(&f->w, HIGH_VA);
		window_tick(&f->w, 1);
		assert_false(window_churns(&f->w, HIGH_VA));
	}
}

static void window_is_lost_by_a_storm_of_faults_and_comes_back(void **state)
{
	struct fixture *f = fixture(state);
	unsigned ticks = 0;

	window_give(&f->w, 0x3000);
	window_show(&f->w, HIGH_VA, page(f, 1), 1, true);
	f->w.faults = 100000;
	window_tick(&f->w, 0x3000);
	assert_int_not_equal(f->w.owner, 0x3000);
	assert_int_equal(f->w.count, 0);
	while (f->w.owner != 0x3000 && ++ticks < 100)
		window_tick(&f->w, 0x3000);
	assert_in_range(ticks, WINDOW_VOTES, WINDOW_VOTES + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			window_sums_never_leave_the_window, setup, teardown),
		cmocka_unit_test(window_regions_are_those_of_their_addresses),
		cmocka_unit_test_setup_teardown(
			window_page_is_reachable_while_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(
			window_protect_takes_only_the_right_to_write, setup, teardown),
		cmocka_unit_test_setup_teardown(
			window_table_survives_hiding_in_any_order, setup, teardown),
		cmocka_unit_test_setup_teardown(
			window_goes_to_who_runs_more_than_all_others, setup, teardown),
		cmocka_unit_test_setup_teardown(
			window_page_that_comes_and_goes_churns_for_a_while, setup, teardown),
		cmocka_unit_test_setup_teardown(
			window_is_lost_by_a_storm_of_faults_and_comes_back, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
