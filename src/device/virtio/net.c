/*
 * Network device (virtio 1.2 5.1): up to four pairs of queues, and one for commands.
 *
 * From the driver: the frame is copied once, so that what is looked at is what is sent. To a
 * backend with heads it goes with the driver's head, once that has been checked. For others a
 * checksum that the driver has left to us is completed here, at the host's speed, and one that
 * takes segments larger than a frame gets them whole.
 *
 * To the driver: a frame goes into one chain, or with mergeable buffers (5.1.6.4) into as many as
 * it needs; if there are too few, they are put back, and the frame waits in the backend, which is
 * told when more come. Which pair a frame goes to is decided by the flow: where the driver sent
 * from last, it hears the answer (5.1.6.5.6.1).
 *
 * What the driver has agreed to take undone (5.1.3.1, 5.1.6.5.5) the backend is told, with or
 * without heads.
 */
#include "device/virtio/net.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/net_frame.h"
#include "device/virtio/virtio_priv.h"
#include <errno.h>
#include <stdio.h>

#define QUEUES_MAX   (2 * VIRTIO_NET_PAIRS_MAX + 1)
#define RX(pair)     (2 * (pair))
#define TX(pair)     (2 * (pair) + 1)
#define RX_QUEUES    0x55u
#define FLOWS	     256u
#define COMMAND_MAX  16u
#define OFFLOADS_BIT (F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN)

/* 5.1.3 */
#define F_CSUM		 BIT64(0)
#define F_GUEST_CSUM	 BIT64(1)
#define F_GUEST_OFFLOADS BIT64(2)
#define F_MTU		 BIT64(3)
#define F_MAC		 BIT64(5)
#define F_GUEST_TSO4	 BIT64(7)
#define F_GUEST_TSO6	 BIT64(8)
#define F_GUEST_ECN	 BIT64(9)
#define F_HOST_TSO4	 BIT64(11)
#define F_HOST_TSO6	 BIT64(12)
#define F_HOST_ECN	 BIT64(13)
#define F_MRG_RXBUF	 BIT64(15)
#define F_STATUS	 BIT64(16)
#define F_CTRL_VQ	 BIT64(17)
#define F_MQ		 BIT64(22)

/* 5.1.4 */
enum { CONFIG_MAC = 0, CONFIG_STATUS = 6, CONFIG_PAIRS = 8, CONFIG_MTU = 10, CONFIG_LEN = 12 };
#define LINK_UP 1u
#define MTU	1500u

/* 5.1.6.5: class and command, what belongs to it, and an answer of one byte */
enum { CLASS_MQ = 4, CLASS_OFFLOADS = 5 };
enum { ACK_OK = 0, ACK_ERR = 1 };

_Static_assert(VIRTIO_NET_HEAD == NET_HEAD, "heads");
_Static_assert(QUEUES_MAX <= VIRTIO_QUEUES_MAX, "queues");

struct net {
	struct virtio v;
	char *mac;	/* property */
	u64 max_pairs;	/* property */
	bool hungry;	/* a frame was refused for want of chains */
	bool heads;	/* frames come with heads, and may be sent with them */
	u16 pairs;	/* in use */
	u64 offloads;	/* features of the driver's that are switched on */
	u8 flow[FLOWS]; /* which pair the driver has sent from; a guess, so no state */
	u8 packet[VIRTIO_NET_HEAD + VIRTIO_NET_FRAME_MAX];
};

static struct net *net_of(struct virtio *v) { return container_of(v, struct net, v); }

/* 5.1.2: without F_MQ there is one pair, whatever the device could do. */
static unsigned command_queue(const struct net *n)
{
	return virtio_has(&n->v, F_MQ) ? 2 * (unsigned)n->max_pairs : 2;
}

