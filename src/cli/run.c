/*
 * strata run: one machine in this process, its COM1 on standard input and output.
 *
 * On a terminal everything typed goes to the guest, Ctrl-C included; Ctrl-] leaves. Signals that
 * ask the process to end come through the sentinel to the event loop, so that they take the
 * ordinary way out when it is open.
 */
#include "base/log.h"
#include "cli/cpus_option.h"
#include "cli/disk_option.h"
#include "cli/display_option.h"
#include "cli/engine_options.h"
#include "cli/firmware_option.h"
#include "cli/net_option.h"
#include "cli/pin_option.h"
#include "cli/sentinel.h"
#include "cli/trace.h"
#include "cli/verbs.h"
#include "cli/vsock_option.h"
#include "machine/engines.h"
#include "machine/machine.h"
#include "os/fd.h"
#include "os/tty.h"
#include <errno.h>
#include <string.h>

/* Engines with switches, and the options that take them. */
#define TRANSLATE   "translate"
#define KVM	    "kvm"
#define ESCAPE_BYTE 0x1d /* Ctrl-] */

struct values {
	const char *engine, *kernel, *initrd, *append, *firmware, *trace, *translate, *kvm, *net,
		*vsock, *pin, *cpus, *display;
	u64 memory, timeout_ns;
	struct option_list disks, cdroms;
	unsigned log;
	bool no_reboot, no_sandbox, stats;
};

/* What the loop watches besides the machine. */
struct watch {
	struct machine *machine;
	struct loop loop;
	struct loop_source news; /* of the sentinel */
};

static void on_news(void *ctx)
{
	struct watch *w = ctx;

	fd_event_clear(w->news.fd);
	if (sentinel_resumed())
		tty_resume();
	int why = sentinel_asked();
	if (why == SENTINEL_TIME)
		machine_end(w->machine, MACHINE_TIMEOUT, 0, "the time is up");
	else if (why)
		machine_end(w->machine, MACHINE_SIGNAL, (u32)why, strsignal(why));
}

static int watch_open(struct watch *w, u64 timeout_ns, struct err *err)
{
	/* Writing where nobody reads or where a limit is reached is an error like others. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (loop_open(&w->loop, err))
		return err->code;
	w->news = (struct loop_source){
		.fd = sentinel_open(timeout_ns, err), .ready = on_news, .ctx = w
	};
	return w->news.fd < 0 ? err->code : loop_add(&w->loop, &w->news, err);
}

/* An engine's own option asks for that engine, too. */
static const struct cpu_engine *choose_engine(const struct values *v, struct err *err)
{
	if (!strcmp(v->engine, "auto"))
		return v->translate ? engines_named(TRANSLATE)
		       : v->kvm	    ? engines_named(KVM)
				    : engines_auto(err);
	/* Named by the user: run what opens, even where probe() would advise against it. */
	return engines_named(v->engine);
}

/* What the interpreter's handlers did for the guest; nothing to tell where hardware did it all. */
static void print_sensitive(const struct vcpu_stats *s, const struct cpu_engine *engine)
{
	const u64 *n = s->sensitive;

	if (!strcmp(engine->name, KVM)) {
		fprintf(stderr,
			"strata: sensitive instructions: handled by hardware and the kernel, "
			"not counted\n");
		return;
	}
	fprintf(stderr,
		"strata: handled in software: %llu privileged, %llu control-sensitive, "
		"%llu behaviour-sensitive instructions%s\n",
		(unsigned long long)n[X86_PRIVILEGED], (unsigned long long)n[X86_CONTROL_SENSITIVE],
		(unsigned long long)n[X86_BEHAVIOUR_SENSITIVE],
		strcmp(engine->name, TRANSLATE) ? "" : "; inline ones not counted");
}

static void print_stats(const struct machine *m, const struct cpu_engine *engine)
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
	print_sensitive(&s, engine);
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

static int run_machine(
	const struct values *v, const struct cpu_engine *engine, struct machine *m, struct watch *w)
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
		print_stats(m, engine);
	machine_report(m, stderr);
	return status_of(&result);
}

