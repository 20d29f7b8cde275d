#include "cli/system.h"
#include "base/bits.h"
#include "base/scope.h"
#include "cli/image.h"
#include "cli/progress.h"
#include "cli/system_text.h" /* made from system.sh */
#include "os/child.h"
#include "store/store.h"
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_RAW  "disk.raw"
#define START	  (1 * MiB) /* of the partition: system.sh has it, too */
#define SIGNATURE 0x41525453u
/* What Debian's files take while they are there twice, and a little more. */
#define DEBIAN_ROOM (2 * GiB)

/* ---- what is needed ---- */

static const struct tool {
	const char *program, *package;
	bool debian, user, oci; /* only for Debian's packages, ordinary users, OCI images */
} tools[] = {
	{ "mmdebstrap", "mmdebstrap", true, false },
	{ "mke2fs", "e2fsprogs", false, false },
	{ "unshare", "util-linux", false, true },
	{ "newuidmap", "uidmap", true, true },
	{ "umoci", "umoci", .oci = true },
};

static int run_quietly(const char *const *argv)
{
	struct err err;

	return child_run(&(struct child){ .argv = argv }, &err);
}

static bool is_installed(const char *program)
{
	const char *const argv[] = { "sh", "-c",
		"PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; command -v \"$1\"", "sh", program,
		NULL };

	return !run_quietly(argv);
}

static int check_tools(const struct system_plan *p, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(tools); i++) {
		const struct tool *t = &tools[i];

		if ((t->debian && p->kind != SYSTEM_DEBIAN) || (t->oci && p->kind != SYSTEM_OCI) ||
			(t->user && !geteuid()))
			continue;
		if (!is_installed(t->program))
			return child_missing(t->program, t->package, err);
	}
	return 0;
}

enum names { NAMES_NONE, NAMES_PID, NAMES_ONE_ID, NAMES_ALL_IDS };

/* Which name spaces the script gets: the most that may be had. */
static const char *const name_spaces[][9] = {
	[NAMES_NONE] = { "env" },
	[NAMES_PID] = { "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc" },
	[NAMES_ONE_ID] = { "unshare", "--map-root-user", "--mount", "--pid", "--fork",
		"--kill-child" },
	[NAMES_ALL_IDS] = { "unshare", "--map-root-user", "--map-auto", "--mount", "--pid",
		"--fork", "--kill-child" },
};

static unsigned put_names(enum names n, const char **argv)
{
	unsigned count = 0;

	while (name_spaces[n][count]) {
		argv[count] = name_spaces[n][count];
		count++;
	}
	return count;
}

static bool may_have(enum names n)
{
	const char *argv[ARRAY_LEN(name_spaces[0]) + 2] = { 0 };

	argv[put_names(n, argv)] = "true";
	return !run_quietly(argv);
}

static int no_ids(struct err *err)
{
	const struct passwd *who = getpwuid(geteuid());
	const char *user = who ? who->pw_name : "YOU";

	return err_set(err, -EPERM,
		"user %s has no subordinate user ids, which a system's files need: sudo usermod "
		"--add-subuids 100000-165535 --add-subgids 100000-165535 %s; or run it as root",
		user, user);
}

static int choose_names(const struct system_plan *p, enum names *n, struct err *err)
{
	if (!geteuid()) {
		*n = may_have(NAMES_PID) ? NAMES_PID : NAMES_NONE;
		return 0;
	}
	/* In this order: an unshare that maps ids leaves a process that waits for ever where it may
	 * have no name space at all (util-linux 2.38). */
	if (!may_have(NAMES_ONE_ID))
		return err_set(err, -EPERM,
			"this host lets ordinary users have no user name spaces, which a system's "
			"files need (sysctl kernel.unprivileged_userns_clone and "
			"user.max_user_namespaces); run it as root");
	*n = may_have(NAMES_ALL_IDS) ? NAMES_ALL_IDS : NAMES_ONE_ID;
	return *n == NAMES_ONE_ID && p->kind == SYSTEM_DEBIAN ? no_ids(err) : 0;
}

static int check_room(const struct images_image *at, const struct system_plan *p, struct err *err)
{
	struct statvfs st;

	if (p->kind != SYSTEM_DEBIAN || fstatvfs(at->folder, &st))
		return 0;
	u64 room = (u64)st.f_bavail * st.f_frsize;

	if (room >= DEBIAN_ROOM)
		return 0;
	return err_set(err, -ENOSPC,
		"%.1f GiB of room are needed, and %.*s has %.1f GiB; XDG_DATA_HOME names another "
		"folder",
		(double)DEBIAN_ROOM / (double)GiB, (int)(strrchr(at->path, '/') - at->path),
		at->path, (double)room / (double)GiB);
}

