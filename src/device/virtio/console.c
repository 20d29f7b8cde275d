/*
 * Console device (virtio 1.2 5.3): up to four streams of bytes between guest and host, ports. Port
 * 0 may be the console; the others have names, by which a guest finds them.
 *
 * Queues: 0 and 1 are port 0's, to the driver and from it; 2 and 3 the control messages'; 4 and 5
 * port 1's, and so on (5.3.2). What the driver is to be told of a port is a set of bits, of which
 * each becomes a message when there is a chain for it: so nothing is queued.
 *
 *   driver                       device
 *   DEVICE_READY            ->   PORT_ADD for each port
 *   PORT_READY              ->   CONSOLE_PORT, PORT_NAME, PORT_OPEN, as it applies
 *   PORT_OPEN 1 or 0             the guest has opened, or closed it
 *                           <-   PORT_OPEN 1 or 0: the host has
 *
 * Bytes are lost in no direction while both have it open: a chain of which the host has taken a
 * part stays in its queue, with a count of what is gone; bytes for a guest that has no chain, or
 * has not opened the port, stay with the host. What a guest sends where nobody is connected is
 * lost.
 *
 * A driver without MULTIPORT has port 0 only, open from the start.
 */
#include "device/virtio/console.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PORTS  VIRTIO_CONSOLE_PORTS
#define QUEUES (2 * (PORTS + 1))
enum { QUEUE_TELL = 2, QUEUE_HEAR = 3 };

/* 5.3.3 and 5.3.4 */
#define F_MULTIPORT   BIT64(1)
#define F_EMERG_WRITE BIT64(2)
#define MAX_PORTS     4u
#define EMERG_WR      8u
#define CONFIG_LEN    12u

/* 5.3.6.2: port, event, value; behind it perhaps a name. */
#define MESSAGE_LEN 8u
#define NAME_MAX_   64u
enum event {
	DEVICE_READY,
	PORT_ADD,
	PORT_REMOVE,
	PORT_READY,
	CONSOLE_PORT,
	RESIZE,
	PORT_OPEN,
	PORT_NAME,
};

#define CHAIN_MAX (1u * MiB) /* of a chain to the host */
#define PIECE	  4096u

struct port {
	u32 owed;	/* events that the driver must hear of, a bit each */
	u32 sent;	/* bytes of the first chain that the host has */
	bool open;	/* by the guest */
	bool connected; /* by the host */
	bool told;	/* the same, as the driver has heard */
	bool ready;	/* the driver knows it */
	bool full;	/* the host has no room */
	bool hungry;	/* and the guest none */
};

struct console {
	struct virtio v;
	bool is_console;    /* property: port 0 is */
	char *names[PORTS]; /* properties */
	struct port ports[PORTS];
};

static struct console *console_of(struct virtio *v) { return container_of(v, struct console, v); }

/* ---- helpers ---- */

static unsigned queue_to_host(unsigned port) { return port ? 2 * port + 3 : 1; }
static unsigned queue_to_guest(unsigned port) { return port ? 2 * port + 2 : 0; }
static unsigned port_of(unsigned queue) { return queue < 2 ? 0 : queue / 2 - 1; }

static bool exists(const struct console *s, unsigned port)
{
	return (!port && s->is_console) || s->names[port];
}

static bool is_open(const struct console *s, unsigned port)
{
	return exists(s, port) && (virtio_has(&s->v, F_MULTIPORT) ? s->ports[port].open : !port);
}

/* ---- control messages to the driver ---- */

static u16 value_of(const struct port *p, enum event what)
{
	return what == PORT_ADD ? 0 : what == PORT_OPEN ? p->connected : 1;
}

/* One: false when there is no chain for it. */
static bool tell(struct console *s, unsigned port, enum event what)
{
	const char *name = what == PORT_NAME ? s->names[port] : "";
	u8 message[MESSAGE_LEN + NAME_MAX_];
	size_t len = min_u64(strlen(name), NAME_MAX_);
	struct virtq_chain c;

	if (!virtio_pop(&s->v, QUEUE_TELL, &c))
		return false;
	put_le32(message, port);
	put_le16(message + 4, (u16)what);
	put_le16(message + 6, value_of(&s->ports[port], what));
	memcpy(message + MESSAGE_LEN, name, len);
	if (what == PORT_OPEN)
		s->ports[port].told = s->ports[port].connected;
	virtio_push(&s->v, QUEUE_TELL, c.id, c.slots,
		(u32)virtq_write(&c, s->v.dev.env.memory, 0, message, MESSAGE_LEN + len));
	return true;
}

