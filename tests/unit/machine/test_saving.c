/* A machine that is saved while it runs goes on; what was written makes another one that is the
 * same and goes on, too. */
#include "fake_engine.h"
#include "os/fd.h"
#include "saved/saved.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define PATTERN_AT 0x123000u
#define AWAY_NS	   (3 * 1000000000ull)

static _Atomic unsigned runs;

static enum cpu_exit spins(struct vcpu *v)
{
	runs++;
	return CPU_EXIT_KICK;
}

/* An owner whose steps are a timer's. */
static struct owner {
	struct machine *m;
	struct loop_source timer;
	void (*step)(unsigned n);
	unsigned steps, runs_then;
	int fd;
	struct blob state;
	u8 generation[16];
} owner;

static void take_step(void *ctx)
{
	fd_timer_clear(owner.timer.fd);
	owner.step(owner.steps++);
	fd_timer_set(owner.timer.fd, 5000000);
}

static void run(struct machine *m, void (*step)(unsigned n))
{
	struct machine_result result = { 0 };
	struct err err = { 0 };
	struct loop loop;

	owner.m = m;
	owner.step = step;
	owner.steps = 0;
	fake_run = spins;
	assert_int_equal(loop_open(&loop, &err), 0);
	owner.timer = (struct loop_source){ .fd = fd_timer(&err), .ready = take_step };
	assert_int_equal(loop_add(&loop, &owner.timer, &err), 0);
	fd_timer_set(owner.timer.fd, 5000000);
	assert_int_equal(machine_run(m, &loop, &result, &err), 0);
	assert_int_equal(result.why, MACHINE_TIMEOUT);
	close(owner.timer.fd);
	loop_close(&loop);
}

static struct machine *machine(const struct saved *saved, u64 away_max_ns)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	config.cpus = 2;
	config.saves = true;
	config.saved = saved;
	config.away_max_ns = away_max_ns;
	struct machine *m = machine_new(&config, &err);

	if (!m)
		fail_msg("%s", err.text);
	return m;
}

