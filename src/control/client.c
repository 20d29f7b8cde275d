#include "control/client.h"
#include "base/scope.h"
#include "os/fd.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* 0 when something can be read. */
static int wait_readable(int fd, u64 deadline, struct err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do {
		u64 now = fd_monotonic_ns();
		int left = deadline == ~0ull ? -1
			   : now < deadline  ? (int)((deadline - now) / 1000000) + 1
					     : 0;

		n = poll(&p, 1, left);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_set(err, -errno, "%s", strerror(errno));
	return n ? 0 : err_set(err, -ETIMEDOUT, "the machine does not answer");
}

static int fill(struct control_client *c, struct err *err)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, 0);

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 && errno != ECONNRESET)
		return err_set(err, -errno, "%s", strerror(errno));
	if (n <= 0)
		return err_set(err, -ENODATA, "the machine has hung up");
	c->len += (size_t)n;
	return 0;
}

json_t *client_next(struct control_client *c, unsigned ms, struct err *err)
{
	u64 deadline = ms ? fd_monotonic_ns() + ms * 1000000ull : ~0ull;
	json_error_t where;
	char *end;

	while (!(end = memchr(c->in, '\n', c->len))) {
		if (c->len == sizeof(c->in)) {
			err_set(err, -EPROTO, "the machine's line has no end");
			return NULL;
		}
		if (wait_readable(c->fd, deadline, err) || fill(c, err))
			return NULL;
	}
	size_t len = (size_t)(end - c->in) + 1;
	json_t *message = json_loadb(c->in, len - 1, JSON_REJECT_DUPLICATES, &where);

	c->len -= len;
	memmove(c->in, end + 1, c->len);
	if (!message)
		err_set(err, -EPROTO, "the machine speaks no JSON: %s", where.text);
	return message;
}

/* A monitor that is stuck may have a queue of those who wait for it. */
static int limit_waiting(int fd, unsigned ms)
{
	const struct timeval t = { .tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000 };

	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t));
}

int client_connect(struct control_client *c, int folder, unsigned ms, struct err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	c->len = 0;
	c->greeted = false;
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET, folder);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || limit_waiting(c->fd, ms) ||
		connect(c->fd, (struct sockaddr *)&a, sizeof(a))) {
		if (errno == EAGAIN)
			err_set(err, -ETIMEDOUT, "the machine does not answer");
		else
			err_set(err, -errno, "control socket: %s", strerror(errno));
		client_close(c);
		return err->code;
	}
	return 0;
}

int client_greet(struct control_client *c, unsigned ms, struct err *err)
{
	json_t *hello = client_next(c, ms, err);

	if (!hello)
		return err->code;
	c->greeted = json_integer_value(json_object_get(hello, "protocol")) == CONTROL_PROTOCOL;
	json_decref(hello);
	return c->greeted ? 0
			  : err_set(err, -EPROTO,
				    "the machine was started by another version of strata");
}

int client_open(struct control_client *c, int folder, unsigned ms, struct err *err)
{
	if (client_connect(c, folder, ms, err))
		return err->code;
	if (client_greet(c, ms, err))
		client_close(c);
	return err->code;
}

void client_close(struct control_client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

union descriptors {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
};

static int send_line(
	struct control_client *c, const char *line, size_t len, const int *fds, unsigned count)
{
	union descriptors control = { .head = { .cmsg_len = CMSG_LEN(count * sizeof(int)),
					      .cmsg_level = SOL_SOCKET,
					      .cmsg_type = SCM_RIGHTS } };
	struct iovec iov = { (void *)(uintptr_t)line, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (count > CONTROL_FDS_MAX)
		return -E2BIG;
	if (count) {
		memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	return sendmsg(c->fd, &m, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -errno;
}

/* Events may come before it. */
static json_t *next_answer(struct control_client *c, unsigned ms, struct err *err)
{
	json_t *message;

	while ((message = client_next(c, ms, err)) && json_object_get(message, "event"))
		json_decref(message);
	return message;
}

int client_ask(struct control_client *c, const char *command, int pass, unsigned ms,
	json_t **result, struct err *err)
{
	return client_request(c, json_pack("{s:s}", "command", command), pass, ms, result, err);
}

int client_request(struct control_client *c, json_t *take_request, int pass, unsigned ms,
	json_t **result, struct err *err)
{
	return client_request_with(c, take_request, &pass, pass >= 0, ms, result, err);
}

int client_request_with(struct control_client *c, json_t *take_request, const int *fds,
	unsigned count, unsigned ms, json_t **result, struct err *err)
{
	char line[CONTROL_LINE_MAX];
	size_t len = json_dumpb(take_request, line, sizeof(line) - 1, JSON_COMPACT);

	json_decref(take_request);
	if (!len || len > sizeof(line) - 1)
		return err_set(err, -EINVAL, "the request cannot be put into words");
	line[len++] = '\n';
	if (!c->greeted && client_greet(c, ms, err))
		return err->code;
	if (send_line(c, line, len, fds, count))
		return err_set(err, -ENODATA, "the machine has hung up");
	json_t *answer = next_answer(c, ms, err);

	if (!answer)
		return err->code;
	const char *text =
		json_string_value(json_object_get(json_object_get(answer, "error"), "text"));

	if (text)
		err_set(err, -EREMOTEIO, "%s", text);
	else if (result)
		*result = json_incref(json_object_get(answer, "result"));
	json_decref(answer);
	return text ? err->code : 0;
}

pid_t client_peer(const struct control_client *c)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &who, &len) ? 0 : who.pid;
}
