/* What a machine has of the host besides its folder: see store.h, and os/cgroup.h for why nobody
 * needs a lock to tidy up. */
#include "base/scope.h"
#include "os/cgroup.h"
#include "os/fd.h"
#include "store/folders_priv.h"
#include "store/group_priv.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define GROUP	    "group"
#define MEMORY	    "memory"
#define STARVED	    "starved"
#define PROMISE_MAX 24u
#define RUN_MAX	    64u
#define GOING_MS    3000u /* the monitor's helpers end a moment after it */

static int write_file(int folder, const char *file, const char *text, struct err *err)
{
	AUTO_FD fd = openat(folder, file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	size_t len = strlen(text);

	return fd < 0 || write(fd, text, len) != (ssize_t)len
		       ? err_set(err, -errno, "%s: %s", file, strerror(errno))
		       : 0;
}

static bool read_group(int folder, char *group, size_t size)
{
	struct err err;
	size_t len;
	AUTO_FREE char *text = folders_read(folder, GROUP, CGROUP_PATH_MAX, &len, &err);

	if (!text || !*text || len >= size)
		return false;
	snprintf(group, size, "%s", text);
	return true;
}

/* A group that systemd has made goes by itself. */
static int remove_group(const char *group) { return *group == '/' ? cgroup_remove(group) : 0; }

/* Processes let go of their locks first, and of their group later. There is no waiting for that
 * which would be shorter than looking; lock -1: it is ours. */
static int remove_soon(const char *group, int lock)
{
	const struct timespec moment = { .tv_nsec = 2000000 };
	u64 deadline = fd_monotonic_ns() + GOING_MS * 1000000ull;
	int rc;

	while ((rc = remove_group(group)) == -EBUSY && fd_monotonic_ns() < deadline &&
		(lock < 0 || !folders_is_locked(lock)))
		nanosleep(&moment, NULL);
	return rc;
}

static int drop(int folder, struct err *err)
{
	char group[CGROUP_PATH_MAX];

	if (!read_group(folder, group, sizeof(group)))
		return 0;
	int rc = remove_soon(group, -1);

	if (rc)
		return err_set(err, rc, "control group %s: %s", group, strerror(-rc));
	unlinkat(folder, GROUP, 0);
	return 0;
}

int store_group_set(const struct store_machine *m, const char *group, struct err *err)
{
	return write_file(m->folder, GROUP, group, err);
}

bool store_group(const struct store_machine *m, char *group, size_t size)
{
	return read_group(m->folder, group, size);
}

int store_group_drop(const struct store_machine *m, struct err *err)
{
	return drop(m->folder, err);
}

void group_forget(int folder)
{
	struct err err;

	(void)!drop(folder, &err);
}

/* Which run of a machine's this is: always of the same length. */
static void name_run(const struct store_outcome *o, char text[RUN_MAX])
{
	snprintf(text, RUN_MAX, "%020lld %020lld", (long long)o->pid, (long long)o->since);
}

bool group_starved(const struct store_machine *m, const struct store_outcome *o)
{
	char group[CGROUP_PATH_MAX], run[RUN_MAX];
	struct err err;
	size_t len;
	AUTO_FREE char *noted = folders_read(m->folder, STARVED, RUN_MAX, &len, &err);

	name_run(o, run);
	if (noted && !strcmp(noted, run))
		return true;
	return read_group(m->folder, group, sizeof(group)) && *group == '/' &&
	       cgroup_count(group, "memory.events", "oom_kill");
}

/* What only the group knows, before it goes. Nobody needs a lock: a note that comes too late is
 * about another run than the last one, and who notes the same run again changes nothing. */
static void note_end(const struct store_machine *m)
{
	struct store_outcome o;
	char run[RUN_MAX];

	if (store_state(m, &o) != STORE_STARVED)
		return;
	AUTO_FD fd = openat(m->folder, STARVED, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	name_run(&o, run);
	if (fd >= 0)
		(void)!write(fd, run, strlen(run));
}

/* It may have begun to run again: then its group has processes, or is made once more. */
void store_group_tidy(const struct store_machine *m)
{
	char group[CGROUP_PATH_MAX];

	if (!read_group(m->folder, group, sizeof(group)))
		return;
	note_end(m);
	(void)!remove_soon(group, m->lock);
}

static void sweep_one(const struct store_machine *m, void *unused)
{
	char group[CGROUP_PATH_MAX];

	if (!read_group(m->folder, group, sizeof(group)) || folders_is_locked(m->lock))
		return;
	note_end(m);
	(void)!remove_group(group);
}

void group_sweep(void) { store_each(sweep_one, NULL); }

int store_promise(const struct store_machine *m, u64 memory, struct err *err)
{
	char text[PROMISE_MAX];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)memory);
	if (write_file(m->folder, MEMORY, text, err))
		return err->code;
	int rc = folders_mark(m->lock);

	return rc ? err_set(err, rc, FOLDERS_LOCK ": %s", strerror(-rc)) : 0;
}

u64 store_promised(const struct store_machine *m)
{
	struct err err;
	size_t len;
	AUTO_FREE char *text = folders_read(m->folder, MEMORY, PROMISE_MAX, &len, &err);

	/* What was written for an earlier run has no mark. */
	return text && folders_is_marked(m->lock) ? strtoull(text, NULL, 10) : 0;
}
