/*
 * The sandbox from inside: a child process enters it and then tries what an intruder would. And the
 * broadcast that takes privileges from every thread.
 */
#include "base/log.h"
#include "os/broadcast.h"
#include "os/sandbox.h"
#include "os/thread.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define EXIT_ALLOWED 10 /* the attempt came back with a result */
#define EXIT_REFUSED 11 /* with EPERM */
#define EXIT_NO_SAND 77 /* this build or host has no filter */

static u8 page[4096] __attribute__((aligned(4096)));

static long try_openat(void) { return open("/etc/passwd", O_RDONLY); }
static long try_creat(void) { return syscall(SYS_creat, "/tmp/strata-sandbox", 0600); }
static long try_openat2(void) { return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", page, 24); }
static long try_execve(void) { return execl("/bin/true", "true", (char *)NULL); }
static long try_socket(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_ptrace(void)
{
	return syscall(SYS_ptrace, 16 /* PTRACE_ATTACH */, getppid(), 0, 0);
}
static long try_kill(void) { return kill(getppid(), 0); }
static long try_tgkill(void) { return tgkill(1, 1, 0); }
static long try_fork(void) { return fork(); }
static long try_thread(void) { return syscall(SYS_clone, 0x10f00 /* CLONE_THREAD and so on */, 0); }
static long try_mprotect(void) { return mprotect(page, sizeof(page), PROT_READ | PROT_EXEC); }
static long try_pkey_mprotect(void)
{
	return syscall(SYS_pkey_mprotect, page, sizeof(page), PROT_READ | PROT_EXEC, -1);
}
static long try_mmap(void)
{
	return (long)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static long try_personality(void)
{
	return syscall(SYS_personality, 0x0400000 /* READ_IMPLIES_EXEC */);
}
static long try_tiocsti(void) { return ioctl(STDIN_FILENO, TIOCSTI, "x"); }
static long try_seccomp(void) { return syscall(SYS_seccomp, 1, 0, NULL); }
static long try_setuid(void) { return syscall(SYS_setresuid, 0, 0, 0); }
static long try_memory_of_parent(void)
{
	struct iovec v = { page, 8 };

	return process_vm_readv(getppid(), &v, 1, &v, 1, 0);
}

/* getpid() by the i386 entry: number 20 there is writev here. */
static long try_i386(void)
{
	long nr = 20;

	asm volatile("int $0x80" : "+a"(nr) : : "memory", "r8", "r9", "r10", "r11");
	return nr;
}
static long try_x32(void) { return syscall(0x40000000 | SYS_getpid); }

static long use_memory(void)
{
	u8 *big = malloc(8 << 20);

	memset(big, 1, 8 << 20);
	big = realloc(big, 64 << 20);
	long sum = big[(8 << 20) - 1];
	free(big);
	return sum - 1;
}

static long use_descriptor(void) { return write(STDERR_FILENO, "", 0); }

static long use_signals(void)
{
	signal(SIGUSR1, SIG_IGN);
	return raise(SIGUSR1);
}

static void *socket_thread(void *go)
{
	while (!atomic_load((_Atomic bool *)go))
		sched_yield();
	return (void *)try_socket();
}

enum verdict { KILLED, REFUSED, ALLOWED };

static const struct attempt {
	const char *name;
	long (*make)(void);
	enum verdict verdict;
} attempts[] = {
	{ "open a file", try_openat, REFUSED },
	{ "create a file", try_creat, KILLED },
	{ "open a file with openat2", try_openat2, KILLED },
	{ "execute a program", try_execve, KILLED },
	{ "make a socket", try_socket, KILLED },
	{ "trace another process", try_ptrace, KILLED },
	{ "read another process", try_memory_of_parent, KILLED },
	{ "signal another process", try_kill, KILLED },
	{ "signal another process's thread", try_tgkill, KILLED },
	{ "make a process", try_fork, KILLED },
	{ "make a thread", try_thread, KILLED },
	{ "make memory executable", try_mprotect, KILLED },
	{ "make memory executable by key", try_pkey_mprotect, KILLED },
	{ "map executable memory", try_mmap, KILLED },
	{ "make all memory executable", try_personality, KILLED },
	{ "type on the terminal", try_tiocsti, KILLED },
	{ "install another filter", try_seccomp, KILLED },
	{ "become root again", try_setuid, KILLED },
	{ "enter as i386", try_i386, KILLED },
	{ "enter as x32", try_x32, KILLED },
	{ "allocate", use_memory, ALLOWED },
	{ "write", use_descriptor, ALLOWED },
	{ "handle a signal", use_signals, ALLOWED },
};

/* What the filter says about an attempt is not this test's output. */
static void enter_or_leave(int messages)
{
	struct sandbox_report report;

	log_set_level(LOG_ERR);
	dup2(messages, STDERR_FILENO);
	sandbox_enter(&report, false);
	if (report.stages[SANDBOX_FILTER].code)
		_exit(EXIT_NO_SAND);
}

static int status_of_child(void (*run)(const void *), const void *arg)
{
	int status = -1;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		signal(SIGSYS, SIG_DFL); /* cmocka's handlers would report it as a failure */
		signal(SIGSEGV, SIG_DFL);
		run(arg);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void run_attempt(const void *arg)
{
	const struct attempt *a = arg;

	enter_or_leave(open("/dev/null", O_WRONLY | O_CLOEXEC));
	long result = a->make();
	_exit(result == -1 && errno == EPERM ? EXIT_REFUSED : EXIT_ALLOWED);
}

/* SIGSEGV: a kernel without 32-bit support has no such entry. */
static bool is_as_expected(const struct attempt *a, int status)
{
	switch (a->verdict) {
	case KILLED:
		return WIFSIGNALED(status) &&
		       (WTERMSIG(status) == SIGSYS ||
			       (a->make == try_i386 && WTERMSIG(status) == SIGSEGV));
	case REFUSED: return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_REFUSED;
	case ALLOWED: return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_ALLOWED;
	}
	return false;
}

static void filter_refuses_what_an_intruder_needs(void **state)
{
	unsigned wrong = 0;

	for (unsigned i = 0; i < ARRAY_LEN(attempts); i++) {
		int status = status_of_child(run_attempt, &attempts[i]);

		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SAND)
			skip();
		if (!is_as_expected(&attempts[i], status)) {
			print_error("%s: wait status 0x%x\n", attempts[i].name, status);
			wrong++;
		}
	}
	assert_int_equal(wrong, 0);
}

static void run_named_attempt(const void *out)
{
	enter_or_leave(*(const int *)out);
	try_socket();
	_exit(EXIT_ALLOWED);
}

static void refused_call_is_named(void **state)
{
	char said[256] = "", want[64];
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int status = status_of_child(run_named_attempt, &ends[1]);
	close(ends[1]);
	ssize_t n = read(ends[0], said, sizeof(said) - 1);
	close(ends[0]);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SAND)
		skip();
	assert_true(n > 0);
	snprintf(want, sizeof(want), "system call %d ", SYS_socket);
	assert_non_null(strstr(said, want));
}

static void run_thread_attempt(const void *arg)
{
	_Atomic bool go = false;
	pthread_t t;
	struct err err;

	if (thread_start(&t, "early", socket_thread, (void *)&go, &err))
		_exit(1);
	enter_or_leave(open("/dev/null", O_WRONLY | O_CLOEXEC));
	atomic_store(&go, true);
	pthread_join(t, NULL);
	_exit(EXIT_ALLOWED);
}

static void filter_holds_for_threads_made_before(void **state)
{
	int status = status_of_child(run_thread_attempt, NULL);

	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SAND)
		skip();
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void run_descriptors(const void *arg)
{
	struct sandbox_report report;
	int inherited = dup(STDERR_FILENO), own = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);

	log_set_level(LOG_ERR);
	sandbox_enter(&report, false);
	if (report.stages[SANDBOX_DESCRIPTORS].code)
		_exit(EXIT_NO_SAND);
	_exit(write(inherited, "", 0) < 0 && write(own, "", 0) == 0 ? EXIT_REFUSED : EXIT_ALLOWED);
}

static void inherited_descriptors_are_closed(void **state)
{
	int status = status_of_child(run_descriptors, NULL);

	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == EXIT_NO_SAND)
		skip();
	assert_int_equal(WEXITSTATUS(status), EXIT_REFUSED);
}

