/*
 * Hyper-V's VHDX, read-only ("[MS-VHDX]: Virtual Hard Disk v2 File Format"; its words are used
 * here). Checksums are not verified: what they would find, the checks below bear.
 */
#include "base/bits.h"
#include "block/format.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SIGNATURE  "vhdxfile"
#define HEADER_1   (64 * KiB)
#define HEADER_2   (128 * KiB)
#define REGIONS	   (192 * KiB)
#define TABLE_SIZE (64 * KiB)
#define ENTRY_SIZE 32u
#define ENTRIES	   2047u

/* Of headers (2.2.2), region tables (2.2.3) and metadata tables (2.6.1). */
enum { HEADER_SEQUENCE = 8, HEADER_LOG_GUID = 48, HEADER_LEN = 80 };
enum { REGION_COUNT = 8, REGION_FIRST = 16, REGION_OFFSET = 16 };
enum { META_COUNT = 10, META_FIRST = 32, META_OFFSET = 16 };

static const u8 bat_guid[16] = { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11,
	0x5e, 0x9b, 0xfd, 0x4a, 0x08 };
static const u8 meta_guid[16] = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57,
	0x5f, 0x05, 0x0f, 0x88, 0x6e };
static const u8 params_guid[16] = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6,
	0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
static const u8 size_guid[16] = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d,
	0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
static const u8 sector_guid[16] = { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47,
	0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f };

#define PARAMS_PARENT	  BIT(1)
#define BLOCK_LEAST	  (1 * MiB)
#define BLOCK_MOST	  (256 * MiB)
#define STATE_MASK	  7u
#define STATE_PRESENT	  6u
#define STATE_PARTLY	  7u
#define BITMAP_SECTORS	  BIT64(23) /* that one block of bitmaps describes */
#define BAT_OFFSET(entry) ((entry) & ~(1 * MiB - 1))

struct vhdx {
	u64 *bat;
	u64 block, chunk; /* bytes; blocks between entries of bitmaps */
};

static bool vhdx_probe(const u8 *head) { return !memcmp(head, SIGNATURE, 8); }

static int refuse(struct node *n, struct err *err, const char *what)
{
	return err_set(err, -EINVAL, "%s: %s", n->path, what);
}

static bool is_header(const u8 *h) { return !memcmp(h, "head", 4); }

/* The valid header with the higher sequence number counts; a log that is not empty holds writes. */
static int check_headers(struct node *n, struct err *err)
{
	static const u8 none[16];
	u8 one[HEADER_LEN], two[HEADER_LEN];
	int rc = io_pread(n->meta, one, sizeof(one), HEADER_1);

	if (!rc)
		rc = io_pread(n->meta, two, sizeof(two), HEADER_2);
	if (rc)
		return err_set(err, rc, "%s: %s", n->path, strerror(-rc));
	if (!is_header(one) && !is_header(two))
		return refuse(n, err, "has no header");
	bool second = !is_header(one) ||
		      (is_header(two) &&
			      get_le64(two + HEADER_SEQUENCE) > get_le64(one + HEADER_SEQUENCE));

	if (memcmp((second ? two : one) + HEADER_LOG_GUID, none, sizeof(none)))
		return refuse(n, err, "was not closed, and replaying its log is not supported");
	return 0;
}

/* An entry of a table of `count` entries; NULL if there is none with that GUID. */
static const u8 *find(const u8 *table, u32 first, u32 count, const u8 guid[16])
{
	for (u32 i = 0; i < min_u64(count, ENTRIES - 1); i++)
		if (!memcmp(table + first + i * ENTRY_SIZE, guid, 16))
			return table + first + i * ENTRY_SIZE;
	return NULL;
}

/* Up to 8 bytes of an item, whose offset counts from its table. */
static int read_item(struct node *n, const u8 *meta, u64 meta_at, const u8 guid[16], u64 *value)
{
	const u8 *e = find(meta, META_FIRST, get_le16(meta + META_COUNT), guid);
	u8 bytes[8];
	u64 at;

	if (!e || !add_ok(meta_at, get_le32(e + META_OFFSET), &at) ||
		!range_ok(at, sizeof(bytes), n->file_size) ||
		io_pread(n->meta, bytes, sizeof(bytes), at))
		return -EINVAL;
	*value = get_le64(bytes);
	return 0;
}

