/*
 * Decompression of kernels. Linux's build appends the unpacked size to every format (boot.rst calls
 * it part of the payload), so each decoder here stops at the end of its own stream, ignores what
 * follows, and writes straight into a buffer of the declared size: no format's own size fields are
 * trusted, and none can make it allocate more than its fixed state, a bounded xz dictionary aside.
 */
#include "boot/unpack.h"
#include "base/bits.h"
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

/* A decoder returns how much it wrote, or a negative errno and in *why a reason. */
struct job {
	const u8 *in;
	u64 in_size;
	u8 *out;
	u64 out_size;
	u64 memory_limit;
	const char *why;
};

static s64 fail(struct job *j, int code, const char *why)
{
	j->why = why;
	return code;
}

static s64 unpack_gzip(struct job *j)
{
	z_stream z = {
		.next_in = (u8 *)(uintptr_t)j->in,
		.avail_in = (uInt)j->in_size,
		.next_out = j->out,
		.avail_out = (uInt)j->out_size,
	};

	if (inflateInit2(&z, 15 + 16) != Z_OK) /* 16: a gzip header, not zlib's */
		return fail(j, -ENOMEM, "no memory");
	int r = inflate(&z, Z_FINISH);
	s64 written = (s64)z.total_out;
	inflateEnd(&z);
	return r == Z_STREAM_END
		       ? written
		       : fail(j, -ENOEXEC, z.avail_in ? "damaged data" : "truncated data");
}

static s64 unpack_xz(struct job *j)
{
	size_t in_at = 0, out_at = 0;
	u64 limit = j->memory_limit;

	lzma_ret r = lzma_stream_buffer_decode(
		&limit, 0, NULL, j->in, &in_at, j->in_size, j->out, &out_at, j->out_size);
	switch ((int)r) {
	case LZMA_OK: return (s64)out_at;
	case LZMA_MEMLIMIT_ERROR:
		return fail(j, -ENOMEM, "its dictionary is larger than the guest's memory");
	case LZMA_MEM_ERROR: return fail(j, -ENOMEM, "no memory");
	case LZMA_BUF_ERROR:
		return fail(j, -ENOEXEC, "truncated data, or more of it than declared");
	default: return fail(j, -ENOEXEC, "damaged data");
	}
}

static s64 unpack_zstd(struct job *j)
{
	size_t frame = ZSTD_findFrameCompressedSize(j->in, j->in_size);

	if (ZSTD_isError(frame))
		return fail(j, -ENOEXEC, "truncated or damaged data");
	size_t n = ZSTD_decompress(j->out, j->out_size, j->in, frame);
	return ZSTD_isError(n) ? fail(j, -ENOEXEC, ZSTD_getErrorName(n)) : (s64)n;
}

/*
 * The legacy frame (LZ4 Frame Format, "Legacy frame"): a magic number, then blocks of a 32-bit
 * compressed size and data that unpack to 8 MiB, the last one to less. There is no end mark; the
 * appended size is what is left over.
 */
#define LZ4_BLOCK (8 * MiB)

static s64 unpack_lz4(struct job *j)
{
	u64 at = 4, done = 0;

	while (j->in_size - at > 4) {
		u32 size = get_le32(j->in + at);

		at += 4;
		if (!size || size > (u32)LZ4_COMPRESSBOUND(LZ4_BLOCK) || size > j->in_size - at)
			return fail(j, -ENOEXEC, "truncated data, or a block of impossible size");
		u64 room = min_u64(LZ4_BLOCK, j->out_size - done);
		int n = LZ4_decompress_safe(
			(const char *)j->in + at, (char *)j->out + done, (int)size, (int)room);
		if (n < 0)
			return fail(j, -ENOEXEC, "damaged data");
		done += (u64)n;
		at += size;
	}
	return (s64)done;
}

static const struct {
	const char *name;
	const char *magic;
	unsigned len;
	s64 (*decode)(struct job *j);
} formats[] = {
	{ "gzip", "\x1f\x8b", 2, unpack_gzip },
	{ "xz", "\xfd\x37zXZ\0", 6, unpack_xz },
	{ "zstd", "\x28\xb5\x2f\xfd", 4, unpack_zstd },
	{ "lz4", "\x02\x21\x4c\x18", 4, unpack_lz4 },
};

static int find_format(const u8 *in, u64 in_size)
{
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++)
		if (in_size >= formats[i].len && !memcmp(in, formats[i].magic, formats[i].len))
			return (int)i;
	return -1;
}

const char *unpack_format(const u8 *in, u64 in_size)
{
	int i = find_format(in, in_size);

	return i < 0 ? NULL : formats[i].name;
}

int unpack(const u8 *in, u64 in_size, u8 *out, u64 out_size, u64 memory_limit, struct err *err)
{
	struct job j = { in, in_size, out, out_size, memory_limit, NULL };
	int format = find_format(in, in_size);

	if (format < 0 || (in_size | out_size) > UINT32_MAX)
		return err_set(err, -ENOEXEC, "not compressed in a known way");
	s64 n = formats[format].decode(&j);
	if (n < 0)
		return err_set(err, (int)n, "unpacking %s: %s", formats[format].name, j.why);
	if ((u64)n != out_size)
		return err_set(err, -ENOEXEC, "unpacking %s: %lld bytes where %llu are declared",
			formats[format].name, (long long)n, (unsigned long long)out_size);
	return 0;
}
