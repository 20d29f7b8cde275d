/* The console device: what a driver is told of ports, and bytes that wait for whoever is slow. */
#include "device/virtio/console.h"
#include "virtio_driver.h"

#define F_MULTIPORT BIT64(1)

enum { IN0, OUT0, TELL, HEAR, IN1, OUT1 };
enum { DEVICE_READY, PORT_ADD, PORT_READY = 3, CONSOLE_PORT, PORT_OPEN = 6, PORT_NAME };

static struct {
	u8 bytes[65536];
	size_t len, room;
	unsigned rooms;
} end[2];

static size_t on_write(void *ctx, unsigned port, const u8 *data, size_t len)
{
	size_t n = min_u64(len, end[port].room);

	memcpy(end[port].bytes + end[port].len, data, n);
	end[port].len += n;
	end[port].room -= n;
	return n;
}

static void on_room(void *ctx, unsigned port) { end[port].rooms++; }

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "console", "on", NULL), 0);
	assert_int_equal(device_set(r->dev, "name1", "one", NULL), 0);
}

static struct driver open_rig(struct rig *r, u64 features)
{
	static const struct port_ops ops = { on_write, on_room };

	memset(end, 0, sizeof(end));
	end[0].room = end[1].room = sizeof(end[0].bytes);
	rig_port = &ops;
	rig_open(r, &virtio_console_class);
	configure(r);
	return start(r, features, 6);
}

static void say(struct driver *d, u32 port, u16 event, u16 value)
{
	u8 message[8];
	u32 written;

	put_le32(message, port);
	put_le16(message + 4, event);
	put_le16(message + 6, value);
	poke(d->r, BUFFERS, message, 8);
	offer(d, HEAR, &(struct buffer){ BUFFERS, 8, 0 }, 1);
	kick(d, HEAR);
	assert_true(collect(d, HEAR, 1, &written));
}

static void offer_in(struct driver *d, unsigned q, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		offer(d, q, &(struct buffer){ BUFFERS + 0x1000 * q + 128 * i, 64, WRITE }, 1);
	kick(d, q);
}

/* The next message, in the order of the buffers. */
static void expect(struct driver *d, unsigned i, u32 port, u16 event, u16 value, const char *name)
{
	u8 message[64];
	u32 written;

	assert_true(collect(d, TELL, 1, &written));
	peek(d->r, BUFFERS + 0x1000 * TELL + 128 * i, message, sizeof(message));
	assert_int_equal(written, 8 + strlen(name));
	assert_int_equal(get_le32(message), port);
	assert_int_equal(get_le16(message + 4), event);
	assert_int_equal(get_le16(message + 6), value);
	assert_memory_equal(message + 8, name, strlen(name));
}

static void a_driver_is_told_of_ports(void **state)
{
	struct rig r;
	u32 written;
	struct driver d = open_rig(&r, F_MULTIPORT | VIRTIO_F_EVENT_IDX);

	assert_int_equal(get(&r, CONFIG(4), 4), VIRTIO_CONSOLE_PORTS);
	say(&d, 0, DEVICE_READY, 1);
	offer_in(&d, TELL, 8);
	expect(&d, 0, 0, PORT_ADD, 0, "");
	expect(&d, 1, 1, PORT_ADD, 0, "");
	say(&d, 0, PORT_READY, 1);
	expect(&d, 2, 0, CONSOLE_PORT, 1, "");
	expect(&d, 3, 0, PORT_OPEN, 1, "");
	say(&d, 1, PORT_READY, 1);
	expect(&d, 4, 1, PORT_NAME, 1, "one");
	virtio_console_connected(r.dev, 1, true);
	expect(&d, 5, 1, PORT_OPEN, 1, "");
	virtio_console_connected(r.dev, 1, false);
	expect(&d, 6, 1, PORT_OPEN, 0, "");
	/* Ports and events that are none. */
	say(&d, 2, PORT_READY, 1);
	say(&d, 0xffffffff, PORT_OPEN, 1);
	say(&d, 1, 4711, 1);
	assert_false(collect(&d, TELL, 1, &written));
	assert_int_equal(status(&r), 15);
	rig_close(&r);
}

