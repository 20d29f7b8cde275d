/*
 * The console of a machine that has no terminal. Its serial port is one end of a pair of sockets;
 * at the other end, here, output goes to a log and to every connection that asked for the console,
 * and what those send goes in.
 *
 * Output is read only while every connection has room for it. So nobody loses a byte, and a
 * connection that takes none holds the guest up; a timer then sees to it that this has an end.
 *
 * The log is two files of LOG_MAX bytes: when one is full, the other is emptied and goes on. So the
 * last LOG_MAX bytes are always there, and a guest cannot fill a disk.
 */
#include "base/bits.h"
#include "control/control_priv.h"
#include "os/fd.h"
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK	4096u
#define LOG_MAX (4 * MiB)

static void write_log(struct control *c, const char *data, size_t len)
{
	struct control_stream *s = &c->console;

	if (s->logged + len > LOG_MAX) {
		s->log = !s->log;
		s->logged = 0;
		if (ftruncate(c->config.log[s->log], 0))
			return;
	}
	s->logged += len;
	/* A disk that is full has no room for logs. */
	while (len) {
		ssize_t n = write(c->config.log[s->log], data, len);

		if (n <= 0)
			return;
		data += n;
		len -= (size_t)n;
	}
}

static bool has_room(const struct control *c)
{
	for (const struct control_conn *conn = c->conns; conn; conn = conn->next)
		if (conn->mode == CONTROL_CONSOLE && sizeof(conn->out) - conn->out_len < CHUNK)
			return false;
	return true;
}

static void hold(struct control *c)
{
	for (struct control_conn *conn = c->conns; conn; conn = conn->next)
		conn->seen = conn->written;
	c->console.held = true;
	fd_timer_set(c->console.stall.fd, CONTROL_STALL_MS * 1000000ull);
}

/* Whether the connections' typing waits for room at the machine. */
static bool is_typing(const struct control *c)
{
	for (const struct control_conn *conn = c->conns; conn; conn = conn->next)
		if (conn->mode == CONTROL_CONSOLE && conn->in_len)
			return true;
	return false;
}

static void want(struct control *c)
{
	loop_want(c->loop, &c->console.source, !c->console.held, is_typing(c));
}

void control_stream_room(struct control *c)
{
	if (c->console.fd < 0 || !c->console.held || !has_room(c))
		return;
	c->console.held = false;
	fd_timer_set(c->console.stall.fd, ~0ull);
	want(c);
}

/* One chunk of output; false: there is none. */
static bool pass_on(struct control *c)
{
	struct control_conn *next;
	char data[CHUNK];
	ssize_t n = recv(c->console.fd, data, sizeof(data), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	write_log(c, data, (size_t)n);
	for (struct control_conn *conn = c->conns; conn; conn = next) {
		next = conn->next;
		if (conn->mode != CONTROL_CONSOLE)
			continue;
		size_t len = min_u64((u64)n, sizeof(conn->out) - conn->out_len);

		memcpy(conn->out + conn->out_len, data, len);
		conn->out_len += len;
		control_flush(conn);
	}
	return true;
}

static void retry_typing(struct control *c)
{
	struct control_conn *next;

	for (struct control_conn *conn = c->conns; conn; conn = next) {
		next = conn->next;
		if (conn->mode != CONTROL_CONSOLE || !conn->in_len)
			continue;
		control_stream_type(conn);
		control_flush(conn); /* it may be read from again */
	}
	want(c);
}

static void on_output(void *ctx)
{
	struct control *c = ctx;

	if (is_typing(c))
		retry_typing(c);
	if (!has_room(c)) {
		if (!c->console.held)
			hold(c);
		want(c);
	} else if (!pass_on(c) && c->console.source.hung_up) {
		loop_remove(c->loop, &c->console.source);
	}
}

/* Who has taken nothing all that time has gone, or sleeps. */
static void on_stall(void *ctx)
{
	struct control *c = ctx;
	struct control_conn *next;

	fd_timer_clear(c->console.stall.fd);
	if (!c->console.held)
		return;
	for (struct control_conn *conn = c->conns; conn; conn = next) {
		next = conn->next;
		if (conn->mode == CONTROL_CONSOLE && sizeof(conn->out) - conn->out_len < CHUNK &&
			conn->seen == conn->written)
			control_hang_up(conn);
	}
	if (c->console.held)
		hold(c);
}

void control_stream_type(struct control_conn *conn)
{
	struct control *c = conn->control;
	ssize_t n = 0;

	if (conn->in_len)
		n = send(c->console.fd, conn->in, conn->in_len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		n = (ssize_t)conn->in_len; /* nobody is there: the machine ends */
	if (n > 0) {
		conn->in_len -= (size_t)n;
		memmove(conn->in, conn->in + n, conn->in_len);
	}
	want(c);
}

int control_stream_open(struct control *c, struct err *err)
{
	struct control_stream *s = &c->console;
	struct stat st;
	int ends[2];

	s->stall.fd = -1;
	if (c->config.log[0] < 0)
		return 0;
	if (!fstat(c->config.log[0], &st))
		s->logged = (u64)st.st_size;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return err_set(err, -errno, "console: %s", strerror(errno));
	s->fd = ends[0];
	s->peer = ends[1];
	s->source = (struct loop_source){ .fd = s->fd, .ready = on_output, .ctx = c };
	s->stall = (struct loop_source){ .fd = fd_timer(err), .ready = on_stall, .ctx = c };
	if (s->stall.fd < 0 || loop_add(c->loop, &s->source, err) ||
		loop_add(c->loop, &s->stall, err))
		return err->code;
	return 0;
}

void control_stream_drain(struct control *c)
{
	if (c->console.fd < 0)
		return;
	while (pass_on(c))
		;
}

void control_stream_close(struct control *c)
{
	struct control_stream *s = &c->console;

	if (s->fd < 0)
		return;
	loop_remove(c->loop, &s->source);
	loop_remove(c->loop, &s->stall);
	close(s->fd);
	close(s->peer);
	if (s->stall.fd >= 0)
		close(s->stall.fd);
	s->fd = s->peer = -1;
}
