/* Requests about names and attributes. A node may move in its table when another one is looked up:
 * what is needed of it is taken before. */
#include "base/bits.h"
#include "folder/fuse_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MODE_BITS 01777u /* no set-user-ID and set-group-ID */

static void proc_name(const struct tree_node *n, char name[16]) { snprintf(name, 16, "%d", n->fd); }

/* ---- nodes ---- */

int fuse_lookup(struct fuse_call *c) { return fuse_put_entry(c, c->node->fd, c->names[0]); }

int fuse_forget(struct fuse_call *c)
{
	tree_forget(c->tree, c->id, ((const struct fuse_forget_in *)c->arg)->nlookup);
	return 0;
}

int fuse_batch_forget(struct fuse_call *c)
{
	const struct fuse_batch_forget_in *in = (const void *)c->arg;
	const struct fuse_forget_one *one = (const void *)c->rest;

	for (u32 i = 0; i < min_u64(in->count, c->rest_len / sizeof(*one)); i++)
		tree_forget(c->tree, one[i].nodeid, one[i].nlookup);
	return 0;
}

static int put_attr(struct fuse_call *c)
{
	struct fuse_attr_out out = { .attr_valid = FUSE_VALID_S };
	struct stat st;

	if (fstat(c->node->fd, &st))
		return -errno;
	out.attr = fuse_attr_of(&st);
	return fuse_put(c, &out, sizeof(out));
}

int fuse_getattr(struct fuse_call *c) { return put_attr(c); }

/* By a handle that may write, whatever the file's mode has become; or by the node. */
static int set_size(struct fuse_call *c, const struct fuse_setattr_in *in)
{
	int fd = in->valid & FATTR_FH ? tree_handle(c->tree, in->fh, TREE_FILE)
				      : tree_reopen(c->tree, c->node, O_WRONLY);

	if (fd < 0)
		return fd;
	int rc = fuse_result(ftruncate(fd, (off_t)in->size));

	if (!(in->valid & FATTR_FH))
		close(fd);
	return rc;
}

