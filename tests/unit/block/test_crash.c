/*
 * A process that writes to an image is killed, again and again, at any moment. What it had flushed
 * must be there, and the image consistent, for us and for qemu-img.
 *
 * Each sector has a version: what it contains depends on its number and that. Memory that the two
 * processes share says which version was last begun and which was last flushed: anything between
 * the two may be found.
 */
#include "image_file.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#define SIZE	(24 * MiB)
#define SECTORS (SIZE / BLOCK_SECTOR)
#define SLOTS	8u   /* requests at once, each in an eighth of the image */
#define MOST	200u /* sectors of a request */
#define KILLS	12u  /* of each kind of image */

struct shared {
	u32 begun[SECTORS], done[SECTORS], flushed[SECTORS];
	u64 flushes;
};

/* Every fifth version is zeroes that are not carried; the first one is what there was before. */
static bool is_zero_version(u32 v) { return v % 5 == 0; }

static void fill(u8 *buf, u64 sector, u32 version)
{
	image_pattern(buf, BLOCK_SECTOR, sector * BLOCK_SECTOR, version);
	put_le32(buf, version);
	if (is_zero_version(version))
		memset(buf, 0, BLOCK_SECTOR);
}

/* ---- the process that is killed ---- */

struct slot {
	struct block_request r;
	struct iovec v;
	u64 sector, count;
	struct writer *w;
	u8 data[MOST * BLOCK_SECTOR];
};

struct writer {
	struct block *b;
	struct shared *s;
	u64 seed;
	struct slot slot[SLOTS];
	unsigned busy;
};

static u64 roll(u64 *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

static void slot_done(struct block_request *r, int rc)
{
	struct slot *t = r->ctx;

	if (rc)
		_exit(2);
	for (u64 i = 0; i < t->count; i++)
		t->w->s->done[t->sector + i] = t->w->s->begun[t->sector + i];
	t->w->busy--;
}

static void begin(struct writer *w, unsigned n)
{
	struct slot *t = &w->slot[n];
	u64 part = SECTORS / SLOTS;

	t->w = w;
	t->count = 1 + roll(&w->seed) % (roll(&w->seed) % 3 ? 16 : MOST);
	t->sector = n * part + roll(&w->seed) % (part - t->count);
	u32 version = 0;

	/* All sectors of a request get the same version. */
	for (u64 i = 0; i < t->count; i++)
		version = (u32)max_u64(version, w->s->begun[t->sector + i]);
	version++;
	for (u64 i = 0; i < t->count; i++) {
		w->s->begun[t->sector + i] = version;
		fill(t->data + i * BLOCK_SECTOR, t->sector + i, version);
	}
	t->v = (struct iovec){ t->data, t->count * BLOCK_SECTOR };
	t->r = (struct block_request){ .op = is_zero_version(version) ? BLOCK_ZERO : BLOCK_WRITE,
		.offset = t->sector * BLOCK_SECTOR,
		.len = t->v.iov_len,
		.iov = &t->v,
		.iovcnt = 1,
		.done = slot_done,
		.ctx = t };
	w->busy++;
	block_submit(w->b, &t->r);
}

static void write_for_ever(const char *path, struct shared *s, u64 seed)
{
	struct writer *w = calloc(1, sizeof(*w));
	struct err err = { 0 };

	w->s = s;
	w->seed = seed;
	if (block_open(&w->b, path, NULL, &err)) {
		fprintf(stderr, "%s\n", err.text);
		_exit(3);
	}
	for (;;) {
		for (unsigned n = 0; n < SLOTS; n++)
			begin(w, n);
		block_kick(w->b);
		block_drain(w->b);
		if (roll(&seed) % 3)
			continue;
		if (block_flush(w->b))
			_exit(4);
		memcpy(s->flushed, s->done, sizeof(s->done));
		s->flushes++;
	}
}

/* ---- what is left ---- */

static bool may_be_zero(u32 from, u32 to)
{
	for (u32 v = from; v <= to; v++)
		if (is_zero_version(v))
			return true;
	return false;
}

static void look_at_sector(struct shared *s, u64 n, const u8 *found)
{
	u32 from = s->flushed[n], to = s->begun[n], version = get_le32(found);
	u8 want[BLOCK_SECTOR] = { 0 };

	if (!memcmp(found, want, sizeof(want))) {
		if (!may_be_zero(from, to))
			fail_msg("sector %llu has zeroes, not versions %u to %u",
				(unsigned long long)n, from, to);
		version = from;
		while (!is_zero_version(version))
			version++;
	} else {
		fill(want, n, version);
		if (version < from || version > to || memcmp(found, want, sizeof(want)))
			fail_msg("sector %llu has version %u, not %u to %u", (unsigned long long)n,
				version, from, to);
	}
	s->begun[n] = s->done[n] = s->flushed[n] = version;
}

static void look_at_all(const char *path, struct shared *s)
{
	struct block *b = image_open(path, NULL);
	u8 *data = malloc(SIZE);

	assert_int_equal(block_read(b, 0, data, SIZE), 0);
	for (u64 n = 0; n < SECTORS; n++)
		look_at_sector(s, n, data + n * BLOCK_SECTOR);
	image_close(b);
	free(data);
}

/* Straight after the kill: clean, or clusters that nothing uses, and then marked so that they are
 * given back. */
static bool look_with_qemu(const char *path, bool marked)
{
	/* Opening waits for what the kernel has still to do for the process. */
	image_close(image_open(path, &(struct block_options){ .readonly = true }));
	int status = image_shell("qemu-img check -q -f qcow2 %s", path);

	if (status != 0 && status != 3)
		fail_msg("after the kill: %s", image_output);
	if (status == 3 && marked) {
		image_shell("qemu-img info -f qcow2 --output json %s", path);
		assert_non_null(strstr(image_output, "\"dirty-flag\": true"));
	}
	return status == 3;
}

static void kill_one(const char *path, struct shared *s, u64 *seed)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child)
		write_for_ever(path, s, roll(seed));
	usleep((useconds_t)(3000 + roll(seed) % 60000));
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
}

