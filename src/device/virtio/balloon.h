/*
 * What the machine does with its balloon: see balloon.c. With the machine's lock held.
 */
#pragma once
#include "device/device.h"

extern const struct device_class virtio_balloon_class;

/* Statistics by tag (virtio 1.2 5.5.6.3): bytes, or numbers of events. */
#define VIRTIO_BALLOON_STATS 10u

struct virtio_balloon_report {
	u64 target, actual; /* bytes asked for, and bytes that the driver says it has given */
	u64 given;	    /* bytes that went back to the host since power-on, by either way */
	u32 known;	    /* which statistics there are, a bit each */
	u64 stats[VIRTIO_BALLOON_STATS];
};

/* From now on the driver is asked for so much of its memory. */
void virtio_balloon_set(struct device *d, u64 bytes);
/* What is known, and a request for newer statistics, which come when the guest finds the time. */
struct virtio_balloon_report virtio_balloon_report(struct device *d);
