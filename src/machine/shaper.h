/*
 * How much of its network a guest gets: a token bucket each way, so that machines on one uplink are
 * kept from each other. Frames keep their order.
 *
 * What the guest sends too fast waits in a queue of SHAPER_QUEUE bytes; what that has no room for
 * is lost, as in any router, and TCP slows down. What is for the guest waits in the network
 * (net/net.h), whose frames are refused until their time has come.
 *
 * The clock is the guest's: nothing passes while it stands. The machine's lock held throughout.
 */
#pragma once
#include "base/err.h"
#include "bus/clock.h"
#include "machine/bucket.h"

#define SHAPER_QUEUE (256 * KiB)

struct shaper {
	struct bucket out, in;
	struct guest_clock *clock;
	struct clock_timer timer;
	void (*send)(
		void *ctx, const u8 *frame, size_t len, bool head); /* device.h: a head first */
	void (*room)(void *ctx); /* frames that were refused may come again */
	void *ctx;
	u8 *queue; /* a ring of frames, a record before each, and room for one; NULL: no limits */
	size_t first, used;
	bool refused;
	u64 lost;
};

/* No limits yet. In place, and not to be moved. */
void shaper_init(struct shaper *s, struct guest_clock *clock, void *ctx);
/* Bytes a second, each way; 0: none. */
NODISCARD int shaper_limit(struct shaper *s, u64 limit, struct err *err);
void shaper_forget(struct shaper *s); /* what waits is lost, and limits are gone */

void shaper_send(struct shaper *s, const u8 *frame, size_t len, bool head);
/* May a frame come now? False: it is to wait for room(). */
NODISCARD bool shaper_may_receive(struct shaper *s);
void shaper_received(struct shaper *s, size_t len);
