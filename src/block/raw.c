/* The file is the disk: a regular file or a block device of the host. */
#include "base/bits.h"
#include "block/format.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool raw_probe(const u8 *head) { return true; }

/* A file that ends within a sector is read with zeroes behind its end. */
static int raw_open(struct node *n, struct err *err)
{
	n->size = align_up(n->file_size, BLOCK_SECTOR);
	return 0;
}

static int raw_map(struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e)
{
	*e = (struct extent){ EXTENT_DATA, offset, len };
	return 0;
}

static int raw_write(struct node *n, u64 offset, const struct iovec *iov, unsigned iovcnt, u64 len)
{
	return io_pwritev(n->meta, iov, iovcnt, offset);
}

static int raw_drop(struct node *n, u64 offset, u64 len, bool zero)
{
	if (!fallocate(
		    n->meta, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len))
		return 0;
	return zero ? node_write_zeroes(n, offset, len) : 0;
}

static int raw_create(int fd, const struct block_create *c, struct err *err)
{
	if (ftruncate(fd, (off_t)c->size))
		return err_set(err, -errno, "%s", strerror(errno));
	return 0;
}

static int raw_resize(struct node *n, u64 size, struct err *err)
{
	if (ftruncate(n->meta, (off_t)size))
		return err_set(err, -errno, "%s: %s", n->path, strerror(errno));
	n->size = size;
	return 0;
}

const struct block_format raw_format = {
	.name = "raw",
	.doc = "the file is the disk",
	.probe = raw_probe,
	.writable = true,
	.open = raw_open,
	.map = raw_map,
	.write = raw_write,
	.drop = raw_drop,
	.create = raw_create,
	.resize = raw_resize,
};
