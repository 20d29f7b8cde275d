/*
 * See net.h. The thread's turn: ask slirp which sockets it waits for, and until when; wait for them
 * and for whoever wakes it; let slirp look at them. Only the waiting is done without the lock.
 *
 * A frame that the guest sends is worked on by the vcpu that sent it. What slirp then waits for may
 * have changed. Of new sockets, and of room for what has come, it tells, and the thread is woken;
 * of data that a socket did not take at once it does not. So the thread looks every few
 * milliseconds as long as the guest sends, and only the first frame after a silence wakes it.
 */
#include "net/net.h"
#include "base/bits.h"
#include "base/log.h"
#include "net/resolv.h"
#include "os/fd.h"
#include "os/thread.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDS_MAX	   1024u /* sockets beyond these are not looked at */
#define QUEUE_MAX  1024u /* frames */
#define TIMERS_MAX 4u
#define ACTIVE_MS  2u /* between two turns while the guest sends: how long slirp delays an ACK */

/* The guest's network: 10.0.2.0/24 */
#define NETWORK	   0x0a000200u
#define MASK	   0xffffff00u
#define HOST	   0x0a000202u
#define NAMESERVER 0x0a000203u
#define GUEST	   0x0a00020fu

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

struct net {
	struct net_config config;
	Slirp *slirp;
	pthread_t thread;
	bool started;
	int wake;
	/* The owner's lock guards the rest */
	bool waiting, woken, closing;
	bool sent, active; /* the guest has sent since the last turn; between the last two */
	struct pollfd fds[FDS_MAX];
	unsigned fd_count;
	struct timer timers[TIMERS_MAX];
	struct frame queue[QUEUE_MAX];
	unsigned head, tail; /* frames put and taken */
	u64 lost;
};

/* ---- what slirp asks for ---- */

static s64 now_ms(void) { return (s64)(fd_monotonic_ns() / 1000000); }

static void wake(struct net *n)
{
	if (n->waiting && !n->woken) {
		n->woken = true;
		fd_event_set(n->wake);
	}
}

static ssize_t send_packet(const void *buf, size_t len, void *ctx)
{
	struct net *n = ctx;

	if (n->head == n->tail && n->config.receive(n->config.ctx, buf, len) == len)
		return (ssize_t)len;
	if (len > NET_FRAME_MAX || n->head - n->tail == QUEUE_MAX) {
		n->lost++;
		return (ssize_t)len;
	}
	struct frame *f = &n->queue[n->head++ % QUEUE_MAX];

	f->len = (u16)len;
	memcpy(f->data, buf, len);
	return (ssize_t)len;
}

static void guest_error(const char *text, void *ctx) { guest_err("net", "%s", text); }
static int64_t clock_ns(void *ctx) { return (int64_t)fd_monotonic_ns(); }