static void tell_offloads(struct net *n)
{
	static const struct {
		u64 feature;
		unsigned offload;
	} table[] = { { F_GUEST_CSUM, NET_CSUM }, { F_GUEST_TSO4, NET_TSO4 },
		{ F_GUEST_TSO6, NET_TSO6 }, { F_GUEST_ECN, NET_ECN } };
	const struct device_env *env = &n->v.dev.env;
	unsigned offloads = 0;

	for (unsigned i = 0; i < ARRAY_LEN(table); i++)
		if (n->offloads & table[i].feature)
			offloads |= table[i].offload;
	n->heads = env->net->offload && n->v.status & STATUS_FEATURES_OK;
	if (env->net->offload)
		env->net->offload(env->net_ctx, n->heads, n->heads ? offloads : 0);
}

/* Called anew for what was loaded, too: then the switches are those of the state. */
static void net_agreed(struct virtio *v)
{
	struct net *n = net_of(v);

	v->waiting = RX_QUEUES & ~BIT(command_queue(n));
	if (v->status & STATUS_FEATURES_OK)
		n->offloads &= v->accepted;
	if (!n->pairs || n->pairs > n->max_pairs)
		n->pairs = 1;
	tell_offloads(n);
}

/* ---- commands ---- */

static bool set_pairs(struct net *n, const u8 *data, size_t len)
{
	u16 pairs = len == 2 ? get_le16(data) : 0;

	if (!virtio_has(&n->v, F_MQ) || !pairs || pairs > n->max_pairs)
		return false;
	n->pairs = pairs;
	return true;
}

static bool set_offloads(struct net *n, const u8 *data, size_t len)
{
	u64 offloads = len == 8 ? get_le64(data) : ~0ull;

	if (!virtio_has(&n->v, F_GUEST_OFFLOADS) || offloads & ~(n->v.accepted & OFFLOADS_BIT))
		return false;
	n->offloads = offloads;
	tell_offloads(n);
	return true;
}

static void obey(struct net *n, unsigned queue)
{
	struct memory *m = n->v.dev.env.memory;
	struct virtq_chain c;

	while (virtio_pop(&n->v, queue, &c)) {
		u8 command[COMMAND_MAX] = { 0 };
		size_t len = virtq_read(&c, 0, command, sizeof(command));
		size_t more = len - min_u64(len, 2);
		bool ok =
			len >= 2 && !command[1] &&
			(command[0] == CLASS_MQ		       ? set_pairs(n, command + 2, more)
				: command[0] == CLASS_OFFLOADS ? set_offloads(n, command + 2, more)
							       : false);
		u8 ack = ok ? ACK_OK : ACK_ERR;

		virtio_push(&n->v, queue, c.id, c.slots, (u32)virtq_write(&c, m, 0, &ack, 1));
	}
	virtio_interrupt(&n->v, queue);
}

/* ---- from the driver ---- */

/* Which work the driver may leave undone, as a head says it. */
static unsigned may_leave(const struct net *n)
{
	return (virtio_has(&n->v, F_CSUM) ? NET_CSUM : 0) |
	       (virtio_has(&n->v, F_HOST_TSO4) ? NET_TSO4 : 0) |
	       (virtio_has(&n->v, F_HOST_TSO6) ? NET_TSO6 : 0) |
	       (virtio_has(&n->v, F_HOST_ECN) ? NET_ECN : 0);
}

static bool send(struct net *n, u64 len)
{
	const struct device_env *env = &n->v.dev.env;
	u8 *head = n->packet, *frame = n->packet + VIRTIO_NET_HEAD;

	if (!net_frame_head_ok(head, len, may_leave(n)))
		return false;
	if (n->heads) {
		env->net->send_head(env->net_ctx, head, VIRTIO_NET_HEAD + len);
		return true;
	}
	net_frame_complete(head, frame, len);
	env->net->send(env->net_ctx, frame, len);
	return true;
}

static void transmit(struct net *n, unsigned pair, const struct virtq_chain *c)
{
	u64 len = c->out_len - min_u64(c->out_len, VIRTIO_NET_HEAD);

	if (len < NET_FRAME_ETHERNET || len > VIRTIO_NET_FRAME_MAX) {
		guest_err(n->v.dev.name, "a frame of %llu bytes", (unsigned long long)len);
		return;
	}
	virtq_read(c, 0, n->packet, VIRTIO_NET_HEAD + len);
	if (n->pairs > 1)
		n->flow[net_frame_flow(n->packet + VIRTIO_NET_HEAD, len) % FLOWS] = (u8)pair;
	if (!send(n, len))
		guest_err(n->v.dev.name, "a frame with an impossible head");
}

