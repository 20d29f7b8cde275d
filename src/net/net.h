/*
 * User-mode networking: an Ethernet whose other end is libslirp, which turns what the guest sends
 * into sockets of this process. It needs no privilege. The guest is given an address by DHCP
 * (10.0.2.15), reaches the host's own services at 10.0.2.2, and is reached only through forwards.
 *
 * Life. net_open() before the sandbox is entered: it makes a thread, and the sockets that listen
 * for forwards. The thread waits for sockets, with no lock held, and does everything else under the
 * owner's lock (a machine's, for devices), under which net_send() and net_room() are called, too.
 *
 * Frames for the guest that it does not take wait here, up to a limit; beyond it they are lost, as
 * on any Ethernet.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define NET_FORWARDS_MAX 16u
#define NET_FRAME_MAX	 1514u

struct net;

struct net_forward {
	bool udp;
	u32 host; /* address to listen at, in host order; 0: any */
	u16 host_port, guest_port;
};

struct net_config {
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	/* A frame for the guest, with the lock held: how much was taken, all or nothing. */
	size_t (*receive)(void *ctx, const u8 *frame, size_t len);
	void *ctx;
	const struct net_forward *forwards;
	unsigned forward_count;
};

NODISCARD int net_open(struct net **n, const struct net_config *config, struct err *err);
void net_close(struct net *n); /* without the lock */
/* The lock held. */
void net_send(struct net *n, const u8 *frame, size_t len);
void net_room(struct net *n);