static bool tell_all(struct console *s)
{
	for (unsigned i = 0; i < PORTS; i++)
		while (s->ports[i].owed) {
			enum event what = (enum event)__builtin_ctz(s->ports[i].owed);

			if (!tell(s, i, what))
				return false;
			s->ports[i].owed &= s->ports[i].owed - 1;
		}
	return true;
}

/* What is owed, as far as there are chains; with the last of them, the driver is asked for more. */
static void pay(struct console *s)
{
	if (!virtio_has(&s->v, F_MULTIPORT))
		return;
	if (!tell_all(s) && virtio_await(&s->v, QUEUE_TELL))
		(void)!tell_all(s);
	virtio_interrupt(&s->v, QUEUE_TELL);
}

/* ---- bytes ---- */

/* Of a chain: true once the host has all of it. */
static bool send_chain(struct console *s, unsigned port, const struct virtq_chain *c)
{
	const struct device_env *env = &s->v.dev.env;
	struct port *p = &s->ports[port];
	u8 piece[PIECE];

	while (p->connected && p->sent < c->out_len) {
		size_t n = virtq_read(c, p->sent, piece, sizeof(piece));
		size_t taken = env->port->write(env->port_ctx, port, piece, n);

		p->sent += (u32)taken;
		p->full = taken < n;
		if (p->full)
			return false;
	}
	p->sent = 0;
	return true;
}

/* A queue in which nothing is found twice has nothing, or the device has had its turn. */
static void transmit(struct console *s, unsigned port)
{
	struct port *p = &s->ports[port];
	unsigned queue = queue_to_host(port);
	struct virtq *q = &s->v.queues[queue];
	struct virtq_chain c;

	for (unsigned vain = 0; vain < 2 && !p->full; vain++) {
		for (;;) {
			struct virtq_mark mark = virtq_mark(q);

			if (p->full || !virtio_pop(&s->v, queue, &c))
				break;
			vain = 0;
			if (c.out_len > CHAIN_MAX) {
				virtio_broken(&s->v, "more than a MiB at once for a port");
				return;
			}
			if (!send_chain(s, port, &c)) {
				virtq_rewind(q, mark);
				break;
			}
			virtio_push(&s->v, queue, c.id, c.slots, 0);
			virtio_interrupt(&s->v, queue);
		}
		if (p->full || !virtio_await(&s->v, queue))
			return;
	}
}

size_t virtio_console_input(struct device *d, unsigned port, const u8 *data, size_t len)
{
	struct virtio *v = virtio_of(d);
	struct console *s = console_of(v);
	unsigned queue = queue_to_guest(port);
	struct virtq_chain c;
	size_t done = 0;

	if (is_open(s, port))
		for (unsigned vain = 0; vain < 2 && done < len; vain++) {
			while (done < len && virtio_pop(v, queue, &c)) {
				size_t n =
					virtq_write(&c, d->env.memory, 0, data + done, len - done);

				vain = 0;
				done += n;
				virtio_push(v, queue, c.id, c.slots, (u32)n);
				if (!n) {
					virtio_broken(v, "a buffer without room for a byte");
					break;
				}
			}
			if (done < len && !virtio_await(v, queue))
				break;
		}
	if (done)
		virtio_interrupt(v, queue);
	s->ports[port].hungry = done < len;
	return done;
}

void virtio_console_room(struct device *d, unsigned port)
{
	struct console *s = console_of(virtio_of(d));

	if (!s->ports[port].full)
		return;
	s->ports[port].full = false;
	transmit(s, port);
}

static void feed(struct console *s, unsigned port)
{
	const struct device_env *env = &s->v.dev.env;

	if (!s->ports[port].hungry || !is_open(s, port))
		return;
	s->ports[port].hungry = false;
	env->port->room(env->port_ctx, port);
}

void virtio_console_connected(struct device *d, unsigned port, bool connected)
{
	struct console *s = console_of(virtio_of(d));
	struct port *p = &s->ports[port];

	p->connected = connected;
	if (p->ready && p->told != connected)
		p->owed |= BIT(PORT_OPEN);
	pay(s);
	/* What waits for who has gone, waits for nobody. */
	p->full = false;
	transmit(s, port);
}

/* ---- control messages from the driver ---- */

static void hear(struct console *s, u32 port, u16 event, u16 value)
{
	if (event == DEVICE_READY) {
		for (unsigned i = 0; i < PORTS && value == 1; i++)
			if (exists(s, i))
				s->ports[i].owed |= BIT(PORT_ADD);
		return;
	}
	if (port >= PORTS || !exists(s, port)) {
		guest_err(s->v.dev.name, "event %u of port %u, which does not exist", event, port);
		return;
	}
	struct port *p = &s->ports[port];

	if (event == PORT_READY && value == 1) {
		p->ready = true;
		if (!port && s->is_console)
			p->owed |= BIT(CONSOLE_PORT);
		if (s->names[port])
			p->owed |= BIT(PORT_NAME);
		if (p->connected)
			p->owed |= BIT(PORT_OPEN);
	} else if (event == PORT_OPEN) {
		p->open = value;
		feed(s, port);
	}
}

