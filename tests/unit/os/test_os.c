/* The wrappers of os/: each against the kernel, in the smallest way that shows it works. */
#include "base/bits.h"
#include "os/child.h"
#include "os/codemem.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/thread.h"
#include "os/tsc.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

static void codemem_runs_what_was_written(void **state)
{
	static const u8 returns_42[] = { 0xb8, 42, 0, 0, 0, 0xc3 }; /* mov eax, 42; ret */
	struct codemem c;
	struct err err = { 0 };

	assert_int_equal(codemem_open(&c, 1, NULL, &err), 0);
	assert_int_equal(c.size, PAGE_SIZE);
	memcpy(c.rw + 16, returns_42, sizeof(returns_42));

	int (*code)(void);
	const void *rx = codemem_rx(&c, c.rw + 16);
	memcpy(&code, &rx, sizeof(code)); /* ISO C has no cast from data to function pointer */
	assert_int_equal(code(), 42);
	assert_ptr_equal(codemem_rw(&c, rx), c.rw + 16);
	assert_true(codemem_has(&c, rx));
	assert_false(codemem_has(&c, c.rx + c.size));
	codemem_close(&c);
	codemem_close(&c);
}

static void codemem_views_have_no_other_rights(void **state)
{
	struct codemem c;
	struct err err = { 0 };

	/* msync(2) and friends do not tell rights; mprotect() of a shared memfd mapping would grant
	 * any. So look where the kernel says it. */
	assert_int_equal(codemem_open(&c, PAGE_SIZE, NULL, &err), 0);
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	unsigned seen = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		unsigned long long from;
		char rights[5];

		if (sscanf(line, "%llx-%*x %4s", &from, rights) != 2)
			continue;
		if (from == (uintptr_t)c.rw)
			seen += !strcmp(rights, "rw-s");
		if (from == (uintptr_t)c.rx)
			seen += !strcmp(rights, "r-xs");
	}
	fclose(maps);
	assert_int_equal(seen, 2);
	codemem_close(&c);
}

struct scene {
	struct loop loop;
	struct loop_source first, second;
	unsigned calls[2];
};

static void first_ready(void *ctx)
{
	struct scene *s = ctx;

	s->calls[0]++;
	fd_event_clear(s->first.fd);
	loop_remove(&s->loop, &s->second); /* its event may be fetched already */
	loop_stop(&s->loop);
}

static void second_ready(void *ctx)
{
	struct scene *s = ctx;

	s->calls[1]++;
	fd_event_clear(s->second.fd);
	loop_remove(&s->loop, &s->first);
	loop_stop(&s->loop);
}

static void loop_removed_source_is_not_called(void **state)
{
	struct scene s = { 0 };
	struct err err = { 0 };

	assert_int_equal(loop_open(&s.loop, &err), 0);
	s.first = (struct loop_source){ .fd = fd_event(&err), .ready = first_ready, .ctx = &s };
	s.second = (struct loop_source){ .fd = fd_event(&err), .ready = second_ready, .ctx = &s };
	assert_int_equal(loop_add(&s.loop, &s.first, &err), 0);
	assert_int_equal(loop_add(&s.loop, &s.second, &err), 0);
	fd_event_set(s.first.fd);
	fd_event_set(s.second.fd);
	loop_run(&s.loop);
	assert_int_equal(s.calls[0] + s.calls[1], 1);
	close(s.first.fd);
	close(s.second.fd);
	loop_close(&s.loop);
}

static void timer_ready(void *ctx)
{
	struct scene *s = ctx;

	s->calls[0]++;
	fd_timer_clear(s->first.fd);
	loop_stop(&s->loop);
}

static void timer_fires_once_not_early(void **state)
{
	struct scene s = { 0 };
	struct err err = { 0 };

	assert_int_equal(loop_open(&s.loop, &err), 0);
	s.first = (struct loop_source){ .fd = fd_timer(&err), .ready = timer_ready, .ctx = &s };
	assert_int_equal(loop_add(&s.loop, &s.first, &err), 0);
	u64 start = fd_monotonic_ns();
	fd_timer_set(s.first.fd, ~0ull);
	fd_timer_set(s.first.fd, 20000000);
	loop_run(&s.loop);
	assert_true(fd_monotonic_ns() - start >= 20000000);
	assert_int_equal(s.calls[0], 1);
	fd_timer_set(s.first.fd, 0); /* due at once, not disarmed */
	loop_run(&s.loop);
	assert_int_equal(s.calls[0], 2);
	close(s.first.fd);
	loop_close(&s.loop);
}

