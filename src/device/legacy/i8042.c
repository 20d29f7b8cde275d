/*
 * 8042 keyboard controller with an auxiliary port, as in the PS/2 (IBM PS/2 Hardware Interface
 * Technical Reference, "Keyboard and Auxiliary Device Controller"), and system control port A at
 * 0x92. lines[0] is IRQ1, lines[1] IRQ12.
 *
 * Address line 20 is always on: no processor since Haswell has the pin (SDM 3A 8.7.13.4 calls it
 * optional), and no guest that a virtual machine is for needs the wrap at 1 MiB. Its bit can be
 * written and read back in both ports, as drivers check, and gates nothing.
 *
 * Three sources want the one output buffer: the controller's own replies, the keyboard and the
 * auxiliary device. Each has a queue; when the guest has read the buffer, refill() takes the next
 * byte from the first queue that has one and is enabled. A socket with nothing plugged in behaves
 * as one: what the guest sends times out, and the controller answers 0xfe with the timeout bit set.
 *
 * With translation on, what the keyboard sends in scan code set 2 is put into the queue in set 1:
 * a break's prefix becomes the next code's highest bit.
 *
 * The keyboard and the mouse are devices of their own: see i8042.h and ps2.h.
 */
#include "device/legacy/i8042.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/legacy/legacy.h"
#include "device/legacy/ps2.h"

enum { WINDOW_DATA, WINDOW_COMMAND, WINDOW_PORT_A };
enum { LINE_KEYBOARD, LINE_AUX };

#define STATUS_FULL    BIT(0)
#define STATUS_SYSTEM  BIT(2)
#define STATUS_COMMAND BIT(3) /* the last write was to 0x64 */
#define STATUS_OPEN    BIT(4) /* keyboard lock is off */
#define STATUS_AUX     BIT(5)
#define STATUS_TIMEOUT BIT(6)

#define CCB_KEYBOARD_IRQ BIT(0)
#define CCB_AUX_IRQ	 BIT(1)
#define CCB_SYSTEM	 BIT(2)
#define CCB_KEYBOARD_OFF BIT(4)
#define CCB_AUX_OFF	 BIT(5)
#define CCB_TRANSLATE	 BIT(6)

#define OUT_RUN	     BIT(0) /* low: reset */
#define OUT_A20	     BIT(1)
#define OUT_KEYBOARD BIT(4) /* the two interrupt lines */
#define OUT_AUX	     BIT(5)
#define OUT_IDLE     0xc0u /* keyboard clock and data */

#define INPUT_UNLOCKED 0x80u
#define PORT_A_RESET   BIT(0)
#define PORT_A_A20     BIT(1)

/* Commands: those of RAM_READ and RAM_WRITE carry an address in the low five bits. */
#define CMD_RAM_READ	  0x20u
#define CMD_RAM_WRITE	  0x60u
#define CMD_AUX_OFF	  0xa7u
#define CMD_AUX_ON	  0xa8u
#define CMD_AUX_TEST	  0xa9u
#define CMD_SELF_TEST	  0xaau
#define CMD_KEYBOARD_TEST 0xabu
#define CMD_KEYBOARD_OFF  0xadu
#define CMD_KEYBOARD_ON	  0xaeu
#define CMD_READ_INPUT	  0xc0u
#define CMD_READ_OUTPUT	  0xd0u
#define CMD_WRITE_OUTPUT  0xd1u
#define CMD_AS_KEYBOARD	  0xd2u
#define CMD_AS_AUX	  0xd3u
#define CMD_TO_AUX	  0xd4u
#define CMD_A20_OFF	  0xddu
#define CMD_A20_ON	  0xdfu
#define CMD_PULSE	  0xf0u /* and the next fifteen: bits 3-0 low pulse that output */

#define SELF_TEST_OK 0x55u
#define PORT_TEST_OK 0x00u

#define QUEUE_LEN 16u
#define RAM_LEN	  32u

