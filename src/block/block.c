/*
 * Requests, on two ways. The fast one: whoever submits finds out where the bytes are, in memory,
 * and hands operations on the file to io. Whatever that is not enough for (a table that is not in
 * memory, an allocation, packed data, somebody else busy with the tables) goes the slow way: the
 * block's worker thread does it, in order, and may wait for the disk.
 *
 * `format_lock` guards the chain's nodes, which only the worker changes. It holds the lock through
 * a request, except while it waits for the disk with nothing half changed (blocking()); submitters
 * only try it, and only look. `lock` guards the lists and `in_io`, and is a leaf. An operation that
 * was mapped under format_lock is counted in `in_io` before that is dropped, so that the worker,
 * holding it, can wait for all that may still use what a table said before (quiesce()).
 */
#include "block/block.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "block/format.h"
#include "os/fd.h"
#include "os/thread.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTS_MAX 64u /* pieces of a request on the fast way */
#define ROWS_MAX  1024u

const char *const block_cache_names[] = { "writeback", "none", "writethrough", "unsafe", NULL };

struct block {
	struct node *top; /* NULL: empty */
	struct block_options options;
	struct io *io;
	int event;
	bool guarded;		       /* see changes_format() */
	unsigned under_way;	       /* the caller's lock guards these, up to the next one */
	struct block_request *waiting; /* for room */
	unsigned waits, stuck;
	struct block_counts counts;
	bool last_try;
	pthread_mutex_t format_lock;
	_Atomic int sync_error; /* of the first flush that failed */
	pthread_t worker;
	bool has_worker;
	pthread_mutex_t lock;
	pthread_cond_t more, quiet;
	struct block_request *first, **last; /* the rest is guarded by `lock` */
	struct block_request *ended, **last_ended;
	bool reaping; /* block_reap() will take what ends now */
	unsigned in_io;
	bool closing;
};

/* ---- lists ---- */

static void put_end(struct block_request *r, struct block_request ***last)
{
	r->next = NULL;
	**last = r;
	*last = &r->next;
}

static void to_worker(struct block *b, struct block_request *r)
{
	pthread_mutex_lock(&b->lock);
	put_end(r, &b->last);
	pthread_cond_signal(&b->more);
	pthread_mutex_unlock(&b->lock);
}

static void ended(struct block *b, struct block_request *r, int rc)
{
	r->rc = rc;
	if (unlikely(r->times))
		io_note(&r->times->ended);
	pthread_mutex_lock(&b->lock);
	if (!b->ended && !b->reaping) /* else somebody will look */
		fd_event_set(b->event);
	put_end(r, &b->last_ended);
	pthread_mutex_unlock(&b->lock);
}

static void io_count(struct block *b, int change)
{
	pthread_mutex_lock(&b->lock);
	b->in_io += (unsigned)change;
	if (!b->in_io)
		pthread_cond_broadcast(&b->quiet);
	pthread_mutex_unlock(&b->lock);
}

