/* The keyboard controller: what drivers probe, reset, A20, and the sockets for devices. */
#include "device/legacy/i8042.h"
#include "device/legacy/legacy.h"
#include "rig.h"

enum { LINE_KEYBOARD, LINE_AUX };

static void command(struct rig *r, u8 v) { out8(r, 0x64, v); }
static u8 status(struct rig *r) { return in8(r, 0x64); }

static u8 answer(struct rig *r, u8 v)
{
	command(r, v);
	assert_true(status(r) & 1);
	return in8(r, 0x60);
}

static void self_tests_pass(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	assert_int_equal(status(&r) & 0x75, 0x14);
	assert_int_equal(answer(&r, 0xaa), 0x55);
	assert_int_equal(answer(&r, 0xab), 0x00);
	assert_int_equal(answer(&r, 0xa9), 0x00);
	assert_int_equal(status(&r) & 1, 0);
	rig_close(&r);
}

static void command_byte_and_ram_keep_what_is_written(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	command(&r, 0x60);
	assert_true(status(&r) & 0x08);
	out8(&r, 0x60, 0x74);
	assert_int_equal(answer(&r, 0x20), 0x74);
	command(&r, 0xa8);
	command(&r, 0xae);
	assert_int_equal(answer(&r, 0x20), 0x44);
	command(&r, 0x7f);
	out8(&r, 0x60, 0x99);
	assert_int_equal(answer(&r, 0x3f), 0x99);
	rig_close(&r);
}

static void aux_loopback_raises_irq12(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	command(&r, 0x60);
	out8(&r, 0x60, 0x03);
	command(&r, 0xd3);
	out8(&r, 0x60, 0x5a);
	assert_int_equal(status(&r) & 0x21, 0x21);
	assert_true(r.level[LINE_AUX]);
	assert_false(r.level[LINE_KEYBOARD]);
	assert_int_equal(in8(&r, 0x60), 0x5a);
	assert_false(r.level[LINE_AUX]);
	command(&r, 0xd2);
	out8(&r, 0x60, 0x1c);
	assert_true(r.level[LINE_KEYBOARD]);
	rig_close(&r);
}

static void empty_sockets_time_out(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	out8(&r, 0x60, 0xf2);
	assert_int_equal(status(&r) & 0x61, 0x41);
	assert_int_equal(in8(&r, 0x60), 0xfe);
	command(&r, 0xd4);
	out8(&r, 0x60, 0xf2);
	assert_int_equal(status(&r) & 0x61, 0x61);
	assert_int_equal(in8(&r, 0x60), 0xfe);
	rig_close(&r);
}

struct toy {
	struct device *controller;
	u8 got;
};

static void toy_receive(void *ctx, u8 byte)
{
	struct toy *t = ctx;

	t->got = byte;
	assert_true(i8042_send(t->controller, I8042_KEYBOARD, 0xfa));
}

static void plugged_device_gets_bytes_and_answers_in_order(void **state)
{
	struct rig r;
	struct toy toy;

	rig_open(&r, &i8042_class);
	toy = (struct toy){ .controller = r.dev };
	command(&r, 0x60);
	out8(&r, 0x60, 0x25); /* no translation */
	i8042_plug(
		r.dev, I8042_KEYBOARD, (struct ps2_device){ .receive = toy_receive, .ctx = &toy });
	out8(&r, 0x60, 0xed);
	assert_int_equal(toy.got, 0xed);
	for (u8 i = 0; i < 16; i++)
		assert_true(i8042_send(r.dev, I8042_KEYBOARD, i));
	assert_false(i8042_send(r.dev, I8042_KEYBOARD, 16));
	assert_int_equal(in8(&r, 0x60), 0xfa);
	/* A disabled keyboard waits; the controller itself still answers. */
	assert_int_equal(in8(&r, 0x60), 0);
	command(&r, 0xad);
	assert_int_equal(in8(&r, 0x60), 1);
	assert_int_equal(status(&r) & 1, 0);
	assert_int_equal(answer(&r, 0xaa), 0x55);
	command(&r, 0xae);
	assert_int_equal(in8(&r, 0x60), 2);
	/* Each byte is an edge of its own; the sixth is in the buffer. */
	assert_int_equal(r.rises[LINE_KEYBOARD], 6);
	rig_close(&r);
}

static void reset_and_the_a20_bit(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	assert_int_equal(in8(&r, 0x92), 2);
	command(&r, 0xff);
	assert_int_equal(r.resets, 0);
	command(&r, 0xfe);
	assert_int_equal(r.resets, 1);
	command(&r, 0xd1);
	out8(&r, 0x60, 0xdd);
	assert_int_equal(answer(&r, 0xd0) & 3, 1);
	command(&r, 0xdf);
	assert_int_equal(in8(&r, 0x92), 2);
	out8(&r, 0x92, 0);
	assert_int_equal(in8(&r, 0x92), 0);
	assert_int_equal(answer(&r, 0xd0) & 3, 1);
	out8(&r, 0x92, 3);
	assert_int_equal(answer(&r, 0xd0) & 3, 3);
	assert_int_equal(r.resets, 2);
	command(&r, 0xd1);
	out8(&r, 0x60, 0xde);
	assert_int_equal(r.resets, 3);
	rig_close(&r);
}

static void script(struct rig *r)
{
	out8(r, 0x60, 0x45); /* completes the command that was under way */
	for (unsigned i = 0; i < 5; i++)
		in8(r, 0x60);
	command(r, 0x20);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	rig_open(&r, &i8042_class);
	assert_true(i8042_send(r.dev, I8042_KEYBOARD, 0x1c));
	assert_true(i8042_send(r.dev, I8042_AUX, 0x08));
	assert_true(i8042_send(r.dev, I8042_KEYBOARD, 0x9c));
	command(&r, 0xdd);
	command(&r, 0x60);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(self_tests_pass),
		cmocka_unit_test(command_byte_and_ram_keep_what_is_written),
		cmocka_unit_test(aux_loopback_raises_irq12),
		cmocka_unit_test(empty_sockets_time_out),
		cmocka_unit_test(plugged_device_gets_bytes_and_answers_in_order),
		cmocka_unit_test(reset_and_the_a20_bit),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("i8042", tests, NULL, NULL);
}