/* Sources of the output buffer; the first two are enum i8042_port. */
enum { FROM_CONTROLLER = I8042_PORTS, SOURCES };

struct queue {
	u8 bytes[QUEUE_LEN];
	u8 status[QUEUE_LEN]; /* STATUS_AUX and STATUS_TIMEOUT as they go with the byte */
	u8 len;
};

struct i8042 {
	struct device dev;
	struct ps2_device sockets[I8042_PORTS];
	struct queue queues[SOURCES];
	u8 ram[RAM_LEN]; /* [0] is the controller command byte */
	u8 buffer;	 /* output buffer; read again when empty */
	u8 status;	 /* FULL, COMMAND, AUX, TIMEOUT */
	u8 command;	 /* the command that waits for its data byte, or 0 */
	bool a20;
	bool broke; /* the keyboard's last byte was PS2_BREAK, and is still to be translated */
};

static struct i8042 *i8042_of(struct device *d) { return container_of(d, struct i8042, dev); }

/* ---- the output buffer ---- */

static bool irq_level(const struct i8042 *k, unsigned line)
{
	u8 enable = line == LINE_AUX ? CCB_AUX_IRQ : CCB_KEYBOARD_IRQ;
	bool mine = !!(k->status & STATUS_AUX) == (line == LINE_AUX);

	return k->status & STATUS_FULL && mine && k->ram[0] & enable;
}

static void update(struct i8042 *k)
{
	irq_set(&k->dev.env.lines[LINE_KEYBOARD], irq_level(k, LINE_KEYBOARD));
	irq_set(&k->dev.env.lines[LINE_AUX], irq_level(k, LINE_AUX));
}

static bool may_speak(const struct i8042 *k, unsigned source)
{
	static const u8 off[SOURCES] = { CCB_KEYBOARD_OFF, CCB_AUX_OFF, 0 };

	return k->queues[source].len && !(k->ram[0] & off[source]);
}

static void take_from(struct i8042 *k, struct queue *q)
{
	k->buffer = q->bytes[0];
	k->status = (k->status & STATUS_COMMAND) | STATUS_FULL | q->status[0];
	q->len--;
	memmove(q->bytes, q->bytes + 1, q->len);
	memmove(q->status, q->status + 1, q->len);
}

static void refill(struct i8042 *k)
{
	static const u8 order[] = { FROM_CONTROLLER, I8042_KEYBOARD, I8042_AUX };

	for (unsigned i = 0; i < ARRAY_LEN(order) && !(k->status & STATUS_FULL); i++)
		if (may_speak(k, order[i]))
			take_from(k, &k->queues[order[i]]);
	update(k);
}

/* After what the guest did, and never while a device is sending. */
static void tell_room(struct i8042 *k)
{
	for (unsigned port = 0; port < I8042_PORTS; port++)
		if (k->sockets[port].room)
			k->sockets[port].room(k->sockets[port].ctx);
}

static bool put(struct i8042 *k, unsigned source, u8 byte, u8 status)
{
	struct queue *q = &k->queues[source];

	if (q->len == QUEUE_LEN)
		return false;
	q->bytes[q->len] = byte;
	q->status[q->len++] = status;
	refill(k);
	return true;
}

/* A guest that asks without reading the answers loses them, as with a one-byte buffer. */
static void reply(struct i8042 *k, u8 byte, u8 status)
{
	if (!put(k, FROM_CONTROLLER, byte, status))
		guest_err(k->dev.name, "reply 0x%02x lost", byte);
}

/* ---- the sockets ---- */

void i8042_plug(struct device *d, enum i8042_port port, struct ps2_device what)
{
	i8042_of(d)->sockets[port] = what;
}

unsigned i8042_room(struct device *d, enum i8042_port port)
{
	return QUEUE_LEN - i8042_of(d)->queues[port].len;
}

