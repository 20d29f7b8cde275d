/* See sandbox.h for the stages. Each is a function that takes away what it can, and reports. */
#include "os/sandbox.h"
#include "base/log.h"
#include "base/scope.h"
#include "os/broadcast.h"
#include "os/sandbox_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* The kernel's overflow ids, which own nothing: Debian's nobody and nogroup. */
#define NOBODY	65534u
#define NOGROUP 65534u

/* ---- descriptors ---- */

/* Every descriptor of ours is close-on-exec; one that came through exec() is not. */
static bool is_inherited(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return fd > STDERR_FILENO && flags >= 0 && !(flags & FD_CLOEXEC);
}

static int close_inherited(unsigned needs, struct err *err)
{
	DIR *fds = opendir("/proc/self/fd");
	unsigned closed = 0;

	if (!fds)
		return err_set(err, -errno, "/proc/self/fd: %s", strerror(errno));
	for (struct dirent *d; (d = readdir(fds));) {
		int fd = (int)strtol(d->d_name, NULL, 10);

		if (is_inherited(fd)) {
			close(fd);
			closed++;
		}
	}
	closedir(fds);
	err_set(err, 0, "%u closed", closed);
	return 0;
}

/* ---- privileges ---- */

static struct {
	uid_t uid;
	gid_t gid;
	_Atomic u32 kept; /* threads that still have some */
} shed;

static void drop_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static bool drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	return syscall(SYS_capset, &header, none) == 0;
}

/*
 * In each thread. The system calls themselves: the C library's wrappers would tell all threads
 * again. The order matters: the bounding set and the user are changed by capabilities. What fails
 * for want of them was not possible; an empty capability set and no_new_privs always are.
 */
static void shed_privileges(void)
{
	bool sealed = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	drop_bounding_set();
	syscall(SYS_setgroups, 0, NULL);
	syscall(SYS_setresgid, shed.gid, shed.gid, shed.gid);
	syscall(SYS_setresuid, shed.uid, shed.uid, shed.uid);
	if (!drop_capabilities() || !sealed)
		atomic_fetch_add(&shed.kept, 1);
}

static int drop_privileges(unsigned needs, struct err *err)
{
	bool root = getuid() == 0;

	shed.uid = root ? NOBODY : getuid();
	shed.gid = root ? NOGROUP : getgid();
	if (broadcast_run(shed_privileges, err))
		return err->code;
	u32 kept = atomic_load(&shed.kept);
	if (kept)
		return err_set(err, -EPERM, "%u threads keep capabilities", kept);
	err_set(err, 0, "no capabilities, user %u, group %u", geteuid(), getegid());
	return 0;
}

/* ---- process ---- */

static int close_memory(unsigned needs, struct err *err)
{
	const struct rlimit none = { 0 };

	if (setrlimit(RLIMIT_CORE, &none) < 0)
		return err_set(err, -errno, "core files: %s", strerror(errno));
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, -errno, "debuggers: %s", strerror(errno));
	return 0;
}

/* ---- filter ---- */

static int filter_calls(unsigned needs, struct err *err)
{
	unsigned count = 0;
	int rc = sandbox_filter(sandbox_rules, sandbox_rule_count, needs, &count, err);

	if (!rc)
		err_set(err, 0, "%u rules for system calls", count);
	return rc;
}

/* ---- all of them ---- */

static const struct stage {
	const char *name;
	int (*enter)(unsigned needs, struct err *err);
} stages[SANDBOX_STAGES] = {
	[SANDBOX_DESCRIPTORS] = { "descriptors", close_inherited },
	[SANDBOX_PRIVILEGES] = { "privileges", drop_privileges },
	[SANDBOX_PROCESS] = { "process", close_memory },
	[SANDBOX_FILTER] = { "filter", filter_calls },
};

const char *sandbox_stage_name(enum sandbox_stage stage) { return stages[stage].name; }

static void enter_stage(const struct stage *s, unsigned needs, struct err *err)
{
	*err = (struct err){ 0 };
	if (SANDBOX_INSTRUMENTED)
		err_set(err, -ENOTSUP, "not in a build with sanitizers or coverage");
	else
		err->code = s->enter(needs, err);
	log_line(err->code && !SANDBOX_INSTRUMENTED ? LOG_WARN : LOG_INFO, "sandbox", "%s: %s%s",
		s->name, err->code ? "incomplete: " : "", err->text[0] ? err->text : "done");
}

void sandbox_enter(struct sandbox_report *report, unsigned needs)
{
	for (unsigned i = 0; i < SANDBOX_STAGES; i++)
		enter_stage(&stages[i], needs, &report->stages[i]);
}

/* ---- another process ---- */

static bool keep_capabilities(u32 keep)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, have))
		return false;
	have[0].permitted &= keep;
	have[0].effective = have[0].permitted;
	have[0].inheritable = 0;
	have[1] = (struct __user_cap_data_struct){ 0 };
	return syscall(SYS_capset, &header, have) == 0;
}

int sandbox_confine(
	const struct sandbox_rule *rules, unsigned rule_count, u32 keep, struct err *err)
{
	unsigned used = 0;

	if (SANDBOX_INSTRUMENTED)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(err, -errno, "no_new_privs: %s", strerror(errno));
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	drop_bounding_set();
	if (!keep_capabilities(keep))
		return err_set(err, -errno, "capabilities: %s", strerror(errno));
	if (close_memory(0, err))
		return err->code;
	return sandbox_filter(rules, rule_count, 0, &used, err);
}

/* ---- the probe ---- */

/* A pipe's reader may see its contents in parts. */
static bool read_report(int fd, struct sandbox_report *report)
{
	size_t done = 0;
	ssize_t n;

	while (done < sizeof(*report) &&
		(n = read(fd, (u8 *)report + done, sizeof(*report) - done)) > 0)
		done += (size_t)n;
	return done == sizeof(*report);
}

_Noreturn static void report_to(int fd)
{
	struct sandbox_report report;

	log_set_level(LOG_ERR); /* the parent tells */
	sandbox_enter(&report, 0);
	_exit(write(fd, &report, sizeof(report)) != sizeof(report));
}

int sandbox_probe(struct sandbox_report *report, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, -errno, "sandbox: pipe: %s", strerror(errno));
	AUTO_FD in = ends[0];
	AUTO_FD out = ends[1];
	pid_t child = fork();

	if (child < 0)
		return err_set(err, -errno, "sandbox: fork: %s", strerror(errno));
	if (!child)
		report_to(out);
	close(steal_fd(&out));
	bool complete = read_report(in, report);
	waitpid(child, NULL, 0);
	return complete ? 0 : err_set(err, -EIO, "sandbox: the probing process ended early");
}
