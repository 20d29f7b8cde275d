#include "cli/life.h"
#include "base/scope.h"
#include "cli/attach.h"
#include "cli/clone.h"
#include "cli/version.h"
#include "control/control.h"
#include "os/fd.h"
#include "os/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MONITOR_LOG  "monitor.log"
#define MESSAGES_MAX 4096u

struct life {
	struct store_machine at;
	struct control *control;
	struct machine *machine;
	const struct machine_config *config;
	struct store_outcome outcome;
	struct loop *loop;
	struct loop_source began; /* readable once the loop turns */
	bool detached;
	int outcome_fd, log[2];
	int ready;			  /* of the pipe to the command; -1: nobody waits */
	const struct life_origin *origin; /* NULL: it is powered on */
	char *config_text;		  /* machine.yaml, for whoever saves it */
	u64 born;			  /* likewise */
	char address[128];
};

static int fail(const char *verb, const struct err *err, int status)
{
	fprintf(stderr, "strata: %s: %s\n", verb, err->text);
	return status;
}

/* ---- what the control socket can do ---- */

static const char *const state_names[] = {
	[MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",
	[MACHINE_FULL] = "full",
	[MACHINE_SAVING] = "saving",
	[MACHINE_ENDING] = "ending",
};

static void op_status(void *ctx, struct control_status *s)
{
	struct life *l = ctx;
	struct machine_counts c = machine_counts(l->machine);
	struct timespec cpu = { 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	*s = (struct control_status){
		.state = state_names[machine_state(l->machine)],
		.engine = l->config->engine->name,
		.cpus = l->config->cpus,
		.memory = l->config->memory,
		.held = machine_held(l->machine),
		.guest_ns = machine_run_ns(l->machine),
		.address = l->address[0] ? l->address : NULL,
		.network = machine_has_address(l->machine),
		.cpu_ns = (u64)cpu.tv_sec * 1000000000u + (u64)cpu.tv_nsec,
		.port_ios = c.port_ios,
		.mmios = c.mmios,
		.interrupts = c.interrupts,
		.disk_read = c.disk_read,
		.disk_written = c.disk_written,
		.net_sent = c.net_sent,
		.net_received = c.net_received,
		.instructions = c.cpu.instructions,
		.code_exits = c.cpu.exits,
		.code_misses = c.cpu.misses,
		.counting = c.cpu.counting,
	};
}

static int op_pause(void *ctx, struct err *err)
{
	return machine_pause(((struct life *)ctx)->machine, err);
}

static int op_resume(void *ctx, struct err *err)
{
	return machine_resume(((struct life *)ctx)->machine, err);
}

static int op_stop(void *ctx, struct err *err)
{
	machine_power_button(((struct life *)ctx)->machine);
	return 0;
}

/* One whose file is whole has not been killed: it is there now. */
static int op_kill(void *ctx, struct err *err)
{
	struct machine *m = ((struct life *)ctx)->machine;
	struct machine_saving s = machine_save_look(m);

	if (s.done && !s.rc)
		machine_end(m, MACHINE_ESCAPE, 0, LIFE_SAVED);
	else
		machine_end(m, MACHINE_SIGNAL, SIGKILL, "killed by its owner");
	return 0;
}

static int op_reset(void *ctx, struct err *err)
{
	struct machine *m = ((struct life *)ctx)->machine;

	if (machine_state(m) == MACHINE_SAVING)
		return err_set(err, -EBUSY, "the machine is being saved");
	machine_reset(m);
	return 0;
}

static int op_count(void *ctx, bool on, struct err *err)
{
	int rc = machine_count(((struct life *)ctx)->machine, on);

	return rc ? err_set(err, rc, "its engine does not see instructions") : 0;
}

static int op_save(void *ctx, int take_fd, struct err *err)
{
	struct life *l = ctx;
	const struct machine_note notes[] = {
		{ LIFE_NAME, l->at.name, strlen(l->at.name) },
		{ LIFE_CONFIG, l->config_text, strlen(l->config_text) },
		{ LIFE_BORN, &l->born, sizeof(l->born) },
	};

	return machine_save_to(l->machine, take_fd, notes, ARRAY_LEN(notes), err);
}

static int op_saving(void *ctx, struct control_saving *saving, struct err *err)
{
	struct machine_saving s = machine_save_look(((struct life *)ctx)->machine);

	*saving = (struct control_saving){ .done = s.done, .written = s.written, .total = s.total };
	if (!s.under_way && !s.done)
		return err_set(err, -EINVAL, "the machine is not being saved");
	return s.done && s.rc ? err_set(err, s.rc, "writing the file: %s", strerror(-s.rc)) : 0;
}

/* Of a machine that ends there is nothing to go on. */
static void op_save_end(void *ctx)
{
	struct machine *m = ((struct life *)ctx)->machine;

	if (machine_state(m) != MACHINE_ENDING)
		machine_save_end(m);
}

static int op_balloon(void *ctx, const u64 *target, struct control_balloon *b, struct err *err)
{
	const u32 told = BIT(BALLOON_FREE) | BIT(BALLOON_AVAILABLE) | BIT(BALLOON_TOTAL);
	struct machine_balloon_report r;
	struct life *l = ctx;
	int rc = target ? machine_balloon_set(l->machine, *target) : 0;

	if (rc == -EINVAL)
		return err_set(err, rc, "the guest cannot give back all of its %llu MiB",
			(unsigned long long)(l->config->memory / MiB));
	rc = rc ? rc : machine_balloon_report(l->machine, &r);
	if (rc)
		return err_set(err, rc, "it has no balloon; it gets one with --balloon 0");
	*b = (struct control_balloon){
		.target = r.target,
		.actual = r.actual,
		.given = r.given,
		.told = (r.known & told) == told,
		.free = r.stats[BALLOON_FREE],
		.available = r.stats[BALLOON_AVAILABLE],
		.total = r.stats[BALLOON_TOTAL],
	};
	return 0;
}

static int op_attach(
	void *ctx, const struct control_attach *a, char name[CONTROL_DEVICE_MAX], struct err *err)
{
	return attach_to(((struct life *)ctx)->machine, a, name, err);
}

static int op_detach(void *ctx, const char *name, struct err *err)
{
	struct machine *m = ((struct life *)ctx)->machine;

	if (machine_state(m) != MACHINE_RUNNING)
		return err_set(err, -EBUSY,
			"it is %s: a guest that does not run lets go of nothing; `strata resume` "
			"it first",
			state_names[machine_state(m)]);
	return machine_detach(m, name, err);
}

static bool op_attached(void *ctx, unsigned n, struct control_device *d)
{
	struct machine_attached a;

	for (unsigned i = 0; i < MACHINE_HOT_MAX; i++)
		if (machine_attached(((struct life *)ctx)->machine, i, &a) && !n--) {
			*d = (struct control_device){ a.name, a.about, a.leaving };
			return true;
		}
	return false;
}

static const struct control_ops ops = {
	.status = op_status,
	.pause = op_pause,
	.resume = op_resume,
	.stop = op_stop,
	.kill = op_kill,
	.reset = op_reset,
	.count = op_count,
	.balloon = op_balloon,
	.attach = op_attach,
	.detach = op_detach,
	.attached = op_attached,
	.save = op_save,
	.saving = op_saving,
	.save_end = op_save_end,
};

static void on_event(void *ctx, enum machine_event what, const char *text)
{
	static const char *const names[] = {
		[MACHINE_EVENT_PAUSED] = "paused",
		[MACHINE_EVENT_RESUMED] = "resumed",
		[MACHINE_EVENT_RESET] = "reset",
		[MACHINE_EVENT_DETACHED] = "detached",
	};

	control_event(((struct life *)ctx)->control, names[what], text);
}

/* ---- beginning and ending ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Ways in from the host: "127.0.0.1:2222->22". */
static void describe_address(struct life *l, const struct machine_net_config *net)
{
	size_t used = 0;

	l->address[0] = '\0';
	for (unsigned i = 0; net && i < net->forward_count && used < sizeof(l->address); i++) {
		const struct net_forward *f = &net->forwards[i];
		u32 a = f->host;
		int n = snprintf(l->address + used, sizeof(l->address) - used,
			"%s%u.%u.%u.%u:%u->%s%u", i ? " " : "", a >> 24, a >> 16 & 255,
			a >> 8 & 255, a & 255, f->host_port, f->udp ? "udp:" : "", f->guest_port);

		used += (size_t)n;
	}
}

/* The loop turns, so that guest code runs, and the sandbox is closed. */
static void on_began(void *ctx)
{
	struct life *l = ctx;

	loop_remove(l->loop, &l->began);
	close(l->began.fd);
	l->outcome.pid = getpid();
	l->outcome.since = time(NULL);
	store_outcome_write(l->outcome_fd, true, &l->outcome);
	if (l->ready >= 0) {
		(void)!write(l->ready, "r", 1);
		close(l->ready);
		l->ready = -1;
	}
}

static int open_files(struct life *l, struct err *err)
{
	l->config_text = store_config_text(&l->at, err);
	l->born = store_born(&l->at);
	if (!l->config_text)
		return err->code;
	l->outcome_fd = store_outcome_open(&l->at, err);
	if (l->outcome_fd < 0)
		return err->code;
	for (unsigned i = 0; l->detached && i < 2; i++) {
		l->log[i] = store_log(&l->at, i ? "console.1" : "console.0", err);
		if (l->log[i] < 0)
			return err->code;
	}
	return 0;
}

const struct store_machine *life_machine(const struct life *l) { return l ? &l->at : NULL; }

int life_begin(struct life *l, struct machine_config *config, struct loop *loop, struct err *err)
{
	if (!l)
		return 0;
	if (open_files(l, err))
		return err->code;
	const struct control_config control = {
		.version = STRATA_VERSION,
		.name = l->at.name,
		.folder = l->at.folder,
		.log = { l->log[0], l->log[1] },
		.ops = &ops,
		.ctx = l,
	};

	describe_address(l, config->net);
	l->config = config;
	l->loop = loop;
	l->control = control_open(&control, loop, err);
	if (!l->control)
		return err->code;
	if (l->detached) {
		config->input = config->output = control_console(l->control);
		config->escape = -1;
	}
	config->sandbox_needs = SANDBOX_CONTROL;
	config->hotplug = true;
	config->saves = true;
	if (l->origin) {
		config->saved = l->origin->saved;
		config->away_max_ns = l->origin->away_max_ns;
	}
	config->event = on_event;
	config->event_ctx = l;
	l->began = (struct loop_source){ .fd = fd_event(err), .ready = on_began, .ctx = l };
	if (l->began.fd < 0)
		return err->code;
	fd_event_set(l->began.fd);
	return loop_add(loop, &l->began, err);
}

void life_watch(struct life *l, struct machine *m)
{
	if (l)
		l->machine = m;
}

void life_end(struct life *l, int status, const char *text)
{
	if (!l)
		return;
	if (text && l->outcome.since) {
		l->outcome.until = time(NULL);
		l->outcome.status = status;
		snprintf(l->outcome.text, sizeof(l->outcome.text), "%s", text);
		store_outcome_write(l->outcome_fd, false, &l->outcome);
	}
	control_close(l->control, text ? text : "");
	l->control = NULL;
	for (unsigned i = 0; i < 2; i++)
		close_fd(&l->log[i]);
	close_fd(&l->outcome_fd);
	free(l->config_text);
	l->config_text = NULL;
}

/* ---- in the background ---- */

/* In the child: its own session, nothing of the command's. -errno with err. */
static int leave(struct life *l, struct err *err)
{
	AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
	AUTO_FD log = store_log(&l->at, MONITOR_LOG, err);

	if (null < 0 || log < 0)
		return err_set(err, -errno, MONITOR_LOG ": %s", strerror(errno));
	if (ftruncate(log, 0) || setsid() < 0 || dup2(null, STDIN_FILENO) < 0 ||
		dup2(log, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0)
		return err_set(err, -errno, "%s", strerror(errno));
	return 0;
}

/* What the monitor said before it ended, in its own words. */
static void show_messages(const struct store_machine *at)
{
	AUTO_FD fd = openat(at->folder, MONITOR_LOG, O_RDONLY | O_CLOEXEC);
	char text[MESSAGES_MAX];
	ssize_t len = fd < 0 ? 0 : read(fd, text, sizeof(text));

	fflush(stdout);
	if (len > 0)
		(void)!write(STDERR_FILENO, text, (size_t)len);
}

/* In the command: true once the guest runs; otherwise the monitor's exit status. */
static bool wait_for(pid_t child, int pipe, int *status)
{
	int how = 0;
	char byte;
	ssize_t n;

	do
		n = read(pipe, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return true;
	while (waitpid(child, &how, 0) < 0 && errno == EINTR)
		;
	*status = WIFEXITED(how) ? WEXITSTATUS(how) : CLI_SIGNAL + WTERMSIG(how);
	return false;
}

/* *began: the guest has run, or runs. */
static int run_detached(struct life *l, const struct run_values *v, const char *verb, bool *began)
{
	struct err err = { 0 };
	int ends[2], status = CLI_OK;

	if (pipe2(ends, O_CLOEXEC))
		return fail(verb, (err_set(&err, -errno, "pipe: %s", strerror(errno)), &err),
			CLI_FAILED);
	fflush(stdout);
	fflush(stderr);
	pid_t child = fork();

	if (!child) {
		close(ends[0]);
		l->ready = ends[1];
		l->detached = true;
		exit(leave(l, &err) ? fail(verb, &err, CLI_FAILED) : run_machine_of(v, l));
	}
	close(ends[1]);
	if (child < 0)
		fail(verb, (err_set(&err, -errno, "fork: %s", strerror(errno)), &err), CLI_FAILED);
	*began = child > 0 && wait_for(child, ends[0], &status);
	close(ends[0]);
	if (child < 0)
		return CLI_FAILED;
	if (*began)
		printf("%s\n", l->at.name);
	else
		show_messages(&l->at);
	return status;
}

/* ---- verbs ---- */

static void init(struct life *l)
{
	*l = (struct life){
		.at = { .folder = -1, .lock = -1 }, .outcome_fd = -1, .log = { -1, -1 }, .ready = -1
	};
}

struct collect {
	struct store_config *config;
	struct err *err;
};

static int collect_one(void *ctx, const char *name, const char *text)
{
	struct collect *c = ctx;

	return store_config_add(c->config, name, text, 0, c->err);
}

/* Paths in the options are relative to where the user is now. */
static int make_config(const struct run_values *v, struct store_config *config, struct err *err)
{
	struct collect c = { config, err };
	struct run_values usual;
	AUTO_FREE char *here = getcwd(NULL, 0);

	run_defaults(&usual);
	if (!here)
		return err_set(err, -errno, "the current folder: %s", strerror(errno));
	if (store_config_add(config, "folder", here, 0, err))
		return err->code;
	return options_each(run_options, v, &usual, collect_one, &c);
}

static int fail_at(const char *verb, const struct err *err)
{
	return fail(verb, err, err->code == -EINVAL ? CLI_USAGE : CLI_FAILED);
}

/* The clone is NULL without an image. */
static int make(struct life *l, const struct run_values *v, struct clone *c, bool ephemeral,
	const char *verb)
{
	struct store_config config = { 0 };
	struct err err = { 0 };
	const struct store_new n = {
		.config = &config, .ephemeral = ephemeral, .fill = c ? clone_fill : NULL, .ctx = c
	};
	int rc = make_config(v, &config, &err) || store_create(&l->at, v->name, &n, &err);

	store_config_free(&config);
	if (c)
		clone_made(c);
	return rc ? fail_at(verb, &err) : CLI_OK;
}

/* From an image: *v becomes what it says. */
static int begin_clone(struct clone *c, const struct run_values **v, const char *verb)
{
	struct err err = { 0 };

	if (clone_begin(c, *v, &err)) {
		clone_free(c);
		return fail_at(verb, &err);
	}
	*v = &c->values;
	return CLI_OK;
}

/* To a person at a terminal. */
static void say_how(const struct life *l, const struct run_values *v, const struct clone *c)
{
	if (!c || v->detach || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "strata: machine %s, from image %s; Ctrl-] ends it%s\n", l->at.name,
		v->image, c->seeded ? "" : "; it has no seed");
	if (c->seeded && c->net)
		fprintf(stderr,
			"strata: log in as root, without a password; or, elsewhere: strata ssh "
			"%s\n",
			l->at.name);
}

/* What has never run is no machine to keep, and the name is free again. */
static int run_made(struct life *l, const struct run_values *v, const struct clone *c)
{
	struct err err = { 0 };
	bool began = false;
	int status;

	if (v->detach) {
		status = run_detached(l, v, "run", &began);
	} else {
		say_how(l, v, c);
		status = run_machine_of(v, l);
		began = l->outcome.since;
	}
	if (!began && store_remove(&l->at, &err))
		fail("run", &err, 0);
	else if (began && c && !v->detach && !v->remove && isatty(STDIN_FILENO))
		fprintf(stderr,
			"strata: machine %s is kept: `strata start %s --attach` starts it, "
			"`strata rm %s` removes it\n",
			l->at.name, l->at.name, l->at.name);
	return status;
}

/* Makes a machine, of an image perhaps, and does something with it. */
static int with_new(const struct run_values *v, const char *verb, bool ephemeral,
	int (*use)(struct life *l, const struct run_values *v, const struct clone *c))
{
	struct clone clone, *c = v->image ? &clone : NULL;
	struct life l;
	int status = c ? begin_clone(c, &v, verb) : CLI_OK;

	init(&l);
	if (status)
		return status;
	status = run_checked(v, verb);
	if (!status)
		status = make(&l, v, c, ephemeral, verb);
	if (!status)
		status = use(&l, v, c);
	store_close(&l.at);
	if (c)
		clone_free(c);
	return status;
}

static int say_name(struct life *l, const struct run_values *v, const struct clone *c)
{
	if (c)
		printf("%s\n", l->at.name);
	return CLI_OK;
}

int life_create(const struct run_values *v) { return with_new(v, "create", false, say_name); }
int life_run(const struct run_values *v) { return with_new(v, "run", v->remove, run_made); }

int life_values(const struct store_config *config, struct run_values *v, struct err *err)
{
	const char *folder = store_config_get(config, "folder");

	run_defaults(v);
	if (folder && chdir(folder))
		return err_set(err, -errno, "folder %.200s: %s", folder, strerror(errno));
	for (unsigned i = 0; i < config->count; i++) {
		const struct store_item *item = &config->items[i];

		if (strcmp(item->name, "folder") &&
			options_set(run_options, item->name, item->value, v, err))
			return err_wrap(err, "machine.yaml: line %u", item->line);
	}
	return 0;
}

int life_start(const char *name)
{
	struct store_config config = { 0 };
	struct err err = { 0 };
	struct run_values v;
	struct life l;
	bool began;
	int status;

	init(&l);
	if (store_open(&l.at, name, &err))
		return fail("start", &err, err.code == -EINVAL ? CLI_USAGE : CLI_FAILED);
	if (store_lock(&l.at, &err) || store_read_config(&l.at, &config, &err) ||
		life_values(&config, &v, &err))
		status = fail("start", &err, CLI_FAILED);
	else
		status = run_detached(&l, &v, "start", &began);
	store_config_free(&config);
	store_close(&l.at);
	return status;
}

/* ---- restoring ---- */

static int restore_new(struct life *l, const struct life_origin *o, const struct run_values *v)
{
	const struct store_new n = { .config = o->config, .fill = o->fill, .ctx = o->ctx };
	struct err err = { 0 };
	bool began = false;
	int status;

	int rc = store_create(&l->at, o->name, &n, &err);

	o->made(o->ctx);
	if (rc)
		return fail_at("restore", &err);
	status = run_detached(l, v, "restore", &began);
	if (!began && store_remove(&l->at, &err))
		fail("restore", &err, 0);
	return status;
}

int life_restore(const struct life_origin *o, struct store_machine *at)
{
	struct err err = { 0 };
	struct run_values v;
	struct life l;
	bool began;
	int status;

	init(&l);
	l.origin = o;
	if (life_values(o->config, &v, &err))
		return fail("restore", &err, CLI_FAILED);
	if (at) {
		l.at = *at;
		return run_detached(&l, &v, "restore", &began);
	}
	status = restore_new(&l, o, &v);
	store_close(&l.at);
	return status;
}
