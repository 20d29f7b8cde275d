#include "block/lock.h"
#include "base/log.h"
#include "base/scope.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* Byte HOLDS + n is locked by whoever does n, DENIES + n by whoever suffers nobody else doing n. */
enum { READS, WRITES, WRITES_SAME, RESIZES, DEEDS };
#define HOLDS  100
#define DENIES 200
#define TRIES  50u /* in a second */

struct claim {
	u8 holds, denies;
};
static const struct claim reader = { BIT(READS), BIT(WRITES) | BIT(RESIZES) };
static const struct claim writer = { BIT(READS) | BIT(WRITES) | BIT(RESIZES),
	BIT(READS) | BIT(WRITES) | BIT(WRITES_SAME) | BIT(RESIZES) };

static int lock_byte(int fd, off_t byte)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return fcntl(fd, F_OFD_SETLK, &l) ? -errno : 0;
}

static bool locked_by_other(int fd, off_t byte)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

/* Whether this descriptor of that process is the file, and locks it. */
static bool holds(const char *pid, const char *fd, const struct stat *file)
{
	char path[64], line[128];
	struct stat st;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%.20s/fd/%.12s", pid, fd);
	if (stat(path, &st) || st.st_ino != file->st_ino || st.st_dev != file->st_dev)
		return false;
	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.12s", pid, fd);
	FILE *f = fopen(path, "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5);
	if (f)
		fclose(f);
	return found;
}

static bool is_holder(const char *pid, const struct stat *file, int mine)
{
	char path[64], own[16];
	bool found = false;
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	snprintf(own, sizeof(own), "%d", mine);
	DIR *d = opendir(path);

	while (d && !found && (e = readdir(d)))
		if (e->d_name[0] != '.' && (atoi(pid) != getpid() || strcmp(e->d_name, own)))
			found = holds(pid, e->d_name, file);
	if (d)
		closedir(d);
	return found;
}

static void name_process(const char *pid, char *text, size_t size)
{
	char path[64], name[32] = "";

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	FILE *f = fopen(path, "re");

	if (f && fgets(name, sizeof(name), f))
		name[strcspn(name, "\n")] = 0;
	if (f)
		fclose(f);
	snprintf(text, size, "process %.20s (%s)", pid, name);
}

/* Processes of other users do not show their descriptors: then false, and no name. */
static bool name_holder(int fd, char *text, size_t size)
{
	struct stat file;
	struct dirent *e;
	bool found = false;
	DIR *d = opendir("/proc");

	snprintf(text, size, "another process");
	while (d && !found && !fstat(fd, &file) && (e = readdir(d)))
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && is_holder(e->d_name, &file, fd)) {
			name_process(e->d_name, text, size);
			found = true;
		}
	if (d)
		closedir(d);
	return found;
}

static int unlock(int fd)
{
	struct flock l = { .l_type = F_UNLCK,
		.l_whence = SEEK_SET,
		.l_start = HOLDS,
		.l_len = DENIES + DEEDS - HOLDS };

	return fcntl(fd, F_OFD_SETLK, &l);
}

/* Locked first, looked at then: of two that come at once, at most one gets it. 0, 1: refused, or
 * -errno. */
static int try(int fd, const struct claim *c)
{
	for (unsigned i = 0; i < DEEDS; i++) {
		int rc = c->holds & BIT(i) ? lock_byte(fd, HOLDS + i) : 0;

		if (!rc && c->denies & BIT(i))
			rc = lock_byte(fd, DENIES + i);
		if (rc == -EAGAIN || rc == -EACCES)
			return 1;
		if (rc)
			return rc;
	}
	for (unsigned i = 0; i < DEEDS; i++)
		if ((c->holds & BIT(i) && locked_by_other(fd, DENIES + i)) ||
			(c->denies & BIT(i) && locked_by_other(fd, HOLDS + i)))
			return 1;
	return 0;
}

/* What a process that was killed had given to its ring can keep the file open for a moment: a lock
 * that nobody holds is waited for. */
int lock_take(int fd, const char *path, bool writing, struct err *err)
{
	const struct timespec pause = { .tv_nsec = 1000000000 / TRIES };
	char who[64];
	int rc = 1;

	for (unsigned i = 0; i < TRIES && rc == 1; i++) {
		rc = try(fd, writing ? &writer : &reader);
		if (rc != 1)
			break;
		unlock(fd);
		if (name_holder(fd, who, sizeof(who)))
			break;
		nanosleep(&pause, NULL);
	}
	if (rc == 1)
		return err_set(err, -EBUSY, "%s: in use by %s; %s", path, who,
			writing ? "a writer needs it alone" : "it is being written");
	if (rc)
		log_warn(path, "cannot be locked: %s", strerror(-rc));
	return 0;
}
