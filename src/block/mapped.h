/*
 * Files in memory, written to through a mapping.
 *
 * A file of tmpfs is nothing but pages of memory. The kernel writes to it page by page, each looked
 * up, locked and brought into the processor's caches, one writer at a time. Storing to the mapped
 * file past the caches takes a quarter of that time, and writers need not wait for each other.
 *
 * A page that cannot be had (the file system is full, somebody has cut the file) is a SIGBUS, which
 * ends the attempt and not the process: the kernel is asked after all, and says what is wrong.
 *
 * Threads: mapped_write() by any number at once, between open and close.
 */
#pragma once
#include "base/types.h"
#include <sys/uio.h>

struct mapped {
	u8 *at; /* NULL: it is not mapped */
	u64 size;
};

/* A file that is open for reading and writing, so far as `size`, which may be beyond its end. Not
 * mapped: it is not in memory, or there is no room. */
void mapped_open(struct mapped *m, int fd, u64 size);
void mapped_close(struct mapped *m);
/* False: not all of it could be stored, and what is there now is any mixture. */
bool mapped_write(const struct mapped *m, u64 offset, const struct iovec *iov, unsigned iovcnt);
