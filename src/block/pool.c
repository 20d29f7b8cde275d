/*
 * A few threads that make the blocking system calls. Operations wait in one list and end in
 * another; the eventfd tells the owner.
 *
 * They copy as long as there is work, on the processors that vcpus use: a vcpu that is woken to ask
 * for more must not wait for its turn behind them. So they are nicer; that is done before anybody
 * enters a sandbox, which would not let them.
 */
#include "base/bits.h"
#include "block/io_priv.h"
#include "os/fd.h"
#include "os/thread.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#define THREADS	 4u
#define NICENESS 8

struct pool {
	int event;
	pthread_t thread[THREADS];
	unsigned threads;
	pthread_mutex_t lock;
	pthread_cond_t more, started;
	struct io_op *first, **last; /* the rest is guarded by the lock */
	struct io_op *ended;
	unsigned ready;
	bool writing; /* through the page cache: see in_turn() */
	bool closing;
};

static bool is_mapped(const struct io_op *op)
{
	return op->kind == IO_WRITE && op->map && op->map->at;
}

static s64 perform(struct io_op *op)
{
	s64 rc = 0;

	do
		switch (op->kind) {
		case IO_READ:
			rc = preadv(op->fd, op->iov, (int)op->iovcnt, (off_t)op->offset);
			break;
		case IO_WRITE:
			if (op->map && mapped_write(op->map, op->offset, op->iov, op->iovcnt))
				return (s64)io_total(op->iov, op->iovcnt);
			rc = pwritev(op->fd, op->iov, (int)op->iovcnt, (off_t)op->offset);
			break;
		case IO_SYNC: rc = fdatasync(op->fd); break;
		case IO_PUNCH:
			rc = fallocate(op->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)op->offset, (off_t)op->len);
			break;
		}
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

/* The kernel lets one thread at a time write to a cached file, and those that wait for it spin on
 * the processors that vcpus could use: they wait here. */
static bool in_turn(const struct io *io, const struct io_op *op)
{
	return io->cached && op->kind == IO_WRITE && !is_mapped(op);
}

/* Takes the first that may begin; NULL: none. */
static struct io_op *take_locked(struct io *io)
{
	struct pool *p = io->data;
	struct io_op **at = &p->first, *op;

	while (*at && p->writing && in_turn(io, *at))
		at = &(*at)->next;
	op = *at;
	if (!op)
		return NULL;
	*at = op->next;
	if (!*at)
		p->last = at;
	p->writing |= in_turn(io, op);
	return op;
}

static struct io_op *next_locked(struct io *io)
{
	struct pool *p = io->data;
	struct io_op *op;

	while (!(op = take_locked(io)) && !p->closing)
		pthread_cond_wait(&p->more, &p->lock);
	return op;
}

static void *work(void *ctx)
{
	struct io *io = ctx;
	struct pool *p = io->data;
	struct io_op *op;

	setpriority(PRIO_PROCESS, 0, NICENESS); /* on Linux, the thread's own */
	pthread_mutex_lock(&p->lock);
	p->ready++;
	pthread_cond_signal(&p->started);
	while ((op = next_locked(io))) {
		pthread_mutex_unlock(&p->lock);
		if (unlikely(op->times))
			io_note(&op->times->given);
		op->result = perform(op);
		pthread_mutex_lock(&p->lock);
		if (in_turn(io, op)) {
			p->writing = false;
			if (p->first)
				pthread_cond_signal(&p->more);
		}
		if (!p->ended) /* else it is set, or about to be heard of */
			fd_event_set(p->event);
		op->next = p->ended;
		p->ended = op;
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void pool_close(struct io *io)
{
	struct pool *p = io->data;

	pthread_mutex_lock(&p->lock);
	p->closing = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		pthread_join(p->thread[i], NULL);
	pthread_cond_destroy(&p->more);
	pthread_cond_destroy(&p->started);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int pool_open(struct io *io, struct err *err)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "no memory");
	p->event = io->event;
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	pthread_cond_init(&p->started, NULL);
	io->data = p;
	for (; p->threads < THREADS; p->threads++) {
		int rc = thread_start(&p->thread[p->threads], "block-io", work, io, err);

		if (rc) {
			pool_close(io);
			return rc;
		}
	}
	pthread_mutex_lock(&p->lock);
	while (p->ready < p->threads)
		pthread_cond_wait(&p->started, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static void pool_queue(struct io *io, struct io_op *op)
{
	struct pool *p = io->data;

	op->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->last = op;
	p->last = &op->next;
	pthread_cond_signal(&p->more);
	pthread_mutex_unlock(&p->lock);
}

static void pool_kick(struct io *io) {}

static void pool_reap(struct io *io)
{
	struct pool *p = io->data;

	pthread_mutex_lock(&p->lock);
	struct io_op *op = p->ended;
	p->ended = NULL;
	pthread_mutex_unlock(&p->lock);
	while (op) {
		struct io_op *next = op->next;

		op->done(op, op->result);
		op = next;
	}
}

const struct io_way pool_way = {
	.name = "threads",
	.open = pool_open,
	.close = pool_close,
	.queue = pool_queue,
	.kick = pool_kick,
	.reap = pool_reap,
};
