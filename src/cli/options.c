#include "cli/options.h"
#include "base/bits.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_ 32u
/* Typing errors up to here are worth a guess; more is another word. */
#define NEAR_MAX 2u

/* Numbers */

int options_size(const char *text, u64 *value)
{
	static const char suffixes[] = "KMGT";
	char *end;

	errno = 0;
	u64 n = strtoull(text, &end, 0);
	if (errno || end == text || !isdigit((unsigned char)*text))
		return -EINVAL;
	if (*end) {
		const char *s = strchr(suffixes, toupper((unsigned char)*end));

		if (!s || end[1])
			return -EINVAL;
		if (!mul_ok(n, BIT64(10 * (s - suffixes + 1)), &n))
			return -EINVAL;
	}
	*value = n;
	return 0;
}

static int parse_number(const char *text, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	return errno || *end || !isdigit((unsigned char)*text) ? -EINVAL : 0;
}

static int parse_seconds(const char *text, u64 *ns)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.001 && s <= 1e9))
		return -EINVAL;
	*ns = (u64)(s * 1e9);
	return 0;
}

/* Guessing */

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein distance: insertions, deletions and replacements from a to b, row by row. */
static unsigned distance(const char *a, const char *b)
{
	size_t len = strnlen(b, NAME_MAX_);
	unsigned row[NAME_MAX_ + 1];

	for (unsigned j = 0; j <= len; j++)
		row[j] = j;
	for (unsigned i = 0; a[i] && i < NAME_MAX_; i++) {
		unsigned corner = row[0];

		row[0] = i + 1;
		for (unsigned j = 0; j < len; j++) {
			unsigned above = row[j + 1];

			row[j + 1] = min3(above + 1, row[j] + 1, corner + (a[i] != b[j]));
			corner = above;
		}
	}
	return row[len];
}

const char *options_nearest(const char *text, const char *const *names, size_t count, size_t stride)
{
	const char *best = NULL;
	unsigned least = NEAR_MAX + 1;

	for (size_t i = 0; i < count; i++) {
		const char *name =
			*(const char *const *)(const void *)((const char *)names + i * stride);
		/* The beginning of a name is near, too. */
		unsigned d = *text && !strncmp(name, text, strlen(text)) ? 1 : distance(text, name);

		if (d < least) {
			least = d;
			best = name;
		}
	}
	return best;
}

/* Parsing */

bool options_stands_alone(const struct option_row *row)
{
	return row->kind == OPTION_OPERAND || row->kind == OPTION_REST;
}

static size_t rows(const struct option_row *table)
{
	size_t n = 0;

	while (table[n].name)
		n++;
	return n;
}

static const struct option_row *find(const struct option_row *table, const char *name, size_t len)
{
	for (; table->name; table++)
		if (!options_stands_alone(table) && strlen(table->name) == len &&
			!memcmp(table->name, name, len))
			return table;
	return NULL;
}

static int unknown(const struct option_row *table, const char *arg, size_t len, struct err *err)
{
	char name[NAME_MAX_ + 1];

	snprintf(name, sizeof(name), "%.*s", (int)min_u64(len, NAME_MAX_), arg + 2);
	const char *near = options_nearest(name, &table->name, rows(table), sizeof(*table));

	if (near)
		return err_set(err, -EINVAL, "unknown option --%s; did you mean --%s?", name, near);
	return err_set(err, -EINVAL, "unknown option --%s; --help lists them", name);
}

static int in_range(const struct option_row *row, const char *text, u64 value, struct err *err)
{
	unsigned shift = row->kind == OPTION_SIZE ? 20 : 0;
	const char *unit = shift ? "M" : "";

	if (value >= row->min && value <= row->max)
		return 0;
	return err_set(err, -EINVAL, "--%s %s: must be between %llu%s and %llu%s", row->name, text,
		(unsigned long long)row->min >> shift, unit, (unsigned long long)row->max >> shift,
		unit);
}

static int set_choice(
	const struct option_row *row, const char *text, unsigned *value, struct err *err)
{
	char all[128] = "";

	for (unsigned i = 0; row->choices[i]; i++) {
		if (!strcmp(row->choices[i], text)) {
			*value = i;
			return 0;
		}
		size_t used = strlen(all);
		snprintf(all + used, sizeof(all) - used, "%s%s", i ? ", " : "", row->choices[i]);
	}
	return err_set(err, -EINVAL, "--%s %s: must be one of %s", row->name, text, all);
}

static int add_item(
	const struct option_row *row, const char *text, struct option_list *list, struct err *err)
{
	if (list->count == OPTION_LIST_MAX)
		return err_set(
			err, -EINVAL, "--%s: more than %d of them", row->name, OPTION_LIST_MAX);
	list->items[list->count++] = text;
	return 0;
}