static void killed_at_any_moment_nothing_flushed_is_lost(void **state)
{
	static const char *const kinds[] = { "compat=1.1", "compat=0.10", "cluster_size=4k",
		"cluster_size=512", "lazy_refcounts=on" };
	bool long_run = getenv("STRATA_TEST_LONG");
	unsigned kills = long_run ? 20 * KILLS : KILLS, leaks = 0, all = 0;
	u64 seed = long_run ? (u64)time(NULL) : 1, flushes = 0;

	if (!image_has_tool("qemu-img"))
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = image_path("crash.qcow2");
		struct shared *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 -o %s %s %llu", kinds[i],
					 path, SIZE),
			0);
		for (unsigned k = 0; k < kills; k++, all++) {
			kill_one(path, s, &seed);
			leaks += look_with_qemu(path, i != 1);
			look_at_all(path, s);
			if (image_shell("qemu-img check -q -f qcow2 %s", path))
				fail_msg("after opening: %s", image_output);
			if (k == kills / 2)
				assert_int_equal(image_shell("qemu-img snapshot -c s %s", path), 0);
		}
		/* What qemu-img reads is what we have just verified. */
		struct block *b = image_open(path, &(struct block_options){ .readonly = true });
		u8 *data = malloc(SIZE);
		const char *raw = image_path("crash.raw");
		int fd = open(raw, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

		assert_int_equal(block_read(b, 0, data, SIZE), 0);
		assert_int_equal(io_pwrite(fd, data, SIZE, 0), 0);
		close(fd);
		image_close(b);
		if (image_shell("qemu-img compare -f qcow2 -F raw %s %s", path, raw))
			fail_msg("%s", image_output);
		flushes += s->flushes;
		free(data);
		munmap(s, sizeof(*s));
	}
	printf("%u kills, %llu flushes, %u times something to give back\n", all,
		(unsigned long long)flushes, leaks);
	assert_true(flushes > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_any_moment_nothing_flushed_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, image_cleanup);
}
