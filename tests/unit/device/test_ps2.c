/* Keyboard and mouse, by way of the controller that they are plugged into. */
#include "device/legacy/i8042.h"
#include "device/legacy/legacy.h"
#include "device/legacy/ps2.h"
#include "rig.h"

#define KEY_A	 0x1cu
#define KEY_LEFT (PS2_E0 | 0x6bu)

struct desk {
	struct rig r;
	struct device *keyboard, *mouse;
};

static void desk_open(struct desk *d)
{
	const struct device_env none = { 0 };

	rig_open(&d->r, &i8042_class);
	d->keyboard = device_new(&ps2_keyboard_class, "keyboard", &none, NULL);
	d->mouse = device_new(&ps2_mouse_class, "mouse", &none, NULL);
	assert_non_null(d->keyboard);
	assert_non_null(d->mouse);
	ps2_keyboard_plug(d->keyboard, d->r.dev);
	ps2_mouse_plug(d->mouse, d->r.dev);
}

static void desk_close(struct desk *d)
{
	device_free(d->mouse);
	device_free(d->keyboard);
	rig_close(&d->r);
}

static void command_byte(struct desk *d, u8 v)
{
	out8(&d->r, 0x64, 0x60);
	out8(&d->r, 0x60, v);
}

static void to_mouse(struct desk *d, u8 v)
{
	out8(&d->r, 0x64, 0xd4);
	out8(&d->r, 0x60, v);
}

/* What the guest reads: exactly these bytes, of the keyboard or of the mouse. */
static void expect(struct desk *d, bool aux, const char *bytes, unsigned len)
{
	for (unsigned i = 0; i < len; i++) {
		assert_int_equal(in8(&d->r, 0x64) & 0x21, aux ? 0x21 : 0x01);
		assert_int_equal(in8(&d->r, 0x60), (u8)bytes[i]);
	}
	assert_int_equal(in8(&d->r, 0x64) & 0x01, 0);
}

#define EXPECT_KEYS(d, bytes)  expect(d, false, bytes, sizeof(bytes) - 1)
#define EXPECT_MOUSE(d, bytes) expect(d, true, bytes, sizeof(bytes) - 1)

static void keys_come_translated_unless_told_otherwise(void **state)
{
	struct desk d;

	desk_open(&d);
	ps2_keyboard_key(d.keyboard, KEY_A, true);
	ps2_keyboard_key(d.keyboard, KEY_A, false);
	EXPECT_KEYS(&d, "\x1e\x9e");
	ps2_keyboard_key(d.keyboard, KEY_LEFT, true);
	ps2_keyboard_key(d.keyboard, KEY_LEFT, false);
	EXPECT_KEYS(&d, "\xe0\x4b\xe0\xcb");
	command_byte(&d, 0x25);
	ps2_keyboard_key(d.keyboard, KEY_LEFT, true);
	ps2_keyboard_key(d.keyboard, KEY_LEFT, false);
	EXPECT_KEYS(&d, "\xe0\x6b\xe0\xf0\x6b");
	desk_close(&d);
}

static void print_screen_and_pause_are_sequences(void **state)
{
	struct desk d;

	desk_open(&d);
	ps2_keyboard_key(d.keyboard, PS2_PRINT, true);
	ps2_keyboard_key(d.keyboard, PS2_PRINT, false);
	EXPECT_KEYS(&d, "\xe0\x2a\xe0\x37\xe0\xb7\xe0\xaa");
	ps2_keyboard_key(d.keyboard, PS2_PAUSE, true);
	ps2_keyboard_key(d.keyboard, PS2_PAUSE, false);
	EXPECT_KEYS(&d, "\xe1\x1d\x45\xe1\x9d\xc5");
	desk_close(&d);
}

static void set_1_needs_no_translation(void **state)
{
	struct desk d;

	desk_open(&d);
	command_byte(&d, 0x25);
	out8(&d.r, 0x60, 0xf0);
	out8(&d.r, 0x60, 1);
	EXPECT_KEYS(&d, "\xfa\xfa");
	ps2_keyboard_key(d.keyboard, KEY_LEFT, true);
	ps2_keyboard_key(d.keyboard, KEY_LEFT, false);
	EXPECT_KEYS(&d, "\xe0\x4b\xe0\xcb");
	out8(&d.r, 0x60, 0xf0);
	out8(&d.r, 0x60, 0);
	EXPECT_KEYS(&d, "\xfa\xfa\x01");
	out8(&d.r, 0x60, 0xf0);
	out8(&d.r, 0x60, 3);
	EXPECT_KEYS(&d, "\xfa\xfe");
	desk_close(&d);
}