static int empty_file(void)
{
	int fd = memfd_create("saved", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static const struct machine_note note = { "note", "from the caller", 15 };

static void save_then_end(unsigned n)
{
	struct machine_saving s = machine_save_look(owner.m);
	struct err err = { 0 };

	if (!n) {
		assert_false(s.under_way || s.done);
		assert_int_equal(machine_save_to(owner.m, dup(owner.fd), &note, 1, &err), 0);
		assert_int_equal(machine_state(owner.m), MACHINE_SAVING);
		assert_int_equal(machine_save_to(owner.m, -1, &note, 1, &err), -EBUSY);
		assert_int_equal(machine_resume(owner.m, &err), -EBUSY);
		owner.runs_then = runs;
		/* What the state is that was taken, for later. */
		assert_int_equal(machine_save(owner.m, &owner.state, &err), 0);
	} else if (s.done) {
		assert_int_equal(s.rc, 0);
		assert_int_equal(runs, owner.runs_then);
		machine_end(owner.m, MACHINE_TIMEOUT, 0, "time");
	} else {
		assert_true(s.under_way);
	}
}

/* A file with the machine's state, and that state. */
static int saved_machine(void)
{
	u64 pattern = 0x1122334455667788;
	struct machine *m = machine(NULL, 0);

	runs = 0;
	memcpy(owner.generation, m->generation, sizeof(owner.generation));
	owner.fd = empty_file();
	blob_free(&owner.state);
	owner.state = (struct blob){ 0 };
	assert_true(memory_write(&m->memory, gpa(PATTERN_AT), &pattern, sizeof(pattern)));
	m->cpus[1].v.x86.s.gpr[RSI] = 42;
	m->cpus[1].v.x86.s.tsc_offset = m->cpus[1].tsc_offset = 1000;
	fake_out(&m->cpus[0].v, 0x3ff, 0x5a); /* COM1's scratch register */
	run(m, save_then_end);
	machine_free(m);
	return owner.fd;
}

static struct saved *opened(int fd)
{
	struct err err = { 0 };
	struct saved *s;

	assert_int_equal(saved_open(&s, fd, &err), 0);
	assert_int_equal(saved_check(s, 2, NULL, NULL, &err), 0);
	return s;
}

static void goes_on(unsigned n)
{
	if (!n)
		owner.runs_then = runs;
	else if (runs > owner.runs_then)
		machine_end(owner.m, MACHINE_TIMEOUT, 0, "time");
}

/* The bit that tells of it, GPE0_STS's, and up to when its device has looked at the timer. */
static void assert_same_but_for_the_event(struct machine *m, struct blob *again)
{
	struct vcpu *v = &m->cpus[0].v;
	struct err err = { 0 };
	unsigned different = 0;

	assert_int_equal(machine_save(m, again, &err), 0);
	assert_int_equal(again->len, owner.state.len);
	for (size_t i = 0; i < again->len; i++)
		different += again->data[i] != owner.state.data[i];
	assert_in_range(different, 1, 9);
	assert_int_equal(v->ops->port_in(v->ops_ctx, v, 0x620, 2), BIT(2));
}

static void what_was_saved_is_the_same_machine(void **state)
{
	int fd = saved_machine();
	struct saved *s = opened(fd);
	struct machine *m = machine(s, 0);
	struct blob again = { 0 };
	struct err err = { 0 };
	size_t len;
	u8 generation[16];
	u64 pattern;

	u8 *part = saved_part(s, "note", &len, &err);
	assert_string_equal((char *)part, "from the caller");
	free(part);
	assert_true(memory_read(&m->memory, gpa(PATTERN_AT), &pattern, sizeof(pattern)));
	assert_int_equal(pattern, 0x1122334455667788);
	assert_int_equal(fake_in(&m->cpus[0].v, 0x3ff), 0x5a);
	assert_same_but_for_the_event(m, &again);
	/* It is another generation, and the guest's power management says so. */
	assert_true(memory_read(&m->memory, gpa(0xdf000), generation, sizeof(generation)));
	assert_memory_equal(generation, m->generation, sizeof(generation));
	assert_memory_not_equal(generation, owner.generation, sizeof(generation));
	run(m, goes_on);
	machine_free(m);
	blob_free(&again);
	saved_close(s);
	close(fd);
}

static u64 guest_tsc(const struct machine *m)
{
	return m->cpus[1].lapic->wiring.guest_tsc((void *)(uintptr_t)&m->cpus[1]);
}

/* All clocks of the guest agree on how long it was away; or none has noticed. */
static void clocks_pass_the_time_together(void **state)
{
	int fd = saved_machine();
	struct saved *s = opened(fd);

	for (unsigned far = 0; far < 2; far++) {
		struct machine *m = machine(s, far ? AWAY_NS - 1000000000ull : 2 * AWAY_NS);
		u64 ns = clock_now(&m->clock), tsc = guest_tsc(m), rtc[2];

		m->paused_wall -= (s64)AWAY_NS; /* as if it had been saved then */
		pause_restored(m);
		rtc[0] = clock_now(&m->clock) - ns;
		rtc[1] = (u64)((u128)(guest_tsc(m) - tsc) * 1000000000u / m->model.tsc_hz);
		for (unsigned i = 0; i < 2; i++)
			if (far)
				assert_true(rtc[i] < 1000000000u);
			else
				assert_in_range(rtc[i], AWAY_NS, AWAY_NS + 1000000000u);
		/* And the time of day is the host's. */
		s64 late = machine_wall() - (m->wall_base + (s64)clock_now(&m->clock));
		assert_in_range((u64)(late + 1000000), 0, 2000000);
		machine_free(m);
	}
	saved_close(s);
	close(fd);
}

static void save_then_think_better(unsigned n)
{
	struct err err = { 0 };

	switch (n) {
	case 0:
		assert_int_equal(machine_pause(owner.m, &err), 0);
		assert_int_equal(machine_save_to(owner.m, empty_file(), NULL, 0, &err), 0);
		machine_save_end(owner.m);
		assert_int_equal(machine_state(owner.m), MACHINE_PAUSED); /* as it was */
		assert_int_equal(machine_resume(owner.m, &err), 0);
		owner.runs_then = runs;
		break;
	case 1: /* a file that cannot be written */
		assert_int_equal(
			machine_save_to(owner.m, open("/dev/full", O_WRONLY), NULL, 0, &err),
			-ENOSPC);
		assert_int_equal(machine_state(owner.m), MACHINE_RUNNING);
		break;
	default:
		if (runs > owner.runs_then)
			machine_end(owner.m, MACHINE_TIMEOUT, 0, "time");
	}
}

static void what_is_given_up_lets_it_go_on(void **state)
{
	struct machine *m = machine(NULL, 0);

	run(m, save_then_think_better);
	machine_free(m);
}

static void save_then_end_at_once(unsigned n)
{
	struct err err = { 0 };

	if (!n) {
		assert_int_equal(machine_save_to(owner.m, empty_file(), NULL, 0, &err), 0);
		machine_end(owner.m, MACHINE_TIMEOUT, 0, "time");
	}
}

static void an_end_in_the_middle_is_an_end(void **state)
{
	struct machine *m = machine(NULL, 0);

	run(m, save_then_end_at_once);
	machine_free(m);
}

static void other_configurations_are_refused(void **state)
{
	int fd = saved_machine();
	struct saved *s = opened(fd);
	struct machine_config config = fake_config();
	const char *nothing = "/nonexistent";
	struct err err = { 0 };

	config.saved = s;
	assert_null(machine_new(&config, &err)); /* one processor */
	assert_non_null(strstr(err.text, "restoring"));
	config.cpus = 2;
	config.memory += PAGE_SIZE;
	assert_null(machine_new(&config, &err));
	assert_non_null(strstr(err.text, "its memory has another form"));
	assert_int_equal(machine_saved_fits(s, NULL, 0, &err), 0);
	assert_int_equal(machine_saved_fits(s, &nothing, 1, &err), -EINVAL);
	saved_close(s);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_saved_is_the_same_machine),
		cmocka_unit_test(clocks_pass_the_time_together),
		cmocka_unit_test(what_is_given_up_lets_it_go_on),
		cmocka_unit_test(an_end_in_the_middle_is_an_end),
		cmocka_unit_test(other_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
