/* Requests on a raw image, by both ways of doing operations and in each cache mode. */
#include "image_file.h"
#include <errno.h>
#include <poll.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define SIZE (4 * MiB)

static const struct block_options ways[] = {
	{ .format = "raw", .io = IO_AUTO },
	{ .format = "raw", .io = IO_THREADS },
	{ .format = "raw", .cache = BLOCK_WRITETHROUGH },
	{ .format = "raw", .cache = BLOCK_UNSAFE },
	{ .format = "raw", .cache = BLOCK_NONE },
};

static const char *make_raw(const char *name, u64 size)
{
	const char *path = image_path(name);
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
	return path;
}

/* tmpfs knows no O_DIRECT. */
static struct block *open_way(const char *path, const struct block_options *o)
{
	struct err err = { 0 };
	struct block *b = NULL;

	if (block_open(&b, path, o, &err) && o->cache != BLOCK_NONE)
		fail_msg("%s", err.text);
	return b;
}

static void what_was_written_is_read(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		const char *path = make_raw("a.raw", SIZE);
		struct block *b = open_way(path, &ways[i]);
		static u8 out[96 * 1024], in[96 * 1024];

		if (!b)
			continue;
		for (u64 at = 512; at < SIZE - sizeof(out); at += 1 * MiB + 512) {
			image_pattern(out, sizeof(out), at, i);
			assert_int_equal(block_write(b, at, out, sizeof(out)), 0);
			memset(in, 0, sizeof(in));
			assert_int_equal(block_read(b, at, in, sizeof(in)), 0);
			assert_memory_equal(in, out, sizeof(in));
		}
		assert_int_equal(block_flush(b), 0);
		assert_int_equal(block_info(b).size, SIZE);
		image_close(b);
	}
}

static void bad_requests_are_refused(void **state)
{
	const char *path = make_raw("b.raw", SIZE);
	struct block *b = image_open(path, &ways[0]);
	u8 buf[1024];
	struct iovec v = { buf, sizeof(buf) };
	struct block_request lies = { .op = BLOCK_WRITE, .len = 512, .iov = &v, .iovcnt = 1 };
	struct block_request empty = { .op = BLOCK_WRITE };

	assert_int_equal(block_read(b, 1, buf, 512), -EINVAL);
	assert_int_equal(block_read(b, 0, buf, 100), -EINVAL);
	assert_int_equal(block_read(b, SIZE, buf, 512), -EINVAL);
	assert_int_equal(block_read(b, ~511ull, buf, 1024), -EINVAL);
	assert_int_equal(block_run(b, &lies), -EINVAL);
	assert_int_equal(block_run(b, &empty), 0);
	image_close(b);

	b = image_open(path, &(struct block_options){ .format = "raw", .readonly = true });
	assert_int_equal(block_write(b, 0, buf, 512), -EPERM);
	assert_int_equal(block_flush(b), 0);
	image_close(b);
}

static void a_file_that_ends_within_a_sector_has_zeroes_behind(void **state)
{
	u8 buf[1024];
	const char *path = make_raw("c.raw", 700);
	struct block *b = image_open(path, &ways[0]);

	memset(buf, 0xff, sizeof(buf));
	assert_int_equal(block_info(b).size, 1024);
	assert_int_equal(block_read(b, 0, buf, 1024), 0);
	for (unsigned i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
	image_close(b);
}

static void zeroes_and_discards_make_holes(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		const char *path = make_raw("d.raw", SIZE);
		struct block *b = image_open(path, &ways[i]);
		struct block_request zero = {
			.op = BLOCK_ZERO, .offset = 64 * KiB, .len = 1 * MiB
		};
		struct block_request drop = {
			.op = BLOCK_DISCARD, .offset = 2 * MiB, .len = 1 * MiB
		};
		u8 *buf = malloc(SIZE);
		struct stat full, after;

		image_pattern(buf, SIZE, 0, 3);
		assert_int_equal(block_write(b, 0, buf, SIZE), 0);
		assert_int_equal(stat(path, &full), 0);
		assert_int_equal(block_run(b, &zero), 0);
		assert_int_equal(block_run(b, &drop), 0);
		assert_int_equal(stat(path, &after), 0);
		assert_true(after.st_blocks < full.st_blocks);
		assert_int_equal(block_read(b, 0, buf, SIZE), 0);
		for (u64 at = 64 * KiB; at < 64 * KiB + 1 * MiB; at++)
			assert_int_equal(buf[at], 0);
		assert_int_not_equal(buf[64 * KiB - 1] | buf[64 * KiB - 2], 0);
		free(buf);
		image_close(b);
	}
}

/* ---- many at once ---- */

#define MANY 600u

