/*
 * Frames as network devices see them: the head in which virtio (1.2 5.1.6) says what is left to do
 * of a frame's checksum and segments, checksums, and which flow a frame belongs to. Heads and
 * frames are untrusted.
 */
#pragma once
#include "device/device.h"

#define VIRTIO_NET_HEAD	   12u
#define NET_FRAME_ETHERNET 14u
/* Ethernet with a tag, IPv6 and its longest payload */
#define VIRTIO_NET_FRAME_MAX (18u + 40u + 65535u)

#define NET_FRAME_NEEDS_CSUM   BIT(0)
#define NET_FRAME_DATA_VALID   BIT(1)
#define NET_FRAME_HEAD_BUFFERS 10

/* Of a frame of len bytes nothing is left to do but what `may` (enum net_offload) names, and that
 * lies inside of it. */
bool net_frame_head_ok(const u8 head[VIRTIO_NET_HEAD], u64 len, unsigned may);
/* Computes the checksum that such a head leaves to do. */
void net_frame_complete(const u8 head[VIRTIO_NET_HEAD], u8 *frame, u64 len);
/* The same for both directions of a flow. */
u32 net_frame_flow(const u8 *frame, u64 len);
