/*
 * VMware's VMDK, read-only: a hosted sparse extent in a file of its own, plain or with packed
 * grains ("Virtual Disk Format 5.0", VMware's technical note). A directory leads to tables, tables
 * to grains; numbers are sectors. Tables are read when they are needed.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "block/format.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAGIC	  0x564d444bu /* "KDMV" */
#define TEXT	  "# Disk DescriptorFile"
#define AT_END	  (~0ull)
#define GRAIN_MAX (128u * 2048) /* sectors: 128 MiB */
#define TABLE_MAX 65536u
#define TEXT_MAX  (64 * KiB)
#define MARKER	  12u /* in front of a packed grain: its sector, its length */

enum {
	H_MAGIC = 0,
	H_VERSION = 4,
	H_FLAGS = 8,
	H_CAPACITY = 12,
	H_GRAIN = 20,
	H_TEXT = 28,
	H_TEXT_SIZE = 36,
	H_PER_TABLE = 44,
	H_DIRECTORY = 56,
	H_METHOD = 77,
};
#define FLAG_ZERO_GRAINS BIT(2)
#define FLAG_PACKED	 BIT(16)
#define METHOD_DEFLATE	 1u

struct vmdk {
	u32 flags, per_table, tables;
	u64 grain; /* bytes */
	u32 *directory, **table;
	u64 unpacked_at; /* guest offset; ~0: none */
	u8 *unpacked;
};

static bool vmdk_probe(const u8 *head)
{
	return get_le32(head) == MAGIC || !memcmp(head, TEXT, strlen(TEXT));
}

static int vmdk_geometry(struct node *n, struct vmdk *v, const u8 *h, struct err *err)
{
	u64 grain = get_le64(h + H_GRAIN), capacity = get_le64(h + H_CAPACITY);
	u32 version = get_le32(h + H_VERSION);

	if (!memcmp(h, TEXT, strlen(TEXT)))
		return err_set(err, -EINVAL,
			"%s: only describes a VMDK image in other files, which"
			" is not supported",
			n->path);
	if (get_le32(h) != MAGIC || version < 1 || version > 3)
		return err_set(err, -EINVAL, "%s: not a VMDK image of version 1 to 3", n->path);
	v->flags = get_le32(h + H_FLAGS);
	v->per_table = get_le32(h + H_PER_TABLE);
	if (!grain || grain > GRAIN_MAX || !v->per_table || v->per_table > TABLE_MAX)
		return err_set(err, -EINVAL, "%s: grains or tables of an impossible size", n->path);
	if (capacity > BLOCK_SIZE_MAX / BLOCK_SECTOR)
		return err_set(err, -EINVAL, "%s: is too large", n->path);
	if (v->flags & FLAG_PACKED && get_le16(h + H_METHOD) != METHOD_DEFLATE)
		return err_set(err, -EINVAL, "%s: its compression method is unknown", n->path);
	v->grain = grain * BLOCK_SECTOR;
	n->size = capacity * BLOCK_SECTOR;

	u64 tables = (n->size + v->grain * v->per_table - 1) / (v->grain * v->per_table);
	if (tables > n->file_size / 4)
		return err_set(err, -EINVAL, "%s: its directory lies outside of the file", n->path);
	v->tables = (u32)tables;
	return 0;
}

/* A snapshot names its parent in the text. */
static int vmdk_text(struct node *n, const u8 *h, struct err *err)
{
	u64 at = get_le64(h + H_TEXT), sectors = get_le64(h + H_TEXT_SIZE);
	AUTO_FREE char *text = NULL;
	u64 len = min_u64(sectors, TEXT_MAX / BLOCK_SECTOR) * BLOCK_SECTOR;
	int rc;

	if (!at || !len || at > n->file_size / BLOCK_SECTOR)
		return 0;
	text = calloc(1, len + 1);
	if (!text)
		return err_set(err, -ENOMEM, "no memory");
	rc = io_pread(n->meta, text, len, at * BLOCK_SECTOR);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	if (strstr(text, "parentFileNameHint"))
		return err_set(err, -EINVAL,
			"%s: stands on another image, which is not supported"
			" for VMDK",
			n->path);
	return 0;
}

/* Streams have the directory's place in a copy of the header at the end: two sectors before it. */
static int vmdk_directory(struct node *n, struct vmdk *v, const u8 *h, struct err *err)
{
	u64 at = get_le64(h + H_DIRECTORY);
	u8 footer[BLOCK_SECTOR];

	if (at == AT_END) {
		int rc = n->file_size < 3 * BLOCK_SECTOR
				 ? -EINVAL
				 : io_pread(n->meta, footer, sizeof(footer),
					   align_down(n->file_size, BLOCK_SECTOR) -
						   2 * BLOCK_SECTOR);

		if (rc || get_le32(footer) != MAGIC)
			return err_set(err, -EINVAL, "%s: ends before its directory", n->path);
		at = get_le64(footer + H_DIRECTORY);
	}
	if (at > n->file_size / BLOCK_SECTOR)
		return err_set(err, -EINVAL, "%s: its directory lies outside of the file", n->path);
	return node_read_table(
		n, at * BLOCK_SECTOR, 4ull * v->tables, (void **)&v->directory, "directory", err);
}

