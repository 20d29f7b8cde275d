#include "cli/limits_option.h"
#include "base/bits.h"
#include "cli/options.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD_US 100000u /* of cpu.max, and the usual one */

/* The group's files: the kernel's admin-guide/cgroup-v2. The properties: systemd's D-Bus
 * interface, org.freedesktop.systemd1(5). */
struct row {
	const char *name, *controller, *file, *property, *assignment;
	int (*parse)(const char *text, u64 *value);
	u64 min, max;
	const char *wanted, *about;
};

static int parse_number(const char *text, u64 *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 10);
	return errno || *end || !isdigit((unsigned char)*text) ? -EINVAL : 0;
}

/* "1.5" processors. */
static int parse_cpus(const char *text, u64 *value)
{
	char *end;
	double n = strtod(text, &end);

	if (*end || !isdigit((unsigned char)*text) || !(n >= 0 && n <= 1e6))
		return -EINVAL;
	*value = (u64)(n * 1000 + 0.5);
	return 0;
}

static const struct row rows[LIMITS] = {
	[LIMIT_MEMORY] = { "memory", "memory", "memory.max", "MemoryMax", "MemoryMax", options_size,
		16 * MiB, 1ull << 50, "a size from 16M on",
		"memory=SIZE  of the host's memory, the guest's and the monitor's own: at least "
		"64M "
		"more than the guest has, unless it has a balloon" },
	[LIMIT_CPU] = { "cpu", "cpu", "cpu.max", "CPUQuotaPerSecUSec", "CPUQuota", parse_cpus, 10,
		1000000, "a number of processors from 0.01 to 1000",
		"cpu=N  processors, such as 1.5" },
	[LIMIT_WEIGHT] = { "weight", "cpu", "cpu.weight", "CPUWeight", "CPUWeight", parse_number, 1,
		10000, "a number from 1 to 10000",
		"weight=N  its share where several want the processors, 1 to 10000 (usual: 100)" },
	[LIMIT_PIDS] = { "pids", "pids", "pids.max", "TasksMax", "TasksMax", parse_number, 16,
		4000000, "a number from 16 to 4000000",
		"pids=N  threads and processes of the monitor's" },
};

const char *limits_option_name(enum limit limit) { return rows[limit].name; }
const char *limits_option_file(enum limit limit) { return rows[limit].file; }

static int set(const char *text, struct limits_option *o, struct err *err)
{
	size_t len = strcspn(text, "=");

	for (unsigned i = 0; i < LIMITS; i++) {
		const struct row *row = &rows[i];
		u64 *value = &o->value[i];

		if (strlen(row->name) != len || memcmp(row->name, text, len) || !text[len])
			continue;
		if (*value != LIMIT_UNSET)
			return err_set(err, -EINVAL, "--limits: %s= is there twice", row->name);
		if (row->parse(text + len + 1, value) || *value < row->min || *value > row->max)
			return err_set(
				err, -EINVAL, "--limits: %.40s: must be %s", text, row->wanted);
		return 0;
	}
	return err_set(err, -EINVAL,
		"--limits: no option %.40s; there are memory=, cpu=, weight= and pids=", text);
}

int limits_option_parse(const char *text, struct limits_option *o, struct err *err)
{
	char copy[256], *save = NULL;

	for (unsigned i = 0; i < LIMITS; i++)
		o->value[i] = LIMIT_UNSET;
	if (!text)
		return 0;
	if (!*text || strlen(text) >= sizeof(copy))
		return err_set(err, -EINVAL,
			"--limits: must be like memory=2G,cpu=1.5; there are memory=, cpu=, "
			"weight= and pids=");
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
		if (set(word, o, err))
			return err->code;
	return 0;
}

int limits_option_check(const struct limits_option *o, u64 memory, struct err *err)
{
	u64 most = o->value[LIMIT_MEMORY];

	if (most == LIMIT_UNSET || most >= memory + LIMIT_OWN)
		return 0;
	return err_set(err, -EINVAL,
		"--limits: memory=%lluM: the kernel would kill the machine once its guest uses the "
		"%llu MiB that it has: at least %lluM, or a smaller --memory",
		(unsigned long long)(most / MiB), (unsigned long long)(memory / MiB),
		(unsigned long long)((memory + LIMIT_OWN) / MiB));
}

void limits_option_help(FILE *to)
{
	for (unsigned i = 0; i < LIMITS; i++)
		fprintf(to, "          %s\n", rows[i].about);
}

/* ---- as others have them ---- */

static void print_value(enum limit limit, u64 value, char text[CGROUP_VALUE_MAX])
{
	const unsigned long long n = value;

	if (limit == LIMIT_CPU && value == LIMIT_UNSET)
		snprintf(text, CGROUP_VALUE_MAX, "max %u", PERIOD_US);
	else if (limit == LIMIT_CPU)
		snprintf(text, CGROUP_VALUE_MAX, "%llu %u", n * (PERIOD_US / 1000), PERIOD_US);
	else if (value == LIMIT_UNSET)
		snprintf(text, CGROUP_VALUE_MAX, limit == LIMIT_WEIGHT ? "100" : "max");
	else
		snprintf(text, CGROUP_VALUE_MAX, "%llu", n);
}

unsigned limits_option_values(
	const struct limits_option *o, bool all, struct cgroup_value values[LIMITS])
{
	unsigned count = 0;

	for (unsigned i = 0; i < LIMITS; i++) {
		struct cgroup_value *v = &values[count];

		if (o->value[i] == LIMIT_UNSET && !all)
			continue;
		*v = (struct cgroup_value){ rows[i].controller, rows[i].file, "" };
		print_value(i, o->value[i], v->text);
		count++;
	}
	return count;
}

u64 limits_option_read(enum limit limit, const char *text)
{
	unsigned long long n, period = PERIOD_US;

	if (sscanf(text, "%llu %llu", &n, &period) < 1)
		return LIMIT_UNSET;
	if (limit == LIMIT_CPU)
		return period ? n * 1000 / period : LIMIT_UNSET;
	return n;
}

/* A quota is microseconds of each second here, and per cent there. */
static void print_assignment(enum limit limit, u64 value, char text[CGROUP_VALUE_MAX])
{
	const char *name = rows[limit].assignment;
	const unsigned long long n = value;

	if (value == LIMIT_UNSET)
		snprintf(text, CGROUP_VALUE_MAX, "%s=%s", name,
			limit == LIMIT_MEMORY || limit == LIMIT_PIDS ? "infinity" : "");
	else if (limit == LIMIT_CPU)
		snprintf(text, CGROUP_VALUE_MAX, "%s=%llu.%llu%%", name, n / 10, n % 10);
	else
		snprintf(text, CGROUP_VALUE_MAX, "%s=%llu", name, n);
}

unsigned limits_option_properties(
	const struct limits_option *o, bool assignments, char words[LIMITS_WORDS][CGROUP_VALUE_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < LIMITS; i++) {
		u64 value = o->value[i];

		if (assignments) {
			print_assignment(i, value, words[count++]);
			continue;
		}
		if (value == LIMIT_UNSET)
			continue;
		snprintf(words[count++], CGROUP_VALUE_MAX, "%s", rows[i].property);
		snprintf(words[count++], CGROUP_VALUE_MAX, "t");
		snprintf(words[count++], CGROUP_VALUE_MAX, "%llu",
			(unsigned long long)(i == LIMIT_CPU ? value * 1000 : value));
	}
	return count;
}
