/* The memory balloon: what is given back, what is kept, and what is known about the guest. */
#include "device/virtio/balloon.h"
#include "virtio_driver.h"

#define PAGES	  0xc0000ull /* memory that the driver gives away */
#define F_STATS	  BIT64(1)
#define F_OOM	  BIT64(2)
#define F_POISON  BIT64(4)
#define F_REPORTS BIT64(5)

enum { INFLATE, DEFLATE, STATS, REPORTS_AS_LINUX_HAS_IT, REPORTS, QUEUES_OF_ALL };

static void fill(struct rig *r, u64 at, u64 len)
{
	assert_true(memory_fill(&r->memory, gpa(at), 0x77, len));
}

/* How many of the pages from PAGES on are zero, a bit each. */
static u32 zero_pages(struct rig *r)
{
	static const u8 zeroes[PAGE_SIZE];
	u8 page[PAGE_SIZE];
	u32 found = 0;

	for (unsigned i = 0; i < 8; i++) {
		peek(r, PAGES + i * PAGE_SIZE, page, PAGE_SIZE);
		if (!memcmp(page, zeroes, PAGE_SIZE))
			found |= BIT(i);
	}
	return found;
}

static void offer_pages(struct driver *d, unsigned q, const u32 *pages, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		poke(d->r, BUFFERS + 4 * i, &pages[i], 4);
	offer(d, q, &(struct buffer){ BUFFERS, 4 * count, 0 }, 1);
	kick(d, q);
}

static void the_target_is_told_and_the_answer_read(void **state)
{
	struct rig r;

	rig_open(&r, &virtio_balloon_class);
	assert_int_equal(device_set(r.dev, "target", "64K", NULL), 0);
	map_bars(&r);
	assert_int_equal(offered(&r) & 0x3f, F_STATS | F_OOM | F_POISON | F_REPORTS);
	virtio_balloon_set(r.dev, 2 * 64 * KiB);
	assert_int_equal(r.messages, 0);
	start(&r, F_OOM, 2);
	assert_int_equal(get(&r, CONFIG(0), 4), 32);
	virtio_balloon_set(r.dev, 64 * KiB);
	assert_int_equal(r.messages, 1);
	assert_int_equal(r.data, VECTOR);
	assert_int_equal(get(&r, CONFIG(0), 4), 16);
	/* Only the second and the last field are the driver's. */
	set(&r, CONFIG(0), 4, 1);
	set(&r, CONFIG(4), 4, 5);
	set(&r, CONFIG(8), 4, 6);
	assert_int_equal(get(&r, CONFIG(0), 4), 16);
	assert_int_equal(get(&r, CONFIG(4), 4), 5);
	assert_int_equal(get(&r, CONFIG(8), 4), 0);
	assert_int_equal(virtio_balloon_report(r.dev).actual, 5 * PAGE_SIZE);
	assert_int_equal(virtio_balloon_report(r.dev).target, 64 * KiB);
	set(&r, COMMON(0x14), 1, 0);
	assert_int_equal(virtio_balloon_report(r.dev).actual, 0);
	assert_int_equal(virtio_balloon_report(r.dev).target, 64 * KiB);
	rig_close(&r);
}

static void inflating_gives_back_the_pages_that_are_named(void **state)
{
	static const u32 down[] = { 0xc3, 0xc2, 0xc5 }, up[] = { 0xc0, 0xc1, 0xc1, 0xffffffff, 0 };
	static const u64 features[] = { 0, VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX };
	u32 written;

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		struct rig r;

		rig_open(&r, &virtio_balloon_class);
		assert_int_equal(device_set(r.dev, "packed", "on", NULL), 0);
		struct driver d = start(&r, features[i], 2);

		fill(&r, PAGES, 8 * PAGE_SIZE);
		offer_pages(&d, INFLATE, down, ARRAY_LEN(down));
		assert_true(collect(&d, INFLATE, 1, &written));
		assert_int_equal(written, 0);
		assert_int_equal(zero_pages(&r), BIT(2) | BIT(3) | BIT(5));
		/* Nothing happens for a page that is in no memory; the others are gone. */
		offer_pages(&d, INFLATE, up, ARRAY_LEN(up));
		assert_true(collect(&d, INFLATE, 1, &written));
		assert_int_equal(zero_pages(&r), 0x2f);
		/* Taken out again: the driver just uses it. */
		fill(&r, PAGES, PAGE_SIZE);
		offer_pages(&d, DEFLATE, up, 1);
		assert_true(collect(&d, DEFLATE, 1, &written));
		assert_int_equal(zero_pages(&r), 0x2e);
		assert_int_equal(virtio_balloon_report(r.dev).given, 7 * PAGE_SIZE);
		assert_int_equal(status(&r), 15);
		rig_close(&r);
	}
}