/* ---- what the script says ---- */

/* What begins when a line begins so, and how much of the work is done then and at its end. */
static const struct step {
	const char *line, *what;
	u8 from, to;
	u16 lines; /* about so many of those below until the end */
} steps[] = {
	{ "I: downloading packages with apt", "downloading the base system", 3, 8, 120 },
	{ "I: extracting archives", "unpacking the base system", 8, 14, 0 },
	{ "I: installing essential packages", "installing the base system", 14, 25, 200 },
	{ "I: installing remaining packages", "downloading and installing packages", 25, 78, 500 },
	{ "@ reading package lists", "reading package lists", 0, 3, 10 },
	{ "@ configuring the system", "configuring the system", 78, 80, 0 },
	{ "@ unpacking", "unpacking", 0, 60, 0 },
	{ "@ making the file system", "making the file system", 80, 90, 0 },
	{ "@ adding the kernel's modules", "adding the kernel's modules", 90, 95, 0 },
};
static const char *const counted[] = { "Get:", "Unpacking ", "Setting up " };

/* What a person is told of a line that has this in it; the first row counts. */
static const struct mistake {
	const char *line, *text;
} mistakes[] = {
	{ "No space left on device",
		"there is no room left; XDG_DATA_HOME names another folder for images" },
	{ "Could not resolve", "the mirror's name is not found: is there a network?" },
	{ "Temporary failure resolving", "the mirror's name is not found: is there a network?" },
	{ "Could not connect", "the mirror does not answer: is there a network? --mirror URL names "
			       "another" },
	{ "Connection timed out", "the mirror does not answer: is there a network? --mirror URL "
				  "names another" },
	{ "Network is unreachable", "the mirror cannot be reached: is there a network?" },
	{ "does not have a Release file",
		"the mirror does not have this Debian; --mirror URL names another" },
	{ "Unable to locate package", NULL },
	{ "tar: ", NULL },
	{ "no /bin/sh", NULL },
	{ "E: ", NULL },
	{ "Permission denied while populating",
		"some of the files are not yours to read: run it as root" },
	{ "mke2fs: ", NULL },
};

struct listener {
	const struct system_plan *plan;
	struct progress bar;
	const struct step *step;
	unsigned lines; /* counted ones, of this step */
	unsigned worst; /* index into mistakes */
	char mistake[256], last[256];
	FILE *log;
};

static bool begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

static void show(struct listener *l)
{
	const struct step *s = l->step;
	u64 done = s->lines ? min_u64(l->lines, s->lines) * 100 / s->lines : 0;

	l->bar.what = s->what;
	progress_show(&l->bar, s->from * 100u + (s->to - s->from) * done, 10000);
}

static void begin_step(struct listener *l, const struct step *s)
{
	l->step = s;
	l->lines = 0;
	if (!l->bar.terminal)
		fprintf(stderr, "strata: %s: %s\n", l->plan->name, s->what);
	show(l);
}

static void on_line(void *ctx, const char *line)
{
	struct listener *l = ctx;

	if (l->log)
		fprintf(l->log, "%s\n", line);
	for (unsigned i = 0; i < ARRAY_LEN(steps); i++)
		if (begins(line, steps[i].line)) {
			begin_step(l, &steps[i]);
			return;
		}
	for (unsigned i = 0; l->step && i < ARRAY_LEN(counted); i++)
		if (begins(line, counted[i])) {
			l->lines++;
			show(l);
		}
	for (unsigned i = 0; i < l->worst; i++)
		if (strstr(line, mistakes[i].line)) {
			l->worst = i;
			snprintf(l->mistake, sizeof(l->mistake), "%s", line);
		}
	snprintf(l->last, sizeof(l->last), "%s", line);
}

static int explain(const struct listener *l, struct err *err)
{
	const char *text = l->worst < ARRAY_LEN(mistakes) ? mistakes[l->worst].text : NULL;
	const char *line = l->mistake[0] ? l->mistake : l->last;

	if (text)
		return err_set(err, -EIO, "%s (%s)", text, line);
	return err_set(err, -EIO, "%s", *line ? line : "it ended without a word");
}

