#include "os/child.h"
#include "base/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child; what fails is told by the pipe, which a successful exec() closes. */
static _Noreturn void become(const struct child *c, pid_t parent, int out, int failed)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(127); /* it had died before */
	/* Ignored signals would stay so in the program. */
	signal(SIGPIPE, SIG_DFL);
	if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
		dup2(out, STDERR_FILENO) >= 0 && (!c->keep || !fcntl(c->keep, F_SETFD, 0)))
		execvp(c->argv[0], (char *const *)(uintptr_t)c->argv);
	int why = errno;

	(void)!write(failed, &why, sizeof(why));
	_exit(127);
}

/* Waits for output. False: the program has ended, and all that it wrote was read; what it left
 * running may hold the pipe for ever. */
static bool is_there_more(int fd, int ended)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = ended, .events = POLLIN } };

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		;
	return p[0].revents || !p[1].revents;
}

/* A line that is longer than the buffer comes in pieces. */
static void read_lines(const struct child *c, int fd, int ended)
{
	char buf[2048];
	size_t len = 0;
	ssize_t n;

	while (is_there_more(fd, ended) && ((n = read(fd, buf + len, sizeof(buf) - 1 - len)) > 0 ||
						   (n < 0 && errno == EINTR))) {
		char *end, *at = buf;

		len += n > 0 ? (size_t)n : 0;
		buf[len] = '\0';
		for (; (end = strpbrk(at, "\n\r")); at = end + 1) {
			*end = '\0';
			if (c->line && *at)
				c->line(c->ctx, at);
		}
		len -= (size_t)(at - buf);
		memmove(buf, at, len);
		if (len == sizeof(buf) - 1) {
			buf[len] = '\0';
			if (c->line)
				c->line(c->ctx, buf);
			len = 0;
		}
	}
	buf[len] = '\0';
	if (len && c->line)
		c->line(c->ctx, buf);
}

static int exit_status(pid_t pid)
{
	int how = 0;

	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
}

int child_run(const struct child *c, struct err *err)
{
	int out[2], failed[2], why = 0;
	pid_t parent = getpid();

	if (pipe2(out, O_CLOEXEC))
		return err_set(err, -errno, "%s: %s", c->argv[0], strerror(errno));
	if (pipe2(failed, O_CLOEXEC)) {
		why = errno;
		close(out[0]);
		close(out[1]);
		return err_set(err, -why, "%s: %s", c->argv[0], strerror(why));
	}
	fflush(stdout);
	fflush(stderr);
	pid_t pid = fork();

	if (!pid)
		become(c, parent, out[1], failed[1]);
	if (pid < 0)
		why = errno;
	/* Ready when it has ended. Without one (-1, which poll() passes over) its output must end.
	 */
	AUTO_FD ended = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

	close(out[1]);
	close(failed[1]);
	ssize_t told = pid < 0 ? (ssize_t)sizeof(why) : read(failed[0], &why, sizeof(why));

	if (told <= 0)
		read_lines(c, out[0], ended);
	close(out[0]);
	close(failed[0]);
	int status = pid < 0 ? 0 : exit_status(pid);

	return told > 0 ? err_set(err, -why, "%s: %s", c->argv[0], strerror(why)) : status;
}

void child_keep_last(void *last, const char *line)
{
	struct child_last *l = last;

	snprintf(l->line, sizeof(l->line), "%s", line);
}

int child_missing(const char *program, const char *package, struct err *err)
{
	return err_set(err, -ENOENT,
		"%s is missing: install Debian's package %s: sudo apt-get install %s", program,
		package, package);
}
