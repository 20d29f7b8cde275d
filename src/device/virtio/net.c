/*
 * Network device (virtio 1.2 5.1) with one queue in each direction: a chain a frame.
 *
 * From the driver: the frame is copied once, so that what is looked at is what is sent. A checksum
 * that the driver has left to us is completed here, at the host's speed, and a backend that takes
 * segments larger than a frame gets them whole.
 *
 * To the driver: a frame goes into one chain. With mergeable buffers it might be spread over
 * several (5.1.6.4), but a driver that knows the MTU posts none that are too small for a frame. A
 * frame for which there is no chain waits in the backend, which is told when one comes.
 */
#include "device/virtio/net.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio.h"
#include <errno.h>
#include <stdio.h>

enum { QUEUE_RX, QUEUE_TX, QUEUES };

/* 5.1.3 */
#define F_CSUM	     BIT64(0)
#define F_GUEST_CSUM BIT64(1)
#define F_MTU	     BIT64(3)
#define F_MAC	     BIT64(5)
#define F_HOST_TSO4  BIT64(11)
#define F_MRG_RXBUF  BIT64(15)
#define F_STATUS     BIT64(16)

/* 5.1.4 */
enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_MTU = 10, CONFIG_LEN = 12 };
#define LINK_UP 1u
#define MTU	1500u

/* 5.1.6 */
enum {
	HEAD_FLAGS = 0,
	HEAD_GSO = 1,
	HEAD_START = 6,
	HEAD_OFFSET = 8,
	HEAD_BUFFERS = 10,
	HEAD_LEN = 12
};
#define NEEDS_CSUM BIT(0)
#define DATA_VALID BIT(1)
#define GSO_NONE   0u
#define GSO_TCPV4  1u

#define ETHERNET  14u
#define FRAME_MAX (65535u + ETHERNET)

struct net {
	struct virtio v;
	char *mac;   /* property */
	bool hungry; /* a frame was refused for want of a chain */
	u8 frame[FRAME_MAX];
};

static struct net *net_of(struct virtio *v) { return container_of(v, struct net, v); }

/* ---- from the driver ---- */

/* RFC 1071, from `start` to the end, into the two bytes at start + offset. */
static bool complete_checksum(u8 *frame, u64 len, u64 start, u64 offset)
{
	u64 sum = 0, at = start;

	if (!range_ok(start, offset + 2, len))
		return false;
	for (; at + 4 <= len; at += 4)
		sum += get_le32(frame + at);
	if (at + 2 <= len) {
		sum += get_le16(frame + at);
		at += 2;
	}
	if (at < len)
		sum += frame[at];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	/* A sum of zero is written as its other form: zero means "none" to UDP. */
	put_le16(frame + start + offset, sum == 0xffff ? 0xffff : (u16)~sum);
	return true;
}

/* What the head says of the frame is done, or it is nonsense: false. */
static bool prepare(struct net *n, const u8 head[HEAD_LEN], u64 len)
{
	u8 gso = head[HEAD_GSO];

	if (gso != GSO_NONE && !(gso == GSO_TCPV4 && virtio_has(&n->v, F_HOST_TSO4)))
		return false;
	if (!(head[HEAD_FLAGS] & NEEDS_CSUM))
		return gso == GSO_NONE;
	return virtio_has(&n->v, F_CSUM) &&
	       complete_checksum(
		       n->frame, len, get_le16(head + HEAD_START), get_le16(head + HEAD_OFFSET));
}

static void transmit(struct net *n, const struct virtq_chain *c)
{
	const struct device_env *env = &n->v.dev.env;
	u64 len = c->out_len - min_u64(c->out_len, HEAD_LEN);
	u8 head[HEAD_LEN];

	if (len < ETHERNET || len > FRAME_MAX) {
		guest_err(n->v.dev.name, "a frame of %llu bytes", (unsigned long long)len);
		return;
	}
	virtq_read(c, 0, head, sizeof(head));
	virtq_read(c, HEAD_LEN, n->frame, len);
	if (prepare(n, head, len))
		env->net->send(env->net_ctx, n->frame, len);
	else
		guest_err(n->v.dev.name, "a frame with an impossible head");
}

