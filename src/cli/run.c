/*
 * strata run: one machine in this process, its COM1 on standard input and output; or, detached, in
 * a process of its own (life.h).
 *
 * On a terminal everything typed goes to the guest, Ctrl-C included; Ctrl-] leaves. Signals that
 * ask the process to end come through the sentinel to the event loop, so that they take the
 * ordinary way out when it is open.
 */
#include "cli/run.h"
#include "base/log.h"
#include "cli/admission.h"
#include "cli/cpus_option.h"
#include "cli/disk_option.h"
#include "cli/display_option.h"
#include "cli/engine_options.h"
#include "cli/firmware_option.h"
#include "cli/life.h"
#include "cli/limits.h"
#include "cli/net_option.h"
#include "cli/pin_option.h"
#include "cli/port_option.h"
#include "cli/sentinel.h"
#include "cli/share_option.h"
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
#define TRANSLATE      "translate"
#define KVM	       "kvm"
#define ESCAPE_BYTE    0x1d /* Ctrl-] */
#define MEMORY	       (512 * MiB)
#define CONSOLE_VIRTIO 1 /* of consoles[] */
#define NO_BALLOON     UINT64_MAX

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
static const struct cpu_engine *choose_engine(const struct run_values *v, struct err *err)
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

static void print_stats(struct machine *m, const struct cpu_engine *engine)
{
	struct machine_balloon_report balloon;
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
	if (!machine_balloon_report(m, &balloon))
		fprintf(stderr, "strata: balloon: %llu MiB were given back\n",
			(unsigned long long)(balloon.given / MiB));
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

static int run_machine(const struct run_values *v, const struct cpu_engine *engine,
	struct machine *m, struct watch *w, struct life *life)
{
	struct machine_result result = { 0 };
	struct err err = { 0 };

	w->machine = m;
	int rc = machine_run(m, &w->loop, &result, &err);
	tty_restore();
	if (rc == -ETIMEDOUT) {
		/* A thread is lost: nothing it may still use can be freed. */
		int status = result.why ? status_of(&result) : CLI_FAILED;

		fail(&err, 0);
		life_end(life, status, err.text);
		_exit(status);
	}
	if (rc) {
		life_end(life, CLI_FAILED, err.text);
		return fail(&err, CLI_FAILED);
	}
	life_end(life, status_of(&result), result.text);
	if (result.why == MACHINE_SHUTDOWN || result.why == MACHINE_ERROR)
		fprintf(stderr, "strata: %s\n", result.text);
	else
		log_info("run", "%s", result.text);
	if (v->stats)
		print_stats(m, engine);
	machine_report(m, stderr);
	return status_of(&result);
}

static u64 memory_of(const struct run_values *v) { return v->memory ? v->memory : MEMORY; }

/* What of the host it may have, before it takes anything. */
static int claim(const struct run_values *v, const struct life *life, struct err *err)
{
	const struct store_machine *m = life_machine(life);
	struct limits_option limits;

	if (admission_ask(m, memory_of(v), v->overcommit, err))
		return err->code;
	return !m || limits_option_parse(v->limits, &limits, err) || limits_enter(m, &limits, err)
		       ? err->code
		       : 0;
}

static int start(const struct run_values *v, const struct cpu_engine *engine, u32 engine_options,
	const struct vcpu_trace *trace, const struct machine_config *parts, struct life *life)
{
	struct watch w = { 0 };
	struct err err = { 0 };

	if (claim(v, life, &err))
		return fail(&err, CLI_CANNOT);
	tty_guard();
	if (watch_open(&w, v->timeout_ns, &err))
		return fail(&err, CLI_FAILED);
	struct machine_config config = {
		.engine = engine,
		.engine_options = engine_options,
		.memory = memory_of(v),
		.cpus = parts->cpus,
		.topology = parts->topology,
		.numa = parts->numa,
		.pins = parts->pins,
		.kernel = v->kernel,
		.initrd = v->initrd,
		.append = v->append,
		.firmware = parts->firmware,
		.flash = parts->flash,
		.flash_file = parts->flash_file,
		.video_bios = parts->video_bios,
		.display = parts->display,
		.disks = parts->disks,
		.disk_count = parts->disk_count,
		.net = parts->net,
		.vsock = parts->vsock,
		.virtio_console = v->console == CONSOLE_VIRTIO,
		.ports = parts->ports,
		.port_count = parts->port_count,
		.shares = parts->shares,
		.share_count = parts->share_count,
		.balloon = parts->balloon,
		.reset_ends = v->no_reboot,
		.input = STDIN_FILENO,
		.output = STDOUT_FILENO,
		.escape = isatty(STDIN_FILENO) ? ESCAPE_BYTE : -1,
		.sandbox = !v->no_sandbox,
		.trace = *trace,
	};
	struct machine *m =
		life_begin(life, &config, &w.loop, &err) ? NULL : machine_new(&config, &err);
	int status = err.code == MACHINE_CANNOT ? CLI_CANNOT : CLI_FAILED;

	if (m)
		life_watch(life, m);
	if (!m || tty_raw(STDIN_FILENO, &err)) {
		fail(&err, status);
		life_end(life, status, NULL);
	} else {
		status = run_machine(v, engine, m, &w, life);
	}
	machine_free(m);
	return status;
}

static int parse_switches(const struct run_values *v, u32 *bits, struct err *err)
{
	if (v->translate && v->kvm)
		return err_set(err, -EINVAL, "--" TRANSLATE " and --" KVM " are for two engines");
	if (v->translate)
		return engine_options_parse(TRANSLATE, v->engine, v->translate, bits, err);
	return v->kvm ? engine_options_parse(KVM, v->engine, v->kvm, bits, err) : 0;
}

static int check_engine(const struct run_values *v, struct err *err)
{
	if (!strcmp(v->engine, "auto") || engines_named(v->engine))
		return 0;
	return err_set(err, -EINVAL, "--engine %.64s: no such engine; `strata host` lists them",
		v->engine);
}

static int run_with(
	const struct run_values *v, const struct machine_config *parts, struct life *life)
{
	struct vcpu_trace trace;
	struct err err = { 0 };

	log_set_level((enum log_level)v->log);
	u32 engine_options = 0;
	if (check_engine(v, &err) || parse_switches(v, &engine_options, &err)) {
		err_wrap(&err, "run");
		return fail(&err, CLI_USAGE);
	}
	if (trace_open(&trace, v->trace, &err))
		return fail(&err, err.code == -EINVAL ? CLI_USAGE : CLI_FAILED);
	const struct cpu_engine *engine = choose_engine(v, &err);
	if (!engine)
		return fail(&err, CLI_CANNOT);

	int status = start(v, engine, engine_options, &trace, parts, life);
	if (trace_close(&trace, &err))
		return fail(&err, status ? status : CLI_FAILED);
	return status;
}

/* What boots: a kernel with what belongs to it, or firmware. -EINVAL: usage. */
static int choose_boot(const struct run_values *v, struct err *err)
{
	const char *for_kernels = v->initrd ? "initrd" : v->append ? "append" : NULL;

	if (!v->kernel && !v->firmware)
		return err_set(err, -EINVAL,
			"--kernel FILE is missing; or an image, such as debian:12; or --firmware "
			"seabios, "
			"which boots from a --disk");
	if (v->kernel && v->firmware)
		return err_set(err, -EINVAL, "--kernel and --firmware: one of them boots");
	if (v->firmware && for_kernels)
		return err_set(err, -EINVAL,
			"--%s goes with --kernel: with --firmware, the disk's boot loader decides",
			for_kernels);
	return 0;
}

/* What the options say of the machine's parts, taken apart. */
struct parts {
	struct machine_disk_config disks[MACHINE_DISKS_MAX];
	struct net_option net;
	struct vsock_option vsock;
	struct machine_share_config shares[MACHINE_SHARES_MAX];
	struct machine_port_config ports[MACHINE_PORTS_MAX];
	struct machine_balloon_config balloon;
	struct display_option display;
	struct cpus_option cpus;
	int pins[MACHINE_CPUS_MAX];
	struct firmware_option firmware;
	unsigned disk_count;
	bool network, sockets, screen;
};

static int check_balloon(const struct run_values *v, struct err *err)
{
	if (v->balloon == NO_BALLOON || v->balloon < v->memory)
		return 0;
	return err_set(err, -EINVAL,
		"--balloon: the guest cannot give back all of its %llu MiB; ask for less, or give "
		"it more with --memory",
		(unsigned long long)(v->memory / MiB));
}

/* A guest with a balloon may be content with less than it has. */
static int check_limits(const struct run_values *v, struct err *err)
{
	struct limits_option o;

	if (limits_option_parse(v->limits, &o, err))
		return err->code;
	return v->balloon == NO_BALLOON ? limits_option_check(&o, memory_of(v), err) : 0;
}

static void free_parts(struct parts *p)
{
	disk_option_free(p->disks);
	net_option_free(&p->net);
	vsock_option_free(&p->vsock);
	share_option_free(p->shares);
	port_option_free(p->ports);
	firmware_option_free(&p->firmware);
}

/* -EINVAL: usage. Nothing is opened. */
static int parse_parts(const struct run_values *v, struct parts *p, struct err *err)
{
	*p = (struct parts){ .disk_count = v->disks.count };
	if (choose_boot(v, err))
		return err->code;
	if (display_option_parse(v->display, &p->display, &p->screen, err) ||
		disk_option_parse(&v->disks, p->disks, err) ||
		disk_option_cdroms(&v->cdroms, p->disks, &p->disk_count, err) ||
		net_option_parse(v->net, &p->net, &p->network, err) ||
		vsock_option_parse(v->vsock, &p->vsock, &p->sockets, err) ||
		share_option_parse(&v->shares, p->shares, err) ||
		port_option_parse(&v->ports, p->ports, err) || check_balloon(v, err) ||
		check_limits(v, err) || cpus_option_parse(v->cpus, &p->cpus, err) ||
		(v->pin && pin_option_parse(v->pin, p->cpus.count, p->pins, err)))
		return err->code = -EINVAL;
	p->balloon.target = v->balloon;
	return firmware_option_parse(v->firmware, p->screen, &p->firmware, err);
}

static int fail_parts(const char *verb, struct err *err)
{
	err_wrap(err, "%s", verb);
	return fail(err, err->code == -EINVAL ? CLI_USAGE : CLI_FAILED);
}

int run_check(const struct run_values *v, struct err *err)
{
	struct parts p;
	u32 bits;
	int rc = parse_parts(v, &p, err);

	free_parts(&p);
	return rc || check_engine(v, err) || parse_switches(v, &bits, err) ? err->code : 0;
}

int run_checked(const struct run_values *v, const char *verb)
{
	struct err err = { 0 };

	return run_check(v, &err) ? fail_parts(verb, &err) : CLI_OK;
}

int run_machine_of(const struct run_values *v, struct life *life)
{
	struct err err = { 0 };
	struct parts p;
	int status = parse_parts(v, &p, &err) ? fail_parts("run", &err) : CLI_OK;

	if (!status)
		status = run_with(v,
			&(struct machine_config){ .disks = p.disks,
				.disk_count = p.disk_count,
				.cpus = p.cpus.count,
				.topology = p.cpus.topology,
				.numa = p.cpus.numa,
				.pins = v->pin ? p.pins : NULL,
				.firmware = p.firmware.path,
				.flash = p.firmware.flash,
				.flash_file = p.firmware.vars,
				.video_bios = p.firmware.video,
				.display = p.screen ? &p.display.config : NULL,
				.net = p.network ? &p.net.config : NULL,
				.ports = p.ports,
				.port_count = v->ports.count,
				.shares = p.shares,
				.share_count = v->shares.count,
				.vsock = p.sockets ? &p.vsock.config : NULL,
				.balloon = v->balloon == NO_BALLOON ? NULL : &p.balloon },
			life);
	free_parts(&p);
	return status;
}

static int run(const void *values)
{
	const struct run_values *v = values;
	struct err err = { 0 };

	if (v->name || v->image)
		return life_run(v);
	const char *named = v->detach ? "detach" : v->remove ? "rm" : v->limits ? "limits" : NULL;

	if (!named)
		return run_machine_of(v, NULL);
	err_set(&err, -EINVAL, "run: --%s needs a name by which the machine is known: --name NAME",
		named);
	return fail(&err, CLI_USAGE);
}

static void translate_help(FILE *to) { engine_options_help(TRANSLATE, to); }
static void kvm_help(FILE *to) { engine_options_help(KVM, to); }

void run_defaults(void *values)
{
	*(struct run_values *)values = (struct run_values){
		.engine = "auto",
		.balloon = NO_BALLOON,
		.log = LOG_WARN,
	};
}

static const char *const log_levels[] = { "error", "warning", "info", "guest", "debug", NULL };

#define AT(member) offsetof(struct run_values, member)

static const char *const consoles[] = { "serial", "virtio", NULL };

const struct option_row create_options[] = {
	{ "file", "FILE",
		"what the machine is, as `strata show` prints it: options of run by "
		"name, a list of values where there are several; besides, name and image",
		OPTION_TEXT, AT(file), .once = true, .letter = 'f' },
	{ "IMAGE", NULL,
		"make a machine of that image, with a disk of its own; debian:12 is built if it is "
		"not there",
		OPTION_OPERAND, AT(image) },
	{ "kernel", "FILE", "bzImage, vmlinux, PVH or multiboot ELF, BIOS image or boot sector",
		OPTION_TEXT, AT(kernel) },
	{ "initrd", "FILE", "initial RAM disk, or a multiboot module", OPTION_TEXT, AT(initrd) },
	{ "append", "TEXT", "kernel command line", OPTION_TEXT, AT(append) },
	{ "firmware", "NAME|FILE[,vars=FILE]",
		"instead of a kernel: boot from a disk, by this firmware:", OPTION_TEXT,
		AT(firmware), .more = firmware_option_help },
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
	{ "console", "KIND",
		"what the guest has for its console: serial (ttyS0, default) or virtio (hvc0)",
		OPTION_CHOICE, AT(console), .choices = consoles },
	{ "port", "NAME=SOCKET",
		"a stream between the guest (/dev/virtio-ports/NAME) and whoever connects to the "
		"host's SOCKET; once more for another",
		OPTION_LIST, AT(ports) },
	{ "share", "FOLDER:TAG[,readonly]",
		"a folder of the host that the guest may mount (\"mount -t virtiofs TAG /mnt\"); "
		"once more for another",
		OPTION_LIST, AT(shares) },
	{ "memory", "SIZE", "guest memory, with K, M, G or T (default 512M; 1G with an image)",
		OPTION_SIZE, AT(memory), MACHINE_MEMORY_MIN, MACHINE_MEMORY_MAX },
	{ "balloon", "SIZE",
		"a memory balloon: memory that the guest has freed goes back to the host, and so "
		"much, at least, from the start (0: none)",
		OPTION_SIZE, AT(balloon), 0, MACHINE_MEMORY_MAX },
	{ "overcommit", NULL,
		"run it although this host may not have the memory, beside what it has promised to "
		"other machines",
		OPTION_SWITCH, AT(overcommit) },
	{ "limits", "NAME=VALUE[,NAME=VALUE...]",
		"what the machine takes of the host, by a control group; needs a name or an image:",
		OPTION_TEXT, AT(limits), .more = limits_option_help },
	{ "cpus", "N[,NAME=VALUE...]",
		"processors, 1 to 8 (default 1; 2 with an image), with these options:", OPTION_TEXT,
		AT(cpus), .more = cpus_option_help },
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
	{ "trace", "KIND[,KIND...]=FILE",
		"write exits, instructions, interrupts, or the way of disk and network requests "
		"to a file",
		OPTION_TEXT, AT(trace) },
	{ "log", "LEVEL",
		"messages on standard error: error, warning (default), info, guest or debug",
		OPTION_CHOICE, AT(log), .choices = log_levels },
	{ "user", "NAME", "with an image: a user besides root, whom `strata ssh` logs in as",
		OPTION_TEXT, AT(user) },
	{ "name", "NAME", "keep the machine under that name: `strata ls` shows it", OPTION_TEXT,
		AT(name), .once = true },
	{ "detach", NULL, "run it in the background; needs a name or an image", OPTION_SWITCH,
		AT(detach), .once = true },
	{ "rm", NULL, "forget the machine once it has ended; needs a name or an image",
		OPTION_SWITCH, AT(remove), .once = true },
	{ "stats", NULL, "print counters at the end", OPTION_SWITCH, AT(stats) },
	{ 0 },
};

const struct verb verbs_run = {
	.name = "run",
	.doc = "run a virtual machine; its first serial port is standard input and output, Ctrl-] "
	       "leaves",
	.options = run_options,
	.size = sizeof(struct run_values),
	.defaults = run_defaults,
	.run = run,
};
