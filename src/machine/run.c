/*
 * Running, pausing and ending.
 *
 * The gate. A vcpu thread passes it before each stay in guest code and is counted in `running`
 * until it comes back to park. PHASE_HOLD makes them park: set it, post ATTN_STOP to every vcpu,
 * wait for running to become 0. Whoever asks for a reset or an end sets PHASE_HOLD himself, so that
 * no guest instruction after the one that asked is executed on that processor; the main thread then
 * does the work.
 *
 *   machine_run()      HOLD -> RUN: power-on, or the end of the pause that a restored machine is in
 *   ask (any thread)   RUN -> HOLD, wakes the main thread
 *   on_wake, reset     (all parked) reload, HOLD -> RUN
 *   run_hold, _release (main thread) RUN -> HOLD -> RUN: a pause (pause.c)
 *   on_wake, memory    (all parked) a device's memory moves, HOLD -> RUN
 *   on_wake, end       HOLD -> QUIT, threads return
 *
 * A vcpu clears ATTN_STOP at the gate, with the gate's lock held and the phase being RUN; askers
 * set the phase before they post. So a post is never lost.
 */
#include "base/log.h"
#include "device/legacy/acpi_pm.h"
#include "device/legacy/legacy.h"
#include "machine/machine_priv.h"
#include "os/fd.h"
#include "os/sandbox.h"
#include "os/thread.h"
#include "os/tsc.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* An engine that does not come back within this time has failed. A process asked to end has a
 * second; where nobody waits, a busy host may keep a thread from running for longer than that. */
#define PARK_MS		 700
#define PARK_MS_NO_HASTE 10000

/* true: run guest code. */
static bool gate_enter(struct machine *m, struct vcpu *v)
{
	pthread_mutex_lock(&m->gate);
	while (m->phase == PHASE_HOLD)
		pthread_cond_wait(&m->gate_changed, &m->gate);
	bool enter = m->phase == PHASE_RUN;
	if (enter) {
		atomic_fetch_and(&v->attention, ~ATTN_STOP);
		m->running++;
	}
	pthread_mutex_unlock(&m->gate);
	return enter;
}

static void gate_leave(struct machine *m)
{
	pthread_mutex_lock(&m->gate);
	m->running--;
	pthread_cond_broadcast(&m->gate_changed);
	pthread_mutex_unlock(&m->gate);
}

static void set_phase(struct machine *m, enum machine_phase phase)
{
	pthread_mutex_lock(&m->gate);
	m->phase = phase;
	pthread_cond_broadcast(&m->gate_changed);
	pthread_mutex_unlock(&m->gate);
}

/* After PHASE_HOLD: makes everybody look. */
static void stop_cpus(struct machine *m)
{
	for (unsigned i = 0; i < m->config.cpus; i++)
		vcpu_post(&m->cpus[i].v, ATTN_STOP);
	console_release(&m->console, true);
	fd_event_set(m->wake_fd);
}

static int wait_parked(struct machine *m, unsigned ms)
{
	struct timespec until;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000l;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&m->gate);
	while (m->running && !rc)
		rc = pthread_cond_timedwait(&m->gate_changed, &m->gate, &until);
	rc = m->running ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&m->gate);
	return rc;
}

/* vcpu threads */

static void end_by_cpu(struct machine *m, struct vcpu *v, enum machine_why why)
{
	char where[160], text[sizeof(m->result.text)];

	v->engine->pull(v);
	x86_describe(&v->x86, where, sizeof(where));
	if (why == MACHINE_SHUTDOWN)
		snprintf(text, sizeof(text), "cpu%u: triple fault: %s", v->index, where);
	else
		snprintf(text, sizeof(text), "cpu%u: %s engine: %s; %s", v->index, v->engine->name,
			v->error.text, where);
	machine_end(m, why, 0, text);
}

