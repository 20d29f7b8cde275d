/* --firmware NAME|FILE[,vars=FILE]: a name from a table, or a file. */
#pragma once
#include "base/err.h"
#include <stdio.h>

/* Paths; those that are not needed are NULL. */
struct firmware_option {
	const char *path, *flash, *vars, *video;
	char *text; /* what they may point into */
};

/* text NULL: no firmware. -EINVAL; -ENOENT when a name's package is not installed. */
NODISCARD int firmware_option_parse(
	const char *text, bool video, struct firmware_option *option, struct err *err);
void firmware_option_free(struct firmware_option *option);
void firmware_option_help(FILE *to);
