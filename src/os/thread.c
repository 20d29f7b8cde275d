#include "os/thread.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* The signal does nothing but end a system call. It may arrive just before the call it should have
 * ended, so it is sent again until the thread is gone; that also spares pthread_cancel(), after
 * which nothing can be said about the thread's stack. */
#define INTERRUPT_SIGNAL (SIGRTMIN + 2)
#define INTERRUPT_NS	 2000000

int thread_start(pthread_t *t, const char *name, void *(*run)(void *), void *ctx, struct err *err)
{
	int rc = pthread_create(t, NULL, run, ctx);

	if (rc)
		return err_set(err, -rc, "thread %s: %s", name, strerror(rc));
	pthread_setname_np(*t, name); /* cut at 15 characters by the kernel; only cosmetic */
	return 0;
}

static void interrupted(int sig) {}

static void install(void)
{
	struct sigaction act = { .sa_handler = interrupted }; /* no SA_RESTART */

	sigaction(INTERRUPT_SIGNAL, &act, NULL);
}

static struct timespec soon(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += INTERRUPT_NS;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

void thread_stop(pthread_t t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct timespec until;

	pthread_once(&once, install);
	do {
		pthread_kill(t, INTERRUPT_SIGNAL);
		until = soon();
	} while (pthread_timedjoin_np(t, NULL, &until) == ETIMEDOUT);
}
