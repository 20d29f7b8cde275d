/*
 * strata run: one machine in this process, its COM1 on standard input and output.
 *
 * On a terminal everything typed goes to the guest, Ctrl-C included; Ctrl-] leaves. Signals that
 * ask the process to end are read by the event loop, so that they take the ordinary way out.
 */
#include "base/log.h"
#include "cli/trace.h"
#include "cli/verbs.h"
#include "machine/engines.h"
#include "machine/machine.h"
#include "os/fd.h"
#include "os/tty.h"
#include <errno.h>
#include <string.h>

#define ESCAPE_BYTE 0x1d /* Ctrl-] */

struct values {
	const char *engine, *kernel, *initrd, *append, *trace;
	u64 memory, cpus, timeout_ns;
	unsigned log;
	bool no_reboot, stats;
};

/* What the loop watches besides the machine. */
struct watch {
	struct machine *machine;
	struct loop loop;
	struct loop_source signals, timeout;
};

static void on_signal(void *ctx)
{
	struct watch *w = ctx;
	int sig;

	while ((sig = fd_signal_next(w->signals.fd)))
		if (sig == SIGCONT)
			tty_resume();
		else
			machine_end(w->machine, MACHINE_SIGNAL, (u32)sig, strsignal(sig));
}

static void on_timeout(void *ctx)
{
	struct watch *w = ctx;

	fd_timer_clear(w->timeout.fd);
	machine_end(w->machine, MACHINE_TIMEOUT, 0, "the time is up");
}

static int watch_open(struct watch *w, u64 timeout_ns, struct err *err)
{
	static const int wanted[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCONT };
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
		sigaddset(&set, wanted[i]);
	signal(SIGPIPE, SIG_IGN);

	if (loop_open(&w->loop, err))
		return err->code;
	w->signals =
		(struct loop_source){ .fd = fd_signals(&set, err), .ready = on_signal, .ctx = w };
	w->timeout = (struct loop_source){ .fd = fd_timer(err), .ready = on_timeout, .ctx = w };
	if (w->signals.fd < 0 || w->timeout.fd < 0 || loop_add(&w->loop, &w->signals, err) ||
		loop_add(&w->loop, &w->timeout, err))
		return err->code;
	if (timeout_ns)
		fd_timer_set(w->timeout.fd, timeout_ns);
	return 0;
}

static const struct cpu_engine *choose_engine(const char *name, struct err *err)
{
	if (!strcmp(name, "auto"))
		return engines_auto(err);
	/* Named by the user: run what opens, even where probe() would advise against it. */
	return engines_named(name);
}

static void print_stats(const struct machine *m)
{
	struct vcpu_stats s = machine_stats(m);
	double seconds = (double)machine_run_ns(m) / 1e9;

	fprintf(stderr,
		"strata: %.3f s, %llu instructions (%.1f million/s), %llu port accesses, %llu MMIO "
		"accesses, "
		"%llu interrupts, %llu exceptions, %llu halts\n",
		seconds, (unsigned long long)s.instructions,
		seconds > 0 ? (double)s.instructions / seconds / 1e6 : 0,
		(unsigned long long)s.port_ios, (unsigned long long)s.mmios,
		(unsigned long long)s.interrupts, (unsigned long long)s.exceptions,
		(unsigned long long)s.exits[CPU_EXIT_HALT]);
}

/* The promise to scripts. */
static int status_of(const struct machine_result *r)
{
	switch (r->why) {
	case MACHINE_POWER_OFF:
	case MACHINE_RESET:
	case MACHINE_ESCAPE: return CLI_OK;
	case MACHINE_EXIT_CODE: return (int)((r->code << 1 | 1) & 0xff);
	case MACHINE_TIMEOUT: return CLI_TIMEOUT;
	case MACHINE_SIGNAL: return CLI_SIGNAL + (int)r->code;
	case MACHINE_RUNS:
	case MACHINE_SHUTDOWN:
	case MACHINE_ERROR: return CLI_FAILED;
	}
	return CLI_FAILED;
}

static int fail(const struct err *err, int status)
{
	fprintf(stderr, "strata: %s\n", err->text);
	return status;
}

static int run_machine(const struct values *v, struct machine *m, struct watch *w)
{
	struct machine_result result = { 0 };
	struct err err = { 0 };

	w->machine = m;
	int rc = machine_run(m, &w->loop, &result, &err);
	tty_restore();
	if (rc == -ETIMEDOUT) {
		/* A thread is lost: nothing it may still use can be freed. */
		fail(&err, 0);
		_exit(result.why ? status_of(&result) : CLI_FAILED);
	}
	if (rc)
		return fail(&err, CLI_FAILED);
	if (result.why == MACHINE_SHUTDOWN || result.why == MACHINE_ERROR)
		fprintf(stderr, "strata: %s\n", result.text);
	else
		log_info("run", "%s", result.text);
	if (v->stats)
		print_stats(m);
	return status_of(&result);
}

