/*
 * Firmware configuration device (QEMU docs/specs/fw_cfg.rst), through which SeaBIOS and OVMF learn
 * what machine they are in: ports 0x510 and 0x511, and the DMA interface at 0x514.
 *
 * Items have numbers; what has a name is a file, whose number the directory tells. Writing the
 * 16-bit selector chooses an item and goes to its beginning, each read of the data port gives its
 * next byte. What lies behind an item's end reads as zeros.
 *
 * DMA: the address, big-endian, of a descriptor in guest memory is written in two halves; the lower
 * one starts the transfer, which is over when the write returns. A descriptor is copied once, its
 * control word is written back: 0, or the error bit. No item can be written.
 *
 * State is the selection alone: contents are configuration, which the machine puts in again.
 */
#include "device/firmware/fw_cfg.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include <errno.h>
#include <stdlib.h>

/* Registers */

enum { WINDOW_PORTS, WINDOW_DMA };

#define DATA_OFFSET 1u
#define DMA_LOW	    4u /* offset of the half that starts a transfer */

#define ID_TRADITIONAL BIT(0)
#define ID_DMA	       BIT(1)
#define DMA_SIGNATURE  0x51454d5520434647ull /* "QEMU CFG" */

#define CONTROL_ERROR  BIT(0)
#define CONTROL_READ   BIT(1)
#define CONTROL_SKIP   BIT(2)
#define CONTROL_SELECT BIT(3)
#define CONTROL_WRITE  BIT(4)
#define CONTROL_KEY(c) ((u16)((c) >> 16))

struct descriptor { /* big-endian */
	u32 control, length;
	u64 address;
};

struct entry { /* of the directory, big-endian */
	u32 size;
	u16 key, reserved;
	char name[FW_CFG_NAME_SIZE];
};

#define FILES_MAX   24u
#define NUMBERS_MAX 8u
/* A transfer past an item's end is zeros, but firmware knows sizes: longer ones are mistakes. */
#define ZEROS_MAX (64 * KiB)

/* State */

struct item {
	u16 key;
	u32 len;
	u8 *data; /* owned */
};

struct fw_cfg {
	struct device dev;
	struct item items[NUMBERS_MAX + FILES_MAX + 1];
	unsigned item_count, file_count;
	struct item directory;
	u16 key;
	u32 offset; /* may be past the end */
	u32 dma_high;
};

static struct fw_cfg *fw_cfg_of(struct device *d) { return container_of(d, struct fw_cfg, dev); }

/* Helpers */

static const struct item *selected(const struct fw_cfg *f)
{
	if (f->key == FW_CFG_DIRECTORY)
		return &f->directory;
	for (unsigned i = 0; i < f->item_count; i++)
		if (f->items[i].key == f->key)
			return &f->items[i];
	return NULL;
}

/* What is left of the selected item, and where it is. */
static u32 rest(const struct fw_cfg *f, const u8 **from)
{
	const struct item *item = selected(f);

	if (!item || f->offset >= item->len)
		return 0;
	*from = item->data + f->offset;
	return item->len - f->offset;
}

static void advance(struct fw_cfg *f, u32 by)
{
	if (__builtin_add_overflow(f->offset, by, &f->offset))
		f->offset = ~0u;
}

static void choose(struct fw_cfg *f, u16 key)
{
	f->key = key;
	f->offset = 0;
}

static bool add(struct fw_cfg *f, u16 key, const void *data, u32 len)
{
	u8 *copy = malloc(len ? len : 1);

	if (!copy)
		return false;
	memcpy(copy, data, len);
	f->items[f->item_count++] = (struct item){ key, len, copy };
	return true;
}

/* Contents */

void fw_cfg_number(struct device *d, enum fw_cfg_key key, u64 value, unsigned len)
{
	struct fw_cfg *f = fw_cfg_of(d);

	must(f->item_count - f->file_count < NUMBERS_MAX && len <= sizeof(value), "item %u", key);
	must(add(f, (u16)key, &value, len), "no memory for item %u", key);
}

static bool add_entry(struct fw_cfg *f, const char *name, u32 len)
{
	u32 count = f->file_count + 1, size = 4 + count * (u32)sizeof(struct entry);
	u8 *grown = realloc(f->directory.data, size);
	struct entry e = { .size = __builtin_bswap32(len),
		.key = __builtin_bswap16((u16)(FW_CFG_FIRST_FILE + f->file_count)) };

	if (!grown)
		return false;
	f->directory.data = grown;
	f->directory.len = size;
	memcpy(e.name, name, strlen(name));
	memcpy(grown + size - sizeof(e), &e, sizeof(e));
	put_le32(grown, __builtin_bswap32(count));
	return true;
}

int fw_cfg_file(struct device *d, const char *name, const void *data, size_t len, struct err *err)
{
	struct fw_cfg *f = fw_cfg_of(d);

	if (strlen(name) >= FW_CFG_NAME_SIZE || len > FW_CFG_FILE_MAX)
		return err_set(err, -EINVAL, "%s: too long for %s", name, d->name);
	if (f->file_count == FILES_MAX)
		return err_set(err, -ENOSPC, "%s: %s holds no more than %u files", name, d->name,
			FILES_MAX);
	if (!add(f, (u16)(FW_CFG_FIRST_FILE + f->file_count), data, (u32)len))
		return err_set(err, -ENOMEM, "%s: no memory", name);
	if (!add_entry(f, name, (u32)len)) {
		free(f->items[--f->item_count].data);
		return err_set(err, -ENOMEM, "%s: no memory", name);
	}
	f->file_count++;
	return 0;
}

