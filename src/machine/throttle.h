/*
 * How much of a disk a guest gets. Without limits requests go on as they come. With them each disk
 * has a token bucket for operations and one for bytes: a request waits until both have what it
 * costs, and those behind it wait with it, so that the order stays that in which they came. Several
 * machines that share a host's disk are kept from each other by their limits.
 *
 * The clock is the guest's: nothing passes while it stands. The machine's lock held throughout.
 */
#pragma once
#include "block/block.h"
#include "bus/clock.h"
#include "machine/bucket.h"

struct throttle_limits {
	u64 ops, bytes; /* a second; 0: as many as there are */
};

struct throttle {
	struct bucket ops, bytes;
	struct block *block;
	struct guest_clock *clock;
	struct clock_timer timer;
	struct block_request *first, **last;
	u64 requests, waited; /* ever, and those of them that had to wait */
};

/* In place, and not to be moved; clock NULL: without limits only. */
void throttle_init(struct throttle *t, struct block *block, struct guest_clock *clock,
	const struct throttle_limits *limits);
void throttle_submit(struct throttle *t, struct block_request *r);
/* All that wait go on at once: somebody needs the disk to be quiet. */
void throttle_release(struct throttle *t);