static void bytes_wait_for_the_host(void **state)
{
	struct buffer b[] = { { BUFFERS, 6000, 0 }, { BUFFERS + 8192, 3000, 0 } };
	u8 sent[9000];
	struct rig r;
	u32 written;
	struct driver d = open_rig(&r, F_MULTIPORT);

	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = (u8)(i * 7 + i / 256);
	poke(&r, BUFFERS, sent, 6000);
	poke(&r, BUFFERS + 8192, sent + 6000, 3000);
	/* To nobody. */
	offer(&d, OUT1, b, 2);
	kick(&d, OUT1);
	assert_true(collect(&d, OUT1, 2, &written));
	assert_int_equal(end[1].len, 0);
	virtio_console_connected(r.dev, 1, true);
	end[1].room = 5000;
	offer(&d, OUT1, b, 2);
	kick(&d, OUT1);
	assert_int_equal(end[1].len, 5000);
	assert_false(collect(&d, OUT1, 2, &written));
	end[1].room = 1;
	virtio_console_room(r.dev, 1);
	end[1].room = 5000;
	virtio_console_room(r.dev, 1);
	assert_true(collect(&d, OUT1, 2, &written));
	assert_int_equal(end[1].len, 9000);
	assert_memory_equal(end[1].bytes, sent, 9000);
	/* Who leaves takes what waits for him along. */
	end[1].room = 10;
	offer(&d, OUT1, b, 2);
	kick(&d, OUT1);
	assert_false(collect(&d, OUT1, 2, &written));
	virtio_console_connected(r.dev, 1, false);
	assert_true(collect(&d, OUT1, 2, &written));
	rig_close(&r);
}

static void bytes_wait_for_the_guest(void **state)
{
	static const u8 bytes[] =
		"a hundred bytes or so, which are more than one buffer has room for";
	u8 got[64];
	struct rig r;
	u32 written;
	struct driver d = open_rig(&r, F_MULTIPORT | VIRTIO_F_EVENT_IDX);

	offer_in(&d, IN1, 1);
	assert_int_equal(virtio_console_input(r.dev, 1, bytes, sizeof(bytes)), 0);
	say(&d, 1, PORT_OPEN, 1);
	assert_int_equal(end[1].rooms, 1);
	assert_int_equal(virtio_console_input(r.dev, 1, bytes, sizeof(bytes)), 64);
	assert_true(collect(&d, IN1, 1, &written));
	assert_int_equal(written, 64);
	peek(&r, BUFFERS + 0x1000 * IN1, got, 64);
	assert_memory_equal(got, bytes, 64);
	offer_in(&d, IN1, 1);
	assert_int_equal(end[1].rooms, 2);
	assert_int_equal(
		virtio_console_input(r.dev, 1, bytes + 64, sizeof(bytes) - 64), sizeof(bytes) - 64);
	say(&d, 1, PORT_OPEN, 0);
	offer_in(&d, IN1, 1);
	assert_int_equal(virtio_console_input(r.dev, 1, bytes, 1), 0);
	rig_close(&r);
}

static void without_ports_it_is_a_console(void **state)
{
	struct rig r;
	u32 written;
	struct driver d = open_rig(&r, 0);

	poke(&r, BUFFERS, "hello", 5);
	offer(&d, OUT0, &(struct buffer){ BUFFERS, 5, 0 }, 1);
	kick(&d, OUT0);
	assert_true(collect(&d, OUT0, 1, &written));
	assert_int_equal(end[0].len, 5);
	offer_in(&d, IN0, 1);
	assert_int_equal(virtio_console_input(r.dev, 0, (const u8 *)"x", 1), 1);
	assert_int_equal(virtio_console_input(r.dev, 1, (const u8 *)"x", 1), 0);
	set(&r, CONFIG(8), 4, '!');
	assert_int_equal(end[0].len, 6);
	assert_memory_equal(end[0].bytes, "hello!", 6);
	assert_int_equal(get(&r, CONFIG(8), 4), 0);
	offer(&d, OUT0, &(struct buffer){ 0, MiB, 0 }, 1);
	offer(&d, OUT0, (struct buffer[]){ { 0, MiB, 0 }, { 0, 1, 0 } }, 2);
	end[0].room = 0;
	kick(&d, OUT0);
	assert_int_equal(status(&r), 15);
	virtio_console_connected(r.dev, 0, false);
	assert_int_equal(status(&r), 0x4f);
	rig_close(&r);
}

static void go_on(struct rig *r)
{
	struct driver d = { .r = r };

	offer_in(&d, TELL, 4);
	virtio_console_connected(r->dev, 1, true);
}

static void it_is_saved_and_loaded(void **state)
{
	struct rig r;
	struct driver d = open_rig(&r, F_MULTIPORT);

	r.configure = configure;
	say(&d, 0, DEVICE_READY, 1);
	say(&d, 1, PORT_READY, 1);
	say(&d, 1, PORT_OPEN, 1);
	rig_check_migration(&r, go_on);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_driver_is_told_of_ports),
		cmocka_unit_test(bytes_wait_for_the_host),
		cmocka_unit_test(bytes_wait_for_the_guest),
		cmocka_unit_test(without_ports_it_is_a_console),
		cmocka_unit_test(it_is_saved_and_loaded),
	};

	return cmocka_run_group_tests_name("virtio_console", tests, NULL, NULL);
}
