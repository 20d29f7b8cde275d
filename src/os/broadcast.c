/*
 * Threads are found in /proc/self/task and told by a signal of their own, round after round, until
 * each one listed has answered. A thread that ends meanwhile is not listed any more; one that was
 * signalled twice remembers that it has answered.
 */
#include "os/broadcast.h"
#include "base/bits.h"
#include "os/fd.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BROADCAST_SIGNAL (SIGRTMIN + 4)
#define ANSWER_NS	 1000000000ull
#define FIRST_PAUSE_NS	 50000l
#define LAST_PAUSE_NS	 10000000l

static struct {
	void (*fn)(void);
	_Atomic u32 count;
	_Atomic pid_t answered[BROADCAST_THREADS_MAX];
} cast;

static bool has_answered(pid_t tid)
{
	for (unsigned i = 0; i < BROADCAST_THREADS_MAX; i++)
		if (atomic_load(&cast.answered[i]) == tid)
			return true;
	return false;
}

static void on_signal(int sig)
{
	int kept = errno;

	if (!has_answered(gettid())) {
		cast.fn();
		u32 at = atomic_fetch_add(&cast.count, 1);
		if (at < BROADCAST_THREADS_MAX)
			atomic_store(&cast.answered[at], gettid());
	}
	errno = kept;
}

/* How many threads have not answered yet; -errno. */
static int signal_others(struct err *err)
{
	DIR *tasks = opendir("/proc/self/task");
	int left = 0;

	if (!tasks)
		return err_set(err, -errno, "/proc/self/task: %s", strerror(errno));
	for (struct dirent *d; (d = readdir(tasks));) {
		pid_t tid = (pid_t)strtol(d->d_name, NULL, 10);

		if (tid <= 0 || tid == gettid() || has_answered(tid))
			continue;
		tgkill(getpid(), tid, BROADCAST_SIGNAL); /* it may be gone: not listed next time */
		left++;
	}
	closedir(tasks);
	return left;
}

static int tell_others(struct err *err)
{
	struct timespec pause = { .tv_nsec = FIRST_PAUSE_NS };
	u64 start = fd_monotonic_ns();
	int left;

	while ((left = signal_others(err)) > 0) {
		if (fd_monotonic_ns() - start > ANSWER_NS)
			return err_set(err, -ETIMEDOUT, "%d threads do not answer", left);
		nanosleep(&pause, NULL);
		pause.tv_nsec = (long)min_u64((u64)pause.tv_nsec * 2, LAST_PAUSE_NS);
	}
	return left;
}

int broadcast_run(void (*fn)(void), struct err *err)
{
	struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK };

	cast.fn = fn;
	atomic_store(&cast.count, 0);
	for (unsigned i = 0; i < BROADCAST_THREADS_MAX; i++)
		atomic_store(&cast.answered[i], 0);
	sigaction(BROADCAST_SIGNAL, &act, NULL);

	int rc = tell_others(err);
	fn();
	return rc;
}