/* What can end HLT: an interrupt only with IF set, an NMI only outside an NMI's handler (SDM 2A,
 * HLT; SDM 3A 6.7.1). Those that wait although the engine has seen them are the case worth asking
 * for. */
static u32 halt_wakers(struct vcpu *v)
{
	const u32 events = ATTN_NMI | ATTN_INTR;
	u32 wake = events | ATTN_INIT | ATTN_STOP;

	if (!(atomic_load(&v->attention) & events))
		return wake;
	v->engine->pull(v);
	if (!(v->x86.s.rflags & FLAG_IF))
		wake &= ~ATTN_INTR;
	if (v->x86.s.blocking & BLOCK_NMI)
		wake &= ~ATTN_NMI;
	return wake;
}

/* false: park. */
static bool run_once(struct machine *m, struct vcpu *v)
{
	switch (v->engine->run(v)) {
	case CPU_EXIT_KICK: return false;
	case CPU_EXIT_HALT: vcpu_sleep(v, halt_wakers(v)); break;
	case CPU_EXIT_WAIT: vcpu_sleep(v, ATTN_INIT | ATTN_SIPI | ATTN_STOP); break;
	case CPU_EXIT_SHUTDOWN: end_by_cpu(m, v, MACHINE_SHUTDOWN); return false;
	case CPU_EXIT_ERROR: end_by_cpu(m, v, MACHINE_ERROR); return false;
	}
	return !(atomic_load(&v->attention) & ATTN_STOP);
}

static void *cpu_thread(void *ctx)
{
	struct machine_cpu *c = ctx;
	struct machine *m = c->machine;

	while (gate_enter(m, &c->v)) {
		while (run_once(m, &c->v))
			;
		gate_leave(m);
	}
	return NULL;
}

/* Requests */

/* The gate's lock held: the phase that stops guest code, unless the threads are on their way out.
 */
static void hold_locked(struct machine *m)
{
	if (m->phase == PHASE_RUN)
		m->phase = PHASE_HOLD;
}

void run_ask_reset(struct machine *m)
{
	if (m->config.reset_ends) {
		machine_end(m, MACHINE_RESET, 0, "reset by the guest");
		return;
	}
	pthread_mutex_lock(&m->gate);
	m->reset_asked = true;
	hold_locked(m);
	pthread_mutex_unlock(&m->gate);
	stop_cpus(m);
}

void run_ask_memory(struct machine *m)
{
	pthread_mutex_lock(&m->gate);
	bool runs = m->phase == PHASE_RUN;
	m->memory_asked = true;
	hold_locked(m);
	pthread_mutex_unlock(&m->gate);
	if (runs)
		stop_cpus(m);
	else
		fd_event_set(m->wake_fd);
}

void machine_end(struct machine *m, enum machine_why why, u32 code, const char *text)
{
	pthread_mutex_lock(&m->gate);
	if (m->result.why == MACHINE_RUNS) {
		m->result.why = why;
		m->result.code = code;
		snprintf(m->result.text, sizeof(m->result.text), "%s", text);
	} else {
		atomic_store(&m->hurry, true);
	}
	hold_locked(m);
	pthread_mutex_unlock(&m->gate);
	stop_cpus(m);
}

void machine_reset(struct machine *m) { run_ask_reset(m); }

void machine_power_button(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	acpi_pm_power_button(m->pm);
	pthread_mutex_unlock(&m->lock);
}

enum machine_state machine_state(struct machine *m)
{
	pthread_mutex_lock(&m->gate);
	bool ending = m->result.why != MACHINE_RUNS;
	pthread_mutex_unlock(&m->gate);
	return ending ? MACHINE_ENDING : pause_state(m);
}

/* Main thread */

/* These are the user's or the caller's wish; what the guest has said until now can wait no longer.
 */
static bool is_hasty(enum machine_why why)
{
	return why == MACHINE_SIGNAL || why == MACHINE_TIMEOUT || why == MACHINE_ESCAPE;
}