static int read_meta(struct node *n, struct vhdx *v, u64 meta_at, struct err *err)
{
	u64 params, sector;
	void *meta;
	int rc = node_read_table(n, meta_at, TABLE_SIZE, &meta, "metadata table", err);

	if (rc)
		return rc;
	rc = memcmp(meta, "metadata", 8) || read_item(n, meta, meta_at, params_guid, &params) ||
	     read_item(n, meta, meta_at, size_guid, &n->size) ||
	     read_item(n, meta, meta_at, sector_guid, &sector);
	free(meta);
	if (rc)
		return refuse(n, err, "its metadata are damaged");
	v->block = (u32)params;
	sector = (u32)sector;
	if (params >> 32 & PARAMS_PARENT)
		return refuse(n, err, "stands on another image, which is not supported for VHDX");
	if (v->block < BLOCK_LEAST || v->block > BLOCK_MOST || v->block & (v->block - 1) ||
		(sector != 512 && sector != 4096))
		return refuse(n, err, "blocks or sectors of an impossible size");
	if (n->size > BLOCK_SIZE_MAX || n->size % BLOCK_SECTOR)
		return refuse(n, err, "has an impossible size");
	v->chunk = BITMAP_SECTORS * sector / v->block;
	return 0;
}

static int read_regions(struct node *n, struct vhdx *v, struct err *err)
{
	void *regions;
	u64 bat_at, meta_at;
	int rc = node_read_table(n, REGIONS, TABLE_SIZE, &regions, "region table", err);

	if (rc)
		return rc;
	u32 count = get_le32((u8 *)regions + REGION_COUNT);
	const u8 *bat = find(regions, REGION_FIRST, count, bat_guid);
	const u8 *meta = find(regions, REGION_FIRST, count, meta_guid);

	bat_at = bat ? get_le64(bat + REGION_OFFSET) : 0;
	meta_at = meta ? get_le64(meta + REGION_OFFSET) : 0;
	rc = !memcmp(regions, "regi", 4) && bat && meta;
	free(regions);
	if (!rc)
		return refuse(n, err, "its region table is damaged");
	rc = read_meta(n, v, meta_at, err);
	if (rc)
		return rc;
	u64 blocks = n->size / v->block + !!(n->size % v->block);

	return node_read_table(n, bat_at, 8 * (blocks + blocks / v->chunk), (void **)&v->bat,
		"block allocation table", err);
}

static int vhdx_open(struct node *n, struct err *err)
{
	struct vhdx *v = calloc(1, sizeof(*v));
	u8 head[BLOCK_SECTOR];
	int rc;

	n->data = v;
	if (!v)
		return err_set(err, -ENOMEM, "no memory");
	rc = io_pread(n->meta, head, sizeof(head), 0);
	if (rc || !vhdx_probe(head))
		return refuse(n, err, "not a VHDX image");
	rc = check_headers(n, err);
	if (!rc)
		rc = read_regions(n, v, err);
	if (!rc)
		n->optimal = (u32)v->block;
	return rc;
}

static void vhdx_close(struct node *n)
{
	struct vhdx *v = n->data;

	if (v)
		free(v->bat);
	free(v);
}

static int vhdx_map(struct node *n, u64 offset, u64 len, bool write, bool wait, struct extent *e)
{
	const struct vhdx *v = n->data;
	u64 within = offset & (v->block - 1), number = offset / v->block;
	u64 entry = get_le64(&v->bat[number + number / v->chunk]);

	*e = (struct extent){ EXTENT_ZERO, 0, min_u64(len, v->block - within) };
	if ((entry & STATE_MASK) == STATE_PARTLY)
		return -EIO; /* only an image with a parent has these */
	if ((entry & STATE_MASK) != STATE_PRESENT)
		return 0;
	e->kind = EXTENT_DATA;
	e->at = BAT_OFFSET(entry) + within;
	return e->at > BLOCK_SIZE_MAX ? -EIO : 0;
}

const struct block_format vhdx_format = {
	.name = "vhdx",
	.doc = "Hyper-V's format, read-only",
	.probe = vhdx_probe,
	.open = vhdx_open,
	.map = vhdx_map,
	.close = vhdx_close,
};
