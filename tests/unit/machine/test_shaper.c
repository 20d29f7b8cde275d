/* Limits of a network, on a clock that is moved by hand: how much passes in a time, in which order,
 * and what is lost. */
#include "machine/shaper.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

#define SECOND 1000000000ull
#define LIMIT  1000000u /* bytes a second */
#define FRAME  1000u
#define BURST  (LIMIT / (SECOND / BUCKET_BURST_NS))

struct bench {
	struct guest_clock clock;
	struct shaper shaper;
	u64 sent, bytes, heads; /* frames, and what was in them */
	u32 last;		/* number of the last one */
	u64 to_come, received;	/* frames that the network has for the guest, and has delivered */
};

/* A frame's first bytes are its number. */
static void on_send(void *ctx, const u8 *frame, size_t len, bool head)
{
	struct bench *b = ctx;
	u32 number = get_le32(frame);

	assert_true(number > b->last);
	for (size_t i = 4; i < len; i++)
		assert_int_equal(frame[i], (u8)(number + i));
	b->last = number;
	b->sent++;
	b->bytes += len;
	b->heads += head;
}

static void deliver(struct bench *b)
{
	while (b->to_come && shaper_may_receive(&b->shaper)) {
		b->to_come--;
		b->received++;
		shaper_received(&b->shaper, FRAME);
	}
}

static void on_room(void *ctx) { deliver(ctx); }

static struct bench *open_bench(u64 limit)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct err err = { 0 };

	assert_non_null(b);
	clock_init(&b->clock);
	shaper_init(&b->shaper, &b->clock, b);
	b->shaper.send = on_send;
	b->shaper.room = on_room;
	assert_int_equal(shaper_limit(&b->shaper, limit, &err), 0);
	return b;
}

static void close_bench(struct bench *b)
{
	shaper_forget(&b->shaper);
	assert_null(b->clock.timers);
	free(b);
}

static void send(struct bench *b, u32 number, size_t len, bool head)
{
	static u8 frame[70000];

	for (size_t i = 4; i < len; i++)
		frame[i] = (u8)(number + i);
	put_le32(frame, number);
	shaper_send(&b->shaper, frame, len, head);
}

static void without_limits_all_passes_at_once(void **state)
{
	struct bench *b = open_bench(0);

	for (u32 i = 1; i <= 1000; i++)
		send(b, i, FRAME, i % 2);
	b->to_come = 1000;
	deliver(b);
	assert_int_equal(b->sent, 1000);
	assert_int_equal(b->heads, 500);
	assert_int_equal(b->received, 1000);
	close_bench(b);
}

static void what_is_sent_too_fast_waits_for_its_time(void **state)
{
	struct bench *b = open_bench(LIMIT);

	for (u32 i = 1; i <= 300; i++)
		send(b, i, FRAME, i % 2);
	assert_in_range(b->bytes, BURST, BURST + FRAME);
	clock_advance(&b->clock, SECOND / 10);
	assert_in_range(b->bytes, 2 * BURST, 2 * BURST + 2 * FRAME);
	clock_advance(&b->clock, SECOND);
	assert_int_equal(b->sent, 300);
	assert_int_equal(b->heads, 150);
	assert_int_equal(b->shaper.lost, 0);
	close_bench(b);
}

/* Long ones and short ones, round the ring's end many times; in order, and nothing changed. */
static void a_long_time_gives_what_was_asked_for(void **state)
{
	struct bench *b = open_bench(LIMIT);
	u64 offered = 0;

	for (u32 i = 1; i <= 2000; i++) {
		size_t len = i % 50 ? 60 + i % 1400 : 65000;

		offered += len;
		send(b, i, len, false);
		clock_advance(&b->clock, SECOND / 1000);
	}
	assert_true(offered > 2 * LIMIT);
	assert_true(b->shaper.lost > 0);
	assert_in_range(b->bytes, 2 * LIMIT - BURST, 2 * LIMIT + 2 * BURST);
	close_bench(b);
}

static void what_the_queue_has_no_room_for_is_lost(void **state)
{
	struct bench *b = open_bench(LIMIT);

	for (u32 i = 1; i <= 1000; i++)
		send(b, i, FRAME, false);
	u64 kept = 1000 - b->shaper.lost;

	assert_in_range(kept * FRAME, SHAPER_QUEUE, SHAPER_QUEUE + BURST + 2 * FRAME);
	clock_advance(&b->clock, 10 * SECOND);
	assert_int_equal(b->sent, kept);
	close_bench(b);
}

static void what_is_for_the_guest_comes_in_time(void **state)
{
	struct bench *b = open_bench(LIMIT);

	b->to_come = 3000;
	deliver(b);
	assert_in_range(b->received * FRAME, BURST, BURST + FRAME);
	clock_advance(&b->clock, SECOND);
	assert_in_range(b->received * FRAME, LIMIT + BURST - FRAME, LIMIT + BURST + FRAME);
	clock_advance(&b->clock, SECOND);
	assert_in_range(b->received * FRAME, 2 * LIMIT + BURST - FRAME, 2 * LIMIT + BURST + FRAME);
	close_bench(b);
}

static void a_clock_that_stands_holds_all_and_what_is_forgotten_does_not_come(void **state)
{
	struct bench *b = open_bench(LIMIT);

	for (u32 i = 1; i <= 200; i++)
		send(b, i, FRAME, false);
	b->to_come = 200;
	deliver(b);
	u64 sent = b->sent, received = b->received;

	clock_run(&b->clock);
	assert_int_equal(b->sent, sent);
	shaper_forget(&b->shaper);
	clock_advance(&b->clock, SECOND);
	assert_int_equal(b->sent, sent);
	assert_int_equal(b->received, received);
	send(b, 1000, FRAME, false);
	assert_int_equal(b->sent, sent + 1);
	close_bench(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_limits_all_passes_at_once),
		cmocka_unit_test(what_is_sent_too_fast_waits_for_its_time),
		cmocka_unit_test(a_long_time_gives_what_was_asked_for),
		cmocka_unit_test(what_the_queue_has_no_room_for_is_lost),
		cmocka_unit_test(what_is_for_the_guest_comes_in_time),
		cmocka_unit_test(a_clock_that_stands_holds_all_and_what_is_forgotten_does_not_come),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