static struct timespec time_to_set(u32 valid, u32 set, u32 now, u64 seconds, u32 nanoseconds)
{
	if (valid & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	if (valid & set)
		return (struct timespec){ .tv_sec = (time_t)seconds, .tv_nsec = nanoseconds };
	return (struct timespec){ .tv_nsec = UTIME_OMIT };
}

static int set_times(struct fuse_call *c, const struct fuse_setattr_in *in)
{
	const struct timespec times[2] = {
		time_to_set(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_to_set(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};

	if (in->atimensec >= 1000000000 || in->mtimensec >= 1000000000)
		return -EINVAL;
	return fuse_result(utimensat(c->node->fd, "", times, AT_EMPTY_PATH));
}

int fuse_setattr(struct fuse_call *c)
{
	const struct fuse_setattr_in *in = (const void *)c->arg;
	u32 owner = in->valid & (FATTR_UID | FATTR_GID);
	char name[16];
	int rc = 0;

	proc_name(c->node, name);
	if (in->valid & FATTR_MODE && c->node->type != S_IFLNK)
		rc = fuse_result(fchmodat(c->tree->proc, name, in->mode & MODE_BITS, 0));
	if (!rc && owner)
		rc = fuse_result(fchownat(c->node->fd, "", owner & FATTR_UID ? in->uid : (uid_t)-1,
			owner & FATTR_GID ? in->gid : (gid_t)-1, AT_EMPTY_PATH));
	if (!rc && in->valid & FATTR_SIZE)
		rc = set_size(c, in);
	if (!rc && in->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW))
		rc = set_times(c, in);
	return rc ? rc : put_attr(c);
}

int fuse_readlink(struct fuse_call *c)
{
	char text[4096];
	ssize_t len = readlinkat(c->node->fd, "", text, sizeof(text));

	return len < 0 ? -errno : fuse_put(c, text, (size_t)len);
}

int fuse_access(struct fuse_call *c)
{
	const struct fuse_access_in *in = (const void *)c->arg;
	char name[16];

	if (in->mask & W_OK && c->tree->readonly)
		return -EROFS;
	proc_name(c->node, name);
	return fuse_result(
		faccessat(c->tree->proc, name, (int)(in->mask & (R_OK | W_OK | X_OK)), 0));
}

int fuse_statfs(struct fuse_call *c)
{
	struct statfs s;

	if (fstatfs(c->node->fd, &s))
		return -errno;
	const struct fuse_statfs_out out = { .st = {
						     .blocks = (u64)s.f_blocks,
						     .bfree = (u64)s.f_bfree,
						     .bavail = (u64)s.f_bavail,
						     .files = (u64)s.f_files,
						     .ffree = (u64)s.f_ffree,
						     .bsize = (u32)s.f_bsize,
						     .namelen = (u32)s.f_namelen,
						     .frsize = (u32)s.f_frsize,
					     } };

	return fuse_put(c, &out, sizeof(out));
}

/* ---- what is made ---- */

int fuse_symlink(struct fuse_call *c)
{
	int folder = c->node->fd;

	if (symlinkat(c->names[1], folder, c->names[0]))
		return -errno;
	return fuse_put_entry(c, folder, c->names[0]);
}

/* Opened rather than made by mknod(): a device cannot be the result of that. */
int fuse_mknod(struct fuse_call *c)
{
	const struct fuse_mknod_in *in = (const void *)c->arg;
	int folder = c->node->fd;

	if ((in->mode & S_IFMT) != S_IFREG)
		return -EPERM;
	int fd = openat(folder, c->names[0], O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
		in->mode & MODE_BITS);

	if (fd < 0)
		return -errno;
	close(fd);
	return fuse_put_entry(c, folder, c->names[0]);
}

int fuse_mkdir(struct fuse_call *c)
{
	const struct fuse_mkdir_in *in = (const void *)c->arg;
	int folder = c->node->fd;

	if (mkdirat(folder, c->names[0], in->mode & MODE_BITS))
		return -errno;
	return fuse_put_entry(c, folder, c->names[0]);
}

int fuse_link(struct fuse_call *c)
{
	const struct tree_node *what =
		tree_node(c->tree, ((const struct fuse_link_in *)c->arg)->oldnodeid);
	int folder = c->node->fd;
	char name[16];

	if (!what)
		return -ESTALE;
	/* A symbolic link would be followed, where nobody has looked. */
	if (what->type != S_IFREG)
		return -EPERM;
	proc_name(what, name);
	if (linkat(c->tree->proc, name, folder, c->names[0], AT_SYMLINK_FOLLOW))
		return -errno;
	return fuse_put_entry(c, folder, c->names[0]);
}

/* ---- what is removed ---- */

static int unlink_as(struct fuse_call *c, int flags)
{
	return fuse_result(unlinkat(c->node->fd, c->names[0], flags));
}

int fuse_unlink(struct fuse_call *c) { return unlink_as(c, 0); }
int fuse_rmdir(struct fuse_call *c) { return unlink_as(c, AT_REMOVEDIR); }

static int move(struct fuse_call *c, u64 to, u32 flags)
{
	const struct tree_node *folder = tree_node(c->tree, to);

	if (!folder)
		return -ESTALE;
	/* RENAME_WHITEOUT would make a device. */
	if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	return fuse_result(renameat2(c->node->fd, c->names[0], folder->fd, c->names[1], flags));
}

int fuse_rename(struct fuse_call *c)
{
	return move(c, ((const struct fuse_rename_in *)c->arg)->newdir, 0);
}

int fuse_rename2(struct fuse_call *c)
{
	const struct fuse_rename2_in *in = (const void *)c->arg;

	return move(c, in->newdir, in->flags);
}
