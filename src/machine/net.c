/* The machine's network: the backend of its network device, and the lock that both work under. */
#include "net/net.h"
#include "base/scope.h"
#include "device/e1000/e1000.h"
#include "device/virtio/net.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>

static void lock(void *ctx) { pthread_mutex_lock(&((struct machine *)ctx)->lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&((struct machine *)ctx)->lock); }

static size_t receive(void *ctx, const u8 *frame, size_t len)
{
	struct machine *m = ctx;

	return m->nic ? m->nic->class->input(m->nic, frame, len) : 0;
}

static void send(void *ctx, const u8 *frame, size_t len)
{
	net_send(((struct machine *)ctx)->net, frame, len);
}

static void room(void *ctx) { net_room(((struct machine *)ctx)->net); }

static void send_head(void *ctx, const u8 *head, size_t len)
{
	net_send_head(((struct machine *)ctx)->net, head, len);
}

static void offload(void *ctx, bool heads, unsigned offloads)
{
	net_offload(((struct machine *)ctx)->net, heads, offloads);
}

_Static_assert(MACHINE_NET_QUEUES_MAX == VIRTIO_NET_PAIRS_MAX, "queues");

const struct net_ops *machine_net_backend(const struct machine *m)
{
	static const struct net_ops plain = { .send = send, .room = room };
	static const struct net_ops large = { .large = true, .send = send, .room = room };
	static const struct net_ops heads = {
		.send = send, .room = room, .send_head = send_head, .offload = offload
	};
	struct net_traits traits = net_traits(m->config.net->kind);

	return traits.heads ? &heads : traits.large ? &large : &plain;
}

int machine_net_open(struct machine *m, struct err *err)
{
	const struct machine_net_config *c = m->config.net;
	const struct net_config config = {
		.lock = lock,
		.unlock = unlock,
		.receive = receive,
		.ctx = m,
		.forwards = c ? c->forwards : NULL,
		.forward_count = c ? c->forward_count : 0,
		.kind = c ? c->kind : NET_USER,
		.name = c ? c->name : NULL,
		.capture = c ? c->capture : NULL,
	};

	if (c && net_open(&m->net, &config, err))
		return err_wrap(err, "network");
	return 0;
}

void machine_net_close(struct machine *m)
{
	net_close(m->net);
	m->net = NULL;
}

bool machine_has_address(struct machine *m)
{
	AUTO_LOCK(&m->lock);

	return m->net && net_has_address(m->net);
}

const struct device_class *machine_net_class(const struct machine *m)
{
	switch (m->config.net->model) {
	case MACHINE_NIC_VIRTIO: return &virtio_net_class;
	case MACHINE_NIC_E1000: return &e1000_class;
	}
	return NULL;
}

int machine_net_configure(struct machine *m, struct device *d, struct err *err)
{
	const struct machine_net_config *c = m->config.net;
	char queues[16];

	m->nic = d;
	snprintf(queues, sizeof(queues), "%u", c->queues ? c->queues : 1);
	if (c->model == MACHINE_NIC_VIRTIO &&
		(device_set(d, "packed", c->packed ? "on" : "off", err) ||
			device_set(d, "queues", queues, err)))
		return err->code;
	return c->mac ? device_set(d, "mac", c->mac, err) : 0;
}