static void quiesce(void *ctx)
{
	struct block *b = ctx;

	pthread_mutex_lock(&b->lock);
	while (b->in_io)
		pthread_cond_wait(&b->quiet, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void blocking(void *ctx, bool begins)
{
	struct block *b = ctx;

	if (begins)
		pthread_mutex_unlock(&b->format_lock);
	else
		pthread_mutex_lock(&b->format_lock);
}

/* ---- flushing ---- */

static int synced(struct block *b, int rc)
{
	int none = 0;

	if (rc)
		atomic_compare_exchange_strong(&b->sync_error, &none, rc);
	return b->sync_error;
}

static bool table_flush_needed(const struct block *b)
{
	return b->top->format->dirty && b->top->format->dirty(b->top);
}

/* Tables that found no room are still in memory; what fdatasync() could not write is lost. */
static bool may_try_again(int rc) { return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG; }

static int flush_slowly(struct block *b)
{
	struct node *n = b->top;
	int rc;

	if (b->sync_error)
		return b->sync_error;
	if (table_flush_needed(b)) {
		rc = n->format->flush(n);
		return may_try_again(rc) ? rc : synced(b, rc);
	}
	return synced(b, n->sync && n->writable && fdatasync(n->meta) ? -errno : 0);
}

/* ---- the fast way ---- */

struct part {
	u64 skip, at, len;
	int fd;
	bool zero;
};

struct plan {
	unsigned parts, in_file;
	struct part part[PARTS_MAX];
};

static bool add_part(struct plan *p, u64 skip, const struct node *n, const struct extent *e)
{
	bool zero = e->kind == EXTENT_ZERO;
	struct part *last = p->parts ? &p->part[p->parts - 1] : NULL;

	if (e->kind == EXTENT_PACKED)
		return false;
	if (last && last->zero == zero &&
		(zero || (last->fd == n->fd && last->at + last->len == e->at))) {
		last->len += e->len;
		return true;
	}
	if (p->parts == PARTS_MAX)
		return false;
	p->part[p->parts++] = (struct part){
		.skip = skip, .at = e->at, .len = e->len, .fd = n->fd, .zero = zero
	};
	p->in_file += !zero;
	return true;
}

static bool may_overwrite(struct node *n, u64 offset, u64 len, bool wait, struct extent *e)
{
	return !n->format->map(n, offset, len, true, wait, e) && e->kind == EXTENT_DATA;
}

/* False: not on this way. */
static bool make_plan(struct block *b, const struct block_request *r, bool wait, struct plan *p)
{
	struct node *n = b->top;
	struct extent e;

	for (u64 done = 0; done < r->len; done += e.len) {
		u64 at = r->offset + done, len = r->len - done;

		if (r->op == BLOCK_WRITE ? !may_overwrite(n, at, len, wait, &e)
					 : node_map(b->top, at, len, wait, &n, &e) != 0)
			return false;
		if (!add_part(p, done, n, &e))
			return false;
	}
	return true;
}

/* O_DIRECT wants both ends of everything aligned. */
static bool alignment_fits(const struct block *b, const struct block_request *r)
{
	if (!b->top->direct)
		return true;
	for (unsigned i = 0; i < r->iovcnt; i++)
		if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & (BLOCK_SECTOR - 1))
			return false;
	return true;
}

static void part_done(struct io_op *op, s64 result)
{
	struct block_request *r = op->ctx;
	struct block *b = r->block;
	bool data = op->kind == IO_READ || op->kind == IO_WRITE, sync = op->kind == IO_SYNC;

	/* What only partly worked, or is not to be had this way, is done again by the worker. */
	if (result == -EINVAL || result == -EAGAIN || result == -EINTR || result == -EOPNOTSUPP ||
		(data && result >= 0 && (u64)result < io_total(op->iov, op->iovcnt)))
		r->rc = r->rc ? r->rc : 1;
	else if (result < 0)
		r->rc = (int)result;
	if (--r->left)
		return;
	free(r->parts); /* op is one of them */
	r->parts = NULL;
	io_count(b, -1);
	if (sync)
		ended(b, r, synced(b, r->rc == 1 ? -EIO : r->rc));
	else if (r->rc == 1)
		to_worker(b, r);
	else
		ended(b, r, r->rc);
}

/* Of one piece, which needs no memory. */
static void issue_single(
	struct block *b, struct block_request *r, enum io_kind kind, int fd, u64 at)
{
	r->left = 1;
	r->rc = 0;
	r->single = (struct io_op){ .kind = kind,
		.fd = fd,
		.offset = at,
		.len = r->len,
		.iov = r->iov,
		.iovcnt = r->iovcnt,
		.map = &b->top->map,
		.done = part_done,
		.ctx = r,
		.times = r->times ? &r->times->io : NULL };
	io_count(b, 1);
	io_queue(b->io, &r->single);
}

static bool issue_parts(struct block *b, struct block_request *r, const struct plan *p)
{
	size_t rows = r->iovcnt + p->parts;
	struct io_op *op = calloc(1, p->in_file * sizeof(*op) + rows * sizeof(struct iovec));
	struct iovec *row = op ? (struct iovec *)(op + p->in_file) : NULL;

	if (!op)
		return false;
	r->parts = op;
	r->left = p->in_file;
	r->rc = 0;
	for (unsigned i = 0; i < p->parts; i++) {
		const struct part *part = &p->part[i];
		unsigned n = io_slice(r->iov, r->iovcnt, part->skip, part->len, row);

		if (part->zero) {
			io_zero(row, n);
			continue;
		}
		*op++ = (struct io_op){ .kind = r->op == BLOCK_WRITE ? IO_WRITE : IO_READ,
			.fd = part->fd,
			.offset = part->at,
			.iov = row,
			.iovcnt = n,
			.map = &b->top->map,
			.done = part_done,
			.ctx = r,
			.times = r->times ? &r->times->io : NULL };
		row += n;
	}
	io_count(b, 1);
	/* The last one queued may free them all. */
	struct io_op *ops = r->parts;
	for (unsigned i = 0, n = p->in_file; i < n; i++)
		io_queue(b->io, &ops[i]);
	return true;
}

static bool issue(struct block *b, struct block_request *r, const struct plan *p)
{
	if (!p->in_file) {
		io_zero(r->iov, r->iovcnt);
		ended(b, r, 0);
		return true;
	}
	if (p->parts == 1) {
		issue_single(b, r, r->op == BLOCK_WRITE ? IO_WRITE : IO_READ, p->part[0].fd,
			p->part[0].at);
		return true;
	}
	return issue_parts(b, r, p);
}

/* A raw image whose format was guessed: a guest that could write another format's first bytes
 * would have the next run read files of its choosing, as backing files. */
static bool changes_format(const struct block *b, const struct block_request *r)
{
	return b->guarded && r->op == BLOCK_WRITE && r->offset == 0;
}

/* With format_lock held. False: the slow way. */
static bool try_fast(struct block *b, struct block_request *r, bool wait)
{
	struct plan plan;

	plan.parts = plan.in_file = 0;
	switch (r->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		return alignment_fits(b, r) && !changes_format(b, r) &&
		       make_plan(b, r, wait, &plan) && issue(b, r, &plan);
	case BLOCK_FLUSH:
		if (table_flush_needed(b) || b->sync_error)
			return false;
		if (!b->top->sync || !b->top->writable)
			ended(b, r, 0);
		else
			issue_single(b, r, IO_SYNC, b->top->meta, 0);
		return true;
	case BLOCK_DISCARD:
	case BLOCK_ZERO:
		if (b->top->format != &raw_format || b->options.cache == BLOCK_WRITETHROUGH)
			return false;
		issue_single(b, r, IO_PUNCH, b->top->meta, r->offset);
		return true;
	}
	return false;
}

/* ---- the slow way ---- */

static int write_slowly(struct block *b, struct block_request *r)
{
	u8 head[BLOCK_SECTOR];
	struct iovec first[ROWS_MAX];
	u64 done = 0;

	if (changes_format(b, r)) {
		unsigned n = io_slice(r->iov, r->iovcnt, 0, sizeof(head), first);

		for (unsigned i = 0; i < n; done += first[i++].iov_len)
			memcpy(head + done, first[i].iov_base, first[i].iov_len);
		if (formats_probe(head) != &raw_format) {
			log_warn(b->top->path,
				"a write that would make it look like a %s image is"
				" refused; say format=raw to allow it",
				formats_probe(head)->name);
			return -EPERM;
		}
	}
	return b->top->format->write(b->top, r->offset, r->iov, r->iovcnt, r->len);
}

static int do_slowly(struct block *b, struct block_request *r)
{
	struct node *n = b->top;
	int rc = 0;

	if (unlikely(r->times))
		io_note(&r->times->io.given);
	switch (r->op) {
	case BLOCK_READ: return node_read(n, r->offset, r->iov, r->iovcnt, r->len);
	case BLOCK_WRITE: rc = write_slowly(b, r); break;
	case BLOCK_FLUSH: return flush_slowly(b);
	case BLOCK_DISCARD: rc = n->format->drop(n, r->offset, r->len, false); break;
	case BLOCK_ZERO: rc = n->format->drop(n, r->offset, r->len, true); break;
	}
	if (!rc && b->options.cache == BLOCK_WRITETHROUGH)
		rc = flush_slowly(b);
	return rc;
}

static struct block_request *next_slow(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	while (!b->first && !b->closing)
		pthread_cond_wait(&b->more, &b->lock);
	struct block_request *r = b->first;

	if (r) {
		b->first = r->next;
		if (!b->first)
			b->last = &b->first;
	}
	pthread_mutex_unlock(&b->lock);
	return r;
}

static void *work(void *ctx)
{
	struct block *b = ctx;
	struct block_request *r;

	while ((r = next_slow(b))) {
		bool again = r->rc == 1; /* the fast way did not do */

		pthread_mutex_lock(&b->format_lock);
		if (again || !try_fast(b, r, true))
			ended(b, r, do_slowly(b, r));
		pthread_mutex_unlock(&b->format_lock);
		io_kick(b->io);
	}
	return NULL;
}

/* ---- the interface ---- */

static int request_check(const struct block *b, const struct block_request *r)
{
	bool data = r->op == BLOCK_READ || r->op == BLOCK_WRITE;

	if (!b->top)
		return -EIO;
	if (r->op == BLOCK_FLUSH)
		return 0;
	if ((r->offset | r->len) % BLOCK_SECTOR || !range_ok(r->offset, r->len, b->top->size))
		return -EINVAL;
	if (data && (r->iovcnt > ROWS_MAX || io_total(r->iov, r->iovcnt) != r->len))
		return -EINVAL;
	return r->op != BLOCK_READ && !b->top->writable ? -EPERM : 0;
}

static void begin(struct block *b, struct block_request *r)
{
	bool fast = false;

	r->parts = NULL;
	r->rc = 0;
	if (!pthread_mutex_trylock(&b->format_lock)) {
		fast = try_fast(b, r, false);
		pthread_mutex_unlock(&b->format_lock);
	}
	if (!fast)
		to_worker(b, r);
}

void block_submit(struct block *b, struct block_request *r)
{
	int rc = request_check(b, r);

	b->under_way++;
	r->block = b;
	r->stuck = false;
	if (unlikely(r->times))
		io_note(&r->times->begun);
	if (!rc && r->op == BLOCK_READ)
		b->counts.read += r->len;
	else if (!rc && r->op == BLOCK_WRITE)
		b->counts.written += r->len;
	if (rc || (!r->len && r->op != BLOCK_FLUSH))
		ended(b, r, rc);
	else
		begin(b, r);
}

void block_kick(struct block *b) { io_kick(b->io); }
int block_event(const struct block *b) { return b->event; }

/* Kept for want of room: true. */
static bool keep(struct block *b, struct block_request *r)
{
	bool was = r->stuck;

	r->stuck = b->options.wait_for_room && !b->last_try && may_try_again(r->rc);
	b->stuck += (unsigned)r->stuck - was;
	if (!r->stuck)
		return false;
	r->next = b->waiting;
	b->waiting = r;
	b->waits++;
	return true;
}

unsigned block_stuck(const struct block *b) { return b->stuck; }

void block_retry(struct block *b)
{
	struct block_request *r = b->waiting;

	b->waiting = NULL;
	b->waits = 0;
	while (r) {
		struct block_request *next = r->next;

		begin(b, r);
		r = next;
	}
	io_kick(b->io);
}

void block_reap(struct block *b)
{
	fd_event_clear(b->event);
	pthread_mutex_lock(&b->lock);
	b->reaping = true;
	pthread_mutex_unlock(&b->lock);
	io_reap(b->io);
	pthread_mutex_lock(&b->lock);
	struct block_request *r = b->ended;
	b->ended = NULL;
	b->last_ended = &b->ended;
	b->reaping = false;
	pthread_mutex_unlock(&b->lock);
	while (r) {
		struct block_request *next = r->next;

		if (!keep(b, r)) {
			b->under_way--;
			r->done(r, r->rc);
		}
		r = next;
	}
}

static void wait_and_reap(struct block *b)
{
	struct pollfd p = { .fd = b->event, .events = POLLIN };

	io_kick(b->io);
	if (poll(&p, 1, -1) >= 0)
		block_reap(b);
}

void block_drain(struct block *b)
{
	while (b->under_way) {
		if (b->waits == b->under_way) {
			b->last_try = true;
			block_retry(b);
		}
		wait_and_reap(b);
	}
	b->last_try = false;
}

int block_settle(struct block *b)
{
	struct node *n = b->top;
	int rc;

	if (!n->writable)
		return 0;
	pthread_mutex_lock(&b->format_lock);
	rc = flush_slowly(b);
	if (!rc && n->format->finish)
		rc = n->format->finish(n);
	pthread_mutex_unlock(&b->format_lock);
	return rc;
}

static struct block_look look_of(const struct stat *st)
{
	return (struct block_look){ .size = (u64)st->st_size,
		.mtime = (s64)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec };
}

int block_look(const struct block *b, struct block_look *look)
{
	struct stat st;

	if (fd_stat(b->top->meta, &st))
		return -errno;
	*look = look_of(&st);
	return 0;
}

int block_look_at(const char *path, struct block_look *look)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*look = look_of(&st);
	return 0;
}

