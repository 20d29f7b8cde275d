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
int image_failed(const char *verb, const struct err *err); /* says so: CLI_FAILED */

extern const struct verb image_convert_verb;