static void net_notify(struct virtio *v, unsigned queue)
{
	const struct device_env *env = &v->dev.env;
	struct net *n = net_of(v);
	struct virtq_chain c;

	if (queue == command_queue(n)) {
		obey(n, queue);
		return;
	}
	if (!(queue & 1)) {
		if (n->hungry) {
			n->hungry = false;
			env->net->room(env->net_ctx);
		}
		return;
	}
	while (virtio_pop(v, queue, &c)) {
		transmit(n, queue / 2, &c);
		virtio_push(v, queue, c.id, c.slots, 0);
	}
	virtio_interrupt(v, queue);
}

/* ---- to the driver ---- */

/* Head and frame into chains that are noted in `used`: how many there are. 0: too few chains;
 * negative: the frame will never fit. */
static int fill(struct net *n, unsigned queue, const u8 *head, const u8 *frame, size_t len,
	struct virtq_used used[VIRTQ_SIZE_MAX])
{
	struct memory *m = n->v.dev.env.memory;
	bool merge = virtio_has(&n->v, F_MRG_RXBUF);
	struct virtq_chain first, more;
	size_t done = 0;
	unsigned count;

	if (!virtio_pop(&n->v, queue, &first))
		return 0;
	used[0] = (struct virtq_used){ first.id, first.slots, 0 };
	if (first.in_len < VIRTIO_NET_HEAD + (merge ? 0 : len))
		return -1;
	done = virtq_write(&first, m, VIRTIO_NET_HEAD, frame, len);
	used[0].written = VIRTIO_NET_HEAD + (u32)done;
	for (count = 1; done < len; count++) {
		if (count == VIRTQ_SIZE_MAX)
			return -1;
		if (!virtio_pop(&n->v, queue, &more))
			return 0;
		size_t put = virtq_write(&more, m, 0, frame + done, len - done);

		used[count] = (struct virtq_used){ more.id, more.slots, (u32)put };
		done += put;
	}
	u8 final[VIRTIO_NET_HEAD];

	memcpy(final, head, sizeof(final));
	put_le16(final + NET_FRAME_HEAD_BUFFERS, (u16)count);
	virtq_write(&first, m, 0, final, sizeof(final));
	return (int)count;
}

static unsigned queue_for(const struct net *n, const u8 *frame, size_t len)
{
	unsigned pair = n->pairs > 1 ? n->flow[net_frame_flow(frame, len) % FLOWS] : 0;

	return RX(pair < n->pairs ? pair : 0);
}

static bool receive(struct net *n, const u8 *head, const u8 *frame, size_t len)
{
	unsigned queue = queue_for(n, frame, len);
	struct virtq *q = &n->v.queues[queue];
	struct virtq_mark mark = virtq_mark(q);
	struct virtq_used used[VIRTQ_SIZE_MAX];
	int count = fill(n, queue, head, frame, len, used);

	/* The driver says when it has put more there than was looked at. */
	while (!count && virtio_await(&n->v, queue)) {
		u16 seen = q->next_avail;

		virtq_rewind(q, mark);
		count = fill(n, queue, head, frame, len, used);
		if (!count && q->next_avail == seen)
			break;
	}
	if (!count) {
		virtq_rewind(q, mark);
		n->hungry = true;
		return false;
	}
	if (count < 0) {
		guest_err(n->v.dev.name, "buffers are too small for a frame of %zu bytes", len);
		virtq_rewind(q, mark);
		/* The first buffer goes back empty, so that the queue does not stand still. */
		struct virtq_chain c;

		if (virtio_pop(&n->v, queue, &c))
			virtio_push(&n->v, queue, c.id, c.slots, 0);
	} else {
		virtq_push_all(q, n->v.dev.env.memory, used, (unsigned)count);
	}
	virtio_interrupt(&n->v, queue);
	return true;
}