/* The queue's number is the document's, or what Linux makes of it, with and without statistics. */
static void reported_pages_are_given_back_unless_they_hold_a_pattern(void **state)
{
	static const struct {
		u64 features;
		unsigned queue;
		u32 poison;
		bool given;
	} cases[] = {
		{ F_STATS | F_REPORTS, REPORTS_AS_LINUX_HAS_IT, 0, true },
		{ F_STATS | F_REPORTS, REPORTS, 0, true },
		{ F_REPORTS, STATS, 0, true },
		{ F_REPORTS | F_POISON, REPORTS, 0, true },
		{ F_REPORTS | F_POISON, REPORTS, 0xaaaaaaaa, false },
		{ F_REPORTS, REPORTS, 0xaaaaaaaa, true },
		{ 0, REPORTS, 0, false },
	};
	const struct buffer b[] = { { PAGES, 2 * PAGE_SIZE, WRITE },
		{ PAGES + 5 * PAGE_SIZE + 1, 2 * PAGE_SIZE, WRITE } };
	u32 written;

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct rig r;

		rig_open(&r, &virtio_balloon_class);
		struct driver d = start(&r, cases[i].features, QUEUES_OF_ALL);

		set(&r, CONFIG(12), 4, cases[i].poison);
		fill(&r, PAGES, 8 * PAGE_SIZE);
		offer(&d, cases[i].queue, b, 2);
		kick(&d, cases[i].queue);
		assert_true(collect(&d, cases[i].queue, 2, &written));
		assert_int_equal(written, 0);
		/* Of the second range only one page is whole. */
		assert_int_equal(zero_pages(&r), cases[i].given ? BIT(0) | BIT(1) | BIT(6) : 0);
		rig_close(&r);
	}
}

static void offer_stats(struct driver *d, u64 free)
{
	u8 stats[3 * 10];

	put_le16(stats, 4);
	put_le64(stats + 2, free);
	put_le16(stats + 10, 999); /* not known */
	put_le64(stats + 12, 1);
	put_le16(stats + 20, 5);
	put_le64(stats + 22, 1000);
	poke(d->r, BUFFERS, stats, sizeof(stats));
	offer(d, STATS, &(struct buffer){ BUFFERS, sizeof(stats), 0 }, 1);
	kick(d, STATS);
}

static void statistics_stay_in_the_queue_until_they_are_asked_for(void **state)
{
	static const u64 features[] = { 0, VIRTIO_F_PACKED, VIRTIO_F_EVENT_IDX };
	struct virtio_balloon_report report;
	u32 written;

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		struct rig r;

		rig_open(&r, &virtio_balloon_class);
		assert_int_equal(device_set(r.dev, "packed", "on", NULL), 0);
		assert_int_equal(virtio_balloon_report(r.dev).known, 0);
		struct driver d = start(&r, F_STATS | features[i], 3);

		assert_int_equal(virtio_balloon_report(r.dev).known, 0);
		offer_stats(&d, 700);
		assert_false(collect(&d, STATS, 1, &written));
		report = virtio_balloon_report(r.dev);
		assert_int_equal(report.known, BIT(4) | BIT(5));
		assert_int_equal(report.stats[4], 700);
		assert_int_equal(report.stats[5], 1000);
		assert_true(collect(&d, STATS, 1, &written));
		if (features[i] & VIRTIO_F_EVENT_IDX)
			assert_int_equal(peek16(&r, RINGS(STATS) + 0x2000 + 4 + 8 * QUEUE), 1);
		/* Nobody has asked anew. */
		report = virtio_balloon_report(r.dev);
		assert_int_equal(report.stats[4], 700);
		assert_false(collect(&d, STATS, 1, &written));
		offer_stats(&d, 600);
		assert_int_equal(virtio_balloon_report(r.dev).stats[4], 600);
		assert_int_equal(status(&r), 15);
		rig_close(&r);
	}
}

static void a_loaded_balloon_is_what_was_saved(void **state)
{
	struct blob saved = { 0 };
	struct rig r;
	size_t used;

	rig_open(&r, &virtio_balloon_class);
	struct driver d = start(&r, F_STATS | F_POISON, 3);

	virtio_balloon_set(r.dev, MiB);
	set(&r, CONFIG(4), 4, 9);
	set(&r, CONFIG(12), 4, 0x55555555);
	offer_stats(&d, 700);
	assert_int_equal(device_save(r.dev, &saved), 0);
	for (size_t len = 0; len < saved.len; len += 1 + len / 7)
		assert_true(device_load(r.dev, saved.data, len, &used, NULL) < 0);
	r.dev->class->reset(r.dev);
	assert_int_equal(get_le32(virtio_of(r.dev)->config + 4), 0);
	assert_int_equal(device_load(r.dev, saved.data, saved.len, &used, NULL), 0);
	map_bars(&r);
	assert_int_equal(get(&r, CONFIG(0), 4), 256);
	assert_int_equal(get(&r, CONFIG(4), 4), 9);
	assert_int_equal(get(&r, CONFIG(12), 4), 0x55555555);
	/* The buffer is in the queue still. */
	kick(&d, STATS);
	assert_int_equal(virtio_balloon_report(r.dev).stats[4], 700);
	blob_free(&saved);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_target_is_told_and_the_answer_read),
		cmocka_unit_test(inflating_gives_back_the_pages_that_are_named),
		cmocka_unit_test(reported_pages_are_given_back_unless_they_hold_a_pattern),
		cmocka_unit_test(statistics_stay_in_the_queue_until_they_are_asked_for),
		cmocka_unit_test(a_loaded_balloon_is_what_was_saved),
	};

	return cmocka_run_group_tests_name("virtio-balloon", tests, NULL, NULL);
}
