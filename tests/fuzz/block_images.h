/* Small good images of each format, for the harness to damage. */
#pragma once
#include "base/types.h"

#define IMAGES_PLACES 6u

struct block_image {
	const char *format;
	void (*make)(int fd, const char *path);
	u64 places[IMAGES_PLACES]; /* where its structure is */
};

extern const struct block_image block_images[];
extern const unsigned block_images_count;
