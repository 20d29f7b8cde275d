/* --firmware: a name from a table, or a file. */
#pragma once
#include "base/err.h"
#include <stdio.h>

/* The file; -ENOENT with err when a name's package is not installed. */
NODISCARD int firmware_option_find(const char *text, const char **path, struct err *err);
/* What that firmware needs to use a VGA, or NULL; -ENOENT as above. */
NODISCARD int firmware_option_video(const char *text, const char **path, struct err *err);
void firmware_option_help(FILE *to);
