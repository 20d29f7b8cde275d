/* Limits of a disk, on a clock that is moved by hand: how many requests pass in a time, and in
 * which order. */
#include "base/bits.h"
#include "machine/throttle.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define SECOND	   1000000000ull
#define KIB4	   4096u
#define IN_A_BURST (BUCKET_BURST_NS / 1000000u) /* of a thousand a second */

struct bench {
	struct guest_clock clock;
	struct block *block;
	struct throttle throttle;
	struct block_request requests[4000];
	struct iovec iov;
	unsigned submitted, done;
	bool in_order;
};

static char image[] = "/tmp/strata-throttle-XXXXXX";
static u8 data[64 * KIB4];

static void on_done(struct block_request *r, int rc)
{
	struct bench *b = r->ctx;

	assert_int_equal(rc, 0);
	b->done++;
}

static struct bench *open_bench(u64 ops, u64 bytes, unsigned pieces)
{
	const struct block_options options = { .format = "raw" };
	const struct throttle_limits limits = { ops, bytes };
	struct bench *b = calloc(1, sizeof(*b));
	struct err err = { 0 };

	assert_non_null(b);
	assert_int_equal(block_open(&b->block, image, &options, &err), 0);
	clock_init(&b->clock);
	throttle_init(&b->throttle, b->block, &b->clock, &limits);
	b->iov = (struct iovec){ data, pieces * KIB4 };
	return b;
}

static void close_bench(struct bench *b)
{
	struct err err = { 0 };

	throttle_release(&b->throttle);
	assert_int_equal(block_close(b->block, &err), 0);
	assert_int_equal(b->done, b->submitted);
	assert_null(b->clock.timers);
	free(b);
}

static void submit(struct bench *b, unsigned count)
{
	while (count--) {
		struct block_request *r = &b->requests[b->submitted++];

		*r = (struct block_request){ .op = BLOCK_READ,
			.len = b->iov.iov_len,
			.iov = &b->iov,
			.iovcnt = 1,
			.done = on_done,
			.ctx = b };
		throttle_submit(&b->throttle, r);
	}
}

/* Those that were not held back, as the image's own queue is emptied. */
static unsigned passed(struct bench *b)
{
	block_drain(b->block);
	return b->done;
}

static void without_limits_all_pass(void **state)
{
	struct bench *b = open_bench(0, 0, 1);

	submit(b, 1000);
	assert_int_equal(passed(b), 1000);
	assert_int_equal(b->throttle.waited, 0);
	close_bench(b);
}

static void operations_are_counted(void **state)
{
	struct bench *b = open_bench(1000, 0, 1);

	submit(b, 3000);
	unsigned first = passed(b);

	assert_in_range(first, IN_A_BURST, IN_A_BURST + 1);
	clock_advance(&b->clock, SECOND);
	assert_in_range(passed(b), first + 999, first + 1001);
	clock_advance(&b->clock, SECOND / 10);
	assert_in_range(passed(b), first + 1099, first + 1101);
	close_bench(b);
}

/* A second of silence saves up no more than a burst. */
static void what_is_saved_up_is_bounded(void **state)
{
	struct bench *b = open_bench(1000, 0, 1);

	submit(b, 500);
	clock_advance(&b->clock, 10 * SECOND);
	assert_int_equal(passed(b), 500);
	submit(b, 500);
	assert_in_range(passed(b), 500 + IN_A_BURST, 500 + IN_A_BURST + 1);
	close_bench(b);
}

static void bytes_are_counted(void **state)
{
	struct bench *b = open_bench(0, 16 * MiB, 64); /* 64 requests a second */

	submit(b, 300);
	unsigned first = passed(b);

	assert_in_range(first, 6, 8);
	clock_advance(&b->clock, 2 * SECOND);
	assert_in_range(passed(b), first + 127, first + 129);
	close_bench(b);
}

/* One that costs more than a bucket holds passes, and the next ones wait for what it took. */
static void a_large_request_passes_some_day(void **state)
{
	struct bench *b = open_bench(0, KIB4, 64); /* each costs 64 seconds */

	submit(b, 3);
	assert_int_equal(passed(b), 1);
	clock_advance(&b->clock, 60 * SECOND);
	assert_int_equal(passed(b), 1);
	clock_advance(&b->clock, 5 * SECOND);
	assert_int_equal(passed(b), 2);
	close_bench(b);
}

static void the_first_to_come_is_the_first_to_go(void **state)
{
	struct bench *b = open_bench(10, 0, 1);

	submit(b, 50);
	for (unsigned n = passed(b); n < 50; n = passed(b)) {
		/* What waits is the tail, in order. */
		struct block_request *r = b->throttle.first;

		for (unsigned i = n; i < 50; i++, r = r->next)
			assert_ptr_equal(r, &b->requests[i]);
		assert_null(r);
		clock_advance(&b->clock, SECOND / 5);
	}
	close_bench(b);
}

static void a_clock_that_stands_holds_all(void **state)
{
	struct bench *b = open_bench(1, 0, 1);

	submit(b, 5);
	assert_int_equal(passed(b), 1);
	assert_int_equal(passed(b), 1);
	throttle_release(&b->throttle);
	assert_int_equal(passed(b), 5);
	close_bench(b);
}

static int make_image(void **state)
{
	int fd = mkstemp(image);

	return fd < 0 || ftruncate(fd, MiB) || close(fd);
}

static int remove_image(void **state) { return unlink(image); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_limits_all_pass),
		cmocka_unit_test(operations_are_counted),
		cmocka_unit_test(what_is_saved_up_is_bounded),
		cmocka_unit_test(bytes_are_counted),
		cmocka_unit_test(a_large_request_passes_some_day),
		cmocka_unit_test(the_first_to_come_is_the_first_to_go),
		cmocka_unit_test(a_clock_that_stands_holds_all),
	};

	return cmocka_run_group_tests(tests, make_image, remove_image);
}
