/*
 * Disk images: a block is a range of bytes that a guest reads and writes, kept in a file of some
 * format, perhaps on top of others (a backing chain).
 *
 * Life. block_open() before the sandbox is entered: it opens files and starts threads. Afterwards
 * requests only use descriptors that are open. block_close() waits for what is under way and leaves
 * the image clean. For an image that comes later there is block_open_empty(), whose thread waits,
 * and block_insert(), which opens nothing: somebody outside has, by block_files_open().
 *
 * Requests are asynchronous. The caller fills a struct block_request, which stays its own but must
 * not move until done() is called, and so must what iov points to. block_submit() never blocks and
 * never calls done(). When requests end, the descriptor block_event() becomes readable: the owner
 * adds it to its event loop, and there calls block_reap(), which calls done() of each, in any
 * order. done() may submit again.
 *
 * Threads. Any thread may submit, kick and reap, but one at a time for one block: the caller's lock
 * (a machine's, for devices) sees to that. done() is thus called with that lock held.
 *
 * Order. Requests under way at the same time have none, whatever they overlap. A flush covers the
 * requests that were done before it was submitted: they survive a crash of the host once it is
 * done, and, whatever the cache mode, the end of this process. A flush that failed once fails for
 * ever: nobody knows what was lost.
 *
 * Errors: done() gets 0 or -errno. -ENOSPC, -EDQUOT, -EFBIG: the host has no room; nothing was lost
 * but this request, which may be submitted again. -EINVAL: offset or length, -EPERM: read-only,
 * -EIO.
 *
 * Room. With `wait_for_room` such requests are not done, but stuck: after block_reap() the owner
 * looks at block_stuck(), and now and then calls block_retry(), until it is 0. Only block_drain(),
 * which must not wait for ever, tries once more and lets what is still stuck fail.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "block/io.h"

#define BLOCK_SECTOR 512u

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,
	BLOCK_DISCARD, /* the contents are not needed any more; reads afterwards give anything old,
			  or zeroes */
	BLOCK_ZERO,    /* zeroes, without carrying them */
};

struct block;

/* When a request came to where: nanoseconds of the host's monotonic clock, 0: it did not. */
struct block_times {
	_Atomic u64 begun, ended; /* block_submit(), and the last operation's end was heard of */
	struct io_times io;	  /* of the last of its operations */
};

struct block_request {
	enum block_op op;
	u64 offset, len; /* multiples of BLOCK_SECTOR; len must be iov's for read and write */
	const struct iovec *iov; /* read, write */
	unsigned iovcnt;	 /* at most 1024 */
	void (*done)(struct block_request *r, int rc);
	void *ctx;
	struct block_times *times; /* NULL: nobody asks */
	/* the block's own */
	struct block *block;
	struct block_request *next;
	struct io_op single, *parts;
	unsigned left;
	int rc;
	bool stuck;
};

enum block_cache {
	BLOCK_WRITEBACK,    /* through the host's page cache; a flush is a flush */
	BLOCK_NONE,	    /* past the page cache (O_DIRECT); a flush is a flush */
	BLOCK_WRITETHROUGH, /* each write is on the disk when it is done */
	BLOCK_UNSAFE,	    /* flushes are not passed on: for what may be lost with the host */
};
extern const char *const block_cache_names[]; /* NULL-terminated: "writeback", ... */

/* The descriptors of an image and of those below it, in the order in which block_insert() takes
 * them; each holds its image's lock. */
#define BLOCK_FILES_MAX 32u

struct block_files {
	int fd[BLOCK_FILES_MAX]; /* -1: taken */
	unsigned count, taken;
};

struct block_options {
	const char *format; /* NULL: what the file looks like; then a raw image may not be made to
			       look like another format from within */
	enum block_cache cache;
	enum io_how io;
	bool readonly;
	bool no_lock;	 /* look only: somebody else may be writing */
	bool no_backing; /* this file alone; what it does not have reads as zeroes */
	bool no_repair;	 /* open it as it is, even if nobody closed it properly */
	bool wait_for_room;
	struct block_files *files; /* of block_insert(): what it takes from, instead of opening */
};

struct block_info {
	u64 size; /* bytes, a multiple of BLOCK_SECTOR */
	const char *path, *format;
	const char *io; /* "io_uring" or "threads" */
	bool readonly;
	u32 optimal; /* bytes: writes and discards of such pieces are cheapest */
};

/* Refuses, naming the other process, an image that somebody else writes, or reads while we want to
 * write. `options` may be NULL. */
NODISCARD int block_open(
	struct block **b, const char *path, const struct block_options *options, struct err *err);
/* -errno: something could not be written. The block is gone in any case. */
int block_close(struct block *b, struct err *err);
/* Without an image: requests fail. It does its operations in whatever way this host offers. */
NODISCARD int block_open_empty(struct block **b, struct err *err);
/* An image for an empty block, from options->files; what fails leaves it empty. */
NODISCARD int block_insert(
	struct block *b, const char *path, const struct block_options *options, struct err *err);
/* The block is empty again; otherwise as block_close(). */
int block_remove(struct block *b, struct err *err);
bool block_is_empty(const struct block *b);
/* Opens and locks what block_insert() will want, which may be in another process; changes nothing
 * in the images. */
NODISCARD int block_files_open(struct block_files *f, const char *path,
	const struct block_options *options, struct err *err);
void block_files_close(struct block_files *f); /* those that were not taken */

struct block_info block_info(const struct block *b); /* not of an empty one */
/* Since it was opened: bytes of what was submitted. The caller's lock. */
struct block_counts {
	u64 read, written;
};
struct block_counts block_counts(const struct block *b);

void block_submit(struct block *b, struct block_request *r);
void block_kick(struct block *b); /* submitted requests begin now at the latest */
int block_event(const struct block *b);
void block_reap(struct block *b);
/* Nothing is under way: everything that was written is on the disk, and closing the image will not
 * write to its file any more, unless somebody else does first. Any thread. */
NODISCARD int block_settle(struct block *b);
/* What its file looks like from outside; a file that looks the same has not been written to. */
struct block_look {
	u64 size;
	s64 mtime; /* nanoseconds since 1970 */
};
NODISCARD int block_look(const struct block *b, struct block_look *look);
NODISCARD int block_look_at(const char *path, struct block_look *look);
void block_drain(struct block *b);	     /* reaps until nothing is under way */
unsigned block_stuck(const struct block *b); /* requests, those that are tried again included */
void block_retry(struct block *b);

/* For callers that have nothing else to do: submit, wait, 0 or -errno. */
NODISCARD int block_run(struct block *b, struct block_request *r);
NODISCARD int block_read(struct block *b, u64 offset, void *buf, u64 len);
NODISCARD int block_write(struct block *b, u64 offset, const void *buf, u64 len);
NODISCARD int block_flush(struct block *b);
