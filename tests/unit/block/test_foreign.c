/* The formats that are only read: what qemu-img has made is what we read, and a damaged file is one
 * line. */
#include "block/format.h"
#include "image_file.h"
#include <errno.h>

#define SIZE (9 * MiB + 512)

static const char *const kinds[][2] = { { "vdi", "vdi" }, { "vdi -o static=on", "vdi" },
	{ "vmdk", "vmdk" }, { "vmdk -o subformat=streamOptimized", "vmdk" },
	{ "vmdk -o zeroed_grain=on", "vmdk" }, { "vhdx", "vhdx" },
	{ "vhdx -o subformat=fixed,block_size=1M", "vhdx" } };

static u8 *contents(void)
{
	u8 *data = calloc(1, SIZE);

	image_pattern(data + 70000, 300000, 0, 1);
	image_pattern(data + 5 * MiB, 1 * MiB, 0, 2);
	image_pattern(data + SIZE - 5000, 5000, 0, 3);
	return data;
}

static const char *make(const char *how, const u8 *data)
{
	const char *raw = image_path("f.raw"), *path = image_path("f.img");
	int fd = open(raw, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	assert_int_equal(io_pwrite(fd, data, SIZE, 0), 0);
	close(fd);
	assert_int_equal(image_shell("qemu-img convert -f raw %s %s -O %s", raw, path, how), 0);
	return path;
}

static void what_others_made_is_read(void **state)
{
	u8 *data, *got = malloc(SIZE);

	if (!image_has_tool("qemu-img"))
		skip();
	data = contents();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = make(kinds[i][0], data);
		struct block *b = image_open(path, &(struct block_options){ .readonly = true });
		u64 size = block_info(b).size;

		assert_string_equal(block_info(b).format, kinds[i][1]);
		assert_true(size >= SIZE && size < SIZE + 64 * KiB);
		memset(got, 1, SIZE);
		assert_int_equal(block_read(b, 0, got, SIZE), 0);
		assert_memory_equal(got, data, SIZE);
		/* In pieces that fit nothing, and the wrong way round. */
		for (u64 at = SIZE - 3 * 512; at > 30000; at -= 37 * 512) {
			assert_int_equal(block_read(b, at, got, 3 * 512), 0);
			assert_memory_equal(got, data + at, 3 * 512);
		}
		assert_int_equal(block_write(b, 0, got, 512), -EPERM);
		image_close(b);
		assert_non_null(strstr(image_refused(path, NULL), "read-only"));
	}
	free(data);
	free(got);
}

static void they_may_be_backing_files(void **state)
{
	u8 *data, *got = malloc(SIZE);

	if (!image_has_tool("qemu-img"))
		skip();
	data = contents();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *base = make(kinds[i][0], data), *top = image_path("over.qcow2");

		assert_int_equal(image_shell("qemu-img create -q -f qcow2 -F %s -b %s %s %llu",
					 kinds[i][1], base, top, SIZE),
			0);
		struct block *b = image_open(top, NULL);

		memset(data + 512, (int)i, 512);
		assert_int_equal(block_write(b, 512, data + 512, 512), 0);
		assert_int_equal(block_read(b, 0, got, SIZE), 0);
		assert_memory_equal(got, data, SIZE);
		image_close(b);
		assert_int_equal(image_shell("qemu-img check -q %s", top), 0);
	}
	free(data);
	free(got);
}

/* Opens, or refuses in one line; what it reads then is anything or an error. */
static void files_that_end_early_do_no_harm(void **state)
{
	u8 *data, *got = malloc(SIZE);

	if (!image_has_tool("qemu-img"))
		skip();
	data = contents();
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		const char *path = make(kinds[i][0], data);
		struct stat st;

		assert_int_equal(stat(path, &st), 0);
		for (off_t size = st.st_size; size > 600; size = size * 3 / 4) {
			struct block *b = NULL;
			struct err err = { 0 };
			const struct block_options o = { .format = kinds[i][1], .readonly = true };

			assert_int_equal(truncate(path, size), 0);
			if (block_open(&b, path, &o, &err)) {
				assert_true(err.text[0] && !strchr(err.text, '\n'));
				continue;
			}
			int rc = block_read(b, 0, got, min_u64(SIZE, block_info(b).size));

			assert_true(rc == 0 || rc == -EIO);
			image_close(b);
		}
	}
	free(data);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_others_made_is_read),
		cmocka_unit_test(they_may_be_backing_files),
		cmocka_unit_test(files_that_end_early_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, image_cleanup);
}
