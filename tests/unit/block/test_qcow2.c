/*
 * qcow2 against a copy of the contents in memory, and against qemu-img, which makes the images,
 * checks them and compares them when we are done.
 */
#include "block/format.h"
#include "image_file.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define SIZE	   (20 * MiB + 3 * 512)
#define LEN_MAX	   (400 * KiB)
#define PLACES	   96u /* so that operations meet */
#define NO_TOOLS() (!image_has_tool("qemu-img") || !image_has_tool("qemu-io"))

/* Quicker: for what is not about flushes. */
static const struct block_options unsafe = { .cache = BLOCK_UNSAFE };

struct copy {
	u8 *data;
	u64 size;
	u64 seed;
};

static u64 roll(struct copy *c)
{
	c->seed = c->seed * 6364136223846793005u + 1442695040888963407u;
	return c->seed >> 33;
}

static struct copy copy_new(u64 size, u64 seed)
{
	struct copy c = { calloc(1, size), size, seed };

	assert_non_null(c.data);
	return c;
}

static void write_file(const char *path, const u8 *data, u64 len)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(io_pwrite(fd, data, len, 0), 0);
	close(fd);
}

static void one_operation(struct block *b, struct copy *c, u8 *buf, unsigned number)
{
	u64 at = roll(c) % PLACES * (c->size / PLACES) & ~511ull;

	at += (roll(c) % 5) * 512;
	u64 len = min_u64(
		((roll(c) % 4 ? roll(c) % 40 : roll(c)) % (LEN_MAX / 512) + 1) * 512, c->size - at);
	struct block_request r = { .op = BLOCK_ZERO, .offset = at, .len = len };

	switch (roll(c) % 8) {
	case 0:
		assert_int_equal(block_run(b, &r), 0);
		memset(c->data + at, 0, len);
		break;
	case 1: /* only what is surely dropped is known afterwards: so zero it, too */
		r.op = BLOCK_DISCARD;
		assert_int_equal(block_run(b, &r), 0);
		r.op = BLOCK_ZERO;
		assert_int_equal(block_run(b, &r), 0);
		memset(c->data + at, 0, len);
		break;
	case 2: assert_int_equal(block_flush(b), 0); break;
	case 3:
	case 4:
		assert_int_equal(block_read(b, at, buf, len), 0);
		assert_memory_equal(buf, c->data + at, len);
		break;
	default:
		image_pattern(c->data + at, len, at, number);
		assert_int_equal(block_write(b, at, c->data + at, len), 0);
	}
}

static void operate(const char *path, struct copy *c, unsigned count, const struct block_options *o)
{
	struct block *b = image_open(path, o);
	u8 *buf = malloc(LEN_MAX);

	assert_int_equal(block_info(b).size, c->size);
	for (unsigned i = 0; i < count; i++)
		one_operation(b, c, buf, i);
	free(buf);
	image_close(b);
}

static void is_clean(const char *path)
{
	if (image_shell("qemu-img check -q -f qcow2 %s", path))
		fail_msg("%s", image_output);
}

static void is_equal(const char *path, const struct copy *c)
{
	const char *raw = image_path("copy.raw");

	write_file(raw, c->data, c->size);
	if (image_shell("qemu-img compare -f qcow2 -F raw %s %s", path, raw))
		fail_msg("%s", image_output);
}

/* ---- variants ---- */

static void images_of_each_kind_hold_what_is_written(void **state)
{
	static const char *const kinds[] = { "compat=1.1", "compat=0.10", "cluster_size=512",
		"cluster_size=4096,refcount_bits=1", "cluster_size=2M", "refcount_bits=64",
		"refcount_bits=8,cluster_size=1024", "lazy_refcounts=on", "preallocation=metadata",
		"compat=0.10,cluster_size=512" };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = image_path("kind.qcow2");
		struct copy c = copy_new(SIZE, i + 1);

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 -o %s %s %llu", kinds[i],
					 path, SIZE),
			0);
		for (unsigned round = 0; round < 3; round++) {
			operate(path, &c, 120, i < 2 ? NULL : &unsafe);
			is_clean(path);
			is_equal(path, &c);
		}
		free(c.data);
	}
}

