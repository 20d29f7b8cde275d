/* Between the table of requests and those who serve them. */
#pragma once
#include "folder/fuse.h"
#include "folder/tree.h"
#include <errno.h>
#include <linux/fuse.h>

struct fuse_call {
	struct tree *tree;
	const struct tree_node *node; /* what the request is about; NULL: it did not ask for one */
	u64 id;			      /* the node's number */
	const u8 *arg;		      /* the request's struct, as long as the table says */
	const char *names[2];	      /* behind it; those that the table asks for */
	const u8 *rest;		      /* and behind all that */
	size_t rest_len;
	u8 *out; /* behind the answer's head */
	size_t room, len;
};

/* A row of the table: 0 or -errno; what was put before is the answer. */
typedef int fuse_handler(struct fuse_call *c);

/* What a system call has returned, as a handler's. */
static inline int fuse_result(int rc) { return rc < 0 ? -errno : 0; }
/* fsync(2) and close(2) for either kind of handle. */
NODISCARD int fuse_sync(struct fuse_call *c, enum tree_kind kind);
void fuse_let_go(struct fuse_call *c, enum tree_kind kind);
/* Adds to the answer. -EIO: there is no room for it. */
NODISCARD int fuse_put(struct fuse_call *c, const void *data, size_t len);
struct fuse_attr fuse_attr_of(const struct stat *st);
/* Looks a name up below the call's node, and says what it is. */
NODISCARD int fuse_entry(
	struct fuse_call *c, int folder, const char *name, struct fuse_entry_out *e);
NODISCARD int fuse_put_entry(struct fuse_call *c, int folder, const char *name);

/* fuse_names.c */
fuse_handler fuse_lookup, fuse_forget, fuse_batch_forget, fuse_getattr, fuse_setattr, fuse_readlink,
	fuse_symlink, fuse_mknod, fuse_mkdir, fuse_unlink, fuse_rmdir, fuse_rename, fuse_rename2,
	fuse_link, fuse_access, fuse_statfs;
/* fuse_files.c */
fuse_handler fuse_open, fuse_create, fuse_read, fuse_write, fuse_flush, fuse_release, fuse_fsync,
	fuse_lseek, fuse_fallocate, fuse_syncfs;
/* fuse_folders.c */
fuse_handler fuse_opendir, fuse_readdir, fuse_readdirplus, fuse_releasedir, fuse_fsyncdir;
