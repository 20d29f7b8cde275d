/*
 * An event loop on epoll: descriptors with a callback each. One thread runs it; sources are added
 * and removed on that thread, also from within callbacks. A removed source is never called again,
 * even when its event was already fetched, and may be freed.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

struct loop_source {
	int fd;
	void (*ready)(void *ctx);
	void *ctx;
	bool hung_up;		  /* in ready(): the other end is gone, or broken */
	struct loop_source *next; /* the loop's */
};

struct loop {
	int epoll;
	bool stopping;
	struct loop_source *sources;
};

NODISCARD int loop_open(struct loop *l, struct err *err);
void loop_close(struct loop *l); /* closes no source's descriptor */

/* Calls ready(ctx) while fd is readable (or broken). The source stays the caller's and must outlive
 * its stay. */
NODISCARD int loop_add(struct loop *l, struct loop_source *s, struct err *err);
void loop_remove(struct loop *l, struct loop_source *s);
/* What ready() is called for from now on, instead of readable; for a hang-up it always is. */
void loop_want(struct loop *l, struct loop_source *s, bool readable, bool writable);

/* Runs callbacks until one of them calls loop_stop(). */
void loop_run(struct loop *l);
/* One turn: waits that long, -1 without end, and calls what is ready. */
void loop_turn(struct loop *l, int ms);
void loop_stop(struct loop *l);
