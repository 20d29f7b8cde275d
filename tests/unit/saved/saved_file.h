/* A small saved state, good in all its parts, in memory: for the unit test and the fuzzer, which
 * damage it. */
#pragma once
#include "base/must.h"
#include "saved/saved.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SMALL	  (8 * PAGE_SIZE)
#define LARGE	  (SAVED_CHUNK + 3 * PAGE_SIZE)
#define PART_NAME "about"
#define PART_TEXT "what is saved here"

static const struct saved_region saved_file_regions[] = { { "small", SMALL }, { "large", LARGE } };

/* What its memory holds: some pages of zeroes, one of noise, some of a pattern. */
static inline void saved_file_memory(u8 *small, u8 *large)
{
	u32 noise = 1;

	memset(small, 0, SMALL);
	memset(large, 0, LARGE);
	memset(small + PAGE_SIZE, 0x5a, 2 * PAGE_SIZE);
	for (unsigned i = 0; i < PAGE_SIZE; i++)
		small[5 * PAGE_SIZE + i] = (u8)((noise = noise * 1664525 + 1013904223) >> 24);
	large[LARGE - 1] = 7;
}

static inline int saved_file_open(void)
{
	int fd = memfd_create("saved", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	must(fd >= 0, "memfd");
	return fd;
}

/* A good one's descriptor. */
static inline int saved_file_make(void)
{
	u8 *small = malloc(SMALL), *large = malloc(LARGE);
	int fd = saved_file_open(), rc;

	must(small && large, "memory");
	saved_file_memory(small, large);
	struct saved_out *o = saved_begin(fd, saved_file_regions, 2);
	rc = saved_put(o, PART_NAME, PART_TEXT, strlen(PART_TEXT));
	rc = rc ? rc : saved_put_chunk(o, 0, 0, small, SMALL);
	rc = rc ? rc : saved_put_chunk(o, 1, 0, large, SAVED_CHUNK);
	rc = rc ? rc : saved_put_chunk(o, 1, 1, large + SAVED_CHUNK, LARGE - SAVED_CHUNK);
	rc = rc ? rc : saved_finish(o, 0x1122334455667788);
	must(!rc, "saving: %d", rc);
	saved_end(o);
	free(small);
	free(large);
	return fd;
}

/* All that reading may do with a file: 0 when it was good to its end, and then memory is what was
 * saved. */
static inline int saved_file_read(int fd, struct err *err)
{
	struct saved *s;
	size_t len = 0;

	*err = (struct err){ 0 };
	if (saved_open(&s, fd, err))
		return err->code;
	const struct saved_region *r;
	unsigned count = saved_regions(s, &r), opened = 0;
	int fds[SAVED_REGIONS_MAX];
	u8 *part = saved_part(s, PART_NAME, &len, err);
	int rc = part ? saved_check(s, 2, NULL, NULL, err) : err->code;

	for (unsigned i = 0; i < count && !rc; i++) {
		must(r[i].size && r[i].size % PAGE_SIZE == 0, "region of %llu",
			(unsigned long long)r[i].size);
		fds[i] = r[i].size <= 64 * MiB ? saved_file_open() : -1;
		opened += fds[i] >= 0;
		rc = fds[i] >= 0 ? 0 : err_set(err, -ENOMEM, "too large for a test");
	}
	rc = rc ? rc : saved_load(s, fds, 2, err);
	must(!rc == !err->code && !rc == !err->text[0], "an error without words");
	for (unsigned i = 0; i < opened; i++)
		close(fds[i]);
	free(part);
	saved_close(s);
	return rc;
}