static void keyboard_answers_what_drivers_ask(void **state)
{
	struct desk d;

	desk_open(&d);
	command_byte(&d, 0x25);
	out8(&d.r, 0x60, 0xff);
	EXPECT_KEYS(&d, "\xfa\xaa");
	out8(&d.r, 0x60, 0xf2);
	EXPECT_KEYS(&d, "\xfa\xab\x83");
	out8(&d.r, 0x60, 0xed);
	out8(&d.r, 0x60, 0x07);
	EXPECT_KEYS(&d, "\xfa\xfa");
	out8(&d.r, 0x60, 0xee);
	EXPECT_KEYS(&d, "\xee");
	out8(&d.r, 0x60, 0xfe);
	EXPECT_KEYS(&d, "\xee");
	out8(&d.r, 0x60, 0x10);
	EXPECT_KEYS(&d, "\xfe");
	/* A command instead of a parameter */
	out8(&d.r, 0x60, 0xf3);
	out8(&d.r, 0x60, 0xf2);
	EXPECT_KEYS(&d, "\xfa\xfa\xab\x83");
	desk_close(&d);
}

static void a_disabled_keyboard_forgets_keys(void **state)
{
	struct desk d;

	desk_open(&d);
	out8(&d.r, 0x60, 0xf5);
	EXPECT_KEYS(&d, "\xfa");
	ps2_keyboard_key(d.keyboard, KEY_A, true);
	EXPECT_KEYS(&d, "");
	out8(&d.r, 0x60, 0xf4);
	ps2_keyboard_key(d.keyboard, KEY_A, true);
	EXPECT_KEYS(&d, "\xfa\x1e");
	desk_close(&d);
}

/* More than the controller's queue takes: whole keys wait, an answer still has room. */
static void fast_typists_lose_presses_but_no_releases(void **state)
{
	struct desk d;
	unsigned down = 0, up = 0;

	desk_open(&d);
	for (unsigned i = 0; i < 1000; i++) {
		ps2_keyboard_key(d.keyboard, KEY_A, true);
		if (i % 4 == 0)
			ps2_keyboard_key(d.keyboard, KEY_A, false);
	}
	while (in8(&d.r, 0x64) & 1) {
		u8 code = in8(&d.r, 0x60);

		down += code == 0x1e;
		up += code == 0x9e;
		assert_true(code == 0x1e || code == 0x9e);
	}
	assert_true(down > 300);
	assert_true(up >= 200 && up <= 250);
	desk_close(&d);
}

static void knock(struct desk *d, u8 second)
{
	const u8 rates[] = { 200, second, 80 };

	for (unsigned i = 0; i < 3; i++) {
		to_mouse(d, 0xf3);
		to_mouse(d, rates[i]);
		EXPECT_MOUSE(d, "\xfa\xfa");
	}
	to_mouse(d, 0xf2);
}

static void the_mouse_is_plain_until_somebody_knocks(void **state)
{
	struct desk d;

	desk_open(&d);
	to_mouse(&d, 0xff);
	EXPECT_MOUSE(&d, "\xfa\xaa\x00");
	to_mouse(&d, 0xf4);
	EXPECT_MOUSE(&d, "\xfa");
	ps2_mouse_move(d.mouse, 5, -3, 0, PS2_LEFT);
	EXPECT_MOUSE(&d, "\x09\x05\x03");
	ps2_mouse_move(d.mouse, 0, 0, 1, PS2_LEFT); /* no wheel */
	EXPECT_MOUSE(&d, "");
	knock(&d, 100);
	EXPECT_MOUSE(&d, "\xfa\x03");
	ps2_mouse_move(d.mouse, -1, 1, -1, PS2_MIDDLE);
	EXPECT_MOUSE(&d, "\x3c\xff\xff\xff");
	desk_close(&d);
}

