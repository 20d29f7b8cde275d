#include "cli/limits.h"
#include "base/bits.h"
#include "os/child.h"
#include "os/fd.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SCOPE_MS   5000u /* until systemd has made it */
#define NAME_MAX_  128u
#define USUAL	   100u /* cpu.weight */
#define FIXED_ARGS 22u

/* Another machine of that name has another one. */
static void group_name(const struct store_machine *m, char name[NAME_MAX_])
{
	snprintf(name, NAME_MAX_, "strata-%s-%llx", m->name, (unsigned long long)store_born(m));
}

/* ---- systemd's ---- */

static const char *whose(void) { return geteuid() ? "--user" : "--system"; }

/* sd_booted(3) */
static bool systemd_runs(void)
{
	const char *named = getenv("STRATA_CGROUP");

	return !(named && *named) && !access("/run/systemd/system/", F_OK);
}

static int call(const char *const *argv, struct err *err)
{
	struct child_last said = { "" };
	int status = child_run(
		&(struct child){ .argv = argv, .line = child_keep_last, .ctx = &said }, err);

	if (status <= 0)
		return status;
	return err_set(err, -EIO, "systemd: %s%s", said.line,
		geteuid() && strstr(said.line, "connect to bus")
			? ": Debian's package dbus-user-session gives you one, from the next login "
			  "on"
			: "");
}

static bool is_in(const char *path, const char *unit)
{
	const char *slash = strrchr(path, '/');

	return slash && !strcmp(slash + 1, unit);
}

/* systemd puts us there when it comes to it. */
static int wait_for_scope(const char *unit, char path[CGROUP_PATH_MAX], struct err *err)
{
	u64 deadline = fd_monotonic_ns() + SCOPE_MS * 1000000ull;
	const struct timespec moment = { .tv_nsec = 2000000 };
	char top[CGROUP_PATH_MAX];

	for (;;) {
		if (cgroup_of(getpid(), top, path, err))
			return err->code;
		if (is_in(path, unit))
			return 0;
		if (fd_monotonic_ns() > deadline)
			return err_set(err, -ETIMEDOUT, "systemd has not made %s", unit);
		nanosleep(&moment, NULL);
	}
}

/* What systemd cannot do it leaves out. Sizes are whole pages. */
static int check(const char *path, const struct limits_option *o, struct err *err)
{
	for (unsigned i = 0; i < LIMITS; i++) {
		u64 want = o->value[i];
		char text[64];

		if (want == LIMIT_UNSET)
			continue;
		int rc = cgroup_read(path, limits_option_file(i), text, sizeof(text));
		u64 has = rc ? LIMIT_UNSET : limits_option_read(i, text);

		if (has != want && (i != LIMIT_MEMORY || has != align_down(want, PAGE_SIZE)))
			return err_set(err, -ENOTSUP,
				"%s=: systemd does not hand that down to you (%s/%s: %s)",
				limits_option_name(i), path, limits_option_file(i),
				rc ? strerror(-rc) : text);
	}
	return 0;
}

static int enter_scope(
	const struct store_machine *m, const struct limits_option *o, struct err *err)
{
	char name[NAME_MAX_], unit[NAME_MAX_ + 8], record[NAME_MAX_ + 16], pid[16],
		path[CGROUP_PATH_MAX], words[LIMITS_WORDS][CGROUP_VALUE_MAX], about[NAME_MAX_];
	unsigned count = limits_option_properties(o, false, words), at = 0;
	const char *argv[FIXED_ARGS + LIMITS_WORDS + 2] = { 0 };
	char properties[16];

	group_name(m, name);
	snprintf(unit, sizeof(unit), "%s.scope", name);
	snprintf(record, sizeof(record), "scope %s", unit);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	snprintf(about, sizeof(about), "Strata's machine %s", m->name);
	snprintf(properties, sizeof(properties), "%u", 3 + count / 3);
	/* org.freedesktop.systemd1(5): StartTransientUnit(name, mode, properties, aux). */
	const char *const fixed[] = { "busctl", whose(), "--quiet", "call",
		"org.freedesktop.systemd1", "/org/freedesktop/systemd1",
		"org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))", unit,
		"fail", properties, "PIDs", "au", "1", pid, "Description", "s", about,
		"CollectMode", "s", "inactive-or-failed" };
	_Static_assert(ARRAY_LEN(fixed) == FIXED_ARGS, "arguments");

	for (; at < ARRAY_LEN(fixed); at++)
		argv[at] = fixed[at];
	for (unsigned i = 0; i < count; i++)
		argv[at++] = words[i];
	argv[at++] = "0";
	if (store_group_set(m, record, err) || call(argv, err) || wait_for_scope(unit, path, err))
		return err->code;
	return check(path, o, err);
}

