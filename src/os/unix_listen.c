#include "os/unix_listen.h"
#include "base/scope.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int stream(void) { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0); }

static bool somebody_listens(const struct sockaddr_un *a)
{
	AUTO_FD fd = stream();

	return fd >= 0 &&
	       (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0 || errno == EAGAIN);
}

static bool is_socket(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

int unix_listen(const char *path, unsigned spare, int backlog, struct err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(path) + spare >= sizeof(a.sun_path))
		return err_set(err, -ENAMETOOLONG,
			"%.60s...: longer than a socket's path may be, %zu bytes", path,
			sizeof(a.sun_path) - spare - 1);
	memcpy(a.sun_path, path, strlen(path));
	if (somebody_listens(&a))
		return err_set(err, -EADDRINUSE, "%s: another program listens there", path);
	if (is_socket(path))
		unlink(path);
	AUTO_FD fd = stream();

	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) || listen(fd, backlog))
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	return steal_fd(&fd);
}