static bool send_translated(struct i8042 *k, u8 byte)
{
	u8 up = k->broke ? 0x80 : 0;

	if (k->queues[I8042_KEYBOARD].len == QUEUE_LEN)
		return false;
	k->broke = byte == PS2_BREAK;
	return k->broke || put(k, I8042_KEYBOARD, ps2_translate(byte) | up, 0);
}

bool i8042_send(struct device *d, enum i8042_port port, u8 byte)
{
	struct i8042 *k = i8042_of(d);

	if (port == I8042_KEYBOARD && k->ram[0] & CCB_TRANSLATE)
		return send_translated(k, byte);
	return put(k, port, byte, port == I8042_AUX ? STATUS_AUX : 0);
}

/* Sending to a port also enables it. */
static void send_to(struct i8042 *k, enum i8042_port port, u8 byte)
{
	struct ps2_device *to = &k->sockets[port];

	k->ram[0] &= (u8) ~(port == I8042_AUX ? CCB_AUX_OFF : CCB_KEYBOARD_OFF);
	if (to->receive)
		to->receive(to->ctx, byte);
	else
		reply(k, PS2_RESEND, (u8)(STATUS_TIMEOUT | (port == I8042_AUX ? STATUS_AUX : 0)));
}

/* ---- reads ---- */

static u8 read_data(struct i8042 *k)
{
	u8 v = k->buffer;

	k->status &= (u8) ~(STATUS_FULL | STATUS_AUX | STATUS_TIMEOUT);
	update(k);
	refill(k);
	tell_room(k);
	return v;
}

static u8 read_status(const struct i8042 *k)
{
	return k->status | STATUS_OPEN | (k->ram[0] & CCB_SYSTEM ? STATUS_SYSTEM : 0);
}

static u64 i8042_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct i8042 *k = i8042_of(d);

	switch (window) {
	case WINDOW_DATA: return read_data(k);
	case WINDOW_COMMAND: return read_status(k);
	default: return k->a20 ? PORT_A_A20 : 0;
	}
}

/* ---- writes ---- */

static void request_reset(struct i8042 *k)
{
	if (k->dev.env.reset)
		k->dev.env.reset(k->dev.env.machine);
}

static u8 output_port(const struct i8042 *k)
{
	return (u8)(OUT_IDLE | OUT_RUN | (k->a20 ? OUT_A20 : 0) |
		    (irq_level(k, LINE_KEYBOARD) ? OUT_KEYBOARD : 0) |
		    (irq_level(k, LINE_AUX) ? OUT_AUX : 0));
}

static void write_output_port(struct i8042 *k, u8 v)
{
	k->a20 = v & OUT_A20;
	if (!(v & OUT_RUN))
		request_reset(k);
}

static void write_ram(struct i8042 *k, unsigned at, u8 v) { k->ram[at] = v; }

/* The byte that belongs to the command before it. */
static void write_parameter(struct i8042 *k, u8 command, u8 v)
{
	switch (command) {
	case CMD_WRITE_OUTPUT: write_output_port(k, v); break;
	case CMD_AS_KEYBOARD: reply(k, v, 0); break;
	case CMD_AS_AUX: reply(k, v, STATUS_AUX); break;
	case CMD_TO_AUX: send_to(k, I8042_AUX, v); break;
	default: write_ram(k, command & (RAM_LEN - 1), v); break;
	}
}

static void write_data(struct i8042 *k, u8 v)
{
	u8 command = k->command;

	k->status &= (u8)~STATUS_COMMAND;
	k->command = 0;
	if (command)
		write_parameter(k, command, v);
	else
		send_to(k, I8042_KEYBOARD, v);
}

static bool takes_parameter(u8 v)
{
	return (v & 0xe0) == CMD_RAM_WRITE || (v >= CMD_WRITE_OUTPUT && v <= CMD_TO_AUX);
}