static void each_cache_mode_holds_what_is_written(void **state)
{
	static const struct block_options modes[] = { { .io = IO_THREADS },
		{ .cache = BLOCK_WRITETHROUGH }, { .cache = BLOCK_UNSAFE },
		{ .cache = BLOCK_NONE } };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		const char *path = image_path("mode.qcow2");
		struct copy c = copy_new(SIZE, i + 100);

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 %s %llu", path, SIZE), 0);
		operate(path, &c, 80, &modes[i]);
		is_clean(path);
		is_equal(path, &c);
		free(c.data);
	}
}

static void our_own_images_are_good(void **state)
{
	static const struct block_create kinds[] = { { .size = SIZE },
		{ .size = SIZE, .old = true }, { .size = SIZE, .cluster = 512 },
		{ .size = SIZE, .cluster = 2 * MiB, .lazy = true }, { .size = 0 },
		{ .size = 4096 * GiB } };

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = image_path("own.qcow2");
		int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
		struct err err = { 0 };

		assert_int_equal(qcow2_format.create(fd, &kinds[i], &err), 0);
		close(fd);
		if (!NO_TOOLS())
			is_clean(path);
		if (kinds[i].size != SIZE) {
			struct block *b = image_open(path, NULL);

			assert_int_equal(block_info(b).size, kinds[i].size);
			image_close(b);
			continue;
		}
		struct copy c = copy_new(SIZE, i + 50);

		operate(path, &c, 150, &unsafe);
		if (!NO_TOOLS()) {
			is_clean(path);
			is_equal(path, &c);
		}
		free(c.data);
	}
}

static void freed_clusters_are_used_again(void **state)
{
	const struct block_create create = { .size = 64 * MiB };
	const char *path = image_path("again.qcow2");
	int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
	struct err err = { 0 };
	u8 *data = calloc(1, 1 * MiB);
	struct stat st;

	assert_int_equal(qcow2_format.create(fd, &create, &err), 0);
	struct block *b = image_open(path, NULL);

	for (unsigned i = 0; i < 40; i++) {
		struct block_request drop = {
			.op = BLOCK_DISCARD, .offset = i * MiB, .len = 1 * MiB
		};

		image_pattern(data, 1 * MiB, 0, i);
		assert_int_equal(block_write(b, i * MiB, data, 1 * MiB), 0);
		assert_int_equal(block_run(b, &drop), 0);
		assert_int_equal(block_flush(b), 0);
	}
	image_close(b);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true((u64)st.st_size < 4 * MiB);
	assert_true((u64)st.st_blocks * 512 < 2 * MiB);
	close(fd);
	free(data);
}

/* ---- at once ---- */

#define WRITERS 8u
#define STRIPE	(13 * 512u) /* clusters belong to several writers */
#define AT_ONCE 6000u

struct at_once {
	struct block *b;
	struct copy *c;
	u32 left;
	struct one {
		struct block_request r;
		struct iovec v;
		struct at_once *all;
		unsigned number;
		u8 buf[STRIPE];
	} one[WRITERS + 1];
};

static void next_one(struct one *o);

static void one_done(struct block_request *r, int rc)
{
	struct one *o = r->ctx;

	assert_int_equal(rc, 0);
	if (r->op == BLOCK_READ)
		assert_memory_equal(o->buf, o->all->c->data + r->offset, STRIPE);
	if (o->all->left) {
		o->all->left--;
		next_one(o);
	}
}