struct block_counts block_counts(const struct block *b) { return b->counts; }

struct block_info block_info(const struct block *b)
{
	return (struct block_info){ .size = b->top->size,
		.path = b->top->path,
		.format = b->top->format->name,
		.io = io_name(b->io),
		.readonly = !b->top->writable,
		.optimal = b->top->optimal };
}

static void run_done(struct block_request *r, int rc) { *(bool *)r->ctx = true; }

int block_run(struct block *b, struct block_request *r)
{
	bool over = false;

	r->done = run_done;
	r->ctx = &over;
	block_submit(b, r);
	while (!over)
		wait_and_reap(b);
	return r->rc;
}

static int run_buf(struct block *b, enum block_op op, u64 offset, void *buf, u64 len)
{
	struct iovec v = { buf, len };
	struct block_request r = { .op = op, .offset = offset, .len = len, .iov = &v, .iovcnt = 1 };

	return block_run(b, &r);
}

int block_read(struct block *b, u64 offset, void *buf, u64 len)
{
	return run_buf(b, BLOCK_READ, offset, buf, len);
}

int block_write(struct block *b, u64 offset, const void *buf, u64 len)
{
	return run_buf(b, BLOCK_WRITE, offset, (void *)(uintptr_t)buf, len);
}

int block_flush(struct block *b)
{
	struct block_request r = { .op = BLOCK_FLUSH };

	return block_run(b, &r);
}

