/*
 * A machine that waits for room on the host. When a disk's request finds none, guest code is held
 * and the guest's clocks stand; once a second what is stuck is tried again, and when all of it has
 * found room the machine goes on, as if no time had passed. So a guest sees no error, and none of
 * its own time-outs.
 *
 * The timer is the guest clock's, which does not need it meanwhile. Everything here is the main
 * thread's; an end that is asked for meanwhile ends the machine as ever, and what is stuck then
 * fails.
 */
#include "base/log.h"
#include "machine/machine_priv.h"
#include "os/fd.h"
#include "os/tsc.h"
#include <errno.h>

#define RETRY_NS 1000000000ull

static void begin(struct machine *m, const char *path)
{
	run_hold(m);
	if (run_wait_held(m)) {
		machine_end(m, MACHINE_ERROR, 0, "pause: a processor does not stop");
		return;
	}
	pthread_mutex_lock(&m->lock);
	clock_pause(&m->clock);
	pthread_mutex_unlock(&m->lock);
	m->paused_tsc = tsc_read();
	m->paused = true;
	fd_timer_set(m->timer_fd, RETRY_NS);
	log_warn("disk",
		"%s: no room on the host: the guest is paused, and goes on when there is room",
		path);
}

/* Time stamp counters count on where they were; the clock that guests derive from them, too. */
static void move_counters(struct machine *m)
{
	u64 away = tsc_read() - m->paused_tsc;

	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct machine_cpu *c = &m->cpus[i];

		if (c->v.engine->pull(&c->v))
			continue;
		c->v.x86.s.tsc_offset -= away;
		c->tsc_offset = c->v.x86.s.tsc_offset;
		if (c->v.engine->push(&c->v))
			machine_end(m, MACHINE_ERROR, 0, "pause: the engine refuses the state");
	}
	m->tsc_base += away;
}

static void end(struct machine *m)
{
	m->paused = false;
	pthread_mutex_lock(&m->lock);
	move_counters(m);
	clock_resume(&m->clock);
	pthread_mutex_unlock(&m->lock);
}

void pause_look(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	const char *stuck = disk_stuck(m);
	pthread_mutex_unlock(&m->lock);

	if (stuck && !m->paused) {
		begin(m, stuck);
	} else if (!stuck && m->paused) {
		end(m);
		run_release(m);
		log_warn("disk", "there is room again: the guest goes on");
	}
}

void pause_retry(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	disk_retry(m);
	pthread_mutex_unlock(&m->lock);
	fd_timer_set(m->timer_fd, RETRY_NS);
}

void pause_forget(struct machine *m)
{
	if (m->paused)
		end(m);
}
