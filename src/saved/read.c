/* Reading a saved state, which anybody may have made. */
#include "base/bits.h"
#include "base/crc32c.h"
#include "base/scope.h"
#include "os/thread.h"
#include "saved/saved_priv.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define THREADS_MAX 8u

struct saved {
	int fd;
	struct saved_head head;
	struct saved_region *regions;
	struct saved_chunk *chunks;
	unsigned region_count;
	size_t chunk_count, chunk_max; /* the longest, as it is in the file */
};

static int read_at(int fd, void *to, size_t len, u64 at)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (u8 *)to + done, len - done, (off_t)(at + done));

		if (n == 0)
			return -ENODATA;
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

static int cannot_read(int rc, struct err *err)
{
	return rc == -ENODATA ? err_set(err, -EINVAL, "the saved state is cut off")
			      : err_set(err, rc, "%s", strerror(-rc));
}

static int damaged(const char *what, struct err *err)
{
	return err_set(err, -EINVAL, "the saved state is damaged: %s", what);
}

/* ---- the head and the tables ---- */

static int read_head(struct saved *s, u64 size, struct err *err)
{
	struct saved_head *h = &s->head;
	int rc = read_at(s->fd, h, sizeof(*h), 0);

	if (rc == -ENODATA || (!rc && memcmp(h->magic, SAVED_MAGIC, sizeof(h->magic)) != 0))
		return err_set(err, -EINVAL,
			"this is no saved state, or one whose saving did not come to its end");
	if (rc)
		return cannot_read(rc, err);
	if (h->crc != crc32c(0, h, offsetof(struct saved_head, crc)))
		return damaged("its head", err);
	if (h->version != SAVED_VERSION)
		return err_set(err, -EINVAL,
			"the saved state has version %u, and this strata knows up to %u: it was "
			"made by a newer one",
			h->version, SAVED_VERSION);
	if (size < h->size)
		return err_set(err, -EINVAL,
			"the saved state is cut off: %llu of %llu bytes are there",
			(unsigned long long)size, (unsigned long long)h->size);
	if (size > h->size)
		return damaged("there is more behind its end", err);
	return h->part_count > SAVED_PARTS_MAX ? damaged("its list of parts", err) : 0;
}

static int check_parts(const struct saved *s, struct err *err)
{
	for (unsigned i = 0; i < s->head.part_count; i++) {
		const struct saved_part_at *p = &s->head.parts[i];

		if (p->name[SAVED_NAME_SIZE - 1] || p->len > SAVED_PART_MAX ||
			!range_ok(p->at, p->len, s->head.size))
			return damaged("its list of parts", err);
	}
	return 0;
}

u8 *saved_part(const struct saved *s, const char *name, size_t *len, struct err *err)
{
	const struct saved_part_at *p = s->head.parts;

	while (p < s->head.parts + s->head.part_count && strcmp(p->name, name))
		p++;
	if (p == s->head.parts + s->head.part_count) {
		err_set(err, -EINVAL, "the saved state has no part %s", name);
		return NULL;
	}
	AUTO_FREE u8 *data = calloc(1, p->len + 1);
	int rc = data ? read_at(s->fd, data, p->len, p->at) : -ENOMEM;

	if (rc) {
		cannot_read(rc, err);
		return NULL;
	}
	if (crc32c(0, data, p->len) != p->crc) {
		damaged(p->name, err);
		return NULL;
	}
	*len = p->len;
	return steal_ptr(&data);
}

/* A part that is a list of things of that size. */
static int read_list(const struct saved *s, const char *name, size_t each, void *list,
	size_t *count, struct err *err)
{
	size_t len;
	u8 *data = saved_part(s, name, &len, err);

	if (!data)
		return err->code;
	memcpy(list, &data, sizeof(data));
	*count = len / each;
	return len % each ? damaged(name, err) : 0;
}

static int check_regions(const struct saved *s, struct err *err)
{
	for (unsigned i = 0; i < s->region_count; i++) {
		const struct saved_region *r = &s->regions[i];

		if (r->name[SAVED_NAME_SIZE - 1] || !r->size || r->size > SAVED_MEMORY_MAX ||
			r->size % PAGE_SIZE)
			return damaged(SAVED_REGIONS, err);
	}
	return 0;
}

