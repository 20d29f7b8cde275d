/*
 * Folders. What is read of one begins where the other side says, by a place that the host's file
 * system has given for an entry: so nothing is kept between two requests.
 */
#include "base/bits.h"
#include "folder/fuse_priv.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 8192u /* bytes that the host is asked for at once */

/* What getdents64 gives, one after the other. */
struct host_entry {
	u64 ino;
	s64 next;
	u16 len;
	u8 type;
	char name[];
};

int fuse_opendir(struct fuse_call *c)
{
	struct fuse_open_out out = { 0 };

	if (c->node->type != S_IFDIR)
		return -ENOTDIR;
	int fd = tree_reopen(c->tree, c->node, O_RDONLY);
	int rc = fd < 0 ? fd : tree_handle_new(c->tree, fd, TREE_FOLDER, &out.fh);

	if (rc)
		return rc;
	rc = fuse_put(c, &out, sizeof(out));
	if (rc)
		tree_handle_close(c->tree, out.fh, TREE_FOLDER);
	return rc;
}

static bool is_dots(const char *name) { return !strcmp(name, ".") || !strcmp(name, ".."); }

/* The name, rounded up to eight bytes. */
static int put_name(struct fuse_call *c, const struct host_entry *e, size_t len)
{
	static const u8 zeroes[8];
	/* What is above the root is nobody's business here. */
	bool outside = c->id == TREE_ROOT && !strcmp(e->name, "..");
	const struct fuse_dirent d = {
		.ino = outside ? tree_node(c->tree, TREE_ROOT)->ino : e->ino,
		.off = (u64)e->next,
		.namelen = (u32)len,
		.type = e->type,
	};

	if (fuse_put(c, &d, FUSE_NAME_OFFSET) || fuse_put(c, e->name, len))
		return -EIO;
	return fuse_put(c, zeroes, FUSE_REC_ALIGN(c->len) - c->len);
}

/* true: it had room. With `plus`, an entry that cannot be looked up is one without attributes. */
static bool put_one(struct fuse_call *c, int folder, const struct host_entry *e, bool plus)
{
	struct fuse_entry_out entry = { 0 };
	size_t before = c->len, len = strlen(e->name);

	if (plus && !is_dots(e->name) && fuse_entry(c, folder, e->name, &entry))
		entry = (struct fuse_entry_out){ 0 };
	if ((plus && fuse_put(c, &entry, sizeof(entry))) || put_name(c, e, len)) {
		c->len = before;
		if (entry.nodeid)
			tree_forget(c->tree, entry.nodeid, 1);
		return false;
	}
	return true;
}

static int read_folder(struct fuse_call *c, bool plus)
{
	const struct fuse_read_in *in = (const void *)c->arg;
	int folder = tree_handle(c->tree, in->fh, TREE_FOLDER);
	_Alignas(8) char entries[ENTRIES];
	bool fits = true;
	long n = 0;

	if (folder < 0)
		return folder;
	c->room = min_u64(c->room, in->size);
	if (lseek(folder, (off_t)in->offset, SEEK_SET) < 0)
		return -errno;
	while (fits && (n = syscall(SYS_getdents64, folder, entries, sizeof(entries))) > 0)
		for (long at = 0; fits && at < n;) {
			const struct host_entry *e = (const void *)(entries + at);

			fits = put_one(c, folder, e, plus);
			at += e->len;
		}
	return n < 0 && !c->len ? -errno : 0;
}

int fuse_readdir(struct fuse_call *c) { return read_folder(c, false); }
int fuse_readdirplus(struct fuse_call *c) { return read_folder(c, true); }

int fuse_releasedir(struct fuse_call *c)
{
	fuse_let_go(c, TREE_FOLDER);
	return 0;
}

int fuse_fsyncdir(struct fuse_call *c) { return fuse_sync(c, TREE_FOLDER); }
