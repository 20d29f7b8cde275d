/* See fuse.h. The table of requests: what each must bring along, and who serves it. */
#include "base/bits.h"
#include "folder/fuse_priv.h"
#include <errno.h>
#include <string.h>

/* What a request is apart from a WRITE's data: two names, or a name and a symbolic link's text. */
#define REQUEST_MAX 8192u
#define MINOR_MIN   31u

static fuse_handler init, destroy, ignore;

enum {
	NODE = 1,    /* about a node that exists */
	CHANGES = 2, /* not in a read-only tree */
	SILENT = 4,  /* has no answer */
	LARGE = 8,   /* brings data along */
	TEXT = 16,   /* the last of the names is none */
};

static const struct row {
	fuse_handler *serve;
	u16 size; /* of the struct behind the head */
	u8 names; /* behind that, each with a NUL */
	u8 flags;
} rows[] = {
	[FUSE_LOOKUP] = { fuse_lookup, 0, 1, NODE },
	[FUSE_FORGET] = { fuse_forget, sizeof(struct fuse_forget_in), 0, SILENT },
	[FUSE_GETATTR] = { fuse_getattr, sizeof(struct fuse_getattr_in), 0, NODE },
	[FUSE_SETATTR] = { fuse_setattr, sizeof(struct fuse_setattr_in), 0, NODE | CHANGES },
	[FUSE_READLINK] = { fuse_readlink, 0, 0, NODE },
	[FUSE_SYMLINK] = { fuse_symlink, 0, 2, NODE | CHANGES | TEXT },
	[FUSE_MKNOD] = { fuse_mknod, sizeof(struct fuse_mknod_in), 1, NODE | CHANGES },
	[FUSE_MKDIR] = { fuse_mkdir, sizeof(struct fuse_mkdir_in), 1, NODE | CHANGES },
	[FUSE_UNLINK] = { fuse_unlink, 0, 1, NODE | CHANGES },
	[FUSE_RMDIR] = { fuse_rmdir, 0, 1, NODE | CHANGES },
	[FUSE_RENAME] = { fuse_rename, sizeof(struct fuse_rename_in), 2, NODE | CHANGES },
	[FUSE_LINK] = { fuse_link, sizeof(struct fuse_link_in), 1, NODE | CHANGES },
	[FUSE_OPEN] = { fuse_open, sizeof(struct fuse_open_in), 0, NODE },
	[FUSE_READ] = { fuse_read, sizeof(struct fuse_read_in), 0, 0 },
	[FUSE_WRITE] = { fuse_write, sizeof(struct fuse_write_in), 0, CHANGES | LARGE },
	[FUSE_STATFS] = { fuse_statfs, 0, 0, NODE },
	[FUSE_RELEASE] = { fuse_release, sizeof(struct fuse_release_in), 0, 0 },
	[FUSE_FSYNC] = { fuse_fsync, sizeof(struct fuse_fsync_in), 0, 0 },
	[FUSE_FLUSH] = { fuse_flush, sizeof(struct fuse_flush_in), 0, 0 },
	/* What is behind the flags is of later versions. */
	[FUSE_INIT] = { init, offsetof(struct fuse_init_in, flags2), 0, 0 },
	[FUSE_OPENDIR] = { fuse_opendir, sizeof(struct fuse_open_in), 0, NODE },
	[FUSE_READDIR] = { fuse_readdir, sizeof(struct fuse_read_in), 0, NODE },
	[FUSE_RELEASEDIR] = { fuse_releasedir, sizeof(struct fuse_release_in), 0, 0 },
	[FUSE_FSYNCDIR] = { fuse_fsyncdir, sizeof(struct fuse_fsync_in), 0, 0 },
	[FUSE_ACCESS] = { fuse_access, sizeof(struct fuse_access_in), 0, NODE },
	[FUSE_CREATE] = { fuse_create, sizeof(struct fuse_create_in), 1, NODE | CHANGES },
	/* Requests are served one after the other: what it is about has been. */
	[FUSE_INTERRUPT] = { ignore, sizeof(struct fuse_interrupt_in), 0, SILENT },
	[FUSE_DESTROY] = { destroy, 0, 0, 0 },
	[FUSE_BATCH_FORGET] = { fuse_batch_forget, sizeof(struct fuse_batch_forget_in), 0, SILENT },
	[FUSE_FALLOCATE] = { fuse_fallocate, sizeof(struct fuse_fallocate_in), 0, CHANGES },
	[FUSE_READDIRPLUS] = { fuse_readdirplus, sizeof(struct fuse_read_in), 0, NODE },
	[FUSE_RENAME2] = { fuse_rename2, sizeof(struct fuse_rename2_in), 2, NODE | CHANGES },
	[FUSE_LSEEK] = { fuse_lseek, sizeof(struct fuse_lseek_in), 0, 0 },
	[FUSE_SYNCFS] = { fuse_syncfs, 0, 0, NODE },
};

/* ---- what handlers share ---- */

int fuse_put(struct fuse_call *c, const void *data, size_t len)
{
	if (len > c->room - c->len)
		return -EIO;
	memcpy(c->out + c->len, data, len);
	c->len += len;
	return 0;
}

