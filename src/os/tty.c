#include "os/tty.h"
#include "os/chain.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static struct {
	_Atomic bool raw;
	int fd;
	struct termios before, during;
} tty = { .fd = -1 };

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS };

/*
 * From the background tcsetattr() would stop the process by SIGTTOU unless that is blocked
 * (termios(3)); sigprocmask() and tcsetattr() are async-signal-safe (signal-safety(7)).
 */
static void apply(const struct termios *mode)
{
	sigset_t ttou, kept;

	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &kept);
	tcsetattr(tty.fd, TCSANOW, mode);
	pthread_sigmask(SIG_SETMASK, &kept, NULL);
}

void tty_restore(void)
{
	if (atomic_exchange(&tty.raw, false))
		apply(&tty.before);
}

void tty_resume(void)
{
	if (atomic_load(&tty.raw))
		apply(&tty.during);
}

bool tty_is_raw(void) { return atomic_load(&tty.raw); }

/* With the default action back in place, raising the signal ends the process as it would have ended
 * without us, with the same status and core file. It stays pending while its handler runs. */
static void crashed(int sig, siginfo_t *info, void *context)
{
	static const char shortage[] = "strata: the host has no memory left for the guest's\n";

	tty_restore();
	if (chain_is_shortage(sig, info)) {
		(void)!write(STDERR_FILENO, shortage, sizeof(shortage) - 1);
		_exit(1);
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

void tty_guard(void)
{
	struct sigaction act = { .sa_sigaction = crashed, .sa_flags = SA_SIGINFO };

	for (unsigned i = 0; i < ARRAY_LEN(crash_signals); i++)
		sigaction(crash_signals[i], &act, NULL);
	atexit(tty_restore);
}

/* Everything the user types goes to the guest, signals included. Output processing stays on, so
 * that our own messages start in the first column; the guest's CR LF looks the same with it. */
static struct termios raw_of(struct termios mode)
{
	cfmakeraw(&mode);
	mode.c_oflag |= OPOST;
	return mode;
}

int tty_raw(int fd, struct err *err)
{
	if (!isatty(fd) || tcgetpgrp(fd) != getpgrp())
		return 0;
	if (tcgetattr(fd, &tty.before) < 0)
		return err_set(err, -errno, "terminal: %s", strerror(errno));
	tty.fd = fd;
	tty.during = raw_of(tty.before);
	atomic_store(&tty.raw, true);
	apply(&tty.during);
	return 0;
}
