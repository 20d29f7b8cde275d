/* The network device: frames both ways, checksums, and heads that make no sense. */
#include "device/virtio/net.h"
#include "virtio_driver.h"

#define HEAD	 12u
#define CSUM	 BIT64(0)
#define GSO_CSUM BIT64(1)
#define TSO4	 BIT64(11)
#define FRAME	 60u

enum { RX, TX };

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "packed", "on", NULL), 0);
	assert_int_equal(device_set(r->dev, "mac", "02:00:5e:10:20:30", NULL), 0);
}

static void open_rig(struct rig *r)
{
	rig_open(r, &virtio_net_class);
	r->configure = configure;
	configure(r);
}

static void configuration_has_address_and_link(void **state)
{
	struct rig r;

	open_rig(&r);
	map_bars(&r);
	assert_int_equal(get(&r, CONFIG(0), 4), 0x105e0002);
	assert_int_equal(get(&r, CONFIG(4), 2), 0x3020);
	assert_int_equal(get(&r, CONFIG(6), 2), 1);
	assert_int_equal(get(&r, CONFIG(10), 2), 1500);
	assert_int_equal(device_set(r.dev, "mac", "nonsense", NULL), 0);
	map_bars(&r);
	assert_int_equal(get(&r, CONFIG(0), 4), 0x12005452);
	rig_close(&r);
}

/* Head and frame in two descriptors; whether the backend got it. */
static bool send(struct driver *d, const u8 head[HEAD], const u8 *frame, u32 len)
{
	const struct buffer b[] = { { BUFFERS, HEAD, 0 }, { BUFFERS + 64, len, 0 } };
	unsigned before = d->r->frames;
	u32 written;

	poke(d->r, BUFFERS, head, HEAD);
	poke(d->r, BUFFERS + 64, frame, len);
	offer(d, TX, b, 2);
	kick(d, TX);
	assert_true(collect(d, TX, 2, &written));
	assert_int_equal(written, 0);
	return d->r->frames > before;
}

static void frames_are_sent_as_they_are(void **state)
{
	static const u64 kinds[] = { 0, VIRTIO_F_PACKED };
	u8 frame[FRAME], head[HEAD] = { 0 };

	for (unsigned i = 0; i < FRAME; i++)
		frame[i] = (u8)(i + 1);
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 2);

		assert_true(send(&d, head, frame, FRAME));
		assert_int_equal(r.frame_len, FRAME);
		assert_memory_equal(r.frame, frame, FRAME);
		assert_false(send(&d, head, frame, 13)); /* not even addresses */
		assert_int_equal(status(&r), 15);
		rig_close(&r);
	}
}

/* The sum over everything from 14 on, the field included, must be all ones. */
static u32 sum_from(const u8 *p, size_t len)
{
	u32 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i & 1 ? (u32)p[i] : (u32)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void checksums_are_completed(void **state)
{
	u8 frame[FRAME + 8], head[HEAD] = { 1, 0 };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, CSUM, 2);

	put_le16(head + 6, 14);
	put_le16(head + 8, 16);
	for (unsigned len = FRAME - 2; len <= FRAME + 1; len++) {
		for (unsigned i = 0; i < len; i++)
			frame[i] = (u8)(i * 37 + len);
		put_le16(frame + 30, 0);
		assert_true(send(&d, head, frame, len));
		assert_int_equal(sum_from(r.frame + 14, len - 14), 0xffff);
	}
	put_le16(head + 8, FRAME - 14 - 1); /* half of it beyond the end */
	assert_false(send(&d, head, frame, FRAME));
	put_le16(head + 6, 0xffff);
	assert_false(send(&d, head, frame, FRAME));
	rig_close(&r);
}

static void offloads_must_be_agreed_on(void **state)
{
	u8 frame[FRAME] = { 0 }, head[HEAD] = { 1, 0 };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, 0, 2);

	assert_false(send(&d, head, frame, FRAME));
	d = start(&r, CSUM, 2);
	put_le16(head + 8, 16);
	assert_true(send(&d, head, frame, FRAME));
	head[1] = 1;
	assert_false(send(&d, head, frame, FRAME));
	d = start(&r, CSUM | TSO4, 2);
	assert_true(send(&d, head, frame, FRAME));
	head[1] = 3; /* UDP */
	assert_false(send(&d, head, frame, FRAME));
	head[0] = 0;
	head[1] = 1; /* segments without checksums */
	assert_false(send(&d, head, frame, FRAME));
	rig_close(&r);
}

static size_t arrive(struct rig *r, const u8 *frame, size_t len)
{
	return r->dev->class->input(r->dev, frame, len);
}

static void frames_arrive_or_wait(void **state)
{
	const struct buffer b = { BUFFERS, 1530, WRITE }, small = { BUFFERS, FRAME, WRITE };
	u8 frame[FRAME], got[HEAD + FRAME];
	struct rig r;
	u32 written;

	open_rig(&r);
	memset(frame, 0x77, sizeof(frame));
	assert_int_equal(arrive(&r, frame, FRAME), 0); /* before there is a driver */
	struct driver d = start(&r, GSO_CSUM, 2);

	assert_int_equal(arrive(&r, frame, FRAME), 0);
	assert_int_equal(r.net_rooms, 1); /* asked again when the driver was ready */
	offer(&d, RX, &b, 1);
	kick(&d, RX);
	assert_int_equal(r.net_rooms, 2);
	assert_int_equal(arrive(&r, frame, FRAME), FRAME);
	assert_true(collect(&d, RX, 1, &written));
	assert_int_equal(written, HEAD + FRAME);
	peek(&r, BUFFERS, got, sizeof(got));
	assert_int_equal(got[0], 2); /* the checksum is good */
	assert_int_equal(get_le16(got + 10), 1);
	assert_memory_equal(got + HEAD, frame, FRAME);
	assert_int_equal(r.data, VECTOR + 1);
	/* Lost, without harm. */
	offer(&d, RX, &small, 1);
	assert_int_equal(arrive(&r, frame, FRAME), FRAME);
	assert_true(collect(&d, RX, 1, &written));
	assert_int_equal(written, 0);
	assert_int_equal(status(&r), 15);
	rig_close(&r);
}

static void script(struct rig *r) { set(r, NOTIFY(RX), 2, RX); }

static void state_survives_migration(void **state)
{
	u8 frame[FRAME] = { 0 };
	struct rig r;

	open_rig(&r);
	start(&r, CSUM, 2);
	assert_int_equal(arrive(&r, frame, FRAME), 0);
	rig_check_migration(&r, script);
	assert_int_equal(r.net_rooms, 1);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configuration_has_address_and_link),
		cmocka_unit_test(frames_are_sent_as_they_are),
		cmocka_unit_test(checksums_are_completed),
		cmocka_unit_test(offloads_must_be_agreed_on),
		cmocka_unit_test(frames_arrive_or_wait),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("virtio-net", tests, NULL, NULL);
}
