/* See store.h. */
#include "store/store.h"
#include "base/scope.h"
#include "os/fd.h"
#include "store/folders_priv.h"
#include "store/group_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CONFIG	    "machine.yaml"
#define CONFIG_NEXT ".machine.yaml"
#define OUTCOME	    "outcome"
#define EPHEMERAL   "ephemeral"
#define ALONE	    ".alone"
#define FULL	    (1 * MiB) /* a machine of an image takes less */

int store_check_name(const char *name, struct err *err)
{
	return folders_good_name(name, STORE_NAME_MAX, "._-")
		       ? 0
		       : err_set(err, -EINVAL,
				 "%.64s: a name is up to %u letters, digits, dots, dashes and "
				 "underscores, and begins with a letter or digit",
				 *name ? name : "an empty text", STORE_NAME_MAX);
}

/* Whether the folder still has its name. */
static bool is_there(const struct store_machine *m)
{
	struct err err = { 0 };
	AUTO_FD root = folders_root(FOLDERS_MACHINES, &err);

	return root >= 0 && folders_is_there(root, m->name, m->folder);
}

int store_lock(struct store_machine *m, struct err *err)
{
	int rc = folders_lock(m->lock, false);

	if (rc == -EAGAIN)
		return err_set(
			err, -EBUSY, "%s runs, or another command is at work on it", m->name);
	if (rc)
		return err_set(err, rc, "%s: " FOLDERS_LOCK ": %s", m->name, strerror(-rc));
	m->locked = true;
	if (!is_there(m))
		return err_set(err, -ENOENT, "%s has just been removed", m->name);
	return 0;
}

void store_unlock(struct store_machine *m)
{
	if (m->locked)
		folders_unlock(m->lock);
	m->locked = false;
}

/* There is no waiting for such a lock with a limit; it is looked at. */
bool store_wait(const struct store_machine *m, unsigned ms)
{
	u64 deadline = ms ? fd_monotonic_ns() + ms * 1000000ull : ~0ull;
	const struct timespec moment = { .tv_nsec = 5000000 };

	while (folders_is_locked(m->lock)) {
		if (fd_monotonic_ns() > deadline)
			return false;
		nanosleep(&moment, NULL);
	}
	return true;
}

/* ---- one machine ---- */

int store_open(struct store_machine *m, const char *name, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_MACHINES, err);

	if (root < 0)
		return root;
	if (store_check_name(name, err))
		return err->code;
	*m = (struct store_machine){ .folder = -1, .lock = -1 };
	memcpy(m->name, name, strlen(name) + 1);
	m->folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (m->folder >= 0)
		m->lock = openat(m->folder, FOLDERS_LOCK, O_RDWR | O_CLOEXEC);
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

