/*
 * Images of the Open Container Initiative (image-spec 1.0): what `strata image import` makes a
 * machine's disk of.
 *
 * They are fetched by skopeo(1), where they are not a layout folder already, and unpacked by
 * umoci(1), which checks each blob's digest and lets no name lead out of the tree (system.sh). What
 * they are to run is read here.
 *
 * They are made for containers: most bring no kernel, and many no init. A kernel comes from
 * --kernel, or from another image (--kernel-of). One that has /sbin/init boots as any system does;
 * for another the first process is a script of ours, which mounts what programs expect, sets up the
 * network where its own programs can, runs what the image says on the console, and powers off.
 */
#pragma once
#include "base/err.h"
#include "store/images.h"

#define OCI_RUN	 ".oci-run"  /* in the new image's folder: what it runs, for system.sh */
#define OCI_OWN	 ".oci-init" /* there afterwards, when it has no init of its own */
#define OCI_INIT "/.strata/init"

struct oci {
	char layout[1024], tag[256];
};

/* "oci:FOLDER[:TAG]", a folder that is such a layout, or whatever skopeo takes:
 * "oci-archive:FILE", "docker://NAME". */
bool image_oci_is(const char *from);
/* Fetches it, if need be, to the new image's folder, and writes OCI_RUN there. */
NODISCARD int image_oci_begin(
	struct oci *o, const char *from, const struct images_image *at, struct err *err);
