#include "image_file.h"

#define PATHS 8u

static char folder[64];
char image_output[8192];

const char *image_path(const char *name)
{
	static char paths[PATHS][128];
	static unsigned turn;
	char *p = paths[turn++ % PATHS];

	if (!folder[0]) {
		snprintf(folder, sizeof(folder), "/tmp/strata-block-XXXXXX");
		assert_non_null(mkdtemp(folder));
	}
	snprintf(p, sizeof(paths[0]), "%s/%s", folder, name);
	return p;
}

int image_cleanup(void **state) { return folder[0] ? image_shell("rm -rf %s", folder) : 0; }

void image_pattern(u8 *buf, u64 len, u64 offset, u32 seed)
{
	for (u64 i = 0; i < len; i++) {
		u64 at = offset + i;

		buf[i] = (u8)((at ^ at >> 8 ^ at >> 16 ^ at >> 24) * 167 + seed * 29 + 1);
	}
}

struct block *image_open(const char *path, const struct block_options *o)
{
	struct err err = { 0 };
	struct block *b = NULL;

	if (block_open(&b, path, o, &err))
		fail_msg("%s", err.text);
	return b;
}

void image_close(struct block *b)
{
	struct err err = { 0 };

	if (block_close(b, &err))
		fail_msg("%s", err.text);
}

const char *image_refused(const char *path, const struct block_options *o)
{
	static struct err err;
	struct block *b = NULL;

	memset(&err, 0, sizeof(err));
	if (!block_open(&b, path, o, &err)) {
		block_close(b, NULL);
		fail_msg("%s was opened", path);
	}
	assert_null(strchr(err.text, '\n'));
	return err.text;
}

int image_shell(const char *fmt, ...)
{
	char command[2048];
	va_list args;

	va_start(args, fmt);
	int n = vsnprintf(command, sizeof(command) - 8, fmt, args);
	va_end(args);
	memcpy(command + n, " 2>&1", 6);

	FILE *f = popen(command, "r");
	assert_non_null(f);
	size_t len = fread(image_output, 1, sizeof(image_output) - 1, f);

	image_output[len] = 0;
	int status = pclose(f);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool image_has_tool(const char *name) { return image_shell("command -v %s", name) == 0; }
