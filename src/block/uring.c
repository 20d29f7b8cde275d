/*
 * io_uring. The lock guards both sides of the ring. No more operations are in the ring than its
 * completion queue has room for: the others wait.
 */
#include "base/bits.h"
#include "block/io_priv.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES	 256u
#define IN_RING	 256u
#define PER_REAP 64u

struct uring {
	struct io_uring ring;
	pthread_mutex_t lock;
	unsigned in_ring; /* guarded by the lock, like what follows */
	bool unsubmitted;
	struct io_op *first, **last;	 /* those that wait for room */
	struct io_times *noted[ENTRIES]; /* of those that are unsubmitted */
	unsigned noted_count;
};

/* What the ring may do from now on, whoever gets hold of it. liburing's own function is not in all
 * of its libraries. */
static int restrict_ring(struct io_uring *ring)
{
	static const u8 allowed[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
		IORING_OP_FALLOCATE };
	struct io_uring_restriction rows[ARRAY_LEN(allowed)] = { 0 };
	int rc;

	for (unsigned i = 0; i < ARRAY_LEN(allowed); i++) {
		rows[i].opcode = IORING_RESTRICTION_SQE_OP;
		rows[i].sqe_op = allowed[i];
	}
	rc = io_uring_register(
		(unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rows, ARRAY_LEN(rows));
	if (rc >= 0)
		rc = io_uring_register(
			(unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return rc < 0 ? rc : 0;
}

static int uring_open(struct io *io, struct err *err)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return err_set(err, -ENOMEM, "no memory");
	rc = io_uring_queue_init(ENTRIES, &u->ring, IORING_SETUP_R_DISABLED);
	if (rc < 0) {
		free(u);
		return err_set(err, rc, "io_uring: %s", strerror(-rc));
	}
	rc = io_uring_register_eventfd(&u->ring, io->event);
	if (!rc)
		rc = restrict_ring(&u->ring);
	if (rc < 0) {
		io_uring_queue_exit(&u->ring);
		free(u);
		return err_set(err, rc, "io_uring: %s", strerror(-rc));
	}
	pthread_mutex_init(&u->lock, NULL);
	u->last = &u->first;
	io->data = u;
	return 0;
}

static void uring_close(struct io *io)
{
	struct uring *u = io->data;

	io_uring_queue_exit(&u->ring);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static void prepare(struct io_uring_sqe *sqe, struct io_op *op)
{
	switch (op->kind) {
	case IO_READ: io_uring_prep_readv(sqe, op->fd, op->iov, op->iovcnt, op->offset); break;
	case IO_WRITE: io_uring_prep_writev(sqe, op->fd, op->iov, op->iovcnt, op->offset); break;
	case IO_SYNC: io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC); break;
	case IO_PUNCH:
		io_uring_prep_fallocate(sqe, op->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)op->offset, (off_t)op->len);
		break;
	}
	io_uring_sqe_set_data(sqe, op);
}

/* A kernel that is short of something takes them later: the event makes the owner come back. */
static void submit_locked(struct io *io, struct uring *u)
{
	if (!u->unsubmitted)
		return;
	for (unsigned i = 0; i < u->noted_count; i++)
		io_note(&u->noted[i]->given);
	if (io_uring_submit(&u->ring) < 0) {
		fd_event_set(io->event);
		return;
	}
	u->unsubmitted = io_uring_sq_ready(&u->ring);
	/* They may have ended by now, but whoever reaps them waits for the lock. */
	while (u->noted_count)
		io_note(&u->noted[--u->noted_count]->taken);
}

static bool put_locked(struct io *io, struct uring *u, struct io_op *op)
{
	struct io_uring_sqe *sqe;

	if (u->in_ring == IN_RING)
		return false;
	sqe = io_uring_get_sqe(&u->ring);
	if (!sqe) {
		submit_locked(io, u);
		sqe = io_uring_get_sqe(&u->ring);
	}
	if (!sqe)
		return false;
	prepare(sqe, op);
	if (unlikely(op->times) && u->noted_count < ENTRIES)
		u->noted[u->noted_count++] = op->times;
	u->in_ring++;
	u->unsubmitted = true;
	return true;
}

static void uring_queue(struct io *io, struct io_op *op)
{
	struct uring *u = io->data;

	pthread_mutex_lock(&u->lock);
	if (u->first || !put_locked(io, u, op)) {
		op->next = NULL;
		*u->last = op;
		u->last = &op->next;
	}
	pthread_mutex_unlock(&u->lock);
}

static void uring_kick(struct io *io)
{
	struct uring *u = io->data;

	pthread_mutex_lock(&u->lock);
	submit_locked(io, u);
	pthread_mutex_unlock(&u->lock);
}

static void take_waiting_locked(struct io *io, struct uring *u)
{
	while (u->first && put_locked(io, u, u->first)) {
		u->first = u->first->next;
		if (!u->first)
			u->last = &u->first;
	}
	submit_locked(io, u);
}

static void uring_reap(struct io *io)
{
	struct uring *u = io->data;
	struct io_uring_cqe *cqes[PER_REAP];
	struct io_op *ops[PER_REAP];
	unsigned n;

	do {
		pthread_mutex_lock(&u->lock);
		n = io_uring_peek_batch_cqe(&u->ring, cqes, PER_REAP);
		for (unsigned i = 0; i < n; i++) {
			ops[i] = io_uring_cqe_get_data(cqes[i]);
			ops[i]->result = cqes[i]->res;
		}
		io_uring_cq_advance(&u->ring, n);
		u->in_ring -= n;
		take_waiting_locked(io, u);
		pthread_mutex_unlock(&u->lock);
		for (unsigned i = 0; i < n; i++)
			ops[i]->done(ops[i], ops[i]->result);
	} while (n == PER_REAP);
}

const struct io_way uring_way = {
	.name = "io_uring",
	.open = uring_open,
	.close = uring_close,
	.queue = uring_queue,
	.kick = uring_kick,
	.reap = uring_reap,
};