static void signals_are_read_in_order_of_number(void **state)
{
	struct err err = { 0 };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	assert_int_equal(thread_signals_block(&set, &err), 0);
	assert_int_equal(thread_signal_next(&set, 0), 0);
	raise(SIGUSR2);
	raise(SIGUSR1);
	assert_int_equal(thread_signal_next(&set, ~0ull), SIGUSR1);
	assert_int_equal(thread_signal_next(&set, 1000000000), SIGUSR2);
	assert_int_equal(thread_signal_next(&set, 1000), 0);
}

static void tsc_frequency_fits_the_clock(void **state)
{
	u64 hz = tsc_hz();
	u64 tsc = tsc_read(), ns = fd_monotonic_ns();

	usleep(50000);
	u64 counted = (u64)((u128)(tsc_read() - tsc) * 1000000000u / hz);
	u64 passed = fd_monotonic_ns() - ns;
	u64 off = counted > passed ? counted - passed : passed - counted;

	assert_non_null(tsc_source());
	assert_true(
		off <
		passed / 100); /* one per cent: this thread may be preempted between two readings */
}

static void *set_flag(void *flag)
{
	*(bool *)flag = true;
	return NULL;
}

static void thread_runs(void **state)
{
	struct err err = { 0 };
	bool flag = false;
	pthread_t t;

	assert_int_equal(thread_start(&t, "a name longer than allowed", set_flag, &flag, &err), 0);
	pthread_join(t, NULL);
	assert_true(flag);
}

struct heard {
	char text[256];
	unsigned lines;
	size_t longest;
};

static void hear(void *ctx, const char *line)
{
	struct heard *h = ctx;

	h->lines++;
	h->longest = strlen(line) > h->longest ? strlen(line) : h->longest;
	snprintf(h->text + strlen(h->text), sizeof(h->text) - strlen(h->text), "%.20s|", line);
}

static int sh(const char *script, struct heard *h, int keep)
{
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct err err = { 0 };

	*h = (struct heard){ 0 };
	return child_run(
		&(struct child){ .argv = argv, .keep = keep, .line = hear, .ctx = h }, &err);
}

static void child_says_how_it_ended(void **state)
{
	static const char *const none[] = { "/nonexistent/program", NULL };
	struct err err = { 0 };
	struct heard h;

	assert_int_equal(sh("exit 3", &h, 0), 3);
	assert_int_equal(sh("kill -9 $$", &h, 0), 128 + 9);
	assert_int_equal(child_run(&(struct child){ .argv = none }, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/program"));
}

static void child_is_heard_line_by_line(void **state)
{
	struct heard h;

	assert_int_equal(sh("echo a; echo b >&2; printf 'c\\rd\\n\\ne'; cat", &h, 0), 0);
	assert_string_equal(h.text, "a|b|c|d|e|");
	/* What does not fit comes in pieces. */
	assert_int_equal(sh("head -c 10000 /dev/zero | tr '\\0' x", &h, 0), 0);
	assert_true(h.lines >= 5 && h.longest < 4096);
}

/* As unshare(1) does where it may not have what it asks for. */
static void child_that_leaves_another_is_all_that_is_waited_for(void **state)
{
	struct heard h;

	assert_int_equal(sh("sleep 1000 & echo $!; echo last; exit 4", &h, 0), 4);
	assert_int_equal(h.lines, 2);
	assert_int_equal(kill((pid_t)strtol(h.text, NULL, 10), SIGKILL), 0);
}

static void child_has_what_is_kept_for_it_only(void **state)
{
	int ends[2];
	char script[64];
	struct heard h;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	snprintf(script, sizeof(script), "echo x >&%d", ends[1]);
	assert_int_not_equal(sh(script, &h, 0), 0);
	assert_int_equal(sh(script, &h, ends[1]), 0);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(codemem_runs_what_was_written),
		cmocka_unit_test(codemem_views_have_no_other_rights),
		cmocka_unit_test(loop_removed_source_is_not_called),
		cmocka_unit_test(timer_fires_once_not_early),
		cmocka_unit_test(signals_are_read_in_order_of_number),
		cmocka_unit_test(tsc_frequency_fits_the_clock),
		cmocka_unit_test(thread_runs),
		cmocka_unit_test(child_says_how_it_ended),
		cmocka_unit_test(child_is_heard_line_by_line),
		cmocka_unit_test(child_that_leaves_another_is_all_that_is_waited_for),
		cmocka_unit_test(child_has_what_is_kept_for_it_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
