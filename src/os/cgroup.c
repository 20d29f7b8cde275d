#include "os/cgroup.h"
#include "base/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define TEXT_MAX    65536u
#define EVENTS_MAX  1024u
#define ENTER_TRIES 20u
#define FILE_MAX    (CGROUP_PATH_MAX + 64u)

/* ---- files ---- */

static const char *file_of(const char *path, const char *file, char name[FILE_MAX])
{
	snprintf(name, FILE_MAX, "%s/%s", path, file);
	return name;
}

static int read_text(const char *name, char *text, size_t size)
{
	AUTO_FD fd = open(name, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = -1;

	while (fd >= 0 && len < size - 1 && (n = read(fd, text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	int rc = n < 0 ? -errno : 0;

	text[len] = '\0';
	return rc;
}

/* One write: the kernel takes a value as a whole. */
static int write_text(const char *path, const char *file, const char *text)
{
	char name[FILE_MAX];
	AUTO_FD fd = open(file_of(path, file, name), O_WRONLY | O_CLOEXEC);
	size_t len = strlen(text);

	return fd < 0 || write(fd, text, len) != (ssize_t)len ? -errno : 0;
}

int cgroup_read(const char *path, const char *file, char *text, size_t size)
{
	char name[FILE_MAX];
	int rc = read_text(file_of(path, file, name), text, size);

	text[strcspn(text, "\n")] = '\0';
	return rc;
}

u64 cgroup_count(const char *path, const char *file, const char *word)
{
	char name[FILE_MAX], text[EVENTS_MAX], *save = NULL;
	size_t len = strlen(word);

	if (read_text(file_of(path, file, name), text, sizeof(text)))
		return 0;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, word, len) && line[len] == ' ')
			return strtoull(line + len, NULL, 10);
	return 0;
}

int cgroup_write(const char *path, const struct cgroup_value *v, struct err *err)
{
	int rc = write_text(path, v->file, v->text);

	return rc ? err_set(err, rc, "%s/%s: %s: %s", path, v->file, v->text, strerror(-rc)) : 0;
}

/* ---- where a process is ---- */

/* Of proc_pid_mountinfo(5): fields 4 and 5, and what follows the dash. */
static bool find_mount(char *mounts, char root[CGROUP_PATH_MAX], char at[CGROUP_PATH_MAX])
{
	char *save = NULL;

	for (char *line = strtok_r(mounts, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *kind = strstr(line, " - cgroup2 ");

		/* A blank within a name is written \040: such a place is passed over. */
		if (kind && sscanf(line, "%*s %*s %*s %1023s %1023s", root, at) == 2 &&
			!strchr(root, '\\') && !strchr(at, '\\'))
			return true;
	}
	return false;
}

int cgroup_from_text(char *mounts, char *groups, char top[CGROUP_PATH_MAX],
	char path[CGROUP_PATH_MAX], struct err *err)
{
	char root[CGROUP_PATH_MAX], *save = NULL, *group = NULL;

	if (!find_mount(mounts, root, top))
		return err_set(err, -ENOENT,
			"this host has no control groups of version 2: nothing is mounted of type "
			"cgroup2");
	for (char *line = strtok_r(groups, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!strncmp(line, "0::", 3))
			group = line + 3;
	/* What is mounted may be a part of the tree, and this process be elsewhere in it. */
	size_t skip = strcmp(root, "/") ? strlen(root) : 0;

	if (!group || strstr(group, "/..") || strncmp(group, root, skip) ||
		(skip && group[skip] && group[skip] != '/'))
		return err_set(
			err, -ENOENT, "%s does not show the control group of this process", top);
	group += skip;
	size_t len = strlen(group);

	while (len && group[len - 1] == '/')
		group[--len] = '\0';
	if (strlen(top) + len >= CGROUP_PATH_MAX)
		return err_set(err, -ENAMETOOLONG, "%s: too long a path", group);
	snprintf(path, CGROUP_PATH_MAX, "%s%s", top, group);
	return 0;
}

int cgroup_of(pid_t process, char top[CGROUP_PATH_MAX], char path[CGROUP_PATH_MAX], struct err *err)
{
	AUTO_FREE char *mounts = malloc(TEXT_MAX), *groups = malloc(TEXT_MAX);
	char name[64];

	if (!mounts || !groups)
		return err_set(err, -ENOMEM, "no memory");
	snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)process);
	int rc = read_text("/proc/self/mountinfo", mounts, TEXT_MAX);

	if (!rc)
		rc = read_text(name, groups, TEXT_MAX);
	if (rc)
		return err_set(err, rc, "%s: %s", name, strerror(-rc));
	return cgroup_from_text(mounts, groups, top, path, err);
}

/* ---- where a group may be made ---- */

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; (at = strstr(at, word)); at += len)
		if ((at == text || at[-1] == ' ') && (!at[len] || at[len] == ' '))
			return true;
	return false;
}

