/*
 * The machine's networks: the backends of its network devices, and the lock that both work under.
 *
 * The first is the one that the machine is made with. The others are for devices that come later,
 * when no thread begins any more and nothing is opened: one of user mode, if this process may make
 * sockets at all, and some that lead nowhere until they are given a tap's or a segment's
 * descriptors.
 */
#include "net/net.h"
#include "base/log.h"
#include "base/scope.h"
#include "device/e1000/e1000.h"
#include "device/virtio/net.h"
#include "machine/machine_priv.h"
#include "machine/requests.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void lock(void *ctx) { pthread_mutex_lock(&((struct machine_nic *)ctx)->machine->lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&((struct machine_nic *)ctx)->machine->lock); }

static unsigned number_of(const struct machine_nic *nic)
{
	return (unsigned)(nic - nic->machine->nics);
}

static size_t receive(void *ctx, const u8 *frame, size_t len)
{
	struct machine_nic *nic = ctx;
	struct requests *q = nic->machine->requests;
	struct device *d = nic->device;

	if (!shaper_may_receive(&nic->shaper))
		return 0;
	if (unlikely(q))
		requests_receives(q, &nic->times);
	size_t taken = d && !nic->machine->frozen ? d->class->input(d, frame, len) : 0;

	if (unlikely(q))
		requests_received(q, number_of(nic), taken);
	shaper_received(&nic->shaper, taken);
	nic->machine->counts.net_received += taken;
	return taken;
}

static void about_to_send(struct machine_nic *nic)
{
	if (unlikely(nic->machine->requests))
		requests_sends(nic->machine->requests);
}

static void has_sent(struct machine_nic *nic, size_t len)
{
	nic->machine->counts.net_sent += len;
	if (unlikely(nic->machine->requests))
		requests_sent(nic->machine->requests, number_of(nic), len, &nic->times);
}

/* What the shaper lets pass. */
static void pass(void *ctx, const u8 *frame, size_t len, bool head)
{
	struct machine_nic *nic = ctx;

	about_to_send(nic);
	if (head)
		net_send_head(nic->net, frame, len);
	else
		net_send(nic->net, frame, len);
	has_sent(nic, len);
}

static void send(void *ctx, const u8 *frame, size_t len)
{
	shaper_send(&((struct machine_nic *)ctx)->shaper, frame, len, false);
}

static void room(void *ctx) { net_room(((struct machine_nic *)ctx)->net); }

static void send_head(void *ctx, const u8 *head, size_t len)
{
	shaper_send(&((struct machine_nic *)ctx)->shaper, head, len, true);
}

static void offload(void *ctx, bool heads, unsigned offloads)
{
	net_offload(((struct machine_nic *)ctx)->net, heads, offloads);
}

_Static_assert(MACHINE_NET_QUEUES_MAX == VIRTIO_NET_PAIRS_MAX, "queues");

const struct net_ops *machine_net_backend(enum net_kind kind)
{
	static const struct net_ops plain = { .send = send, .room = room };
	static const struct net_ops large = { .large = true, .send = send, .room = room };
	static const struct net_ops heads = {
		.send = send, .room = room, .send_head = send_head, .offload = offload
	};
	struct net_traits traits = net_traits(kind);

	return traits.heads ? &heads : traits.large ? &large : &plain;
}

static int open_net(struct machine *m, struct net_config config, struct err *err)
{
	struct machine_nic *nic = &m->nics[m->nic_count];

	*nic = (struct machine_nic){ .machine = m, .kind = config.kind };
	shaper_init(&nic->shaper, &m->clock, nic);
	nic->shaper.send = pass;
	nic->shaper.room = room;
	config.lock = lock;
	config.unlock = unlock;
	config.receive = receive;
	config.ctx = nic;
	config.times = m->requests ? &nic->times : NULL;
	if (net_open(&nic->net, &config, err))
		return err_wrap(err, "network");
	m->nic_count++;
	return 0;
}

