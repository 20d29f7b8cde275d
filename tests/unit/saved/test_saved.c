/* The file of a saved state: what is put in comes out, and nothing that was cut or changed does. */
#include "base/crc32c.h"
#include "saved/saved_priv.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h> /* needs the above */

#include "saved_file.h"

/* RFC 3720 B.4 */
static void checksum_is_castagnolis(void **state)
{
	u8 bytes[32];

	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(crc32c(0, bytes, 32), 0x62a8ab43);
	for (u8 i = 0; i < 32; i++)
		bytes[i] = i;
	assert_int_equal(crc32c(0, bytes, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, bytes, 5), bytes + 5, 27), 0x46dd794e);
}

static off_t size_of(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_size;
}

static void what_is_put_in_comes_out(void **state)
{
	u8 *small = malloc(SMALL), *large = malloc(LARGE);
	u8 *got = malloc(LARGE);
	int fd = saved_file_make();
	const struct saved_region *r;
	struct err err = { 0 };
	struct saved *s;
	size_t len;

	saved_file_memory(small, large);
	assert_int_equal(saved_open(&s, fd, &err), 0);
	assert_int_equal(saved_id(s), 0x1122334455667788);
	assert_int_equal(saved_regions(s, &r), 2);
	assert_string_equal(r[1].name, "large");
	assert_int_equal(r[1].size, LARGE);
	assert_int_equal(saved_bytes(s), 4 * PAGE_SIZE);
	u8 *part = saved_part(s, PART_NAME, &len, &err);
	assert_non_null(part);
	assert_int_equal(len, strlen(PART_TEXT));
	assert_string_equal((char *)part, PART_TEXT); /* a zero follows it */
	assert_null(saved_part(s, "nothing", &len, &err));
	for (unsigned threads = 0; threads < 4; threads += 3) {
		int fds[] = { saved_file_open(), saved_file_open() };

		assert_int_equal(ftruncate(fds[0], SMALL) | ftruncate(fds[1], LARGE), 0);
		assert_int_equal(saved_check(s, threads, NULL, NULL, &err), 0);
		assert_int_equal(saved_load(s, fds, threads, &err), 0);
		assert_int_equal(pread(fds[0], got, SMALL, 0), SMALL);
		assert_memory_equal(got, small, SMALL);
		assert_int_equal(pread(fds[1], got, LARGE, 0), LARGE);
		assert_memory_equal(got, large, LARGE);
		close(fds[0]);
		close(fds[1]);
	}
	/* Noise cannot be packed, the rest nearly vanishes. */
	assert_in_range(size_of(fd), SAVED_HEAD_SIZE + PAGE_SIZE, SAVED_HEAD_SIZE + 2 * PAGE_SIZE);
	free(part);
	free(small);
	free(large);
	free(got);
	saved_close(s);
	close(fd);
}

static void copy(int from, int to, size_t len)
{
	u8 *bytes = malloc(len + 1);

	assert_int_equal(pread(from, bytes, len, 0), len);
	assert_int_equal(ftruncate(to, 0), 0);
	assert_int_equal(pwrite(to, bytes, len, 0), len);
	free(bytes);
}

static void one_that_was_cut_anywhere_is_refused(void **state)
{
	int good = saved_file_make(), fd = saved_file_open();
	size_t size = (size_t)size_of(good);
	struct err err;

	for (size_t len = 0; len < size; len += len < SAVED_HEAD_SIZE + 64 ? 61 : 7) {
		copy(good, fd, len);
		assert_int_equal(saved_file_read(fd, &err), -EINVAL);
		assert_non_null(
			strstr(err.text, len < SAVED_HEAD_SIZE ? "no saved state" : "cut off"));
	}
	copy(good, fd, size);
	assert_int_equal(ftruncate(fd, (off_t)size + 1), 0);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	close(good);
	close(fd);
}