static int set_u64(const struct option_row *row, const char *text, u64 *value, struct err *err)
{
	static int (*const parsers[])(const char *, u64 *) = {
		[OPTION_NUMBER] = parse_number,
		[OPTION_SIZE] = options_size,
		[OPTION_SECONDS] = parse_seconds,
	};
	static const char *const wanted[] = {
		[OPTION_NUMBER] = "a number",
		[OPTION_SIZE] = "a size like 512M or 2G",
		[OPTION_SECONDS] = "a number of seconds",
	};
	u64 v;

	if (parsers[row->kind](text, &v))
		return err_set(
			err, -EINVAL, "--%s %s: must be %s", row->name, text, wanted[row->kind]);
	if (row->kind != OPTION_SECONDS && in_range(row, text, v, err))
		return -EINVAL;
	*value = v;
	return 0;
}

static int set(const struct option_row *row, const char *text, void *values, struct err *err)
{
	void *to = (char *)values + row->offset;

	switch (row->kind) {
	case OPTION_SWITCH: *(bool *)to = true; return 0;
	case OPTION_TEXT:
	case OPTION_OPERAND: *(const char **)to = text; return 0;
	case OPTION_CHOICE: return set_choice(row, text, to, err);
	case OPTION_LIST: return add_item(row, text, to, err);
	case OPTION_NUMBER:
	case OPTION_SIZE:
	case OPTION_SECONDS: return set_u64(row, text, to, err);
	case OPTION_REST: break;
	}
	return 0;
}

static int set_switch(const struct option_row *row, const char *text, bool *value, struct err *err)
{
	bool yes = !strcmp(text, "true") || !strcmp(text, "yes");

	if (!yes && strcmp(text, "false") != 0 && strcmp(text, "no") != 0)
		return err_set(err, -EINVAL, "%s: %.60s: must be true or false", row->name, text);
	*value = yes;
	return 0;
}

int options_set(const struct option_row *table, const char *name, const char *text, void *values,
	struct err *err)
{
	const struct option_row *row = find(table, name, strlen(name));

	if (!row || row->once) {
		const char *near = options_nearest(name, &table->name, rows(table), sizeof(*table));

		return near ? err_set(err, -EINVAL, "unknown option %.60s; did you mean %s?", name,
				      near)
			    : err_set(err, -EINVAL,
				      "unknown option %.60s; `strata help run` lists them", name);
	}
	if (row->kind == OPTION_SWITCH)
		return set_switch(row, text, (bool *)((char *)values + row->offset), err);
	return set(row, text, values, err);
}

/* ---- and back ---- */

/* With the largest unit that it is a multiple of. */
static void print_size(u64 size, char *text, size_t len)
{
	static const char units[] = "\0KMGT";
	unsigned i = 0;

	for (; i + 2 < sizeof(units) && size && size % 1024 == 0; i++)
		size /= 1024;
	snprintf(text, len, "%llu%.1s", (unsigned long long)size, units + i);
}

static int each_item(const struct option_row *row, const struct option_list *list,
	int (*each)(void *ctx, const char *name, const char *text), void *ctx)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < list->count; i++)
		rc = each(ctx, row->name, list->items[i]);
	return rc;
}

static int each_row(const struct option_row *row, const void *value, const void *usual,
	int (*each)(void *ctx, const char *name, const char *text), void *ctx)
{
	char number[40];
	u64 n;

	switch (row->kind) {
	case OPTION_OPERAND:
	case OPTION_REST: return 0;
	case OPTION_SWITCH: return *(const bool *)value ? each(ctx, row->name, "true") : 0;
	case OPTION_LIST: return each_item(row, value, each, ctx);
	case OPTION_TEXT:
		if (!*(const char *const *)value ||
			*(const char *const *)value == *(const char *const *)usual)
			return 0;
		return each(ctx, row->name, *(const char *const *)value);
	case OPTION_CHOICE:
		if (*(const unsigned *)value == *(const unsigned *)usual)
			return 0;
		return each(ctx, row->name, row->choices[*(const unsigned *)value]);
	case OPTION_NUMBER:
	case OPTION_SIZE:
	case OPTION_SECONDS: break;
	}
	n = *(const u64 *)value;
	if (n == *(const u64 *)usual)
		return 0;
	if (row->kind == OPTION_SIZE)
		print_size(n, number, sizeof(number));
	else if (row->kind == OPTION_SECONDS)
		snprintf(number, sizeof(number), "%.3f", (double)n / 1e9);
	else
		snprintf(number, sizeof(number), "%llu", (unsigned long long)n);
	return each(ctx, row->name, number);
}

