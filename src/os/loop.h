/*
 * An event loop on epoll: descriptors with a callback each. One thread runs it; sources are added
 * and removed on that thread, also from within callbacks. A removed source is never called again,
 * even when its event was already fetched.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

struct loop_source {
	int fd;
	void (*ready)(void *ctx);
	void *ctx;
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

/* Runs callbacks until one of them calls loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
