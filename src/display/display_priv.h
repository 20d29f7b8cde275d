/* What the display's files share. */
#pragma once
#include "display/display.h"

/* listen.c: a descriptor that does not block, or -errno. */
int listen_open(const struct display_address *a, struct err *err);
