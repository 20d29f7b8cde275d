/*
 * strata console: the terminal becomes the machine's serial console. Ctrl-] leaves it, and the
 * machine goes on. Without a terminal, bytes are passed on until the machine ends, or, in the other
 * direction, until input does.
 */
#include "cli/machines.h"
#include "os/tty.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ESCAPE_BYTE 0x1d /* Ctrl-] */

static bool write_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

/* false: the machine has ended, or nobody reads what it says. */
static bool show_output(struct control_client *c)
{
	char data[16384];
	ssize_t n = recv(c->fd, data, sizeof(data), 0);

	if (n < 0 && errno == EINTR)
		return true;
	return n > 0 && write_all(STDOUT_FILENO, data, (size_t)n);
}

/* false: the user leaves. *open: there may be more. */
static bool type_input(struct control_client *c, bool terminal, bool *open)
{
	char data[4096];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));
	const char *escape = n > 0 && terminal ? memchr(data, ESCAPE_BYTE, (size_t)n) : NULL;

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0) {
		*open = false;
		shutdown(c->fd, SHUT_WR);
		return true;
	}
	if (escape)
		n = escape - data;
	return write_all(c->fd, data, (size_t)n) && !escape;
}

/* true: the user has left it. */
static bool pass_bytes(struct control_client *c)
{
	bool terminal = isatty(STDIN_FILENO), open = true;
	struct pollfd p[] = { { .fd = c->fd, .events = POLLIN },
		{ .fd = STDIN_FILENO, .events = POLLIN } };

	/* What has come with the answer. */
	if (!write_all(STDOUT_FILENO, c->in, c->len))
		return false;
	for (;;) {
		p[1].fd = open ? STDIN_FILENO : -1;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return false;
		if (p[0].revents && !show_output(c))
			return false;
		if (p[1].revents && !type_input(c, terminal, &open))
			return true;
	}
}

static int console(const void *values)
{
	const char *name = *(const char *const *)values;
	struct control_client c;
	struct err err = { 0 };
	struct store_machine m;

	if (machines_connect(name, &m, &c, &err))
		return machines_failed("console", &err);
	signal(SIGPIPE, SIG_IGN);
	if (client_ask(&c, "console", -1, MACHINES_ASK_MS, NULL, &err)) {
		err_wrap(&err, "%s", name);
	} else {
		tty_guard();
		if (isatty(STDIN_FILENO))
			fprintf(stderr, "strata: the console of %s; Ctrl-] leaves it\n", name);
		if (!tty_raw(STDIN_FILENO, &err)) {
			bool left = pass_bytes(&c);

			tty_restore();
			if (isatty(STDIN_FILENO))
				fprintf(stderr, "\nstrata: %s %s\n", name,
					left ? "goes on" : "has ended");
		}
	}
	client_close(&c);
	store_close(&m);
	return err.code ? machines_failed("console", &err) : CLI_OK;
}

static const struct option_row options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, 0, .required = true },
	{ 0 },
};

const struct verb verbs_console = {
	.name = "console",
	.doc = "connect to the console of a machine in the background; Ctrl-] leaves it",
	.options = options,
	.size = sizeof(const char *),
	.run = console,
};