/* The last of them only flushes; the others have every eighth stripe each. */
static void next_one(struct one *o)
{
	struct copy *c = o->all->c;
	u64 stripes = c->size / STRIPE / WRITERS;
	u64 at = (roll(c) % stripes * WRITERS + o->number) * STRIPE;
	static const enum block_op ops[] = { BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_READ,
		BLOCK_READ, BLOCK_ZERO };

	o->v = (struct iovec){ o->buf, STRIPE };
	o->r = (struct block_request){ .op = ops[roll(c) % ARRAY_LEN(ops)],
		.offset = at,
		.len = STRIPE,
		.iov = &o->v,
		.iovcnt = 1,
		.done = one_done,
		.ctx = o };
	if (o->number == WRITERS)
		o->r = (struct block_request){ .op = BLOCK_FLUSH, .done = one_done, .ctx = o };
	if (o->r.op == BLOCK_WRITE) {
		image_pattern(o->buf, STRIPE, at, (u32)roll(c));
		memcpy(c->data + at, o->buf, STRIPE);
	} else if (o->r.op == BLOCK_ZERO) {
		memset(c->data + at, 0, STRIPE);
	}
	block_submit(o->all->b, &o->r);
	block_kick(o->all->b);
}

static void requests_at_once_do_not_disturb_each_other(void **state)
{
	static const struct block_options ways[] = { { .io = IO_AUTO }, { .io = IO_THREADS },
		{ .cache = BLOCK_NONE }, { .cache = BLOCK_UNSAFE } };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		const char *path = image_path("once.qcow2");
		struct copy c = copy_new(SIZE, i + 500);
		struct at_once *a = calloc(1, sizeof(*a));

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 %s %llu", path, SIZE), 0);
		*a = (struct at_once){ .b = image_open(path, &ways[i]), .c = &c, .left = AT_ONCE };
		for (unsigned n = 0; n <= WRITERS; n++) {
			a->one[n].all = a;
			a->one[n].number = n;
			next_one(&a->one[n]);
		}
		block_drain(a->b);
		image_close(a->b);
		is_clean(path);
		is_equal(path, &c);
		free(a);
		free(c.data);
	}
}

/* ---- chains, packed clusters, snapshots ---- */

static void a_backing_chain_is_read_and_never_written(void **state)
{
	static const char *const formats_of_base[] = { "raw", "qcow2" };
	static const char *const compat[] = { "1.1", "0.10" };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < 4; i++) {
		const char *raw = image_path("pattern.raw"), *base = image_path("base.img");
		const char *mid = image_path("mid.qcow2"), *top = image_path("top.qcow2");
		struct copy c = copy_new(SIZE, i + 10), below = copy_new(SIZE, 0);

		/* The base is shorter than what stands on it. */
		image_pattern(c.data, 15 * MiB, 0, 200 + i);
		write_file(raw, c.data, 15 * MiB);
		assert_int_equal(image_shell("qemu-img convert -O %s %s %s", formats_of_base[i & 1],
					 raw, base),
			0);
		assert_int_equal(
			image_shell("qemu-img create -q -f qcow2 -o compat=%s -F %s -b %s %s"
				    " %llu",
				compat[i / 2], formats_of_base[i & 1], base, mid, SIZE),
			0);
		operate(mid, &c, 60, &unsafe);
		is_clean(mid);
		is_equal(mid, &c);
		memcpy(below.data, c.data, SIZE);
		assert_int_equal(
			image_shell("qemu-img create -q -f qcow2 -o compat=%s,cluster_size=4k"
				    " -F qcow2 -b mid.qcow2 %s",
				compat[i / 2], top),
			0);
		operate(top, &c, 100, &unsafe);
		is_clean(top);
		is_equal(top, &c);
		is_equal(mid, &below);
		free(c.data);
		free(below.data);
	}
}

