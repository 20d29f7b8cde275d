#include "cli/sentinel.h"
#include "cli/verbs.h"
#include "os/fd.h"
#include "os/thread.h"
#include "os/tty.h"
#include <poll.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

/* How long the main thread may take to hear of it, and then to end: longer than the machine waits
 * for its processors (PARK_MS). Together short of a second. */
#define HEAR_NS 200000000l
#define END_NS	700000000l

static struct {
	int signals, timer, news;
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

/* A timer may fire early (fd.c): it is armed again until the time is really up. */
static bool time_is_up(void)
{
	u64 now = fd_monotonic_ns();

	fd_timer_clear(sentinel.timer);
	if (now >= sentinel.deadline)
		return true;
	fd_timer_set(sentinel.timer, sentinel.deadline == ~0ull ? ~0ull : sentinel.deadline - now);
	return false;
}

/* Why to end, or 0. */
static int look(void)
{
	int sig, asked = 0;

	while (!asked && (sig = fd_signal_next(sentinel.signals))) {
		if (sig == SIGCONT)
			atomic_store(&sentinel.resumed, true);
		else
			asked = sig;
	}
	return !asked && time_is_up() ? SENTINEL_TIME : asked;
}

static void *watch(void *ctx)
{
	struct pollfd p[] = {
		{ .fd = sentinel.signals, .events = POLLIN },
		{ .fd = sentinel.timer, .events = POLLIN },
	};
	const struct timespec hear = { .tv_nsec = HEAR_NS }, end = { .tv_nsec = END_NS };
	int asked = 0;

	while (!asked) {
		poll(p, ARRAY_LEN(p), -1);
		asked = look();
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
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
		sigaddset(&set, wanted[i]);
	if ((sentinel.news = fd_event(err)) < 0 || (sentinel.timer = fd_timer(err)) < 0 ||
		(sentinel.signals = fd_signals(&set, err)) < 0)
		return err->code;
	sentinel.deadline = timeout_ns ? fd_monotonic_ns() + timeout_ns : ~0ull;
	time_is_up();
	return start(err);
}