/* With a head in front once the backend was told so. */
static size_t net_input(struct device *d, const u8 *data, size_t len)
{
	struct virtio *v = virtio_of(d);
	struct net *n = net_of(v);
	u8 head[VIRTIO_NET_HEAD] = { 0 };
	const u8 *frame = data;
	size_t frame_len = len;

	if (n->heads) {
		if (len < VIRTIO_NET_HEAD)
			return len;
		memcpy(head, data, sizeof(head));
		frame += VIRTIO_NET_HEAD;
		frame_len -= VIRTIO_NET_HEAD;
	} else {
		/* The backend has made the frame, or checked it. */
		head[0] = n->offloads & v->accepted & F_GUEST_CSUM ? NET_FRAME_DATA_VALID : 0;
	}
	if (frame_len > VIRTIO_NET_FRAME_MAX)
		return len;
	return receive(n, head, frame, frame_len) ? len : 0;
}

/* ---- reset, init, tables ---- */

static bool parse_mac(const char *text, u8 mac[6])
{
	char end;

	return strlen(text) == VIRTIO_NET_MAC_LEN &&
	       sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		       &mac[3], &mac[4], &mac[5], &end) == 6;
}

static u64 features_for(const struct net *n)
{
	const struct net_ops *ops = n->v.dev.env.net;
	u64 features = n->v.type->features;

	if (ops->offload)
		features |= F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_HOST_TSO4 | F_HOST_TSO6 |
			    F_HOST_ECN;
	if (ops->large)
		features |= F_HOST_TSO4;
	return features | (n->max_pairs > 1 ? F_MQ : 0);
}

/* By the driver, too. The backend may have frames that nobody took. */
static void forget(struct virtio *v)
{
	struct net *n = net_of(v);

	n->hungry = true;
	n->pairs = 1;
	n->offloads = OFFLOADS_BIT;
	memset(n->flow, 0, sizeof(n->flow));
}

static void net_reset(struct device *d)
{
	static const u8 usual[6] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
	struct virtio *v = virtio_of(d);
	struct net *n = net_of(v);

	v->features = features_for(n);
	v->queue_count = 2 * (unsigned)n->max_pairs + 1;
	memset(v->config, 0, CONFIG_LEN);
	if (!n->mac || !parse_mac(n->mac, v->config + CONFIG_MAC))
		memcpy(v->config + CONFIG_MAC, usual, sizeof(usual));
	put_le16(v->config + CONFIG_STATUS, LINK_UP);
	put_le16(v->config + CONFIG_PAIRS, (u16)n->max_pairs);
	put_le16(v->config + CONFIG_MTU, MTU);
	virtio_power_on(d);
}

static int net_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 1,
		.class = 0x020000,
		.features = F_CSUM | F_GUEST_CSUM | F_GUEST_OFFLOADS | F_MTU | F_MAC | F_MRG_RXBUF |
			    F_STATUS | F_CTRL_VQ,
		.queues = QUEUES_MAX,
		.config_len = CONFIG_LEN,
		.waiting = RX_QUEUES,
		.agreed = net_agreed,
		.notify = net_notify,
		.reset = forget,
	};

	if (!d->env.net)
		return err_set(err, -EINVAL, "no network");
	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop net_props[] = {
	VIRTIO_PROPS(struct net),
	{ "mac", "hardware address: 52:54:00:12:34:56", PROP_STRING, offsetof(struct net, mac), 0,
		0, 0 },
	{ "queues", "pairs of queues", PROP_U64, offsetof(struct net, max_pairs), 1, 1,
		VIRTIO_NET_PAIRS_MAX },
	PROP_END,
};

static const struct field net_state[] = {
	FIELD_SUB(struct net, v, struct virtio, virtio_fields),
	FIELD(struct net, hungry),
	FIELD_MAX(struct net, pairs, VIRTIO_NET_PAIRS_MAX),
	FIELD(struct net, offloads),
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
