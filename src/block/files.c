/* See block.h: the descriptors of a chain of images, opened in one process for another. */
#include "block/block.h"
#include "block/format.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A lock is its open file's, and so the copy's, too. */
static int add(struct block_files *f, int fd, const char *path, struct err *err)
{
	if (f->count == BLOCK_FILES_MAX)
		return err_set(
			err, -E2BIG, "%s: more than %u files to hand over", path, BLOCK_FILES_MAX);
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	f->fd[f->count++] = copy;
	return 0;
}

int block_files_open(struct block_files *f, const char *path, const struct block_options *options,
	struct err *err)
{
	struct block_options o = *options;
	struct node *top;

	*f = (struct block_files){ .count = 0 };
	o.no_repair = true; /* that is for whoever gets the files */
	int rc = node_open(&top, path, &o, err);

	if (rc)
		return rc;
	for (const struct node *n = top; n && !rc; n = n->backing) {
		rc = add(f, n->meta, n->path, err);
		if (!rc && n->fd != n->meta)
			rc = add(f, n->fd, n->path, err);
	}
	node_close(top);
	if (rc)
		block_files_close(f);
	return rc;
}

void block_files_close(struct block_files *f)
{
	for (unsigned i = 0; i < f->count; i++)
		if (f->fd[i] >= 0)
			close(f->fd[i]);
	f->count = f->taken = 0;
}
