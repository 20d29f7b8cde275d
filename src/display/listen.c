/* Addresses of displays, and the sockets that listen there. */
#include "base/scope.h"
#include "display/display_priv.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

union any_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un local;
};

static socklen_t fill(const struct display_address *a, union any_address *to)
{
	*to = (union any_address){ 0 };
	if (*a->path) {
		to->local.sun_family = AF_UNIX;
		memcpy(to->local.sun_path, a->path, strlen(a->path));
		return sizeof(to->local);
	}
	if (inet_pton(AF_INET, a->host, &to->v4.sin_addr) == 1) {
		to->v4.sin_family = AF_INET;
		to->v4.sin_port = htons(a->port);
		return sizeof(to->v4);
	}
	if (inet_pton(AF_INET6, a->host, &to->v6.sin6_addr) == 1) {
		to->v6.sin6_family = AF_INET6;
		to->v6.sin6_port = htons(a->port);
		return sizeof(to->v6);
	}
	return 0;
}

bool display_is_local(const struct display_address *a)
{
	union any_address any;

	if (!fill(a, &any))
		return false;
	switch (any.any.sa_family) {
	case AF_UNIX: return true;
	case AF_INET: return ntohl(any.v4.sin_addr.s_addr) >> 24 == 127;
	default: return IN6_IS_ADDR_LOOPBACK(&any.v6.sin6_addr);
	}
}

static bool parse_port(const char *text, u16 *port)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*port = (u16)n;
	return *text >= '0' && *text <= '9' && !*end && n >= 1 && n <= 65535;
}

/* The last colon is before a port, but for the colons of an IPv6 address without brackets. */
static bool split(char *text, char **host, char **port)
{
	char *end;

	*host = text;
	*port = NULL;
	if (*text == '[') {
		*host = text + 1;
		end = strchr(text, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		*port = end[1] ? end + 2 : NULL;
		*end = '\0';
		return true;
	}
	end = strchr(text, ':');
	if (end && !strchr(end + 1, ':')) {
		*end = '\0';
		*port = end + 1;
	}
	return true;
}

int display_address_parse(const char *text, struct display_address *a, struct err *err)
{
	AUTO_FREE char *copy = strdup(text);
	union any_address any;
	char *host, *port;

	*a = (struct display_address){ .port = DISPLAY_PORT };
	if (strchr(text, '/')) {
		if (strlen(text) >= sizeof(a->path))
			return err_set(err, -EINVAL,
				"%.60s...: a socket's path is at most %zu bytes", text,
				sizeof(a->path) - 1);
		snprintf(a->path, sizeof(a->path), "%s", text);
		return 0;
	}
	bool ok = copy && split(copy, &host, &port) && (!port || parse_port(port, &a->port));
	if (ok) {
		const char *number = strcmp(host, "localhost") ? host : "127.0.0.1";
		int len = snprintf(a->host, sizeof(a->host), "%s", number);

		ok = len < (int)sizeof(a->host) && fill(a, &any);
	}
	return ok ? 0
		  : err_set(err, -EINVAL,
			    "%.64s: must be an address like 127.0.0.1:5900 or [::1]:5900, or a "
			    "socket's path with a / in it",
			    text);
}

/* ---- listening ---- */

/* One that nobody listens at any more is in the way. */
static void remove_stale(
	const struct display_address *a, const union any_address *any, socklen_t len)
{
	AUTO_FD probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct stat st;

	if (probe >= 0 && lstat(a->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
		connect(probe, &any->any, len) < 0 && errno == ECONNREFUSED)
		unlink(a->path);
}

static int refuse(const struct display_address *a, int error, struct err *err)
{
	if (*a->path)
		return err_set(err, -error, "%s: %s", a->path, strerror(error));
	return err_set(err, -error, "%s port %u: %s%s", a->host, a->port, strerror(error),
		error == EADDRINUSE ? "; choose another port" : "");
}

int listen_open(const struct display_address *a, struct err *err)
{
	union any_address any;
	socklen_t len = fill(a, &any);
	int one = 1;
	AUTO_FD fd = socket(any.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return refuse(a, errno, err);
	if (*a->path)
		remove_stale(a, &any, len);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	/* Only this user may connect: by the socket's mode, which the umask decides. */
	mode_t mask = umask(0177);
	int rc = bind(fd, &any.any, len);
	int error = errno;
	umask(mask);
	if (rc < 0)
		return refuse(a, error, err);
	if (listen(fd, (int)DISPLAY_CLIENTS_MAX) < 0)
		return refuse(a, errno, err);
	return steal_fd(&fd);
}
