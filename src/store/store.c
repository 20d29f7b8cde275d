/* See store.h. */
#include "store/store.h"
#include "base/scope.h"
#include "os/fd.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONFIG	  "machine.yaml"
#define LOCK	  "lock"
#define OUTCOME	  "outcome"
#define EPHEMERAL "ephemeral"
#define NEW	  ".new-"
#define GONE	  ".gone-"

int store_check_name(const char *name, struct err *err)
{
	size_t len = strlen(name);
	bool good = len && len <= STORE_NAME_MAX && isalnum((unsigned char)name[0]);

	for (size_t i = 0; i < len && good; i++)
		good = isascii((unsigned char)name[i]) &&
		       (isalnum((unsigned char)name[i]) || strchr("._-", name[i]));
	return good ? 0
		    : err_set(err, -EINVAL,
			      "%.64s: a name is up to %u letters, digits, dots, dashes and "
			      "underscores, and begins with a letter or digit",
			      *name ? name : "an empty text", STORE_NAME_MAX);
}

/* ---- the root ---- */

static int make_folders(char *path)
{
	for (char *at = path + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		int rc = mkdir(path, 0700);

		*at = '/';
		if (rc && errno != EEXIST)
			return -errno;
	}
	return mkdir(path, 0700) && errno != EEXIST ? -errno : 0;
}

/* The folder of all machines; -errno with err. */
static int open_root(struct err *err)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	bool named = state && *state == '/'; /* the XDG base directory specification wants it so */
	char path[1024];

	if (!named && !(home && *home == '/'))
		return err_set(err, -ENOENT,
			"neither XDG_STATE_HOME nor HOME says where machines are kept");
	snprintf(path, sizeof(path), "%s%s/strata/machines", named ? state : home,
		named ? "" : "/.local/state");
	int rc = make_folders(path);

	if (rc)
		return err_set(err, rc, "%s: %s", path, strerror(-rc));
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_set(err, -errno, "%s: %s", path, strerror(errno)) : fd;
}

/* ---- locks ---- */

static int lock_file(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static bool is_locked(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether the folder still has its name. */
static bool is_there(const struct store_machine *m)
{
	struct err err = { 0 };
	AUTO_FD root = open_root(&err);
	struct stat ours, named;

	return root >= 0 && !fstat(m->folder, &ours) &&
	       !fstatat(root, m->name, &named, AT_SYMLINK_NOFOLLOW) && same_file(&ours, &named);
}

int store_lock(struct store_machine *m, struct err *err)
{
	int rc = lock_file(m->lock);

	if (rc == -EAGAIN || rc == -EACCES)
		return err_set(
			err, -EBUSY, "%s runs, or another command is at work on it", m->name);
	if (rc)
		return err_set(err, rc, "%s: " LOCK ": %s", m->name, strerror(-rc));
	m->locked = true;
	if (!is_there(m))
		return err_set(err, -ENOENT, "%s has just been removed", m->name);
	return 0;
}

void store_unlock(struct store_machine *m)
{
	struct flock l = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	if (m->locked)
		fcntl(m->lock, F_OFD_SETLK, &l);
	m->locked = false;
}

/* There is no waiting for such a lock with a limit; it is looked at. */
bool store_wait(const struct store_machine *m, unsigned ms)
{
	u64 deadline = ms ? fd_monotonic_ns() + ms * 1000000ull : ~0ull;
	const struct timespec moment = { .tv_nsec = 5000000 };

	while (is_locked(m->lock)) {
		if (fd_monotonic_ns() > deadline)
			return false;
		nanosleep(&moment, NULL);
	}
	return true;
}

/* ---- one machine ---- */

int store_open(struct store_machine *m, const char *name, struct err *err)
{
	AUTO_FD root = open_root(err);

	if (root < 0)
		return root;
	if (store_check_name(name, err))
		return err->code;
	*m = (struct store_machine){ .folder = -1, .lock = -1 };
	memcpy(m->name, name, strlen(name) + 1);
	m->folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (m->folder >= 0)
		m->lock = openat(m->folder, LOCK, O_RDWR | O_CLOEXEC);
	if (m->lock < 0) {
		int rc = -errno;

		store_close(m);
		return rc == -ENOENT
			       ? err_set(err, rc,
					 "no machine %s; `strata ls` lists those there are", name)
			       : err_set(err, rc, "machine %s: %s", name, strerror(-rc));
	}
	return 0;
}

void store_close(struct store_machine *m)
{
	if (m->folder >= 0)
		close(m->folder);
	if (m->lock >= 0)
		close(m->lock);
	m->folder = m->lock = -1;
	m->locked = false;
}

static int write_config(int folder, const struct store_config *config, struct err *err)
{
	int fd = openat(folder, CONFIG, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -errno, CONFIG ": %s", strerror(errno));
	}
	fprintf(f, "# A machine of strata's: options of `strata run`, by name. It is read at each "
		   "start.\n");
	int rc = store_config_write(config, f, err);

	if (!rc && (fflush(f) || fsync(fd)))
		rc = err_set(err, -errno, CONFIG ": %s", strerror(errno));
	if (fclose(f) && !rc)
		rc = err_set(err, -errno, CONFIG ": %s", strerror(errno));
	return rc;
}

static void empty_folder(int folder)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);

	for (struct dirent *e; d && (e = readdir(d));)
		if (strcmp(e->d_name, LOCK) != 0)
			unlinkat(folder, e->d_name, 0);
	/* Last, so that what is left of us if we are killed can be told by it. */
	unlinkat(folder, LOCK, 0);
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
}

