/* Threads with a name that ps, top and debuggers show. All signals a signalfd reads are blocked by
 * inheritance: threads are made after fd_signals(). */
#pragma once
#include "base/err.h"
#include <pthread.h>

NODISCARD int thread_start(
	pthread_t *t, const char *name, void *(*run)(void *), void *ctx, struct err *err);

/* Joins a thread that may be blocked in a system call: interrupts it until it is gone. The thread
 * finds EINTR and something of its owner's that tells it to return. */
void thread_stop(pthread_t t);