struct many {
	struct block_request r[MANY];
	struct iovec v[MANY][2];
	u8 data[MANY][1024];
	unsigned done;
};

static void count_done(struct block_request *r, int rc)
{
	struct many *m = r->ctx;

	assert_int_equal(rc, 0);
	m->done++;
}

static void many_requests_are_under_way_at_once(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		const char *path = make_raw("e.raw", SIZE);
		struct block *b = image_open(path, &ways[i]);
		struct many *m = calloc(1, sizeof(*m));

		for (unsigned k = 0; k < 2 * MANY; k++) {
			unsigned n = k % MANY;

			m->v[n][0] = (struct iovec){ m->data[n], 100 };
			m->v[n][1] = (struct iovec){ m->data[n] + 100, 924 };
			m->r[n] = (struct block_request){ .op = k < MANY ? BLOCK_WRITE : BLOCK_READ,
				.offset = 2048ull * n,
				.len = 1024,
				.iov = m->v[n],
				.iovcnt = 2,
				.done = count_done,
				.ctx = m };
			if (k < MANY)
				image_pattern(m->data[n], 1024, 2048ull * n, 9);
			else
				memset(m->data[n], 0, 1024);
			block_submit(b, &m->r[n]);
			if (n == MANY - 1) {
				block_kick(b);
				block_drain(b);
			}
		}
		assert_int_equal(m->done, 2 * MANY);
		for (unsigned n = 0; n < MANY; n++) {
			u8 want[1024];

			image_pattern(want, sizeof(want), 2048ull * n, 9);
			assert_memory_equal(m->data[n], want, sizeof(want));
		}
		free(m);
		image_close(b);
	}
}

#define LONG_COUNT 24u
#define LONG_SIZE  (96 * KiB)

/* Every second one a read of what the one before writes, in any order. */
static void long_reads_and_writes_are_under_way_at_once(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct block *b = open_way(make_raw("long.raw", SIZE), &ways[i]);
		u8 *data = malloc(LONG_COUNT * LONG_SIZE), *want = malloc(LONG_SIZE);
		struct many *m = calloc(1, sizeof(*m));

		for (unsigned n = 0; b && n < 4 * LONG_COUNT; n++) {
			unsigned k = n % LONG_COUNT;

			m->v[k][0] = (struct iovec){ data + k * LONG_SIZE, LONG_SIZE };
			m->r[k] = (struct block_request){ .op = k % 2 ? BLOCK_READ : BLOCK_WRITE,
				.offset = k / 2 * LONG_SIZE,
				.len = LONG_SIZE,
				.iov = m->v[k],
				.iovcnt = 1,
				.done = count_done,
				.ctx = m };
			if (k % 2 == 0)
				image_pattern(data + k * LONG_SIZE, LONG_SIZE, k, 5);
			block_submit(b, &m->r[k]);
			if (k == LONG_COUNT - 1)
				block_drain(b);
		}
		/* What was written in an earlier round is the same, so that a read has it. */
		for (unsigned k = 1; b && k < LONG_COUNT; k += 2) {
			image_pattern(want, LONG_SIZE, k - 1, 5);
			assert_memory_equal(data + k * LONG_SIZE, want, LONG_SIZE);
		}
		assert_int_equal(m->done, b ? 4 * LONG_COUNT : 0);
		if (b)
			image_close(b);
		free(m);
		free(want);
		free(data);
	}
}

/* An image in memory is written to where it is mapped; what somebody has cut off, by the kernel. */
static void an_image_in_memory_is_written_to(void **state)
{
	static const u64 cuts[] = { SIZE, SIZE / 2, 0 };
	char path[64];
	u8 *data = malloc(SIZE), *got = malloc(SIZE);

	for (unsigned i = 0; i < ARRAY_LEN(cuts) * ARRAY_LEN(ways); i++) {
		int memory = memfd_create("image", MFD_CLOEXEC);

		assert_true(memory >= 0);
		assert_int_equal(ftruncate(memory, SIZE), 0);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
		struct block *b = open_way(path, &ways[i % ARRAY_LEN(ways)]);
		if (b) {
			struct iovec v[3] = { { data, 700 }, { data + 700, SIZE / 2 - 700 },
				{ data + SIZE / 2, SIZE / 2 - 1024 } };
			struct block_request r = { .op = BLOCK_WRITE,
				.offset = 512,
				.len = SIZE - 1024,
				.iov = v,
				.iovcnt = 3 };

			image_pattern(data, SIZE, 0, i);
			assert_int_equal(ftruncate(memory, (off_t)cuts[i / ARRAY_LEN(ways)]), 0);
			assert_int_equal(block_run(b, &r), 0);
			assert_int_equal(block_read(b, 0, got, SIZE), 0);
			assert_memory_equal(got + 512, data, SIZE - 1024);
			for (unsigned n = 0; n < 512; n++)
				assert_int_equal(got[n] | got[SIZE - 512 + n], 0);
			image_close(b);
		}
		close(memory);
	}
	free(got);
	free(data);
}

