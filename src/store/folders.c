#include "base/scope.h"
#include "os/child.h"
#include "store/folders_priv.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How deep a folder is that somebody may have left in ours. */
#define DEPTH_MAX   100u
#define BEGIN_TRIES 20u

/* ---- roots: the XDG base directory specification ---- */

static const struct {
	const char *variable, *usual, *below, *what;
} roots[] = {
	[FOLDERS_MACHINES] = { "XDG_STATE_HOME", "/.local/state", "/strata/machines", "machines" },
	[FOLDERS_IMAGES] = { "XDG_DATA_HOME", "/.local/share", "/strata/images", "images" },
	[FOLDERS_STATE] = { "XDG_STATE_HOME", "/.local/state", "/strata", "machines" },
};

int folders_path(enum folders_kind kind, char *path, size_t size, struct err *err)
{
	const char *value = getenv(roots[kind].variable), *home = getenv("HOME");
	bool named = value && *value == '/'; /* as the specification wants it */

	if (!named && !(home && *home == '/'))
		return err_set(err, -ENOENT, "neither %s nor HOME says where %s are kept",
			roots[kind].variable, roots[kind].what);
	int n = snprintf(path, size, "%s%s%s", named ? value : home, named ? "" : roots[kind].usual,
		roots[kind].below);

	return n < 0 || (size_t)n >= size ? err_set(err, -ENAMETOOLONG, "%s: too long a path",
						    named ? roots[kind].variable : "HOME")
					  : 0;
}

int folders_path_of(
	enum folders_kind kind, const char *name, char *path, size_t size, struct err *err)
{
	int rc = folders_path(kind, path, size, err);
	size_t len = rc ? 0 : strlen(path);

	if (rc)
		return rc;
	if (len + 1 + strlen(name) >= size)
		return err_set(err, -ENAMETOOLONG, "%s: too long a path", path);
	snprintf(path + len, size - len, "/%s", name);
	return 0;
}

bool folders_good_name(const char *name, size_t most, const char *marks)
{
	size_t len = strlen(name);
	bool good = len && len <= most && isalnum((unsigned char)name[0]);

	for (size_t i = 0; i < len && good; i++)
		good = isascii((unsigned char)name[i]) &&
		       (isalnum((unsigned char)name[i]) || strchr(marks, name[i]));
	return good;
}

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

int folders_root(enum folders_kind kind, struct err *err)
{
	char path[1024];
	int rc = folders_path(kind, path, sizeof(path), err);

	if (rc)
		return rc;
	rc = make_folders(path);
	int fd = rc ? rc : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (!rc && fd < 0)
		rc = -errno;
	if (!rc && faccessat(fd, ".", W_OK | X_OK, 0)) {
		rc = -errno;
		close(fd);
	}
	return rc ? err_set(err, rc, "%s: %s; %s names another folder for %s", path, strerror(-rc),
			    roots[kind].variable, roots[kind].what)
		  : fd;
}

/* ---- locks ---- */

/* The first byte is the lock; the second a word of whoever has it, which goes when that goes. */
enum { LOCK_BYTE, MARK_BYTE };

