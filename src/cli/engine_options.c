#include "cli/engine_options.h"
#include "cli/options.h"
#include "machine/engines.h"
#include <errno.h>
#include <string.h>

#define NAME_MAX_ 32u

static const struct cpu_engine_option *table_of(const char *owner)
{
	static const struct cpu_engine_option none[1];
	const struct cpu_engine *e = engines_named(owner);

	return e && e->options ? e->options : none;
}

static size_t rows(const struct cpu_engine_option *table)
{
	size_t n = 0;

	while (table[n].name)
		n++;
	return n;
}

static int unknown(
	const struct cpu_engine_option *table, const char *owner, const char *name, struct err *err)
{
	if (!*name)
		return err_set(err, -EINVAL, "--%s: a switch is missing; --help lists them", owner);
	const char *near = options_nearest(name, &table->name, rows(table), sizeof(*table));

	if (near)
		return err_set(
			err, -EINVAL, "--%s: no switch %s; did you mean %s?", owner, name, near);
	return err_set(err, -EINVAL, "--%s: no switch %s; --help lists them", owner, name);
}

static int set_one(const struct cpu_engine_option *table, const char *owner, const char *name,
	u32 *bits, struct err *err)
{
	for (const struct cpu_engine_option *o = table; o->name; o++)
		if (!strcmp(o->name, name)) {
			*bits |= o->bit;
			return 0;
		}
	return unknown(table, owner, name, err);
}

int engine_options_parse(
	const char *owner, const char *chosen, const char *text, u32 *bits, struct err *err)
{
	char name[NAME_MAX_ + 1];

	if (strcmp(chosen, "auto") && strcmp(chosen, owner))
		return err_set(err, -EINVAL, "--%s does not go with --engine %.64s", owner, chosen);
	for (const char *at = text;; at++) {
		size_t len = strcspn(at, ",");

		snprintf(name, sizeof(name), "%.*s", (int)(len < NAME_MAX_ ? len : NAME_MAX_), at);
		if (set_one(table_of(owner), owner, name, bits, err))
			return -EINVAL;
		at += len;
		if (!*at)
			return 0;
	}
}

void engine_options_help(const char *owner, FILE *to)
{
	for (const struct cpu_engine_option *o = table_of(owner); o->name; o++)
		fprintf(to, "          %-16s %s\n", o->name, o->doc);
}
