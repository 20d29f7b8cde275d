/*
 * Reading a saved state. A random file hardly gets beyond its first checksum, so inputs are edits
 * of a good file, after which the checksums are made right again more often than not: what is then
 * accepted holds what its tables say, and what is refused is refused with words.
 */
#include "../unit/saved/saved_file.h"
#include "base/crc32c.h"
#include "saved/saved_priv.h"
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct image {
	u8 *bytes;
	size_t len;
};

static struct image good;

static void make_good(void)
{
	int fd = saved_file_make();
	struct stat st;

	must(!fstat(fd, &st), "size");
	good.len = (size_t)st.st_size;
	good.bytes = malloc(good.len);
	must(good.bytes && pread(fd, good.bytes, good.len, 0) == (ssize_t)good.len, "a good one");
	close(fd);
}

/* Of what the head says, wherever that may be now. */
static void sum_again(u8 *bytes, size_t len)
{
	struct saved_head *h = (void *)bytes;

	for (unsigned i = 0; i < SAVED_PARTS_MAX; i++) {
		struct saved_part_at *p = &h->parts[i];

		if (p->at <= len && p->len <= len - p->at)
			p->crc = crc32c(0, bytes + p->at, p->len);
	}
	h->crc = crc32c(0, h, offsetof(struct saved_head, crc));
}

/* Triples of bytes: where, in 256ths of a part's or the head's length and beyond, and what to add
 * there. The head's first entries and the tables behind the chunks are what matters. */
static void edit(u8 *bytes, size_t len, const u8 *data, size_t size)
{
	for (size_t i = 0; i + 2 < size && i < 30; i += 3) {
		size_t at = data[i] < 128
				    ? data[i] * 2u + data[i + 1] % 2
				    : len - 1 - ((data[i] & 127u) * 2 + data[i + 1] % 2) % len;

		bytes[at % len] += data[i + 2];
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct err err;

	if (!good.bytes)
		make_good();
	if (!size)
		return 0;
	u8 *bytes = malloc(good.len);
	int fd = saved_file_open();
	size_t len = data[0] & 1 ? good.len : good.len * data[0] / 256;

	must(bytes, "memory");
	memcpy(bytes, good.bytes, good.len);
	edit(bytes, good.len, data + 1, size - 1);
	if (data[0] & 2)
		sum_again(bytes, good.len);
	must(pwrite(fd, bytes, len, 0) == (ssize_t)len, "writing");
	(void)!saved_file_read(fd, &err);
	close(fd);
	free(bytes);
	return 0;
}
