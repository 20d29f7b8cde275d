/*
 * Socket device (virtio 1.2 5.10): streams between guest and host. The device passes packets, a
 * chain each; what they mean, connections and their credit, is the backend's business.
 *
 * From the driver: a packet is copied once, and is as long as its head says. To the driver: it goes
 * into one chain, or is made several where chains are smaller than its data, or waits in the
 * backend, which is told when more come.
 *
 * Connections are no part of a saved machine: a driver that was loaded is told so (5.10.6.7).
 */
#include "device/virtio/vsock.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio.h"
#include <errno.h>

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };

/* 5.10.6 and 5.10.4 */
#define HEAD_LEN    44u
#define HEAD_SIZE   24u /* where the data's length is */
#define DATA_MAX    (64u * KiB)
#define CONFIG_LEN  8u
#define EVENT_LEN   4u
#define EVENT_RESET 0u

struct vsock {
	struct virtio v;
	u64 cid;     /* property */
	bool hungry; /* a packet was refused for want of a chain */
	bool lost;   /* the driver has yet to hear that connections are gone */
	u8 packet[HEAD_LEN + DATA_MAX];
};

static struct vsock *vsock_of(struct virtio *v) { return container_of(v, struct vsock, v); }

/* ---- from the driver ---- */

static void transmit(struct vsock *s, const struct virtq_chain *c)
{
	const struct device_env *env = &s->v.dev.env;
	size_t len = virtq_read(c, 0, s->packet, sizeof(s->packet));

	/* Room behind the data is allowed; data that is not there is not. */
	if (len < HEAD_LEN || get_le32(s->packet + HEAD_SIZE) > len - HEAD_LEN) {
		guest_err(s->v.dev.name, "a packet of %zu bytes is not what its head says", len);
		return;
	}
	env->net->send(env->net_ctx, s->packet, HEAD_LEN + get_le32(s->packet + HEAD_SIZE));
}

static void tell_lost(struct vsock *s)
{
	struct virtq_chain c;
	u8 event[EVENT_LEN];

	if (!s->lost || !virtio_pop(&s->v, QUEUE_EVENT, &c))
		return;
	s->lost = false;
	put_le32(event, EVENT_RESET);
	virtio_push(&s->v, QUEUE_EVENT, c.id, c.slots,
		(u32)virtq_write(&c, s->v.dev.env.memory, 0, event, sizeof(event)));
	virtio_interrupt(&s->v, QUEUE_EVENT);
}

static void vsock_notify(struct virtio *v, unsigned queue)
{
	const struct device_env *env = &v->dev.env;
	struct vsock *s = vsock_of(v);
	struct virtq_chain c;

	if (queue == QUEUE_EVENT)
		tell_lost(s);
	if (queue == QUEUE_RX && s->hungry) {
		s->hungry = false;
		env->net->room(env->net_ctx);
	}
	if (queue != QUEUE_TX)
		return;
	while (virtio_pop(v, queue, &c)) {
		transmit(s, &c);
		virtio_push(v, queue, c.id, c.slots, 0);
	}
	virtio_interrupt(v, queue);
}

/* ---- to the driver ---- */

/* A packet into as many chains as its data needs, each with a head of its own: how many; 0: there
 * are too few now; negative: they are too small for anything. */
static int fill(
	struct vsock *s, const u8 *packet, size_t len, struct virtq_used used[VIRTQ_SIZE_MAX])
{
	struct memory *m = s->v.dev.env.memory;
	size_t done = HEAD_LEN;
	struct virtq_chain c;
	u8 head[HEAD_LEN];
	unsigned count = 0;

	memcpy(head, packet, HEAD_LEN);
	do {
		if (!virtio_pop(&s->v, QUEUE_RX, &c))
			return 0;
		size_t part = min_u64(len - done, c.in_len - min_u64(c.in_len, HEAD_LEN));

		if (c.in_len < HEAD_LEN || (!part && done < len) || count == VIRTQ_SIZE_MAX)
			return -1;
		put_le32(head + HEAD_SIZE, (u32)part);
		virtq_write(&c, m, 0, head, HEAD_LEN);
		virtq_write(&c, m, HEAD_LEN, packet + done, part);
		done += part;
		used[count++] = (struct virtq_used){ c.id, c.slots, HEAD_LEN + (u32)part };
	} while (done < len);
	return (int)count;
}

static size_t vsock_input(struct device *d, const u8 *data, size_t len)
{
	struct virtio *v = virtio_of(d);
	struct virtq *q = &v->queues[QUEUE_RX];
	struct virtq_mark mark = virtq_mark(q);
	struct virtq_used used[VIRTQ_SIZE_MAX];
	if (len < HEAD_LEN)
		return len;
	int count = fill(vsock_of(v), data, len, used);

	/* The driver says when it has put more there than was looked at. */
	while (!count && virtio_await(v, QUEUE_RX)) {
		u16 seen = q->next_avail;

		virtq_rewind(q, mark);
		count = fill(vsock_of(v), data, len, used);
		if (!count && q->next_avail == seen)
			break;
	}
	if (!count) {
		virtq_rewind(q, mark);
		vsock_of(v)->hungry = true;
		return 0;
	}
	if (count < 0) {
		/* Nothing can be left out of a stream. */
		virtio_broken(v, "a buffer that is too small for a packet");
		return 0;
	}
	virtq_push_all(q, d->env.memory, used, (unsigned)count);
	virtio_interrupt(v, QUEUE_RX);
	return len;
}

/* ---- reset, init, tables ---- */

/* By the driver, too. The backend may have a packet that nobody took. */
static void forget(struct virtio *v)
{
	const struct device_env *env = &v->dev.env;
	struct vsock *s = vsock_of(v);

	s->hungry = true;
	s->lost = false;
	if (env->net->reset)
		env->net->reset(env->net_ctx);
}

static void vsock_reset(struct device *d)
{
	struct virtio *v = virtio_of(d);

	put_le64(v->config, vsock_of(v)->cid);
	virtio_power_on(d);
}

static void vsock_loaded(struct device *d)
{
	struct virtio *v = virtio_of(d);

	vsock_of(v)->lost = true;
	v->later |= BIT(QUEUE_EVENT);
	virtio_loaded(d);
}

static int vsock_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 19,
		.class = 0x078000,
		.queues = QUEUES,
		.config_len = CONFIG_LEN,
		.waiting = BIT(QUEUE_RX) | BIT(QUEUE_EVENT),
		.notify = vsock_notify,
		.reset = forget,
	};

	if (!d->env.net)
		return err_set(err, -EINVAL, "no host side");
	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop vsock_props[] = {
	VIRTIO_PROPS(struct vsock),
	{ "cid", "the guest's address", PROP_U64, offsetof(struct vsock, cid), VIRTIO_VSOCK_CID_MIN,
		VIRTIO_VSOCK_CID_MIN, VIRTIO_VSOCK_CID_MAX },
	PROP_END,
};

static const struct field vsock_state[] = {
	FIELD_SUB(struct vsock, v, struct virtio, virtio_fields),
	FIELD(struct vsock, hungry),
	FIELD_END,
};

const struct device_class virtio_vsock_class = {
	.name = "virtio-vsock",
	.doc = "virtio socket device",
	.size = sizeof(struct vsock),
	.init = vsock_init,
	.reset = vsock_reset,
	.fini = virtio_fini,
	.input = vsock_input,
	.loaded = vsock_loaded,
	.props = vsock_props,
	.state = vsock_state,
};
