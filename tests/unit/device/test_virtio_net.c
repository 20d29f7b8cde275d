/* The network device: frames both ways, checksums, and heads that make no sense. */
#include "device/virtio/net.h"
#include "virtio_driver.h"

#define HEAD	 12u
#define CSUM	 BIT64(0)
#define GSO_CSUM BIT64(1)
#define TSO4	 BIT64(11)
#define FRAME	 60u

#define GUEST_OFFLOADS BIT64(2)
#define MERGE	       BIT64(15)
#define CTRL	       BIT64(17)
#define MQ	       BIT64(22)

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

static void script_pairs(struct rig *r) { set(r, NOTIFY(2), 2, 2); }

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
	put_le16(head + 4, 20);
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

/* ---- mergeable buffers ---- */

/* 100 bytes of head and frame in chains of 30: four of them, seen all at once. */
static void frames_are_spread_over_buffers(void **state)
{
	static const u64 kinds[] = { MERGE, MERGE | VIRTIO_F_PACKED };
	u8 frame[100 - HEAD], got[100];

	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (u8)(i + 1);
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++) {
		struct rig r;
		u32 written = 0, total;

		open_rig(&r);
		struct driver d = start(&r, kinds[k], 2);

		/* Twice round the ring; the fourth chain comes last. */
		for (unsigned round = 0; round < 2 * QUEUE / 4 + 1; round++) {
			total = 0;
			for (unsigned i = 0; i < 3; i++)
				offer(&d, RX, &(struct buffer){ BUFFERS + 30 * i, 30, WRITE }, 1);
			assert_int_equal(arrive(&r, frame, sizeof(frame)), 0);
			assert_false(collect(&d, RX, 1, &written));
			offer(&d, RX, &(struct buffer){ BUFFERS + 90, 30, WRITE }, 1);
			kick(&d, RX);
			assert_int_equal(arrive(&r, frame, sizeof(frame)), sizeof(frame));
			for (unsigned i = 0; i < 4; i++) {
				assert_true(collect(&d, RX, 1, &written));
				assert_int_equal(written, i < 3 ? 30 : 10);
				total += written;
			}
			assert_false(collect(&d, RX, 1, &written));
			assert_int_equal(total, sizeof(got));
			peek(&r, BUFFERS, got, sizeof(got));
			assert_int_equal(get_le16(got + 10), 4);
			assert_memory_equal(got + HEAD, frame, sizeof(frame));
		}
		/* Not even room for the head. */
		offer(&d, RX, &(struct buffer){ BUFFERS, HEAD - 1, WRITE }, 1);
		assert_int_equal(arrive(&r, frame, sizeof(frame)), sizeof(frame));
		assert_true(collect(&d, RX, 1, &written));
		assert_int_equal(written, 0);
		assert_int_equal(status(&r), 15);
		rig_close(&r);
	}
}

/* ---- pairs and commands ---- */

static u8 command(struct driver *d, unsigned queue, const u8 *data, u32 len)
{
	const struct buffer b[] = { { BUFFERS, len, 0 }, { BUFFERS + 64, 1, WRITE } };
	u32 written;
	u8 ack = 0x77;

	poke(d->r, BUFFERS, data, len);
	poke(d->r, BUFFERS + 64, &ack, 1);
	offer(d, queue, b, 2);
	kick(d, queue);
	assert_true(collect(d, queue, 2, &written));
	assert_int_equal(written, 1);
	peek(d->r, BUFFERS + 64, &ack, 1);
	return ack;
}

static void configure_pairs(struct rig *r)
{
	configure(r);
	assert_int_equal(device_set(r->dev, "queues", "4", NULL), 0);
}

static void open_pairs(struct rig *r)
{
	rig_open(r, &virtio_net_class);
	r->configure = configure_pairs;
	configure_pairs(r);
}

static void a_flow_is_answered_where_it_came_from(void **state)
{
	static const u8 four[] = { 4, 0, 4, 0 }, five[] = { 4, 0, 5, 0 }, none[] = { 4, 0, 0, 0 };
	static const u8 more[] = { 4, 1, 2, 0 }, other[] = { 9, 0, 2, 0 }, small[] = { 4 };
	const struct buffer b[] = { { BUFFERS, HEAD, 0 }, { BUFFERS + 64, FRAME, 0 } };
	u8 frame[FRAME] = {
		[12] = 8, [14] = 0x45, [23] = 6, [29] = 1, [33] = 2, [35] = 3, [37] = 4
	};
	u8 answer[FRAME] = {
		[12] = 8, [14] = 0x45, [23] = 6, [29] = 2, [33] = 1, [35] = 4, [37] = 3
	};
	u8 head[HEAD] = { 0 };
	struct rig r;
	u32 written;

	open_pairs(&r);
	struct driver d = start(&r, MQ | CTRL, 9);

	assert_int_equal(get(&r, COMMON(0x12), 2), 9);
	assert_int_equal(get(&r, CONFIG(8), 2), 4);
	assert_int_equal(command(&d, 8, five, 4), 1);
	assert_int_equal(command(&d, 8, none, 4), 1);
	assert_int_equal(command(&d, 8, more, 4), 1);
	assert_int_equal(command(&d, 8, other, 4), 1);
	assert_int_equal(command(&d, 8, small, 1), 1);
	assert_int_equal(command(&d, 8, four, 4), 0);
	for (unsigned pair = 0; pair < 4; pair++) {
		poke(&r, BUFFERS, head, HEAD);
		poke(&r, BUFFERS + 64, frame, FRAME);
		offer(&d, 2 * pair + 1, b, 2);
		kick(&d, 2 * pair + 1);
		assert_true(collect(&d, 2 * pair + 1, 2, &written));
		offer(&d, 2 * pair, &(struct buffer){ BUFFERS + 256, 1530, WRITE }, 1);
		assert_int_equal(arrive(&r, answer, FRAME), FRAME);
		assert_true(collect(&d, 2 * pair, 1, &written));
	}
	rig_check_migration(&r, script_pairs);
	rig_close(&r);
}