/* The event stands for what block_reap() has not seen, and for nothing else. */
static void what_was_reaped_is_not_announced_again(void **state)
{
	static u8 data[96 * KiB];

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct block *b = open_way(make_raw("event.raw", SIZE), &ways[i]);
		struct iovec v = { data, sizeof(data) };
		struct pollfd p = { .events = POLLIN };
		struct many *m = calloc(1, sizeof(*m));

		for (unsigned n = 0; b && n < 16; n++) {
			m->r[0] = (struct block_request){ .op = n % 2 ? BLOCK_READ : BLOCK_WRITE,
				.len = n % 4 / 2 ? sizeof(data) : 4096,
				.iov = &v,
				.iovcnt = 1,
				.done = count_done,
				.ctx = m };
			v.iov_len = m->r[0].len;
			p.fd = block_event(b);
			block_submit(b, &m->r[0]);
			block_kick(b);
			while (m->done <= n) {
				assert_int_equal(poll(&p, 1, 60000), 1);
				block_reap(b);
			}
			assert_int_equal(poll(&p, 1, 0), 0);
		}
		if (b)
			image_close(b);
		free(m);
	}
}

static void submit_never_calls_back(void **state)
{
	const char *path = make_raw("f.raw", SIZE);
	struct block *b = image_open(path, &ways[0]);
	struct many *m = calloc(1, sizeof(*m));
	struct pollfd p = { .fd = block_event(b), .events = POLLIN };

	m->v[0][0] = (struct iovec){ m->data[0], 512 };
	m->r[0] = (struct block_request){ .op = BLOCK_READ,
		.len = 512,
		.iov = m->v[0],
		.iovcnt = 1,
		.done = count_done,
		.ctx = m };
	block_submit(b, &m->r[0]);
	block_kick(b);
	assert_int_equal(m->done, 0);
	assert_int_equal(poll(&p, 1, 5000), 1);
	assert_int_equal(m->done, 0);
	block_reap(b);
	block_drain(b);
	assert_int_equal(m->done, 1);
	free(m);
	image_close(b);
}

static int without_io_uring(const char *path)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	struct err err = { 0 };
	struct block *b;
	u8 buf[512];

	if (!ctx || seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(io_uring_setup), 0) ||
		seccomp_load(ctx))
		return 2;
	seccomp_release(ctx);
	if (block_open(&b, path, &ways[0], &err))
		return 3;
	if (strcmp(block_info(b).io, "threads") || block_read(b, 0, buf, sizeof(buf)) ||
		block_write(b, 0, buf, sizeof(buf)))
		return 4;
	return block_close(b, &err) ? 5 : 0;
}

static void threads_do_where_io_uring_is_refused(void **state)
{
	const char *path = make_raw("l.raw", SIZE);
	pid_t child = fork();
	int status;

	if (!child)
		_exit(without_io_uring(path));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* ---- locks ---- */

static void a_second_writer_is_refused_by_name(void **state)
{
	const char *path = make_raw("g.raw", SIZE);
	struct block *b = image_open(path, &ways[0]);
	char self[32];

	snprintf(self, sizeof(self), "process %d (test-block)", getpid());
	assert_non_null(strstr(image_refused(path, &ways[0]), self));
	assert_non_null(strstr(
		image_refused(path, &(struct block_options){ .format = "raw", .readonly = true }),
		self));
	struct block *look =
		image_open(path, &(struct block_options){ .readonly = true, .no_lock = true });

	image_close(look);
	image_close(b);
	image_close(image_open(path, &ways[0]));
}

static void readers_admit_readers_but_no_writer(void **state)
{
	const struct block_options reader = { .format = "raw", .readonly = true };
	const char *path = make_raw("h.raw", SIZE);
	struct block *a = image_open(path, &reader), *b = image_open(path, &reader);

	assert_non_null(strstr(image_refused(path, &ways[0]), "in use"));
	image_close(a);
	image_close(b);
}

static void other_tools_respect_the_lock(void **state)
{
	if (!image_has_tool("qemu-io"))
		skip();
	const char *path = make_raw("i.raw", SIZE);
	struct block *b = image_open(path, &ways[0]);

	assert_int_not_equal(image_shell("qemu-io -f raw -c 'write 0 512' %s", path), 0);
	image_close(b);
	assert_int_equal(image_shell("qemu-io -f raw -c 'write 0 512' %s", path), 0);
}

/* ---- an image for a block that was there before ---- */

static void insert(struct block *b, const char *path, const struct block_options *o)
{
	struct block_options with_files = *o;
	struct block_files f;
	struct err err = { 0 };

	assert_int_equal(block_files_open(&f, path, o, &err), 0);
	with_files.files = &f;
	if (block_insert(b, path, &with_files, &err))
		fail_msg("%s", err.text);
	assert_int_equal(f.taken, f.count);
	block_files_close(&f);
}

static void images_come_and_go(void **state)
{
	struct err err = { 0 };
	u8 out[4096], in[4096];
	struct block *b;

	assert_int_equal(block_open_empty(&b, &err), 0);
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		const char *path = make_raw("l.raw", SIZE);
		struct block *probe = open_way(path, &ways[i]);

		if (!probe)
			continue;
		image_close(probe);
		assert_true(block_is_empty(b));
		assert_int_equal(block_read(b, 0, in, sizeof(in)), -EIO);
		insert(b, path, &ways[i]);
		assert_false(block_is_empty(b));
		assert_int_equal(block_info(b).size, SIZE);
		image_pattern(out, sizeof(out), 0, i);
		assert_int_equal(block_write(b, 8192, out, sizeof(out)), 0);
		assert_int_equal(block_read(b, 8192, in, sizeof(in)), 0);
		assert_memory_equal(in, out, sizeof(in));
		/* The lock came with the descriptor, and goes with it. */
		assert_non_null(strstr(image_refused(path, &ways[0]), "in use by"));
		assert_int_equal(block_remove(b, &err), 0);
		probe = image_open(path, &ways[0]);
		assert_int_equal(block_read(probe, 8192, in, sizeof(in)), 0);
		assert_memory_equal(in, out, sizeof(in));
		image_close(probe);
	}
	assert_int_equal(block_remove(b, &err), 0);
	image_close(b);
}