struct fuse_attr fuse_attr_of(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (u64)st->st_size,
		.blocks = (u64)st->st_blocks,
		.atime = (u64)st->st_atim.tv_sec,
		.mtime = (u64)st->st_mtim.tv_sec,
		.ctime = (u64)st->st_ctim.tv_sec,
		.atimensec = (u32)st->st_atim.tv_nsec,
		.mtimensec = (u32)st->st_mtim.tv_nsec,
		.ctimensec = (u32)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (u32)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.blksize = (u32)st->st_blksize,
	};
}

int fuse_entry(struct fuse_call *c, int folder, const char *name, struct fuse_entry_out *e)
{
	struct stat st;
	u64 id;
	int rc = tree_look_up(c->tree, folder, name, &id, &st);

	if (!rc)
		*e = (struct fuse_entry_out){ .nodeid = id,
			.entry_valid = FUSE_VALID_S,
			.attr_valid = FUSE_VALID_S,
			.attr = fuse_attr_of(&st) };
	return rc;
}

int fuse_put_entry(struct fuse_call *c, int folder, const char *name)
{
	struct fuse_entry_out e;
	int rc = fuse_entry(c, folder, name, &e);

	if (rc)
		return rc;
	rc = fuse_put(c, &e, sizeof(e));
	if (rc)
		tree_forget(c->tree, e.nodeid, 1);
	return rc;
}

/* ---- the session ---- */

static int ignore(struct fuse_call *c) { return 0; }

static int destroy(struct fuse_call *c)
{
	tree_forget_all(c->tree);
	return 0;
}

static int init(struct fuse_call *c)
{
	const u32 flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES |
			  FUSE_AUTO_INVAL_DATA | FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
			  FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES;
	struct fuse_init_in in = { 0 };

	memcpy(&in, c->arg, offsetof(struct fuse_init_in, flags2));
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = MINOR_MIN,
		.max_readahead = (u32)min_u64(in.max_readahead, FUSE_DATA_MAX),
		.flags = in.flags & flags,
		.max_write = FUSE_DATA_MAX,
		.time_gran = 1,
		.max_pages = FUSE_DATA_MAX / PAGE_SIZE,
	};

	if (in.major < FUSE_KERNEL_VERSION ||
		(in.major == FUSE_KERNEL_VERSION && in.minor < MINOR_MIN))
		return -EPROTO;
	tree_forget_all(c->tree);
	return fuse_put(c, &out, sizeof(out));
}

/* ---- one request ---- */

/* The struct and the names, as the row says; what is too long for the copy has none. */
static int take_apart(struct fuse_call *c, const struct row *r, const u8 *body, size_t len)
{
	if (len < r->size)
		return -EINVAL;
	c->arg = body;
	body += r->size;
	len -= r->size;
	for (unsigned i = 0; i < r->names; i++) {
		const u8 *end = memchr(body, '\0', len);
		bool text = r->flags & TEXT && i + 1 == r->names;

		if (!end || (!text && !tree_is_name((const char *)body)))
			return -EINVAL;
		c->names[i] = (const char *)body;
		len -= (size_t)(end + 1 - body);
		body = end + 1;
	}
	c->rest = body;
	c->rest_len = len;
	return 0;
}

/* `whole`: how much there is behind the head; `body`: the copy of it. */
static int serve(struct fuse_call *c, const struct row *r, const u8 *body, size_t whole)
{
	size_t len = min_u64(whole, REQUEST_MAX - sizeof(struct fuse_in_header));

	if (!r || !r->serve)
		return -ENOSYS;
	c->node = r->flags & NODE ? tree_node(c->tree, c->id) : NULL;
	if (r->flags & NODE && !c->node)
		return -ESTALE;
	if (r->flags & CHANGES && c->tree->readonly)
		return -EROFS;
	int rc = take_apart(c, r, body, len);

	if (!rc && r->flags & LARGE) {
		c->rest = c->out - sizeof(struct fuse_out_header) + sizeof(struct fuse_in_header) +
			  r->size;
		c->rest_len = whole - r->size;
	}
	return rc ? rc : r->serve(c);
}

size_t fuse_serve(struct tree *t, u8 *buf, size_t in_len, size_t room)
{
	_Alignas(8) u8 copy[REQUEST_MAX];
	struct fuse_in_header head;

	if (in_len < sizeof(head))
		return 0;
	memcpy(copy, buf, min_u64(in_len, sizeof(copy)));
	memcpy(&head, copy, sizeof(head));
	const struct row *r = head.opcode < ARRAY_LEN(rows) ? &rows[head.opcode] : NULL;
	bool large = r && r->flags & LARGE, silent = r && r->flags & SILENT;
	struct fuse_call c = {
		.tree = t,
		.id = head.nodeid,
		.out = buf + sizeof(struct fuse_out_header),
		.room = room - min_u64(room, sizeof(struct fuse_out_header)),
	};
	int rc = -EINVAL;

	/* Data is where it was; a struct is in the copy. */
	if (head.len >= sizeof(head) && head.len <= in_len && (large || head.len <= sizeof(copy)))
		rc = serve(&c, r, copy + sizeof(head), head.len - sizeof(head));
	if (silent || room < sizeof(struct fuse_out_header))
		return 0;
	const struct fuse_out_header answer = {
		.len = (u32)(sizeof(answer) + (rc ? 0 : c.len)), .error = rc, .unique = head.unique
	};

	memcpy(buf, &answer, sizeof(answer));
	return answer.len;
}
