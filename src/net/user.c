/*
 * User-mode networking, by libslirp.
 *
 * What slirp waits for may change when the guest sends. Of new sockets, and of room for what has
 * come, it tells, and the thread is woken; of data that a socket did not take at once it does not.
 * So the thread looks every few milliseconds as long as the guest sends, and only the first frame
 * after a silence wakes it.
 *
 * Doors. Who connects to a forward before the guest uses its address would wait for long: libslirp
 * asks for the address once, for a second, and then sends the first segment again after six. So it
 * is not told of the connection, which the host's kernel keeps; the guest is asked instead, every
 * few milliseconds for as long as somebody waits, who has the address. Its answer opens the doors.
 */
#include "base/bits.h"
#include "base/log.h"
#include "net/net_priv.h"
#include "net/resolv.h"
#include "os/fd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <slirp/libslirp.h>
#include <string.h>

#define QUEUE_MAX  1024u /* frames */
#define TIMERS_MAX 4u
#define DHCP_AT	   (14u + 20u + 8u + 236u) /* Ethernet, IPv4, UDP, BOOTP's fixed fields */
#define ASK_MS	   20u			   /* between two questions who has the guest's address */
#define ACTIVE_MS  2u /* between two turns while the guest sends: how long slirp delays an ACK */

/* The guest's networks: 10.0.2.0/24 and fec0::/64; the next ones for other networks of the machine
 */
#define NETWORK	    0x0a000200u
#define MASK	    0xffffff00u
#define HOST	    0x0a000202u
#define NAMESERVER  0x0a000203u
#define GUEST	    0x0a00020fu
#define PREFIX6	    0xfec0u
#define PREFIX6_LEN 64
#define HOST6	    2u
#define NAMESERVER6 3u
#define NEXT	    0x100u

struct timer {
	SlirpTimerCb fire;
	void *ctx;
	s64 at; /* ms; negative: not set */
	bool used;
};

struct frame {
	u16 len;
	u8 data[NET_FRAME_MAX];
};

struct user {
	Slirp *slirp;
	bool sent, active; /* the guest has sent since the last turn; between the last two */
	int doors[NET_FORWARDS_MAX]; /* this turn: where in net.fds those are that are held */
	unsigned door_count;
	s64 ask_at; /* ms: not before then again */
	struct timer timers[TIMERS_MAX];
	struct frame queue[QUEUE_MAX];
	unsigned head, tail; /* frames put and taken */
};

/* ---- what slirp asks for ---- */

static s64 now_ms(void) { return (s64)(fd_monotonic_ns() / 1000000); }

/* Slirp's DHCP server gives the guest its address: a BOOTP reply (RFC 2131) from port 67 in an IPv4
 * header without options, whose first option, behind the cookie, is the message's type: 5. */
static bool is_lease(const u8 *frame, size_t len)
{
	static const u8 ack[] = { 99, 130, 83, 99, 53, 1, 5 };

	return len >= DHCP_AT + sizeof(ack) && frame[12] == 0x08 && frame[13] == 0x00 &&
	       frame[23] == IPPROTO_UDP && frame[34] == 0 && frame[35] == 67 &&
	       !memcmp(frame + DHCP_AT, ack, sizeof(ack));
}

static ssize_t send_packet(const void *buf, size_t len, void *ctx)
{
	struct net *n = ctx;
	struct user *u = n->back;

	if (!n->has_address)
		n->has_address = is_lease(buf, len);
	if (u->head == u->tail && net_deliver(n, buf, len))
		return (ssize_t)len;
	if (len > NET_FRAME_MAX || u->head - u->tail == QUEUE_MAX) {
		n->lost++;
		return (ssize_t)len;
	}
	struct frame *f = &u->queue[u->head++ % QUEUE_MAX];

	f->len = (u16)len;
	memcpy(f->data, buf, len);
	return (ssize_t)len;
}

static void guest_error(const char *text, void *ctx) { guest_err("net", "%s", text); }
static int64_t clock_ns(void *ctx) { return (int64_t)fd_monotonic_ns(); }

