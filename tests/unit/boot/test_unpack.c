/* Each compression, as Linux's build writes it: the stream, then the unpacked size. */
#include "boot/unpack.h"
#include "fixture.h"
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define SIZE	     (9 * MiB + 12345) /* more than one LZ4 block */
#define MEMORY_LIMIT (64 * MiB)

struct packed {
	u8 *data;
	u64 size;
};

static u8 *text; /* compressible, but not trivially */

static void pack_gzip(struct packed *p, u64 room)
{
	z_stream z = {
		.next_in = text, .avail_in = SIZE, .next_out = p->data, .avail_out = (uInt)room
	};

	assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	p->size = z.total_out;
	deflateEnd(&z);
}

static void pack_xz(struct packed *p, u64 room)
{
	size_t at = 0;

	assert_int_equal(
		lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, text, SIZE, p->data, &at, room),
		LZMA_OK);
	p->size = at;
}

static void pack_zstd(struct packed *p, u64 room)
{
	p->size = ZSTD_compress(p->data, room, text, SIZE, 1);
}

static void pack_lz4(struct packed *p, u64 room)
{
	u64 at = 4;

	memcpy(p->data, "\x02\x21\x4c\x18", 4);
	for (u64 from = 0; from < SIZE; from += 8 * MiB) {
		u64 part = min_u64(8 * MiB, SIZE - from);
		int n = LZ4_compress_default((char *)text + from, (char *)p->data + at + 4,
			(int)part, (int)(room - at - 4));

		assert_true(n > 0);
		put_le32(p->data + at, (u32)n);
		at += 4 + (u64)n;
	}
	p->size = at;
}

static const struct {
	const char *name;
	void (*pack)(struct packed *p, u64 room);
} formats[] = { { "gzip", pack_gzip }, { "xz", pack_xz }, { "zstd", pack_zstd },
	{ "lz4", pack_lz4 } };

static struct packed make(unsigned format)
{
	u64 room = 2 * SIZE;
	struct packed p = { .data = malloc(room) };

	assert_non_null(p.data);
	formats[format].pack(&p, room - 4);
	put_le32(p.data + p.size, SIZE);
	p.size += 4;
	return p;
}

static void each_format_gives_the_original(void **state)
{
	u8 *out = malloc(SIZE);

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct packed p = make(i);
		struct err err;

		memset(out, 0, SIZE);
		assert_string_equal(unpack_format(p.data, p.size), formats[i].name);
		assert_int_equal(unpack(p.data, p.size, out, SIZE, MEMORY_LIMIT, &err), 0);
		assert_memory_equal(out, text, SIZE);
		free(p.data);
	}
	free(out);
}

/* A stream that holds more, or less, than declared must not be believed, nor overrun the buffer. */
static void wrong_sizes_are_refused(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct packed p = make(i);
		struct err err;

		for (int delta = -1; delta <= 1; delta += 2) {
			u64 size = (u64)((s64)SIZE + delta);
			u8 *out = malloc(size); /* exact, so that a checked build sees an overrun */

			assert_true(unpack(p.data, p.size, out, size, MEMORY_LIMIT, &err) < 0);
			free(out);
		}
		free(p.data);
	}
}

static void truncated_and_damaged_streams_are_refused(void **state)
{
	u8 *out = malloc(SIZE);

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct packed p = make(i);
		struct err err;

		for (u64 size = 0; size < p.size - 100; size += p.size / 13)
			assert_true(unpack(p.data, size, out, SIZE, MEMORY_LIMIT, &err) < 0);
		memset(p.data + p.size / 2, 0xff, 64);
		int r = unpack(p.data, p.size, out, SIZE, MEMORY_LIMIT, &err);
		/* LZ4 and zstd frames carry no checksum here: damage may only change the contents
		 */
		assert_true(r < 0 || memcmp(out, text, SIZE));
		free(p.data);
	}
	free(out);
}

static void xz_dictionary_is_bounded(void **state)
{
	struct packed p = make(1);
	u8 *out = malloc(SIZE);
	struct err err;

	assert_int_equal(unpack(p.data, p.size, out, SIZE, 64 * KiB, &err), -12);
	assert_non_null(strstr(err.text, "dictionary"));
	free(out);
	free(p.data);
}

static void unknown_formats_are_not_claimed(void **state)
{
	assert_null(unpack_format((const u8 *)"BZh91AY", 7));
	assert_null(unpack_format((const u8 *)"\x1f", 1));
	assert_null(unpack_format(NULL, 0));
}

static int make_text(void **state)
{
	u32 seed = 1;

	text = malloc(SIZE);
	for (u64 i = 0; i < SIZE; i++) {
		seed = seed * 1664525 + 1013904223;
		text[i] = (u8)(i >> 9 & 1 ? seed >> 29 : i >> 4);
	}
	return 0;
}

static int free_text(void **state)
{
	free(text);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_format_gives_the_original),
		cmocka_unit_test(wrong_sizes_are_refused),
		cmocka_unit_test(truncated_and_damaged_streams_are_refused),
		cmocka_unit_test(xz_dictionary_is_bounded),
		cmocka_unit_test(unknown_formats_are_not_claimed),
	};

	return cmocka_run_group_tests(tests, make_text, free_text);
}