static void one_with_any_byte_changed_is_refused(void **state)
{
	int good = saved_file_make(), fd = saved_file_open();
	size_t size = (size_t)size_of(good);
	struct err err;
	u8 byte;

	copy(good, fd, size);
	for (size_t at = 0; at < size; at++) {
		assert_int_equal(pread(good, &byte, 1, (off_t)at), 1);
		byte ^= (u8)(1u << (at % 8));
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		assert_int_equal(saved_file_read(fd, &err), -EINVAL);
		byte ^= (u8)(1u << (at % 8));
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	assert_int_equal(saved_file_read(fd, &err), 0);
	close(good);
	close(fd);
}

static void one_whose_making_did_not_end_is_refused(void **state)
{
	int fd = saved_file_open();
	struct saved_out *o = saved_begin(fd, saved_file_regions, 2);
	struct err err;

	assert_int_equal(saved_put(o, PART_NAME, PART_TEXT, strlen(PART_TEXT)), 0);
	saved_end(o);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "did not come to its end"));
	close(fd);
}

static void put_head(int fd, struct saved_head *h)
{
	h->crc = crc32c(0, h, offsetof(struct saved_head, crc));
	assert_int_equal(pwrite(fd, h, sizeof(*h), 0), sizeof(*h));
}

static void newer_and_crooked_ones_are_refused(void **state)
{
	int fd = saved_file_make();
	struct saved_head good, h;
	struct err err;

	assert_int_equal(pread(fd, &good, sizeof(good), 0), sizeof(good));
	h = good;
	h.version++;
	put_head(fd, &h);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	assert_non_null(strstr(err.text, "newer"));
	h = good;
	h.part_count = SAVED_PARTS_MAX + 1;
	put_head(fd, &h);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	h = good;
	h.parts[0].at = ~0ull;
	put_head(fd, &h);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	h = good;
	h.parts[0].len = h.size;
	put_head(fd, &h);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	h = good;
	memset(h.parts[0].name, 'x', sizeof(h.parts[0].name));
	put_head(fd, &h);
	assert_int_equal(saved_file_read(fd, &err), -EINVAL);
	put_head(fd, &good);
	assert_int_equal(saved_file_read(fd, &err), 0);
	close(fd);
}

/* The same chunk twice, or one that lies beyond its region, with checksums that are right. */
static void chunks_that_do_not_fit_are_refused(void **state)
{
	int fd = saved_file_make();
	struct saved_chunk good[2], c[2];
	struct saved_part_at *p;
	struct saved_head h;
	struct err err;

	assert_int_equal(pread(fd, &h, sizeof(h), 0), sizeof(h));
	p = &h.parts[h.part_count - 1];
	assert_string_equal(p->name, SAVED_MEMORY);
	assert_int_equal(p->len, sizeof(good));
	assert_int_equal(pread(fd, good, sizeof(good), (off_t)p->at), sizeof(good));
	for (unsigned i = 0; i < 8; i++) {
		memcpy(c, good, sizeof(c));
		switch (i) {
		case 0: c[1] = c[0]; break;
		case 1: c[1].number = 2; break;
		case 2: c[0].region = 2; break;
		case 3: c[0].pages[3] = BIT64(63); break;
		case 4: memset(c[0].pages, 0, sizeof(c[0].pages)); break;
		case 5: c[0].at = h.size - 1; break;
		case 6: c[0].pages[0] |= 1; break; /* it holds fewer pages than that */
		case 7: c[1].number = ~0ull; break;
		}
		p->crc = crc32c(0, c, sizeof(c));
		assert_int_equal(pwrite(fd, c, sizeof(c), (off_t)p->at), sizeof(c));
		put_head(fd, &h);
		assert_int_equal(saved_file_read(fd, &err), -EINVAL);
		assert_non_null(strstr(err.text, "damaged: memory"));
	}
	close(fd);
}

static void a_disk_that_is_full_is_an_error(void **state)
{
	int fd = saved_file_open();
	struct saved_out *o = saved_begin(fd, saved_file_regions, 2);
	u8 *page = calloc(1, PAGE_SIZE);

	page[0] = 1;
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	assert_int_equal(saved_put_chunk(o, 0, 0, page, PAGE_SIZE), -EPERM);
	assert_int_equal(saved_finish(o, 1), -EPERM);
	saved_end(o);
	free(page);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_is_castagnolis),
		cmocka_unit_test(what_is_put_in_comes_out),
		cmocka_unit_test(one_that_was_cut_anywhere_is_refused),
		cmocka_unit_test(one_with_any_byte_changed_is_refused),
		cmocka_unit_test(one_whose_making_did_not_end_is_refused),
		cmocka_unit_test(newer_and_crooked_ones_are_refused),
		cmocka_unit_test(chunks_that_do_not_fit_are_refused),
		cmocka_unit_test(a_disk_that_is_full_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