static void *timer_new(SlirpTimerCb fire, void *fire_ctx, void *ctx)
{
	struct user *u = ((struct net *)ctx)->back;

	for (unsigned i = 0; i < TIMERS_MAX; i++)
		if (!u->timers[i].used) {
			u->timers[i] = (struct timer){ fire, fire_ctx, -1, true };
			return &u->timers[i];
		}
	return NULL;
}

static void timer_free(void *timer, void *ctx)
{
	if (timer)
		*(struct timer *)timer = (struct timer){ 0 };
}

static void timer_mod(void *timer, int64_t at, void *ctx)
{
	if (timer)
		((struct timer *)timer)->at = at;
	net_wake(ctx);
}

/* Descriptors are asked for anew each turn. */
static void poll_fd_added(int fd, void *ctx) { net_wake(ctx); }
static void poll_fd_removed(int fd, void *ctx) {}
static void notify(void *ctx) { net_wake(ctx); }

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = poll_fd_added,
	.unregister_poll_fd = poll_fd_removed,
	.notify = notify,
};

/* ---- doors ---- */

/* "Who has the guest's address?" by ARP (RFC 826), from the host's, whose hardware address is
 * libslirp's for that. */
static void ask_for_guest(struct net *n)
{
	u32 on = n->config.number * NEXT;
	u8 f[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x55, [12] = 0x08, 0x06, 0, 1, 0x08,
		0, 6, 4, 0, 1, 0x52, 0x55 };

	const u32 host = htonl(HOST + on), guest = htonl(GUEST + on);

	memcpy(f + 8, &host, 4);
	memcpy(f + 24, &host, 4);
	memcpy(f + 28, &host, 4);
	memcpy(f + 38, &guest, 4);
	(void)!net_deliver(n, f, sizeof(f)); /* a guest that has no room is not there yet */
}

static bool listens(int fd)
{
	int yes = 0;
	socklen_t len = sizeof(yes);

	return !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) && yes;
}

/* Is the descriptor not for libslirp yet? */
static bool hold_door(struct net *n, int fd)
{
	struct user *u = n->back;

	if (n->has_spoken || !listens(fd))
		return false;
	if (now_ms() >= u->ask_at && u->door_count < NET_FORWARDS_MAX)
		u->doors[u->door_count++] = net_watch(n, fd, POLLIN);
	return true;
}

static void look_at_doors(struct net *n)
{
	struct user *u = n->back;
	bool knocks = false;

	for (unsigned i = 0; i < u->door_count; i++)
		knocks |= u->doors[i] >= 0 && n->fds[u->doors[i]].revents & POLLIN;
	if (!knocks || n->has_spoken)
		return;
	ask_for_guest(n);
	u->ask_at = now_ms() + ASK_MS;
}

/* ---- turns ---- */

static int add_poll(int fd, int events, void *ctx)
{
	if (hold_door(ctx, fd))
		return -1;
	return net_watch(ctx, fd,
		(short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
			(events & SLIRP_POLL_OUT ? POLLOUT : 0) |
			(events & SLIRP_POLL_PRI ? POLLPRI : 0)));
}