static void probe_reports_every_stage(void **state)
{
	struct sandbox_report report;
	struct err err = { 0 };

	assert_int_equal(sandbox_probe(&report, &err), 0);
	for (unsigned i = 0; i < SANDBOX_STAGES; i++) {
		assert_non_null(sandbox_stage_name(i));
		assert_true(report.stages[i].code <= 0);
	}
	assert_int_equal(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 0); /* only the child entered */
}

/* ---- broadcast ---- */

#define THREADS 12

/* The thread sanitizer has a thread of its own that takes no signals. */
static void skip_under_tsan(void)
{
#ifdef __SANITIZE_THREAD__
	skip();
#endif
}

static _Atomic u32 calls;
static _Atomic bool leave;
static _Thread_local u32 calls_here;

static void count_call(void)
{
	calls_here++;
	atomic_fetch_add(&calls, 1);
}

static void *wait_to_leave(void *sum)
{
	while (!atomic_load(&leave))
		usleep(500);
	return (void *)(uintptr_t)calls_here;
}

static void *wait_deaf(void *arg)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	atomic_fetch_add(&calls, 1);
	return wait_to_leave(arg);
}

static void broadcast_reaches_each_thread_once(void **state)
{
	struct err err = { 0 };
	pthread_t t[THREADS];
	void *here;

	skip_under_tsan();
	atomic_store(&calls, 0);
	atomic_store(&leave, false);
	calls_here = 0;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(thread_start(&t[i], "counter", wait_to_leave, NULL, &err), 0);
	assert_int_equal(broadcast_run(count_call, &err), 0);
	assert_int_equal(calls, THREADS + 1);
	assert_int_equal(calls_here, 1);
	atomic_store(&leave, true);
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(t[i], &here);
		assert_int_equal((uintptr_t)here, 1);
	}
}

static void broadcast_gives_up_on_a_deaf_thread(void **state)
{
	struct err err = { 0 };
	pthread_t t;

	skip_under_tsan();
	atomic_store(&calls, 0);
	atomic_store(&leave, false);
	assert_int_equal(thread_start(&t, "deaf", wait_deaf, NULL, &err), 0);
	while (!atomic_load(&calls)) /* until it is deaf */
		usleep(500);
	assert_int_equal(broadcast_run(count_call, &err), -ETIMEDOUT);
	assert_int_equal(calls, 2); /* the deaf thread's own, and the caller's */
	atomic_store(&leave, true);
	pthread_join(t, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(filter_refuses_what_an_intruder_needs),
		cmocka_unit_test(refused_call_is_named),
		cmocka_unit_test(filter_holds_for_threads_made_before),
		cmocka_unit_test(inherited_descriptors_are_closed),
		cmocka_unit_test(probe_reports_every_stage),
		cmocka_unit_test(broadcast_reaches_each_thread_once),
		cmocka_unit_test(broadcast_gives_up_on_a_deaf_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