/* Networks of user mode after the first are other ones: a guest may use all of them at once. */
static int open_spares(struct machine *m, struct err *err)
{
	const struct machine_net_config *c = m->config.net;

	if (c && c->kind == NET_USER &&
		open_net(m, (struct net_config){ .kind = NET_USER, .number = 1 }, err))
		return err->code;
	for (unsigned i = 0; i < MACHINE_HOT_PLACES; i++)
		if (open_net(m, (struct net_config){ .kind = NET_NOWHERE }, err))
			return err->code;
	return 0;
}

int machine_net_open(struct machine *m, struct err *err)
{
	const struct machine_net_config *c = m->config.net;

	if (c && open_net(m,
			 (struct net_config){
				 .forwards = c->forwards,
				 .forward_count = c->forward_count,
				 .kind = c->kind,
				 .name = c->name,
				 .capture = c->capture,
			 },
			 err))
		return err->code;
	return m->config.hotplug ? open_spares(m, err) : 0;
}

void machine_net_close(struct machine *m)
{
	while (m->nic_count) {
		struct machine_nic *nic = &m->nics[--m->nic_count];

		net_close(nic->net);
		shaper_forget(&nic->shaper);
		free(nic->name);
	}
}

bool machine_has_address(struct machine *m)
{
	AUTO_LOCK(&m->lock);

	return m->config.net && net_has_address(m->nics[0].net);
}

const struct device_class *machine_net_class(enum machine_nic_model model)
{
	switch (model) {
	case MACHINE_NIC_VIRTIO: return &virtio_net_class;
	case MACHINE_NIC_E1000: return &e1000_class;
	}
	return NULL;
}

int machine_net_configure(struct machine_nic *nic, const struct machine_net_config *c,
	struct device *d, struct err *err)
{
	unsigned number = (unsigned)(nic - nic->machine->nics);
	char text[32];

	nic->device = d;
	if (shaper_limit(&nic->shaper, c->bandwidth, err))
		return err->code;
	snprintf(text, sizeof(text), "%u", c->queues ? c->queues : 1);
	if (c->model == MACHINE_NIC_VIRTIO &&
		(device_set(d, "packed", c->packed ? "on" : "off", err) ||
			device_set(d, "queues", text, err)))
		return err->code;
	/* The class's usual address is the first one's. */
	snprintf(text, sizeof(text), "52:54:00:12:34:%02x", 0x56 + number);
	return c->mac || number ? device_set(d, "mac", c->mac ? c->mac : text, err) : 0;
}

/* ---- those that come later ---- */

static struct machine_nic *free_nic(struct machine *m, bool user, struct err *err)
{
	bool any = false;

	for (unsigned i = m->config.net != NULL; i < m->nic_count; i++) {
		struct machine_nic *nic = &m->nics[i];

		if (user != (nic->kind == NET_USER))
			continue;
		if (!nic->used)
			return nic;
		any = true;
	}
	if (any)
		err_set(err, -ENOSPC, "no more networks of that kind can be attached: detach one");
	else
		err_set(err, -EPERM,
			"this machine was started without --net user, and its sandbox makes no "
			"sockets for another; segment=NAME and tap=INTERFACE work");
	return NULL;
}

struct machine_nic *machine_net_plug(struct machine *m, const struct machine_net_config *c,
	struct net_files *files, struct err *err)
{
	AUTO_LOCK(&m->lock);
	struct machine_nic *nic = free_nic(m, c->kind == NET_USER, err);

	if (nic && c->kind != NET_USER) {
		nic->name = strdup(c->name);
		if (!nic->name || net_plug(nic->net, c->kind, nic->name, files, err)) {
			free(nic->name);
			nic->name = NULL;
			return NULL;
		}
	}
	if (nic)
		nic->used = true;
	return nic;
}

void machine_net_unplug(struct machine_nic *nic)
{
	nic->device = NULL;
	nic->used = false;
	shaper_forget(&nic->shaper);
	net_reset(nic->net);
	if (nic->kind != NET_USER)
		net_unplug(nic->net);
	free(nic->name);
	nic->name = NULL;
}
