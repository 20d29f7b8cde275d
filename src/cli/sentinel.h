/*
 * The end that nothing delays. A thread of its own waits for the signals that ask the process to
 * end and for the time of --timeout. It tells the event loop, which takes the ordinary way out, and
 * gives it a grace; then it ends the process itself. So a main thread that loads a large image, or
 * threads that write to a pipe which nobody reads, cannot outlive the second that a user waits.
 *
 * One per process. sentinel_open() comes before other threads: they inherit the blocked signals.
 */
#pragma once
#include "base/err.h"

#define SENTINEL_TIME (-1)

/* A descriptor that becomes readable when there is news, for the loop to watch and
 * fd_event_clear(); -errno with err filled. timeout_ns 0: none. */
NODISCARD int sentinel_open(u64 timeout_ns, struct err *err);

/* 0, or why to end: the signal's number or SENTINEL_TIME. Stays. */
int sentinel_asked(void);
/* Whether the process went on after it was stopped (SIGCONT), since the last call. */
bool sentinel_resumed(void);