/* Three files by their descriptors. */
static void a_backing_chain_is_handed_over(void **state)
{
	const char *base = image_path("chain.raw"), *mid = image_path("chain-mid.qcow2");
	const char *top = image_path("chain-top.qcow2");
	struct block_options o = { .format = "qcow2" };
	struct block_files f;
	struct err err = { 0 };
	static u8 want[MiB], have[MiB];
	struct block *b;

	if (NO_TOOLS())
		skip();
	image_pattern(want, sizeof(want), 0, 7);
	write_file(base, want, sizeof(want));
	assert_int_equal(image_shell("qemu-img create -q -f qcow2 -F raw -b %s %s", base, mid), 0);
	assert_int_equal(image_shell("qemu-img create -q -f qcow2 -o lazy_refcounts=on -F qcow2 -b "
				     "chain-mid.qcow2 %s",
				 top),
		0);
	assert_int_equal(block_files_open(&f, top, &o, &err), 0);
	assert_int_equal(f.count, 3);
	o.files = &f;
	assert_int_equal(block_open_empty(&b, &err), 0);
	if (block_insert(b, top, &o, &err))
		fail_msg("%s", err.text);
	block_files_close(&f);
	assert_int_equal(block_read(b, 0, have, sizeof(have)), 0);
	assert_memory_equal(have, want, sizeof(have));
	memset(want + 4096, 0x77, 4096);
	assert_int_equal(block_write(b, 4096, want + 4096, 4096), 0);
	assert_int_equal(block_read(b, 0, have, sizeof(have)), 0);
	assert_memory_equal(have, want, sizeof(have));
	image_close(b);
	is_clean(top);
}

static void packed_clusters_are_read_and_replaced(void **state)
{
	static const char *const kinds[] = { "zlib", "zstd", "zlib,cluster_size=2M",
		"zstd,cluster_size=16k", "zlib,cluster_size=4k" };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *raw = image_path("p.raw"), *path = image_path("p.qcow2");
		struct copy c = copy_new(SIZE, i + 30);

		for (u64 at = 0; at < SIZE; at += 512) /* compressible */
			memset(c.data + at, (int)(at >> 13) * 7 + (int)(at & 512 ? 1 : 0), 512);
		write_file(raw, c.data, SIZE);
		assert_int_equal(
			image_shell("qemu-img convert -c -O qcow2 -o compression_type=%s %s"
				    " %s",
				kinds[i], raw, path),
			0);
		operate(path, &c, 100, &unsafe);
		is_clean(path);
		is_equal(path, &c);
		free(c.data);
	}
}

static void snapshots_keep_what_they_saw(void **state)
{
	const char *path = image_path("s.qcow2");
	struct copy c = copy_new(SIZE, 77), first = copy_new(SIZE, 0), second = copy_new(SIZE, 0);

	if (NO_TOOLS())
		skip();
	assert_int_equal(image_shell("qemu-img create -q -f qcow2 %s %llu", path, SIZE), 0);
	operate(path, &c, 60, NULL);
	memcpy(first.data, c.data, SIZE);
	assert_int_equal(image_shell("qemu-img snapshot -c one %s", path), 0);
	operate(path, &c, 60, NULL);
	memcpy(second.data, c.data, SIZE);
	is_clean(path);
	assert_int_equal(image_shell("qemu-img snapshot -c two %s", path), 0);
	operate(path, &c, 60, NULL);
	is_clean(path);
	is_equal(path, &c);
	assert_int_equal(image_shell("qemu-img snapshot -a one %s", path), 0);
	is_equal(path, &first);
	assert_int_equal(image_shell("qemu-img snapshot -a two %s", path), 0);
	is_equal(path, &second);
	free(c.data);
	free(first.data);
	free(second.data);
}

/* ---- ends without closing ---- */

