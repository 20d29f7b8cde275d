/*
 * What kinds of networks are to net.c, and what it does for them. Adding a kind adds a
 * struct net_back, its row in net.c, and a word in cli/net_option.c.
 */
#pragma once
#include "net/capture.h"
#include "net/net.h"
#include <poll.h>
#include <pthread.h>

#define NET_FDS_MAX	1024u /* descriptors beyond these are not looked at */
#define NET_HEAD_LEN	12u
#define NET_PACKET_MAX	(NET_HEAD_LEN + 18u + 40u + 65535u)
#define NET_TURN_FRAMES 64u /* taken from a descriptor in one turn */

/*
 * All but open, gather and close with the lock held. A kind either opens what it needs, or consists
 * of descriptors: gather() gets them, which may be in another process, and adopt() takes them.
 */
struct net_back {
	struct net_traits traits;
	size_t size; /* of what n->back points at */
	int (*open)(struct net *n, struct err *err);
	int (*gather)(const char *name, struct net_files *f, struct err *err);
	int (*adopt)(struct net *n, struct net_files *f, struct err *err);
	void (*close)(struct net *n); /* of what was opened, also when open() has failed */
	/* With a head in front if the traits say so. */
	void (*send)(struct net *n, const u8 *frame, size_t len);
	/* The guest takes frames again. */
	void (*room)(struct net *n);
	/* Before each wait: what to wait for, by net_watch(), and for how long at most (ms). */
	void (*watch)(struct net *n, u32 *timeout);
	void (*ready)(struct net *n, bool failed);	   /* and after it */
	void (*offload)(struct net *n, unsigned offloads); /* may be NULL */
	void (*reset)(struct net *n);			   /* the same */
};

struct net {
	struct net_config config;
	const struct net_back *ops;
	void *back;
	struct capture capture;
	pthread_t thread;
	bool started;
	int wake;
	/* The owner's lock guards the rest */
	bool waiting, woken, closing;
	bool heads;	  /* the guest's frames have heads */
	bool has_address; /* net_has_address() */
	bool has_spoken;  /* by an address of its own, which it answers at from then on */
	struct pollfd fds[NET_FDS_MAX];
	unsigned fd_count;
	u64 lost;
	u8 with_head[NET_PACKET_MAX];
};

extern const struct net_back user_back, tap_back, segment_back, vsock_back;

/* For gather(): one more; false, and closed, when there are too many. For adopt(): the next; -1. */
bool net_files_put(struct net_files *f, int take_fd);
int net_files_take(struct net_files *f);

/* Returns the index of its events in n->fds; -1: there are too many. */
int net_watch(struct net *n, int fd, short events);
/* The thread looks again at what it waits for. */
void net_wake(struct net *n);
/* A frame, with a head in front if the kind's have them: taken by the guest, or it wants it later.
 */
NODISCARD bool net_deliver(struct net *n, const u8 *frame, size_t len);