static unsigned page_count(const struct saved_chunk *c)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_LEN(c->pages); i++)
		n += (unsigned)__builtin_popcountll(c->pages[i]);
	return n;
}

/* One more than the last page that it has. */
static unsigned page_end(const struct saved_chunk *c)
{
	for (unsigned i = ARRAY_LEN(c->pages); i-- > 0;)
		if (c->pages[i])
			return i * 64 + 64 - (unsigned)__builtin_clzll(c->pages[i]);
	return 0;
}

static bool chunk_fits(const struct saved *s, const struct saved_chunk *c)
{
	if (c->region >= s->region_count || !page_count(c) || !c->len ||
		c->len > ZSTD_COMPRESSBOUND(SAVED_CHUNK) ||
		!range_ok(c->at, c->len, s->head.size) ||
		c->number >= SAVED_MEMORY_MAX / SAVED_CHUNK)
		return false;
	return range_ok(
		c->number * SAVED_CHUNK, page_end(c) * PAGE_SIZE, s->regions[c->region].size);
}

/* In order, so that none is there twice: their memory is filled without a lock. */
static int check_chunks(struct saved *s, struct err *err)
{
	for (size_t i = 0; i < s->chunk_count; i++) {
		const struct saved_chunk *c = &s->chunks[i], *before = c - 1;

		if (!chunk_fits(s, c) ||
			(i && (c->region < before->region || (c->region == before->region &&
								     c->number <= before->number))))
			return damaged(SAVED_MEMORY, err);
		s->chunk_max = max_u64(s->chunk_max, c->len);
	}
	return 0;
}

static int read_tables(struct saved *s, struct err *err)
{
	size_t count = 0;
	int rc = read_list(s, SAVED_REGIONS, sizeof(*s->regions), &s->regions, &count, err);

	if (!rc && (!count || count > SAVED_REGIONS_MAX))
		rc = damaged(SAVED_REGIONS, err);
	s->region_count = rc ? 0 : (unsigned)count;
	rc = rc ? rc : check_regions(s, err);
	rc = rc ? rc
		: read_list(s, SAVED_MEMORY, sizeof(*s->chunks), &s->chunks, &s->chunk_count, err);
	return rc ? rc : check_chunks(s, err);
}

int saved_open(struct saved **out, int fd, struct err *err)
{
	struct saved *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s)
		return err_set(err, -ENOMEM, "no memory for the saved state");
	s->fd = fd;
	int rc = fstat(fd, &st) ? cannot_read(-errno, err) : 0;

	if (!rc && !S_ISREG(st.st_mode))
		rc = err_set(err, -EINVAL, "a saved state is a file");
	rc = rc ? rc : read_head(s, (u64)st.st_size, err);
	rc = rc ? rc : check_parts(s, err);
	rc = rc ? rc : read_tables(s, err);
	if (rc)
		saved_close(s);
	else
		*out = s;
	return rc;
}

void saved_close(struct saved *s)
{
	if (!s)
		return;
	free(s->regions);
	free(s->chunks);
	free(s);
}

u64 saved_id(const struct saved *s) { return s->head.id; }

unsigned saved_regions(const struct saved *s, const struct saved_region **regions)
{
	*regions = s->regions;
	return s->region_count;
}

u64 saved_bytes(const struct saved *s)
{
	u64 pages = 0;

	for (size_t i = 0; i < s->chunk_count; i++)
		pages += page_count(&s->chunks[i]);
	return pages * PAGE_SIZE;
}

/* ---- memory ---- */

static int read_chunk(
	const struct saved *s, const struct saved_chunk *c, u8 *packed, struct err *err)
{
	int rc = read_at(s->fd, packed, c->len, c->at);

	if (rc)
		return cannot_read(rc, err);
	return crc32c(0, packed, c->len) == c->crc ? 0 : damaged("memory", err);
}

/* What threads share that go over the chunks, each taking the next one. */
struct load {
	const struct saved *s;
	const int *fds; /* NULL: they are only checked */
	void (*progress)(void *ctx, u64 done, u64 total);
	void *ctx;
	_Atomic size_t next;
	_Atomic bool failed;
};

struct loader {
	struct load *load;
	pthread_t thread;
	bool started;
	ZSTD_DCtx *zstd;
	u8 *packed, *pages;
	struct err err;
};

