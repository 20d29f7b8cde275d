/*
 * A FUSE server under a guest that says anything: requests that are nearly right, for nodes and
 * handles that exist or do not, with names that lead out; requests of bytes. Files may become at
 * most a MiB large, and there is a file beside the folder, which must stay as it is.
 */
#include "base/bits.h"
#include "base/must.h"
#include "folder/fuse.h"
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define HEAD sizeof(struct fuse_in_header)

struct input {
	const u8 *at, *end;
};

static struct {
	char path[64];
	bool made;
} place;

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static void run(const char *script)
{
	char command[256];

	snprintf(command, sizeof(command), "cd %s && %s", place.path, script);
	must(!system(command), "%s", command);
}

static void clean(void)
{
	run("rm -r within beside");
	rmdir(place.path);
}

/* Made once. What inputs leave behind, later ones find. */
static void make_place(void)
{
	const struct rlimit size = { MiB, MiB };

	if (place.made)
		return;
	place.made = true;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &size);
	strcpy(place.path, "/tmp/strata-fuzz-XXXXXX");
	must(mkdtemp(place.path), "a folder");
	atexit(clean);
	run("mkdir within within/a && echo x >within/b && ln -s ../beside within/c && "
	    "echo beside >beside && chmod 400 beside");
}

static void check_place(void)
{
	char path[80], text[16] = { 0 };
	struct stat st;

	snprintf(path, sizeof(path), "%s/beside", place.path);
	int fd = open(path, O_RDONLY);

	must(fd >= 0 && read(fd, text, sizeof(text)) == 7 && !strcmp(text, "beside\n"), "beside");
	must(!fstat(fd, &st) && st.st_nlink == 1 && (st.st_mode & 07777) == 0400, "beside");
	close(fd);
}

static const char *const names[] = { "a", "b", "c", "d", "e", "..", ".", "", "../beside",
	"a/../../beside", "/etc/passwd" };

static size_t put_name(u8 *to, struct input *in)
{
	const char *name = names[take8(in) % ARRAY_LEN(names)];

	strcpy((char *)to, name);
	return strlen(name) + 1;
}

/* A struct of small numbers, the first of which may be a handle, and names. */
static size_t nearly_right(u8 *buf, struct input *in)
{
	static const u8 sizes[] = { 0, 4, 8, 16, 24, 40, 88 };
	struct fuse_in_header h = { .opcode = take8(in) % 53, .nodeid = take8(in) % 12 };
	size_t len = HEAD, size = sizes[take8(in) % sizeof(sizes)];
	u8 how = take8(in);

	/* This would be the whole host's. */
	if (h.opcode == FUSE_SYNCFS)
		h.opcode = FUSE_OPEN;
	memset(buf + len, 0, size);
	for (size_t i = 0; i < size; i += 4)
		if (how & 1 << (i / 4 & 7))
			put_le32(buf + len + i, take8(in) * (how & 0x80 ? 0x10101u : 1u));
	len += size;
	len += put_name(buf + len, in);
	if (how & 0x20)
		len += put_name(buf + len, in);
	h.len = (u32)len + (how == 0x7f);
	memcpy(buf, &h, HEAD);
	return len;
}

static size_t bytes(u8 *buf, struct input *in)
{
	size_t len = min_u64(take8(in) * 4u, (u64)(in->end - in->at));

	memcpy(buf, in->at, len);
	in->at += len;
	if (len >= HEAD)
		put_le32(buf, (u32)len);
	if (len >= HEAD && get_le32(buf + 4) == FUSE_SYNCFS)
		put_le32(buf + 4, 0);
	return len;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static _Alignas(8) u8 buf[FUSE_BUFFER];
	struct input in = { data, data + size };
	char path[80];
	struct tree t;

	make_place();
	snprintf(path, sizeof(path), "%s/within", place.path);
	must(!tree_open(&t, open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), take8(&in) & 1, NULL),
		"a tree");
	while (in.at < in.end) {
		u8 how = take8(&in);
		size_t len = how & 3 ? nearly_right(buf, &in) : bytes(buf, &in);
		size_t room = how & 0x40 ? how & 0x3f : how & 0x80 ? 4096 : FUSE_BUFFER;
		size_t answer = fuse_serve(&t, buf, len, room);

		must(answer <= room, "%zu bytes for %zu", answer, room);
		must(!answer || get_le32(buf) == answer, "a length");
	}
	tree_close(&t);
	check_place();
	return 0;
}
