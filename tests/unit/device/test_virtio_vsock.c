/* The socket device: packets both ways, and what a driver is told after its machine was loaded. */
#include "device/virtio/vsock.h"
#include "virtio_driver.h"

#define HEAD 44u

enum { RX, TX, EVENT };

static unsigned resets;

static void on_reset(void *ctx) { resets++; }

static void open_rig(struct rig *r)
{
	static struct net_ops ops;

	ops = rig_net;
	ops.reset = on_reset;
	rig_open(r, &virtio_vsock_class);
	r->dev->env.net = &ops;
	assert_int_equal(device_set(r->dev, "cid", "42", NULL), 0);
}

static void packets_are_as_long_as_they_say(void **state)
{
	static const u32 lens[] = { 0, 100, 65536 };
	struct buffer b[] = { { BUFFERS, HEAD, 0 }, { BUFFERS + 64, 65536, 0 } };
	u8 head[HEAD] = { 0 };
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, 0, 3);

	assert_int_equal(get(&r, CONFIG(0), 8), 42);
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		put_le32(head + 24, lens[i]);
		poke(&r, BUFFERS, head, HEAD);
		offer(&d, TX, b, 2);
		kick(&d, TX);
		assert_true(collect(&d, TX, 2, &written));
		assert_int_equal(r.frame_len, HEAD + lens[i]);
	}
	r.frames = 0;
	put_le32(head + 24, 65537);
	poke(&r, BUFFERS, head, HEAD);
	offer(&d, TX, b, 2);
	put_le32(head + 24, 0);
	b[0].len = HEAD - 1;
	offer(&d, TX, b, 1);
	kick(&d, TX);
	assert_true(collect(&d, TX, 2, &written));
	assert_true(collect(&d, TX, 1, &written));
	assert_int_equal(r.frames, 0);
	assert_int_equal(status(&r), 15);
	rig_close(&r);
}

static void packets_arrive_or_wait(void **state)
{
	u8 packet[HEAD + 100], got[sizeof(packet)];
	struct rig r;
	u32 written;

	memset(packet, 0x3c, sizeof(packet));
	put_le32(packet + 24, 100);
	open_rig(&r);
	struct driver d = start(&r, VIRTIO_F_EVENT_IDX, 3);

	r.net_rooms = 0;
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), 0);
	offer(&d, RX, &(struct buffer){ BUFFERS, 4096, WRITE }, 1);
	kick(&d, RX);
	assert_int_equal(r.net_rooms, 1);
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), sizeof(packet));
	assert_true(collect(&d, RX, 1, &written));
	assert_int_equal(written, sizeof(packet));
	peek(&r, BUFFERS, got, sizeof(got));
	assert_memory_equal(got, packet, sizeof(got));
	/* Refused: the driver is asked to say when there is more, where it is now. */
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), 0);
	assert_int_equal(peek16(&r, RINGS(RX) + 0x2000 + 4 + 8 * QUEUE), 1);
	/* Data in two packets. */
	offer(&d, RX, &(struct buffer){ BUFFERS, HEAD + 60, WRITE }, 1);
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), 0);
	offer(&d, RX, &(struct buffer){ BUFFERS + 256, HEAD + 60, WRITE }, 1);
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), sizeof(packet));
	for (unsigned i = 0; i < 2; i++) {
		assert_true(collect(&d, RX, 1, &written));
		assert_int_equal(written, HEAD + (i ? 40 : 60));
		peek(&r, BUFFERS + 256 * i, got, written);
		assert_int_equal(get_le32(got + 24), i ? 40 : 60);
		assert_memory_equal(got + HEAD, packet + HEAD, i ? 40 : 60);
	}
	offer(&d, RX, &(struct buffer){ BUFFERS, HEAD, WRITE }, 1);
	assert_int_equal(r.dev->class->input(r.dev, packet, sizeof(packet)), 0);
	assert_int_equal(status(&r), 0x4f);
	rig_close(&r);
}

static void a_loaded_driver_hears_that_connections_are_gone(void **state)
{
	struct blob saved = { 0 };
	u8 event[4] = { 9, 9, 9, 9 };
	struct rig r;
	u32 written;
	size_t used;

	open_rig(&r);
	struct driver d = start(&r, 0, 3);

	poke(&r, BUFFERS, event, 4);
	offer(&d, EVENT, &(struct buffer){ BUFFERS, 4, WRITE }, 1);
	kick(&d, EVENT);
	assert_false(collect(&d, EVENT, 1, &written));
	assert_int_equal(device_save(r.dev, &saved), 0);
	for (size_t len = 0; len < saved.len; len += 1 + len / 7)
		assert_true(device_load(r.dev, saved.data, len, &used, NULL) < 0);
	assert_int_equal(device_load(r.dev, saved.data, saved.len, &used, NULL), 0);
	clock_run(&r.clock);
	assert_true(collect(&d, EVENT, 1, &written));
	assert_int_equal(written, 4);
	peek(&r, BUFFERS, event, 4);
	assert_int_equal(get_le32(event), 0);
	blob_free(&saved);
	resets = 0;
	set(&r, COMMON(0x14), 1, 0);
	assert_int_equal(resets, 1);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(packets_are_as_long_as_they_say),
		cmocka_unit_test(packets_arrive_or_wait),
		cmocka_unit_test(a_loaded_driver_hears_that_connections_are_gone),
	};

	return cmocka_run_group_tests_name("virtio-vsock", tests, NULL, NULL);
}