static void *timer_new(SlirpTimerCb fire, void *fire_ctx, void *ctx)
{
	struct net *n = ctx;

	for (unsigned i = 0; i < TIMERS_MAX; i++)
		if (!n->timers[i].used) {
			n->timers[i] = (struct timer){ fire, fire_ctx, -1, true };
			return &n->timers[i];
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
	wake(ctx);
}

/* Descriptors are asked for anew each turn. */
static void poll_fd_added(int fd, void *ctx) { wake(ctx); }
static void poll_fd_removed(int fd, void *ctx) {}
static void notify(void *ctx) { wake(ctx); }

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

/* ---- the thread ---- */

static int add_poll(int fd, int events, void *ctx)
{
	struct net *n = ctx;
	short e = 0;

	if (n->fd_count == FDS_MAX)
		return -1;
	e |= events & SLIRP_POLL_IN ? POLLIN : 0;
	e |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	e |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	n->fds[n->fd_count] = (struct pollfd){ .fd = fd, .events = e };
	return (int)n->fd_count++;
}

static int get_events(int i, void *ctx)
{
	struct net *n = ctx;
	short e = i >= 0 && (unsigned)i < n->fd_count ? n->fds[i].revents : 0;

	return (e & POLLIN ? SLIRP_POLL_IN : 0) | (e & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (e & POLLPRI ? SLIRP_POLL_PRI : 0) | (e & POLLERR ? SLIRP_POLL_ERR : 0) |
	       (e & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static u32 until_timers(const struct net *n, u32 timeout)
{
	s64 now = now_ms();

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		const struct timer *t = &n->timers[i];

		if (t->used && t->at >= 0)
			timeout = (u32)min_u64(timeout, t->at > now ? (u64)(t->at - now) : 0);
	}
	return timeout;
}

static void run_timers(struct net *n)
{
	s64 now = now_ms();

	for (unsigned i = 0; i < TIMERS_MAX; i++) {
		struct timer *t = &n->timers[i];

		if (t->used && t->at >= 0 && t->at <= now) {
			t->at = -1;
			t->fire(t->ctx);
		}
	}
}

/* With the lock, but for the wait. */
static void turn(struct net *n)
{
	u32 timeout = UINT32_MAX;

	n->fds[0] = (struct pollfd){ .fd = n->wake, .events = POLLIN };
	n->fd_count = 1;
	slirp_pollfds_fill(n->slirp, &timeout, add_poll, n);
	timeout = until_timers(n, timeout);
	n->active = n->sent;
	n->sent = false;
	if (n->active)
		timeout = (u32)min_u64(timeout, ACTIVE_MS);
	n->waiting = true;
	n->config.unlock(n->config.ctx);
	int rc = poll(n->fds, n->fd_count, timeout > INT32_MAX ? -1 : (int)timeout);
	n->config.lock(n->config.ctx);
	n->waiting = n->woken = false;
	if (n->fds[0].revents)
		fd_event_clear(n->wake);
	slirp_pollfds_poll(n->slirp, rc < 0, get_events, n);
	run_timers(n);
}

static void *net_thread(void *ctx)
{
	struct net *n = ctx;

	n->config.lock(n->config.ctx);
	while (!n->closing)
		turn(n);
	n->config.unlock(n->config.ctx);
	return NULL;
}

/* ---- what the owner calls ---- */

void net_send(struct net *n, const u8 *frame, size_t len)
{
	slirp_input(n->slirp, frame, (int)len);
	n->sent = true;
	if (!n->active)
		wake(n);
}

void net_room(struct net *n)
{
	while (n->head != n->tail) {
		const struct frame *f = &n->queue[n->tail % QUEUE_MAX];

		if (n->config.receive(n->config.ctx, f->data, f->len) != f->len)
			return;
		n->tail++;
	}
}

static struct in_addr address(u32 a) { return (struct in_addr){ htonl(a) }; }

static int add_forward(struct net *n, const struct net_forward *f, struct err *err)
{
	if (slirp_add_hostfwd(n->slirp, f->udp, address(f->host), f->host_port, address(GUEST),
		    f->guest_port) < 0)
		return err_set(err, -errno, "cannot listen at %s port %u: %s",
			f->udp ? "UDP" : "TCP", f->host_port, strerror(errno));
	return 0;
}

static int open_slirp(struct net *n, struct err *err)
{
	u32 nameserver = resolv_find(HOST);
	const SlirpConfig c = {
		.version = 1,
		.in_enabled = true,
		.vnetwork = address(NETWORK),
		.vnetmask = address(MASK),
		.vhost = address(HOST),
		.vdhcp_start = address(GUEST),
		.vnameserver = address(nameserver ? nameserver : NAMESERVER),
		.vhostname = "strata",
	};

	n->slirp = slirp_new(&c, &callbacks, n);
	return n->slirp ? 0 : err_set(err, -ENOMEM, "libslirp cannot be set up");
}

int net_open(struct net **out, const struct net_config *config, struct err *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "no memory for a network");
	n->config = *config;
	n->wake = fd_event(err);
	if (n->wake < 0 || open_slirp(n, err))
		goto fail;
	for (unsigned i = 0; i < config->forward_count; i++)
		if (add_forward(n, &config->forwards[i], err))
			goto fail;
	if (thread_start(&n->thread, "net", net_thread, n, err))
		goto fail;
	n->started = true;
	*out = n;
	return 0;
fail:
	net_close(n);
	return err->code;
}

void net_close(struct net *n)
{
	if (!n)
		return;
	if (n->started) {
		n->config.lock(n->config.ctx);
		n->closing = true;
		n->config.unlock(n->config.ctx);
		fd_event_set(n->wake);
		pthread_join(n->thread, NULL);
	}
	if (n->lost)
		log_info("net", "%llu frames were lost", (unsigned long long)n->lost);
	if (n->slirp)
		slirp_cleanup(n->slirp);
	if (n->wake >= 0)
		close(n->wake);
	free(n);
}
