/*
 * The terminal in raw mode, and back whatever happens: atexit() for every ordinary end, and
 * handlers of the signals a crash raises (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP,
 * SIGSYS), which restore it and then let the signal do what it would have done. One of them is no
 * crash: when the host has no memory for a page, a line says so, and the process ends with status
 * 1. Signals that ask the process to end are the caller's: it waits for them and ends
 * in the ordinary way.
 *
 * Engines handle some of those signals, too. They come later, keep the previous action and pass on
 * what is not their own.
 *
 * One terminal per process, set up by the main thread.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* Once, before anybody else installs handlers for these signals. */
void tty_guard(void);
/* No-op with 0 when fd is no terminal or this process is in its background. */
NODISCARD int tty_raw(int fd, struct err *err);
bool tty_is_raw(void);
void tty_resume(void);	/* raw again, after the process was stopped and continued */
void tty_restore(void); /* async-signal-safe; any number of times */
