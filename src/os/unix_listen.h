/* A Unix socket that others connect to, at a path of the user's. */
#pragma once
#include "base/err.h"

/*
 * A stream socket that listens there and does not block: its descriptor, or -errno with err, which
 * names the path. A socket that somebody left behind is replaced; one at which somebody listens is
 * not (-EADDRINUSE), and nothing else is removed. spare: so many bytes must fit behind the path,
 * for names that are made from it.
 */
NODISCARD int unix_listen(const char *path, unsigned spare, int backlog, struct err *err);
