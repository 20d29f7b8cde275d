#include "os/helper.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

pid_t helper_fork(int *end, struct err *err)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_set(err, -errno, "%s", strerror(errno));
	pid_t child = fork();
	int why = errno;

	close(ends[!child ? 0 : 1]);
	*end = ends[!child ? 1 : 0];
	if (child >= 0)
		return child;
	close(*end);
	return err_set(err, -why, "%s", strerror(why));
}

int helper_keep(const int *fds, unsigned count)
{
	int copies[HELPER_KEEP_MAX];

	for (unsigned i = 0; i < count; i++) {
		copies[i] = fcntl(fds[i], F_DUPFD, (int)count);
		if (copies[i] < 0)
			return -errno;
	}
	for (unsigned i = 0; i < count; i++)
		if (dup2(copies[i], (int)i) < 0)
			return -errno;
	return close_range(count, ~0u, 0) ? -errno : 0;
}
