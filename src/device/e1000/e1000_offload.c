/*
 * What is done to a frame on its way out (3.5, 3.6): a TCP or UDP message in segments, each with
 * headers of its own, checksums, a VLAN tag. A backend that takes large segments gets one.
 *
 * Offsets and lengths are the driver's: each is held against the frame before it is used.
 */
#include "base/log.h"
#include "device/e1000/e1000_priv.h"

/* POPTS, 3.3.7.2 */
#define INSERT_IP  BIT(0)
#define INSERT_TCP BIT(1)

#define TCP_SEQUENCE 4u
#define TCP_FLAGS    13u
#define TCP_LAST     (BIT(0) | BIT(3)) /* FIN and PSH are the last segment's */
#define UDP_LENGTH   4u
#define IP4_LENGTH   2u
#define IP4_ID	     4u
#define IP6_LENGTH   4u
#define IP6_HEAD     40u
#define TAG_LEN	     4u
#define MSS_MIN	     32u /* of a message, 2048 segments at most */

void e1000_offload_sum(u8 *frame, u64 len, u64 start, u64 at, u64 end)
{
	u64 stop = end && end < len ? end + 1 : len;

	if (start >= stop || !range_ok(at, 2, len))
		return;
	u16 sum = ethernet_sum(frame + start, stop - start);

	/* A sum of zero is written as its other form: zero means "none" to UDP. */
	put_le16(frame + at, sum == 0xffff ? 0xffff : (u16)~sum);
}

static void insert_sums(struct e1000 *e, u8 *frame, u64 len)
{
	const struct e1000_context *c = &e->context;

	if (e->options & INSERT_IP)
		e1000_offload_sum(frame, len, c->ip_start, c->ip_at, c->ip_end);
	if (e->options & INSERT_TCP)
		e1000_offload_sum(frame, len, c->tcp_start, c->tcp_at, c->tcp_end);
}

static void send(struct e1000 *e, u8 *frame, u64 len)
{
	const struct device_env *env = &e->dev.env;

	if (len < ETHERNET_HEAD) {
		guest_err(e->dev.name, "a frame of %llu bytes", (unsigned long long)len);
		return;
	}
	if (e->tag) {
		memmove(frame + 12 + TAG_LEN, frame + 12, len - 12);
		put_be16(frame + 12, (u16)e1000_stored(e, E1000_VET));
		put_be16(frame + 14, e->tag_value);
		len += TAG_LEN;
	}
	e1000_count_frame(e, true, frame, len);
	env->net->send(env->net_ctx, frame, len);
}

/* Lengths, numbers and flags of the segment that begins `offset` bytes into the message. */
static void write_heads(struct e1000 *e, u8 *s, u64 len, u32 offset, u16 number, bool last)
{
	const struct e1000_context *c = &e->context;
	u8 *ip = s + c->ip_start, *tcp = s + c->tcp_start;
	u32 sum;

	if (c->ip4) {
		put_be16(ip + IP4_LENGTH, (u16)(len - c->ip_start));
		put_be16(ip + IP4_ID, (u16)(get_be16(ip + IP4_ID) + number));
	} else {
		put_be16(ip + IP6_LENGTH, (u16)(len - c->ip_start - IP6_HEAD));
	}
	if (c->tcp) {
		put_be32(tcp + TCP_SEQUENCE, get_be32(tcp + TCP_SEQUENCE) + offset);
		if (!last)
			tcp[TCP_FLAGS] &= (u8)~TCP_LAST;
	} else {
		put_be16(tcp + UDP_LENGTH, (u16)(len - c->tcp_start));
	}
	/* What is there is the sum of the pseudo header without its length. */
	sum = get_be16(s + c->tcp_at) + (u32)(len - c->tcp_start);
	put_be16(s + c->tcp_at, (u16)(sum + (sum >> 16)));
}

/* All that write_heads() touches lies in the headers, and the headers in the frame. */
static bool heads_ok(const struct e1000 *e)
{
	const struct e1000_context *c = &e->context;

	return c->head <= e->collected && c->mss >= MSS_MIN &&
	       range_ok(c->ip_start, c->ip4 ? 20 : IP6_HEAD, c->head) &&
	       range_ok(c->tcp_start, c->tcp ? 20 : 8, c->head) && range_ok(c->tcp_at, 2, c->head);
}

static void segment(struct e1000 *e)
{
	const struct e1000_context *c = &e->context;
	u32 payload = e->collected - c->head, mss = c->mss;
	u16 number = 0;

	if (e->dev.env.net->large && e->collected <= ETHERNET_LARGE)
		mss = payload;
	for (u32 at = 0; at < payload || !at; at += mss) {
		u32 part = (u32)min_u64(payload - at, mss);

		memcpy(e->part, e->frame, c->head);
		memcpy(e->part + c->head, e->frame + c->head + at, part);
		write_heads(e, e->part, c->head + part, at, number++, at + part == payload);
		insert_sums(e, e->part, c->head + part);
		send(e, e->part, c->head + part);
		if (!payload)
			return;
	}
	e1000_count(e, STAT_TSCTC, 1);
}

void e1000_offload(struct e1000 *e)
{
	if (e->segment && heads_ok(e)) {
		segment(e);
		return;
	}
	if (e->segment) {
		guest_err(e->dev.name, "a message whose headers are not in it");
		return;
	}
	insert_sums(e, e->frame, e->collected);
	send(e, e->frame, e->collected);
}
