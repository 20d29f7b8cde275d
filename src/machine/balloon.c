/* The machine's memory balloon: what others ask of it, under the machine's lock. */
#include "device/virtio/balloon.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

_Static_assert(BALLOON_STATS == VIRTIO_BALLOON_STATS, "statistics");

int machine_balloon_configure(struct machine *m, struct device *d, struct err *err)
{
	char target[24];

	snprintf(target, sizeof(target), "%llu", (unsigned long long)m->config.balloon->target);
	if (device_set(d, "target", target, err))
		return err->code;
	m->balloon = d;
	return 0;
}

int machine_balloon_set(struct machine *m, u64 target)
{
	if (!m->balloon)
		return -ENODEV;
	if (target >= m->config.memory)
		return -EINVAL;
	pthread_mutex_lock(&m->lock);
	virtio_balloon_set(m->balloon, target);
	pthread_mutex_unlock(&m->lock);
	return 0;
}

int machine_balloon_report(struct machine *m, struct machine_balloon_report *report)
{
	if (!m->balloon)
		return -ENODEV;
	pthread_mutex_lock(&m->lock);
	struct virtio_balloon_report r = virtio_balloon_report(m->balloon);
	pthread_mutex_unlock(&m->lock);

	*report = (struct machine_balloon_report){
		.target = r.target, .actual = r.actual, .given = r.given, .known = r.known
	};
	memcpy(report->stats, r.stats, sizeof(report->stats));
	return 0;
}
