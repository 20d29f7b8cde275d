/* The file system device: requests go out as they came, answers come back into their chains, and
 * whatever nobody answers is answered with an error. */
#include "device/virtio/fs.h"
#include "virtio_driver.h"
#include <errno.h>

#define REQUEST 48u
#define ROOM	4096u

enum { URGENT, REQUESTS };

static struct {
	u8 buffers[SHARED_SLOTS][SHARED_BUFFER];
	u32 asked, len[SHARED_SLOTS], room[SHARED_SLOTS];
	unsigned resets;
	bool gone;
} there;

static u8 *on_buffer(void *ctx, unsigned slot) { return there.buffers[slot]; }

static bool on_ask(void *ctx, unsigned slot, u32 len, u32 room)
{
	assert_false(there.asked & BIT(slot));
	if (there.gone)
		return false;
	there.asked |= (u32)BIT(slot);
	there.len[slot] = len;
	there.room[slot] = room;
	return true;
}

static void on_reset(void *ctx) { there.resets++; }

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "tag", "work", NULL), 0);
}

static void open_rig(struct rig *r)
{
	static const struct shared_ops ops = { on_buffer, on_ask, on_reset };

	memset(&there, 0, sizeof(there));
	rig_shared = &ops;
	rig_open(r, &virtio_fs_class);
	configure(r);
}

static void answer(struct rig *r, unsigned slot, u32 len)
{
	there.asked &= ~(u32)BIT(slot);
	virtio_fs_answered(r->dev, slot, len);
}

/* A request whose number is n. */
static void offer_request(struct driver *d, unsigned q, unsigned n, u32 room)
{
	u64 at = BUFFERS + 0x2000ull * (n % 16);
	const struct buffer b[] = { { at, 20, 0 }, { at + 20, REQUEST - 20, 0 },
		{ at + 64, 8, WRITE }, { at + 72, room - 8, WRITE } };
	u8 bytes[REQUEST];

	memset(bytes, (int)n, sizeof(bytes));
	put_le64(bytes + 8, n);
	poke(d->r, at, bytes, sizeof(bytes));
	offer(d, q, b, room ? 4 : 2);
}

static void requests_are_passed_on(void **state)
{
	struct rig r;
	u32 written;
	u8 got[36];

	open_rig(&r);
	struct driver d = start(&r, VIRTIO_F_EVENT_IDX, 2);

	peek(&r, BUFFERS, got, 4);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(get(&r, CONFIG(i), 1), (u8) "work"[i]);
	assert_int_equal(get(&r, CONFIG(36), 4), 1);
	offer_request(&d, REQUESTS, 1, ROOM);
	offer_request(&d, REQUESTS, 2, ROOM);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 3);
	assert_int_equal(there.len[0], REQUEST);
	assert_int_equal(there.room[1], ROOM);
	assert_int_equal(get_le64(there.buffers[1] + 8), 2);
	assert_int_equal(there.buffers[1][REQUEST - 1], 2);
	/* In any order. */
	memset(there.buffers[1], 0x5c, 100);
	r.messages = 0;
	answer(&r, 1, 100);
	assert_int_equal(r.messages, 1);
	assert_true(collect(&d, REQUESTS, 4, &written));
	assert_int_equal(written, 100);
	peek(&r, BUFFERS + 0x4000 + 64, got, 36);
	for (unsigned i = 0; i < 36; i++)
		assert_int_equal(got[i], 0x5c);
	answer(&r, 0, 0);
	assert_true(collect(&d, REQUESTS, 4, &written));
	assert_int_equal(written, 0);
	/* Without room for an answer. */
	offer_request(&d, URGENT, 3, 0);
	kick(&d, URGENT);
	answer(&r, 0, 0);
	assert_true(collect(&d, URGENT, 2, &written));
	rig_close(&r);
}

