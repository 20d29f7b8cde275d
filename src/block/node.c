#include "base/bits.h"
#include "base/scope.h"
#include "block/format.h"
#include "block/lock.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHAIN_MAX 64u

/* ---- opening ---- */

static int file_length(struct node *n, struct err *err)
{
	struct stat st;

	if (fd_stat(n->meta, &st))
		return err_set(err, -errno, "%s: %s", n->path, strerror(errno));
	if (S_ISREG(st.st_mode))
		n->file_size = (u64)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s: neither a file nor a block device", n->path);
	else if (ioctl(n->meta, BLKGETSIZE64, &n->file_size))
		return err_set(err, -errno, "%s: %s", n->path, strerror(errno));
	return 0;
}

static const char *what_to_do(const char *path, int flags, int why)
{
	if (why == EACCES && (flags & O_ACCMODE) != O_RDONLY && !access(path, R_OK))
		return ": you may only read it, which readonly is for";
	if (why == EACCES)
		return ": it, or a folder above it, is not yours to open: ls -l shows whose";
	return why == EROFS ? ": readonly opens what can only be read" : "";
}

/* O_NONBLOCK: opening a FIFO would wait; nothing else minds. */
static int open_one(const char *path, int flags, struct err *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 && errno == EINVAL && flags & O_DIRECT)
		return err_set(
			err, -EINVAL, "%s: its file system cannot bypass the page cache", path);
	if (fd >= 0)
		return fd;
	int why = errno;

	return err_set(err, -why, "%s: %s%s", path, strerror(why), what_to_do(path, flags, why));
}

static int take_one(struct block_files *f, const char *path, struct err *err)
{
	if (f->taken >= f->count)
		return err_set(err, -EINVAL, "%s: was not handed over", path);
	int fd = f->fd[f->taken];

	f->fd[f->taken++] = -1;
	return fd;
}

static int get_one(const struct node *n, const struct block_options *o, int flags, struct err *err)
{
	return o->files ? take_one(o->files, n->path, err) : open_one(n->path, flags, err);
}

static int open_files(struct node *n, const struct block_options *o, struct err *err)
{
	int how = n->writable ? O_RDWR : O_RDONLY;

	n->meta = get_one(n, o, how, err);
	if (n->meta < 0)
		return n->meta;
	n->fd = n->meta;
	n->direct = o->cache == BLOCK_NONE;
	if (n->direct || (n->writable && o->cache == BLOCK_WRITETHROUGH))
		n->fd = get_one(n, o, how | (n->direct ? O_DIRECT : O_DSYNC), err);
	if (n->fd < 0)
		return n->fd;
	return file_length(n, err);
}

static int find_format(struct node *n, const char *name, struct err *err)
{
	u8 head[BLOCK_SECTOR];
	int rc;

	if (name && *name) {
		n->format = formats_find(name);
		return n->format ? 0
				 : err_set(err, -EINVAL, "%s: unknown format %.16s", n->path, name);
	}
	rc = io_pread(n->meta, head, sizeof(head), 0);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	n->format = formats_probe(head);
	n->probed = true;
	return 0;
}

static int node_open_one(
	struct node *n, const char *format, const struct block_options *o, struct err *err)
{
	int rc = open_files(n, o, err);

	if (!rc && !o->no_lock && !o->files)
		rc = lock_take(n->meta, n->path, n->writable, err);
	if (!rc)
		rc = find_format(n, format, err);
	if (!rc && n->writable && !n->format->writable)
		rc = err_set(err, -EROFS, "%s: a %s image can only be read; open it read-only",
			n->path, n->format->name);
	if (!rc)
		rc = n->format->open(n, err);
	/* A file that grows seldom grows beyond what it is an image of. */
	if (!rc && n->writable && n->fd == n->meta)
		mapped_open(&n->map, n->fd, max_u64(n->file_size, n->size));
	return rc;
}

static void node_free(struct node *n)
{
	if (n->format && n->format->close)
		n->format->close(n);
	mapped_close(&n->map);
	if (n->fd >= 0 && n->fd != n->meta)
		close(n->fd);
	if (n->meta >= 0)
		close(n->meta);
	free(n->path);
	free(n);
}

char *node_beside(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	char *s;

	if (*name == '/' || !slash)
		return strdup(name);
	return asprintf(&s, "%.*s%s", (int)(slash + 1 - path), path, name) < 0 ? NULL : s;
}

