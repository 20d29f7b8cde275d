/*
 * strata save: a machine becomes a file, and ends. It is held while the file is written, and ends
 * only when all of it is on the disk and has its name; until then, whatever ends us leaves a
 * machine that goes on (control/control.h), and no file.
 */
#include "base/scope.h"
#include "cli/life.h"
#include "cli/machines.h"
#include "cli/progress.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS 10000000

struct save_values {
	const char *name, *file;
	bool force;
};

/* A file without a name, in the folder where it will have one. */
static int open_unnamed(const char *path, struct err *err)
{
	AUTO_FREE char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;

	return fd < 0 ? err_set(err, -errno, "%s: %s", path, strerror(errno)) : fd;
}

static int link_to(int fd, const char *path)
{
	char from[40];

	snprintf(from, sizeof(from), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, from, AT_FDCWD, path, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int taken(const char *path, struct err *err)
{
	return err_set(err, -EEXIST, "%s exists; --force replaces it", path);
}

/* What is there is replaced by being renamed over, so that there always is one that is whole. */
static int give_name(int fd, const struct save_values *v, struct err *err)
{
	char other[1100];
	int rc = link_to(fd, v->file);

	if (rc == -EEXIST && !v->force)
		return taken(v->file, err);
	if (rc == -EEXIST) {
		snprintf(other, sizeof(other), "%.1000s.new-%d", v->file, (int)getpid());
		rc = link_to(fd, other);
		if (!rc && rename(other, v->file)) {
			rc = -errno;
			unlink(other);
		}
	}
	if (rc)
		return err_set(err, rc, "%s: %s", v->file, strerror(-rc));
	AUTO_FREE char *copy = strdup(v->file);
	AUTO_FD folder = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	return folder < 0 || fsync(folder)
		       ? err_set(err, -errno, "%s: %s", v->file, strerror(errno))
		       : 0;
}

/* Until the monitor has written all of it. */
static int wait_written(struct control_client *c, struct err *err)
{
	const struct timespec moment = { .tv_nsec = LOOK_NS };
	struct progress bar;
	bool done = false;
	json_t *r = NULL;
	int rc = 0;

	progress_begin(&bar, "saving");
	while (!done && !rc) {
		rc = client_ask(c, "saving", -1, MACHINES_ASK_MS, &r, err);
		done = json_is_true(json_object_get(r, "done"));
		if (!rc && !done) {
			progress_show(&bar, (u64)json_integer_value(json_object_get(r, "written")),
				(u64)json_integer_value(json_object_get(r, "total")));
			nanosleep(&moment, NULL);
		}
		json_decref(r);
		r = NULL;
	}
	progress_end(&bar);
	return rc;
}

static int save_to(const struct save_values *v, const struct store_machine *m,
	struct control_client *c, int fd, struct err *err)
{
	if (client_ask(c, "save", fd, 0, NULL, err) || wait_written(c, err))
		return err_wrap(err, "%s", v->name);
	return give_name(fd, v, err) ? err->code : machines_end(m, c, err);
}

static int save(const void *values)
{
	const struct save_values *v = values;
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;

	if (!v->force && !access(v->file, F_OK))
		return machines_failed("save", (taken(v->file, &err), &err));
	if (machines_connect(v->name, &m, &c, &err))
		return machines_failed("save", &err);
	AUTO_FD fd = -1;

	if (store_is_ephemeral(&m))
		err_set(&err, -EPERM,
			"%s was begun with --rm: its folder goes when it ends, and nothing could "
			"be restored; remove %s/ephemeral first",
			v->name, v->name);
	else
		fd = open_unnamed(v->file, &err);
	if (fd >= 0)
		(void)!save_to(v, &m, &c, fd, &err);
	client_close(&c);
	store_close(&m);
	return err.code ? machines_failed("save", &err) : CLI_OK;
}

#define AT(member) offsetof(struct save_values, member)

static const struct option_row save_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, AT(name), .required = true },
	{ "FILE", NULL, "where to: a file that is not there yet", OPTION_OPERAND, AT(file),
		.required = true },
	{ "force", NULL, "replace a file that is", OPTION_SWITCH, AT(force) },
	{ 0 },
};

const struct verb verbs_save = {
	.name = "save",
	.doc = "write a machine that runs to a file, and end it: `strata restore` lets it go on",
	.options = save_options,
	.size = sizeof(struct save_values),
	.run = save,
};
