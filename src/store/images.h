/*
 * Images by name: what machines are made of. A folder each, below the user's data folder
 * ($XDG_DATA_HOME/strata/images, or ~/.local/share/...).
 *
 *   disk.qcow2       what machines' disks stand on
 *   kernel, initrd   what boots, unless the disk's own boot loader does
 *   modules          the kernel's: a packed archive of /lib/modules/VERSION, to be lent
 *   image.yaml       what it is, and how it is started: names and values of images_read()
 *   lock             shared by who makes a machine of it, exclusive to who removes it
 *
 * An image is never written to once it has its name: it is made as .new-* and renamed, and removed
 * as .gone-*, as machines are (store.h). Which machines stand on it, their disks say.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "store/config.h"

#define IMAGES_NAME_MAX 63u
#define IMAGES_DISK	"disk.qcow2"
#define IMAGES_KERNEL	"kernel"
#define IMAGES_INITRD	"initrd"
#define IMAGES_MODULES	"modules"
#define IMAGES_FACTS	"image.yaml"

struct images_image {
	char name[IMAGES_NAME_MAX + 1]; /* of the moment */
	char path[1024];		/* of the folder */
	int folder, lock;
};

/* Letters, digits and ._-: after a letter or digit. -EINVAL with err. */
NODISCARD int images_check_name(const char *name, struct err *err);

int images_taken(const char *name, struct err *err); /* says so: -EEXIST */
/* One that is there. -ENOENT: there is none of that name. */
NODISCARD int images_open(struct images_image *i, const char *name, struct err *err);
/* Until images_close(). -EBUSY; -ENOENT: it has gone meanwhile. */
NODISCARD int images_lock(struct images_image *i, bool shared, struct err *err);
NODISCARD int images_read(
	const struct images_image *i, struct store_config *facts, struct err *err);
void images_close(struct images_image *i);
/* Its folder and all that is in it. The lock is taken, exclusively. */
NODISCARD int images_remove(struct images_image *i, struct err *err);

/* A new one, without a name yet. Its lock is held by whoever has `lock` open, children included. */
NODISCARD int images_begin(struct images_image *i, struct err *err);
NODISCARD int images_write(
	const struct images_image *i, const struct store_config *facts, struct err *err);
/* Gives it its name. -EEXIST: somebody else has made one. */
NODISCARD int images_finish(struct images_image *i, const char *name, struct err *err);
void images_abandon(struct images_image *i); /* instead; closes it */

NODISCARD int images_list(char ***names, unsigned *count, struct err *err);
NODISCARD int images_folder(char *path, size_t size, struct err *err); /* where all of them are */
void images_sweep(void);
