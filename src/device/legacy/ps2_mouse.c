/*
 * A PS/2 mouse (IBM PS/2 Hardware Interface Technical Reference, "Auxiliary devices") that becomes
 * Microsoft's IntelliMouse when a driver knocks: the sample rates 200, 100, 80 one after the other
 * give it a wheel, 200, 200, 80 after that two more buttons. Its identity says which it is.
 *
 *   packet   byte 0: Y and X overflow, Y and X sign, 1, middle, right, left
 *            bytes 1 and 2: motion to the right and up, nine bits with the signs
 *            byte 3, with a wheel: its motion towards the person; with five buttons four bits of
 *            it, and those two
 *
 * Motion adds up until the controller has room for a packet, so nothing queues but a sum. The
 * sample rate and the resolution are taken and have no effect: a viewer's pointer has no inches.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/legacy/i8042.h"
#include "device/legacy/ps2.h"

/* Commands */
enum {
	SCALING_1 = 0xe6,
	SCALING_2 = 0xe7,
	SET_RESOLUTION = 0xe8,
	STATUS = 0xe9,
	STREAM = 0xea,
	READ_DATA = 0xeb,
	RESET_WRAP = 0xec,
	WRAP = 0xee,
	REMOTE = 0xf0,
	READ_ID = 0xf2,
	SET_RATE = 0xf3,
	ENABLE = 0xf4,
	DISABLE = 0xf5,
	DEFAULTS = 0xf6,
	RESEND = 0xfe,
	RESET = 0xff,
};

enum { PLAIN = 0, WHEEL = 3, FIVE_BUTTONS = 4 }; /* identities */

#define KNOCK_WHEEL 0xc86450u /* the last three sample rates */
#define KNOCK_FIVE  0xc8c850u

#define STATUS_REMOTE  BIT(6)
#define STATUS_ENABLED BIT(5)
#define STATUS_SCALING BIT(4)

#define PACKET_ALWAYS BIT(3)
#define PACKET_X_SIGN BIT(4)
#define PACKET_Y_SIGN BIT(5)

#define ANSWER_ROOM 4u /* of the controller's queue */
#define PACKET_MAX  4u

struct ps2_mouse {
	struct device dev;
	struct device *controller; /* NULL: unplugged */
	u16 dx, dy, dz;		   /* s16: not yet told */
	u32 rates;		   /* the last three */
	u8 buttons, told;	   /* now, and in the last packet */
	u8 command;		   /* that waits for its parameter, or 0 */
	u8 id;
	u8 resolution;
	u8 last; /* byte sent, for RESEND */
	bool scaling, enabled, remote, wrap;
};

static struct ps2_mouse *mouse_of(struct device *d)
{
	return container_of(d, struct ps2_mouse, dev);
}

/* ---- motion ---- */

static void send(struct ps2_mouse *m, u8 byte)
{
	m->last = byte;
	if (m->controller && !i8042_send(m->controller, I8042_AUX, byte))
		guest_err(m->dev.name, "byte 0x%02x lost", byte);
}

static int clamp(int v, int min, int max) { return v < min ? min : v > max ? max : v; }

/* As much of a sum as fits. */
static int take(u16 *sum, int min, int max)
{
	int part = clamp((s16)*sum, min, max);

	*sum = (u16)((s16)*sum - part);
	return part;
}

static unsigned packet_len(const struct ps2_mouse *m) { return m->id == PLAIN ? 3 : PACKET_MAX; }

static void send_packet(struct ps2_mouse *m)
{
	int dx = take(&m->dx, -255, 255), up = -take(&m->dy, -255, 255);
	int dz = take(&m->dz, -8, 7);
	u8 wheel = (u8)dz;

	if (m->id == FIVE_BUTTONS)
		wheel = (u8)((wheel & 0x0f) | (m->buttons & PS2_SIDE ? BIT(4) : 0) |
			     (m->buttons & PS2_EXTRA ? BIT(5) : 0));
	send(m, (u8)(PACKET_ALWAYS | (m->buttons & 7) | (dx < 0 ? PACKET_X_SIGN : 0) |
			(up < 0 ? PACKET_Y_SIGN : 0)));
	send(m, (u8)dx);
	send(m, (u8)up);
	if (m->id != PLAIN)
		send(m, wheel);
	m->told = m->buttons;
}

static bool news(const struct ps2_mouse *m)
{
	return m->dx || m->dy || (m->dz && m->id != PLAIN) || m->buttons != m->told;
}

static void drain(struct ps2_mouse *m)
{
	while (m->enabled && !m->remote && !m->wrap && m->controller && news(m) &&
		i8042_room(m->controller, I8042_AUX) >= packet_len(m) + ANSWER_ROOM)
		send_packet(m);
}

static void add(u16 *sum, int more)
{
	more = clamp(more, -PS2_MOTIONS, PS2_MOTIONS);
	*sum = (u16)clamp((s16)*sum + more, -PS2_MOTIONS, PS2_MOTIONS);
}

static void forget(struct ps2_mouse *m)
{
	m->dx = m->dy = m->dz = 0;
	m->told = m->buttons;
}

