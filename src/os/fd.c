#include "os/fd.h"
#include "base/bits.h"
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull

/* A timer further away than this fires early and is armed again by its owner. */
#define TIMER_NS_MAX (3600 * NS_PER_S)

static int opened(int fd, const char *what, struct err *err)
{
	return fd < 0 ? err_set(err, -errno, "%s: %s", what, strerror(errno)) : fd;
}

int fd_event(struct err *err)
{
	return opened(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd", err);
}

/* Only a full counter can make these fail, and then the event is set, or an empty one, and then it
 * is clear. */
void fd_event_set(int fd)
{
	int kept = errno;
	u64 one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		errno = kept;
}

static bool drain_counter(int fd)
{
	u64 count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

bool fd_event_clear(int fd) { return drain_counter(fd); }

int fd_timer(struct err *err)
{
	return opened(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd", err);
}

void fd_timer_set(int fd, u64 ns)
{
	struct itimerspec spec = { 0 };

	if (ns != ~0ull) {
		/* A zero value would disarm. */
		ns = max_u64(1, min_u64(ns, TIMER_NS_MAX));
		spec.it_value.tv_sec = (time_t)(ns / NS_PER_S);
		spec.it_value.tv_nsec = (long)(ns % NS_PER_S);
	}
	timerfd_settime(fd, 0, &spec, NULL);
}

void fd_timer_clear(int fd) { drain_counter(fd); }

u64 fd_monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * NS_PER_S + (u64)t.tv_nsec;
}

int fd_stat(int fd, struct stat *st) { return (int)syscall(SYS_fstat, fd, st); }
