/*
 * A PS/2 keyboard (IBM PS/2 Hardware Interface Technical Reference, "Keyboards"): scan code sets 2,
 * which it begins with, and 1. Set 3 is refused, as by most keyboards.
 *
 * What people press waits here in their order until the controller has room for a whole key; a few
 * places there are kept for answers to commands. When people are faster than the guest, presses are
 * lost, and never the releases of keys whose presses were not.
 *
 * Repetition is the viewer's business: a key that goes down twice is sent twice. The typematic rate
 * is taken and has no effect.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/legacy/i8042.h"
#include "device/legacy/ps2.h"

/* Commands */
enum {
	SET_LEDS = 0xed,
	ECHO = 0xee,
	SCAN_CODE_SET = 0xf0,
	READ_ID = 0xf2,
	SET_RATE = 0xf3,
	ENABLE = 0xf4,
	DISABLE = 0xf5,
	DEFAULTS = 0xf6,
	RESEND = 0xfe,
	RESET = 0xff,
};

#define EVENTS	    512u
#define PRESSES	    384u /* of them; the rest is for releases */
#define EVENT_UP    0x8000u
#define ANSWER_ROOM 4u /* of the controller's queue */
#define KEY_BYTES   8u
#define E0	    0xe0u

struct ps2_keyboard {
	struct device dev;
	struct device *controller; /* NULL: unplugged */
	u16 events[EVENTS];
	u16 event_count;
	u8 command; /* that waits for its parameter, or 0 */
	u8 set;
	u8 leds;
	u8 last; /* byte sent, for RESEND */
	bool scanning;
};

static struct ps2_keyboard *keyboard_of(struct device *d)
{
	return container_of(d, struct ps2_keyboard, dev);
}

/* ---- keys ---- */

struct bytes {
	u8 data[KEY_BYTES];
	unsigned len;
};

static void put(struct bytes *b, const char *more, unsigned len)
{
	memcpy(b->data + b->len, more, len);
	b->len += len;
}

/* In set 2 */
static struct bytes encode(u16 event)
{
	bool up = event & EVENT_UP;
	u16 key = event & (u16)~EVENT_UP;
	struct bytes b = { .len = 0 };

	if (key == PS2_PAUSE) {
		if (!up)
			put(&b, "\xe1\x14\x77\xe1\xf0\x14\xf0\x77", 8);
		return b;
	}
	if (key == PS2_PRINT) {
		put(&b, up ? "\xe0\xf0\x7c\xe0\xf0\x12" : "\xe0\x12\xe0\x7c", up ? 6 : 4);
		return b;
	}
	if (key & PS2_E0)
		b.data[b.len++] = E0;
	if (up)
		b.data[b.len++] = PS2_BREAK;
	b.data[b.len++] = (u8)key;
	return b;
}

/* Set 1 has the break in the code's highest bit. */
static void to_set1(struct bytes *b)
{
	unsigned len = 0;
	u8 up = 0;

	for (unsigned i = 0; i < b->len; i++) {
		if (b->data[i] == PS2_BREAK) {
			up = 0x80;
			continue;
		}
		b->data[len++] = ps2_translate(b->data[i]) | up;
		up = 0;
	}
	b->len = len;
}

static void send(struct ps2_keyboard *k, u8 byte)
{
	k->last = byte;
	if (k->controller && !i8042_send(k->controller, I8042_KEYBOARD, byte))
		guest_err(k->dev.name, "byte 0x%02x lost", byte);
}

static void drain(struct ps2_keyboard *k)
{
	while (k->event_count && k->controller) {
		struct bytes b = encode(k->events[0]);

		if (i8042_room(k->controller, I8042_KEYBOARD) < b.len + ANSWER_ROOM)
			return;
		if (k->set == 1)
			to_set1(&b);
		k->event_count--;
		memmove(k->events, k->events + 1, k->event_count * sizeof(k->events[0]));
		for (unsigned i = 0; i < b.len; i++)
			send(k, b.data[i]);
	}
}

