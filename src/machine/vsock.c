/* The machine's socket device: between it and the host's side, and the lock both work under. */
#include "device/virtio/vsock.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>

_Static_assert(
	MACHINE_CID_MIN == VIRTIO_VSOCK_CID_MIN && MACHINE_CID_MAX == VIRTIO_VSOCK_CID_MAX, "cids");

static void lock(void *ctx) { pthread_mutex_lock(&((struct machine *)ctx)->lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&((struct machine *)ctx)->lock); }

static size_t receive(void *ctx, const u8 *packet, size_t len)
{
	struct machine *m = ctx;

	return m->vsock && !m->frozen ? m->vsock->class->input(m->vsock, packet, len) : 0;
}

static void send(void *ctx, const u8 *packet, size_t len)
{
	net_send(((struct machine *)ctx)->vsock_net, packet, len);
}

static void room(void *ctx) { net_room(((struct machine *)ctx)->vsock_net); }
/* Also when the machine is taken apart, and the host's side has gone. */
static void reset(void *ctx)
{
	struct machine *m = ctx;

	if (m->vsock_net)
		net_reset(m->vsock_net);
}

const struct net_ops machine_vsock_backend = { .send = send, .room = room, .reset = reset };

int machine_vsock_open(struct machine *m, struct err *err)
{
	const struct machine_vsock_config *c = m->config.vsock;

	if (!c)
		return 0;
	const struct net_config config = {
		.lock = lock,
		.unlock = unlock,
		.receive = receive,
		.ctx = m,
		.kind = NET_VSOCK,
		.name = c->path,
		.cid = c->cid,
	};

	return net_open(&m->vsock_net, &config, err) ? err_wrap(err, "vsock") : 0;
}

void machine_vsock_close(struct machine *m)
{
	net_close(m->vsock_net);
	m->vsock_net = NULL;
}

int machine_vsock_configure(struct machine *m, struct device *d, struct err *err)
{
	char cid[16];

	snprintf(cid, sizeof(cid), "%u", m->config.vsock->cid);
	if (device_set(d, "cid", cid, err))
		return err->code;
	m->vsock = d;
	return 0;
}
