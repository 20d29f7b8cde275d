/* See connector.h. What the child calls is safe after fork() in a process with threads. */
#include "net/connector.h"
#include "os/helper.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct question {
	u32 id, number;
};

static int connect_to(const char *path, u32 number)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s_%u", path, number);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static void answer(int to, u32 id, int fd)
{
	union control control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
					  .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { &id, sizeof(id) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	if (sendmsg(to, &m, MSG_NOSIGNAL) < 0)
		_exit(1);
}

_Noreturn static void serve(int fd, const char *path)
{
	struct question q;
	ssize_t len;

	prctl(PR_SET_NAME, "connector", 0, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (helper_keep(&fd, 1))
		_exit(1);
	while ((len = recv(0, &q, sizeof(q), 0)) == sizeof(q) || (len < 0 && errno == EINTR)) {
		if (len < 0)
			continue;
		int found = connect_to(path, q.number);

		answer(0, q.id, found);
		if (found >= 0)
			close(found);
	}
	_exit(0);
}

int connector_open(struct connector *c, const char *path, struct err *err)
{
	int end;
	pid_t child = helper_fork(&end, err);

	if (!child)
		serve(end, path);
	if (child < 0)
		return err_wrap(err, "connector");
	c->fd = end;
	return 0;
}

void connector_close(struct connector *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

int connector_ask(struct connector *c, u32 id, u32 number)
{
	const struct question q = { id, number };

	return send(c->fd, &q, sizeof(q), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

bool connector_answer(struct connector *c, u32 *id, int *fd)
{
	union control control;
	struct iovec iov = { id, sizeof(*id) };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };

	*fd = -1;
	if (c->fd < 0)
		return false;
	ssize_t len = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (!len || (len < 0 && errno != EAGAIN && errno != EINTR))
		connector_close(c); /* it has ended: nobody connects any more */
	if (len != sizeof(*id))
		return false;
	const struct cmsghdr *head = CMSG_FIRSTHDR(&m);

	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(head), sizeof(*fd));
	return true;
}