void ps2_keyboard_key(struct device *d, u16 key, bool down)
{
	struct ps2_keyboard *k = keyboard_of(d);

	if (!k->scanning || k->event_count >= (down ? PRESSES : EVENTS))
		return;
	k->events[k->event_count++] = down ? key : key | EVENT_UP;
	drain(k);
}

/* ---- commands ---- */

static void set_defaults(struct ps2_keyboard *k)
{
	k->set = 2;
	k->event_count = 0;
}

static void take_parameter(struct ps2_keyboard *k, u8 command, u8 v)
{
	if (command == SCAN_CODE_SET && v > 2) {
		send(k, PS2_RESEND);
		return;
	}
	send(k, PS2_ACK);
	if (command == SET_LEDS)
		k->leds = v;
	else if (command == SCAN_CODE_SET && !v)
		send(k, k->set);
	else if (command == SCAN_CODE_SET)
		k->set = v;
}

static void take_command(struct ps2_keyboard *k, u8 v)
{
	static const u8 id[] = { 0xab, 0x83 };

	if (v == ECHO || v == RESEND) {
		send(k, v == ECHO ? ECHO : k->last);
		return;
	}
	if (v < SET_LEDS || (v > DEFAULTS && v < RESET) || v == 0xef || v == 0xf1) {
		send(k, PS2_RESEND);
		return;
	}
	send(k, PS2_ACK);
	switch (v) {
	case SET_LEDS:
	case SCAN_CODE_SET:
	case SET_RATE: k->command = v; break;
	case READ_ID:
		send(k, id[0]);
		send(k, id[1]);
		break;
	case ENABLE:
		k->scanning = true;
		k->event_count = 0;
		break;
	case RESET:
		k->leds = 0;
		send(k, PS2_PASSED);
		set_defaults(k);
		k->scanning = true;
		break;
	default:
		set_defaults(k);
		if (v != DEFAULTS)
			k->scanning = false;
		break;
	}
}

/* A command where a parameter was expected takes its place. */
static void receive(void *ctx, u8 v)
{
	struct ps2_keyboard *k = ctx;
	u8 command = k->command;

	k->command = 0;
	if (command && v < SET_LEDS)
		take_parameter(k, command, v);
	else
		take_command(k, v);
	drain(k);
}

static void room(void *ctx) { drain(ctx); }

void ps2_keyboard_plug(struct device *d, struct device *controller)
{
	keyboard_of(d)->controller = controller;
	i8042_plug(controller, I8042_KEYBOARD,
		(struct ps2_device){ .receive = receive, .room = room, .ctx = keyboard_of(d) });
}

/* ---- reset, tables ---- */

static void keyboard_reset(struct device *d)
{
	struct ps2_keyboard *k = keyboard_of(d);

	set_defaults(k);
	k->command = k->leds = k->last = 0;
	k->scanning = true;
}

static void keyboard_loaded(struct device *d)
{
	struct ps2_keyboard *k = keyboard_of(d);

	if (!k->set)
		k->set = 2;
}

static const struct field keyboard_state[] = {
	FIELD_ARRAY(struct ps2_keyboard, events, u16),
	FIELD_MAX(struct ps2_keyboard, event_count, EVENTS),
	FIELD(struct ps2_keyboard, command),
	FIELD_MAX(struct ps2_keyboard, set, 2),
	FIELD(struct ps2_keyboard, leds),
	FIELD(struct ps2_keyboard, last),
	FIELD(struct ps2_keyboard, scanning),
	FIELD_END,
};

const struct device_class ps2_keyboard_class = {
	.name = "ps2_keyboard",
	.doc = "PS/2 keyboard",
	.size = sizeof(struct ps2_keyboard),
	.reset = keyboard_reset,
	.loaded = keyboard_loaded,
	.state = keyboard_state,
};