static bool same_file(const struct node *a, const struct node *b)
{
	struct stat x, y;

	return !fd_stat(a->meta, &x) && !fd_stat(b->meta, &y) && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* take_path is ours now. */
static int node_new(struct node **n, char *take_path, const char *format,
	const struct block_options *o, bool writable, struct err *err)
{
	struct node *one = calloc(1, sizeof(*one));
	int rc;

	if (!one || !take_path) {
		free(one);
		free(take_path);
		return err_set(err, -ENOMEM, "no memory");
	}
	*one = (struct node){ .path = take_path,
		.fd = -1,
		.meta = -1,
		.writable = writable,
		.no_repair = o->no_repair,
		.sync = o->cache != BLOCK_UNSAFE,
		.optimal = BLOCK_SECTOR };
	rc = node_open_one(one, format, o, err);
	if (rc) {
		node_free(one);
		return rc;
	}
	*n = one;
	return 0;
}

static int open_backing(
	struct node *top, struct node *over, const struct block_options *o, struct err *err)
{
	int rc = node_new(&over->backing, node_beside(over->path, over->backing_name),
		over->backing_format, o, false, err);

	if (rc)
		return err_wrap(err, "%s: backing file", over->path);
	for (struct node *n = top; n != over->backing; n = n->backing)
		if (same_file(n, over->backing))
			return err_set(err, -ELOOP, "%s: is its own backing file", n->path);
	return 0;
}

int node_open(
	struct node **n, const char *path, const struct block_options *options, struct err *err)
{
	struct node *top, *at;
	unsigned depth = 0;
	int rc = node_new(&top, strdup(path), options->format, options, !options->readonly, err);

	if (rc)
		return rc;
	for (at = top; at->backing_name[0] && !options->no_backing && !rc; at = at->backing) {
		if (++depth == CHAIN_MAX)
			rc = err_set(err, -ELOOP, "%s: more than %u backing files", path, depth);
		else
			rc = open_backing(top, at, options, err);
		if (rc)
			break;
	}
	if (rc) {
		node_close(top);
		return rc;
	}
	*n = top;
	return 0;
}

int node_close(struct node *n)
{
	int first = 0;

	while (n) {
		struct node *below = n->backing;
		int rc = n->writable && n->format->finish ? n->format->finish(n) : 0;

		first = first ? first : rc;
		node_free(n);
		n = below;
	}
	return first;
}

void node_wait_begin(struct node *n)
{
	if (n->blocking)
		n->blocking(n->ctx, true);
}

void node_wait_end(struct node *n)
{
	if (n->blocking)
		n->blocking(n->ctx, false);
}

/* ---- reading ---- */

int node_map(struct node *top, u64 offset, u64 len, bool wait, struct node **in, struct extent *e)
{
	for (struct node *n = top; n; n = n->backing) {
		int rc;

		if (offset >= n->size)
			break; /* a backing file that is shorter */
		len = min_u64(len, n->size - offset);
		rc = n->format->map(n, offset, len, false, wait, e);
		if (rc)
			return rc;
		*in = n;
		if (e->kind != EXTENT_ABSENT)
			return 0;
		len = e->len;
	}
	*in = top;
	*e = (struct extent){ EXTENT_ZERO, 0, len };
	return 0;
}

static int read_packed(
	struct node *n, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len)
{
	AUTO_FREE u8 *buf = malloc(len);
	u64 done = 0;
	int rc = buf ? n->format->read(n, offset, buf, len) : -ENOMEM;

	for (unsigned i = 0; i < iovcnt && !rc; i++) {
		memcpy(iov[i].iov_base, buf + done, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	return rc;
}

int node_read(struct node *top, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len)
{
	AUTO_FREE struct iovec *part = calloc(iovcnt + 1, sizeof(*part));
	struct node *n;
	struct extent e;

	if (!part)
		return -ENOMEM;
	for (u64 done = 0; done < len; done += e.len) {
		int rc = node_map(top, offset + done, len - done, true, &n, &e);

		if (rc)
			return rc;
		unsigned rows = io_slice(iov, iovcnt, done, e.len, part);

		if (e.kind == EXTENT_DATA) {
			node_wait_begin(top);
			rc = io_preadv(n->meta, part, rows, e.at);
			node_wait_end(top);
		} else if (e.kind == EXTENT_PACKED)
			rc = read_packed(n, offset + done, part, rows, e.len);
		else
			io_zero(part, rows);
		if (rc)
			return rc;
	}
	return 0;
}

int node_read_buf(struct node *top, u64 offset, void *buf, u64 len)
{
	struct iovec v = { buf, len };

	return node_read(top, offset, &v, 1, len);
}

int node_read_table(
	struct node *n, u64 at, u64 len, void **table, const char *what, struct err *err)
{
	u8 *bytes;
	int rc;

	if (!range_ok(at, len, n->file_size))
		return err_set(err, -EINVAL, "%s: its %s lies outside of the file", n->path, what);
	bytes = malloc(len + 1);
	if (!bytes)
		return err_set(err, -ENOMEM, "%s: no memory for its %s", n->path, what);
	rc = io_pread(n->meta, bytes, len, at);
	if (rc) {
		free(bytes);
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	}
	*table = bytes;
	return 0;
}

/* ---- holes ---- */

int node_write_zeroes(struct node *n, u64 offset, u64 len)
{
	static const u8 zeroes[64 * KiB];

	while (len) {
		struct iovec v = { (void *)(uintptr_t)zeroes, min_u64(len, sizeof(zeroes)) };
		int rc = n->format->write(n, offset, &v, 1, v.iov_len);

		if (rc)
			return rc;
		offset += v.iov_len;
		len -= v.iov_len;
	}
	return 0;
}

void node_punch(struct node *n, u64 offset, u64 len)
{
	if (fallocate(
		    n->meta, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len))
		return; /* the space is merely not given back */
}