static void reset(struct machine *m)
{
	struct err err = { 0 };

	if (wait_parked(m, PARK_MS_NO_HASTE)) {
		machine_end(m, MACHINE_ERROR, 0, "reset: a processor does not stop");
		return;
	}
	unsigned paused = pause_forget(m);

	if (load_guest(m, &err)) {
		machine_end(m, MACHINE_ERROR, 0, err.text);
		return;
	}
	pthread_mutex_lock(&m->gate);
	m->reset_asked = false;
	pthread_mutex_unlock(&m->gate);
	pause_tell(m, MACHINE_EVENT_RESET, "reset");
	if (!pause_again(m, paused))
		run_release(m);
}

void run_hold(struct machine *m)
{
	pthread_mutex_lock(&m->gate);
	hold_locked(m);
	pthread_mutex_unlock(&m->gate);
	stop_cpus(m);
}

int run_wait_held(struct machine *m) { return wait_parked(m, PARK_MS_NO_HASTE); }

/* What else holds it still does. */
static void release_locked(struct machine *m)
{
	if (m->result.why == MACHINE_RUNS && !m->reset_asked && !m->memory_asked)
		m->phase = PHASE_RUN;
	pthread_cond_broadcast(&m->gate_changed);
}

void run_release(struct machine *m)
{
	console_release(&m->console, false);
	pthread_mutex_lock(&m->gate);
	release_locked(m);
	pthread_mutex_unlock(&m->gate);
}

/* A device's memory moves while no guest code runs. */
static void move_memory(struct machine *m)
{
	if (wait_parked(m, PARK_MS_NO_HASTE)) {
		machine_end(m, MACHINE_ERROR, 0, "video memory: a processor does not stop");
		return;
	}
	pthread_mutex_lock(&m->lock);
	video_apply(m);
	pthread_mutex_unlock(&m->lock);
	if (m->paused)
		return; /* pause.c releases it */
	console_release(&m->console, false);
	pthread_mutex_lock(&m->gate);
	release_locked(m);
	pthread_mutex_unlock(&m->gate);
}

static void on_wake(void *ctx)
{
	struct machine *m = ctx;

	fd_event_clear(m->wake_fd);
	pthread_mutex_lock(&m->gate);
	enum machine_why why = m->result.why;
	bool reset_asked = m->reset_asked, memory_asked = m->memory_asked;
	pthread_mutex_unlock(&m->gate);

	if (why != MACHINE_RUNS) {
		if (is_hasty(why) || atomic_load(&m->hurry) || console_idle(&m->console))
			loop_stop(m->loop);
		return;
	}
	machine_port_turn(m);
	hot_turn(m);
	if (reset_asked)
		reset(m);
	if (memory_asked) /* the one does not do the other's work: both hold guest code */
		move_memory(m);
}

static void on_timer(void *ctx)
{
	struct machine *m = ctx;

	fd_timer_clear(m->timer_fd);
	if (m->paused) {
		pause_retry(m);
		return;
	}
	pthread_mutex_lock(&m->lock);
	u64 next = clock_run(&m->clock);
	u64 now = clock_now(&m->clock);
	fd_timer_set(m->timer_fd, next == ~0ull ? next : next > now ? next - now : 0);
	pthread_mutex_unlock(&m->lock);
}

/* Where a processor is in the machine and, if that is fixed, on the host. */
static void tell_place(const struct machine *m, unsigned i, const char *name)
{
	const struct x86_topology *t = &m->config.topology;
	char on[40] = "";

	if (m->config.pins)
		snprintf(on, sizeof(on), "; on the host's processor %d", m->config.pins[i]);
	log_info(name, "socket %u, core %u, thread %u%s", x86_topology_socket(t, i),
		i / t->threads % t->cores, i % t->threads, on);
}