static int change_scope(const char *unit, const struct limits_option *o, struct err *err)
{
	char words[LIMITS_WORDS][CGROUP_VALUE_MAX];
	unsigned count = limits_option_properties(o, true, words);
	const char *argv[LIMITS_WORDS + 8] = { "systemctl", whose(), "set-property", "--runtime",
		unit };

	for (unsigned i = 0; i < count; i++)
		argv[5 + i] = words[i];
	return call(argv, err);
}

/* ---- our own ---- */

/* What is in the way, and what may be done about it. */
static int no_group(struct err *err)
{
	char why[sizeof(err->text)];

	snprintf(why, sizeof(why), "%s", err->text);
	return err_set(err, err->code, "%.300s: %s", why,
		err->code == -EACCES ? "STRATA_CGROUP can name a control group that is"
				     : "only a host whose control groups of version 2 have it can "
				       "limit that; without --limits the machine runs here");
}

static int enter_own(const struct store_machine *m, const struct limits_option *o, struct err *err)
{
	struct cgroup_value values[LIMITS];
	unsigned count = limits_option_values(o, false, values);
	char parent[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + NAME_MAX_ + 1], name[NAME_MAX_];

	if (cgroup_parent(values, count, parent, err))
		return no_group(err);
	group_name(m, name);
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", parent, name) >= CGROUP_PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "%s: too long a path", parent);
	return store_group_set(m, path, err) ? err->code : cgroup_enter(path, values, count, err);
}

/* Limits that there are no longer, too; files that are not there are no limits. */
static int change_own(const char *path, const struct limits_option *o, struct err *err)
{
	struct cgroup_value values[LIMITS];
	unsigned count = limits_option_values(o, true, values);
	char text[64];

	for (unsigned i = 0; i < count; i++)
		if ((o->value[i] != LIMIT_UNSET ||
			    !cgroup_read(path, values[i].file, text, sizeof(text))) &&
			cgroup_write(path, &values[i], err))
			return err->code;
	return 0;
}

/* ---- both ---- */

int limits_enter(const struct store_machine *m, const struct limits_option *o, struct err *err)
{
	struct err why = { 0 };
	bool any = false;

	for (unsigned i = 0; i < LIMITS; i++)
		any = any || o->value[i] != LIMIT_UNSET;
	if (store_group_drop(m, err)) /* of the run before */
		return err->code;
	if (!any)
		return 0;
	if (systemd_runs() && !enter_scope(m, o, &why))
		return 0;
	if (!enter_own(m, o, err))
		return 0;
	if (why.code) /* it would have been the better way */
		*err = why;
	err->code = err->code ? err->code : -EIO;
	return err_wrap(err, "limits");
}

/* Where the group is of one that runs. */
static int find_group(const struct store_machine *m, char path[CGROUP_PATH_MAX], struct err *err)
{
	char record[CGROUP_PATH_MAX], top[CGROUP_PATH_MAX];
	struct store_outcome o;

	if (!store_group(m, record, sizeof(record)) || store_state(m, &o) != STORE_RUNNING)
		return err_set(err, -ENOENT, "it was started without limits");
	if (*record == '/') {
		snprintf(path, CGROUP_PATH_MAX, "%s", record);
		return 0;
	}
	if (cgroup_of((pid_t)o.pid, top, path, err))
		return err->code;
	return is_in(path, record + strlen("scope "))
		       ? 0
		       : err_set(err, -ENOENT, "%s is not where it is", record);
}

int limits_change(const struct store_machine *m, const struct limits_option *o, struct err *err)
{
	char path[CGROUP_PATH_MAX], record[CGROUP_PATH_MAX], text[64];

	if (find_group(m, path, err))
		return err->code;
	if (o->value[LIMIT_MEMORY] != LIMIT_UNSET &&
		!cgroup_read(path, "memory.current", text, sizeof(text)) &&
		limits_option_read(LIMIT_MEMORY, text) > o->value[LIMIT_MEMORY])
		return err_set(err, -EBUSY, "it has more memory than that now: %llu MiB",
			(unsigned long long)(limits_option_read(LIMIT_MEMORY, text) / MiB));
	if (store_group(m, record, sizeof(record)) && *record != '/')
		return change_scope(record + strlen("scope "), o, err) ? err->code
								       : check(path, o, err);
	return change_own(path, o, err);
}

json_t *limits_show(const struct store_machine *m)
{
	char path[CGROUP_PATH_MAX], text[64];
	struct err err = { 0 };

	if (find_group(m, path, &err))
		return NULL;
	json_t *j = json_object();

	for (unsigned i = 0; i < LIMITS; i++) {
		u64 value = cgroup_read(path, limits_option_file(i), text, sizeof(text))
				    ? LIMIT_UNSET
				    : limits_option_read(i, text);

		if (value == LIMIT_UNSET || (i == LIMIT_WEIGHT && value == USUAL))
			continue;
		json_object_set_new(j, limits_option_name(i),
			i == LIMIT_CPU ? json_real((double)value / 1000)
				       : json_integer((json_int_t)value));
	}
	return j;
}
