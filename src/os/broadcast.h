/*
 * A function run by every thread of the process: for what Linux keeps per thread, and POSIX would
 * have per process (credentials, capabilities, no_new_privs).
 */
#pragma once
#include "base/err.h"

#define BROADCAST_THREADS_MAX 64

/*
 * Each thread runs fn() once: the others in a signal handler, so fn is async-signal-safe; the
 * caller last, whatever becomes of the others. Returns when all have; -errno when threads cannot be
 * listed or one does not answer within a second. System calls that the signal interrupts are
 * restarted, or fail with EINTR (signal(7)).
 *
 * For one caller at a time, while no thread makes threads.
 */
NODISCARD int broadcast_run(void (*fn)(void), struct err *err);