static void what_nobody_closed_is_put_right_when_opened(void **state)
{
	static const char *const kinds[] = { "compat=1.1", "compat=0.10", "lazy_refcounts=on" };
	const u8 wrong[2] = { 0, 7 };

	if (NO_TOOLS())
		skip();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = image_path("left.qcow2");
		struct copy c = { mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
					  MAP_SHARED | MAP_ANONYMOUS, -1, 0),
			SIZE, i + 70 };

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 -o %s %s %llu", kinds[i],
					 path, SIZE),
			0);
		pid_t child = fork();

		if (!child) {
			struct block *b = image_open(path, NULL);
			u8 *buf = malloc(LEN_MAX);

			for (unsigned k = 0; k < 100; k++)
				one_operation(b, &c, buf, k);
			_exit(block_flush(b) ? 1 : 0);
		}
		waitpid(child, NULL, 0);
		is_clean(path); /* flushed: nothing is even leaked */
		is_equal(path, &c);
		/* As if it had ended between counting and referring: cluster 3 is counted too
		 * often. The block of refcounts is cluster 2. */
		int fd = open(path, O_RDWR | O_CLOEXEC);

		assert_int_equal(io_pwrite(fd, wrong, sizeof(wrong), 2 * 65536 + 6), 0);
		close(fd);
		assert_int_not_equal(image_shell("qemu-img check -q %s", path), 0);
		operate(path, &c, 100, NULL);
		is_clean(path);
		is_equal(path, &c);
		munmap(c.data, SIZE);
	}
}

/* A limit to the size of files stands for a full disk. */
static void note_end(struct block_request *r, int rc) { *(int *)r->ctx = rc; }

static void reap_once(struct block *b)
{
	struct pollfd p = { .fd = block_event(b), .events = POLLIN };

	block_kick(b);
	assert_int_equal(poll(&p, 1, 60000), 1);
	block_reap(b);
}

/* Kept while the host is full, done when it no longer is; who drains does not wait for that. */
static void requests_wait_for_room(void **state)
{
	static const char *const kinds[] = { "qcow2", "raw" };
	struct rlimit full, usual;

	signal(SIGXFSZ, SIG_IGN);
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = image_path("room");
		struct block_options options = { .format = kinds[i], .wait_for_room = true };
		static u8 data[64 * KiB], found[64 * KiB];
		struct iovec v = { data, sizeof(data) };
		int ends[2] = { 1, 1 };
		struct block_request r[2];

		if (image_shell("qemu-img create -q -f %s %s 16M", kinds[i], path))
			skip();
		struct block *b = image_open(path, &options);

		image_pattern(data, sizeof(data), 0, 7);
		assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
		full = (struct rlimit){ 64 * KiB, usual.rlim_max };
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
		for (unsigned n = 0; n < 2; n++) {
			r[n] = (struct block_request){ .op = BLOCK_WRITE,
				.offset = (8 + n) * MiB,
				.len = sizeof(data),
				.iov = &v,
				.iovcnt = 1,
				.done = note_end,
				.ctx = &ends[n] };
			block_submit(b, &r[n]);
			while (block_stuck(b) < n + 1)
				reap_once(b);
		}
		block_retry(b);
		reap_once(b);
		assert_int_equal(block_stuck(b), 2);
		assert_int_equal(ends[0], 1);
		setrlimit(RLIMIT_FSIZE, &usual);
		/* One may still be on its way back from before there was room. */
		while (block_stuck(b)) {
			block_retry(b);
			reap_once(b);
		}
		assert_int_equal(ends[0], 0);
		assert_int_equal(ends[1], 0);
		assert_int_equal(block_read(b, 9 * MiB, found, sizeof(found)), 0);
		assert_memory_equal(found, data, sizeof(data));
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
		r[0].offset = 12 * MiB;
		block_submit(b, &r[0]);
		block_drain(b);
		assert_int_equal(ends[0], -EFBIG);
		assert_int_equal(block_stuck(b), 0);
		setrlimit(RLIMIT_FSIZE, &usual);
		image_close(b);
	}
}

