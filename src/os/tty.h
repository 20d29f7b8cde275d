/*
 * The terminal in raw mode, and back whatever happens: atexit() for every ordinary end, and
 * handlers of the signals a crash raises (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
 * SIGSYS), which restore it and then let the signal do what it would have done. Signals that ask
 * the process to end are the caller's: it reads them from a signalfd and ends in the ordinary way.
 *
 * Whoever installs a handler for one of those signals later keeps the previous action and passes on
 * what is not its own; so the restoration always comes last.
 *
 * One terminal per process, set up by the main thread.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* No-op with 0 when fd is no terminal or this process is in its background. */
NODISCARD int tty_raw(int fd, struct err *err);
bool tty_is_raw(void);
void tty_resume(void);	/* raw again, after the process was stopped and continued */
void tty_restore(void); /* async-signal-safe; any number of times */