static int start(const struct values *v, const struct cpu_engine *engine, u32 engine_options,
	const struct vcpu_trace *trace, const struct machine_config *parts)
{
	struct watch w = { 0 };
	struct err err = { 0 };

	tty_guard();
	if (watch_open(&w, v->timeout_ns, &err))
		return fail(&err, CLI_FAILED);
	struct machine *m = machine_new(
		&(struct machine_config){
			.engine = engine,
			.engine_options = engine_options,
			.memory = v->memory,
			.cpus = parts->cpus,
			.topology = parts->topology,
			.numa = parts->numa,
			.pins = parts->pins,
			.kernel = v->kernel,
			.initrd = v->initrd,
			.append = v->append,
			.firmware = parts->firmware,
			.video_bios = parts->video_bios,
			.display = parts->display,
			.disks = parts->disks,
			.disk_count = parts->disk_count,
			.net = parts->net,
			.vsock = parts->vsock,
			.reset_ends = v->no_reboot,
			.input = STDIN_FILENO,
			.output = STDOUT_FILENO,
			.escape = isatty(STDIN_FILENO) ? ESCAPE_BYTE : -1,
			.sandbox = !v->no_sandbox,
			.trace = *trace,
		},
		&err);
	if (!m)
		return fail(&err, err.code == MACHINE_CANNOT ? CLI_CANNOT : CLI_FAILED);
	int status = tty_raw(STDIN_FILENO, &err) ? fail(&err, CLI_FAILED)
						 : run_machine(v, engine, m, &w);

	machine_free(m);
	return status;
}

static int parse_switches(const struct values *v, u32 *bits, struct err *err)
{
	if (v->translate && v->kvm)
		return err_set(err, -EINVAL, "--" TRANSLATE " and --" KVM " are for two engines");
	if (v->translate)
		return engine_options_parse(TRANSLATE, v->engine, v->translate, bits, err);
	return v->kvm ? engine_options_parse(KVM, v->engine, v->kvm, bits, err) : 0;
}

static int run_with(const struct values *v, const struct machine_config *parts)
{
	struct vcpu_trace trace;
	struct err err = { 0 };

	log_set_level((enum log_level)v->log);
	if (strcmp(v->engine, "auto") && !engines_named(v->engine)) {
		err_set(&err, -EINVAL,
			"run: --engine %.64s: no such engine; `strata host` lists them", v->engine);
		return fail(&err, CLI_USAGE);
	}
	u32 engine_options = 0;
	if (parse_switches(v, &engine_options, &err)) {
		err_wrap(&err, "run");
		return fail(&err, CLI_USAGE);
	}
	if (trace_open(&trace, v->trace, &err))
		return fail(&err, err.code == -EINVAL ? CLI_USAGE : CLI_FAILED);
	const struct cpu_engine *engine = choose_engine(v, &err);
	if (!engine)
		return fail(&err, CLI_CANNOT);

	int status = start(v, engine, engine_options, &trace, parts);
	if (trace_close(&trace, &err))
		return fail(&err, status ? status : CLI_FAILED);
	return status;
}

/* What boots: a kernel with what belongs to it, or firmware. -EINVAL: usage. */
static int choose_boot(const struct values *v, const char **firmware, struct err *err)
{
	const char *for_kernels = v->initrd ? "initrd" : v->append ? "append" : NULL;

	if (!v->kernel && !v->firmware)
		return err_set(err, -EINVAL,
			"--kernel FILE is missing; or --firmware seabios, which boots from a "
			"--disk");
	if (v->kernel && v->firmware)
		return err_set(err, -EINVAL, "--kernel and --firmware: one of them boots");
	if (v->firmware && for_kernels)
		return err_set(err, -EINVAL,
			"--%s goes with --kernel: with --firmware, the disk's boot loader decides",
			for_kernels);
	return v->firmware ? firmware_option_find(v->firmware, firmware, err) : 0;
}