static int fill_folder(
	struct store_machine *m, const struct store_config *config, bool ephemeral, struct err *err)
{
	m->lock = openat(m->folder, LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (m->lock < 0 || lock_file(m->lock))
		return err_set(err, -errno, LOCK ": %s", strerror(errno));
	m->locked = true;
	if (ephemeral) {
		AUTO_FD fd = openat(m->folder, EPHEMERAL, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0)
			return err_set(err, -errno, EPHEMERAL ": %s", strerror(errno));
	}
	return write_config(m->folder, config, err);
}

int store_create(struct store_machine *m, const char *name, const struct store_config *config,
	bool ephemeral, struct err *err)
{
	char partial[64];

	*m = (struct store_machine){ .folder = -1, .lock = -1 };
	if (store_check_name(name, err))
		return err->code;
	store_sweep();
	AUTO_FD root = open_root(err);

	if (root < 0)
		return root;
	memcpy(m->name, name, strlen(name) + 1);
	snprintf(partial, sizeof(partial), NEW "%d", (int)getpid());
	if (mkdirat(root, partial, 0700) ||
		(m->folder = openat(root, partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
		return err_set(err, -errno, "machine %s: %s", name, strerror(errno));
	int rc = fill_folder(m, config, ephemeral, err);

	if (!rc && renameat2(root, partial, root, name, RENAME_NOREPLACE))
		rc = errno == EEXIST
			     ? err_set(err, -EEXIST,
				       "machine %s exists; `strata start %s` starts it, `strata rm "
				       "%s` removes it",
				       name, name, name)
			     : err_set(err, -errno, "machine %s: %s", name, strerror(errno));
	if (rc) {
		empty_folder(m->folder);
		unlinkat(root, partial, AT_REMOVEDIR);
		store_close(m);
	}
	return rc;
}

/* The folder by its name of the moment, its lock taken. */
static int remove_folder(int root, const char *name, int folder, struct err *err)
{
	char gone[64];

	/* Unique as long as the folder exists. */
	struct stat st;

	if (fstat(folder, &st))
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	snprintf(gone, sizeof(gone), GONE "%llu", (unsigned long long)st.st_ino);
	if (strcmp(name, gone) != 0 && renameat(root, name, root, gone))
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	empty_folder(folder);
	/* Somebody's sweep may have done the last step. */
	if (unlinkat(root, gone, AT_REMOVEDIR) && errno != ENOENT)
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	return 0;
}

int store_remove(struct store_machine *m, struct err *err)
{
	AUTO_FD root = open_root(err);

	return root < 0 ? root : remove_folder(root, m->name, m->folder, err);
}

/* ---- outcome ---- */

static bool read_outcome(const struct store_machine *m, bool *running, struct store_outcome *o)
{
	AUTO_FD fd = openat(m->folder, OUTCOME, O_RDONLY | O_CLOEXEC);
	json_error_t where;
	json_t *j = fd < 0 ? NULL : json_loadfd(fd, 0, &where);
	const char *text = json_string_value(json_object_get(j, "text"));

	*o = (struct store_outcome){
		.pid = json_integer_value(json_object_get(j, "pid")),
		.since = json_integer_value(json_object_get(j, "since")),
		.until = json_integer_value(json_object_get(j, "until")),
		.status = (int)json_integer_value(json_object_get(j, "status")),
	};
	snprintf(o->text, sizeof(o->text), "%s", text ? text : "");
	*running = json_is_true(json_object_get(j, "running"));
	bool there = j != NULL;

	json_decref(j);
	return there; /* it is empty until the guest has run */
}

enum store_state store_state(const struct store_machine *m, struct store_outcome *outcome)
{
	bool locked = is_locked(m->lock), running;
	bool there = read_outcome(m, &running, outcome);

	/* It may have ended between the two looks. */
	if (!locked && running)
		there = read_outcome(m, &running, outcome);
	return locked ? STORE_RUNNING : !there ? STORE_NEW : running ? STORE_CRASHED : STORE_ENDED;
}

int store_outcome_open(const struct store_machine *m, struct err *err)
{
	int fd = openat(m->folder, OUTCOME, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(err, -errno, OUTCOME ": %s", strerror(errno)) : fd;
}

/* One write of a length that is always the same, so that what is read is the one or the other. */
void store_outcome_write(int fd, bool running, const struct store_outcome *o)
{
	char line[512];
	json_t *j = json_pack("{s:b,s:I,s:I,s:I,s:i,s:s}", "running", (int)running, "pid",
		(json_int_t)o->pid, "since", (json_int_t)o->since, "until", (json_int_t)o->until,
		"status", o->status, "text", o->text);
	size_t len = j ? json_dumpb(j, line, sizeof(line), JSON_COMPACT) : 0;

	json_decref(j);
	if (!len || len > sizeof(line))
		len = (size_t)snprintf(line, sizeof(line), "{\"running\":%s,\"status\":%d}",
			running ? "true" : "false", o->status);
	memset(line + len, ' ', sizeof(line) - len);
	line[sizeof(line) - 1] = '\n';
	struct iovec iov = { line, sizeof(line) };

	(void)!pwritev(fd, &iov, 1, 0);
}

int store_log(const struct store_machine *m, const char *file, struct err *err)
{
	int fd = openat(m->folder, file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(err, -errno, "%s: %s", file, strerror(errno)) : fd;
}

int store_read_config(const struct store_machine *m, struct store_config *config, struct err *err)
{
	AUTO_FD fd = openat(m->folder, CONFIG, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = malloc(STORE_CONFIG_MAX + 1);
	ssize_t len = fd < 0 || !text ? -1 : read(fd, text, STORE_CONFIG_MAX + 1);

	if (len < 0)
		return err_set(err, -errno, CONFIG ": %s", strerror(errno));
	return store_config_parse(config, text, (size_t)len, err) ? err_wrap(err, CONFIG) : 0;
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int store_list(char ***names, unsigned *count, struct err *err)
{
	int root = open_root(err);
	DIR *d = root < 0 ? NULL : fdopendir(root);
	struct err why;

	*names = NULL;
	*count = 0;
	if (root < 0)
		return root;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (store_check_name(e->d_name, &why))
			continue;
		char **more = reallocarray(*names, *count + 1, sizeof(**names));

		if (!more)
			break;
		*names = more;
		more[*count] = strdup(e->d_name);
		*count += more[*count] != NULL;
	}
	closedir(d);
	if (*count)
		qsort(*names, *count, sizeof(**names), by_name);
	return 0;
}

static bool is_left_over(const char *name)
{
	return !strncmp(name, NEW, strlen(NEW)) || !strncmp(name, GONE, strlen(GONE));
}

/* Whoever takes the lock of something that is to go has it for himself. Other machines' locks are
 * left alone: somebody might take the sweep for a run. */
static void sweep_one(int root, const char *name)
{
	AUTO_FD folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct stat ours, named;
	struct err err;

	if (folder < 0 || (!is_left_over(name) && faccessat(folder, EPHEMERAL, F_OK, 0)))
		return;
	AUTO_FD lock = openat(folder, LOCK, O_RDWR | O_CLOEXEC);

	if (lock < 0 && !strncmp(name, GONE, strlen(GONE)))
		unlinkat(root, name, AT_REMOVEDIR); /* when it is empty */
	if (lock < 0 || lock_file(lock))
		return;
	if (!fstatat(root, name, &named, AT_SYMLINK_NOFOLLOW) && !fstat(folder, &ours) &&
		same_file(&ours, &named))
		(void)!remove_folder(root, name, folder, &err);
}

void store_sweep(void)
{
	struct err err;
	int root = open_root(&err);
	DIR *d = root < 0 ? NULL : fdopendir(root);

	for (struct dirent *e; d && (e = readdir(d));)
		if (is_left_over(e->d_name) || !store_check_name(e->d_name, &err))
			sweep_one(root, e->d_name);
	if (d)
		closedir(d);
}
