/*
 * Disk images are hostile files. The first byte of an input says what to start from: nothing, or a
 * good image of a format, which the input then edits. What can be opened is read, written, flushed,
 * checked and repaired; all of that may fail and none of it may do worse.
 */
#include "base/bits.h"
#include "base/log.h"
#include "block/format.h"
#include "block_images.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

#define EDIT_SIZE 4u
#define EDITS_MAX 50u
#define PIECE	  (64 * KiB)

static void edit(int fd, const struct block_image *i, const u8 *e)
{
	u64 at = i->places[e[0] % IMAGES_PLACES] + e[1] * (e[0] & 0x80 ? 8ull : 1ull) + (e[2] & 7);

	if (pwrite(fd, &e[3], 1, (off_t)at) < 0)
		abort();
}

static void use(struct node *n)
{
	static u8 buf[PIECE];
	struct iovec v = { buf, PIECE };
	u64 step = max_u64(PIECE, n->size / 16 & ~511ull);

	for (u64 at = 0; at < n->size; at += step) {
		u64 len = min_u64(PIECE, n->size - at);
		struct extent e;
		struct node *in;

		if (!node_map(n, at, n->size - at, true, &in, &e) &&
			(!e.len || e.len > n->size - at))
			abort();
		if (node_read_buf(n, at, buf, len))
			continue;
		if (!n->writable)
			continue;
		v.iov_len = len;
		if (!n->format->write(n, at, &v, 1, len) && n->format->flush && n->format->flush(n))
			continue;
		if (n->format->drop(n, at, len / 2 & ~511ull, at & 1))
			continue;
	}
}

static void try_open(const char *path, const struct block_options *o)
{
	struct block_check c = { 0 };
	struct err err = { 0 };
	struct node *n;

	if (node_open(&n, path, o, &err)) {
		if (!err.text[0] || strchr(err.text, '\n'))
			abort();
		return;
	}
	if (o->no_repair && n->format->check) {
		if (n->format->check(n, n->writable, &c, &err) && !err.text[0])
			abort();
	} else {
		use(n);
	}
	if (node_close(n))
		return;
}

static void once(void)
{
	/* Writes at impossible offsets fail instead of filling the host's memory. */
	struct rlimit file = { 64 * MiB, 64 * MiB };

	setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);
	log_set_level(LOG_ERR);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct block_options ways[] = { { .readonly = true },
		{ .cache = BLOCK_UNSAFE }, { .readonly = true, .no_repair = true },
		{ .cache = BLOCK_UNSAFE, .no_repair = true },
		{ .readonly = true, .no_backing = true } };
	static bool ready;
	char path[32];
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (!ready)
		once();
	ready = true;
	if (fd < 0 || !size)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	unsigned start = data[0] % (block_images_count + 1), way = data[0] / 8 % ARRAY_LEN(ways);

	if (start == block_images_count) {
		if (pwrite(fd, data + 1, size - 1, 0) < 0)
			abort();
	} else {
		const struct block_image *image = &block_images[start];

		image->make(fd, path);
		for (size_t i = 1; i + EDIT_SIZE <= size && i < EDITS_MAX * EDIT_SIZE;
			i += EDIT_SIZE)
			edit(fd, image, data + i);
	}
	try_open(path, &ways[way]);
	close(fd);
	return 0;
}