static void five_buttons_and_a_wheel(void **state)
{
	struct desk d;

	desk_open(&d);
	knock(&d, 200); /* not the first knock */
	EXPECT_MOUSE(&d, "\xfa\x00");
	knock(&d, 100);
	EXPECT_MOUSE(&d, "\xfa\x03");
	knock(&d, 200);
	EXPECT_MOUSE(&d, "\xfa\x04");
	to_mouse(&d, 0xf4);
	EXPECT_MOUSE(&d, "\xfa");
	ps2_mouse_move(d.mouse, 0, 0, -1, PS2_SIDE | PS2_RIGHT);
	EXPECT_MOUSE(&d, "\x0a\x00\x00\x1f");
	to_mouse(&d, 0xe9);
	EXPECT_MOUSE(&d, "\xfa\x21\x02\x50");
	desk_close(&d);
}

/* What is not read adds up, and comes in packets of what nine bits hold. */
static void motion_adds_up(void **state)
{
	struct desk d;
	int x = 0, y = 0;

	desk_open(&d);
	to_mouse(&d, 0xf4);
	EXPECT_MOUSE(&d, "\xfa");
	for (unsigned i = 0; i < 100; i++)
		ps2_mouse_move(d.mouse, -7, 4, 0, 0);
	while (in8(&d.r, 0x64) & 1) {
		u8 head = in8(&d.r, 0x60), dx = in8(&d.r, 0x60), dy = in8(&d.r, 0x60);

		assert_int_equal(head & 0xcf, 0x08);
		x += dx - (head & 0x10 ? 256 : 0);
		y += dy - (head & 0x20 ? 256 : 0);
	}
	assert_int_equal(x, -700);
	assert_int_equal(y, -400);
	desk_close(&d);
}

static void remote_and_wrap_mode(void **state)
{
	struct desk d;

	desk_open(&d);
	to_mouse(&d, 0xf0);
	EXPECT_MOUSE(&d, "\xfa");
	ps2_mouse_move(d.mouse, 2, 0, 0, 0);
	EXPECT_MOUSE(&d, "");
	to_mouse(&d, 0xeb);
	EXPECT_MOUSE(&d, "\xfa\x08\x02\x00");
	to_mouse(&d, 0xee);
	to_mouse(&d, 0xe9);
	to_mouse(&d, 0xec);
	EXPECT_MOUSE(&d, "\xfa\xe9\xfa");
	to_mouse(&d, 0x01);
	EXPECT_MOUSE(&d, "\xfe");
	desk_close(&d);
}

static void copy(struct device *from, struct device *to)
{
	struct blob b = { 0 };
	char text[64];

	assert_int_equal(device_save(from, &b), 0);
	assert_int_equal(device_load(to, b.data, b.len, NULL, NULL), 0);
	assert_null(state_diff(from->class->state, from, to, text, sizeof(text)));
	blob_free(&b);
}

static void a_loaded_desk_goes_on_alike(void **state)
{
	struct desk a, b;

	desk_open(&a);
	desk_open(&b);
	to_mouse(&a, 0xf4);
	EXPECT_MOUSE(&a, "\xfa");
	for (unsigned i = 0; i < 30; i++)
		ps2_keyboard_key(a.keyboard, KEY_LEFT, i % 2 == 0);
	for (unsigned i = 0; i < 30; i++)
		ps2_mouse_move(a.mouse, 100, (int)i, 1, i & 7);
	copy(a.r.dev, b.r.dev);
	copy(a.keyboard, b.keyboard);
	copy(a.mouse, b.mouse);
	while (in8(&a.r, 0x64) & 1) {
		assert_int_equal(in8(&a.r, 0x64), in8(&b.r, 0x64));
		assert_int_equal(in8(&a.r, 0x60), in8(&b.r, 0x60));
	}
	assert_int_equal(in8(&b.r, 0x64) & 1, 0);
	desk_close(&a);
	desk_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys_come_translated_unless_told_otherwise),
		cmocka_unit_test(print_screen_and_pause_are_sequences),
		cmocka_unit_test(set_1_needs_no_translation),
		cmocka_unit_test(keyboard_answers_what_drivers_ask),
		cmocka_unit_test(a_disabled_keyboard_forgets_keys),
		cmocka_unit_test(fast_typists_lose_presses_but_no_releases),
		cmocka_unit_test(the_mouse_is_plain_until_somebody_knocks),
		cmocka_unit_test(five_buttons_and_a_wheel),
		cmocka_unit_test(motion_adds_up),
		cmocka_unit_test(remote_and_wrap_mode),
		cmocka_unit_test(a_loaded_desk_goes_on_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
