/*
 * Networks: what is at the other end of a machine's network device.
 *
 *   user     an Ethernet whose other end is libslirp, which turns what the guest sends into sockets
 *            of this process. It needs no privilege. The guest is given an address by DHCP
 *            (10.0.2.15) or makes one itself (fec0::/64), reaches the host's own services at
 *            10.0.2.2 and fec0::2, and is reached only through forwards (user.c)
 *   tap      an interface of the host, which somebody has made for this user (tap.c)
 *   segment  an Ethernet of machines of one user, and of nobody else (segment.c)
 *   vsock    no Ethernet: packets of a virtio socket device, and Unix sockets of the host (vsock.c)
 *
 * There may be a network before it is known what it leads to: NET_NOWHERE, whose thread waits until
 * net_plug() gives it a tap's or a segment's descriptors, which somebody else has opened
 * (net_files_open()).
 *
 * Life. net_open() before the sandbox is entered: it makes a thread, and opens what is to be
 * opened. The thread waits for sockets, with no lock held, and does everything else under the
 * owner's lock (a machine's, for devices), under which net_send() and the like are called, too.
 *
 * Frames for the guest that it does not take wait here, up to a limit; beyond it they are lost, as
 * on any Ethernet.
 *
 * A tap's frames have heads (device/device.h); net_traits() says so. Whether the guest's do is told
 * by net_offload().
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define NET_FORWARDS_MAX 16u
#define NET_FRAME_MAX	 1514u /* of a frame that nobody has left work on */

enum net_kind { NET_USER, NET_TAP, NET_SEGMENT, NET_VSOCK, NET_NOWHERE };

struct net;

struct net_forward {
	bool udp;
	u32 host; /* address to listen at, in host order; 0: any */
	u16 host_port, guest_port;
};

/* What a tap or a segment consists of; those that were taken are -1. */
#define NET_FILES_MAX 33u

struct net_files {
	int fd[NET_FILES_MAX];
	unsigned count;
};

/* When the frame that is under way came to where: nanoseconds of the host's monotonic clock, 0: it
 * did not. The owner's lock guards it. */
struct net_times {
	u64 arrived, asked; /* for the guest: the host said so, and was asked for it */
	u64 delivered;	    /* the same: it is here */
	u64 given;	    /* from the guest: to the kind of network */
};

struct net_config {
	void (*lock)(void *ctx);
	void (*unlock)(void *ctx);
	/* A frame for the guest, with the lock held: how much was taken, all or nothing. */
	size_t (*receive)(void *ctx, const u8 *frame, size_t len);
	void *ctx;
	const struct net_forward *forwards;
	unsigned forward_count;
	enum net_kind kind;
	const char *name;	 /* of the interface or the segment; a socket's path */
	u32 cid;		 /* of a vsock's guest */
	u8 number;		 /* NET_USER: the guest's networks are 10.0.(2 + number).0/24 and
				    fec0:0:0:number::/64 */
	const char *capture;	 /* a file that all frames are written to; NULL: none */
	struct net_times *times; /* NULL: nobody asks */
};

struct net_traits {
	bool large; /* takes TCP segments that are larger than a frame */
	bool heads; /* net_send_head() and net_offload() */
};

NODISCARD int net_open(struct net **n, const struct net_config *config, struct err *err);
void net_close(struct net *n); /* without the lock */
struct net_traits net_traits(enum net_kind kind);

/* NET_TAP or NET_SEGMENT: what net_plug() wants of it. */
NODISCARD int net_files_open(
	struct net_files *f, enum net_kind kind, const char *name, struct err *err);
void net_files_close(struct net_files *f);
/* A network that leads nowhere leads there from now on; `name` is borrowed until net_unplug().
 * The lock held. */
NODISCARD int net_plug(
	struct net *n, enum net_kind kind, const char *name, struct net_files *f, struct err *err);
void net_unplug(struct net *n); /* and nowhere again; the lock held */
/* The lock held. */
void net_send(struct net *n, const u8 *frame, size_t len);
void net_send_head(struct net *n, const u8 *head, size_t len);
void net_offload(struct net *n, bool heads, unsigned offloads);
void net_room(struct net *n);
void net_reset(struct net *n); /* the guest's driver begins anew */
/* Whether the guest has been given an IPv4 address, or has spoken by one: who knocks before is not
 * heard, or late. */
bool net_has_address(const struct net *n);
