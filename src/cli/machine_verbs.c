/* strata create, start, stop, kill, pause, resume, reset, rm, logs, events. */
#include "cli/create.h"
#include "cli/life.h"
#include "cli/machines.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long the end of a monitor may take that was told to end, before it is killed. */
#define KILL_MS 3000u

struct name_values {
	const char *name;
	u64 timeout_ns;
	bool force, monitor, attach;
};

#define AT(member) offsetof(struct name_values, member)
#define NAME                                                                              \
	{                                                                                 \
		"NAME", NULL, "the machine's", OPTION_OPERAND, AT(name), .required = true \
	}

static const struct option_row only_name[] = { NAME, { 0 } };

/* ---- create, start ---- */

static int create(const void *values)
{
	const struct run_values *v = values;
	struct err err = { 0 };

	if (v->file)
		return create_of_file(v);
	if ((v->name || v->image) && !v->detach && !v->remove)
		return life_create(v);
	if (v->name || v->image)
		err_set(&err, -EINVAL, "--%s is for `strata run`", v->detach ? "detach" : "rm");
	else
		err_set(&err, -EINVAL, "--name NAME is missing");
	return machines_failed("create", &err);
}

const struct verb verbs_create = {
	.name = "create",
	.doc = "make a machine with a name, to be started later; the options are those of run",
	.options = create_options,
	.size = sizeof(struct run_values),
	.defaults = run_defaults,
	.run = create,
};

static int start(const void *values)
{
	const struct name_values *v = values;
	int status = life_start(v->name);

	return status || !v->attach ? status : verbs_console.run(&v->name);
}

static const struct option_row start_options[] = {
	NAME,
	{ "attach", NULL, "and connect to its console", OPTION_SWITCH, AT(attach) },
	{ 0 },
};

const struct verb verbs_start = {
	.name = "start",
	.doc = "start a machine that has a name, in the background",
	.options = start_options,
	.size = sizeof(struct name_values),
	.run = start,
};

/* ---- one question ---- */

static int talk(struct control_client *c, const void *verb, struct err *err)
{
	return client_ask(c, verb, -1, MACHINES_ASK_MS, NULL, err);
}

static int ask(const char *verb, const char *name) { return machines_talk(verb, name, talk, verb); }

static int pause_one(const void *v) { return ask("pause", ((const struct name_values *)v)->name); }
static int resume(const void *v) { return ask("resume", ((const struct name_values *)v)->name); }
static int reset(const void *v) { return ask("reset", ((const struct name_values *)v)->name); }

#define ONE_NAME(verb_name, about, function)                           \
	{                                                              \
		.name = verb_name, .doc = about, .options = only_name, \
		.size = sizeof(struct name_values), .run = function    \
	}
const struct verb verbs_pause = ONE_NAME("pause", "hold a machine, and its clocks", pause_one);
const struct verb verbs_resume = ONE_NAME("resume", "let a paused machine go on", resume);
const struct verb verbs_reset = ONE_NAME("reset", "press a machine's reset button", reset);

/* ---- ends ---- */

/* Asked to end, then made to. What a monitor that does not even end itself leaves to us is the
 * process: who is at the other end of its socket says the kernel. */
int machines_end(const struct store_machine *m, struct control_client *c, struct err *err)
{
	struct err ignored;
	pid_t monitor = client_peer(c);

	if (!client_ask(c, "kill", -1, KILL_MS, NULL, &ignored) && store_wait(m, KILL_MS))
		return 0;
	if (store_wait(m, 1))
		return 0;
	if (monitor <= 0 || kill(monitor, SIGKILL))
		return err_set(err, -errno, "%s: process %d cannot be killed: %s", m->name,
			(int)monitor, strerror(errno));
	return store_wait(m, KILL_MS) ? 0
				      : err_set(err, -ETIMEDOUT, "%s: process %d does not end",
						m->name, (int)monitor);
}

static int kill_one(const void *values)
{
	const struct name_values *v = values;
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;

	if (machines_reach(v->name, &m, &c, &err))
		return machines_failed("kill", &err);
	int rc = machines_end(&m, &c, &err);

	store_group_tidy(&m);
	client_close(&c);
	store_close(&m);
	return rc ? machines_failed("kill", &err) : CLI_OK;
}

const struct verb verbs_kill = ONE_NAME("kill", "end a machine at once", kill_one);

/* A paused guest hears no button. */
static int stop_asked(
	const struct store_machine *m, struct control_client *c, u64 timeout_ns, struct err *err)
{
	struct err ignored;

	if (client_ask(c, "stop", -1, MACHINES_ASK_MS, NULL, err))
		return err_wrap(err, "%s", m->name);
	(void)!client_ask(c, "resume", -1, MACHINES_ASK_MS, NULL, &ignored);
	if (store_wait(m, (unsigned)(timeout_ns / 1000000)))
		return 0;
	fprintf(stderr, "strata: stop: %s has not powered off in that time: it is killed\n",
		m->name);
	return machines_end(m, c, err);
}