static void requests_wait_for_slots(void **state)
{
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT, 2);

	/* Without answers a chain takes two of a queue's descriptors: more than there are slots. */
	for (unsigned i = 0; i < 8; i++)
		offer_request(&d, REQUESTS, i, 0);
	kick(&d, REQUESTS);
	for (unsigned i = 0; i < 8; i++)
		offer_request(&d, URGENT, i, 0);
	kick(&d, URGENT);
	assert_int_equal(there.asked, 0xffff);
	answer(&r, 3, 0);
	assert_true(collect(&d, REQUESTS, 2, &written));
	offer_request(&d, REQUESTS, 9, 0);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 0xffff);
	answer(&r, 4, 0);
	assert_true(collect(&d, REQUESTS, 2, &written));
	offer_request(&d, REQUESTS, 10, 0);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 0xffff);
	/* The queue is full of slots: what is answered makes room for what waits. */
	offer_request(&d, REQUESTS, 11, 0);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 0xffff);
	answer(&r, 5, 0);
	assert_int_equal(there.asked, 0xffff);
	assert_int_equal(there.buffers[5][20], 11);
	rig_close(&r);
}

static void nobody_there_is_an_error(void **state)
{
	struct rig r;
	u32 written;
	u8 got[16];

	open_rig(&r);
	struct driver d = start(&r, 0, 2);

	offer_request(&d, REQUESTS, 5, ROOM);
	kick(&d, REQUESTS);
	there.gone = true;
	answer(&r, 0, VIRTIO_FS_GONE);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(collect(&d, REQUESTS, 4, &written));
		assert_int_equal(written, 16);
		peek(&r, BUFFERS + 0x2000 * (5 + i) + 64, got, 16);
		assert_int_equal(get_le32(got), 16);
		assert_int_equal((int)get_le32(got + 4), -EIO);
		assert_int_equal(get_le64(got + 8), 5 + i);
		if (!i) {
			offer_request(&d, REQUESTS, 6, ROOM);
			kick(&d, REQUESTS);
		}
	}
	/* No request at all. */
	offer(&d, REQUESTS, &(struct buffer){ BUFFERS, 39, 0 }, 1);
	kick(&d, REQUESTS);
	assert_true(collect(&d, REQUESTS, 1, &written));
	assert_int_equal(written, 0);
	assert_int_equal(status(&r), 15);
	rig_close(&r);
}

static void a_reset_forgets_chains(void **state)
{
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, 0, 2);

	offer_request(&d, REQUESTS, 1, ROOM);
	kick(&d, REQUESTS);
	unsigned resets = there.resets;

	d = start(&r, 0, 2);
	assert_int_equal(there.resets, resets + 1);
	/* The slot is not free, and what comes into it is nobody's. */
	offer_request(&d, REQUESTS, 2, ROOM);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 3);
	answer(&r, 0, 100);
	assert_false(collect(&d, REQUESTS, 4, &written));
	answer(&r, 1, 50);
	assert_true(collect(&d, REQUESTS, 4, &written));
	assert_int_equal(written, 50);
	rig_close(&r);
}

static void ask_and_hear(struct rig *r)
{
	struct driver d = { .r = r };

	offer_request(&d, REQUESTS, 3, ROOM);
	kick(&d, REQUESTS);
	assert_int_equal(there.asked, 1);
	answer(r, 0, 20);
}

static void it_is_saved_and_loaded(void **state)
{
	struct rig r;

	open_rig(&r);
	r.configure = configure;
	start(&r, VIRTIO_F_EVENT_IDX, 2);
	rig_check_migration(&r, ask_and_hear);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_are_passed_on),
		cmocka_unit_test(requests_wait_for_slots),
		cmocka_unit_test(nobody_there_is_an_error),
		cmocka_unit_test(a_reset_forgets_chains),
		cmocka_unit_test(it_is_saved_and_loaded),
	};

	return cmocka_run_group_tests_name("virtio_fs", tests, NULL, NULL);
}