static struct flock at_byte(off_t byte, short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

static int lock(int fd, int command, short type)
{
	struct flock l = at_byte(LOCK_BYTE, type);

	return fcntl(fd, command, &l) ? -errno : 0;
}

int folders_lock(int fd, bool shared)
{
	int rc = lock(fd, F_OFD_SETLK, shared ? F_RDLCK : F_WRLCK);

	return rc == -EACCES ? -EAGAIN : rc;
}

int folders_wait_lock(int fd)
{
	int rc;

	do
		rc = lock(fd, F_OFD_SETLKW, F_WRLCK);
	while (rc == -EINTR);
	return rc;
}

void folders_unlock(int fd)
{
	struct flock both = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	fcntl(fd, F_OFD_SETLK, &both);
}

static bool is_held(int fd, off_t byte)
{
	struct flock l = at_byte(byte, F_WRLCK);

	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

bool folders_is_locked(int fd) { return is_held(fd, LOCK_BYTE); }
bool folders_is_marked(int fd) { return is_held(fd, MARK_BYTE); }

int folders_mark(int fd)
{
	struct flock l = at_byte(MARK_BYTE, F_WRLCK);

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* ---- coming ---- */

bool folders_is_there(int root, const char *name, int folder)
{
	struct stat ours, named;

	return !fstat(folder, &ours) && !fstatat(root, name, &named, AT_SYMLINK_NOFOLLOW) &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

/* 0, or -errno: of which those of is_swept() say that a sweep has taken the folder for a left-over
 * before it had its lock. */
static bool is_swept(int rc) { return rc == -ENOENT || rc == -EAGAIN || rc == -EEXIST; }

static int begin_once(int root, const char *partial, int *folder, int *lock_fd)
{
	if (mkdirat(root, partial, 0700))
		return -errno;
	*folder = openat(root, partial, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*folder >= 0)
		*lock_fd =
			openat(*folder, FOLDERS_LOCK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*folder < 0 || *lock_fd < 0)
		return -errno;
	int rc = folders_lock(*lock_fd, false);

	return !rc && !folders_is_there(root, partial, *folder) ? -ENOENT : rc;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int folders_begin(int root, char partial[64], int *folder, int *lock_fd, struct err *err)
{
	int rc = -ENOENT;

	snprintf(partial, 64, FOLDERS_NEW "%d", (int)getpid());
	*folder = *lock_fd = -1;
	for (unsigned i = 0; i < BEGIN_TRIES && is_swept(rc); i++) {
		close_fd(lock_fd);
		close_fd(folder);
		if (i)
			sched_yield();
		rc = begin_once(root, partial, folder, lock_fd);
	}
	return rc ? err_set(err, rc, "a new folder: %s", strerror(-rc)) : 0;
}

int folders_finish(int root, const char *partial, const char *name)
{
	return renameat2(root, partial, root, name, RENAME_NOREPLACE) ? -errno : 0;
}

/* ---- going ---- */

static bool empty(int folder, unsigned depth);

static bool remove_entry(int folder, const struct dirent *e, unsigned depth)
{
	if (!unlinkat(folder, e->d_name, 0) || errno == ENOENT)
		return true;
	AUTO_FD below = openat(folder, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return below >= 0 && depth < DEPTH_MAX && empty(below, depth + 1) &&
	       !unlinkat(folder, e->d_name, AT_REMOVEDIR);
}

/* All but the lock of the folder itself. */
static bool empty(int folder, unsigned depth)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	bool done = d != NULL;

	for (struct dirent *e; d && (e = readdir(d));)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			(depth || strcmp(e->d_name, FOLDERS_LOCK) != 0))
			done = remove_entry(folder, e, depth) && done;
	if (d)
		closedir(d);
	else if (copy >= 0)
		close(copy);
	return done;
}

/* What an ordinary user's system in the making holds belongs to users of his name space (cli/
 * build.h): only there can it be removed. */
static void empty_as_owner(int folder)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", folder);
	const char *const argv[] = { "unshare", "--map-root-user", "--map-auto", "sh", "-c",
		"cd \"$1\" && find . -mindepth 1 -maxdepth 1 ! -name " FOLDERS_LOCK
		" -exec rm -rf {} +",
		"sh", path, NULL };
	struct err err;

	(void)!child_run(&(struct child){ .argv = argv, .keep = folder }, &err);
}

int folders_remove(int root, const char *name, int folder, struct err *err)
{
	char gone[64];
	struct stat st;

	/* Unique as long as the folder exists. */
	if (fstat(folder, &st))
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	snprintf(gone, sizeof(gone), FOLDERS_GONE "%llu", (unsigned long long)st.st_ino);
	if (strcmp(name, gone) != 0 && renameat(root, name, root, gone))
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	if (!empty(folder, 0) && geteuid())
		empty_as_owner(folder);
	/* Last, so that what is left of us if we are killed can be told by it. */
	unlinkat(folder, FOLDERS_LOCK, 0);
	/* Somebody's sweep may have done the last step. */
	if (unlinkat(root, gone, AT_REMOVEDIR) && errno != ENOENT)
		return err_set(err, -errno, "%s: %s", name, strerror(errno));
	return 0;
}

bool folders_is_left_over(const char *name)
{
	return !strncmp(name, FOLDERS_NEW, strlen(FOLDERS_NEW)) ||
	       !strncmp(name, FOLDERS_GONE, strlen(FOLDERS_GONE));
}

/* Whoever takes the lock of something that is to go has it for himself. Others' locks are left
 * alone: somebody might take the sweep for a run. */
static void sweep_one(
	int root, const char *name, bool (*ended)(int folder), void (*going)(int folder))
{
	AUTO_FD folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	struct err err;

	if (folder < 0 || (!folders_is_left_over(name) && (!ended || !ended(folder))))
		return;
	AUTO_FD lock_fd = openat(folder, FOLDERS_LOCK, O_RDWR | O_CLOEXEC);

	if (lock_fd < 0 && folders_is_left_over(name))
		unlinkat(root, name, AT_REMOVEDIR); /* when it is empty */
	if (lock_fd < 0 || folders_lock(lock_fd, false))
		return;
	if (!folders_is_there(root, name, folder))
		return;
	if (going)
		going(folder);
	(void)!folders_remove(root, name, folder, &err);
}

void folders_sweep(enum folders_kind kind, bool (*ended)(int folder), void (*going)(int folder))
{
	struct err err;
	int root = folders_root(kind, &err);
	DIR *d = root < 0 ? NULL : fdopendir(root);

	for (struct dirent *e; d && (e = readdir(d));)
		if (folders_is_left_over(e->d_name) || e->d_name[0] != '.')
			sweep_one(root, e->d_name, ended, going);
	if (d)
		closedir(d);
}

/* ---- all of them ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int folders_list(enum folders_kind kind, int (*valid)(const char *name, struct err *err),
	char ***names, unsigned *count, struct err *err)
{
	int root = folders_root(kind, err);
	DIR *d = root < 0 ? NULL : fdopendir(root);
	struct err why;

	*names = NULL;
	*count = 0;
	if (root < 0)
		return root;
	for (struct dirent *e; d && (e = readdir(d));) {
		if (valid(e->d_name, &why))
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

char *folders_read(int folder, const char *file, size_t max, size_t *len, struct err *err)
{
	AUTO_FD fd = openat(folder, file, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = malloc(max + 1);
	ssize_t n = fd < 0 || !text ? -1 : read(fd, text, max);

	if (n < 0) {
		err_set(err, -errno, "%s: %s", file, strerror(errno));
		return NULL;
	}
	text[n] = '\0';
	*len = (size_t)n;
	return steal_ptr(&text);
}