/* Without MQ the third queue is for commands, however many pairs there could be. */
static void the_command_queue_moves(void **state)
{
	static const u8 pairs[] = { 4, 0, 2, 0 };
	u8 offloads[10] = { 5, 0, 2 };
	struct rig r;

	open_pairs(&r);
	struct driver d = start(&r, CTRL | GSO_CSUM | GUEST_OFFLOADS, 3);

	assert_int_equal(command(&d, 2, pairs, 4), 1);
	assert_int_equal(command(&d, 2, offloads, 10), 0);
	offloads[2] = 0x82; /* TSO4 was not agreed on */
	assert_int_equal(command(&d, 2, offloads, 10), 1);
	assert_int_equal(status(&r), 15);
	rig_close(&r);
}

/* ---- heads ---- */

static u8 sent[HEAD + FRAME];
static size_t sent_len;
static unsigned told;
static bool told_heads;

static void send_plain(void *ctx, const u8 *frame, size_t len) { fail(); }
static void no_room(void *ctx) {}

static void send_head(void *ctx, const u8 *head, size_t len)
{
	assert_true(len <= sizeof(sent));
	memcpy(sent, head, len);
	sent_len = len;
}

static void offload(void *ctx, bool heads, unsigned offloads)
{
	told_heads = heads;
	told = offloads;
}

static void heads_go_through(void **state)
{
	static const struct net_ops ops = {
		.send = send_plain, .room = no_room, .send_head = send_head, .offload = offload
	};
	u8 off[10] = { 5, 0, 0 }, frame[FRAME] = { 0 }, got[HEAD + FRAME];
	u8 head[HEAD] = { 1, 4, 54, 0, 20, 0, 14, 0, 16, 0 };
	struct rig r;
	u32 written;

	open_rig(&r);
	r.dev->env.net = &ops;
	assert_int_equal(device_set(r.dev, "queues", "1", NULL), 0);
	struct driver d = start(&r,
		CSUM | GSO_CSUM | GUEST_OFFLOADS | BIT64(7) | BIT64(8) | BIT64(12) | MERGE | CTRL,
		3);

	assert_true(told_heads);
	assert_int_equal(told, NET_CSUM | NET_TSO4 | NET_TSO6);
	send(&d, head, frame, FRAME);
	assert_int_equal(sent_len, HEAD + FRAME);
	assert_memory_equal(sent, head, HEAD);
	sent_len = 0;
	head[1] = 1; /* TSO4 was not agreed on */
	send(&d, head, frame, FRAME);
	head[1] = 4;
	head[4] = 0; /* segments of nothing */
	send(&d, head, frame, FRAME);
	head[4] = 20;
	head[6] = FRAME - 17; /* a checksum outside of the frame */
	send(&d, head, frame, FRAME);
	assert_int_equal(sent_len, 0);

	memset(got, 0x11, sizeof(got));
	got[10] = 77;
	offer(&d, RX, &(struct buffer){ BUFFERS, 1530, WRITE }, 1);
	assert_int_equal(arrive(&r, got, sizeof(got)), sizeof(got));
	assert_true(collect(&d, RX, 1, &written));
	assert_int_equal(written, sizeof(got));
	peek(&r, BUFFERS, got, sizeof(got));
	assert_int_equal(got[0], 0x11);
	assert_int_equal(get_le16(got + 10), 1);
	assert_int_equal(arrive(&r, got, 5), 5); /* not even a head: lost */

	assert_int_equal(command(&d, 2, off, 10), 0);
	assert_int_equal(told, 0);
	set(&r, COMMON(0x14), 1, 0);
	assert_false(told_heads);
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
	assert_int_equal(r.net_rooms, 2);
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
		cmocka_unit_test(frames_are_spread_over_buffers),
		cmocka_unit_test(a_flow_is_answered_where_it_came_from),
		cmocka_unit_test(the_command_queue_moves),
		cmocka_unit_test(heads_go_through),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("virtio-net", tests, NULL, NULL);
}
