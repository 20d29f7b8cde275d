/*
 * A machine from an image: `strata run debian:12` is `strata run` with what the image's facts say,
 * a disk of its own that stands on the image's, a seed (seed.h) and a way in by ssh. All of it is
 * options of the machine's, so that machine.yaml says what it is.
 *
 *   clone_begin()   finds the image, or builds it; says what the machine will be
 *   clone_fill()    puts disk and seed into its folder: store_new.fill
 *   clone_made()    the folder is there: others may choose names and ports
 *   clone_free()
 *
 * Between the first and the third the image cannot be removed, and nobody else makes a machine of
 * an image: two would choose the same port.
 */
#pragma once
#include "cli/run.h"
#include "store/images.h"
#include "store/store.h"

#define CLONE_DISK "disk.qcow2"
#define CLONE_SSH  22u /* the guest's port */

struct clone {
	struct run_values values; /* what the machine is made of; points into what follows */
	char name[STORE_NAME_MAX + 1];
	struct images_image image;
	struct store_config facts;
	char *kernel, *initrd, *append, *disk, *seed, *net;
	int alone;
	bool seeded;
};

/* A disk of a machine's own, empty so far, on top of an image's. */
NODISCARD int clone_disk(int folder, const char *file, const char *backing, struct err *err);
/* The same of one that is at another path for now. */
NODISCARD int clone_disk_named(
	int folder, const char *file, const char *now, const char *backing, struct err *err);
/* A disk's option begins with a path, whose commas are written twice; free() it. NULL: no memory.
 */
char *clone_path_text(const char *path);
/* A port of the host's for ssh, which no machine has; 0: there is none. Under store_alone(). */
u16 clone_port(void);

/* -EINVAL: usage. */
NODISCARD int clone_begin(struct clone *c, const struct run_values *v, struct err *err);
NODISCARD int clone_fill(void *clone, int folder, const char *path, struct err *err);
void clone_made(struct clone *c);
void clone_free(struct clone *c);
