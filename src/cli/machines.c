/* strata ls, show: machines with names, and how they are. */
#include "cli/machines.h"
#include "base/bits.h"
#include "cli/limits.h"
#include "cli/run.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A listing does not wait long for a monitor that is stuck. */
#define LOOK_MS 1000u

int machines_failed(const char *verb, const struct err *err)
{
	fprintf(stderr, "strata: %s: %s\n", verb, err->text);
	return err->code == -EINVAL ? CLI_USAGE : CLI_FAILED;
}

int machines_reach(
	const char *name, struct store_machine *m, struct control_client *c, struct err *err)
{
	struct store_outcome o;

	c->fd = -1;
	if (store_open(m, name, err))
		return err->code;
	enum store_state state = store_state(m, &o);

	if (state != STORE_RUNNING)
		err_set(err, -ESRCH, "%s does not run; `strata start %s` starts it", name, name);
	else if (client_connect(c, m->folder, MACHINES_ASK_MS, err))
		err_wrap(err, "%s runs, but cannot be asked: it may just be starting or ending",
			name);
	if (err->code)
		store_close(m);
	return err->code;
}

int machines_connect(
	const char *name, struct store_machine *m, struct control_client *c, struct err *err)
{
	if (machines_reach(name, m, c, err))
		return err->code;
	/* Who hangs up before a word has just ended. */
	if (client_greet(c, MACHINES_ASK_MS, err)) {
		err_wrap(err, "%s runs, but cannot be asked: it may just be starting or ending",
			name);
		client_close(c);
		store_close(m);
	}
	return err->code;
}

int machines_talk(const char *verb, const char *name,
	int (*talk)(struct control_client *c, const void *ctx, struct err *err), const void *ctx)
{
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;

	if (machines_connect(name, &m, &c, &err))
		return machines_failed(verb, &err);
	int rc = talk(&c, ctx, &err);

	if (rc)
		err_wrap(&err, "%s", name);
	client_close(&c);
	store_close(&m);
	return rc ? machines_failed(verb, &err) : CLI_OK;
}

/* ---- how one is ---- */

struct look {
	char name[STORE_NAME_MAX + 1];
	const char *state; /* new, starting, running, paused, full, ending, stopped, crashed,
			      starved, silent */
	struct store_outcome outcome;
	json_t *status; /* the monitor's; NULL: it was not asked */
	json_t *limits; /* NULL: it has none */
};

static const char *const not_running[] = {
	[STORE_NEW] = "new",
	[STORE_ENDED] = "stopped",
	[STORE_CRASHED] = "crashed",
	[STORE_STARVED] = "starved",
};

/* What has the lock and answers nobody has not begun to listen yet, or has ceased to. In the latter
 * case it is who wrote down how it ran. */
static const char *without_a_socket(const struct store_outcome *o)
{
	bool lives = o->pid > 0 && (!kill((pid_t)o->pid, 0) || errno == EPERM);

	return lives ? "ending" : "starting";
}

static void ask(const struct store_machine *m, struct look *l)
{
	struct control_client c;
	struct err err = { 0 };

	/* The lock is taken first, the socket comes later: no answer is an answer, too. */
	if (client_open(&c, m->folder, LOOK_MS, &err)) {
		l->state = err.code == -ETIMEDOUT ? "silent" : without_a_socket(&l->outcome);
		return;
	}
	if (client_ask(&c, "status", -1, LOOK_MS, &l->status, &err))
		l->state = err.code == -ETIMEDOUT ? "silent" : "ending";
	else
		l->state = json_string_value(json_object_get(l->status, "state"));
	l->limits = limits_show(m);
	client_close(&c);
}

/* false: it has gone meanwhile. */
static bool look_at(const char *name, struct look *l)
{
	struct store_machine m;
	struct err err = { 0 };

	*l = (struct look){ 0 };
	if (store_open(&m, name, &err))
		return false;
	snprintf(l->name, sizeof(l->name), "%s", name);
	enum store_state state = store_state(&m, &l->outcome);

	if (state == STORE_RUNNING)
		ask(&m, l);
	else
		l->state = not_running[state];
	/* Who hung up on us has ended by now, or is about to. */
	if (!l->state)
		l->state = "ending";
	store_close(&m);
	return true;
}

static void free_look(struct look *l)
{
	json_decref(l->status);
	json_decref(l->limits);
}

static json_int_t uptime(const struct look *l)
{
	return l->status && l->outcome.since ? time(NULL) - l->outcome.since : 0;
}

/* ---- ls ---- */

struct ls_values {
	bool json;
};

/* "3 d 4 h", "12 min 5 s": the two largest units. */
static void print_uptime(json_int_t s, char text[24])
{
	static const struct {
		unsigned seconds;
		const char *name;
	} units[] = { { 86400, "d" }, { 3600, "h" }, { 60, "min" }, { 1, "s" } };
	unsigned i = 0;

	while (i + 2 < ARRAY_LEN(units) && s < units[i].seconds)
		i++;
	snprintf(text, 24, "%u %s %u %s", (unsigned)(s / units[i].seconds) % 100000u, units[i].name,
		(unsigned)(s % units[i].seconds / units[i + 1].seconds), units[i + 1].name);
}

static void print_memory(json_int_t bytes, char text[24])
{
	snprintf(text, 24, "%llu MiB", (unsigned long long)bytes >> 20);
}

static const char *or_dash(const char *text) { return text && *text ? text : "-"; }