static void a_write_that_the_host_has_no_room_for_fails_and_nothing_else(void **state)
{
	const char *path = image_path("full.qcow2");
	struct copy c = copy_new(SIZE, 9);
	struct rlimit full, usual;
	u8 *buf = malloc(LEN_MAX);
	struct stat st;
	unsigned failed = 0;

	if (NO_TOOLS())
		skip();
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(image_shell("qemu-img create -q -f qcow2 %s %llu", path, SIZE), 0);
	struct block *b = image_open(path, NULL);

	for (unsigned i = 0; i < 40; i++)
		one_operation(b, &c, buf, i);
	assert_int_equal(block_flush(b), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
	full = (struct rlimit){ (rlim_t)st.st_size + 100000, usual.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
	for (u64 at = 0; at < SIZE - 64 * KiB; at += 64 * KiB) {
		image_pattern(buf, 64 * KiB, at, 99);
		if (block_write(b, at, buf, 64 * KiB))
			failed++; /* it shows what there was */
		else
			memcpy(c.data + at, buf, 64 * KiB);
	}
	assert_true(failed > 10);
	setrlimit(RLIMIT_FSIZE, &usual);
	for (unsigned i = 0; i < 60; i++)
		one_operation(b, &c, buf, i);
	image_close(b);
	is_clean(path);
	is_equal(path, &c);
	free(buf);
	free(c.data);
}

static void check_finds_and_repairs(void **state)
{
	const char *path = image_path("r.qcow2");
	const struct block_options o = { .no_repair = true, .no_backing = true };
	struct copy c = copy_new(SIZE, 5);
	struct block_check found = { 0 };
	struct err err = { 0 };
	struct node *n;
	u8 wrong[2] = { 0, 7 }, none[2] = { 0, 0 };

	if (NO_TOOLS())
		skip();
	assert_int_equal(image_shell("qemu-img create -q -f qcow2 %s %llu", path, SIZE), 0);
	operate(path, &c, 60, NULL);
	/* Refcounts of clusters 6 and 7; the block of refcounts is cluster 2. */
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_int_equal(io_pwrite(fd, wrong, 2, 2 * 65536 + 12), 0);
	assert_int_equal(io_pwrite(fd, none, 2, 2 * 65536 + 14), 0);
	close(fd);
	assert_int_not_equal(image_shell("qemu-img check -q %s", path), 0);
	assert_int_equal(node_open(&n, path, &o, &err), 0);
	assert_int_equal(qcow2_format.check(n, false, &found, &err), 0);
	assert_int_equal(found.leaks, 1);
	assert_true(found.errors >= 1);
	memset(&found, 0, sizeof(found));
	assert_int_equal(qcow2_format.check(n, true, &found, &err), 0);
	assert_int_equal(found.errors, 0);
	assert_true(found.repaired >= 2);
	assert_int_equal(node_close(n), 0);
	is_clean(path);
	is_equal(path, &c);
	free(c.data);
}

static void resizing_keeps_what_is_there(void **state)
{
	const char *path = image_path("z.qcow2");
	static const u64 sizes[] = { 21 * MiB, 900 * MiB, 7 * MiB + 512, 40 * MiB };
	struct copy c = copy_new(900 * MiB, 6);
	struct err err = { 0 };
	struct node *n;

	if (NO_TOOLS())
		skip();
	assert_int_equal(
		image_shell("qemu-img create -q -f qcow2 -o cluster_size=4k %s %llu", path, SIZE),
		0);
	c.size = SIZE;
	operate(path, &c, 60, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		u64 kept = min_u64(c.size, sizes[i]);

		assert_int_equal(node_open(&n, path, &(struct block_options){ 0 }, &err), 0);
		if (qcow2_format.resize(n, sizes[i], &err))
			fail_msg("%s", err.text);
		assert_int_equal(node_close(n), 0);
		memset(c.data + kept, 0, 900 * MiB - kept);
		c.size = sizes[i];
		is_clean(path);
		operate(path, &c, 20, NULL);
		is_clean(path);
		if (c.size < 100 * MiB)
			is_equal(path, &c);
	}
	free(c.data);
}

/* ---- bad images ---- */

static void damaged_headers_are_refused_in_one_line(void **state)
{
	static const struct {
		u32 at;
		u8 len, bytes[8];
		const char *words;
	} rows[] = {
		{ 4, 4, { 0, 0, 0, 9 }, "version" },
		{ 20, 4, { 0, 0, 0, 30 }, "cluster size" },
		{ 24, 8, { 0x10 }, "too short" },
		{ 32, 4, { 0, 0, 0, 1 }, "encrypted" },
		{ 36, 4, { 0xff, 0xff, 0xff, 0xff }, "too large" },
		{ 36, 4, { 0, 0x3f, 0, 0 }, "outside" },
		{ 40, 8, { 0, 0, 0, 0, 0, 0, 1, 0 }, "outside" },
		{ 48, 8, { 0x7f }, "outside" },
		{ 56, 4, { 0xff, 0xff, 0xff, 0xff }, "impossible size" },
		{ 60, 4, { 0xff, 0xff, 0xff, 0xff }, "snapshots" },
		{ 72, 8, { 0x80 }, "incompatible" },
		{ 72, 8, { 0, 0, 0, 0, 0, 0, 0, 4 }, "another file" },
		{ 72, 8, { 0, 0, 0, 0, 0, 0, 0, 2 }, "corrupt" },
		{ 96, 4, { 0, 0, 0, 7 }, "refcounts" },
		{ 100, 4, { 0, 0, 0, 7 }, "header" },
	};
	const struct block_create create = { .size = SIZE };

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		const char *path = image_path("bad.qcow2");
		int fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
		struct err err = { 0 };

		assert_int_equal(qcow2_format.create(fd, &create, &err), 0);
		assert_int_equal(io_pwrite(fd, rows[i].bytes, rows[i].len, rows[i].at), 0);
		close(fd);
		const char *text =
			image_refused(path, &(struct block_options){ .format = "qcow2" });

		if (!strstr(text, rows[i].words))
			fail_msg("row %u: %s", i, text);
	}
}

static void a_chain_that_bites_its_tail_is_refused(void **state)
{
	const struct block_create a = { .size = SIZE, .backing = "b.qcow2" };
	const struct block_create b = { .size = SIZE, .backing = "a.qcow2" };
	const struct block_create *both[] = { &a, &b };
	static const char *const names[] = { "a.qcow2", "b.qcow2" };
	struct err err = { 0 };

	for (unsigned i = 0; i < 2; i++) {
		int fd = open(image_path(names[i]), O_CREAT | O_RDWR | O_CLOEXEC, 0600);

		assert_int_equal(qcow2_format.create(fd, both[i], &err), 0);
		close(fd);
	}
	const char *text =
		image_refused(image_path("a.qcow2"), &(struct block_options){ .readonly = true });

	assert_non_null(strstr(text, "backing file"));
	assert_non_null(strstr(image_refused(image_path("a.qcow2"), NULL), "a.qcow2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_of_each_kind_hold_what_is_written),
		cmocka_unit_test(each_cache_mode_holds_what_is_written),
		cmocka_unit_test(our_own_images_are_good),
		cmocka_unit_test(freed_clusters_are_used_again),
		cmocka_unit_test(requests_at_once_do_not_disturb_each_other),
		cmocka_unit_test(a_backing_chain_is_read_and_never_written),
		cmocka_unit_test(a_backing_chain_is_handed_over),
		cmocka_unit_test(packed_clusters_are_read_and_replaced),
		cmocka_unit_test(snapshots_keep_what_they_saw),
		cmocka_unit_test(what_nobody_closed_is_put_right_when_opened),
		cmocka_unit_test(a_write_that_the_host_has_no_room_for_fails_and_nothing_else),
		cmocka_unit_test(check_finds_and_repairs),
		cmocka_unit_test(resizing_keeps_what_is_there),
		cmocka_unit_test(damaged_headers_are_refused_in_one_line),
		cmocka_unit_test(a_chain_that_bites_its_tail_is_refused),
		cmocka_unit_test(requests_wait_for_room),
	};

	return cmocka_run_group_tests(tests, NULL, image_cleanup);
}
