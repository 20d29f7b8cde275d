/* --trace requests: what is followed, what a table shows, and that neither more requests than there
 * is room for nor one that is submitted from within done() confuses it. Times are the host's; only
 * their order is looked at. */
#include "base/bits.h"
#include "machine/requests.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define SECTOR 512u
#define MANY   100u

struct bench {
	struct requests *q;
	struct block *block;
	FILE *to;
	char *text;
	size_t len;
	struct block_request requests[MANY];
	unsigned done;
	bool interrupts, flushes; /* in done() */
};

static char image[] = "/tmp/strata-requests-XXXXXX";
static u8 sector[SECTOR];
static const struct iovec iov = { sector, SECTOR };

static void open_bench(struct bench *b, enum io_how how)
{
	const struct block_options options = { .format = "raw", .io = how };
	struct err err = { 0 };

	*b = (struct bench){ 0 };
	assert_int_equal(block_open(&b->block, image, &options, &err), 0);
	b->to = open_memstream(&b->text, &b->len);
	assert_non_null(b->to);
	b->q = requests_new(b->to);
	assert_non_null(b->q);
}

/* The text is complete, and the caller's. */
static char *close_bench(struct bench *b)
{
	struct err err = { 0 };

	block_drain(b->block);
	requests_free(b->q);
	assert_int_equal(block_close(b->block, &err), 0);
	fclose(b->to);
	return b->text;
}

static void submit(struct bench *b, struct block_request *r)
{
	requests_disk(b->q, 0, r);
	block_submit(b->block, r);
}

static void on_done(struct block_request *r, int rc)
{
	struct bench *b = r->ctx;

	assert_int_equal(rc, 0);
	assert_null(r->times);
	assert_ptr_equal(r->done, on_done);
	b->done++;
	if (b->flushes) {
		b->flushes = false;
		r->op = BLOCK_FLUSH;
		r->len = 0;
		submit(b, r);
	} else if (b->interrupts) {
		requests_interrupt(b->q);
	}
}

static void begin(struct bench *b, unsigned i, enum block_op op)
{
	b->requests[i] = (struct block_request){ .op = op,
		.offset = (u64)i * SECTOR,
		.len = SECTOR,
		.iov = &iov,
		.iovcnt = 1,
		.done = on_done,
		.ctx = b };
	submit(b, &b->requests[i]);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text += strlen(what))
		n++;
	return n;
}

static void expect_in_order(const char *text, const char *const *what)
{
	for (; *what; what++) {
		const char *found = strstr(text, *what);

		if (!found)
			print_error("not there, or too early: %s\n%s", *what, text);
		assert_non_null(found);
		text = found + strlen(*what);
	}
}

static void a_read_passes_all_parts(void **state)
{
	static const char *const parts[] = { "disk0: read, 512 bytes at 0x0, cpu3",
		"1 guest driver", "2 virtual device", "3 channel", "4 I/O stack",
		"5 physical driver", "I/O stack  ", "virtual device", "is interrupted",
		"1 of disks, read", NULL };
	struct bench b;

	for (enum io_how how = IO_AUTO; how <= IO_THREADS; how += IO_THREADS - IO_AUTO) {
		open_bench(&b, how);
		b.interrupts = true;
		requests_rang(b.q, 3, 1);
		begin(&b, 0, BLOCK_READ);
		requests_rung(b.q);
		char *text = close_bench(&b);

		expect_in_order(text, parts);
		free(text);
	}
}

static void one_that_no_doorbell_was_rung_for_begins_in_the_channel(void **state)
{
	static const char *const parts[] = { "disk0: write, 512 bytes at 0x0\n", "3 channel",
		"no interrupt", NULL };
	struct bench b;

	open_bench(&b, IO_AUTO);
	begin(&b, 0, BLOCK_WRITE);
	char *text = close_bench(&b);

	expect_in_order(text, parts);
	assert_int_equal(count(text, "1 guest driver"), 0);
	free(text);
}

static void one_that_is_submitted_again_from_within_done_is_another_one(void **state)
{
	static const char *const parts[] = { "disk0: write", "no interrupt", "disk0: flush",
		"is interrupted", NULL };
	struct bench b;

	open_bench(&b, IO_AUTO);
	b.interrupts = b.flushes = true;
	requests_rang(b.q, 0, 1);
	begin(&b, 0, BLOCK_WRITE);
	requests_rung(b.q);
	block_drain(b.block);
	assert_int_equal(b.done, 2);
	char *text = close_bench(&b);

	expect_in_order(text, parts);
	free(text);
}

static void more_than_can_be_followed_are_counted(void **state)
{
	struct bench b;

	open_bench(&b, IO_AUTO);
	for (unsigned i = 0; i < MANY; i++)
		begin(&b, i, BLOCK_READ);
	block_drain(b.block);
	assert_int_equal(b.done, MANY);
	char *text = close_bench(&b);
	unsigned followed = count(text, "disk0: read");
	char missed[32];

	snprintf(missed, sizeof(missed), "\n%u more", MANY - followed);
	assert_in_range(followed, 32, MANY - 1);
	assert_int_equal(count(text, missed), 1);
	free(text);
}

static void frames_that_leave_share_their_interrupt(void **state)
{
	const struct net_times times = { 0 };
	struct bench b;

	open_bench(&b, IO_AUTO);
	requests_rang(b.q, 1, 1);
	for (unsigned i = 0; i < 2; i++) {
		requests_sends(b.q);
		requests_sent(b.q, 0, 60 + i, &times);
	}
	requests_interrupt(b.q);
	requests_rung(b.q);
	requests_interrupt(b.q); /* of something else */
	char *text = close_bench(&b);

	assert_int_equal(count(text, "net0: frame from the guest, 60 bytes, cpu1"), 1);
	assert_int_equal(count(text, "net0: frame from the guest, 61 bytes, cpu1"), 1);
	assert_int_equal(count(text, "is interrupted"), 2);
	free(text);
}

static void a_frame_comes_the_other_way_round_and_one_that_is_refused_does_not_count(void **state)
{
	static const char *const parts[] = { "net2: frame for the guest, 99 bytes\n",
		"6 real device", "5 physical driver", "4 I/O stack", "3 channel",
		"2 virtual device", "1 guest driver", "1 frames for the guest", NULL };
	const struct net_times times = { .arrived = 1, .asked = 2, .delivered = 3 };
	struct bench b;

	open_bench(&b, IO_AUTO);
	requests_receives(b.q, &times);
	requests_received(b.q, 2, 0);
	requests_receives(b.q, &times);
	requests_interrupt(b.q);
	requests_received(b.q, 2, 99);
	char *text = close_bench(&b);

	expect_in_order(text, parts);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_read_passes_all_parts),
		cmocka_unit_test(one_that_no_doorbell_was_rung_for_begins_in_the_channel),
		cmocka_unit_test(one_that_is_submitted_again_from_within_done_is_another_one),
		cmocka_unit_test(more_than_can_be_followed_are_counted),
		cmocka_unit_test(frames_that_leave_share_their_interrupt),
		cmocka_unit_test(
			a_frame_comes_the_other_way_round_and_one_that_is_refused_does_not_count),
	};
	int fd = mkstemp(image), rc;

	if (fd < 0 || ftruncate(fd, MANY * SECTOR))
		return 1;
	close(fd);
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(image);
	return rc;
}
