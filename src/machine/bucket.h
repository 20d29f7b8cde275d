/*
 * A token bucket: so much in a second, and after a pause a little more at once. Kept as the virtual
 * scheduling algorithm (ITU-T I.371, annex A): only the time is known at which the bucket will be
 * full again. What has been saved up is at most BUCKET_BURST_NS's worth, or one piece, however
 * large.
 */
#pragma once
#include "base/bits.h"

#define BUCKET_BURST_NS 100000000u

struct bucket {
	u64 limit; /* a second; 0: as much as there is */
	u64 full;  /* when it will be full again */
};

/* When there is enough for whoever comes next: it is then at most a burst from full. */
static inline u64 bucket_ready(const struct bucket *b)
{
	return b->full > BUCKET_BURST_NS ? b->full - BUCKET_BURST_NS : 0;
}

static inline void bucket_take(struct bucket *b, u64 now, u64 amount)
{
	u64 from = max_u64(b->full, now), ns = 0;

	if (b->limit)
		ns = (u64)min_u64(
			(u64)(((u128)amount * 1000000000u + b->limit - 1) / b->limit), BIT64(62));
	b->full = from + min_u64(ns, ~0ull - from);
}