/* ---- opening and closing ---- */

static void block_free(struct block *b)
{
	if (b->has_worker) {
		pthread_mutex_lock(&b->lock);
		b->closing = true;
		pthread_cond_broadcast(&b->more);
		pthread_mutex_unlock(&b->lock);
		pthread_join(b->worker, NULL);
	}
	io_close(b->io);
	if (b->event >= 0)
		close(b->event);
	pthread_cond_destroy(&b->quiet);
	pthread_cond_destroy(&b->more);
	pthread_mutex_destroy(&b->lock);
	pthread_mutex_destroy(&b->format_lock);
	free(b);
}

static struct block *block_new(const struct block_options *options)
{
	struct block *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->options = options ? *options : (struct block_options){ 0 };
	b->event = -1;
	b->last = &b->first;
	b->last_ended = &b->ended;
	pthread_mutex_init(&b->format_lock, NULL);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->more, NULL);
	pthread_cond_init(&b->quiet, NULL);
	return b;
}

static int start(struct block *b, bool cached, struct err *err)
{
	int rc;

	b->event = fd_event(err);
	if (b->event < 0)
		return b->event;
	rc = io_open(&b->io, b->options.io, cached, b->event, err);
	if (!rc)
		rc = thread_start(&b->worker, "block", work, b, err);
	b->has_worker = !rc;
	return rc;
}