static int write_config(
	int folder, const char *file, const struct store_config *config, struct err *err)
{
	int fd = openat(folder, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
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

static int fill_folder(
	struct store_machine *m, const struct store_new *n, const char *path, struct err *err)
{
	if (n->ephemeral) {
		AUTO_FD fd = openat(m->folder, EPHEMERAL, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		if (fd < 0)
			return err_set(err, -errno, EPHEMERAL ": %s", strerror(errno));
	}
	int rc = n->fill ? n->fill(n->ctx, m->folder, path, err) : 0;

	return rc ? rc : write_config(m->folder, CONFIG, n->config, err);
}

int store_taken(const char *name, struct err *err)
{
	return err_set(err, -EEXIST,
		"machine %s exists; `strata start %s` starts it, `strata rm %s` removes it", name,
		name, name);
}

int store_path(const char *name, char *path, size_t size, struct err *err)
{
	return folders_path_of(FOLDERS_MACHINES, name, path, size, err);
}

/* A program that has failed for want of room does not always say so. */
static bool is_full(int root)
{
	struct statvfs st;

	return !fstatvfs(root, &st) && (u64)st.f_bavail * st.f_frsize < FULL;
}

static int no_room(const char *name, int rc, struct err *err)
{
	struct err ignored;
	char path[1024];

	if (store_path(name, path, sizeof(path), &ignored))
		return rc;
	return err_set(err, rc,
		"there is no room for %.300s (%s): `strata ls` and `strata image ls` show what "
		"could go, XDG_STATE_HOME names another folder",
		path, strerror(-rc));
}

int store_create(
	struct store_machine *m, const char *name, const struct store_new *n, struct err *err)
{
	char partial[64], path[1024];

	*m = (struct store_machine){ .folder = -1, .lock = -1 };
	if (store_check_name(name, err))
		return err->code;
	store_sweep();
	AUTO_FD root = folders_root(FOLDERS_MACHINES, err);

	if (root < 0)
		return root;
	memcpy(m->name, name, strlen(name) + 1);
	/* Before the work is done; and once more at its end, when it counts. */
	if (!faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW))
		return store_taken(name, err);
	int rc = folders_begin(root, partial, &m->folder, &m->lock, err);

	m->locked = !rc;
	if (!rc)
		rc = store_path(partial, path, sizeof(path), err);
	if (!rc)
		rc = fill_folder(m, n, path, err);
	if (!rc) {
		rc = folders_finish(root, partial, name);
		if (rc == -EEXIST)
			store_taken(name, err);
		else if (rc)
			err_set(err, rc, "machine %s: %s", name, strerror(-rc));
	}
	if (rc) {
		struct err ignored;

		if (m->folder >= 0)
			(void)!folders_remove(root, partial, m->folder, &ignored);
		store_close(m);
	}
	if (rc == -ENOSPC || rc == -EDQUOT || (rc == -EIO && is_full(root)))
		return no_room(name, rc == -EIO ? -ENOSPC : rc, err);
	return rc;
}

int store_remove(struct store_machine *m, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_MACHINES, err);

	if (root < 0 || store_group_drop(m, err))
		return err->code;
	return folders_remove(root, m->name, m->folder, err);
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
	bool locked = folders_is_locked(m->lock), running;
	bool there = read_outcome(m, &running, outcome);

	/* It may have ended between the two looks. */
	if (!locked && running)
		there = read_outcome(m, &running, outcome);
	if (locked || !there || !running)
		return locked ? STORE_RUNNING : there ? STORE_ENDED : STORE_NEW;
	return group_starved(m, outcome) ? STORE_STARVED : STORE_CRASHED;
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
	size_t len;
	AUTO_FREE char *text = folders_read(m->folder, CONFIG, STORE_CONFIG_MAX + 1, &len, err);

	if (!text)
		return err->code;
	return store_config_parse(config, text, len, err) ? err_wrap(err, CONFIG) : 0;
}

int store_write_config(
	const struct store_machine *m, const struct store_config *config, struct err *err)
{
	unlinkat(m->folder, CONFIG_NEXT, 0); /* of somebody who was killed */
	if (write_config(m->folder, CONFIG_NEXT, config, err))
		return err->code;
	return renameat(m->folder, CONFIG_NEXT, m->folder, CONFIG)
		       ? err_set(err, -errno, CONFIG ": %s", strerror(errno))
		       : 0;
}

u64 store_born(const struct store_machine *m)
{
	struct stat st;

	return fstat(m->lock, &st) ? 0
				   : (u64)st.st_mtim.tv_sec * 1000000000u + (u64)st.st_mtim.tv_nsec;
}

char *store_config_text(const struct store_machine *m, struct err *err)
{
	struct store_config config = { 0 };
	size_t len;
	AUTO_FREE char *text = folders_read(m->folder, CONFIG, STORE_CONFIG_MAX + 1, &len, err);

	if (!text || store_config_parse(&config, text, len, err))
		return NULL;
	store_config_free(&config);
	return steal_ptr(&text);
}

/* ---- all of them ---- */

int store_list(char ***names, unsigned *count, struct err *err)
{
	return folders_list(FOLDERS_MACHINES, store_check_name, names, count, err);
}

void store_each(void (*visit)(const struct store_machine *m, void *ctx), void *ctx)
{
	struct err err;
	unsigned count;
	char **names;

	if (store_list(&names, &count, &err))
		return;
	for (unsigned i = 0; i < count; i++) {
		struct store_machine m;

		if (!store_open(&m, names[i], &err)) {
			visit(&m, ctx);
			store_close(&m);
		}
		free(names[i]);
	}
	free(names);
}

static bool is_ephemeral(int folder) { return !faccessat(folder, EPHEMERAL, F_OK, 0); }

bool store_is_ephemeral(const struct store_machine *m) { return is_ephemeral(m->folder); }

void store_sweep(void)
{
	group_sweep();
	folders_sweep(FOLDERS_MACHINES, is_ephemeral, group_forget);
}

int store_alone(struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_MACHINES, err);
	AUTO_FD fd = root < 0 ? -1 : openat(root, ALONE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (root < 0)
		return root;
	if (fd < 0 || folders_wait_lock(fd))
		return err_set(err, -errno, ALONE ": %s", strerror(errno));
	return steal_fd(&fd);
}

int store_state_path(char *path, size_t size, const char *file, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_STATE, err); /* makes it */

	return root < 0 ? root : folders_path_of(FOLDERS_STATE, file, path, size, err);
}
