/*
 * See net.h. The thread's turn: ask the kind of network what it waits for, and until when; wait for
 * that and for whoever wakes it; let the kind look at it. Only the waiting is done without the
 * lock.
 *
 * A frame that the guest sends is worked on by the vcpu that sent it.
 */
#include "net/net.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "net/net_priv.h"
#include "os/fd.h"
#include "os/thread.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- nowhere ---- */

static int nowhere_open(struct net *n, struct err *err) { return 0; }
static void nowhere_close(struct net *n) {}
static void nowhere_send(struct net *n, const u8 *frame, size_t len) {}
static void nowhere_room(struct net *n) {}
static void nowhere_watch(struct net *n, u32 *timeout) {}
static void nowhere_ready(struct net *n, bool failed) {}

static const struct net_back nowhere_back = {
	.size = 1,
	.open = nowhere_open,
	.close = nowhere_close,
	.send = nowhere_send,
	.room = nowhere_room,
	.watch = nowhere_watch,
	.ready = nowhere_ready,
};

static const struct net_back *const backs[] = {
	[NET_USER] = &user_back,
	[NET_TAP] = &tap_back,
	[NET_SEGMENT] = &segment_back,
	[NET_VSOCK] = &vsock_back,
	[NET_NOWHERE] = &nowhere_back,
};

/* ---- what kinds of networks call ---- */

void net_wake(struct net *n)
{
	if (n->waiting && !n->woken) {
		n->woken = true;
		fd_event_set(n->wake);
	}
}

int net_watch(struct net *n, int fd, short events)
{
	if (n->fd_count == NET_FDS_MAX)
		return -1;
	n->fds[n->fd_count] = (struct pollfd){ .fd = fd, .events = events };
	return (int)n->fd_count++;
}

bool net_deliver(struct net *n, const u8 *frame, size_t len)
{
	size_t head = n->ops->traits.heads ? NET_HEAD_LEN : 0;
	size_t skip = n->heads ? 0 : head;

	if (unlikely(n->config.times))
		n->config.times->delivered = fd_monotonic_ns();
	if (n->config.receive(n->config.ctx, frame + skip, len - skip) != len - skip)
		return false;
	capture_frame(&n->capture, CAPTURE_TO_GUEST, frame + head, len - head);
	return true;
}

/* ---- the thread ---- */

