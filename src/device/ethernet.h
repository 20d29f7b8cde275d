/* What network devices share: addresses, and the Internet checksum. */
#pragma once
#include "base/bits.h"
#include <stdio.h>

#define ETHERNET_HEAD  14u
#define ETHERNET_MIN   60u /* a frame without its check sequence */
#define ETHERNET_MTU   1500u
#define ETHERNET_LARGE (65535u + ETHERNET_HEAD) /* the longest that offloading makes */
#define ETHERNET_IPV4  0x0800u
#define ETHERNET_USUAL_MAC                         \
	{                                          \
		0x52, 0x54, 0x00, 0x12, 0x34, 0x56 \
	}

static inline u16 get_be16(const u8 *p) { return (u16)(p[0] << 8 | p[1]); }
static inline u32 get_be32(const u8 *p) { return (u32)get_be16(p) << 16 | get_be16(p + 2); }
static inline void put_be16(u8 *p, u16 v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}
static inline void put_be32(u8 *p, u32 v)
{
	put_be16(p, (u16)(v >> 16));
	put_be16(p + 2, (u16)v);
}

/* 52:54:00:12:34:56 */
static inline bool ethernet_parse_mac(const char *text, u8 mac[6])
{
	char end;

	return strlen(text) == 17 &&
	       sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
		       &mac[3], &mac[4], &mac[5], &end) == 6;
}

/* RFC 1071: the one's complement sum of words as they lie in memory, not yet complemented. */
static inline u16 ethernet_sum(const u8 *data, u64 len)
{
	u64 sum = 0, at = 0;

	for (; at + 4 <= len; at += 4)
		sum += get_le32(data + at);
	if (at + 2 <= len) {
		sum += get_le16(data + at);
		at += 2;
	}
	if (at < len)
		sum += data[at];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u16)sum;
}