static int stop(const void *values)
{
	const struct name_values *v = values;
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;

	if (machines_reach(v->name, &m, &c, &err))
		return machines_failed("stop", &err);
	int rc = stop_asked(&m, &c, v->timeout_ns, &err);

	store_group_tidy(&m);
	client_close(&c);
	store_close(&m);
	return rc ? machines_failed("stop", &err) : CLI_OK;
}

static void stop_defaults(void *values)
{
	((struct name_values *)values)->timeout_ns = 90 * 1000000000ull;
}

static const struct option_row stop_options[] = {
	NAME,
	{ "timeout", "SECONDS", "kill it when it has not powered off by then (default 90)",
		OPTION_SECONDS, AT(timeout_ns) },
	{ 0 },
};

const struct verb verbs_stop = {
	.name = "stop",
	.doc = "press a machine's power button, and wait until it has powered off",
	.options = stop_options,
	.size = sizeof(struct name_values),
	.defaults = stop_defaults,
	.run = stop,
};

/* ---- rm ---- */

static int force_end(const char *name, struct err *err)
{
	struct control_client c;
	struct store_machine m;

	if (machines_reach(name, &m, &c, err))
		return err->code;
	int rc = machines_end(&m, &c, err);

	client_close(&c);
	store_close(&m);
	return rc;
}

static int rm(const void *values)
{
	const struct name_values *v = values;
	struct err err = { 0 };
	struct store_machine m;

	if (store_open(&m, v->name, &err))
		return machines_failed("rm", &err);
	int rc = store_lock(&m, &err);

	if (rc == -EBUSY && v->force) {
		err = (struct err){ 0 };
		rc = force_end(v->name, &err);
		if (!rc)
			rc = store_lock(&m, &err);
	} else if (rc == -EBUSY) {
		err_set(&err, rc, "%s runs; `strata stop %s` first, or --force", v->name, v->name);
	}
	if (!rc)
		rc = store_remove(&m, &err);
	store_close(&m);
	return rc ? machines_failed("rm", &err) : CLI_OK;
}

static const struct option_row rm_options[] = {
	NAME,
	{ "force", NULL, "kill it first if it runs", OPTION_SWITCH, AT(force) },
	{ 0 },
};

const struct verb verbs_rm = {
	.name = "rm",
	.doc = "remove a machine and what its folder holds",
	.options = rm_options,
	.size = sizeof(struct name_values),
	.run = rm,
};

/* ---- logs ---- */

static void copy_out(int fd)
{
	char data[16384];
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		fwrite(data, 1, (size_t)n, stdout);
}

/* The one that was written to last comes last. */
static void show_console(const struct store_machine *m)
{
	static const char *const files[] = { "console.0", "console.1" };
	struct stat st[2] = { 0 };
	int fds[2];

	for (unsigned i = 0; i < 2; i++) {
		fds[i] = openat(m->folder, files[i], O_RDONLY | O_CLOEXEC);
		if (fds[i] >= 0 && fstat(fds[i], &st[i]))
			st[i].st_size = 0;
	}
	bool first = st[0].st_mtim.tv_sec != st[1].st_mtim.tv_sec
			     ? st[0].st_mtim.tv_sec > st[1].st_mtim.tv_sec
			     : st[0].st_mtim.tv_nsec > st[1].st_mtim.tv_nsec;
	for (unsigned i = 0; i < 2; i++) {
		int fd = fds[i ^ first];

		if (fd < 0)
			continue;
		copy_out(fd);
		close(fd);
	}
}

static int logs(const void *values)
{
	const struct name_values *v = values;
	struct err err = { 0 };
	struct store_machine m;

	if (store_open(&m, v->name, &err))
		return machines_failed("logs", &err);
	if (v->monitor) {
		int fd = openat(m.folder, "monitor.log", O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			copy_out(fd);
			close(fd);
		}
	} else {
		show_console(&m);
	}
	store_close(&m);
	return CLI_OK;
}

static const struct option_row logs_options[] = {
	NAME,
	{ "monitor", NULL, "what the monitor said, instead of the guest", OPTION_SWITCH,
		AT(monitor) },
	{ 0 },
};

const struct verb verbs_logs = {
	.name = "logs",
	.doc = "print what a machine's console has said in the background: its last 4 to 8 MiB",
	.options = logs_options,
	.size = sizeof(struct name_values),
	.run = logs,
};

/* ---- events ---- */

static int events(const void *values)
{
	const struct name_values *v = values;
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;
	json_t *event;

	if (machines_connect(v->name, &m, &c, &err))
		return machines_failed("events", &err);
	if (!client_ask(&c, "events", -1, MACHINES_ASK_MS, NULL, &err))
		while ((event = client_next(&c, 0, &err))) {
			json_dumpf(event, stdout, JSON_COMPACT);
			printf("\n");
			fflush(stdout);
			json_decref(event);
		}
	client_close(&c);
	store_close(&m);
	return err.code == -ENODATA ? CLI_OK : machines_failed("events", &err);
}

const struct verb verbs_events =
	ONE_NAME("events", "print what happens to a machine, a JSON object a line", events);
