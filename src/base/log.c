#include "base/log.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

/* Each guest-level call site prints this many lines, then falls silent for the process's life. */
#define GUEST_LINES_PER_SITE 8u

static _Atomic int threshold = LOG_WARN;

void log_set_level(enum log_level level) { atomic_store(&threshold, (int)level); }

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&threshold, memory_order_relaxed);
}

PRINTF(3, 0)
static void vline(enum log_level level, const char *subject, const char *fmt, va_list ap)
{
	static const char *const names[] = { "error", "warning", "info", "guest", "debug" };
	char line[1024];

	vsnprintf(line, sizeof(line), fmt, ap);
	fprintf(stderr, "strata: %s: %s: %s\n", names[level], subject, line);
}

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vline(level, subject, fmt, ap);
	va_end(ap);
}

void log_guest(struct log_limit *limit, const char *subject, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(LOG_GUEST) || atomic_fetch_add_explicit(&limit->count, 1,
					       memory_order_relaxed) >= GUEST_LINES_PER_SITE)
		return;
	va_start(ap, fmt);
	vline(LOG_GUEST, subject, fmt, ap);
	va_end(ap);
}
