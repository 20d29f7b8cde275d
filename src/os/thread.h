/* Threads with a name that ps, top and debuggers show, and the signals that one of them waits for.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <pthread.h>
#include <signal.h>

NODISCARD int thread_start(
	pthread_t *t, const char *name, void *(*run)(void *), void *ctx, struct err *err);

/* Runs on that processor of the host only, from now on. */
NODISCARD int thread_pin(pthread_t t, int cpu, struct err *err);

/* Joins a thread that may be blocked in a system call: interrupts it until it is gone. The thread
 * finds EINTR and something of its owner's that tells it to return. */
void thread_stop(pthread_t t);

/* Blocks the signals in this thread and in those it makes later, so that they wait for
 * thread_signal_next(). */
NODISCARD int thread_signals_block(const sigset_t *set, struct err *err);
/*
 * Waits for one of the set, all of them blocked: its number, the lowest first; 0 after timeout_ns
 * (~0: never). Not a signalfd: who polls one is woken by every signal of the process, and a
 * translating vcpu has thousands a second of its own.
 */
int thread_signal_next(const sigset_t *set, u64 timeout_ns);