static bool may_write(const char *path, const char *file)
{
	char name[FILE_MAX];

	return !faccessat(AT_FDCWD, file_of(path, file, name), W_OK, AT_EACCESS);
}

static int hand_down(const char *path, const char *controller, struct err *err)
{
	char list[512], text[64];
	int rc = cgroup_read(path, "cgroup.controllers", list, sizeof(list));

	if (rc)
		return err_set(err, rc, "%s: %s", path, strerror(-rc));
	if (!has_word(list, controller))
		return err_set(err, -ENOTSUP, "%s has no controller %s", path, controller);
	rc = cgroup_read(path, "cgroup.subtree_control", list, sizeof(list));
	if (!rc && has_word(list, controller))
		return 0;
	snprintf(text, sizeof(text), "+%s", controller);
	rc = rc ? rc : write_text(path, "cgroup.subtree_control", text);
	if (rc == -EBUSY)
		return err_set(err, rc, "%s has processes of its own", path);
	return rc ? err_set(err, rc, "%s: %s: %s", path, text, strerror(-rc)) : 0;
}

static int try_parent(
	const char *path, const struct cgroup_value *values, unsigned count, struct err *err)
{
	if (!may_write(path, ".") || !may_write(path, "cgroup.procs") ||
		!may_write(path, "cgroup.subtree_control"))
		return err_set(err, -EACCES, "%s is not yours to write to", path);
	for (unsigned i = 0; i < count; i++)
		if (hand_down(path, values[i].controller, err))
			return err->code;
	return 0;
}

/* What the one furthest up lacks, all lack. */
int cgroup_parent_among(const struct cgroup_value *values, unsigned count, const char *top,
	const char *own, char path[CGROUP_PATH_MAX], struct err *err)
{
	size_t shortest = strlen(top);

	snprintf(path, CGROUP_PATH_MAX, "%s", own);
	for (;;) {
		*err = (struct err){ 0 };
		if (!try_parent(path, values, count, err))
			return 0;
		char *slash = strrchr(path, '/');

		if (!slash || (size_t)(slash - path) < shortest)
			return err->code;
		*slash = '\0';
	}
}

static bool is_group(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && fs.f_type == CGROUP2_SUPER_MAGIC;
}

int cgroup_parent(const struct cgroup_value *values, unsigned count, char path[CGROUP_PATH_MAX],
	struct err *err)
{
	const char *named = getenv("STRATA_CGROUP");
	char top[CGROUP_PATH_MAX], own[CGROUP_PATH_MAX];

	if (named && *named) {
		if (strlen(named) >= CGROUP_PATH_MAX || !is_group(named))
			return err_set(err, -EINVAL,
				"STRATA_CGROUP: %.200s is no control group of version 2", named);
		return cgroup_parent_among(values, count, named, named, path, err);
	}
	return cgroup_of(getpid(), top, own, err)
		       ? err->code
		       : cgroup_parent_among(values, count, top, own, path, err);
}

/* ---- coming and going ---- */

static int enter_once(
	const char *path, const struct cgroup_value *values, unsigned count, struct err *err)
{
	if (mkdir(path, 0755) && errno != EEXIST)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < count; i++)
		if (cgroup_write(path, &values[i], err))
			return err->code;
	int rc = write_text(path, "cgroup.procs", "0"); /* the writer */

	return rc ? err_set(err, rc, "%s/cgroup.procs: %s", path, strerror(-rc)) : 0;
}

int cgroup_enter(
	const char *path, const struct cgroup_value *values, unsigned count, struct err *err)
{
	int rc = -ENOENT;

	/* ENOENT of a file, ENODEV of one that was open: somebody has tidied up. */
	for (unsigned i = 0; i < ENTER_TRIES && (rc == -ENOENT || rc == -ENODEV); i++)
		rc = enter_once(path, values, count, err);
	if (rc)
		(void)!cgroup_remove(path);
	return rc;
}

int cgroup_remove(const char *path)
{
	return rmdir(path) && errno != ENOENT && errno != ENODEV ? -errno : 0;
}
