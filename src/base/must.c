#include "base/must.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void must_fail(const char *file, int line, const char *cond, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "strata: internal error at %s:%d: %s: ", file, line, cond);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}