static bool has(const struct saved_chunk *c, unsigned page)
{
	return page < SAVED_PAGES && c->pages[page / 64] & BIT64(page % 64);
}

/* Written to the file, not to a mapping of it: a page that is written whole is neither cleared nor
 * faulted in first. */
static int spread(const struct saved_chunk *c, const u8 *pages, int fd)
{
	for (unsigned i = 0, n; i < SAVED_PAGES; i += n) {
		for (n = 0; has(c, i + n);)
			n++;
		u64 at = c->number * SAVED_CHUNK + (u64)i * PAGE_SIZE;
		int rc = n ? saved_write_at(fd, pages, n * PAGE_SIZE, at) : 0;

		if (rc)
			return rc;
		pages += n * PAGE_SIZE;
		n = n ? n : 1;
	}
	return 0;
}

static int load_chunk(struct loader *l, const struct saved_chunk *c)
{
	const struct load *load = l->load;
	size_t want = (size_t)page_count(c) * PAGE_SIZE;

	if (read_chunk(load->s, c, l->packed, &l->err) || !load->fds)
		return l->err.code;
	if (ZSTD_decompressDCtx(l->zstd, l->pages, want, l->packed, c->len) != want)
		return damaged("memory", &l->err);
	int rc = spread(c, l->pages, load->fds[c->region]);

	return rc ? err_set(&l->err, rc, "memory: %s", strerror(-rc)) : 0;
}

static void *load_chunks(void *ctx)
{
	struct loader *l = ctx;
	struct load *load = l->load;
	size_t i, total = load->s->chunk_count;

	while (!atomic_load(&load->failed) && (i = atomic_fetch_add(&load->next, 1)) < total) {
		if (load_chunk(l, &load->s->chunks[i]))
			atomic_store(&load->failed, true);
		/* By the caller's thread alone. */
		if (load->progress && !l->started)
			load->progress(load->ctx, i, total);
	}
	return NULL;
}

static bool prepare(struct loader *l, struct load *load)
{
	l->load = load;
	l->packed = malloc(load->s->chunk_max + 1);
	if (!load->fds)
		return l->packed;
	l->zstd = ZSTD_createDCtx();
	l->pages = malloc(SAVED_CHUNK);
	return l->zstd && l->packed && l->pages;
}

static unsigned how_many(unsigned threads)
{
	long n = threads ? (long)threads : sysconf(_SC_NPROCESSORS_ONLN);

	return n > 0 ? (unsigned)min_u64((u64)n, THREADS_MAX) : 1;
}

static int over_chunks(struct load *load, unsigned threads, struct err *err)
{
	struct loader loaders[THREADS_MAX] = { 0 };
	unsigned count = 0;
	int rc = 0;

	threads = how_many(threads);
	for (; count < threads && !rc; count++)
		if (!prepare(&loaders[count], load))
			rc = err_set(err, -ENOMEM, "no memory for the saved state");
	/* This thread is the first of them; a helper that cannot be had is done without. */
	for (unsigned i = 1; i < count && !rc; i++) {
		loaders[i].started = true;
		if (thread_start(
			    &loaders[i].thread, "load", load_chunks, &loaders[i], &loaders[i].err))
			loaders[i].started = false;
	}
	if (!rc)
		load_chunks(&loaders[0]);
	for (unsigned i = 0; i < count; i++) {
		struct loader *l = &loaders[i];

		if (l->started)
			pthread_join(l->thread, NULL);
		if (!rc && (l->started || !i) && l->err.code) {
			*err = l->err;
			rc = err->code;
		}
		ZSTD_freeDCtx(l->zstd);
		free(l->packed);
		free(l->pages);
	}
	return rc;
}

int saved_check(const struct saved *s, unsigned threads,
	void (*progress)(void *ctx, u64 done, u64 total), void *ctx, struct err *err)
{
	struct load load = { .s = s, .progress = progress, .ctx = ctx };
	size_t len;

	for (unsigned i = 0; i < s->head.part_count; i++) {
		AUTO_FREE u8 *data = saved_part(s, s->head.parts[i].name, &len, err);

		if (!data)
			return err->code;
	}
	return over_chunks(&load, threads, err);
}

int saved_load(const struct saved *s, const int *fds, unsigned threads, struct err *err)
{
	struct load load = { .s = s, .fds = fds };

	return over_chunks(&load, threads, err);
}