static int get_events(int i, void *ctx)
{
	struct net *n = ctx;
	short e = i >= 0 && (unsigned)i < n->fd_count ? n->fds[i].revents : 0;

	return (e & POLLIN ? SLIRP_POLL_IN : 0) | (e & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (e & POLLPRI ? SLIRP_POLL_PRI : 0) | (e & POLLERR ? SLIRP_POLL_ERR : 0) |
	       (e & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static u32 until_timers(const struct user *u, u32 timeout)
{
	s64 now = now_ms();

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		const struct timer *t = &u->timers[i];

		if (t->used && t->at >= 0)
			timeout = (u32)min_u64(timeout, t->at > now ? (u64)(t->at - now) : 0);
	}
	return timeout;
}

static void run_timers(struct user *u)
{
	s64 now = now_ms();

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		struct timer *t = &u->timers[i];

		if (t->used && t->at >= 0 && t->at <= now) {
			t->at = -1;
			t->fire(t->ctx);
		}
	}
}

static void user_watch(struct net *n, u32 *timeout)
{
	struct user *u = n->back;

	u->door_count = 0;
	slirp_pollfds_fill(u->slirp, timeout, add_poll, n);
	*timeout = until_timers(u, *timeout);
	if (!n->has_spoken && u->ask_at > now_ms())
		*timeout = (u32)min_u64(*timeout, ASK_MS);
	u->active = u->sent;
	u->sent = false;
	if (u->active)
		*timeout = (u32)min_u64(*timeout, ACTIVE_MS);
}

static void user_ready(struct net *n, bool failed)
{
	struct user *u = n->back;

	look_at_doors(n);
	slirp_pollfds_poll(u->slirp, failed, get_events, n);
	run_timers(u);
}

static void user_send(struct net *n, const u8 *frame, size_t len)
{
	struct user *u = n->back;

	slirp_input(u->slirp, frame, (int)len);
	u->sent = true;
	if (!u->active)
		net_wake(n);
}

static void user_room(struct net *n)
{
	struct user *u = n->back;

	while (u->head != u->tail) {
		const struct frame *f = &u->queue[u->tail % QUEUE_MAX];

		if (!net_deliver(n, f->data, f->len))
			return;
		u->tail++;
	}
}

/* ---- life ---- */

static struct in_addr address(u32 a) { return (struct in_addr){ htonl(a) }; }

static struct in6_addr address6(u8 number, u8 last)
{
	return (struct in6_addr){ .s6_addr = { PREFIX6 >> 8,
					  PREFIX6 & 0xff, [7] = number, [15] = last } };
}

static const char *what_to_do(int error)
{
	switch (error) {
	case EADDRINUSE: return ": another program or machine does; forward= can name another port";
	case EACCES: return ": ports below 1024 are root's; forward= can name another port";
	case EADDRNOTAVAIL: return ": this host has no such address";
	default: return "";
	}
}

static int add_forward(struct user *u, const struct net_forward *f, u32 guest, struct err *err)
{
	if (slirp_add_hostfwd(u->slirp, f->udp, address(f->host), f->host_port, address(guest),
		    f->guest_port) < 0)
		return err_set(err, -errno, "cannot listen at %s port %u: %s%s",
			f->udp ? "UDP" : "TCP", f->host_port, strerror(errno), what_to_do(errno));
	return 0;
}

static int user_open(struct net *n, struct err *err)
{
	struct user *u = n->back;
	u8 number = n->config.number;
	u32 on = number * NEXT, nameserver = resolv_find(HOST + on);
	const SlirpConfig c = {
		.version = 3, /* the first with disable_dns */
		.in_enabled = true,
		.vnetwork = address(NETWORK + on),
		.vnetmask = address(MASK),
		.vhost = address(HOST + on),
		.vdhcp_start = address(GUEST + on),
		.vnameserver = address(nameserver ? nameserver : NAMESERVER + on),
		.in6_enabled = true,
		.vprefix_addr6 = address6(number, 0),
		.vprefix_len = PREFIX6_LEN,
		.vhost6 = address6(number, HOST6),
		.vnameserver6 = address6(number, NAMESERVER6),
		.vhostname = "strata",
		/* What is sent to the name server goes there. Otherwise libslirp would look up who
		 * that is in a file, which the sandbox does not let it open. */
		.disable_dns = true,
	};

	u->slirp = slirp_new(&c, &callbacks, n);
	if (!u->slirp)
		return err_set(err, -ENOMEM, "libslirp cannot be set up");
	for (unsigned i = 0; i < n->config.forward_count; i++)
		if (add_forward(u, &n->config.forwards[i], GUEST + on, err))
			return err->code;
	return 0;
}

static void user_close(struct net *n)
{
	struct user *u = n->back;

	if (u->slirp)
		slirp_cleanup(u->slirp);
}

const struct net_back user_back = {
	.traits = { .large = true },
	.size = sizeof(struct user),
	.open = user_open,
	.close = user_close,
	.send = user_send,
	.room = user_room,
	.watch = user_watch,
	.ready = user_ready,
};
