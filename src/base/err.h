/*
 * Errors a person will read.
 *
 * Data path functions return 0 or -errno. Control path functions do the same and also fill a
 * struct err that lives on the caller's stack (it cannot leak or fail): what failed, on which
 * object, why, and, where there is something to do about it, what. Callers prepend what they know
 * with err_wrap(); the top prints it once. A NULL err is allowed everywhere.
 */
#pragma once
#include "base/types.h"

struct err {
	int code;	/* -errno; 0 while nothing was set */
	char text[512]; /* one line, no trailing newline or full stop */
};

/* Sets the text and returns code, so that callers write `return err_set(err, -EINVAL, ...)`. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* Prepends "fmt: " to the text and returns the code already set. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF(2, 3);
