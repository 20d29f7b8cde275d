/*
 * The three descriptors a loop waits for besides files: an event (set by any thread, also from a
 * signal handler), a timer on the monotonic clock, and signals turned into reads. All are
 * non-blocking and close-on-exec.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <signal.h>
#include <sys/stat.h>

NODISCARD int fd_event(struct err *err); /* the descriptor, or -errno */
void fd_event_set(int fd);
bool fd_event_clear(int fd); /* whether it was set */

NODISCARD int fd_timer(struct err *err);
/* Fires once, `ns` from now (0: at once); ~0 disarms. */
void fd_timer_set(int fd, u64 ns);
void fd_timer_clear(int fd);

/* fstat(), also in the sandbox: C libraries may ask by a path, which is refused there. */
NODISCARD int fd_stat(int fd, struct stat *st); /* 0 or -1, errno set */

/* Nanoseconds of the monotonic clock: the time base of all timers here. */
u64 fd_monotonic_ns(void);