static int start_cpus(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct machine_cpu *c = &m->cpus[i];
		char name[16];

		snprintf(name, sizeof(name), "cpu%u", i);
		if (thread_start(&c->thread, name, cpu_thread, c, err))
			return err->code;
		c->started = true;
		if (m->config.pins && thread_pin(c->thread, m->config.pins[i], err))
			return err->code;
		tell_place(m, i, name);
	}
	return 0;
}

/* The vcpus' threads end; -ETIMEDOUT when one is lost in its engine, which the process must not
 * wait for. */
static int stop_threads(struct machine *m, struct err *err)
{
	set_phase(m, PHASE_QUIT);
	stop_cpus(m);
	pthread_mutex_lock(&m->gate);
	bool hasty = is_hasty(m->result.why) || atomic_load(&m->hurry);
	pthread_mutex_unlock(&m->gate);
	if (wait_parked(m, hasty ? PARK_MS : PARK_MS_NO_HASTE))
		return err_set(err, -ETIMEDOUT, "a processor does not stop");
	for (unsigned i = 0; i < m->config.cpus; i++)
		if (m->cpus[i].started)
			pthread_join(m->cpus[i].thread, NULL);
	return 0;
}

static int add_sources(struct machine *m, struct err *err)
{
	m->on_timer = (struct loop_source){ .fd = m->timer_fd, .ready = on_timer, .ctx = m };
	m->on_wake = (struct loop_source){ .fd = m->wake_fd, .ready = on_wake, .ctx = m };
	if (loop_add(m->loop, &m->on_timer, err) || loop_add(m->loop, &m->on_wake, err) ||
		disk_listen(m, err) || machine_share_listen(m, err) ||
		machine_port_listen(m, err) || doorbells_listen(m, err))
		return err->code;
	return 0;
}

/* Every thread exists, everything is open, and guest code waits at the gate: what the process has
 * beyond that it gives up now. */
static void enter_sandbox(struct machine *m)
{
	const struct machine_net_config *net = m->config.net;
	struct sandbox_report report;
	unsigned needs = m->config.sandbox_needs;

	if (net)
		needs |= net->kind == NET_USER ? SANDBOX_INTERNET : SANDBOX_SOCKETS;
	if (m->config.vsock || m->config.share_count || m->config.port_count)
		needs |= SANDBOX_SOCKETS;
	if (m->config.display)
		needs |= SANDBOX_DISPLAY;

	if (m->config.sandbox)
		sandbox_enter(&report, needs);
}

/* The time of day at guest time 0 is that of now, not of when the machine began to be made: on a
 * busy host that is a while ago. */
static void power_on(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	s64 made = m->wall_base;

	m->wall_base = machine_wall() - (s64)clock_now(&m->clock);
	if (m->wall_base > made)
		rtc_pass(m->rtc, (u64)(m->wall_base - made));
	m->tsc_base = tsc_read() - clock_ticks(clock_now(&m->clock), m->model.tsc_hz);
	clock_resume(&m->clock);
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_lock(&m->gate);
	release_locked(m);
	pthread_mutex_unlock(&m->gate);
}

int machine_run(
	struct machine *m, struct loop *loop, struct machine_result *result, struct err *err)
{
	*err = (struct err){ 0 };
	m->loop = loop;
	if (add_sources(m, err))
		goto remove;
	if (console_open(&m->console, err))
		goto remove;
	if (start_cpus(m, err) == 0) {
		enter_sandbox(m);
		if (m->paused)
			pause_restored(m);
		else
			power_on(m);
		loop_run(loop);
		pthread_mutex_lock(&m->lock);
		clock_pause(&m->clock);
		pthread_mutex_unlock(&m->lock);
	}
	if (stop_threads(m, err))
		return err->code;
	console_close(&m->console);
	*result = m->result;
remove:
	disk_unlisten(m);
	machine_share_unlisten(m);
	machine_port_unlisten(m);
	doorbells_unlisten(m);
	loop_remove(loop, &m->on_timer);
	loop_remove(loop, &m->on_wake);
	return err->code;
}
