/*
 * The host's side of a virtio socket device (virtio 1.2 5.10), on Unix sockets, by the convention
 * of Firecracker:
 *
 *   Host to guest: connect to PATH, write "CONNECT port\n". When the guest has accepted, "OK
 *   port\n" comes, with the host's port, and then the stream.
 *   Guest to host: a connection to port N of cid 2 becomes one to the socket PATH_N.
 *
 * Packets are a head (below) and data. Each connection is a struct conn, in one of these states:
 *
 *   FREE
 *   GREETING  accepted at PATH, the line has not come yet      -> REQUESTED, FREE
 *   REQUESTED the guest is asked                               -> OPEN, FREE
 *   ASKING    the guest has asked; the connector is at work    -> OPEN, FREE
 *   OPEN                                                       -> CLOSING, FREE
 *   CLOSING   no socket any more; the guest has yet to hear    -> FREE
 *
 * Credit (5.10.6.3). What the guest sends waits in a buffer of BUFFER bytes, which is what it is
 * told; who sends more has broken the rules, and is reset. What the host sends is read only when
 * the guest has room. So nothing grows, and who does not read stops only himself.
 *
 * Half-close: the end of a stream that is read is VSOCK_SHUTDOWN for its direction, and the other
 * way round, once the buffer is empty. Both directions closed, the guest answers by RST, or is
 * answered so.
 *
 * Once the sandbox is entered nobody opens a path. A connector, a process forked before, does that
 * one thing: it is sent a port and sends back a socket that is connected to PATH_port. It ends when
 * the monitor does. So a monitor that is taken over reaches these sockets, and no others.
 */
#include "base/bits.h"
#include "base/log.h"
#include "net/connector.h"
#include "net/net_priv.h"
#include "os/unix_listen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNS_MAX  128u
#define BUFFER	   (64u * KiB)
#define DATA_MAX   4096u /* in a packet to the guest: what drivers have room for */
#define STRAYS_MAX 32u
#define HOST_CID   2u
#define LINE_MAX_  32u
#define FIRST_PORT (1u << 30) /* of the host's, for connections that it begins */

