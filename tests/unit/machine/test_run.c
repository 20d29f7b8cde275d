/* The life of a machine: running, halting, resetting, ending. */
#include "fake_engine.h"
#include "os/fd.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static unsigned runs;

static struct machine_result run_with(
	struct machine_config config, enum cpu_exit (*run)(struct vcpu *))
{
	struct machine_result result = { 0 };
	struct err err = { 0 };
	struct loop loop;

	runs = 0;
	fake_run = run;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	assert_int_equal(loop_open(&loop, &err), 0);
	assert_int_equal(machine_run(m, &loop, &result, &err), 0);
	loop_close(&loop);
	machine_free(m);
	return result;
}

static enum cpu_exit writes_debug_exit(struct vcpu *v)
{
	runs++;
	fake_out(v, 0xf4, 0x21);
	return CPU_EXIT_KICK;
}

static void debug_exit_ends_with_its_value(void **state)
{
	struct machine_result r = run_with(fake_config(), writes_debug_exit);

	assert_int_equal(r.why, MACHINE_EXIT_CODE);
	assert_int_equal(r.code, 0x21);
	assert_int_equal(runs, 1); /* nothing runs after the instruction that ended it */
}

static enum cpu_exit powers_off(struct vcpu *v)
{
	v->ops->port_out(v->ops_ctx, v, 0x604, 2, 0x2000); /* PM1a control: SLP_EN, type 0 */
	return CPU_EXIT_KICK;
}

static void power_off_ends(void **state)
{
	assert_int_equal(run_with(fake_config(), powers_off).why, MACHINE_POWER_OFF);
}

static enum cpu_exit shuts_down(struct vcpu *v)
{
	v->x86.s.rip = 0x1234;
	v->x86.s.activity = X86_SHUTDOWN;
	return CPU_EXIT_SHUTDOWN;
}

static void shutdown_names_the_place(void **state)
{
	struct machine_result r = run_with(fake_config(), shuts_down);

	assert_int_equal(r.why, MACHINE_SHUTDOWN);
	assert_non_null(strstr(r.text, "triple fault"));
	assert_non_null(strstr(r.text, "0x1234"));
}

static enum cpu_exit gives_up(struct vcpu *v)
{
	err_set(&v->error, -EIO, "cannot go on");
	return CPU_EXIT_ERROR;
}

static void engine_error_is_told(void **state)
{
	struct machine_result r = run_with(fake_config(), gives_up);

	assert_int_equal(r.why, MACHINE_ERROR);
	assert_non_null(strstr(r.text, "fake engine: cannot go on"));
}

/* First stay: dirty memory and registers, then the keyboard controller's reset. Second: all of it
 * is gone. */
static enum cpu_exit resets_then_looks(struct vcpu *v)
{
	u32 value = 0xdeadbeef;

	if (runs++ == 0) {
		assert_true(memory_write(v->memory, gpa(0x5000), &value, sizeof(value)));
		v->x86.s.gpr[RBX] = 7;
		fake_out(v, 0x3ff, 0x5a); /* COM1's scratch register */
		fake_out(v, 0x64, 0xfe);
		return CPU_EXIT_KICK;
	}
	assert_true(memory_read(v->memory, gpa(0x5000), &value, sizeof(value)));
	fake_out(v, 0xf4, value == 0 && v->x86.s.gpr[RBX] == 0 && fake_in(v, 0x3ff) != 0x5a);
	return CPU_EXIT_KICK;
}

static void reset_starts_afresh(void **state)
{
	struct machine_result r = run_with(fake_config(), resets_then_looks);

	assert_int_equal(r.why, MACHINE_EXIT_CODE);
	assert_int_equal(r.code, 1);
	assert_int_equal(runs, 2);
}

static void reset_can_end(void **state)
{
	struct machine_config config = fake_config();

	config.reset_ends = true;
	assert_int_equal(run_with(config, resets_then_looks).why, MACHINE_RESET);
	assert_int_equal(runs, 1);
}

