/*
 * Logging to standard error: one event, one line, subject first ("uart0: ..."), values not
 * adjectives. Any thread. guest_err() is for what a guest does wrong: it is counted, printed at
 * LOG_GUEST level only, and rate-limited per call site so that a guest cannot flood the host's
 * disk.
 */
#pragma once
#include "base/types.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_GUEST, LOG_DBG };

void log_set_level(enum log_level level); /* default LOG_WARN */
bool log_enabled(enum log_level level);
void log_line(enum log_level level, const char *subject, const char *fmt, ...) PRINTF(3, 4);

struct log_limit {
	_Atomic u32 count;
};
void log_guest(struct log_limit *limit, const char *subject, const char *fmt, ...) PRINTF(3, 4);

#define log_err(subject, ...)  log_line(LOG_ERR, subject, __VA_ARGS__)
#define log_warn(subject, ...) log_line(LOG_WARN, subject, __VA_ARGS__)
#define log_info(subject, ...) log_line(LOG_INFO, subject, __VA_ARGS__)
#define log_dbg(subject, ...)                                    \
	do {                                                     \
		if (unlikely(log_enabled(LOG_DBG)))              \
			log_line(LOG_DBG, subject, __VA_ARGS__); \
	} while (0)

#define guest_err(subject, ...)                           \
	do {                                              \
		static struct log_limit limit_;           \
		log_guest(&limit_, subject, __VA_ARGS__); \
	} while (0)