static int put_in(struct block *b, const char *path, struct err *err)
{
	struct node *top;
	int rc = node_open(&top, path, &b->options, err);

	if (rc)
		return rc;
	top->quiesce = quiesce;
	top->blocking = blocking;
	top->ctx = b;
	b->guarded = top->probed && top->format == &raw_format;
	b->sync_error = 0;
	b->top = top;
	return 0;
}

int block_open(
	struct block **out, const char *path, const struct block_options *options, struct err *err)
{
	struct block *b = block_new(options);
	int rc;

	if (!b)
		return err_set(err, -ENOMEM, "no memory");
	rc = put_in(b, path, err);
	if (!rc) {
		rc = start(b, b->options.cache != BLOCK_NONE, err);
		if (rc)
			node_close(b->top);
	}
	if (rc) {
		block_free(b);
		return rc;
	}
	*out = b;
	return 0;
}

/* Without the threads for long transfers of cached files: they would wait beside each such block,
 * which may never get an image. */
int block_open_empty(struct block **out, struct err *err)
{
	struct block *b = block_new(NULL);
	int rc = b ? start(b, false, err) : err_set(err, -ENOMEM, "no memory");

	if (b && rc)
		block_free(b);
	else if (b)
		*out = b;
	return rc;
}

int block_insert(
	struct block *b, const char *path, const struct block_options *options, struct err *err)
{
	must(!b->top, "%s: the block is not empty", path);
	b->options = *options;
	int rc = put_in(b, path, err);

	b->options.files = NULL; /* the caller's */
	return rc;
}

bool block_is_empty(const struct block *b) { return !b->top; }

int block_remove(struct block *b, struct err *err)
{
	struct node *top = b->top;
	int rc, last;

	block_drain(b);
	if (!top)
		return 0;
	top->quiesce = NULL;
	top->blocking = NULL;
	rc = top->writable ? flush_slowly(b) : 0;
	if (rc)
		err_set(err, rc, "%s: %s", top->path, strerror(-rc));
	pthread_mutex_lock(&b->format_lock); /* the worker's last look at it */
	b->top = NULL;
	pthread_mutex_unlock(&b->format_lock);
	last = node_close(top);
	if (!rc && last)
		rc = err_set(err, last, "closing an image: %s", strerror(-last));
	return rc;
}

int block_close(struct block *b, struct err *err)
{
	int rc = block_remove(b, err);

	block_free(b);
	return rc;
}
