/* The control socket's server, over a pair of sockets, and its client beside it. */
#include "control/client.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

struct bench {
	struct loop loop;
	struct control *control;
	int fd; /* ours */
	int log[2];
	unsigned pauses;
	bool refuse;
	off_t saved; /* size of the file that came along */
	unsigned came;
	char disk[64], left[16];
	int held;
	bool counting;
	unsigned counts; /* how often that has changed */
};

static void op_status(void *ctx, struct control_status *s)
{
	*s = (struct control_status){ .state = "running",
		.engine = "fake",
		.cpus = 2,
		.memory = 4096,
		.held = 8192,
		.guest_ns = 1500000000 };
}

static int op_pause(void *ctx, struct err *err)
{
	struct bench *b = ctx;

	b->pauses++;
	return b->refuse ? err_set(err, -EALREADY, "paused already") : 0;
}

static int op_save(void *ctx, int fd, struct err *err)
{
	struct bench *b = ctx;

	if (b->refuse)
		return err_set(err, -EBUSY, "not now");
	b->saved = lseek(fd, 0, SEEK_END);
	b->held++;
	close(fd);
	return 0;
}

/* Takes the first descriptor only. */
static int op_attach(
	void *ctx, const struct control_attach *a, char name[CONTROL_DEVICE_MAX], struct err *err)
{
	struct bench *b = ctx;

	b->came = a->count;
	snprintf(b->disk, sizeof(b->disk), "%s", a->disk ? a->disk : a->net);
	if (a->count) {
		close(a->fds[0]);
		a->fds[0] = -1;
	}
	snprintf(name, CONTROL_DEVICE_MAX, "disk3");
	return b->refuse ? err_set(err, -ENOSPC, "no room") : 0;
}

static int op_count(void *ctx, bool on, struct err *err)
{
	struct bench *b = ctx;

	if (on && b->refuse)
		return err_set(err, -ENOSYS, "it cannot");
	b->counting = on;
	b->counts++;
	return 0;
}

static int op_detach(void *ctx, const char *name, struct err *err)
{
	struct bench *b = ctx;

	snprintf(b->left, sizeof(b->left), "%s", name);
	return 0;
}

static bool op_attached(void *ctx, unsigned n, struct control_device *d)
{
	struct bench *b = ctx;

	*d = (struct control_device){ "disk3", b->disk, b->left[0] };
	return b->disk[0] && !n;
}
static int op_saving(void *ctx, struct control_saving *s, struct err *err)
{
	*s = (struct control_saving){ .written = 1, .total = 2 };
	return 0;
}

static void op_save_end(void *ctx) { ((struct bench *)ctx)->held--; }

static int op_balloon(void *ctx, const u64 *target, struct control_balloon *b, struct err *err)
{
	if (target && *target > 4096)
		return err_set(err, -EINVAL, "too much");
	*b = (struct control_balloon){
		.target = target ? *target : 1, .actual = 2, .given = 3, .told = !target, .free = 4
	};
	return 0;
}

static const struct control_ops ops = {
	.balloon = op_balloon,
	.status = op_status,
	.pause = op_pause,
	.count = op_count,
	.save = op_save,
	.attach = op_attach,
	.detach = op_detach,
	.attached = op_attached,
	.saving = op_saving,
	.save_end = op_save_end,
};

static int temporary(void)
{
	FILE *f = tmpfile();
	int fd = fcntl(fileno(f), F_DUPFD_CLOEXEC, 0);

	fcntl(fd, F_SETFL, O_APPEND);
	fclose(f);
	return fd;
}

static void turn(struct bench *b)
{
	for (unsigned i = 0; i < 20; i++)
		loop_turn(&b->loop, 0);
}

static int join(struct bench *b)
{
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	control_adopt(b->control, ends[1]);
	return ends[0];
}

static void open_bench(struct bench *b, bool console)
{
	struct err err = { 0 };

	*b = (struct bench){ .log = { console ? temporary() : -1, console ? temporary() : -1 } };
	const struct control_config config = { .version = "1.2",
		.name = "web",
		.folder = -1,
		.log = { b->log[0], b->log[1] },
		.ops = &ops,
		.ctx = b };

	assert_int_equal(loop_open(&b->loop, &err), 0);
	b->control = control_open(&config, &b->loop, &err);
	assert_non_null(b->control);
	b->fd = join(b);
}