static int vmdk_open(struct node *n, struct err *err)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	u8 h[BLOCK_SECTOR];
	int rc;

	n->data = v;
	if (!v)
		return err_set(err, -ENOMEM, "no memory");
	v->unpacked_at = ~0ull;
	rc = io_pread(n->meta, h, sizeof(h), 0);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	rc = vmdk_geometry(n, v, h, err);
	if (!rc)
		rc = vmdk_text(n, h, err);
	if (!rc)
		rc = vmdk_directory(n, v, h, err);
	if (rc)
		return rc;
	n->optimal = (u32)v->grain;
	v->table = calloc(v->tables + 1ull, sizeof(*v->table));
	return v->table ? 0 : err_set(err, -ENOMEM, "no memory");
}

static void vmdk_close(struct node *n)
{
	struct vmdk *v = n->data;

	if (!v)
		return;
	for (u32 i = 0; v->table && i < v->tables; i++)
		free(v->table[i]);
	free(v->table);
	free(v->directory);
	free(v->unpacked);
	free(v);
}

/* What a table says of a grain: its sector; 0: nothing. */
static int find_grain(struct node *n, u64 offset, bool wait, u32 *sector)
{
	struct vmdk *v = n->data;
	u64 number = offset / v->grain;
	u32 i = (u32)(number / v->per_table);
	u64 at = get_le32(&v->directory[i]);

	*sector = 0;
	if (!at)
		return 0;
	if (!v->table[i]) {
		struct err err;

		if (!wait)
			return -EAGAIN;
		if (node_read_table(n, at * BLOCK_SECTOR, 4ull * v->per_table,
			    (void **)&v->table[i], "table", &err))
			return -EIO;
	}
	*sector = get_le32(&v->table[i][number % v->per_table]);
	return 0;
}

static int vmdk_map(struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e)
{
	struct vmdk *v = n->data;
	u64 within = offset % v->grain;
	u32 sector;
	int rc = find_grain(n, offset, wait, &sector);

	*e = (struct extent){ EXTENT_ZERO, 0, min_u64(len, v->grain - within) };
	if (rc || !sector || (sector == 1 && v->flags & FLAG_ZERO_GRAINS))
		return rc;
	e->kind = v->flags & FLAG_PACKED ? EXTENT_PACKED : EXTENT_DATA;
	e->at = e->kind == EXTENT_DATA ? sector * (u64)BLOCK_SECTOR + within : 0;
	return 0;
}

/* The last grain may be shorter than the others when unpacked. */
static int unpack(struct node *n, struct vmdk *v, u64 start, u64 at)
{
	u8 marker[MARKER];
	AUTO_FREE u8 *src = NULL;
	uLongf got = (uLongf)v->grain;
	int rc = io_pread(n->meta, marker, sizeof(marker), at);
	u32 len = get_le32(marker + 8);

	v->unpacked_at = ~0ull;
	if (rc || !len || len > 2 * v->grain + 4096)
		return rc ? rc : -EIO;
	if (!v->unpacked)
		v->unpacked = malloc(v->grain);
	src = malloc(len);
	if (!v->unpacked || !src)
		return -ENOMEM;
	memset(v->unpacked, 0, v->grain);
	rc = io_pread(n->meta, src, len, at + MARKER);
	if (rc)
		return rc;
	if (uncompress(v->unpacked, &got, src, len) != Z_OK ||
		got < min_u64(v->grain, n->size - start))
		return -EIO;
	v->unpacked_at = start;
	return 0;
}

static int vmdk_read(struct node *n, u64 offset, u8 *buf, u64 len)
{
	struct vmdk *v = n->data;
	u64 within = offset % v->grain;
	u32 sector;
	int rc = find_grain(n, offset, true, &sector);

	if (!rc && v->unpacked_at != offset - within)
		rc = unpack(n, v, offset - within, sector * (u64)BLOCK_SECTOR);
	if (!rc)
		memcpy(buf, v->unpacked + within, len);
	return rc;
}

const struct block_format vmdk_format = {
	.name = "vmdk",
	.doc = "VMware's format in one file, read-only",
	.probe = vmdk_probe,
	.open = vmdk_open,
	.map = vmdk_map,
	.read = vmdk_read,
	.close = vmdk_close,
};
