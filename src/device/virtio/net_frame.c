/* See net_frame.h. */
#include "device/virtio/net_frame.h"
#include "base/bits.h"

/* virtio 1.2 5.1.6 */
enum { HEAD_FLAGS = 0, HEAD_GSO = 1, HEAD_SEGMENT = 4, HEAD_START = 6, HEAD_OFFSET = 8 };
#define GSO_NONE  0u
#define GSO_TCPV4 1u
#define GSO_TCPV6 4u
#define GSO_ECN	  0x80u

static bool segments_ok(const u8 *head, unsigned may)
{
	u8 gso = head[HEAD_GSO], kind = gso & (u8)~GSO_ECN;

	if (gso == GSO_NONE)
		return true;
	if (gso & GSO_ECN && !(may & NET_ECN))
		return false;
	/* Each segment needs a checksum of its own, which is left to do with the rest. */
	return get_le16(head + HEAD_SEGMENT) && head[HEAD_FLAGS] & NET_FRAME_NEEDS_CSUM &&
	       ((kind == GSO_TCPV4 && may & NET_TSO4) || (kind == GSO_TCPV6 && may & NET_TSO6));
}

bool net_frame_head_ok(const u8 head[VIRTIO_NET_HEAD], u64 len, unsigned may)
{
	u64 start = get_le16(head + HEAD_START), offset = get_le16(head + HEAD_OFFSET);

	if (!segments_ok(head, may))
		return false;
	return !(head[HEAD_FLAGS] & NET_FRAME_NEEDS_CSUM) ||
	       (may & NET_CSUM && range_ok(start, offset + 2, len));
}

/* RFC 1071, from `start` to the end, into the two bytes at start + offset. */
void net_frame_complete(const u8 head[VIRTIO_NET_HEAD], u8 *frame, u64 len)
{
	u64 sum = 0, at = get_le16(head + HEAD_START), field = at + get_le16(head + HEAD_OFFSET);

	if (!(head[HEAD_FLAGS] & NET_FRAME_NEEDS_CSUM))
		return;
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
	put_le16(frame + field, sum == 0xffff ? 0xffff : (u16)~sum);
}

/* Exclusive or does not mind which side is which. Ports count where they are at their usual place;
 * fragments after the first, and options, make other flows, which costs speed only. */
u32 net_frame_flow(const u8 *frame, u64 len)
{
	enum { TYPE = 12, V4 = 14, V4_PROTOCOL = 23, V4_SOURCE = 26, V4_END = 38 };
	enum { V6_NEXT = 20, V6_SOURCE = 22, V6_END = 58 };
	u32 hash = 0, step = 0;

	if (len >= V4_END && frame[TYPE] == 8 && frame[TYPE + 1] == 0 && frame[V4] == 0x45) {
		hash = get_le32(frame + V4_SOURCE) ^ get_le32(frame + V4_SOURCE + 4);
		hash ^= frame[V4_PROTOCOL];
		step = get_le16(frame + 34) ^ get_le16(frame + 36);
	} else if (len >= V6_END && frame[TYPE] == 0x86 && frame[TYPE + 1] == 0xdd) {
		for (unsigned i = 0; i < 32; i += 4)
			hash ^= get_le32(frame + V6_SOURCE + i);
		hash ^= frame[V6_NEXT];
		step = get_le16(frame + 54) ^ get_le16(frame + 56);
	}
	return ((hash ^ step * 0x9e3779b1u) * 0x85ebca6bu) >> 16;
}
