/*
 * strata top: what the machines that run are doing. Each monitor is asked for its counters, and
 * once more a while later; what is shown is the difference. On a terminal again and again,
 * otherwise once.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/image.h"
#include "cli/machines.h"
#include "os/fd.h"
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS	       1000u
#define MACHINES_MAX   256u
#define COUNT_MORE     5 /* seconds, for an answer that is late */
#define HOME_AND_CLEAR "\033[H\033[J"

struct top_values {
	u64 interval_ns;
	bool json, once, mips;
};

enum counter {
	TOP_PORT_IOS,
	TOP_MMIOS,
	TOP_INTERRUPTS,
	TOP_DISK_READ,
	TOP_DISK_WRITTEN,
	TOP_NET_SENT,
	TOP_NET_RECEIVED,
	TOP_INSTRUCTIONS,
	TOP_CODE_EXITS,
	TOP_CODE_MISSES,
	TOP_COUNTERS
};

/* As the control socket has them. */
static const char *const counters[TOP_COUNTERS] = {
	[TOP_PORT_IOS] = "port_ios",
	[TOP_MMIOS] = "mmios",
	[TOP_INTERRUPTS] = "interrupts",
	[TOP_DISK_READ] = "disk_read",
	[TOP_DISK_WRITTEN] = "disk_written",
	[TOP_NET_SENT] = "net_sent",
	[TOP_NET_RECEIVED] = "net_received",
	[TOP_INSTRUCTIONS] = "instructions",
	[TOP_CODE_EXITS] = "code_exits",
	[TOP_CODE_MISSES] = "code_misses",
};

struct sample {
	char name[STORE_NAME_MAX + 1], state[16], engine[16];
	json_int_t pid;
	u64 at, host_memory, cpus, values[TOP_COUNTERS];
	double cpu_seconds;
	bool counting; /* all instructions */
};

struct samples {
	struct sample machines[MACHINES_MAX];
	unsigned count;
};

/* What has happened in between, a second. */
struct rates {
	double cpu; /* of one processor */
	double per_second[TOP_COUNTERS];
	bool counted; /* instructions, all the time */
};

/* ---- asking ---- */

static u64 number(const json_t *object, const char *name)
{
	json_int_t n = json_integer_value(json_object_get(object, name));

	return n > 0 ? (u64)n : 0;
}

static void copy(char *to, size_t size, const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	snprintf(to, size, "%s", text ? text : "-");
}

static void fill(struct sample *s, const char *name, const json_t *status)
{
	const json_t *c = json_object_get(status, "counters");

	*s = (struct sample){ .at = fd_monotonic_ns(),
		.pid = json_integer_value(json_object_get(status, "pid")),
		.host_memory = number(status, "host_memory"),
		.cpus = number(status, "cpus"),
		.counting = json_is_true(json_object_get(status, "counting")),
		.cpu_seconds = json_real_value(json_object_get(status, "cpu_seconds")) };
	snprintf(s->name, sizeof(s->name), "%s", name);
	copy(s->state, sizeof(s->state), status, "state");
	copy(s->engine, sizeof(s->engine), status, "engine");
	for (unsigned i = 0; i < TOP_COUNTERS; i++)
		s->values[i] = number(c, counters[i]);
}

/* Until after the next look; what cannot is no mistake. */
static void ask_to_count(struct control_client *c, const struct top_values *v)
{
	json_int_t seconds = (json_int_t)(v->interval_ns / 1000000000) + COUNT_MORE;
	struct err ignored = { 0 };

	(void)!client_request(c,
		json_pack("{s:s,s:I}", "command", "count", "seconds",
			seconds < CONTROL_COUNT_MAX ? seconds : CONTROL_COUNT_MAX),
		-1, LOOK_MS, NULL, &ignored);
}

/* One that does not run, or does not answer, is left out. */
static void look_at(const char *name, const struct top_values *v, struct samples *all)
{
	struct control_client c;
	struct store_machine m;
	struct store_outcome o;
	struct err err = { 0 };
	json_t *status = NULL;

	if (all->count == MACHINES_MAX || store_open(&m, name, &err))
		return;
	if (store_state(&m, &o) == STORE_RUNNING && !client_open(&c, m.folder, LOOK_MS, &err)) {
		if (v->mips)
			ask_to_count(&c, v);
		if (!client_ask(&c, "status", -1, LOOK_MS, &status, &err))
			fill(&all->machines[all->count++], name, status);
		json_decref(status);
		client_close(&c);
	}
	store_close(&m);
}

static int look(const struct top_values *v, struct samples *all, struct err *err)
{
	unsigned count;
	char **names;

	all->count = 0;
	if (store_list(&names, &count, err))
		return err->code;
	for (unsigned i = 0; i < count; i++) {
		look_at(names[i], v, all);
		free(names[i]);
	}
	free(names);
	return 0;
}

/* ---- showing ---- */

static const struct sample *find(const struct samples *all, const struct sample *s)
{
	for (unsigned i = 0; i < all->count; i++)
		if (!strcmp(all->machines[i].name, s->name) && all->machines[i].pid == s->pid)
			return &all->machines[i];
	return NULL;
}

/* Nothing of one that was not there before. */
static struct rates rates_of(const struct sample *now, const struct sample *before)
{
	struct rates r = { 0 };
	double seconds = before ? (double)(now->at - before->at) / 1e9 : 0;