static int run_script(const struct images_image *at, const struct system_plan *p, enum names n,
	struct listener *l, struct err *err)
{
	static const char *const kinds[] = { [SYSTEM_DEBIAN] = "debian",
		[SYSTEM_TAR] = "tar",
		[SYSTEM_FOLDER] = "directory",
		[SYSTEM_OCI] = "oci" };
	const char *argv[ARRAY_LEN(name_spaces[0]) + 11] = { 0 };
	unsigned i = put_names(n, argv);
	char size[24];

	snprintf(size, sizeof(size), "%llu", (unsigned long long)p->size);
	argv[i++] = "sh";
	argv[i++] = "-c";
	argv[i++] = system_script;
	argv[i++] = "strata-system";
	argv[i++] = at->path;
	argv[i++] = size;
	argv[i++] = kinds[p->kind];
	argv[i++] = p->source;
	if (p->kind == SYSTEM_DEBIAN) {
		argv[i++] = p->mirror ? p->mirror : "";
		argv[i++] = p->packages;
	} else if (p->kind == SYSTEM_OCI) {
		argv[i++] = p->tag;
	}
	if (n != NAMES_ONE_ID)
		setenv("STRATA_ALL_IDS", "1", 1);
	int status = child_run(
		&(struct child){ .argv = argv, .keep = at->lock, .line = on_line, .ctx = l }, err);

	return status <= 0 ? status : explain(l, err);
}

/* ---- the disk ---- */

/* A master boot record: the disk's signature at 440, one entry at 446 (0x83: Linux's), at the end
 * its mark. Addresses in cylinders, heads and sectors are those that say "too large". */
static int write_partition(int fd, u64 size, struct err *err)
{
	u32 first = START / BLOCK_SECTOR, count = (u32)((size - START) / BLOCK_SECTOR);
	u8 record[BLOCK_SECTOR] = {
		[447] = 0xfe,
		[448] = 0xff,
		[449] = 0xff,
		[450] = 0x83,
		[451] = 0xfe,
		[452] = 0xff,
		[453] = 0xff,
		[510] = 0x55,
		[511] = 0xaa,
	};

	put_le32(record + 440, SIGNATURE);
	put_le32(record + 454, first);
	put_le32(record + 458, count);
	return pwrite(fd, record, sizeof(record), 0) == (ssize_t)sizeof(record)
		       ? 0
		       : err_set(err, -EIO, DISK_RAW ": %s", strerror(errno));
}

static int make_disk(const struct images_image *at, const struct system_plan *p, struct err *err)
{
	char from[sizeof(at->path) + 16], to[sizeof(at->path) + 16];
	AUTO_FD fd = openat(at->folder, DISK_RAW, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, DISK_RAW ": %s", strerror(errno));
	if (write_partition(fd, p->size, err))
		return err->code;
	snprintf(from, sizeof(from), "%s/" DISK_RAW, at->path);
	snprintf(to, sizeof(to), "%s/" IMAGES_DISK, at->path);
	int rc = image_copy(&(struct image_copy){ .from = from,
				    .from_format = "raw",
				    .to = { .path = to, .format = IMAGE_QCOW2 } },
		err);

	unlinkat(at->folder, DISK_RAW, 0);
	return rc;
}

/* ---- all of it ---- */

/* What the programs said, for who wants to know more; NULL: it cannot be written. */
static FILE *open_log(char *path, size_t size)
{
	struct err err;

	if (store_state_path(path, size, "image-build.log", &err))
		return NULL;
	return fopen(path, "we");
}

int system_make(const struct images_image *at, const struct system_plan *p, struct err *err)
{
	struct listener l = { .plan = p, .worst = ARRAY_LEN(mistakes) };
	enum names n = NAMES_NONE;
	char path[1024] = "";

	if (check_tools(p, err) || choose_names(p, &n, err) || check_room(at, p, err))
		return err->code;
	if (p->kind == SYSTEM_DEBIAN)
		l.log = open_log(path, sizeof(path));
	progress_begin(&l.bar, "");
	int rc = run_script(at, p, n, &l, err);

	progress_end(&l.bar);
	if (l.log)
		fclose(l.log);
	if (rc && l.log) {
		char text[sizeof(err->text)];

		snprintf(text, sizeof(text), "%s", err->text);
		err_set(err, rc, "%.300s; all of it is in %.180s", text, path);
	}
	if (!rc && !l.bar.terminal)
		fprintf(stderr, "strata: %s: writing the image\n", p->name);
	return rc ? rc : make_disk(at, p, err);
}