/* 5.10.6 */
enum head {
	SRC_CID = 0,
	DST_CID = 8,
	SRC_PORT = 16,
	DST_PORT = 20,
	LEN = 24,
	TYPE = 28,
	OP = 30,
	FLAGS = 32,
	BUF_ALLOC = 36,
	FWD_CNT = 40,
	HEAD = 44
};
#define STREAM 1u
enum op { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
#define NO_RECEIVE 1u /* flags of SHUTDOWN */
#define NO_SEND	   2u

enum state { FREE, GREETING, REQUESTED, ASKING, OPEN, CLOSING };

struct conn {
	enum state state;
	int fd; /* -1: none */
	int watched;
	u32 id; /* for the connector's answer */
	u32 guest_port, host_port;
	u32 peer_alloc, peer_fwd, sent; /* the guest's buffer, how much it has used, was sent */
	u32 received, forwarded, told;	/* of the guest's stream; told: forwarded, when last said */
	u32 owed;			/* packets that it must get, a bit for each op */
	u32 owed_flags;			/* SHUTDOWN's */
	u32 guest_shut, host_shut;	/* NO_RECEIVE and NO_SEND, as each has said */
	char line[LINE_MAX_];
	unsigned line_len;
	u8 buffer[BUFFER]; /* received - forwarded bytes, at forwarded % BUFFER */
};

/* A packet for no connection of ours: RST is the answer. */
struct stray {
	u32 guest_port, host_port;
};

struct vsock {
	int listener, listener_at;
	struct connector connector;
	int connector_at;
	u32 next_id, next_port;
	struct stray strays[STRAYS_MAX];
	unsigned stray_count;
	size_t waiting; /* of the packet: bytes that the guest has not taken */
	u8 packet[HEAD + DATA_MAX];
	struct conn conns[CONNS_MAX];
};

/* ---- connections ---- */

static struct conn *find(struct vsock *s, u32 guest_port, u32 host_port)
{
	for (unsigned i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &s->conns[i];

		if (c->state > GREETING && c->guest_port == guest_port && c->host_port == host_port)
			return c;
	}
	return NULL;
}

static struct conn *take(struct vsock *s, enum state state, int fd)
{
	for (unsigned i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &s->conns[i];

		if (c->state == FREE) {
			memset(c, 0, offsetof(struct conn, buffer));
			c->state = state;
			c->fd = fd;
			c->watched = -1;
			return c;
		}
	}
	return NULL;
}

static void drop_socket(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->watched = -1;
}

static void free_conn(struct conn *c)
{
	drop_socket(c);
	c->state = FREE;
}

/* Not without a word. */
static void reset_conn(struct conn *c)
{
	drop_socket(c);
	c->state = CLOSING;
	c->owed = BIT(RST);
}

static void owe(struct conn *c, enum op op) { c->owed |= BIT(op); }

static void owe_shutdown(struct conn *c, u32 flags)
{
	if ((c->host_shut | flags) == c->host_shut)
		return;
	c->host_shut |= flags;
	owe(c, SHUTDOWN);
}

static void stray(struct vsock *s, u32 guest_port, u32 host_port)
{
	if (s->stray_count < STRAYS_MAX)
		s->strays[s->stray_count++] = (struct stray){ guest_port, host_port };
}

/* ---- to the guest ---- */

static void make_head(u8 *h, const struct net *n, u32 guest_port, u32 host_port, enum op op)
{
	memset(h, 0, HEAD);
	put_le64(h + SRC_CID, HOST_CID);
	put_le64(h + DST_CID, n->config.cid);
	put_le32(h + SRC_PORT, host_port);
	put_le32(h + DST_PORT, guest_port);
	put_le16(h + TYPE, STREAM);
	put_le16(h + OP, (u16)op);
	put_le32(h + BUF_ALLOC, BUFFER);
}

/* The head of the packet; with that the guest knows how much was forwarded. */
static void begin(struct net *n, struct conn *c, enum op op)
{
	u8 *h = ((struct vsock *)n->back)->packet;

	make_head(h, n, c->guest_port, c->host_port, op);
	put_le32(h + FLAGS, op == SHUTDOWN ? c->host_shut : 0);
	put_le32(h + FWD_CNT, c->forwarded);
	c->told = c->forwarded;
}

/* Of the packet: true if the guest has taken it, else it waits. */
static bool deliver(struct net *n, size_t len)
{
	struct vsock *s = n->back;

	s->waiting = net_deliver(n, s->packet, len) ? 0 : len;
	return !s->waiting;
}

static void pay(struct net *n, struct conn *c)
{
	struct vsock *s = n->back;

	while (c->owed && !s->waiting) {
		enum op op = (enum op)__builtin_ctz(c->owed);

		c->owed &= c->owed - 1;
		begin(n, c, op);
		deliver(n, HEAD);
	}
	if (c->state == CLOSING && !c->owed)
		free_conn(c);
}

/* All that is owed, as long as the guest takes it. */
static void pay_all(struct net *n)
{
	struct vsock *s = n->back;

	while (s->stray_count && !s->waiting) {
		const struct stray *t = &s->strays[--s->stray_count];

		make_head(s->packet, n, t->guest_port, t->host_port, RST);
		deliver(n, HEAD);
	}
	for (unsigned i = 0; i < CONNS_MAX && !s->waiting; i++)
		if (s->conns[i].owed || s->conns[i].state == CLOSING)
			pay(n, &s->conns[i]);
}

static u32 credit(const struct conn *c)
{
	u32 used = c->sent - c->peer_fwd;

	return used < c->peer_alloc ? c->peer_alloc - used : 0;
}

/* From the host. At the end of the stream and of the socket the guest is told. */
static void read_host(struct net *n, struct conn *c, bool hung_up)
{
	struct vsock *s = n->back;

	for (unsigned i = 0; i < NET_TURN_FRAMES && !s->waiting && credit(c); i++) {
		size_t max = min_u64(DATA_MAX, credit(c));
		ssize_t len = recv(c->fd, s->packet + HEAD, max, MSG_DONTWAIT);

		if (len < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (len <= 0) {
			owe_shutdown(c, len < 0 || hung_up ? NO_SEND | NO_RECEIVE : NO_SEND);
			return;
		}
		begin(n, c, RW);
		put_le32(s->packet + LEN, (u32)len);
		c->sent += (u32)len;
		deliver(n, HEAD + (size_t)len);
	}
}

/* ---- from the guest ---- */

/* What is buffered goes to the socket; once it is empty, so does what the guest has closed. */
static void write_host(struct conn *c)
{
	while (c->received != c->forwarded) {
		u32 at = c->forwarded % BUFFER;
		size_t len = min_u64(c->received - c->forwarded, BUFFER - at);
		ssize_t done = send(c->fd, c->buffer + at, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (done < 0) {
			/* Nobody reads any more. */
			c->forwarded = c->received;
			owe_shutdown(c, NO_RECEIVE);
			break;
		}
		c->forwarded += (u32)done;
	}
	if (c->forwarded - c->told >= BUFFER / 2)
		owe(c, CREDIT_UPDATE);
	if (c->received != c->forwarded)
		return;
	if (c->guest_shut == (NO_SEND | NO_RECEIVE))
		reset_conn(c);
	else if (c->guest_shut & NO_SEND)
		shutdown(c->fd, SHUT_WR);
}

static void take_data(struct conn *c, const u8 *data, u32 len)
{
	if (c->guest_shut & NO_SEND || len > BUFFER - (c->received - c->forwarded)) {
		guest_err("vsock", "data that there is no credit for");
		reset_conn(c);
		return;
	}
	u32 at = c->received % BUFFER;
	u32 first = (u32)min_u64(len, BUFFER - at);

	memcpy(c->buffer + at, data, first);
	memcpy(c->buffer, data + first, len - first);
	c->received += len;
	write_host(c);
}

static void answer_greeting(struct conn *c)
{
	char line[LINE_MAX_];
	int len = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	c->state = OPEN;
	/* A socket that cannot take this first line will not be missed. */
	if (send(c->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		reset_conn(c);
}

static void note_credit(struct conn *c, const u8 *packet)
{
	c->peer_alloc = get_le32(packet + BUF_ALLOC);
	c->peer_fwd = get_le32(packet + FWD_CNT);
}

static void ask_connector(struct vsock *s, u32 guest_port, u32 host_port, const u8 *packet)
{
	struct conn *c = take(s, ASKING, -1);

	if (c) {
		c->guest_port = guest_port;
		c->host_port = host_port;
		c->id = s->next_id++;
		note_credit(c, packet);
	}
	if (!c || connector_ask(&s->connector, c->id, host_port)) {
		if (c)
			free_conn(c);
		stray(s, guest_port, host_port);
	}
}

static void obey(struct vsock *s, struct conn *c, const u8 *packet)
{
	u32 len = get_le32(packet + LEN), flags = get_le32(packet + FLAGS);

	note_credit(c, packet);
	switch (get_le16(packet + OP)) {
	case RESPONSE:
		if (c->state == REQUESTED)
			answer_greeting(c);
		else
			reset_conn(c);
		break;
	case RST: free_conn(c); break;
	case SHUTDOWN:
		c->guest_shut |= flags & (NO_SEND | NO_RECEIVE);
		if (c->state == OPEN)
			write_host(c);
		else
			reset_conn(c);
		break;
	case RW:
		if (c->state == OPEN)
			take_data(c, packet + HEAD, len);
		else if (c->state != CLOSING)
			reset_conn(c);
		break;
	case CREDIT_UPDATE: break;
	case CREDIT_REQUEST: owe(c, CREDIT_UPDATE); break;
	default: reset_conn(c); break; /* REQUEST, for one */
	}
}

/* The device has seen to it that the packet is as long as it says. */
static void vsock_send(struct net *n, const u8 *packet, size_t len)
{
	struct vsock *s = n->back;

	if (len < HEAD || get_le32(packet + LEN) != len - HEAD)
		return;
	u32 guest_port = get_le32(packet + SRC_PORT), host_port = get_le32(packet + DST_PORT);
	struct conn *c = find(s, guest_port, host_port);
	u16 op = get_le16(packet + OP);

	if (get_le64(packet + SRC_CID) != n->config.cid)
		return;
	if (get_le64(packet + DST_CID) != HOST_CID || get_le16(packet + TYPE) != STREAM)
		c = NULL;
	else if (!c && op == REQUEST) {
		ask_connector(s, guest_port, host_port, packet);
		net_wake(n);
		return;
	}
	if (c)
		obey(s, c, packet);
	else if (op != RST)
		stray(s, guest_port, host_port);
	pay_all(n);
	net_wake(n); /* what is waited for may be something else now */
}

static void vsock_room(struct net *n)
{
	struct vsock *s = n->back;

	if (s->waiting && !deliver(n, s->waiting))
		return;
	pay_all(n);
	net_wake(n);
}

/* ---- turns ---- */

/* "CONNECT port\n": a byte at a time, since what follows is the guest's. */
static void read_greeting(struct vsock *s, struct conn *c)
{
	char byte, end;
	ssize_t got = 0;

	while (c->line_len < LINE_MAX_ - 1 && (got = recv(c->fd, &byte, 1, MSG_DONTWAIT)) == 1 &&
		byte != '\n')
		c->line[c->line_len++] = byte;
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	c->line[c->line_len] = '\0';
	if (got != 1 || byte != '\n' || c->line[sizeof("CONNECT ") - 1] == '-' ||
		sscanf(c->line, "CONNECT %u%c", &c->guest_port, &end) != 1) {
		free_conn(c);
		return;
	}
	do
		c->host_port = FIRST_PORT + s->next_port++ % FIRST_PORT;
	while (find(s, c->guest_port, c->host_port));
	c->state = REQUESTED;
	owe(c, REQUEST);
}

static void accept_one(struct vsock *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0 && !take(s, GREETING, fd))
		close(fd);
}

static void hear_connector(struct vsock *s)
{
	u32 id;
	int fd;

	while (connector_answer(&s->connector, &id, &fd)) {
		struct conn *c = NULL;

		for (unsigned i = 0; i < CONNS_MAX && !c; i++)
			if (s->conns[i].state == ASKING && s->conns[i].id == id)
				c = &s->conns[i];
		if (!c) {
			if (fd >= 0)
				close(fd);
		} else if (fd < 0) {
			reset_conn(c);
		} else {
			c->fd = fd;
			c->state = OPEN;
			owe(c, RESPONSE);
		}
	}
	for (unsigned i = 0; s->connector.fd < 0 && i < CONNS_MAX; i++)
		if (s->conns[i].state == ASKING)
			reset_conn(&s->conns[i]);
}

/* Who has ended his stream may yet close his socket. With both directions shut it hangs up by
 * itself. */
static bool may_hang_up(const struct conn *c)
{
	return c->host_shut == NO_SEND && !(c->guest_shut & NO_SEND);
}

/* Negative: nothing. Zero: that the host's end is closed for good. */
static int wants(const struct vsock *s, const struct conn *c)
{
	if (c->fd < 0)
		return -1;
	if (c->state == GREETING)
		return POLLIN;
	if (c->state != OPEN)
		return -1;
	bool ended = c->guest_shut & NO_RECEIVE || c->host_shut & NO_SEND;
	int events = (!ended && !s->waiting && credit(c) ? POLLIN : 0) |
		     (c->received != c->forwarded ? POLLOUT : 0);

	return events ? events : may_hang_up(c) ? 0 : -1;
}

static void vsock_watch(struct net *n, u32 *timeout)
{
	struct vsock *s = n->back;

	s->listener_at = net_watch(n, s->listener, POLLIN);
	s->connector_at = net_watch(n, s->connector.fd, POLLIN);
	for (unsigned i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &s->conns[i];
		int events = wants(s, c);

		c->watched = events >= 0 ? net_watch(n, c->fd, (short)events) : -1;
	}
}

static void look_at(struct net *n, struct conn *c)
{
	struct pollfd at = c->watched < 0 ? (struct pollfd){ 0 } : n->fds[c->watched];

	if (!at.revents || c->fd < 0)
		return;
	if (c->state == GREETING) {
		read_greeting(n->back, c);
		return;
	}
	if (at.events & POLLOUT)
		write_host(c);
	if (c->state == OPEN && at.events & POLLIN)
		read_host(n, c, at.revents & POLLHUP);
	else if (c->state == OPEN && may_hang_up(c) && at.revents & (POLLHUP | POLLERR))
		owe_shutdown(c, NO_RECEIVE);
}

static void vsock_ready(struct net *n, bool failed)
{
	struct vsock *s = n->back;

	if (failed)
		return;
	for (unsigned i = 0; i < CONNS_MAX; i++)
		look_at(n, &s->conns[i]);
	if (s->connector_at >= 0 && n->fds[s->connector_at].revents)
		hear_connector(s);
	if (s->listener_at >= 0 && n->fds[s->listener_at].revents)
		accept_one(s);
	pay_all(n);
}

/* ---- life ---- */

/* The driver begins anew: it knows of no connection. */
static void vsock_reset(struct net *n)
{
	struct vsock *s = n->back;

	for (unsigned i = 0; i < CONNS_MAX; i++)
		if (s->conns[i].state > GREETING)
			free_conn(&s->conns[i]);
	s->stray_count = 0;
	s->waiting = 0;
	net_wake(n);
}

static int vsock_open(struct net *n, struct err *err)
{
	const char *path = n->config.name;
	struct vsock *s = n->back;

	s->connector.fd = -1;
	for (unsigned i = 0; i < CONNS_MAX; i++)
		s->conns[i].fd = -1;
	s->listener = unix_listen(path, CONNECTOR_SUFFIX, (int)CONNS_MAX, err);
	if (s->listener < 0)
		return err->code;
	return connector_open(&s->connector, path, err);
}

static void vsock_close(struct net *n)
{
	struct vsock *s = n->back;

	for (unsigned i = 0; i < CONNS_MAX; i++)
		drop_socket(&s->conns[i]);
	connector_close(&s->connector);
	if (s->listener >= 0)
		close(s->listener);
}

const struct net_back vsock_back = {
	.size = sizeof(struct vsock),
	.open = vsock_open,
	.close = vsock_close,
	.send = vsock_send,
	.room = vsock_room,
	.watch = vsock_watch,
	.ready = vsock_ready,
	.reset = vsock_reset,
};
