#include "cli/cpus_option.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The number at *at, which it steps over; 0: there is none between 1 and the most. */
static unsigned number(const char **at)
{
	char *end;
	unsigned long n = **at >= '0' && **at <= '9' ? strtoul(*at, &end, 10) : 0;

	if (!n || n > MACHINE_CPUS_MAX || (*end && *end != ','))
		return 0;
	*at = end;
	return (unsigned)n;
}

/* One item behind the comma at `at`; where it ends, or NULL with err. */
static const char *set(struct cpus_option *o, const char *at, struct err *err)
{
	const struct {
		const char *name;
		unsigned *value;
	} rows[] = {
		{ "sockets=", &o->topology.sockets },
		{ "cores=", &o->topology.cores },
		{ "threads=", &o->topology.threads },
	};
	int len = (int)strcspn(at, ",");

	if (!strncmp(at, "numa", 4) && len == 4) {
		o->numa = true;
		return at + 4;
	}
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		const char *value = at + strlen(rows[i].name);

		if (strncmp(at, rows[i].name, strlen(rows[i].name)))
			continue;
		*rows[i].value = number(&value);
		if (*rows[i].value)
			return value;
		err_set(err, -EINVAL, "--cpus: %.*s: must be between 1 and %d", len < 40 ? len : 40,
			at, MACHINE_CPUS_MAX);
		return NULL;
	}
	err_set(err, -EINVAL,
		"--cpus: no option %.*s; there are sockets=, cores=, threads= and numa",
		len < 40 ? len : 40, at);
	return NULL;
}

static unsigned at_least_one(unsigned n) { return n ? n : 1; }

/* Threads are one a core unless all else is given; cores share the sockets. */
static void fill(struct x86_topology *t, unsigned count)
{
	if (!t->threads)
		t->threads =
			t->sockets && t->cores ? at_least_one(count / (t->sockets * t->cores)) : 1;
	if (!t->cores)
		t->cores = at_least_one(count / (at_least_one(t->sockets) * t->threads));
	if (!t->sockets)
		t->sockets = at_least_one(count / (t->cores * t->threads));
}

int cpus_option_parse(const char *text, struct cpus_option *o, struct err *err)
{
	const char *at = text ? text : "1";

	*o = (struct cpus_option){ .count = number(&at) };
	if (!o->count)
		return err_set(err, -EINVAL, "--cpus %.40s: must be between 1 and %d", text,
			MACHINE_CPUS_MAX);
	while (*at)
		if (!(at = set(o, at + 1, err)))
			return err->code;
	struct x86_topology *t = &o->topology;

	fill(t, o->count);
	if (x86_topology_count(t) != o->count)
		return err_set(err, -EINVAL,
			"--cpus %.40s: %u x %u x %u (sockets, cores, threads) is %u, not %u; what "
			"is left out is computed",
			text, t->sockets, t->cores, t->threads, x86_topology_count(t), o->count);
	if (o->numa && t->sockets == 1)
		return err_set(err, -EINVAL, "--cpus %.40s: numa is for several sockets=", text);
	return 0;
}

void cpus_option_help(FILE *to)
{
	fputs("          sockets=N, cores=N, threads=N  how they are arranged: cores of each "
	      "socket, threads of each core (default: one socket of cores of one thread)\n"
	      "          numa  each socket has its part of the memory\n",
		to);
}