/* With the lock, but for the wait. */
static void turn(struct net *n)
{
	const struct net_back *ops = n->ops;
	u32 timeout = UINT32_MAX;

	n->fd_count = 0;
	net_watch(n, n->wake, POLLIN);
	n->ops->watch(n, &timeout);
	n->waiting = true;
	n->config.unlock(n->config.ctx);
	int rc = poll(n->fds, n->fd_count, timeout > INT32_MAX ? -1 : (int)timeout);
	u64 arrived = unlikely(n->config.times) ? fd_monotonic_ns() : 0;

	n->config.lock(n->config.ctx);
	n->waiting = n->woken = false;
	if (n->fds[0].revents)
		fd_event_clear(n->wake);
	if (arrived)
		*n->config.times =
			(struct net_times){ .arrived = arrived, .asked = fd_monotonic_ns() };
	if (ops == n->ops) /* else it leads somewhere else by now */
		n->ops->ready(n, rc < 0);
	if (arrived)
		*n->config.times = (struct net_times){ 0 };
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

#define TYPE_AT	     12u /* of an Ethernet frame */
#define IPV4	     0x0800u
#define IPV4_FROM_AT 26u
#define ARP	     0x0806u
#define ARP_FROM_AT  28u
#define ADDRESS_END  32u

/* The guest's own address, in what it sends by IPv4 (RFC 791) or asks and answers by ARP (RFC
 * 826); none has 0.0.0.0. */
static bool has_source(const u8 *frame, size_t len)
{
	static const u8 none[4] = { 0 };

	if (len < ADDRESS_END)
		return false;
	unsigned type = (unsigned)frame[TYPE_AT] << 8 | frame[TYPE_AT + 1];

	return (type == IPV4 && memcmp(frame + IPV4_FROM_AT, none, sizeof(none)) != 0) ||
	       (type == ARP && memcmp(frame + ARP_FROM_AT, none, sizeof(none)) != 0);
}

static void look_at(struct net *n, const u8 *frame, size_t len)
{
	if (!n->has_spoken)
		n->has_spoken = has_source(frame, len);
	n->has_address |= n->has_spoken;
}

bool net_has_address(const struct net *n) { return n->has_address; }

struct net_traits net_traits(enum net_kind kind) { return backs[kind]->traits; }

static void give(struct net *n, const u8 *frame, size_t len)
{
	if (unlikely(n->config.times))
		n->config.times->given = fd_monotonic_ns();
	n->ops->send(n, frame, len);
}

void net_send(struct net *n, const u8 *frame, size_t len)
{
	size_t head = n->ops->traits.heads ? NET_HEAD_LEN : 0;

	look_at(n, frame, len);
	capture_frame(&n->capture, CAPTURE_FROM_GUEST, frame, len);
	if (!head) {
		give(n, frame, len);
	} else if (len <= NET_PACKET_MAX - head) {
		memset(n->with_head, 0, head);
		memcpy(n->with_head + head, frame, len);
		give(n, n->with_head, head + len);
	}
}

void net_send_head(struct net *n, const u8 *head, size_t len)
{
	if (len < NET_HEAD_LEN)
		return;
	look_at(n, head + NET_HEAD_LEN, len - NET_HEAD_LEN);
	capture_frame(&n->capture, CAPTURE_FROM_GUEST, head + NET_HEAD_LEN, len - NET_HEAD_LEN);
	give(n, head, len);
}

void net_offload(struct net *n, bool heads, unsigned offloads)
{
	n->heads = heads && n->ops->traits.heads;
	if (n->ops->offload)
		n->ops->offload(n, n->heads ? offloads : 0);
}

void net_room(struct net *n) { n->ops->room(n); }

void net_reset(struct net *n)
{
	n->has_address = n->has_spoken = false;
	if (n->ops->reset)
		n->ops->reset(n);
}

static int open_back(struct net *n, struct err *err)
{
	struct net_files f = { .count = 0 };

	n->back = calloc(1, n->ops->size);
	if (!n->back)
		return err_set(err, -ENOMEM, "no memory for a network");
	if (n->ops->open)
		return n->ops->open(n, err);
	int rc = n->ops->gather(n->config.name, &f, err);

	if (!rc)
		rc = n->ops->adopt(n, &f, err);
	net_files_close(&f);
	return rc;
}

int net_files_open(struct net_files *f, enum net_kind kind, const char *name, struct err *err)
{
	*f = (struct net_files){ .count = 0 };
	int rc = backs[kind]->gather ? backs[kind]->gather(name, f, err) : 0;

	if (rc)
		net_files_close(f);
	return rc;
}

static void lead_nowhere(struct net *n)
{
	free(n->back);
	n->back = NULL;
	n->ops = &nowhere_back;
	n->heads = false;
	n->has_address = n->has_spoken = false;
	net_wake(n);
}

int net_plug(
	struct net *n, enum net_kind kind, const char *name, struct net_files *f, struct err *err)
{
	const struct net_back *ops = backs[kind];

	must(n->ops == &nowhere_back && ops->adopt, "network of kind %d", (int)kind);
	void *back = calloc(1, ops->size);

	if (!back)
		return err_set(err, -ENOMEM, "no memory for a network");
	free(n->back);
	n->back = back;
	n->ops = ops;
	n->config.kind = kind;
	n->config.name = name;
	if (ops->adopt(n, f, err)) {
		lead_nowhere(n);
		return err->code;
	}
	net_wake(n);
	return 0;
}

void net_unplug(struct net *n)
{
	n->ops->close(n);
	lead_nowhere(n);
}

int net_open(struct net **out, const struct net_config *config, struct err *err)
{
	struct net *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "no memory for a network");
	n->config = *config;
	n->ops = backs[config->kind];
	n->capture.fd = -1;
	n->wake = fd_event(err);
	if (n->wake < 0 || open_back(n, err))
		goto fail;
	if (config->capture && capture_open(&n->capture, config->capture, err))
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
	if (n->back)
		n->ops->close(n);
	capture_close(&n->capture);
	if (n->wake >= 0)
		close(n->wake);
	free(n->back);
	free(n);
}