/* Starts the 8254 through the 8259 pair, halts until its first interrupt, and reports the vector.
 */
static enum cpu_exit halts_for_the_timer(struct vcpu *v)
{
	/* The 8254 first: choosing its mode raises its output, an edge that ICW1 forgets. */
	static const u8 setup[][2] = {
		{ 0x43, 0x34 }, { 0x40, 0x00 }, { 0x40, 0x40 }, /* 13.7 ms, mode 2 */
		{ 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 0x04 },
		{ 0x21, 0x01 }, /* ICW1-4: vectors 0x20.. */
		{ 0x21, 0xfe }, /* line 0 only */
	};

	if (runs++ == 0) {
		for (unsigned i = 0; i < ARRAY_LEN(setup); i++)
			fake_out(v, setup[i][0], setup[i][1]);
		v->x86.s.rflags |= FLAG_IF;
	}
	if (v->attention & ATTN_INTR) {
		v->attention &= ~ATTN_INTR;
		int vector = v->ops->interrupt(v->ops_ctx, v);
		if (vector >= 0)
			fake_out(v, 0xf4, (u8)vector);
	}
	return CPU_EXIT_HALT;
}

static void halted_processor_sleeps_until_an_interrupt(void **state)
{
	u64 start = fd_monotonic_ns();
	struct machine_result r = run_with(fake_config(), halts_for_the_timer);

	assert_int_equal(r.code, 0x20);
	assert_true(fd_monotonic_ns() - start >= 10000000);
	assert_in_range(runs, 2, 5); /* it slept: no more stays than there were reasons */
}

/* With IF clear the same interrupt wakes nobody; the test ends it. */
static enum cpu_exit halts_deaf(struct vcpu *v)
{
	runs++;
	atomic_fetch_or(&v->attention, ATTN_INTR);
	return CPU_EXIT_HALT;
}

static void timeout(void *ctx) { machine_end(ctx, MACHINE_TIMEOUT, 0, "time"); }

static void deaf_processor_sleeps_and_can_be_ended(void **state)
{
	struct machine_config config = fake_config();
	struct machine_result result = { 0 };
	struct err err = { 0 };
	struct loop loop;

	runs = 0;
	fake_run = halts_deaf;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	assert_int_equal(loop_open(&loop, &err), 0);
	struct loop_source timer = { .fd = fd_timer(&err), .ready = timeout, .ctx = m };
	assert_int_equal(loop_add(&loop, &timer, &err), 0);
	fd_timer_set(timer.fd, 50000000);
	assert_int_equal(machine_run(m, &loop, &result, &err), 0);
	assert_int_equal(result.why, MACHINE_TIMEOUT);
	assert_int_equal(runs, 1);
	close(timer.fd);
	loop_close(&loop);
	machine_free(m);
}

/* The second processor waits for INIT and SIPI of the first. */
static enum cpu_exit starts_the_other(struct vcpu *v)
{
	if (v->index == 0) {
		if (runs++ == 0) {
			v->ops->mmio_write(v->ops_ctx, v, gpa(0xfee00310), 4, 1u << 24);
			v->ops->mmio_write(v->ops_ctx, v, gpa(0xfee00300), 4, 0x4500); /* INIT */
			v->ops->mmio_write(v->ops_ctx, v, gpa(0xfee00300), 4, 0x4609); /* SIPI 9 */
		}
		return CPU_EXIT_HALT;
	}
	if (v->attention & ATTN_SIPI) {
		fake_out(v, 0xf4, v->sipi_vector);
		return CPU_EXIT_KICK;
	}
	v->attention &= ~ATTN_INIT;
	return CPU_EXIT_WAIT;
}

static void second_processor_waits_for_its_start(void **state)
{
	struct machine_config config = fake_config();

	config.cpus = 2;
	struct machine_result r = run_with(config, starts_the_other);
	assert_int_equal(r.why, MACHINE_EXIT_CODE);
	assert_int_equal(r.code, 9);
}

