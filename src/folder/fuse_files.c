/* Requests about the contents of files. */
#include "base/bits.h"
#include "folder/fuse_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What a guest may ask for in opening; direct access is a matter between it and its cache. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC | O_DSYNC | O_SYNC)

static bool changes(u32 flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC; }

static int put_handle(struct fuse_call *c, int take_fd)
{
	struct fuse_open_out out = { 0 };
	int rc = tree_handle_new(c->tree, take_fd, TREE_FILE, &out.fh);

	if (rc)
		return rc;
	rc = fuse_put(c, &out, sizeof(out));
	if (rc)
		tree_handle_close(c->tree, out.fh, TREE_FILE);
	return rc;
}

int fuse_open(struct fuse_call *c)
{
	u32 flags = ((const struct fuse_open_in *)c->arg)->flags;

	if (c->tree->readonly && changes(flags))
		return -EROFS;
	if (c->node->type != S_IFREG)
		return c->node->type == S_IFDIR ? -EISDIR : -EACCES;
	int fd = tree_reopen(c->tree, c->node, (int)(flags & OPEN_FLAGS));

	return fd < 0 ? fd : put_handle(c, fd);
}

/* Made, or, where it exists and may, opened as any other: it need not be a file. */
int fuse_create(struct fuse_call *c)
{
	const struct fuse_create_in *in = (const void *)c->arg;
	int folder = c->node->fd, flags = (int)(in->flags & OPEN_FLAGS);
	struct fuse_entry_out e;
	int fd = openat(folder, c->names[0], flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		in->mode & 01777);

	if (fd < 0 && (errno != EEXIST || in->flags & O_EXCL))
		return -errno;
	int rc = fuse_entry(c, folder, c->names[0], &e);

	if (rc) {
		if (fd >= 0)
			close(fd);
		return rc;
	}
	if (fd < 0)
		fd = tree_reopen(c->tree, tree_node(c->tree, e.nodeid), flags);
	rc = fd < 0 ? fd : fuse_put(c, &e, sizeof(e));
	if (rc && fd >= 0)
		close(fd);
	rc = rc ? rc : put_handle(c, fd);
	if (rc)
		tree_forget(c->tree, e.nodeid, 1);
	return rc;
}

int fuse_read(struct fuse_call *c)
{
	const struct fuse_read_in *in = (const void *)c->arg;
	int fd = tree_handle(c->tree, in->fh, TREE_FILE);

	if (fd < 0)
		return fd;
	ssize_t n = pread(fd, c->out, min_u64(in->size, c->room), (off_t)in->offset);

	if (n < 0)
		return -errno;
	c->len = (size_t)n;
	return 0;
}

int fuse_write(struct fuse_call *c)
{
	const struct fuse_write_in *in = (const void *)c->arg;
	int fd = tree_handle(c->tree, in->fh, TREE_FILE);

	if (fd < 0)
		return fd;
	if (in->size > c->rest_len)
		return -EINVAL;
	ssize_t n = pwrite(fd, c->rest, in->size, (off_t)in->offset);

	if (n < 0)
		return -errno;
	const struct fuse_write_out out = { .size = (u32)n };

	return fuse_put(c, &out, sizeof(out));
}

/* Some file systems say only here what became of writes. */
int fuse_flush(struct fuse_call *c)
{
	int fd = tree_handle(c->tree, ((const struct fuse_flush_in *)c->arg)->fh, TREE_FILE);

	if (fd < 0)
		return fd;
	fd = dup(fd);
	return fd < 0 ? -errno : fuse_result(close(fd));
}

void fuse_let_go(struct fuse_call *c, enum tree_kind kind)
{
	tree_handle_close(c->tree, ((const struct fuse_release_in *)c->arg)->fh, kind);
}

int fuse_release(struct fuse_call *c)
{
	fuse_let_go(c, TREE_FILE);
	return 0;
}

int fuse_sync(struct fuse_call *c, enum tree_kind kind)
{
	const struct fuse_fsync_in *in = (const void *)c->arg;
	int fd = tree_handle(c->tree, in->fh, kind);

	if (fd < 0)
		return fd;
	return fuse_result(in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd));
}

int fuse_fsync(struct fuse_call *c) { return fuse_sync(c, TREE_FILE); }

/* Where data and holes are; anything else a kernel knows itself. */
int fuse_lseek(struct fuse_call *c)
{
	const struct fuse_lseek_in *in = (const void *)c->arg;
	int fd = tree_handle(c->tree, in->fh, TREE_FILE);

	if (fd < 0)
		return fd;
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	off_t at = lseek(fd, (off_t)in->offset, (int)in->whence);

	if (at < 0)
		return -errno;
	const struct fuse_lseek_out out = { .offset = (u64)at };

	return fuse_put(c, &out, sizeof(out));
}

int fuse_fallocate(struct fuse_call *c)
{
	const struct fuse_fallocate_in *in = (const void *)c->arg;
	const u32 known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
	int fd = tree_handle(c->tree, in->fh, TREE_FILE);

	if (fd < 0)
		return fd;
	if (in->mode & ~known)
		return -EOPNOTSUPP;
	return fuse_result(fallocate(fd, (int)in->mode, (off_t)in->offset, (off_t)in->length));
}

int fuse_syncfs(struct fuse_call *c)
{
	int fd = tree_reopen(c->tree, c->node, O_RDONLY);

	if (fd < 0)
		return fd;
	int rc = fuse_result(syncfs(fd));

	close(fd);
	return rc;
}