void ps2_mouse_move(struct device *d, int dx, int dy, int dz, unsigned buttons)
{
	struct ps2_mouse *m = mouse_of(d);

	add(&m->dx, dx);
	add(&m->dy, dy);
	if (m->id != PLAIN)
		add(&m->dz, dz);
	m->buttons = (u8)buttons;
	if (!m->enabled && !m->remote)
		forget(m);
	drain(m);
}

/* ---- commands ---- */

static void set_defaults(struct ps2_mouse *m)
{
	m->rates = 100;
	m->resolution = 2;
	m->scaling = m->enabled = m->remote = m->wrap = false;
	forget(m);
}

static void send_status(struct ps2_mouse *m)
{
	u8 held =
		(u8)((m->buttons & PS2_LEFT ? BIT(2) : 0) | (m->buttons & PS2_MIDDLE ? BIT(1) : 0) |
			(m->buttons & PS2_RIGHT ? BIT(0) : 0));

	send(m, (u8)((m->remote ? STATUS_REMOTE : 0) | (m->enabled ? STATUS_ENABLED : 0) |
			(m->scaling ? STATUS_SCALING : 0) | held));
	send(m, m->resolution);
	send(m, (u8)m->rates);
}

static void take_parameter(struct ps2_mouse *m, u8 command, u8 v)
{
	send(m, PS2_ACK);
	if (command == SET_RESOLUTION) {
		m->resolution = v;
		return;
	}
	m->rates = (m->rates << 8 | v) & 0xffffff;
	if (m->rates == KNOCK_WHEEL)
		m->id = WHEEL;
	else if (m->rates == KNOCK_FIVE && m->id == WHEEL)
		m->id = FIVE_BUTTONS;
}

static void take_command(struct ps2_mouse *m, u8 v)
{
	if (v == RESEND) {
		send(m, m->last);
		return;
	}
	send(m, PS2_ACK);
	switch (v) {
	case SCALING_1:
	case SCALING_2: m->scaling = v == SCALING_2; break;
	case SET_RESOLUTION:
	case SET_RATE: m->command = v; break;
	case STATUS: send_status(m); break;
	case STREAM:
	case REMOTE:
		m->remote = v == REMOTE;
		forget(m);
		break;
	case READ_DATA: send_packet(m); break;
	case WRAP: m->wrap = true; break;
	case READ_ID: send(m, m->id); break;
	case ENABLE:
	case DISABLE:
		m->enabled = v == ENABLE;
		forget(m);
		break;
	case DEFAULTS: set_defaults(m); break;
	case RESET:
		set_defaults(m);
		m->id = PLAIN;
		send(m, PS2_PASSED);
		send(m, PLAIN);
		break;
	default: break; /* RESET_WRAP, outside of it */
	}
}

static bool known(u8 v)
{
	return (v >= SCALING_1 && v <= RESET_WRAP) || v == WRAP || v == REMOTE ||
	       (v >= READ_ID && v <= DEFAULTS) || v >= RESEND;
}

static void receive(void *ctx, u8 v)
{
	struct ps2_mouse *m = ctx;
	u8 command = m->command;

	m->command = 0;
	if (m->wrap && v != RESET && v != RESET_WRAP)
		send(m, v);
	else if (m->wrap && v == RESET_WRAP) {
		m->wrap = false;
		send(m, PS2_ACK);
	} else if (command)
		take_parameter(m, command, v);
	else if (known(v))
		take_command(m, v);
	else
		send(m, PS2_RESEND);
	drain(m);
}

static void room(void *ctx) { drain(ctx); }

void ps2_mouse_plug(struct device *d, struct device *controller)
{
	mouse_of(d)->controller = controller;
	i8042_plug(controller, I8042_AUX,
		(struct ps2_device){ .receive = receive, .room = room, .ctx = mouse_of(d) });
}

/* ---- reset, tables ---- */

static void mouse_reset(struct device *d)
{
	struct ps2_mouse *m = mouse_of(d);

	set_defaults(m);
	m->command = m->last = 0;
	m->id = PLAIN;
}

static void mouse_loaded(struct device *d)
{
	struct ps2_mouse *m = mouse_of(d);

	if (m->id != WHEEL && m->id != FIVE_BUTTONS)
		m->id = PLAIN;
}

static const struct field mouse_state[] = {
	FIELD(struct ps2_mouse, dx),
	FIELD(struct ps2_mouse, dy),
	FIELD(struct ps2_mouse, dz),
	FIELD(struct ps2_mouse, rates),
	FIELD(struct ps2_mouse, buttons),
	FIELD(struct ps2_mouse, told),
	FIELD(struct ps2_mouse, command),
	FIELD_MAX(struct ps2_mouse, id, FIVE_BUTTONS),
	FIELD(struct ps2_mouse, resolution),
	FIELD(struct ps2_mouse, last),
	FIELD(struct ps2_mouse, scaling),
	FIELD(struct ps2_mouse, enabled),
	FIELD(struct ps2_mouse, remote),
	FIELD(struct ps2_mouse, wrap),
	FIELD_END,
};

const struct device_class ps2_mouse_class = {
	.name = "ps2_mouse",
	.doc = "PS/2 mouse with a wheel",
	.size = sizeof(struct ps2_mouse),
	.reset = mouse_reset,
	.loaded = mouse_loaded,
	.state = mouse_state,
};
