#include "base/bits.h"
#include "block/io_priv.h"
#include "os/fd.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS_AT_ONCE 1024u	/* IOV_MAX of Linux */
#define LONG	     (64 * KiB) /* copying this much takes longer than waking a thread */

static int io_new(struct io **io, const struct io_way *way, bool cached, int event, struct err *err)
{
	struct io *o = calloc(1, sizeof(*o));

	if (!o)
		return err_set(err, -ENOMEM, "no memory");
	o->event = event;
	o->cached = cached;
	o->way = way;
	int rc = way->open(o, err);

	if (rc)
		free(o);
	else
		*io = o;
	return rc;
}

/* io_uring is refused in many containers, and where an administrator says so. */
int io_open(struct io **io, enum io_how how, bool cached, int event, struct err *err)
{
	int rc = how == IO_THREADS ? -ENOSYS : io_new(io, &uring_way, cached, event, err);

	if (rc && how != IO_URING)
		return io_new(io, &pool_way, cached, event, err);
	if (!rc && how == IO_AUTO && cached) {
		rc = io_new(&(*io)->copiers, &pool_way, cached, event, err);
		if (rc)
			io_close(*io);
	}
	return rc;
}

void io_close(struct io *io)
{
	if (!io)
		return;
	io_close(io->copiers);
	io->way->close(io);
	free(io);
}

static bool is_long(const struct io_op *op)
{
	return (op->kind == IO_READ || op->kind == IO_WRITE) &&
	       io_total(op->iov, op->iovcnt) >= LONG;
}

const char *io_name(const struct io *io) { return io->way->name; }

void io_queue(struct io *io, struct io_op *op)
{
	if (io->copiers && is_long(op))
		io = io->copiers;
	io->way->queue(io, op);
}

void io_kick(struct io *io) { io->way->kick(io); }

void io_reap(struct io *io)
{
	io->way->reap(io);
	if (io->copiers)
		io_reap(io->copiers);
}

u64 io_total(const struct iovec *iov, unsigned iovcnt)
{
	u64 sum = 0;

	for (unsigned i = 0; i < iovcnt; i++)
		if (!add_ok(sum, iov[i].iov_len, &sum))
			return ~0ull;
	return sum;
}

unsigned io_slice(const struct iovec *iov, unsigned iovcnt, u64 skip, u64 len, struct iovec *out)
{
	unsigned n = 0;

	for (unsigned i = 0; i < iovcnt && len; i++) {
		u64 have = iov[i].iov_len;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		u64 take = min_u64(have - skip, len);

		out[n++] = (struct iovec){ (char *)iov[i].iov_base + skip, take };
		len -= take;
		skip = 0;
	}
	return n;
}

void io_zero(const struct iovec *iov, unsigned iovcnt)
{
	for (unsigned i = 0; i < iovcnt; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

void io_note(_Atomic u64 *at)
{
	atomic_store_explicit(at, fd_monotonic_ns(), memory_order_relaxed);
}

/* All of the vector, in as many calls as it takes. */
static int all(int fd, bool write, const struct iovec *iov, unsigned iovcnt, u64 offset)
{
	u64 total = io_total(iov, iovcnt), done = 0;
	struct iovec rest[ROWS_AT_ONCE];

	if (iovcnt > ROWS_AT_ONCE)
		return -EINVAL;
	while (done < total) {
		unsigned n = io_slice(iov, iovcnt, done, total - done, rest);
		ssize_t got = write ? pwritev(fd, rest, (int)n, (off_t)(offset + done))
				    : preadv(fd, rest, (int)n, (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0 && write)
			return -EIO;
		if (got == 0) {
			io_zero(rest, n);
			return 0;
		}
		done += (u64)got;
	}
	return 0;
}

int io_preadv(int fd, const struct iovec *iov, unsigned iovcnt, u64 offset)
{
	return all(fd, false, iov, iovcnt, offset);
}

int io_pwritev(int fd, const struct iovec *iov, unsigned iovcnt, u64 offset)
{
	return all(fd, true, iov, iovcnt, offset);
}

int io_pread(int fd, void *buf, u64 len, u64 offset)
{
	struct iovec v = { buf, len };

	return all(fd, false, &v, 1, offset);
}

int io_pwrite(int fd, const void *buf, u64 len, u64 offset)
{
	struct iovec v = { (void *)(uintptr_t)buf, len };

	return all(fd, true, &v, 1, offset);
}

u64 io_hole(int fd, u64 offset, u64 len)
{
	off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? len : 0; /* none behind it */
	return (u64)data > offset ? min_u64((u64)data - offset, len) : 0;
}
