/*
 * Asynchronous operations on host files: io_uring where the host lets us, else a few threads.
 *
 * What is in the host's page cache, a ring copies while it is submitted, by whoever submits: a
 * vcpu. A long transfer of a cached file is therefore left to the threads, which yield to vcpus;
 * the ring's own workers would do, but for the kernel one is enough as long as it is not blocked.
 * They also write to files in memory without the kernel (mapped.h).
 *
 * Any thread may queue operations. io_reap() is called by one thread at a time; it calls back what
 * has ended, with no lock held. The ring is created with a list of the operations it will ever do
 * (IORING_REGISTER_RESTRICTIONS): what system-call filters say stays true.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "block/mapped.h"
#include <sys/uio.h>

enum io_kind {
	IO_READ,
	IO_WRITE,
	IO_SYNC,  /* fdatasync */
	IO_PUNCH, /* a hole of `len` bytes, which reads as zeroes */
};

/* When an operation came to where: nanoseconds of the host's monotonic clock, 0: it did not. */
struct io_times {
	_Atomic u64 given; /* to the host's kernel */
	_Atomic u64 taken; /* by it; of operations that nobody waits in the kernel for */
};

/* The caller's, until done() is called. */
struct io_op {
	enum io_kind kind;
	int fd;
	u64 offset, len; /* len: of IO_PUNCH */
	const struct iovec *iov;
	unsigned iovcnt;
	const struct mapped *map; /* of a file in memory, for IO_WRITE; NULL: there is none */
	void (*done)(struct io_op *op, s64 result); /* bytes, 0, or -errno */
	void *ctx;
	struct io_times *times; /* NULL: nobody asks */
	s64 result;		/* the rest is io's */
	struct io_op *next;
};

enum io_how { IO_AUTO, IO_URING, IO_THREADS };

struct io;
/* event: an eventfd that is set when something has ended; cached: through the host's page cache. */
NODISCARD int io_open(struct io **io, enum io_how how, bool cached, int event, struct err *err);
void io_close(struct io *io); /* nothing is under way */
const char *io_name(const struct io *io);
void io_queue(struct io *io, struct io_op *op);
void io_kick(struct io *io); /* what is queued begins now at the latest */
void io_reap(struct io *io);

/* Synchronously, everything or an error; what lies behind the end of the file reads as zeroes. */
NODISCARD int io_pread(int fd, void *buf, u64 len, u64 offset);
NODISCARD int io_pwrite(int fd, const void *buf, u64 len, u64 offset);
NODISCARD int io_preadv(int fd, const struct iovec *iov, unsigned iovcnt, u64 offset);
NODISCARD int io_pwritev(int fd, const struct iovec *iov, unsigned iovcnt, u64 offset);

/* How many of the `len` bytes from offset on are a hole in the file; 0 where it cannot be told. */
u64 io_hole(int fd, u64 offset, u64 len);

/* The part [skip, skip + len) of a vector, into out, which has room for iovcnt; how many rows. */
unsigned io_slice(const struct iovec *iov, unsigned iovcnt, u64 skip, u64 len, struct iovec *out);
void io_zero(const struct iovec *iov, unsigned iovcnt);
void io_note(_Atomic u64 *at); /* now is when */
u64 io_total(const struct iovec *iov, unsigned iovcnt);