static int start(
	const struct values *v, const struct cpu_engine *engine, const struct vcpu_trace *trace)
{
	struct watch w = { 0 };
	struct err err = { 0 };

	tty_guard();
	if (watch_open(&w, v->timeout_ns, &err))
		return fail(&err, CLI_FAILED);
	struct machine *m = machine_new(
		&(struct machine_config){
			.engine = engine,
			.memory = v->memory,
			.cpus = (unsigned)v->cpus,
			.kernel = v->kernel,
			.initrd = v->initrd,
			.append = v->append,
			.reset_ends = v->no_reboot,
			.input = STDIN_FILENO,
			.output = STDOUT_FILENO,
			.escape = isatty(STDIN_FILENO) ? ESCAPE_BYTE : -1,
			.trace = *trace,
		},
		&err);
	if (!m)
		return fail(&err, err.code == MACHINE_CANNOT ? CLI_CANNOT : CLI_FAILED);
	int status = tty_raw(STDIN_FILENO, &err) ? fail(&err, CLI_FAILED) : run_machine(v, m, &w);

	machine_free(m);
	return status;
}

static int run(const void *values)
{
	const struct values *v = values;
	struct vcpu_trace trace;
	struct err err = { 0 };

	log_set_level((enum log_level)v->log);
	if (strcmp(v->engine, "auto") && !engines_named(v->engine)) {
		fprintf(stderr,
			"strata: run: --engine %.64s: no such engine; `strata host` lists them\n",
			v->engine);
		return CLI_USAGE;
	}
	if (trace_open(&trace, v->trace, &err))
		return fail(&err, err.code == -EINVAL ? CLI_USAGE : CLI_FAILED);
	const struct cpu_engine *engine = choose_engine(v->engine, &err);
	if (!engine)
		return fail(&err, CLI_CANNOT);

	int status = start(v, engine, &trace);
	if (trace_close(&trace, &err))
		return fail(&err, status ? status : CLI_FAILED);
	return status;
}

static void defaults(void *values)
{
	*(struct values *)values = (struct values){
		.engine = "auto",
		.memory = 512 * MiB,
		.cpus = 1,
		.log = LOG_WARN,
	};
}

static const char *const log_levels[] = { "error", "warning", "info", "guest", "debug", NULL };

#define AT(member) offsetof(struct values, member)

static const struct option_row options[] = {
	{ "kernel", "FILE", "bzImage, vmlinux, PVH or multiboot ELF, BIOS image or boot sector",
		OPTION_TEXT, AT(kernel), .required = true },
	{ "initrd", "FILE", "initial RAM disk, or a multiboot module", OPTION_TEXT, AT(initrd) },
	{ "append", "TEXT", "kernel command line", OPTION_TEXT, AT(append) },
	{ "memory", "SIZE", "guest memory, with K, M, G or T (default 512M)", OPTION_SIZE,
		AT(memory), MACHINE_MEMORY_MIN, MACHINE_MEMORY_MAX },
	{ "cpus", "N", "processors, 1 to 8 (default 1)", OPTION_NUMBER, AT(cpus), 1,
		MACHINE_CPUS_MAX },
	{ "engine", "NAME", "auto, kvm or interpret (default auto: the fastest that works here)",
		OPTION_TEXT, AT(engine) },
	{ "timeout", "SECONDS", "end the machine after that time, with exit status 124",
		OPTION_SECONDS, AT(timeout_ns) },
	{ "no-reboot", NULL, "a reset by the guest ends the machine, with exit status 0",
		OPTION_SWITCH, AT(no_reboot) },
	{ "trace", "KIND[,KIND...]=FILE", "write exits, instructions or interrupts to a file",
		OPTION_TEXT, AT(trace) },
	{ "log", "LEVEL",
		"messages on standard error: error, warning (default), info, guest or debug",
		OPTION_CHOICE, AT(log), .choices = log_levels },
	{ "stats", NULL, "print counters at the end", OPTION_SWITCH, AT(stats) },
	{ 0 },
};

const struct verb verbs_run = {
	.name = "run",
	.doc = "run a virtual machine; its first serial port is standard input and output, Ctrl-] "
	       "leaves",
	.options = options,
	.size = sizeof(struct values),
	.defaults = defaults,
	.run = run,
};
