/*
 * `count`: the guest's instructions are counted until the last one who has asked for it is served.
 * Whoever asks says for how long, so one that was killed leaves nothing behind.
 */
#include "control/control_priv.h"
#include "os/fd.h"
#include <unistd.h>

#define SECOND 1000000000ull

static void on_end(void *ctx)
{
	struct control *c = ctx;
	struct err ignored = { 0 };

	fd_timer_clear(c->counting.timer.fd);
	c->counting.until = 0;
	(void)!c->config.ops->count(c->config.ctx, false, &ignored);
}

int control_counting_open(struct control *c, struct err *err)
{
	c->counting.timer = (struct loop_source){ .fd = fd_timer(err), .ready = on_end, .ctx = c };
	if (c->counting.timer.fd < 0)
		return err->code;
	return loop_add(c->loop, &c->counting.timer, err);
}

void control_counting_close(struct control *c)
{
	if (c->counting.timer.fd < 0)
		return;
	loop_remove(c->loop, &c->counting.timer);
	close(c->counting.timer.fd);
}

int control_count(struct control *c, unsigned seconds, struct err *err)
{
	u64 until = fd_monotonic_ns() + seconds * SECOND;

	if (until <= c->counting.until)
		return 0;
	if (!c->counting.until && c->config.ops->count(c->config.ctx, true, err))
		return err->code;
	c->counting.until = until;
	fd_timer_set(c->counting.timer.fd, seconds * SECOND);
	return 0;
}
