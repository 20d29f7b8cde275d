/*
 * Pauses: guest code is held and the guest's clocks stand, as if no time passed. There are
 * three reasons, and each is enough:
 *
 *   full  a disk's request finds no room on the host. Once a second what is stuck is tried again,
 *         and when all of it has found room the reason is gone. So a guest sees no error, and none
 *         of its own time-outs.
 *   user  the owner wants it so, until he wants it no more; a reset does not change his mind
 *   save  it is being saved (saving.c), or has been restored and does not run yet
 *
 * The timer is the guest clock's, which does not need it meanwhile. Everything here is the main
 * thread's; an end that is asked for meanwhile ends the machine as ever, and what is stuck then
 * fails.
 */
#include "base/log.h"
#include "device/legacy/legacy.h"
#include "machine/machine_priv.h"
#include "os/fd.h"
#include "os/tsc.h"
#include "x86/kvmclock.h"
#include <errno.h>

#define FULL 1u
#define USER 2u
#define SAVE 4u

#define RETRY_NS 1000000000ull

void pause_tell(struct machine *m, enum machine_event what, const char *text)
{
	if (m->config.event)
		m->config.event(m->config.event_ctx, what, text);
}

enum machine_state pause_state(const struct machine *m)
{
	return m->paused & SAVE	  ? MACHINE_SAVING
	       : m->paused & USER ? MACHINE_PAUSED
	       : m->paused	  ? MACHINE_FULL
				  : MACHINE_RUNNING;
}

/* Guest code and clocks stop. */
static int halt(struct machine *m)
{
	run_hold(m);
	if (run_wait_held(m)) {
		machine_end(m, MACHINE_ERROR, 0, "pause: a processor does not stop");
		return -ETIMEDOUT;
	}
	doorbells_ring(m);
	pthread_mutex_lock(&m->lock);
	clock_pause(&m->clock);
	pthread_mutex_unlock(&m->lock);
	m->paused_tsc = tsc_read();
	m->paused_wall = machine_wall();
	return 0;
}

static int begin(struct machine *m, unsigned why)
{
	int rc = m->paused ? 0 : halt(m);

	if (!rc)
		m->paused |= why;
	return rc;
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
	m->paused = 0;
	pthread_mutex_lock(&m->lock);
	move_counters(m);
	clock_resume(&m->clock);
	pthread_mutex_unlock(&m->lock);
}

/* One reason less. */
static void drop(struct machine *m, unsigned why)
{
	if (m->paused != why) {
		m->paused &= ~why;
		return;
	}
	end(m);
	run_release(m);
	pause_tell(m, MACHINE_EVENT_RESUMED, "resumed");
}

/* ---- full ---- */

static void found_full(struct machine *m, const char *path)
{
	if (begin(m, FULL))
		return;
	fd_timer_set(m->timer_fd, RETRY_NS);
	log_warn("disk",
		"%s: no room on the host: the guest is paused, and goes on when there is room",
		path);
	pause_tell(m, MACHINE_EVENT_PAUSED, "no room on the host for a disk's data");
}

void pause_look(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	const char *stuck = disk_stuck(m);
	pthread_mutex_unlock(&m->lock);

	if (stuck && !(m->paused & FULL)) {
		found_full(m, stuck);
	} else if (!stuck && m->paused & FULL) {
		drop(m, FULL);
		log_warn("disk", "there is room again: the guest goes on");
	}
}

void pause_retry(struct machine *m)
{
	if (!(m->paused & FULL))
		return;
	pthread_mutex_lock(&m->lock);
	disk_retry(m);
	pthread_mutex_unlock(&m->lock);
	fd_timer_set(m->timer_fd, RETRY_NS);
}

/* ---- reset ---- */

unsigned pause_forget(struct machine *m)
{
	unsigned before = m->paused;

	if (before)
		end(m);
	return before;
}

bool pause_again(struct machine *m, unsigned before) { return before & USER && !begin(m, USER); }

/* ---- save ---- */

int pause_for_saving(struct machine *m)
{
	int rc = begin(m, SAVE);

	if (!rc)
		pause_tell(m, MACHINE_EVENT_PAUSED, "to be saved");
	return rc;
}

void pause_saved(struct machine *m) { drop(m, SAVE); }
void pause_loaded(struct machine *m) { m->paused = SAVE; }

/* All clocks of the guest together, so that none of them sees another one jump. */
static void pass(struct machine *m, u64 ns)
{
	m->clock.frozen_at += ns;
	m->paused_tsc += clock_ticks(ns, m->model.tsc_hz);
	for (unsigned i = 0; i < m->config.cpus; i++)
		x86_kvmclock_tell_stopped(&m->cpus[i].v.x86);
}

/*
 * A machine that was away for a moment finds that time has passed, as it does when its host was
 * busy: its time of day is right. After a long time its programs would all miss what they wait for
 * at once, so they go on where they were, and only the real-time clock is put right.
 */
void pause_restored(struct machine *m)
{
	s64 wall = machine_wall(), away = wall - m->paused_wall;

	pthread_mutex_lock(&m->lock);
	if (away > 0 && (u64)away <= m->config.away_max_ns)
		pass(m, (u64)away);
	else if (away > 0)
		rtc_pass(m->rtc, (u64)away);
	m->wall_base = wall - (s64)m->clock.frozen_at;
	pthread_mutex_unlock(&m->lock);
	drop(m, SAVE);
}

/* ---- user ---- */

int machine_pause(struct machine *m, struct err *err)
{
	if (machine_state(m) == MACHINE_ENDING)
		return err_set(err, -ESHUTDOWN, "the machine is about to end");
	if (m->paused & USER)
		return err_set(err, -EALREADY, "the machine is paused already");
	if (begin(m, USER))
		return err_set(err, -ETIMEDOUT, "a processor does not stop");
	pause_tell(m, MACHINE_EVENT_PAUSED, "by its owner");
	return 0;
}

int machine_resume(struct machine *m, struct err *err)
{
	if (machine_state(m) == MACHINE_ENDING)
		return err_set(err, -ESHUTDOWN, "the machine is about to end");
	if (m->paused & SAVE)
		return err_set(err, -EBUSY, "the machine is being saved");
	if (!(m->paused & USER))
		return err_set(err, -EALREADY,
			m->paused ? "the machine goes on by itself, once the host has room for its "
				    "disks"
				  : "the machine is not paused");
	drop(m, USER);
	return 0;
}
