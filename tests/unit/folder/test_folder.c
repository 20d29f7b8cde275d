/* A shared folder: the real server, in its own process, on a temporary tree. Requests are laid out
 * as <linux/fuse.h> has them, nearly all that a kernel sends, and some that none would. */
#include "base/bits.h"
#include "folder/folder.h"
#include "folder/fuse.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define UNIQUE 77u

struct bench {
	struct folder f;
	char path[64], outside[80], within[80];
	u8 *buf;
	u32 len; /* of the request, while it is made */
};

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static const char *read_file(const char *folder, const char *name)
{
	static char text[64];
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		return NULL;
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* .../outside, and .../within, which is what the server has. */
static void open_bench(struct bench *b, bool readonly)
{
	struct err err = { 0 };
	char name[160];

	memset(b, 0, sizeof(*b));
	strcpy(b->path, "/tmp/strata-folder-XXXXXX");
	assert_non_null(mkdtemp(b->path));
	snprintf(b->outside, sizeof(b->outside), "%s/outside", b->path);
	snprintf(b->within, sizeof(b->within), "%s/within", b->path);
	write_file(b->outside, "outside");
	assert_int_equal(mkdir(b->within, 0755), 0);
	snprintf(name, sizeof(name), "%s/file", b->within);
	write_file(name, "contents");
	snprintf(name, sizeof(name), "%s/link", b->within);
	assert_int_equal(symlink("../outside", name), 0);
	assert_int_equal(folder_open(&b->f, b->within, readonly, &err), 0);
	b->buf = folder_buffer(&b->f, 0);
}

static void close_bench(struct bench *b)
{
	char command[160];

	assert_string_equal(read_file(b->path, "outside"), "outside");
	folder_close(&b->f);
	snprintf(command, sizeof(command), "rm -r %s", b->path);
	assert_int_equal(system(command), 0);
}

static void begin(struct bench *b, u32 opcode, u64 node)
{
	const struct fuse_in_header h = { .opcode = opcode, .unique = UNIQUE, .nodeid = node };

	memcpy(b->buf, &h, sizeof(h));
	b->len = sizeof(h);
}

static void add(struct bench *b, const void *data, size_t len)
{
	memcpy(b->buf + b->len, data, len);
	b->len += (u32)len;
}

static void add_name(struct bench *b, const char *name) { add(b, name, strlen(name) + 1); }

/* The answer's length, with its head; 0: none. */
static u32 exchange(struct bench *b, u32 room)
{
	unsigned slot = 99;
	u32 len = 0;

	put_le32(b->buf, b->len);
	assert_true(folder_ask(&b->f, 0, b->len, room));
	while (!folder_answer(&b->f, &slot, &len))
		folder_wait(&b->f);
	assert_int_equal(slot, 0);
	return len;
}

/* 0, and `size` bytes of answer, or -errno. */
static int ask(struct bench *b, void *answer, size_t size)
{
	struct fuse_out_header h;
	u32 len = exchange(b, FOLDER_BUFFER);

	assert_in_range(len, sizeof(h), FOLDER_BUFFER);
	memcpy(&h, b->buf, sizeof(h));
	assert_int_equal(h.unique, UNIQUE);
	assert_int_equal(h.len, len);
	if (h.error) {
		assert_int_equal(len, sizeof(h));
		return h.error;
	}
	assert_int_equal(len, sizeof(h) + size);
	if (size)
		memcpy(answer, b->buf + sizeof(h), size);
	return 0;
}

static int simple(struct bench *b, u32 opcode, u64 node, const void *arg, size_t len,
	const char *first, const char *second)
{
	begin(b, opcode, node);
	if (len)
		add(b, arg, len);
	if (first)
		add_name(b, first);
	if (second)
		add_name(b, second);
	return ask(b, NULL, 0);
}

static int entry(struct bench *b, u32 opcode, u64 node, const void *arg, size_t len,
	const char *first, const char *second, struct fuse_entry_out *e)
{
	begin(b, opcode, node);
	if (len)
		add(b, arg, len);
	add_name(b, first);
	if (second)
		add_name(b, second);
	return ask(b, e, sizeof(*e));
}

static u64 look_up(struct bench *b, u64 node, const char *name)
{
	struct fuse_entry_out e;

	return entry(b, FUSE_LOOKUP, node, NULL, 0, name, NULL, &e) ? 0 : e.nodeid;
}

static int open_node(struct bench *b, u32 opcode, u64 node, u32 flags, u64 *handle)
{
	const struct fuse_open_in in = { .flags = flags };
	struct fuse_open_out out = { 0 };

	begin(b, opcode, node);
	add(b, &in, sizeof(in));
	int rc = ask(b, &out, sizeof(out));

	*handle = out.fh;
	return rc;
}

static void init(struct bench *b)
{
	const struct fuse_init_in in = {
		.major = 7, .minor = 37, .max_readahead = 1 << 17, .flags = ~0u
	};
	struct fuse_init_out out;

	begin(b, FUSE_INIT, 0);
	add(b, &in, sizeof(in));
	assert_int_equal(ask(b, &out, sizeof(out)), 0);
	assert_int_equal(out.major, 7);
	assert_int_equal(out.minor, 31);
	assert_int_equal(out.max_write, 1 << 20);
	assert_int_equal(out.max_pages, 256);
	assert_true(out.flags & FUSE_MAX_PAGES);
	assert_false(out.flags & (FUSE_WRITEBACK_CACHE | FUSE_POSIX_LOCKS | FUSE_INIT_EXT));
}

static void files_are_read_and_written(void **state)
{
	const struct fuse_create_in create = { .flags = O_RDWR, .mode = S_IFREG | 06644 };
	static u8 large[1 << 20];
	struct {
		struct fuse_entry_out e;
		struct fuse_open_out o;
	} made;
	struct fuse_write_out wrote;
	struct bench b;
	u64 h;

	open_bench(&b, false);
	init(&b);
	u64 file = look_up(&b, 1, "file");

	assert_true(file > 1);
	assert_int_equal(look_up(&b, 1, "file"), file);
	assert_int_equal(look_up(&b, 1, "nothing"), 0);
	assert_int_equal(open_node(&b, FUSE_OPEN, file, O_RDONLY, &h), 0);
	struct fuse_read_in get = { .fh = h, .offset = 3, .size = 4096 };
	char text[5];

	begin(&b, FUSE_READ, file);
	add(&b, &get, sizeof(get));
	assert_int_equal(ask(&b, text, 5), 0);
	assert_memory_equal(text, "tents", 5);

	begin(&b, FUSE_CREATE, 1);
	add(&b, &create, sizeof(create));
	add_name(&b, "made");
	assert_int_equal(ask(&b, &made, sizeof(made)), 0);
	/* Nobody becomes somebody else by running it. */
	assert_int_equal(made.e.attr.mode, S_IFREG | 0644);
	const struct fuse_write_in put = { .fh = made.o.fh, .size = sizeof(large) };

	memset(large, 0x3c, sizeof(large));
	begin(&b, FUSE_WRITE, made.e.nodeid);
	add(&b, &put, sizeof(put));
	add(&b, large, sizeof(large));
	assert_int_equal(ask(&b, &wrote, sizeof(wrote)), 0);
	assert_int_equal(wrote.size, sizeof(large));
	get = (struct fuse_read_in){ .fh = made.o.fh, .size = sizeof(large) };
	begin(&b, FUSE_READ, made.e.nodeid);
	add(&b, &get, sizeof(get));
	assert_int_equal(exchange(&b, FOLDER_BUFFER), 16 + sizeof(large));
	assert_memory_equal(b.buf + 16, large, sizeof(large));
	/* More than there is; a handle of nobody's; what was opened to be read. */
	begin(&b, FUSE_WRITE, made.e.nodeid);
	add(&b, &put, sizeof(put));
	add(&b, large, 10);
	assert_int_equal(ask(&b, NULL, 0), -EINVAL);
	get.fh = 12345;
	assert_int_equal(simple(&b, FUSE_READ, file, &get, sizeof(get), NULL, NULL), -EBADF);
	const struct fuse_write_in wrong = { .fh = h, .size = 1 };

	begin(&b, FUSE_WRITE, file);
	add(&b, &wrong, sizeof(wrong));
	add(&b, "x", 1);
	assert_int_equal(ask(&b, NULL, 0), -EBADF);

	const struct fuse_fallocate_in hole = {
		.fh = made.o.fh, .offset = 0, .length = 1 << 19, .mode = 3 /* punched, same size */
	};
	struct fuse_lseek_in seek = { .fh = made.o.fh, .whence = SEEK_DATA };
	struct fuse_lseek_out at;

	if (!simple(&b, FUSE_FALLOCATE, 0, &hole, sizeof(hole), NULL, NULL)) {
		begin(&b, FUSE_LSEEK, 0);
		add(&b, &seek, sizeof(seek));
		assert_int_equal(ask(&b, &at, sizeof(at)), 0);
		assert_int_equal(at.offset, 1 << 19);
	}
	const struct fuse_fsync_in sync = { .fh = made.o.fh };
	const struct fuse_flush_in flush = { .fh = made.o.fh };
	const struct fuse_release_in release = { .fh = made.o.fh };

	assert_int_equal(simple(&b, FUSE_FSYNC, 0, &sync, sizeof(sync), NULL, NULL), 0);
	assert_int_equal(simple(&b, FUSE_FLUSH, 0, &flush, sizeof(flush), NULL, NULL), 0);
	assert_int_equal(simple(&b, FUSE_RELEASE, 0, &release, sizeof(release), NULL, NULL), 0);
	assert_int_equal(simple(&b, FUSE_FLUSH, 0, &flush, sizeof(flush), NULL, NULL), -EBADF);
	close_bench(&b);
}

static void names_are_made_and_removed(void **state)
{
	const struct fuse_mkdir_in mkdir_in = { .mode = 0755 };
	struct fuse_mknod_in mknod_in = { .mode = S_IFREG | 0600 };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE | FATTR_MODE | FATTR_MTIME,
		.size = 3,
		.mode = 04711,
		.mtime = 1000000000,
		.mtimensec = 5 };
	struct fuse_attr_out attr;
	struct fuse_entry_out e, f;
	struct bench b;

	open_bench(&b, false);
	init(&b);
	assert_int_equal(entry(&b, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", NULL, &e), 0);
	assert_true(S_ISDIR(e.attr.mode));
	assert_int_equal(
		entry(&b, FUSE_MKNOD, e.nodeid, &mknod_in, sizeof(mknod_in), "n", NULL, &f), 0);
	mknod_in.mode = S_IFCHR | 0600;
	assert_int_equal(simple(&b, FUSE_MKNOD, 1, &mknod_in, sizeof(mknod_in), "c", NULL), -EPERM);
	const struct fuse_link_in link = { .oldnodeid = f.nodeid };

	assert_int_equal(entry(&b, FUSE_LINK, 1, &link, sizeof(link), "again", NULL, &f), 0);
	assert_int_equal(f.nodeid, link.oldnodeid);
	assert_int_equal(f.attr.nlink, 2);
	assert_int_equal(entry(&b, FUSE_SYMLINK, 1, NULL, 0, "soft", "../outside", &f), 0);
	begin(&b, FUSE_READLINK, f.nodeid);
	char text[10];

	assert_int_equal(ask(&b, text, 10), 0);
	assert_memory_equal(text, "../outside", 10);
	const struct fuse_rename2_in keep = { .newdir = 1, .flags = 1 }, swap = { 1, 2, 0 },
				     white = { 1, 4, 0 };

	assert_int_equal(
		simple(&b, FUSE_RENAME2, e.nodeid, &keep, sizeof(keep), "n", "file"), -EEXIST);
	assert_int_equal(
		simple(&b, FUSE_RENAME2, e.nodeid, &white, sizeof(white), "n", "x"), -EINVAL);
	assert_int_equal(simple(&b, FUSE_RENAME2, e.nodeid, &swap, sizeof(swap), "n", "file"), 0);
	assert_string_equal(read_file(b.within, "d/n"), "contents");
	const struct fuse_rename_in back = { .newdir = 1 };

	assert_int_equal(simple(&b, FUSE_RENAME, e.nodeid, &back, sizeof(back), "n", "file"), 0);
	u64 file = look_up(&b, 1, "file");

	begin(&b, FUSE_SETATTR, file);
	add(&b, &set, sizeof(set));
	assert_int_equal(ask(&b, &attr, sizeof(attr)), 0);
	assert_int_equal(attr.attr.size, 3);
	assert_int_equal(attr.attr.mode & 07777, 0711);
	assert_int_equal(attr.attr.mtime, 1000000000);
	assert_int_equal(attr.attr.mtimensec, 5);
	assert_int_equal(simple(&b, FUSE_UNLINK, 1, NULL, 0, "again", NULL), 0);
	assert_int_equal(simple(&b, FUSE_UNLINK, 1, NULL, 0, "d", NULL), -EISDIR);
	assert_int_equal(simple(&b, FUSE_RMDIR, 1, NULL, 0, "d", NULL), 0);
	/* What was removed is still what it was, for who has it. */
	begin(&b, FUSE_GETATTR, e.nodeid);
	add(&b, &(struct fuse_getattr_in){ 0 }, sizeof(struct fuse_getattr_in));
	assert_int_equal(ask(&b, &attr, sizeof(attr)), 0);
	begin(&b, FUSE_STATFS, 1);
	struct fuse_statfs_out st;

	assert_int_equal(ask(&b, &st, sizeof(st)), 0);
	assert_true(st.st.blocks > 0);
	assert_int_equal(simple(&b, FUSE_GETXATTR, 1, NULL, 0, NULL, NULL), -ENOSYS);
	assert_int_equal(simple(&b, 4711, 1, NULL, 0, NULL, NULL), -ENOSYS);
	close_bench(&b);
}

static unsigned list(struct bench *b, u32 opcode, u64 handle, u32 size, unsigned *children)
{
	struct fuse_read_in in = { .fh = handle, .size = size };
	unsigned count = 0;

	for (*children = 0;;) {
		begin(b, opcode, 1);
		add(b, &in, sizeof(in));
		u32 len = exchange(b, 16 + size), at = 16;

		assert_int_equal(get_le32(b->buf + 4), 0);
		if (len == 16)
			return count;
		while (at < len) {
			struct fuse_direntplus plus = { 0 };
			size_t skip = opcode == FUSE_READDIRPLUS ? sizeof(plus.entry_out) : 0;

			if (skip)
				memcpy(&plus.entry_out, b->buf + at, skip);
			memcpy(&plus.dirent, b->buf + at + skip, FUSE_NAME_OFFSET);
			*children += plus.entry_out.nodeid != 0;
			in.offset = plus.dirent.off;
			at += (u32)(skip + FUSE_REC_ALIGN(FUSE_NAME_OFFSET + plus.dirent.namelen));
			count++;
		}
		assert_int_equal(at, len);
	}
}

static void folders_are_listed_in_pieces(void **state)
{
	struct bench b;
	unsigned children;
	u64 h;

	open_bench(&b, false);
	init(&b);
	for (unsigned i = 0; i < 500; i++) {
		char name[160];

		snprintf(name, sizeof(name), "%s/some-file-%u", b.within, i);
		write_file(name, "");
	}
	assert_int_equal(open_node(&b, FUSE_OPENDIR, 1, 0, &h), 0);
	assert_int_equal(list(&b, FUSE_READDIR, h, 4096, &children), 504);
	assert_int_equal(list(&b, FUSE_READDIRPLUS, h, 4096, &children), 504);
	assert_int_equal(children, 502);
	const struct fuse_release_in release = { .fh = h };

	assert_int_equal(simple(&b, FUSE_RELEASEDIR, 0, &release, sizeof(release), NULL, NULL), 0);
	close_bench(&b);
}

static void nothing_leads_out(void **state)
{
	static const char *const names[] = { "..", ".", "", "../outside", "/etc/passwd",
		"link/../../outside", "/", "../within/file" };
	const struct fuse_create_in create = { .flags = O_RDWR | O_TRUNC, .mode = S_IFREG | 0644 };
	const struct fuse_mkdir_in mkdir_in = { .mode = 0755 };
	const struct fuse_rename_in rename_in = { .newdir = 1 };
	struct bench b;
	u64 h;

	open_bench(&b, false);
	init(&b);
	u64 file = look_up(&b, 1, "file"), link = look_up(&b, 1, "link");
	const struct fuse_link_in link_in = { .oldnodeid = file };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		const char *n = names[i];

		assert_int_equal(simple(&b, FUSE_LOOKUP, 1, NULL, 0, n, NULL), -EINVAL);
		assert_int_equal(
			simple(&b, FUSE_CREATE, 1, &create, sizeof(create), n, NULL), -EINVAL);
		assert_int_equal(
			simple(&b, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), n, NULL), -EINVAL);
		assert_int_equal(simple(&b, FUSE_UNLINK, 1, NULL, 0, n, NULL), -EINVAL);
		assert_int_equal(simple(&b, FUSE_RMDIR, 1, NULL, 0, n, NULL), -EINVAL);
		assert_int_equal(simple(&b, FUSE_SYMLINK, 1, NULL, 0, n, "x"), -EINVAL);
		assert_int_equal(
			simple(&b, FUSE_LINK, 1, &link_in, sizeof(link_in), n, NULL), -EINVAL);
		assert_int_equal(
			simple(&b, FUSE_RENAME, 1, &rename_in, sizeof(rename_in), "file", n),
			-EINVAL);
		assert_int_equal(
			simple(&b, FUSE_RENAME, 1, &rename_in, sizeof(rename_in), n, "x"), -EINVAL);
	}
	/* A link is a link: not opened, not made a file of, not a folder. */
	assert_int_equal(open_node(&b, FUSE_OPEN, link, O_RDWR, &h), -EACCES);
	assert_int_equal(open_node(&b, FUSE_OPENDIR, link, 0, &h), -ENOTDIR);
	assert_int_equal(simple(&b, FUSE_CREATE, 1, &create, sizeof(create), "link", NULL), -ELOOP);
	assert_int_equal(look_up(&b, link, "outside"), 0);
	const struct fuse_setattr_in set = { .valid = FATTR_SIZE };

	assert_int_equal(simple(&b, FUSE_SETATTR, link, &set, sizeof(set), NULL, NULL), -ELOOP);
	assert_int_equal(simple(&b, FUSE_GETATTR, 4711, &(struct fuse_getattr_in){ 0 },
				 sizeof(struct fuse_getattr_in), NULL, NULL),
		-ESTALE);
	close_bench(&b);
}