static void show_row(const struct look *l)
{
	char memory[24] = "-", up[24] = "-", cpus[24] = "-";

	if (l->status) {
		print_memory(json_integer_value(json_object_get(l->status, "memory")), memory);
		print_uptime(uptime(l), up);
		snprintf(cpus, sizeof(cpus), "%llu",
			(unsigned long long)json_integer_value(json_object_get(l->status, "cpus")));
	}
	printf("%-20s %-9s %-10s %4s %10s %14s  %s\n", l->name, l->state,
		or_dash(json_string_value(json_object_get(l->status, "engine"))), cpus, memory, up,
		or_dash(json_string_value(json_object_get(l->status, "address"))));
}

/* New reference: what there is to tell, whether it runs or not. */
static json_t *as_json(const struct look *l)
{
	static const char *const members[] = { "pid", "engine", "cpus", "memory", "host_memory",
		"guest_seconds", "address", "attached" };
	json_t *j = json_pack("{s:s,s:s}", "name", l->name, "state", l->state);

	for (unsigned i = 0; l->status && i < ARRAY_LEN(members); i++)
		json_object_set(j, members[i], json_object_get(l->status, members[i]));
	if (l->status)
		json_object_set_new(j, "uptime", json_integer(uptime(l)));
	if (l->limits)
		json_object_set(j, "limits", l->limits);
	if (!strcmp(l->state, not_running[STORE_STARVED]))
		json_object_set_new(j, "why",
			json_string("killed by the kernel: it had come to its limit of memory"));
	if (!l->status && l->outcome.until) {
		json_object_set_new(j, "ended", json_integer((json_int_t)l->outcome.until));
		json_object_set_new(j, "why", json_string(l->outcome.text));
		json_object_set_new(j, "exit_status", json_integer(l->outcome.status));
	}
	return j;
}

static int ls(const void *values)
{
	const struct ls_values *v = values;
	json_t *list = json_array();
	struct err err = { 0 };
	unsigned count;
	char **names;

	store_sweep();
	if (store_list(&names, &count, &err)) {
		json_decref(list);
		return machines_failed("ls", &err);
	}
	if (!v->json && count)
		printf("%-20s %-9s %-10s %4s %10s %14s  %s\n", "NAME", "STATE", "ENGINE", "CPUS",
			"MEMORY", "UPTIME", "ADDRESS");
	for (unsigned i = 0; i < count; i++) {
		struct look l;

		if (look_at(names[i], &l) && v->json)
			json_array_append_new(list, as_json(&l));
		else if (l.state)
			show_row(&l);
		free_look(&l);
		free(names[i]);
	}
	free(names);
	if (v->json) {
		json_dumpf(list, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15));
		printf("\n");
	}
	json_decref(list);
	return CLI_OK;
}

static const struct option_row ls_options[] = {
	{ "json", NULL, "as a JSON array", OPTION_SWITCH, offsetof(struct ls_values, json) },
	{ 0 },
};

const struct verb verbs_ls = {
	.name = "ls",
	.doc = "list the machines that have names",
	.options = ls_options,
	.size = sizeof(struct ls_values),
	.run = ls,
};

/* ---- show ---- */

struct show_values {
	const char *name;
	bool json;
};

static json_t *config_as_json(const struct store_config *c)
{
	json_t *j = json_object();

	for (unsigned i = 0; i < c->count; i++) {
		const struct store_item *item = &c->items[i];
		json_t *list = json_object_get(j, item->name);

		/* A list where the name is there again, text otherwise. */
		if (!list) {
			json_object_set_new(j, item->name, json_string(item->value));
			continue;
		}
		if (!json_is_array(list)) {
			list = json_pack("[O]", list);
			json_object_set_new(j, item->name, list);
		}
		json_array_append_new(list, json_string(item->value));
	}
	return j;
}

static void show_attached(const json_t *list)
{
	const json_t *d;
	size_t i;

	json_array_foreach(list, i, d) printf("# attached: %s: %s%s\n",
		json_string_value(json_object_get(d, "name")),
		json_string_value(json_object_get(d, "about")),
		json_is_true(json_object_get(d, "leaving")) ? " (the guest is to let go of it)"
							    : "");
}

static int show_one(
	const struct look *l, const struct store_config *config, bool json, struct err *err)
{
	json_t *j = as_json(l);
	const char *name;
	json_t *value;

	if (json) {
		json_object_set_new(j, "config", config_as_json(config));
		json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
		printf("\n");
		json_decref(j);
		return 0;
	}
	/* Above the file, and as comments, so that all of it is such a file again. */
	json_object_foreach(j, name, value)
	{
		if (json_is_string(value))
			printf("# %s: %s\n", name, json_string_value(value));
		else if (json_is_number(value))
			printf("# %s: %.15g\n", name, json_number_value(value));
	}
	show_attached(json_object_get(j, "attached"));
	json_decref(j);
	return store_config_write(config, stdout, err);
}

static int show(const void *values)
{
	const struct show_values *v = values;
	struct store_config config = { 0 };
	struct err err = { 0 };
	struct store_machine m;
	struct look l = { 0 };

	if (!store_open(&m, v->name, &err)) {
		(void)(store_read_config(&m, &config, &err) || !look_at(v->name, &l) ||
			show_one(&l, &config, v->json, &err));
		store_close(&m);
	}
	free_look(&l);
	store_config_free(&config);
	return err.code ? machines_failed("show", &err) : CLI_OK;
}

static const struct option_row show_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, offsetof(struct show_values, name),
		.required = true },
	{ "json", NULL, "as one JSON object", OPTION_SWITCH, offsetof(struct show_values, json) },
	{ 0 },
};

const struct verb verbs_show = {
	.name = "show",
	.doc = "show a machine: how it is, and its configuration",
	.options = show_options,
	.size = sizeof(struct show_values),
	.run = show,
};
