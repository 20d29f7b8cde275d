/*
 * Another program, run to its end for what it does: ssh-keygen, mke2fs and the like, whose work
 * is not worth doing twice.
 *
 * It dies with us: the kernel kills it when the thread that began it ends, however that ends. What
 * it begins itself does not, unless it sees to it, and is not waited for; a descriptor that is kept
 * open for it, such as a lock's, is then open as long as any of them lives.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

struct child {
	const char *const *argv; /* NULL-terminated; the program is looked for by PATH */
	int keep;		 /* a descriptor that it inherits, 0: none */
	/* Each line that it writes to either output, without its end; NULL: they are thrown away.
	 */
	void (*line)(void *ctx, const char *line);
	void *ctx;
};

/* A `line` for who wants to say what the program said last; ctx: struct child_last, zeroed. */
struct child_last {
	char line[256];
};
void child_keep_last(void *last, const char *line);

/* Its exit status, 128 + n after signal n; or -errno with err when it could not be begun: -ENOENT,
 * there is no such program. */
NODISCARD int child_run(const struct child *c, struct err *err);
/* Says so, and which of Debian's packages has the program: -ENOENT. */
int child_missing(const char *program, const char *package, struct err *err);
