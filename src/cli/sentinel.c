#include "cli/sentinel.h"
#include "cli/verbs.h"
#include "os/fd.h"
#include "os/thread.h"
#include "os/tty.h"
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* How long the main thread may take to hear of it, and then to end: longer than the machine waits
 * for its processors (PARK_MS). Together short of a second. */
#define HEAR_NS 200000000l
#define END_NS	700000000l

static struct {
	sigset_t signals;
	int news;
	u64 deadline; /* on the monotonic clock; ~0: none */
	_Atomic int asked;
	_Atomic bool heard; /* the main thread knows */
	_Atomic bool resumed;
} sentinel;

int sentinel_asked(void)
{
	int asked = atomic_load(&sentinel.asked);

	if (asked)
		atomic_store(&sentinel.heard, true);
	return asked;
}

bool sentinel_resumed(void) { return atomic_exchange(&sentinel.resumed, false); }

/* How long to wait for a signal. */
static u64 time_left(void)
{
	u64 now = fd_monotonic_ns();

	if (sentinel.deadline == ~0ull)
		return ~0ull;
	return now < sentinel.deadline ? sentinel.deadline - now : 0;
}

static void *watch(void *ctx)
{
	const struct timespec hear = { .tv_nsec = HEAR_NS }, end = { .tv_nsec = END_NS };
	int asked = 0;

	while (!asked) {
		int sig = thread_signal_next(&sentinel.signals, time_left());
		if (sig == SIGCONT)
			atomic_store(&sentinel.resumed, true);
		else if (sig)
			asked = sig;
		else if (!time_left())
			asked = SENTINEL_TIME;
		else
			continue;
		atomic_store(&sentinel.asked, asked);
		fd_event_set(sentinel.news);
	}
	nanosleep(&hear, NULL);
	if (atomic_load(&sentinel.heard))
		nanosleep(&end, NULL);
	tty_restore();
	_exit(asked == SENTINEL_TIME ? CLI_TIMEOUT : CLI_SIGNAL + asked);
}

static int start(struct err *err)
{
	pthread_t thread;

	if (thread_start(&thread, "sentinel", watch, NULL, err))
		return err->code;
	pthread_detach(thread);
	return sentinel.news;
}

int sentinel_open(u64 timeout_ns, struct err *err)
{
	static const int wanted[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCONT };

	sigemptyset(&sentinel.signals);
	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
		sigaddset(&sentinel.signals, wanted[i]);
	if ((sentinel.news = fd_event(err)) < 0 || thread_signals_block(&sentinel.signals, err) < 0)
		return err->code;
	sentinel.deadline = timeout_ns ? fd_monotonic_ns() + timeout_ns : ~0ull;
	return start(err);
}