/* A machine that an owner holds: a timer of the host's takes the steps. */
static struct {
	struct machine *m;
	struct loop_source timer;
	unsigned step, runs_then;
	u64 time_then;
	unsigned told[3];
} owner;

static void take_step(void *ctx)
{
	struct err err = { 0 };

	fd_timer_clear(owner.timer.fd);
	switch (owner.step++) {
	case 0:
		assert_int_equal(machine_state(owner.m), MACHINE_RUNNING);
		assert_int_equal(machine_resume(owner.m, &err), -EALREADY);
		assert_int_equal(machine_pause(owner.m, &err), 0);
		assert_int_equal(machine_pause(owner.m, &err), -EALREADY);
		assert_int_equal(machine_state(owner.m), MACHINE_PAUSED);
		owner.runs_then = runs;
		owner.time_then = machine_run_ns(owner.m);
		break;
	case 1: machine_reset(owner.m); break;
	case 2: /* the reset has been done, and the machine is still held */
		assert_int_equal(machine_state(owner.m), MACHINE_PAUSED);
		assert_int_equal(runs, owner.runs_then);
		assert_true(machine_run_ns(owner.m) - owner.time_then < 15000000);
		assert_int_equal(machine_resume(owner.m, &err), 0);
		break;
	default:
		assert_true(runs > owner.runs_then);
		machine_end(owner.m, MACHINE_TIMEOUT, 0, "time");
		assert_int_equal(machine_pause(owner.m, &err), -ESHUTDOWN);
	}
	fd_timer_set(owner.timer.fd, 20000000);
}

static void on_event(void *ctx, enum machine_event what, const char *text) { owner.told[what]++; }

static enum cpu_exit spins(struct vcpu *v)
{
	runs++;
	return CPU_EXIT_KICK;
}

static void an_owner_holds_it(void **state)
{
	struct machine_config config = fake_config();
	struct machine_result result = { 0 };
	struct err err = { 0 };
	struct loop loop;

	runs = 0;
	fake_run = spins;
	config.event = on_event;
	owner.m = machine_new(&config, &err);
	assert_non_null(owner.m);
	assert_int_equal(loop_open(&loop, &err), 0);
	owner.timer = (struct loop_source){ .fd = fd_timer(&err), .ready = take_step };
	assert_int_equal(loop_add(&loop, &owner.timer, &err), 0);
	fd_timer_set(owner.timer.fd, 20000000);
	assert_int_equal(machine_run(owner.m, &loop, &result, &err), 0);
	assert_int_equal(result.why, MACHINE_TIMEOUT);
	for (unsigned i = 0; i < ARRAY_LEN(owner.told); i++)
		assert_int_equal(owner.told[i], 1);
	close(owner.timer.fd);
	loop_close(&loop);
	machine_free(owner.m);
}

static enum cpu_exit reads_nothing_there(struct vcpu *v)
{
	u64 video = v->ops->mmio_read(v->ops_ctx, v, gpa(0xa0000), 8);
	u64 pci = v->ops->mmio_read(v->ops_ctx, v, gpa(0xfebff000), 4);
	u64 config = v->ops->port_in(v->ops_ctx, v, 0xcfc, 4);

	fake_out(v, 0xf4, video == ~0ull && pci == 0xffffffff && config == 0xffffffff);
	return CPU_EXIT_KICK;
}

static void absent_hardware_reads_all_ones(void **state)
{
	assert_int_equal(run_with(fake_config(), reads_nothing_there).code, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debug_exit_ends_with_its_value),
		cmocka_unit_test(power_off_ends),
		cmocka_unit_test(shutdown_names_the_place),
		cmocka_unit_test(engine_error_is_told),
		cmocka_unit_test(reset_starts_afresh),
		cmocka_unit_test(reset_can_end),
		cmocka_unit_test(halted_processor_sleeps_until_an_interrupt),
		cmocka_unit_test(deaf_processor_sleeps_and_can_be_ended),
		cmocka_unit_test(second_processor_waits_for_its_start),
		cmocka_unit_test(an_owner_holds_it),
		cmocka_unit_test(absent_hardware_reads_all_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
