/* See control.h. The socket, and the connections with their buffers. */
#include "base/log.h"
#include "control/control_priv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Many, so that one who waits in vain keeps nobody from coming to kill us. */
#define BACKLOG 1024

static bool is_full(const struct control_conn *conn) { return conn->out_len > CONTROL_OUT / 2; }

/* What the loop has to call for: input as long as there is room for it and its answer. */
static void want(struct control_conn *conn)
{
	bool in = !conn->ended && conn->mode != CONTROL_LAST && conn->in_len < sizeof(conn->in) &&
		  (conn->mode == CONTROL_CONSOLE || !is_full(conn));

	loop_want(conn->control->loop, &conn->source, in, conn->out_len != 0);
}

static void close_passed(struct control_conn *conn)
{
	for (unsigned i = 0; i < conn->passed_count; i++)
		if (conn->passed[i] >= 0)
			close(conn->passed[i]);
	conn->passed_count = 0;
}

void control_hang_up(struct control_conn *conn)
{
	struct control *c = conn->control;
	struct control_conn **at = &c->conns;

	while (*at != conn)
		at = &(*at)->next;
	*at = conn->next;
	c->count--;
	loop_remove(c->loop, &conn->source);
	close(conn->source.fd);
	close_passed(conn);
	bool console = conn->mode == CONTROL_CONSOLE, saves = conn->saves;

	free(conn);
	if (saves && c->config.ops->save_end)
		c->config.ops->save_end(c->config.ctx);
	if (console)
		control_stream_room(c);
}

bool control_flush(struct control_conn *conn)
{
	size_t done = 0;

	while (done < conn->out_len) {
		ssize_t n = send(conn->source.fd, conn->out + done, conn->out_len - done,
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			control_hang_up(conn);
			return false;
		}
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	conn->out_len -= done;
	conn->written += done;
	memmove(conn->out, conn->out + done, conn->out_len);
	if (conn->mode == CONTROL_LAST && !conn->out_len) {
		control_hang_up(conn);
		return false;
	}
	want(conn);
	if (done && conn->mode == CONTROL_CONSOLE)
		control_stream_room(conn->control);
	return true;
}

/* Where there is no room for it, nobody reads: the connection has come to its end. */
void control_line(struct control_conn *conn, const json_t *message)
{
	size_t room = sizeof(conn->out) - conn->out_len;
	size_t len = json_dumpb(
		message, conn->out + conn->out_len, room, JSON_COMPACT | JSON_REAL_PRECISION(15));

	if (len >= room || !len) {
		conn->mode = CONTROL_LAST;
		return;
	}
	conn->out_len += len;
	conn->out[conn->out_len++] = '\n';
}

/* ---- input ---- */

static void answer(struct control_conn *conn, const char *line, size_t len)
{
	json_t *message = control_answer(conn, line, len);

	if (message)
		control_line(conn, message);
	json_decref(message);
	close_passed(conn);
}

static void too_long(struct control_conn *conn)
{
	json_t *message = json_pack("{s:{s:s,s:s}}", "error", "code", "too-long", "text",
		"the request is longer than a line may be");

	if (message)
		control_line(conn, message);
	json_decref(message);
	conn->mode = CONTROL_LAST;
}

/* Whole lines are answered, as long as their answers find room. */
static void read_lines(struct control_conn *conn)
{
	char *end;

	while (conn->mode == CONTROL_LINES && !is_full(conn) &&
		(end = memchr(conn->in, '\n', conn->in_len))) {
		size_t len = (size_t)(end - conn->in);

		answer(conn, conn->in, len);
		conn->in_len -= len + 1;
		memmove(conn->in, end + 1, conn->in_len);
	}
	if (conn->mode == CONTROL_LINES && conn->in_len == sizeof(conn->in) &&
		!memchr(conn->in, '\n', conn->in_len))
		too_long(conn);
	if (conn->mode == CONTROL_CONSOLE)
		control_stream_type(conn);
}

union descriptors {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(CONTROL_FDS_MAX * sizeof(int))];
};

/* Those of all that has come since the last answer, as far as there is room. */
static void keep_passed(struct control_conn *conn, struct msghdr *m)
{
	const struct cmsghdr *head = CMSG_FIRSTHDR(m);

	if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
		return;
	for (size_t at = CMSG_LEN(0); at + sizeof(int) <= head->cmsg_len; at += sizeof(int)) {
		int fd;

		memcpy(&fd, (const char *)head + at, sizeof(fd));
		if (conn->passed_count < CONTROL_FDS_MAX)
			conn->passed[conn->passed_count++] = fd;
		else
			close(fd);
	}
}

static ssize_t receive(struct control_conn *conn)
{
	union descriptors control = { 0 };
	struct iovec iov = { conn->in + conn->in_len, sizeof(conn->in) - conn->in_len };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(conn->source.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n > 0)
		keep_passed(conn, &m);
	return n;
}

