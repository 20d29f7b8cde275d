/* What the verbs of `strata image` share. */
#pragma once
#include "block/format.h"
#include "cli/verbs.h"

extern const char *const image_formats[]; /* those that are written; NULL-terminated */
enum { IMAGE_QCOW2, IMAGE_RAW };	  /* their places */

struct image_new {
	const char *path;
	unsigned format;
	bool force;
	struct block_create create;
};

/* Makes the file; it is gone again when that fails. */
NODISCARD int image_make(const struct image_new *n, struct err *err);

struct image_copy {
	const char *from, *from_format; /* NULL: what it looks like */
	struct image_new to;		/* its size is that of the old one */
	const char *what;		/* for the bar; NULL: "writing" */
};

/* What an image shows, with all that it stands on, in a new one that stands alone. */
NODISCARD int image_copy(const struct image_copy *c, struct err *err);

/* A file as it is, to one that is not there yet. */
NODISCARD int image_copy_file(int to_folder, const char *to, const char *from, struct err *err);
/* Images by name (image_build.c): those that can be made of nothing, such as debian:12. */
bool image_known(const char *name);
int image_known_names(struct err *err); /* adds them to an error of an image that is not there */
NODISCARD int image_build_known(const char *name, struct err *err);

/* Bytes as people like them: 1536 -> "1.5 KiB". */
const char *image_human(u64 bytes, char text[24]);
int image_failed(const char *verb, const struct err *err); /* says so: CLI_FAILED */

extern const struct verb image_convert_verb, image_build_verb, image_import_verb, image_export_verb,
	image_ls_verb, image_rm_verb;