static void listen_to_driver(struct console *s)
{
	struct virtq_chain c;
	u8 message[MESSAGE_LEN];

	while (virtio_pop(&s->v, QUEUE_HEAR, &c)) {
		if (virtq_read(&c, 0, message, sizeof(message)) == sizeof(message))
			hear(s, get_le32(message), get_le16(message + 4), get_le16(message + 6));
		virtio_push(&s->v, QUEUE_HEAR, c.id, c.slots, 0);
	}
	virtio_interrupt(&s->v, QUEUE_HEAR);
	pay(s);
}

static void console_notify(struct virtio *v, unsigned queue)
{
	struct console *s = console_of(v);

	if (queue == QUEUE_HEAR)
		listen_to_driver(s);
	else if (queue == QUEUE_TELL)
		pay(s);
	else if (queue & 1)
		transmit(s, port_of(queue));
	else
		feed(s, port_of(queue));
}

/* ---- configuration ---- */

static void show_config(struct console *s)
{
	memset(s->v.config, 0, CONFIG_LEN);
	put_le32(s->v.config + MAX_PORTS, PORTS);
}

/* 5.3.4: a byte of a driver that can do nothing else yet. */
static void console_config_wrote(struct virtio *v, unsigned at, unsigned size)
{
	const struct device_env *env = &v->dev.env;
	struct console *s = console_of(v);

	if (at == EMERG_WR && s->is_console)
		env->port->write(env->port_ctx, 0, v->config + EMERG_WR, 1);
	show_config(s);
}

/* ---- reset, init, tables ---- */

/* By the driver, too. Who is connected stays so. */
static void forget(struct virtio *v)
{
	struct console *s = console_of(v);

	for (unsigned i = 0; i < PORTS; i++)
		s->ports[i] = (struct port){ .connected = s->ports[i].connected, .hungry = true };
}

static void console_reset(struct device *d)
{
	struct console *s = console_of(virtio_of(d));

	s->ports[0].connected |= s->is_console;
	show_config(s);
	virtio_power_on(d);
}

static void console_loaded(struct device *d)
{
	struct console *s = console_of(virtio_of(d));

	for (unsigned i = 0; i < PORTS; i++) {
		struct port *p = &s->ports[i];

		p->owed &= (exists(s, i) ? BIT(PORT_ADD) | BIT(PORT_OPEN) : 0) |
			   (!i && s->is_console ? BIT(CONSOLE_PORT) : 0) |
			   (s->names[i] ? BIT(PORT_NAME) : 0);
		if (p->ready && p->told != p->connected)
			p->owed |= BIT(PORT_OPEN);
		p->full = false;
		p->hungry = true;
	}
	show_config(s);
	virtio_loaded(d);
}

static int console_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 3,
		.class = 0x078000,
		.features = F_MULTIPORT | F_EMERG_WRITE,
		.queues = QUEUES,
		.config_len = CONFIG_LEN,
		.waiting = (BIT(QUEUES) - 1) & ~BIT(QUEUE_HEAR),
		.notify = console_notify,
		.config_wrote = console_config_wrote,
		.reset = forget,
	};

	if (!d->env.port)
		return err_set(err, -EINVAL, "no host side");
	return virtio_init(virtio_of(d), &type, err);
}

#define NAME(n)                                                                                    \
	{                                                                                          \
		"name" #n, "what port " #n " is called; none: there is no such port", PROP_STRING, \
			offsetof(struct console, names[n]), 0, 0, 0                                \
	}

static const struct prop console_props[] = {
	VIRTIO_PROPS(struct console),
	{ "console", "port 0 is a console", PROP_BOOL, offsetof(struct console, is_console), 0, 0,
		1 },
	NAME(0),
	NAME(1),
	NAME(2),
	NAME(3),
	PROP_END,
};

static const struct field port_fields[] = {
	FIELD(struct port, owed),
	FIELD(struct port, sent),
	FIELD(struct port, open),
	FIELD(struct port, told),
	FIELD(struct port, ready),
	FIELD_END,
};

static const struct field console_state[] = {
	FIELD_SUB(struct console, v, struct virtio, virtio_fields),
	FIELD_SUB(struct console, ports, struct port, port_fields),
	FIELD_END,
};

const struct device_class virtio_console_class = {
	.name = "virtio-console",
	.doc = "virtio console device",
	.size = sizeof(struct console),
	.init = console_init,
	.reset = console_reset,
	.fini = virtio_fini,
	.loaded = console_loaded,
	.props = console_props,
	.state = console_state,
};
