/*
 * VirtualBox's VDI, read-only: a header, a table of blocks, blocks. There is no document but
 * VirtualBox's source (src/VBox/Storage/VDICore.h), whose layout this is.
 */
#include "base/bits.h"
#include "block/format.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE 0xbeda107fu
#define NO_BLOCK  0xffffffffu
#define ZERO	  0xfffffffeu

/* Offsets in the header. */
enum {
	H_SIGNATURE = 0x40,
	H_VERSION = 0x44,
	H_TYPE = 0x4c,
	H_TABLE = 0x154,
	H_DATA = 0x158,
	H_SECTOR = 0x168,
	H_SIZE = 0x170,
	H_BLOCK = 0x178,
	H_EXTRA = 0x17c,
	H_BLOCKS = 0x180,
	H_LINK = 0x1a8,
	H_END = 0x1c8,
};
#define VERSION_MAJOR 1u
#define TYPE_DYNAMIC  1u
#define TYPE_STATIC   2u
#define BLOCK_LEAST   4096u
#define BLOCK_MOST    (256 * MiB)

struct vdi {
	u32 *table; /* as in the file */
	u32 blocks, block;
	u64 data;
};

static bool vdi_probe(const u8 *head) { return get_le32(head + H_SIGNATURE) == SIGNATURE; }

static int vdi_header(struct node *n, struct vdi *v, const u8 *h, struct err *err)
{
	static const u8 none[16];
	u32 type = get_le32(h + H_TYPE);

	if (!vdi_probe(h) || get_le32(h + H_VERSION) >> 16 != VERSION_MAJOR)
		return err_set(err, -EINVAL, "%s: not a VDI image of version 1", n->path);
	if (type != TYPE_DYNAMIC && type != TYPE_STATIC)
		return err_set(err, -EINVAL, "%s: a VDI image of an unknown type", n->path);
	if (memcmp(h + H_LINK, none, sizeof(none)))
		return err_set(err, -EINVAL,
			"%s: stands on another image, which is not supported"
			" for VDI",
			n->path);
	v->block = get_le32(h + H_BLOCK);
	v->blocks = get_le32(h + H_BLOCKS);
	v->data = get_le32(h + H_DATA);
	n->size = get_le64(h + H_SIZE);
	if (v->block < BLOCK_LEAST || v->block > BLOCK_MOST || v->block % BLOCK_SECTOR ||
		get_le32(h + H_EXTRA) || get_le32(h + H_SECTOR) != BLOCK_SECTOR)
		return err_set(err, -EINVAL, "%s: blocks of an unsupported size", n->path);
	if (n->size > BLOCK_SIZE_MAX || n->size > (u64)v->blocks * v->block)
		return err_set(err, -EINVAL, "%s: has fewer blocks than its size needs", n->path);
	n->size = align_up(n->size, BLOCK_SECTOR);
	if (n->size > (u64)v->blocks * v->block)
		return err_set(err, -EINVAL, "%s: has an impossible size", n->path);
	return 0;
}

static int vdi_open(struct node *n, struct err *err)
{
	struct vdi *v = calloc(1, sizeof(*v));
	u8 h[H_END];
	int rc;

	n->data = v;
	if (!v)
		return err_set(err, -ENOMEM, "no memory");
	rc = io_pread(n->meta, h, sizeof(h), 0);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	rc = vdi_header(n, v, h, err);
	if (rc)
		return rc;
	n->optimal = v->block;
	return node_read_table(
		n, get_le32(h + H_TABLE), 4ull * v->blocks, (void **)&v->table, "block table", err);
}

static void vdi_close(struct node *n)
{
	struct vdi *v = n->data;

	if (v)
		free(v->table);
	free(v);
}

static int vdi_map(struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e)
{
	const struct vdi *v = n->data;
	u64 within = offset % v->block;
	u32 entry = get_le32(&v->table[offset / v->block]);

	*e = (struct extent){ EXTENT_ZERO, 0, min_u64(len, v->block - within) };
	if (entry == NO_BLOCK || entry == ZERO)
		return 0;
	e->kind = EXTENT_DATA;
	e->at = v->data + (u64)entry * v->block + within;
	return 0;
}

const struct block_format vdi_format = {
	.name = "vdi",
	.doc = "VirtualBox's format, read-only",
	.probe = vdi_probe,
	.open = vdi_open,
	.map = vdi_map,
	.close = vdi_close,
};