	if (seconds <= 0)
		return r;
	r.counted = now->counting && before->counting;
	r.cpu = (now->cpu_seconds - before->cpu_seconds) / seconds;
	for (unsigned i = 0; i < TOP_COUNTERS; i++)
		r.per_second[i] =
			(double)(now->values[i] - min_u64(now->values[i], before->values[i])) /
			seconds;
	return r;
}

static const char *human(double n, char text[24]) { return image_human((u64)n, text); }

/* While they are all counted. */
static const char *mips(const struct rates *r, char text[24])
{
	if (!r->counted)
		return "-";
	snprintf(text, 24, "%.1f", r->per_second[TOP_INSTRUCTIONS] / 1e6);
	return text;
}

static void show_row(const struct sample *s, const struct rates *r)
{
	char t[6][24];

	printf("%-20s %-8s %-9s %5.0f%% %7s %8.0f %8.0f %9s %8.0f %8.0f %9s %9s %9s %9s\n", s->name,
		s->state, s->engine, r->cpu * 100, mips(r, t[5]), r->per_second[TOP_CODE_EXITS],
		r->per_second[TOP_CODE_MISSES], human((double)s->host_memory, t[0]),
		r->per_second[TOP_PORT_IOS] + r->per_second[TOP_MMIOS],
		r->per_second[TOP_INTERRUPTS], human(r->per_second[TOP_DISK_READ], t[1]),
		human(r->per_second[TOP_DISK_WRITTEN], t[2]),
		human(r->per_second[TOP_NET_RECEIVED], t[3]),
		human(r->per_second[TOP_NET_SENT], t[4]));
}

static void show(const struct samples *now, const struct samples *before)
{
	printf("%-20s %-8s %-9s %6s %7s %8s %8s %9s %8s %8s %9s %9s %9s %9s\n", "NAME", "STATE",
		"ENGINE", "CPU", "MIPS", "EXIT/s", "MISS/s", "MEMORY", "IO/s", "INTR/s", "READ/s",
		"WRITE/s", "IN/s", "OUT/s");
	for (unsigned i = 0; i < now->count; i++) {
		const struct sample *s = &now->machines[i];
		struct rates r = rates_of(s, find(before, s));

		show_row(s, &r);
	}
}

static void show_json(const struct samples *now, const struct samples *before)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < now->count; i++) {
		const struct sample *s = &now->machines[i];
		struct rates r = rates_of(s, find(before, s));
		json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:f,s:b}", "name", s->name, "state",
			s->state, "engine", s->engine, "host_memory", (json_int_t)s->host_memory,
			"cpu", r.cpu, "counting", r.counted);

		for (unsigned k = 0; k < TOP_COUNTERS; k++)
			json_object_set_new(j, counters[k], json_real(r.per_second[k]));
		json_array_append_new(list, j);
	}
	json_dumpf(list, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	printf("\n");
	json_decref(list);
}

/* ---- the verb ---- */

/* true: a key was pressed, or input has come to its end. */
static bool wait_for(u64 ns, bool live)
{
	struct pollfd p = { .fd = live ? STDIN_FILENO : -1, .events = POLLIN };

	return poll(&p, 1, (int)(ns / 1000000)) != 0;
}

static int top(const void *values)
{
	const struct top_values *v = values;
	bool live = !v->json && !v->once && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	AUTO_FREE struct samples *now = calloc(1, sizeof(*now));
	AUTO_FREE struct samples *before = calloc(1, sizeof(*before));
	struct err err = { 0 };
	int rc;

	if (!now || !before)
		return CLI_FAILED;
	rc = look(v, now, &err);
	do {
		struct samples *last = before;

		before = now;
		now = last;
		bool stop = wait_for(v->interval_ns, live);

		rc = rc ? rc : look(v, now, &err);
		if (rc || stop)
			break;
		if (live)
			printf(HOME_AND_CLEAR);
		(v->json ? show_json : show)(now, before);
		if (live)
			printf("\nReturn leaves.\n");
		fflush(stdout);
	} while (live);
	return rc ? machines_failed("top", &err) : CLI_OK;
}

static void defaults(void *values) { ((struct top_values *)values)->interval_ns = 1000000000; }

#define AT(member) offsetof(struct top_values, member)

static const struct option_row top_options[] = {
	{ "interval", "SECONDS", "how long what is shown took (default 1)", OPTION_SECONDS,
		AT(interval_ns) },
	{ "once", NULL, "once, also on a terminal", OPTION_SWITCH, AT(once) },
	{ "json", NULL, "once, as a JSON array: rates a second", OPTION_SWITCH, AT(json) },
	{ "mips", NULL,
		"have translated code count its instructions, too: it is made anew, and slower",
		OPTION_SWITCH, AT(mips) },
	{ 0 },
};

const struct verb verbs_top = {
	.name = "top",
	.doc = "show what the machines that run are doing: processors, memory, accesses to "
	       "devices, "
	       "interrupts, disks, networks",
	.options = top_options,
	.size = sizeof(struct top_values),
	.defaults = defaults,
	.run = top,
	.more = "MIPS: million guest instructions a second, where they are counted: always under "
		"interpret, with --mips under translate (all code is translated anew when that "
		"begins, and some seconds after it has ended); hardware's are not seen.\n"
		"EXIT/s: how often translated code was left; MISS/s: of these, jumps that led to "
		"no translated code, or whose way there was not known yet: all others were chain "
		"hits, from code to code.\n"
		"IO/s counts accesses to ports and device registers that the monitor served.\n",
};
