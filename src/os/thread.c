#include "os/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* The signal does nothing but end a system call. It may arrive just before the call it should have
 * ended, so it is sent again until the thread is gone; that also spares pthread_cancel(), after
 * which nothing can be said about the thread's stack. */
#define INTERRUPT_SIGNAL (SIGRTMIN + 2)
#define INTERRUPT_NS	 2000000
#define NS_PER_S	 1000000000ull

int thread_start(pthread_t *t, const char *name, void *(*run)(void *), void *ctx, struct err *err)
{
	int rc = pthread_create(t, NULL, run, ctx);

	if (rc)
		return err_set(err, -rc, "thread %s: %s", name, strerror(rc));
	pthread_setname_np(*t, name); /* cut at 15 characters by the kernel; only cosmetic */
	return 0;
}

int thread_pin(pthread_t t, int cpu, struct err *err)
{
	cpu_set_t only;

	CPU_ZERO(&only);
	CPU_SET((size_t)cpu, &only);
	int rc = pthread_setaffinity_np(t, sizeof(only), &only);

	return rc ? err_set(err, -rc, "processor %d: %s", cpu, strerror(rc)) : 0;
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

int thread_signals_block(const sigset_t *set, struct err *err)
{
	int rc = pthread_sigmask(SIG_BLOCK, set, NULL);

	return rc ? err_set(err, -rc, "blocking signals: %s", strerror(rc)) : 0;
}

int thread_signal_next(const sigset_t *set, u64 timeout_ns)
{
	const struct timespec t = {
		.tv_sec = (time_t)(timeout_ns / NS_PER_S),
		.tv_nsec = (long)(timeout_ns % NS_PER_S),
	};
	int sig = timeout_ns == ~0ull ? sigwaitinfo(set, NULL) : sigtimedwait(set, NULL, &t);

	return sig > 0 ? sig : 0;
}
