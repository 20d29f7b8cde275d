/*
 * Making systems: an image's disk from Debian's packages, from a folder, an archive or an OCI
 * image.
 *
 * The work is a shell script's (system.sh), which calls mmdebstrap, tar and mke2fs, as root of a
 * user name space where the caller is an ordinary user: unshare(1) makes it, with all ids that
 * /etc/subuid gives him. What the script begins lives in a PID name space and dies with it; it dies
 * with us. Whoever kills strata meanwhile leaves a folder .new-*, whose lock is free once all that
 * worked in it has ended, and which the next command about images removes (store/images.h).
 *
 * The disk has a partition table of the PC's kind with one partition, so that a kernel without an
 * initrd can find its root by PARTUUID, whatever it calls the disk.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "store/images.h"

#define SYSTEM_ROOT	"PARTUUID=41525453-01" /* what the partition table makes of it */
#define SYSTEM_SIZE_MIN (16 * MiB)
#define SYSTEM_SIZE_MAX (2048 * GiB - 1 * MiB) /* a partition table of that kind ends there */

enum system_kind { SYSTEM_DEBIAN, SYSTEM_TAR, SYSTEM_FOLDER, SYSTEM_OCI };

struct system_plan {
	enum system_kind kind;
	const char *name;     /* for messages: "image build" */
	const char *source;   /* a suite, an archive, a folder, an OCI layout */
	const char *tag;      /* of the latter's image (image_oci.h) */
	const char *mirror;   /* of Debian's; NULL: mmdebstrap's own choice */
	const char *packages; /* with commas; Debian only */
	u64 size;	      /* of the disk */
};

/* Fills the new image's folder: IMAGES_DISK, and IMAGES_KERNEL, IMAGES_INITRD and IMAGES_MODULES
 * where the system has a kernel. If IMAGES_MODULES is there already, the system gets these. Tells
 * on standard error how far it is: a bar on a terminal, a line for each step elsewhere. */
NODISCARD int system_make(
	const struct images_image *at, const struct system_plan *plan, struct err *err);
