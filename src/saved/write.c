/* Making a saved state. Everything is appended, but for the head. */
#include "base/bits.h"
#include "base/crc32c.h"
#include "saved/saved_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zstd.h>

/* The fastest that still halves what a system's memory holds. */
#define LEVEL 1

struct saved_out {
	int fd, rc;
	u64 at;
	struct saved_head head;
	struct saved_region regions[SAVED_REGIONS_MAX];
	unsigned region_count;
	struct saved_chunk *chunks;
	size_t chunk_count, chunk_room;
	ZSTD_CCtx *zstd;
	size_t packed_size;
	u8 *packed;
	u8 pages[SAVED_CHUNK]; /* those that are not zeroes, side by side */
};

struct saved_out *saved_begin(int fd, const struct saved_region *regions, unsigned count)
{
	struct saved_out *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->fd = fd;
	o->at = SAVED_HEAD_SIZE;
	o->region_count = (unsigned)min_u64(count, SAVED_REGIONS_MAX);
	memcpy(o->regions, regions, o->region_count * sizeof(*regions));
	o->zstd = ZSTD_createCCtx();
	o->packed_size = ZSTD_compressBound(SAVED_CHUNK);
	o->packed = malloc(o->packed_size);
	if (!o->zstd || !o->packed) {
		saved_end(o);
		return NULL;
	}
	return o;
}

void saved_end(struct saved_out *o)
{
	if (!o)
		return;
	ZSTD_freeCCtx(o->zstd);
	free(o->chunks);
	free(o->packed);
	free(o);
}

/* vectored, as all writing of the monitor's is: one row in the sandbox's table */
int saved_write_at(int fd, const void *data, size_t len, u64 at)
{
	for (size_t done = 0; done < len;) {
		struct iovec iov = { (u8 *)(uintptr_t)data + done, len - done };
		ssize_t n = pwritev(fd, &iov, 1, (off_t)(at + done));

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int append(struct saved_out *o, const void *data, size_t len)
{
	if (!o->rc)
		o->rc = saved_write_at(o->fd, data, len, o->at);
	o->at += len;
	return o->rc;
}

int saved_put(struct saved_out *o, const char *name, const void *data, size_t len)
{
	struct saved_part_at *p = &o->head.parts[o->head.part_count];

	if (o->head.part_count == SAVED_PARTS_MAX)
		return o->rc = o->rc ? o->rc : -E2BIG;
	o->head.part_count++;
	*p = (struct saved_part_at){ .at = o->at, .len = len, .crc = crc32c(0, data, len) };
	memcpy(p->name, name, min_u64(strlen(name), SAVED_NAME_SIZE - 1));
	return append(o, data, len);
}

static bool is_zero(const u8 *page)
{
	return !get_le64(page) && !memcmp(page, page + 8, PAGE_SIZE - 8);
}

/* Brings the pages that are not zeroes together; how many bytes. */
static size_t gather(struct saved_out *o, struct saved_chunk *c, const u8 *data, size_t len)
{
	size_t used = 0;

	for (unsigned i = 0; i < len / PAGE_SIZE; i++) {
		const u8 *page = data + i * PAGE_SIZE;

		if (is_zero(page))
			continue;
		c->pages[i / 64] |= BIT64(i % 64);
		memcpy(o->pages + used, page, PAGE_SIZE);
		used += PAGE_SIZE;
	}
	return used;
}

static int note_chunk(struct saved_out *o, const struct saved_chunk *c)
{
	if (o->chunk_count == o->chunk_room) {
		size_t room = o->chunk_room ? 2 * o->chunk_room : 256;
		void *more = realloc(o->chunks, room * sizeof(*o->chunks));

		if (!more)
			return o->rc = -ENOMEM;
		o->chunks = more;
		o->chunk_room = room;
	}
	o->chunks[o->chunk_count++] = *c;
	return 0;
}

int saved_put_chunk(struct saved_out *o, unsigned region, u64 chunk, const u8 *data, size_t len)
{
	struct saved_chunk c = { .at = o->at, .region = region, .number = chunk };
	size_t used = o->rc ? 0 : gather(o, &c, data, len);

	if (!used)
		return o->rc;
	size_t n = ZSTD_compressCCtx(o->zstd, o->packed, o->packed_size, o->pages, used, LEVEL);

	if (ZSTD_isError(n))
		return o->rc = -ENOMEM;
	c.len = (u32)n;
	c.crc = crc32c(0, o->packed, n);
	return note_chunk(o, &c) ? o->rc : append(o, o->packed, n);
}

int saved_finish(struct saved_out *o, u64 id)
{
	struct saved_head *h = &o->head;

	(void)!saved_put(o, SAVED_REGIONS, o->regions, o->region_count * sizeof(*o->regions));
	(void)!saved_put(o, SAVED_MEMORY, o->chunks, o->chunk_count * sizeof(*o->chunks));
	memcpy(h->magic, SAVED_MAGIC, sizeof(h->magic));
	h->version = SAVED_VERSION;
	h->id = id;
	h->size = o->at;
	h->crc = crc32c(0, h, offsetof(struct saved_head, crc));
	if (!o->rc && fdatasync(o->fd))
		o->rc = -errno;
	if (!o->rc)
		o->rc = saved_write_at(o->fd, h, sizeof(*h), 0);
	if (!o->rc && fdatasync(o->fd))
		o->rc = -errno;
	return o->rc;
}