/* Reads */

static u8 next_byte(struct fw_cfg *f)
{
	const u8 *from;
	u8 byte = rest(f, &from) ? *from : 0;

	advance(f, 1);
	return byte;
}

static u64 fw_cfg_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct fw_cfg *f = fw_cfg_of(d);
	u64 signature = __builtin_bswap64(DMA_SIGNATURE);

	if (window == WINDOW_DMA)
		return signature >> 8 * offset;
	return size == 1 && offset == DATA_OFFSET ? next_byte(f) : mask_bytes(size);
}

/* Writes */

/* All or nothing, as guest memory takes it. */
static bool transfer(struct fw_cfg *f, u64 to, u32 len)
{
	const u8 *from;
	u32 n = (u32)min_u64(rest(f, &from), len);
	u64 zeros_at;

	if (len - n > ZEROS_MAX || !add_ok(to, n, &zeros_at))
		return false;
	if (n && !memory_write(f->dev.env.memory, gpa(to), from, n))
		return false;
	if (len > n && !memory_fill(f->dev.env.memory, gpa(zeros_at), 0, len - n))
		return false;
	advance(f, len);
	return true;
}

static bool perform(struct fw_cfg *f, u32 control, u32 len, u64 address)
{
	if (control & CONTROL_SELECT)
		choose(f, CONTROL_KEY(control));
	if (control & CONTROL_READ)
		return transfer(f, address, len);
	if (control & CONTROL_WRITE)
		return false;
	if (control & CONTROL_SKIP)
		advance(f, len);
	return true;
}

static void start_dma(struct fw_cfg *f, u64 at)
{
	struct memory *m = f->dev.env.memory;
	struct descriptor d;

	if (!memory_read(m, gpa(at), &d, sizeof(d))) {
		guest_err(f->dev.name, "descriptor at 0x%llx is not in memory",
			(unsigned long long)at);
		return;
	}
	u32 control = __builtin_bswap32(d.control);
	bool well = perform(f, control, __builtin_bswap32(d.length), __builtin_bswap64(d.address));
	u32 result = __builtin_bswap32(well ? 0 : CONTROL_ERROR);

	if (!well)
		guest_err(f->dev.name, "transfer 0x%x refused", control);
	if (!memory_write(m, gpa(at), &result, sizeof(result)))
		guest_err(f->dev.name, "the descriptor cannot be written");
}

static void fw_cfg_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct fw_cfg *f = fw_cfg_of(d);

	if (window == WINDOW_PORTS) {
		if (size == 2 && offset == 0)
			choose(f, (u16)value);
		return;
	}
	if (size != 4 || offset & 3)
		return;
	if (offset == DMA_LOW) {
		u64 at = (u64)f->dma_high << 32 | __builtin_bswap32((u32)value);

		f->dma_high = 0;
		start_dma(f, at);
	} else {
		f->dma_high = __builtin_bswap32((u32)value);
	}
}

/* Reset, init */

static void fw_cfg_reset(struct device *d)
{
	struct fw_cfg *f = fw_cfg_of(d);

	choose(f, FW_CFG_SIGNATURE);
	f->dma_high = 0;
}

static int fw_cfg_init(struct device *d, struct err *err)
{
	struct fw_cfg *f = fw_cfg_of(d);

	if (!d->env.memory)
		return err_set(err, -EINVAL, "no memory");
	f->directory = (struct item){ .key = FW_CFG_DIRECTORY, .len = 4, .data = calloc(1, 4) };
	if (!f->directory.data)
		return err_set(err, -ENOMEM, "no memory");
	fw_cfg_number(d, FW_CFG_SIGNATURE, get_le32("QEMU"), 4);
	fw_cfg_number(d, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, 4);
	return 0;
}

static void fw_cfg_fini(struct device *d)
{
	struct fw_cfg *f = fw_cfg_of(d);

	while (f->item_count)
		free(f->items[--f->item_count].data);
	free(f->directory.data);
}

/* Tables */

static const struct field fw_cfg_state[] = {
	FIELD(struct fw_cfg, key),
	FIELD(struct fw_cfg, offset),
	FIELD(struct fw_cfg, dma_high),
	FIELD_END,
};

const struct device_class fw_cfg_class = {
	.name = "fw_cfg",
	.doc = "what the machine tells its firmware",
	.size = sizeof(struct fw_cfg),
	.init = fw_cfg_init,
	.reset = fw_cfg_reset,
	.fini = fw_cfg_fini,
	.read = fw_cfg_read,
	.write = fw_cfg_write,
	.windows = { { BUS_PORT, FW_CFG_BASE, 2 }, { BUS_PORT, FW_CFG_BASE + 4, 8 } },
	.state = fw_cfg_state,
};
