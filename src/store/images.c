#include "store/images.h"
#include "base/scope.h"
#include "store/folders_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int images_check_name(const char *name, struct err *err)
{
	return folders_good_name(name, IMAGES_NAME_MAX, "._-:")
		       ? 0
		       : err_set(err, -EINVAL,
				 "%.64s: an image's name is up to %u letters, digits, colons, "
				 "dots, dashes and underscores, and begins with a letter or digit",
				 *name ? name : "an empty text", IMAGES_NAME_MAX);
}

int images_taken(const char *name, struct err *err)
{
	return err_set(err, -EEXIST,
		"image %s exists; `strata image rm %s` removes it, --name NAME gives this one "
		"another name",
		name, name);
}

static int set_path(struct images_image *i, const char *name, struct err *err)
{
	snprintf(i->name, sizeof(i->name), "%s", name);
	return folders_path_of(FOLDERS_IMAGES, name, i->path, sizeof(i->path), err);
}

void images_close(struct images_image *i)
{
	if (i->folder >= 0)
		close(i->folder);
	if (i->lock >= 0)
		close(i->lock);
	i->folder = i->lock = -1;
}

int images_open(struct images_image *i, const char *name, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_IMAGES, err);

	*i = (struct images_image){ .folder = -1, .lock = -1 };
	if (root < 0)
		return root;
	if (images_check_name(name, err) || set_path(i, name, err))
		return err->code;
	i->folder = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (i->folder >= 0)
		i->lock = openat(i->folder, FOLDERS_LOCK, O_RDWR | O_CLOEXEC);
	if (i->lock >= 0)
		return 0;
	int rc = -errno;

	images_close(i);
	return rc == -ENOENT ? err_set(err, rc,
				       "no image %s; `strata image ls` lists those there are", name)
			     : err_set(err, rc, "image %s: %s", name, strerror(-rc));
}

int images_lock(struct images_image *i, bool shared, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_IMAGES, err);
	int rc = root < 0 ? root : folders_lock(i->lock, shared);

	if (root < 0)
		return rc;
	if (rc == -EAGAIN)
		return err_set(err, -EBUSY, "another command is at work on image %s", i->name);
	if (rc)
		return err_set(err, rc, "image %s: " FOLDERS_LOCK ": %s", i->name, strerror(-rc));
	return folders_is_there(root, i->name, i->folder)
		       ? 0
		       : err_set(err, -ENOENT, "image %s has just been removed", i->name);
}

int images_read(const struct images_image *i, struct store_config *facts, struct err *err)
{
	size_t len;
	AUTO_FREE char *text =
		folders_read(i->folder, IMAGES_FACTS, STORE_CONFIG_MAX + 1, &len, err);

	if (!text || store_config_parse(facts, text, len, err))
		return err_wrap(err, "image %s%s", i->name, text ? ": " IMAGES_FACTS : "");
	return 0;
}

int images_remove(struct images_image *i, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_IMAGES, err);

	return root < 0 ? root : folders_remove(root, i->name, i->folder, err);
}

/* ---- making one ---- */

int images_begin(struct images_image *i, struct err *err)
{
	char partial[64];

	*i = (struct images_image){ .folder = -1, .lock = -1 };
	images_sweep();
	AUTO_FD root = folders_root(FOLDERS_IMAGES, err);
	int rc = root < 0 ? root : folders_begin(root, partial, &i->folder, &i->lock, err);

	if (!rc)
		rc = set_path(i, partial, err);
	if (rc)
		images_close(i);
	return rc;
}

int images_write(const struct images_image *i, const struct store_config *facts, struct err *err)
{
	AUTO_FD fd =
		openat(i->folder, IMAGES_FACTS, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int copy = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	FILE *f = copy < 0 ? NULL : fdopen(copy, "w");

	if (!f) {
		if (copy >= 0)
			close(copy);
		return err_set(err, -errno, IMAGES_FACTS ": %s", strerror(errno));
	}
	int rc = store_config_write(facts, f, err);

	if ((fclose(f) || fsync(fd)) && !rc)
		rc = err_set(err, -errno, IMAGES_FACTS ": %s", strerror(errno));
	return rc;
}

int images_finish(struct images_image *i, const char *name, struct err *err)
{
	AUTO_FD root = folders_root(FOLDERS_IMAGES, err);

	if (root < 0)
		return root;
	int rc = folders_finish(root, i->name, name);

	if (rc == -EEXIST)
		return images_taken(name, err);
	if (rc)
		return err_set(err, rc, "image %s: %s", name, strerror(-rc));
	folders_unlock(i->lock);
	return set_path(i, name, err);
}

void images_abandon(struct images_image *i)
{
	struct err ignored;

	if (i->folder >= 0)
		(void)!images_remove(i, &ignored);
	images_close(i);
}

/* ---- all of them ---- */

int images_list(char ***names, unsigned *count, struct err *err)
{
	return folders_list(FOLDERS_IMAGES, images_check_name, names, count, err);
}

int images_folder(char *path, size_t size, struct err *err)
{
	return folders_path(FOLDERS_IMAGES, path, size, err);
}

void images_sweep(void) { folders_sweep(FOLDERS_IMAGES, NULL, NULL); }