static void what_was_not_handed_over_is_not_opened(void **state)
{
	const char *path = make_raw("m.raw", SIZE);
	struct block_files none = { .count = 0 };
	struct block_options o = { .format = "raw", .files = &none };
	struct err err = { 0 };
	struct block *b;

	assert_int_equal(block_open_empty(&b, &err), 0);
	assert_int_equal(block_insert(b, path, &o, &err), -EINVAL);
	assert_non_null(strstr(err.text, "not handed over"));
	assert_true(block_is_empty(b));
	insert(b, path, &ways[0]);
	image_close(b);
}

/* ---- what looks like something else ---- */

static void a_guest_cannot_change_the_format_of_a_guessed_image(void **state)
{
	const char *path = make_raw("j.raw", SIZE);
	struct block *b = image_open(path, NULL);
	u8 head[1024] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };

	assert_int_equal(block_write(b, 512, head, sizeof(head)), 0);
	assert_int_equal(block_write(b, 0, head, sizeof(head)), -EPERM);
	head[0] = 'x';
	assert_int_equal(block_write(b, 0, head, sizeof(head)), 0);
	image_close(b);

	b = image_open(path, &ways[0]);
	head[0] = 'Q';
	assert_int_equal(block_write(b, 0, head, sizeof(head)), 0);
	image_close(b);
}

static void what_is_no_image_is_refused(void **state)
{
	assert_non_null(strstr(image_refused("/tmp", NULL), "/tmp"));
	assert_non_null(strstr(image_refused("/dev/null", NULL), "neither a file"));
	assert_non_null(strstr(image_refused("/nowhere/x", NULL), "No such file"));
	assert_non_null(strstr(image_refused(make_raw("k.raw", SIZE),
				       &(struct block_options){ .format = "floppy" }),
		"unknown format floppy"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_is_read),
		cmocka_unit_test(bad_requests_are_refused),
		cmocka_unit_test(a_file_that_ends_within_a_sector_has_zeroes_behind),
		cmocka_unit_test(zeroes_and_discards_make_holes),
		cmocka_unit_test(many_requests_are_under_way_at_once),
		cmocka_unit_test(long_reads_and_writes_are_under_way_at_once),
		cmocka_unit_test(an_image_in_memory_is_written_to),
		cmocka_unit_test(what_was_reaped_is_not_announced_again),
		cmocka_unit_test(submit_never_calls_back),
		cmocka_unit_test(threads_do_where_io_uring_is_refused),
		cmocka_unit_test(a_second_writer_is_refused_by_name),
		cmocka_unit_test(readers_admit_readers_but_no_writer),
		cmocka_unit_test(other_tools_respect_the_lock),
		cmocka_unit_test(images_come_and_go),
		cmocka_unit_test(what_was_not_handed_over_is_not_opened),
		cmocka_unit_test(a_guest_cannot_change_the_format_of_a_guessed_image),
		cmocka_unit_test(what_is_no_image_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, image_cleanup);
}