static int run(const void *values)
{
	struct machine_disk_config disks[MACHINE_DISKS_MAX] = { 0 };
	const struct values *v = values;
	struct net_option net = { 0 };
	struct cpus_option cpus;
	int pins[MACHINE_CPUS_MAX];
	const char *firmware = NULL;
	struct vsock_option vsock = { 0 };
	struct display_option display = { 0 };
	const char *video_bios = NULL;
	struct err err = { 0 };
	bool network = false, sockets = false, screen = false;
	int status;

	if (choose_boot(v, &firmware, &err)) {
		err_wrap(&err, "run");
		return fail(&err, err.code == -EINVAL ? CLI_USAGE : CLI_FAILED);
	}
	unsigned disk_count = v->disks.count;
	if (display_option_parse(v->display, &display, &screen, &err) ||
		disk_option_parse(&v->disks, disks, &err) ||
		disk_option_cdroms(&v->cdroms, disks, &disk_count, &err) ||
		net_option_parse(v->net, &net, &network, &err) ||
		vsock_option_parse(v->vsock, &vsock, &sockets, &err) ||
		cpus_option_parse(v->cpus, &cpus, &err) ||
		(v->pin && pin_option_parse(v->pin, cpus.count, pins, &err))) {
		err_wrap(&err, "run");
		status = fail(&err, CLI_USAGE);
	} else if (screen && firmware && firmware_option_video(v->firmware, &video_bios, &err)) {
		err_wrap(&err, "run");
		status = fail(&err, CLI_FAILED);
	} else {
		status = run_with(v, &(struct machine_config){ .disks = disks,
					     .disk_count = disk_count,
					     .cpus = cpus.count,
					     .topology = cpus.topology,
					     .numa = cpus.numa,
					     .pins = v->pin ? pins : NULL,
					     .firmware = firmware,
					     .video_bios = video_bios,
					     .display = screen ? &display.config : NULL,
					     .net = network ? &net.config : NULL,
					     .vsock = sockets ? &vsock.config : NULL });
	}
	disk_option_free(disks);
	net_option_free(&net);
	vsock_option_free(&vsock);
	return status;
}

static void translate_help(FILE *to) { engine_options_help(TRANSLATE, to); }
static void kvm_help(FILE *to) { engine_options_help(KVM, to); }

static void defaults(void *values)
{
	*(struct values *)values = (struct values){
		.engine = "auto",
		.memory = 512 * MiB,
		.log = LOG_WARN,
	};
}

static const char *const log_levels[] = { "error", "warning", "info", "guest", "debug", NULL };

#define AT(member) offsetof(struct values, member)

static const struct option_row options[] = {
	{ "kernel", "FILE", "bzImage, vmlinux, PVH or multiboot ELF, BIOS image or boot sector",
		OPTION_TEXT, AT(kernel) },
	{ "initrd", "FILE", "initial RAM disk, or a multiboot module", OPTION_TEXT, AT(initrd) },
	{ "append", "TEXT", "kernel command line", OPTION_TEXT, AT(append) },
	{ "firmware", "NAME|FILE", "instead of a kernel: boot from a disk, by this firmware:",
		OPTION_TEXT, AT(firmware), .more = firmware_option_help },
	{ "disk", "FILE[,NAME=VALUE...]",
		"a disk image; several, in this order, with these options:", OPTION_LIST, AT(disks),
		.more = disk_option_help },
	{ "cdrom", "FILE", "a disc's image in a CD-ROM drive; several, each in its own",
		OPTION_LIST, AT(cdroms) },
	{ "net", "KIND[,NAME=VALUE...]", "a network:", OPTION_TEXT, AT(net),
		.more = net_option_help },
	{ "display", "KIND[,NAME=VALUE...]", "a screen, for keyboard and mouse, too:", OPTION_TEXT,
		AT(display), .more = display_option_help },
	{ "vsock", "PATH[,cid=N]",
		"a socket device: connect to PATH and write \"CONNECT port\"; the guest's own "
		"connections go to PATH_port",
		OPTION_TEXT, AT(vsock) },
	{ "memory", "SIZE", "guest memory, with K, M, G or T (default 512M)", OPTION_SIZE,
		AT(memory), MACHINE_MEMORY_MIN, MACHINE_MEMORY_MAX },
	{ "cpus", "N[,NAME=VALUE...]", "processors, 1 to 8 (default 1), with these options:",
		OPTION_TEXT, AT(cpus), .more = cpus_option_help },
	{ "pin", "CPU[,CPU...]",
		"the host's processors that they run on, one for each (default: any)", OPTION_TEXT,
		AT(pin) },
	{ "engine", "NAME",
		"auto, kvm, translate or interpret (default auto: the fastest that works here)",
		OPTION_TEXT, AT(engine) },
	{ TRANSLATE, "NAME[,NAME...]", "run under the translator, with these switches:",
		OPTION_TEXT, AT(translate), .more = translate_help },
	{ KVM, "NAME[,NAME...]", "run under KVM, with these switches:", OPTION_TEXT, AT(kvm),
		.more = kvm_help },
	{ "timeout", "SECONDS", "end the machine after that time, with exit status 124",
		OPTION_SECONDS, AT(timeout_ns) },
	{ "no-reboot", NULL, "a reset by the guest ends the machine, with exit status 0",
		OPTION_SWITCH, AT(no_reboot) },
	{ "no-sandbox", NULL, "keep privileges and all system calls, for debuggers and Valgrind",
		OPTION_SWITCH, AT(no_sandbox) },
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
