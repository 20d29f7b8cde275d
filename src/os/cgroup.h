/*
 * Control groups, version 2 (the kernel's admin-guide/cgroup-v2): a group is a folder of a file
 * system whose files say what all processes in it may take together, and what they have taken.
 *
 * Where one may be made. Version 2 lets a group have processes or hand controllers down, not both
 * ("no internal process constraint"; the root is excepted). So a new group cannot be below the one
 * that this process is in, but is below the nearest one further up that is ours to write to and
 * has no processes of its own. Whoever may write to none can be given one: STRATA_CGROUP names it.
 *
 * Coming and going. A group that has no processes can be removed by whoever may write to the one
 * above it; one that has some cannot. So nobody needs a lock: who makes a group and enters it makes
 * it again if somebody has tidied it away in between, and from then on it stays until the last of
 * its processes has ended, however that ends.
 *
 * A path here is the group's folder.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <stddef.h>
#include <sys/types.h>

#define CGROUP_PATH_MAX	 1024u
#define CGROUP_VALUE_MAX 48u

struct cgroup_value {
	const char *controller, *file; /* "memory", "memory.max" */
	char text[CGROUP_VALUE_MAX];
};

/* Below which group one with these controllers may be made, which it then hands down. -errno with
 * err: there is none. */
NODISCARD int cgroup_parent(const struct cgroup_value *values, unsigned count,
	char path[CGROUP_PATH_MAX], struct err *err);
/* The same among `own` and the groups above it, up to `top`. */
NODISCARD int cgroup_parent_among(const struct cgroup_value *values, unsigned count,
	const char *top, const char *own, char path[CGROUP_PATH_MAX], struct err *err);
/* Where a process is; 0, or -ENOENT with err: version 2 is not there. */
NODISCARD int cgroup_of(
	pid_t process, char top[CGROUP_PATH_MAX], char path[CGROUP_PATH_MAX], struct err *err);
/* The same from the text of /proc/PID/mountinfo and /proc/PID/cgroup. */
NODISCARD int cgroup_from_text(char *mounts, char *groups, char top[CGROUP_PATH_MAX],
	char path[CGROUP_PATH_MAX], struct err *err);

/* Makes the group, with these limits, and puts this process, all of its threads, into it. */
NODISCARD int cgroup_enter(
	const char *path, const struct cgroup_value *values, unsigned count, struct err *err);
NODISCARD int cgroup_write(const char *path, const struct cgroup_value *value, struct err *err);
/* The first line of a file of the group's. -errno. */
NODISCARD int cgroup_read(const char *path, const char *file, char *text, size_t size);
/* What a line of a file of the group's says of a word: 3 where "oom_kill 3" stands; 0 where nothing
 * does. */
u64 cgroup_count(const char *path, const char *file, const char *word);
/* 0, also where there is no such group; -EBUSY: it has processes. */
NODISCARD int cgroup_remove(const char *path);
