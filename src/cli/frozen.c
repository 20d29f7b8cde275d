#include "cli/frozen.h"
#include "base/scope.h"
#include "block/block.h"
#include "cli/clone.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FRESH	  "disk.new" /* the machine's next disk, until it has that name */
#define LEFT	  "left"     /* the fact that says what that looks like */
#define NAME_MAX_ 36

/* Up to 36 characters of the machine's name: an image's has an end, too. */
static void image_name(const char *machine, u64 id, char name[IMAGES_NAME_MAX + 1])
{
	snprintf(name, IMAGES_NAME_MAX + 1, "saved-%.*s-%016llx", NAME_MAX_, machine,
		(unsigned long long)id);
}

bool frozen_find(const char *machine, u64 id, char path[FROZEN_PATH_MAX])
{
	char name[IMAGES_NAME_MAX + 1];
	struct err err = { 0 };
	struct images_image i;

	image_name(machine, id, name);
	if (images_open(&i, name, &err))
		return false;
	snprintf(path, FROZEN_PATH_MAX, "%s/" IMAGES_DISK, i.path);
	images_close(&i);
	return true;
}

static int look_at_disk(const struct store_machine *m, const char *file, char text[64])
{
	struct block_look look;
	char path[FROZEN_PATH_MAX];
	struct err err = { 0 };

	if (store_path(m->name, path, sizeof(path) - 20, &err))
		return err.code;
	snprintf(path + strlen(path), 20, "/%s", file);
	int rc = block_look_at(path, &look);

	snprintf(text, 64, "%llu %lld", (unsigned long long)look.size, (long long)look.mtime);
	return rc;
}

bool frozen_untouched(const struct store_machine *m, u64 id)
{
	char name[IMAGES_NAME_MAX + 1], now[64];
	struct store_config facts = { 0 };
	struct err err = { 0 };
	struct images_image i;

	image_name(m->name, id, name);
	if (look_at_disk(m, CLONE_DISK, now) || images_open(&i, name, &err))
		return false;
	const char *then = images_read(&i, &facts, &err) ? NULL : store_config_get(&facts, LEFT);
	bool same = then && !strcmp(then, now);

	store_config_free(&facts);
	images_close(&i);
	return same;
}

static int write_facts(const struct images_image *i, const struct store_machine *m, struct err *err)
{
	struct store_config facts = { 0 };
	char made[32], about[120], left[64];
	time_t now = time(NULL);
	struct tm tm;
	int rc = look_at_disk(m, FRESH, left);

	if (rc)
		return err_set(err, rc, FRESH ": %s", strerror(-rc));
	strftime(made, sizeof(made), "%Y-%m-%d %H:%M:%S", localtime_r(&now, &tm));
	snprintf(about, sizeof(about), "the disk of machine %s, as it was saved", m->name);
	rc = store_config_add(&facts, "about", about, 0, err) ||
			     store_config_add(&facts, "made", made, 0, err) ||
			     store_config_add(&facts, LEFT, left, 0, err)
		     ? err->code
		     : images_write(i, &facts, err);
	store_config_free(&facts);
	return rc;
}

/* The image's folder, and the machine's next disk beside its present one. `path` is where the
 * image's disk will be. */
static int prepare(const struct store_machine *m, const struct images_image *i, const char *path,
	struct err *err)
{
	unlinkat(m->folder, FRESH, 0); /* of somebody who was killed */
	if (linkat(m->folder, CLONE_DISK, i->folder, IMAGES_DISK, 0))
		return err_set(err, -errno, "disk %s of %s cannot become an image: %s", CLONE_DISK,
			m->name,
			errno == EXDEV ? "images are on another file system" : strerror(errno));
	/* It stands on a name that does not exist yet: its size is that of the one that does. */
	char now[FROZEN_PATH_MAX];

	snprintf(now, sizeof(now), "%s/" IMAGES_DISK, i->path);
	return clone_disk_named(m->folder, FRESH, now, path, err) ? err->code
								  : write_facts(i, m, err);
}

int frozen_make(const struct store_machine *m, u64 id, char path[FROZEN_PATH_MAX], struct err *err)
{
	char name[IMAGES_NAME_MAX + 1], folder[1024];
	struct images_image i;

	image_name(m->name, id, name);
	if (images_folder(folder, sizeof(folder), err) || images_begin(&i, err))
		return err->code;
	snprintf(path, FROZEN_PATH_MAX, "%s/%s/" IMAGES_DISK, folder, name);
	if (prepare(m, &i, path, err) || images_finish(&i, name, err)) {
		images_abandon(&i);
		unlinkat(m->folder, FRESH, 0);
		return err->code;
	}
	int rc = renameat(m->folder, FRESH, m->folder, CLONE_DISK) ? -errno : 0;

	/* Whoever looks at it by mistake cannot write. */
	if (!rc && fchmodat(i.folder, IMAGES_DISK, 0400, 0))
		rc = -errno;
	images_close(&i);
	return rc ? err_set(err, rc, CLONE_DISK ": %s", strerror(-rc)) : 0;
}
