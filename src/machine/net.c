/* The machine's network: the backend of its network device, and the lock that both work under. */
#include "net/net.h"
#include "device/virtio/net.h"
#include "machine/machine_priv.h"
#include <errno.h>

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

/* libslirp takes a TCP segment of any size that fits into IP. */
const struct net_ops machine_net_backend = { true, send, room };

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

int machine_net_configure(struct machine *m, struct device *d, struct err *err)
{
	const struct machine_net_config *c = m->config.net;

	m->nic = d;
	if (device_set(d, "packed", c->packed ? "on" : "off", err))
		return err->code;
	return c->mac ? device_set(d, "mac", c->mac, err) : 0;
}
