#include "block_images.h"
#include "base/bits.h"
#include "block/format.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static void put(int fd, u64 at, const void *bytes, u64 len)
{
	if (io_pwrite(fd, bytes, len, at))
		abort();
}

static void put32(int fd, u64 at, u32 v) { put(fd, at, &v, 4); }
static void put64(int fd, u64 at, u64 v) { put(fd, at, &v, 8); }

/* ---- qcow2 ---- */

static void qcow2_make(int fd, const char *path, const struct block_create *c)
{
	struct err err;
	struct node *n;
	u8 buf[8192];
	struct iovec v = { buf, sizeof(buf) };

	memset(buf, 0x5a, sizeof(buf));
	if (qcow2_format.create(fd, c, &err) ||
		node_open(&n, path, &(struct block_options){ .cache = BLOCK_UNSAFE }, &err))
		abort();
	for (u64 at = 0; at < c->size; at += 200 * KiB)
		if (n->format->write(n, at, &v, 1, sizeof(buf)))
			abort();
	if (node_close(n))
		abort();
}

static void qcow2_small(int fd, const char *path)
{
	qcow2_make(fd, path, &(struct block_create){ .size = 1 * MiB, .cluster = 512 });
}

static void qcow2_usual(int fd, const char *path)
{
	qcow2_make(fd, path, &(struct block_create){ .size = 1 * MiB });
}

static void qcow2_old(int fd, const char *path)
{
	qcow2_make(
		fd, path, &(struct block_create){ .size = 1 * MiB, .cluster = 4096, .old = true });
}

/* ---- the others: written by hand ---- */

static void vdi_make(int fd, const char *path)
{
	put32(fd, 0x40, 0xbeda107f);
	put32(fd, 0x44, 0x10001);
	put32(fd, 0x4c, 1);
	put32(fd, 0x154, 512);
	put32(fd, 0x158, 4096);
	put32(fd, 0x168, 512);
	put64(fd, 0x170, 256 * KiB);
	put32(fd, 0x178, 4096);
	put32(fd, 0x180, 64);
	for (u32 i = 0; i < 64; i++)
		put32(fd, 512 + 4 * i, i % 3 ? i : ~i % 2);
	put(fd, 64 * 4096, "end", 3);
}

static void vmdk_header(int fd, u32 flags)
{
	put32(fd, 0, 0x564d444b);
	put32(fd, 4, 3);
	put32(fd, 8, flags);
	put64(fd, 12, 2048);
	put64(fd, 20, 8);
	put32(fd, 44, 128);
	put64(fd, 56, 2);
	if (flags & BIT(16))
		put32(fd, 76, 1 << 8);
	put32(fd, 1024, 4);
	put32(fd, 1028, 5);
}

static void vmdk_plain(int fd, const char *path)
{
	vmdk_header(fd, BIT(2));
	for (u32 i = 0; i < 256; i++)
		put32(fd, 2048 + 4 * i, i % 4 ? 16 + 8 * i : i % 8 ? 1 : 0);
	put(fd, 300 * KiB, "end", 3);
}

static void vmdk_packed(int fd, const char *path)
{
	static const u8 grain[4096] = "a grain";
	u8 packed[4096];
	uLongf len = sizeof(packed);

	vmdk_header(fd, BIT(16) | BIT(17));
	for (u32 i = 0; i < 256; i++)
		put32(fd, 2048 + 4 * i, i % 4 ? 16 : 0);
	if (compress(packed, &len, grain, sizeof(grain)) != Z_OK)
		abort();
	put32(fd, 16 * 512 + 8, (u32)len);
	put(fd, 16 * 512 + 12, packed, len);
}

#define VHDX_META (256 * KiB + 64 * KiB)
#define VHDX_BAT  (VHDX_META + 128 * KiB)

static void vhdx_entry(int fd, u64 at, const char *guid, u64 value)
{
	u8 bytes[16];

	for (unsigned i = 0; i < 16; i++) {
		char digits[3] = { guid[2 * i], guid[2 * i + 1] };

		bytes[i] = (u8)strtoul(digits, NULL, 16);
	}
	put(fd, at, bytes, sizeof(bytes));
	put64(fd, at + 16, value);
}

static void vhdx_make(int fd, const char *path)
{
	put(fd, 0, "vhdxfile", 8);
	put(fd, 64 * KiB, "head", 4);
	put64(fd, 64 * KiB + 8, 1);
	put(fd, 192 * KiB, "regi", 4);
	put32(fd, 192 * KiB + 8, 2);
	vhdx_entry(fd, 192 * KiB + 16, "6677c22d23f600429d64115e9bfd4a08", VHDX_BAT);
	vhdx_entry(fd, 192 * KiB + 48, "06a27c8b90479a4bb8fe575f050f886e", VHDX_META);
	put(fd, VHDX_META, "metadata", 8);
	put32(fd, VHDX_META + 8, 3 << 16);
	vhdx_entry(fd, VHDX_META + 32, "3767a1ca36fa434db3b633f0aa44e76b", 0x10000);
	vhdx_entry(fd, VHDX_META + 64, "2442a52f1bcd7648b2115dbed83bf4b8", 0x10010);
	vhdx_entry(fd, VHDX_META + 96, "1dbf41816fa90947ba47f233a8faab5f", 0x10020);
	put64(fd, VHDX_META + 0x10000, 1 * MiB);
	put64(fd, VHDX_META + 0x10010, 4 * MiB);
	put64(fd, VHDX_META + 0x10020, 512);
	for (u32 i = 0; i < 4; i++)
		put64(fd, VHDX_BAT + 8 * i, i & 1 ? (1 * MiB) | 6 : 0);
	put(fd, 1 * MiB + 4096, "end", 3);
}

const struct block_image block_images[] = {
	{ "qcow2", qcow2_small, { 0, 32, 512, 1024, 1536, 2048 } },
	{ "qcow2", qcow2_usual, { 0, 96, 65536, 131072, 196608, 262144 } },
	{ "qcow2", qcow2_old, { 0, 40, 4096, 8192, 12288, 16384 } },
	{ "vdi", vdi_make, { 0x40, 0x154, 0x170, 0x180, 512, 640 } },
	{ "vmdk", vmdk_plain, { 0, 12, 44, 1024, 2048, 2560 } },
	{ "vmdk", vmdk_packed, { 0, 20, 56, 1024, 2048, 16 * 512 } },
	{ "vhdx", vhdx_make,
		{ 64 * KiB, 192 * KiB, 192 * KiB + 32, VHDX_META, VHDX_META + 0x10000, VHDX_BAT } },
};
const unsigned block_images_count = ARRAY_LEN(block_images);