static void net_notify(struct virtio *v, unsigned queue)
{
	const struct device_env *env = &v->dev.env;
	struct net *n = net_of(v);
	struct virtq_chain c;

	if (queue == QUEUE_RX) {
		if (n->hungry) {
			n->hungry = false;
			env->net->room(env->net_ctx);
		}
		return;
	}
	while (virtio_pop(v, queue, &c)) {
		transmit(n, &c);
		virtio_push(v, queue, c.id, c.slots, 0);
	}
	virtio_interrupt(v, queue);
}

/* ---- to the driver ---- */

static size_t net_input(struct device *d, const u8 *data, size_t len)
{
	struct virtio *v = virtio_of(d);
	struct net *n = net_of(v);
	u8 head[HEAD_LEN] = { 0 };
	struct virtq_chain c;

	if (len > FRAME_MAX)
		return len;
	if (!virtio_pop(v, QUEUE_RX, &c)) {
		n->hungry = true;
		return 0;
	}
	/* The backend has made the frame, or checked it. */
	head[HEAD_FLAGS] = virtio_has(v, F_GUEST_CSUM) ? DATA_VALID : 0;
	put_le16(head + HEAD_BUFFERS, 1);
	u64 written = 0;

	if (c.in_len >= HEAD_LEN + len) {
		virtq_write(&c, d->env.memory, 0, head, HEAD_LEN);
		written = HEAD_LEN + virtq_write(&c, d->env.memory, HEAD_LEN, data, len);
	} else {
		guest_err(d->name, "a buffer of %llu bytes is too small for a frame",
			(unsigned long long)c.in_len);
	}
	virtio_push(v, QUEUE_RX, c.id, c.slots, (u32)written);
	virtio_interrupt(v, QUEUE_RX);
	return len;
}

/* ---- reset, init, tables ---- */

static bool parse_mac(const char *text, u8 mac[6])
{
	char end;

	return strlen(text) == VIRTIO_NET_MAC_LEN &&
	       sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		       &mac[3], &mac[4], &mac[5], &end) == 6;
}

static void net_reset(struct device *d)
{
	static const u8 usual[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
	struct virtio *v = virtio_of(d);
	struct net *n = net_of(v);

	n->hungry = false;
	v->features = v->type->features | (d->env.net->large ? F_HOST_TSO4 : 0);
	memset(v->config, 0, CONFIG_LEN);
	if (!n->mac || !parse_mac(n->mac, v->config + CONFIG_MAC))
		memcpy(v->config + CONFIG_MAC, usual, sizeof(usual));
	put_le16(v->config + CONFIG_STATUS, LINK_UP);
	put_le16(v->config + CONFIG_MTU, MTU);
	virtio_power_on(d);
}

static int net_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 1,
		.class = 0x020000,
		.features = F_CSUM | F_GUEST_CSUM | F_MTU | F_MAC | F_MRG_RXBUF | F_STATUS,
		.queues = QUEUES,
		.config_len = CONFIG_LEN,
		.waiting = BIT(QUEUE_RX),
		.notify = net_notify,
	};

	if (!d->env.net)
		return err_set(err, -EINVAL, "no network");
	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop net_props[] = {
	VIRTIO_PROPS(struct net),
	{ "mac", "hardware address: 52:54:00:12:34:56", PROP_STRING, offsetof(struct net, mac), 0,
		0, 0 },
	PROP_END,
};

static const struct field net_state[] = {
	FIELD_SUB(struct net, v, struct virtio, virtio_fields),
	FIELD(struct net, hungry),
	FIELD_END,
};

const struct device_class virtio_net_class = {
	.name = "virtio-net",
	.doc = "virtio network device",
	.size = sizeof(struct net),
	.init = net_init,
	.reset = net_reset,
	.fini = virtio_fini,
	.input = net_input,
	.loaded = virtio_loaded,
	.props = net_props,
	.state = net_state,
};