static bool has_line(const struct control_conn *conn)
{
	return conn->mode == CONTROL_LINES && memchr(conn->in, '\n', conn->in_len);
}

static void read_more(struct control_conn *conn)
{
	if (conn->ended || conn->mode == CONTROL_LAST || conn->in_len == sizeof(conn->in))
		return;
	ssize_t n = receive(conn);

	if (n > 0)
		conn->in_len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		conn->ended = true;
}

static void ready(void *ctx)
{
	struct control_conn *conn = ctx;
	bool alive = !conn->source.hung_up;

	read_more(conn);
	do {
		read_lines(conn);
		/* Who listens to the console, or to events, need say nothing more. */
		if (conn->ended && conn->mode == CONTROL_LINES && !conn->events && !has_line(conn))
			conn->mode = CONTROL_LAST;
		if (!alive)
			control_hang_up(conn);
		else
			alive = control_flush(conn);
	} while (alive && has_line(conn) && !is_full(conn));
}

/* ---- connections ---- */

static void greet(struct control_conn *conn)
{
	const struct control_config *config = &conn->control->config;
	json_t *message = json_pack("{s:s,s:i,s:s}", "strata", config->version, "protocol",
		CONTROL_PROTOCOL, "name", config->name);

	if (message)
		control_line(conn, message);
	json_decref(message);
}

void control_adopt(struct control *c, int take_fd)
{
	struct control_conn *conn = c->count < CONTROL_CONNS_MAX ? malloc(sizeof(*conn)) : NULL;
	struct err err = { 0 };

	if (!conn) {
		close(take_fd);
		return;
	}
	memset(conn, 0, offsetof(struct control_conn, in));
	conn->control = c;
	conn->source = (struct loop_source){ .fd = take_fd, .ready = ready, .ctx = conn };
	if (loop_add(c->loop, &conn->source, &err)) {
		log_warn("control", "%s", err.text);
		close(take_fd);
		free(conn);
		return;
	}
	conn->next = c->conns;
	c->conns = conn;
	c->count++;
	greet(conn);
	control_flush(conn);
}

static bool is_owner(const struct control *c, int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) &&
	       (who.uid == c->owner || who.uid == 0);
}

static void accept_one(void *ctx)
{
	struct control *c = ctx;
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (is_owner(c, fd))
		control_adopt(c, fd);
	else
		close(fd);
}

/* ---- life ---- */

static int listen_in(struct control *c, struct err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	mode_t mask;
	int rc;

	/* By the folder's descriptor: its path may be longer than a socket's address. */
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" CONTROL_SOCKET,
		c->config.folder);
	unlinkat(c->config.folder, CONTROL_SOCKET, 0);
	c->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mask = umask(0177);
	rc = c->listener < 0 || bind(c->listener, (struct sockaddr *)&a, sizeof(a)) ||
			     listen(c->listener, BACKLOG)
		     ? -errno
		     : 0;
	umask(mask);
	if (rc)
		return err_set(err, rc, "control socket: %s", strerror(-rc));
	c->source = (struct loop_source){ .fd = c->listener, .ready = accept_one, .ctx = c };
	return loop_add(c->loop, &c->source, err);
}

struct control *control_open(
	const struct control_config *config, struct loop *loop, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, -ENOMEM, "no memory for the control socket");
		return NULL;
	}
	/* Now, while there are files to read randomness from. */
	json_object_seed(0);
	c->config = *config;
	c->loop = loop;
	c->owner = geteuid();
	c->listener = c->console.fd = c->console.peer = c->counting.timer.fd = -1;
	if (control_stream_open(c, err) || control_counting_open(c, err) ||
		(config->folder >= 0 && listen_in(c, err))) {
		control_close(c, "");
		return NULL;
	}
	return c;
}

void control_event(struct control *c, const char *what, const char *text)
{
	json_t *message = json_pack("{s:s,s:s}", "event", what, "text", text);
	struct control_conn *next;

	for (struct control_conn *conn = c->conns; conn; conn = next) {
		next = conn->next;
		if (!conn->events || conn->mode != CONTROL_LINES)
			continue;
		if (message)
			control_line(conn, message);
		control_flush(conn);
	}
	json_decref(message);
}

void control_close(struct control *c, const char *text)
{
	if (!c)
		return;
	control_stream_drain(c);
	control_event(c, "ended", text);
	while (c->conns)
		control_hang_up(c->conns);
	control_stream_close(c);
	control_counting_close(c);
	if (c->listener >= 0) {
		loop_remove(c->loop, &c->source);
		close(c->listener);
	}
	free(c);
}

int control_console(const struct control *c) { return c->console.peer; }