static void write_command(struct i8042 *k, u8 v)
{
	k->status |= STATUS_COMMAND;
	k->command = takes_parameter(v) ? v : 0;
	if (k->command)
		return;
	if ((v & 0xe0) == CMD_RAM_READ) {
		reply(k, k->ram[v & (RAM_LEN - 1)], 0);
		return;
	}
	if (v >= CMD_PULSE) {
		if (!(v & OUT_RUN))
			request_reset(k);
		return;
	}
	switch (v) {
	case CMD_AUX_OFF: k->ram[0] |= CCB_AUX_OFF; break;
	case CMD_AUX_ON: k->ram[0] &= (u8)~CCB_AUX_OFF; break;
	case CMD_KEYBOARD_OFF: k->ram[0] |= CCB_KEYBOARD_OFF; break;
	case CMD_KEYBOARD_ON: k->ram[0] &= (u8)~CCB_KEYBOARD_OFF; break;
	case CMD_AUX_TEST:
	case CMD_KEYBOARD_TEST: reply(k, PORT_TEST_OK, 0); break;
	case CMD_SELF_TEST:
		k->ram[0] |= CCB_SYSTEM;
		reply(k, SELF_TEST_OK, 0);
		break;
	case CMD_READ_INPUT: reply(k, INPUT_UNLOCKED, 0); break;
	case CMD_READ_OUTPUT: reply(k, output_port(k), 0); break;
	case CMD_A20_OFF: k->a20 = false; break;
	case CMD_A20_ON: k->a20 = true; break;
	default: guest_err(k->dev.name, "unknown command 0x%02x", v); break;
	}
}

static void write_port_a(struct i8042 *k, u8 v)
{
	k->a20 = v & PORT_A_A20;
	if (v & PORT_A_RESET)
		request_reset(k);
}

static void i8042_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct i8042 *k = i8042_of(d);
	u8 v = (u8)value;

	switch (window) {
	case WINDOW_DATA: write_data(k, v); break;
	case WINDOW_COMMAND: write_command(k, v); break;
	default: write_port_a(k, v); break;
	}
	refill(k);
	tell_room(k);
}

/* ---- reset, tables ---- */

/* As firmware leaves it, for guests started without one: keyboard on, aux off, A20 enabled. */
static void i8042_reset(struct device *d)
{
	struct i8042 *k = i8042_of(d);

	memset(k->queues, 0, sizeof(k->queues));
	memset(k->ram, 0, sizeof(k->ram));
	k->ram[0] = CCB_KEYBOARD_IRQ | CCB_SYSTEM | CCB_AUX_OFF | CCB_TRANSLATE;
	k->buffer = k->status = k->command = 0;
	k->a20 = true;
	k->broke = false;
	update(k);
}

static void i8042_loaded(struct device *d) { refill(i8042_of(d)); }

static const struct field queue_state[] = {
	FIELD_BLOB(struct queue, bytes),
	FIELD_BLOB(struct queue, status),
	FIELD_MAX(struct queue, len, QUEUE_LEN),
	FIELD_END,
};

static const struct field i8042_state[] = {
	FIELD_SUB(struct i8042, queues, struct queue, queue_state),
	FIELD_BLOB(struct i8042, ram),
	FIELD(struct i8042, buffer),
	FIELD(struct i8042, status),
	FIELD(struct i8042, command),
	FIELD(struct i8042, a20),
	FIELD(struct i8042, broke),
	FIELD_END,
};

const struct device_class i8042_class = {
	.name = "i8042",
	.doc = "8042 keyboard controller and system control port A",
	.size = sizeof(struct i8042),
	.width = 1,
	.reset = i8042_reset,
	.read = i8042_read,
	.write = i8042_write,
	.loaded = i8042_loaded,
	.windows = { { BUS_PORT, 0x60, 1 }, { BUS_PORT, 0x64, 1 }, { BUS_PORT, 0x92, 1 } },
	.state = i8042_state,
};
