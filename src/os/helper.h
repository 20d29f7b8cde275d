/*
 * A process of our own that does one thing for this one, which keeps rights for that, or is kept
 * from others'. It has a socket to us (SOCK_SEQPACKET) and ends when our end of it closes.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <sys/types.h>

/* fork(): 0 in the helper, its process id in ours, *end being one's own end of the socket; or
 * -errno with err. */
NODISCARD pid_t helper_fork(int *end, struct err *err);
/* In the helper: these descriptors become 0, 1 and so on, and no others stay: what waits for the
 * end of our output must not wait for this process. 0 or -errno. Safe after fork() in a process
 * with threads. */
NODISCARD int helper_keep(const int *fds, unsigned count);
#define HELPER_KEEP_MAX 4u