int options_each(const struct option_row *table, const void *values, const void *defaults,
	int (*each)(void *ctx, const char *name, const char *text), void *ctx)
{
	int rc = 0;

	for (; !rc && table->name; table++)
		if (!table->once)
			rc = each_row(table, (const char *)values + table->offset,
				(const char *)defaults + table->offset, each, ctx);
	return rc;
}

/* The first operand that has not been given. */
static const struct option_row *next_operand(const struct option_row *table, u64 seen)
{
	for (const struct option_row *row = table; row->name; row++)
		if (row->kind == OPTION_OPERAND && !(seen & BIT64(row - table)))
			return row;
	return NULL;
}

/* The words behind a "--"; NULL: the verb takes none. */
static const struct option_row *set_rest(
	const struct option_row *table, int argc, char **argv, void *values)
{
	for (; table->name; table++)
		if (table->kind == OPTION_REST) {
			struct option_rest *rest = (void *)((char *)values + table->offset);

			*rest = (struct option_rest){ argv, (unsigned)argc };
			return table;
		}
	return NULL;
}

/* "-f" */
static const struct option_row *by_letter(const struct option_row *table, const char *arg)
{
	if (arg[0] != '-' || !arg[1] || arg[2])
		return NULL;
	while (table->name && table->letter != arg[1])
		table++;
	return table->name ? table : NULL;
}

/* One option at argv[0]; returns how many arguments it was, or -EINVAL. */
static int parse_one(const struct option_row *table, u64 seen, int argc, char **argv, void *values,
	const struct option_row **found, struct err *err)
{
	const char *arg = argv[0], *text = NULL;
	const struct option_row *row = by_letter(table, arg);

	if (!row && (strncmp(arg, "--", 2) || !arg[2])) {
		*found = next_operand(table, seen);
		if (*found)
			return set(*found, arg, values, err) ? -EINVAL : 1;
		return err_set(
			err, -EINVAL, "unexpected argument %.64s; options begin with --", arg);
	}
	size_t len = strcspn(arg + 2, "=");

	if (!row) {
		text = arg[2 + len] ? arg + 2 + len + 1 : NULL;
		row = find(table, arg + 2, len);
	}
	*found = row;

	if (!row)
		return unknown(table, arg, len, err);
	if (row->kind == OPTION_SWITCH) {
		if (text)
			return err_set(err, -EINVAL, "--%s takes no value", row->name);
		return set(row, NULL, values, err) ? -EINVAL : 1;
	}
	int used = text ? 1 : 2;
	if (argc < used)
		return err_set(err, -EINVAL, "--%s needs a value: %s", row->name, row->value);
	return set(row, text ? text : argv[1], values, err) ? -EINVAL : used;
}

int options_parse(
	const struct option_row *table, int argc, char **argv, void *values, struct err *err)
{
	const struct option_row *row = NULL;
	u64 seen = 0;

	while (argc > 0) {
		row = strcmp(argv[0], "--") ? NULL : set_rest(table, argc - 1, argv + 1, values);
		if (row) {
			seen |= argc > 1 ? BIT64(row - table) : 0;
			break;
		}
		int used = parse_one(table, seen, argc, argv, values, &row, err);

		if (used < 0)
			return used;
		seen |= BIT64(row - table);
		argc -= used;
		argv += used;
	}
	for (row = table; row->name; row++)
		if (row->required && !(seen & BIT64(row - table)))
			return options_stands_alone(row)
				       ? err_set(err, -EINVAL, "%s is missing", row->name)
				       : err_set(err, -EINVAL, "--%s %s is missing", row->name,
						 row->value);
	return 0;
}

void options_operands(const struct option_row *table, FILE *to)
{
	for (; table->name; table++)
		if (table->kind == OPTION_OPERAND)
			fprintf(to, table->required ? " %s" : " [%s]", table->name);
		else if (table->kind == OPTION_REST)
			fprintf(to, table->required ? " -- %s..." : " [-- %s...]", table->name);
}

void options_help(const struct option_row *table, FILE *to)
{
	for (; table->name; table++) {
		if (table->letter)
			fprintf(to, "  -%c %s, --%s %s\n", table->letter, table->value, table->name,
				table->value);
		else
			fprintf(to, "  %s%s%s%s\n", options_stands_alone(table) ? "" : "--",
				table->name, table->value ? " " : "",
				table->value ? table->value : "");
		fprintf(to, "        %s\n", table->doc);
		if (table->more)
			table->more(to);
	}
}