static void close_bench(struct bench *b)
{
	control_close(b->control, "the end");
	close(b->fd);
	for (unsigned i = 0; i < 2; i++)
		if (b->log[i] >= 0)
			close(b->log[i]);
	loop_close(&b->loop);
}

static void say(struct bench *b, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), 0), strlen(text));
	turn(b);
}

static const char *hear(int fd)
{
	static char text[CONTROL_OUT];
	ssize_t n = recv(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void expect(struct bench *b, const char *request, const char *answer)
{
	say(b, b->fd, request);
	assert_string_equal(hear(b->fd), answer);
}

#define GREETING "{\"strata\":\"1.2\",\"protocol\":1,\"name\":\"web\"}\n"

static void members_are_for_who_knows_them(void **state)
{
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	for (unsigned i = 0; i < 5; i++) {
		static const char *const wrong[] = { "", ",\"seconds\":0", ",\"seconds\":3601",
			",\"seconds\":1.5", ",\"seconds\":\"1\"" };
		char line[80];

		snprintf(line, sizeof(line), "{\"command\":\"count\"%s}\n", wrong[i]);
		say(&b, b.fd, line);
		assert_non_null(strstr(hear(b.fd), "a number from 1 to 3600"));
	}
	assert_int_equal(b.counts, 0);
	expect(&b, "{\"command\":\"balloon\",\"target\":4096}\n",
		"{\"result\":{\"target\":4096,\"actual\":2,\"given\":3}}\n");
	expect(&b, "{\"command\":\"balloon\"}\n",
		"{\"result\":{\"target\":1,\"actual\":2,\"given\":3,\"free\":4,\"available\":0,"
		"\"total\":0}}\n");
	expect(&b, "{\"command\":\"balloon\",\"target\":4097}\n",
		"{\"error\":{\"code\":\"bad-request\",\"text\":\"too much\"}}\n");
	for (unsigned i = 0; i < 3; i++) {
		static const char *const wrong[] = { "-1", "\"1\"", "1.5" };
		char line[80];

		snprintf(line, sizeof(line), "{\"command\":\"balloon\",\"target\":%s}\n", wrong[i]);
		expect(&b, line,
			"{\"error\":{\"code\":\"bad-request\",\"text\":\"target is no number of "
			"bytes\"}}\n");
	}
	expect(&b, "{\"command\":\"pause\",\"target\":1}\n",
		"{\"error\":{\"code\":\"bad-request\",\"text\":\"a request has no member "
		"target\"}}\n");
	close_bench(&b);
}

static void greets_and_answers(void **state)
{
	struct bench b;

	open_bench(&b, false);
	assert_string_equal(hear(b.fd), GREETING);
	say(&b, b.fd, "{\"command\":\"status\",\"id\":7}\n");
	const char *text = hear(b.fd);

	assert_non_null(strstr(text, "\"state\":\"running\""));
	assert_non_null(strstr(text, "\"host_memory\":8192"));
	assert_non_null(strstr(text, "\"guest_seconds\":1.5"));
	assert_non_null(strstr(text, "\"id\":7"));
	expect(&b, "{\"command\":\"pause\"}\n", "{\"result\":{}}\n");
	assert_int_equal(b.pauses, 1);
	b.refuse = true;
	expect(&b, "{\"command\":\"pause\",\"id\":\"a\"}\n",
		"{\"error\":{\"code\":\"already\",\"text\":\"paused already\"},\"id\":\"a\"}\n");
	close_bench(&b);
}

static void requests_come_in_pieces_and_in_heaps(void **state)
{
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	say(&b, b.fd, "{\"comm");
	assert_string_equal(hear(b.fd), "");
	expect(&b, "and\":\"pause\"}\n{\"command\":\"pause\"}\n{",
		"{\"result\":{}}\n{\"result\":{}}\n");
	close_bench(&b);
}

static void nonsense_is_refused_by_its_name(void **state)
{
	static const char *const lines[][2] = {
		{ "hello\n", "no JSON" },
		{ "[]\n", "an object with a command" },
		{ "{}\n", "an object with a command" },
		{ "{\"command\":7}\n", "an object with a command" },
		{ "{\"command\":\"dance\"}\n", "no command dance" },
		{ "{\"command\":\"pause\",\"hard\":true}\n", "no member hard" },
		{ "{\"command\":\"pause\",\"id\":[]}\n", "id is neither" },
		{ "{\"command\":\"pause\",\"command\":\"pause\"}\n", "duplicate" },
		{ "{\"command\":\"reset\"}\n", "cannot do that" },
		{ "{\"command\":\"save\"}\n", "an open file must come" },
		{ "{\"command\":\"console\"}\n", "the terminal" },
		{ "{\"command\":"
		  "\"\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac"
		  "\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u20ac\\u"
		  "20ac\"}\n",
			"error" },
	};
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		say(&b, b.fd, lines[i][0]);
		const char *text = hear(b.fd);

		assert_non_null(strstr(text, "\"error\""));
		assert_non_null(strstr(text, lines[i][1]));
	}
	assert_int_equal(b.pauses, 0);
	close_bench(&b);
}

static void a_line_without_end_is_hung_up_on(void **state)
{
	char text[CONTROL_LINE_MAX];
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	memset(text, 'x', sizeof(text));
	assert_int_equal(send(b.fd, text, sizeof(text), 0), sizeof(text));
	turn(&b);
	assert_non_null(strstr(hear(b.fd), "too-long"));
	assert_int_equal(recv(b.fd, text, 1, 0), 0);
	close_bench(&b);
}

static void answers_wait_for_their_reader(void **state)
{
	static const char request[] = "{\"command\":\"help\"}\n";
	unsigned asked = 0, lines = 0;
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	/* More than all buffers hold; what is not answered is not read. */
	while (send(b.fd, request, sizeof(request) - 1, 0) == sizeof(request) - 1) {
		asked++;
		loop_turn(&b.loop, 0);
	}
	assert_true(asked > 100);
	for (unsigned idle = 0; lines < asked && idle < 1000; idle++) {
		for (const char *at = hear(b.fd); (at = strchr(at, '\n')); at++, idle = 0)
			lines++;
		turn(&b);
	}
	assert_int_equal(lines, asked);
	close_bench(&b);
}

static void events_are_told_to_those_who_asked(void **state)
{
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	control_event(b.control, "paused", "unheard");
	expect(&b, "{\"command\":\"events\"}\n", "{\"result\":{}}\n");
	control_event(b.control, "paused", "why");
	assert_string_equal(hear(b.fd), "{\"event\":\"paused\",\"text\":\"why\"}\n");
	/* Who says nothing more still hears. */
	shutdown(b.fd, SHUT_WR);
	turn(&b);
	control_close(b.control, "power off");
	assert_string_equal(hear(b.fd), "{\"event\":\"ended\",\"text\":\"power off\"}\n");
	b.control = NULL;
	close_bench(&b);
}

static void there_is_an_end_to_connections(void **state)
{
	int fds[CONTROL_CONNS_MAX];
	struct bench b;

	open_bench(&b, false);
	for (unsigned i = 0; i < CONTROL_CONNS_MAX; i++)
		fds[i] = join(&b);
	assert_string_equal(hear(fds[0]), GREETING);
	assert_string_equal(hear(fds[CONTROL_CONNS_MAX - 1]), ""); /* the bench's is the first */
	close(fds[0]);
	turn(&b);
	close(fds[CONTROL_CONNS_MAX - 1]);
	fds[0] = join(&b);
	assert_string_equal(hear(fds[0]), GREETING);
	for (unsigned i = 0; i + 1 < CONTROL_CONNS_MAX; i++)
		close(fds[i]);
	close_bench(&b);
}

static void a_file_comes_along(void **state)
{
	struct control_client c = { .fd = -1 };
	struct bench b;
	struct err err = { 0 };
	int file = temporary();

	open_bench(&b, false);
	hear(b.fd);
	assert_int_equal(write(file, "12345", 5), 5);
	c.fd = b.fd;
	c.greeted = true;
	/* Nobody turns the loop meanwhile: the answer comes later. */
	assert_int_equal(client_ask(&c, "save", file, 1, NULL, &err), -ETIMEDOUT);
	turn(&b);
	assert_string_equal(hear(b.fd), "{\"result\":{}}\n");
	assert_int_equal(b.saved, 5);
	expect(&b, "{\"command\":\"saving\"}\n",
		"{\"result\":{\"done\":false,\"written\":1,\"total\":2}}\n");
	assert_int_equal(b.held, 1);
	/* What is refused is not held, and its file is not kept. */
	b.refuse = true;
	assert_int_equal(client_ask(&c, "save", file, 1, NULL, &err), -ETIMEDOUT);
	turn(&b);
	assert_non_null(strstr(hear(b.fd), "not now"));
	assert_int_equal(b.held, 1);
	/* Who hangs up lets it go on. */
	shutdown(b.fd, SHUT_RDWR);
	turn(&b);
	assert_int_equal(b.held, 0);
	close(file);
	close_bench(&b);
}

static unsigned open_count(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void ask(
	struct bench *b, struct control_client *c, json_t *request, const int *fds, unsigned count)
{
	struct err err = { 0 };

	/* Nobody turns the loop meanwhile: the answer comes later. */
	assert_int_equal(client_request_with(c, request, fds, count, 1, NULL, &err), -ETIMEDOUT);
	turn(b);
}

static void several_files_come_along(void **state)
{
	struct control_client c = { .fd = -1 };
	struct bench b;
	int files[CONTROL_FDS_MAX];

	for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
		files[i] = temporary();
	open_bench(&b, false);
	hear(b.fd);
	c.fd = b.fd;
	c.greeted = true;
	unsigned before = open_count();

	ask(&b, &c, json_pack("{s:s,s:s}", "command", "attach", "disk", "/a,readonly"), files,
		CONTROL_FDS_MAX);
	assert_string_equal(hear(b.fd), "{\"result\":{\"device\":\"disk3\"}}\n");
	assert_int_equal(b.came, CONTROL_FDS_MAX);
	assert_string_equal(b.disk, "/a,readonly");
	/* What was not taken is closed, and a refusal changes nothing about that. */
	b.refuse = true;
	ask(&b, &c, json_pack("{s:s,s:s}", "command", "attach", "disk", "/b"), files, 2);
	assert_non_null(strstr(hear(b.fd), "\"no-room\""));
	assert_int_equal(open_count(), before);
	say(&b, b.fd, "{\"command\":\"attach\",\"disk\":\"/b\",\"net\":\"user\"}\n");
	assert_non_null(strstr(hear(b.fd), "either"));
	say(&b, b.fd, "{\"command\":\"attach\"}\n");
	assert_non_null(strstr(hear(b.fd), "either"));
	expect(&b, "{\"command\":\"detach\",\"device\":\"disk3\"}\n", "{\"result\":{}}\n");
	assert_string_equal(b.left, "disk3");
	say(&b, b.fd, "{\"command\":\"status\"}\n");
	assert_non_null(strstr(hear(b.fd),
		"\"attached\":[{\"name\":\"disk3\",\"about\":\"/b\",\"leaving\":true}]"));
	expect(&b, "{\"command\":\"detach\"}\n",
		"{\"error\":{\"code\":\"bad-request\",\"text\":\"\\\"device\\\" is missing, a "
		"name\"}}\n");
	for (unsigned i = 0; i < CONTROL_FDS_MAX; i++)
		close(files[i]);
	close_bench(&b);
}

static off_t size_of(int fd) { return lseek(fd, 0, SEEK_END); }

static void the_console_is_a_log_and_streams(void **state)
{
	char text[16];
	struct bench b;

	open_bench(&b, true);
	hear(b.fd);
	int machine = control_console(b.control);

	assert_int_equal(write(machine, "early ", 6), 6);
	turn(&b);
	/* Typed at once, behind the request. */
	expect(&b, "{\"command\":\"console\"}\nhello", "{\"result\":{}}\n");
	assert_int_equal(read(machine, text, sizeof(text)), 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal(write(machine, "world", 5), 5);
	turn(&b);
	assert_string_equal(hear(b.fd), "world");
	close(b.fd);
	turn(&b);
	assert_int_equal(write(machine, "!", 1), 1);
	b.fd = -1;
	control_close(b.control, "the end"); /* what is under way is logged, too */
	b.control = NULL;
	assert_int_equal(size_of(b.log[0]), 12);
	close_bench(&b);
}

static void a_reader_who_sleeps_holds_nobody_up_for_long(void **state)
{
	static char flood[65536];
	size_t written = 0;
	struct bench b;

	open_bench(&b, true);
	hear(b.fd);
	say(&b, b.fd, "{\"command\":\"console\"}\n");
	int machine = control_console(b.control);

	fcntl(machine, F_SETFL, O_NONBLOCK);
	/* Until nothing fits any more: the reader has not read. */
	for (unsigned idle = 0; idle < 50; idle++) {
		ssize_t n = write(machine, flood, sizeof(flood));

		if (n > 0) {
			written += (size_t)n;
			idle = 0;
		}
		loop_turn(&b.loop, 0);
	}
	assert_true((u64)size_of(b.log[0]) < written);
	/* It is hung up on, and output goes on. */
	while ((u64)size_of(b.log[0]) < written)
		loop_turn(&b.loop, 10000);
	close_bench(&b);
}

static void ask_to_count(struct bench *b, unsigned seconds)
{
	char line[64];

	snprintf(line, sizeof(line), "{\"command\":\"count\",\"seconds\":%u}\n", seconds);
	expect(b, line, "{\"result\":{}}\n");
}

static void instructions_are_counted_as_long_as_somebody_wants(void **state)
{
	struct bench b;

	open_bench(&b, false);
	hear(b.fd);
	b.refuse = true;
	say(&b, b.fd, "{\"command\":\"count\",\"seconds\":1}\n");
	assert_non_null(strstr(hear(b.fd), "it cannot"));
	b.refuse = false;
	ask_to_count(&b, 1);
	assert_true(b.counting);
	while (b.counting)
		loop_turn(&b.loop, -1);
	ask_to_count(&b, 3600);
	ask_to_count(&b, 1);
	for (u64 until = fd_monotonic_ns() + 1200000000; fd_monotonic_ns() < until;)
		loop_turn(&b.loop, 100);
	assert_true(b.counting);
	assert_int_equal(b.counts, 3);
	close_bench(&b);
}

static void the_log_has_an_end(void **state)
{
	static char flood[65536];
	struct bench b;

	open_bench(&b, true);
	int machine = control_console(b.control);

	fcntl(machine, F_SETFL, O_NONBLOCK);
	for (size_t written = 0; written < 20 * MiB;) {
		ssize_t n = write(machine, flood, sizeof(flood));

		written += n > 0 ? (size_t)n : 0;
		turn(&b);
	}
	assert_true((u64)size_of(b.log[0]) <= 4 * MiB);
	assert_true((u64)size_of(b.log[1]) <= 4 * MiB);
	assert_true((u64)(size_of(b.log[0]) + size_of(b.log[1])) >= 4 * MiB);
	close_bench(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greets_and_answers),
		cmocka_unit_test(members_are_for_who_knows_them),
		cmocka_unit_test(requests_come_in_pieces_and_in_heaps),
		cmocka_unit_test(nonsense_is_refused_by_its_name),
		cmocka_unit_test(a_line_without_end_is_hung_up_on),
		cmocka_unit_test(answers_wait_for_their_reader),
		cmocka_unit_test(events_are_told_to_those_who_asked),
		cmocka_unit_test(there_is_an_end_to_connections),
		cmocka_unit_test(a_file_comes_along),
		cmocka_unit_test(several_files_come_along),
		cmocka_unit_test(the_console_is_a_log_and_streams),
		cmocka_unit_test(a_reader_who_sleeps_holds_nobody_up_for_long),
		cmocka_unit_test(instructions_are_counted_as_long_as_somebody_wants),
		cmocka_unit_test(the_log_has_an_end),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
