/*
 * Images of the Open Container Initiative (image-spec 1.0): what `strata image import` makes a
 * machine's disk of.
 *
 * They are fetched by skopeo(1), where they are not a layout folder already, and unpacked by
 * umoci(1), which checks each blob's digest and lets no name lead out of the tree (system.sh). What
 * they are to run is read here.
 *
 * They are made for containers: most bring no kernel, and many no init. A kernel comes from
 * --kernel, or from another image (--kernel-of), with its modules. The first process is a program
 * of ours (guest/README.md), which loads drivers and sets up the network. One that has /sbin/init
 * goes on by that; for another, what the image says is run on the console, and the machine is
 * powered off.
 */
#pragma once
#include "base/err.h"
#include "store/images.h"

/* In the new image's folder, for system.sh: what it runs, and the first process. */
#define OCI_RUN	    ".oci-run"
#define OCI_PROGRAM ".oci-init"
#define OCI_RUNS    ".oci-runs" /* there afterwards, when it has no init of its own */
#define OCI_INIT    "/.strata/init"

struct oci {
	char layout[1024], tag[256];
};

/* "oci:FOLDER[:TAG]", a folder that is such a layout, or whatever skopeo takes:
 * "oci-archive:FILE", "docker://NAME". */
bool image_oci_is(const char *from);
/* Fetches it, if need be, to the new image's folder, and writes OCI_RUN and OCI_PROGRAM there. */
NODISCARD int image_oci_begin(
	struct oci *o, const char *from, const struct images_image *at, struct err *err);