static void what_is_to_be_read_only_is(void **state)
{
	const struct fuse_mkdir_in mkdir_in = { .mode = 0755 };
	const struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0777 };
	struct bench b;
	u64 h;

	open_bench(&b, true);
	init(&b);
	u64 file = look_up(&b, 1, "file");

	assert_int_equal(open_node(&b, FUSE_OPEN, file, O_RDONLY, &h), 0);
	assert_int_equal(open_node(&b, FUSE_OPEN, file, O_RDONLY | O_TRUNC, &h), -EROFS);
	assert_int_equal(open_node(&b, FUSE_OPEN, file, O_WRONLY, &h), -EROFS);
	assert_int_equal(simple(&b, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", NULL), -EROFS);
	assert_int_equal(simple(&b, FUSE_UNLINK, 1, NULL, 0, "file", NULL), -EROFS);
	assert_int_equal(simple(&b, FUSE_SETATTR, file, &set, sizeof(set), NULL, NULL), -EROFS);
	assert_string_equal(read_file(b.within, "file"), "contents");
	close_bench(&b);
}

static void a_new_session_begins_with_nothing(void **state)
{
	const struct fuse_forget_in twice = { .nlookup = 2 };
	struct fuse_getattr_in get = { 0 };
	struct fuse_attr_out attr;
	struct bench b;
	u64 h;

	open_bench(&b, false);
	init(&b);
	u64 file = look_up(&b, 1, "file");

	assert_int_equal(look_up(&b, 1, "file"), file);
	begin(&b, FUSE_FORGET, file);
	add(&b, &twice, sizeof(twice));
	assert_int_equal(exchange(&b, 0), 0);
	assert_int_equal(simple(&b, FUSE_GETATTR, file, &get, sizeof(get), NULL, NULL), -ESTALE);
	file = look_up(&b, 1, "file");
	assert_int_equal(open_node(&b, FUSE_OPEN, file, O_RDONLY, &h), 0);
	folder_reset(&b.f);
	assert_int_equal(simple(&b, FUSE_GETATTR, file, &get, sizeof(get), NULL, NULL), -ESTALE);
	const struct fuse_read_in read_in = { .fh = h, .size = 10 };

	assert_int_equal(
		simple(&b, FUSE_READ, file, &read_in, sizeof(read_in), NULL, NULL), -EBADF);
	begin(&b, FUSE_GETATTR, 1);
	add(&b, &get, sizeof(get));
	assert_int_equal(ask(&b, &attr, sizeof(attr)), 0);
	close_bench(&b);
}

static void who_breaks_the_rules_is_answered(void **state)
{
	struct bench b;
	unsigned slot;
	u32 len;

	open_bench(&b, false);
	/* Too short for its struct; longer than it is; names without an end; no room. */
	assert_int_equal(simple(&b, FUSE_GETATTR, 1, NULL, 0, NULL, NULL), -EINVAL);
	begin(&b, FUSE_LOOKUP, 1);
	add(&b, "file", 4);
	assert_int_equal(ask(&b, NULL, 0), -EINVAL);
	begin(&b, FUSE_LOOKUP, 1);
	add_name(&b, "file");
	assert_int_equal(exchange(&b, 20), 16);
	assert_int_equal((int)get_le32(b.buf + 4), -EIO);
	begin(&b, FUSE_LOOKUP, 1);
	assert_int_equal(exchange(&b, 15), 0);
	put_le32(b.buf, 0xffff);
	assert_true(folder_ask(&b.f, 1, 40, 4096));
	while (!folder_answer(&b.f, &slot, &len))
		folder_wait(&b.f);
	assert_int_equal(slot, 1);
	/* The monitor would not ask for this; the server ends, and that is seen. */
	assert_true(folder_ask(&b.f, 2, FOLDER_BUFFER + 1, 0));
	while (!folder_answer(&b.f, &slot, &len))
		folder_wait(&b.f);
	assert_int_equal(slot, 2);
	assert_int_equal(len, FOLDER_GONE);
	assert_false(folder_ask(&b.f, 3, 40, 4096));
	close_bench(&b);
}

static void what_is_no_folder_is_refused(void **state)
{
	struct err err = { 0 };
	struct folder f;

	assert_int_equal(folder_open(&f, "/nonexistent/folder", false, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/nonexistent/folder"));
	err = (struct err){ 0 };
	assert_int_equal(folder_open(&f, "/dev/null", false, &err), -ENOTDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_are_read_and_written),
		cmocka_unit_test(names_are_made_and_removed),
		cmocka_unit_test(folders_are_listed_in_pieces),
		cmocka_unit_test(nothing_leads_out),
		cmocka_unit_test(what_is_to_be_read_only_is),
		cmocka_unit_test(a_new_session_begins_with_nothing),
		cmocka_unit_test(who_breaks_the_rules_is_answered),
		cmocka_unit_test(what_is_no_folder_is_refused),
	};

	return cmocka_run_group_tests_name("folder", tests, NULL, NULL);
}
