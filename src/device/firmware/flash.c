/*
 * A NOR flash part with Intel's command set (Intel 28F series; JEDEC JESD68 "CFI", algorithm 1), a
 * byte wide, that OVMF keeps its variables in: read array, read and clear status, read identifier,
 * program a byte, erase a block of 4 KiB. Programming clears bits, erasing sets them.
 *
 * Programming and erasing are over when the write is. The status register therefore says "ready"
 * from the first of them on, and nothing after it was cleared: by that, firmware for virtual
 * machines tells flash from RAM and ROM.
 *
 * Until it is first written to, guests see the contents as ROM: firmware reads all of them many
 * times before. From then on every access comes here, until the next reset. The machine hides the
 * ROM at the end of the block of instructions that wrote.
 *
 * The contents are the machine's, as memory is: device_env.flash. What has changed is handed to its
 * store(), so that a file can follow.
 */
#include "device/firmware/flash.h"
#include "base/bits.h"
#include "base/log.h"
#include <errno.h>

/* Commands */
enum {
	PROGRAM_ALTERNATE = 0x10,
	ERASE = 0x20,
	PROGRAM = 0x40,
	CLEAR_STATUS = 0x50,
	READ_STATUS = 0x70,
	READ_IDENTIFIER = 0x90,
	CONFIRM = 0xd0,
	READ_ARRAY = 0xff,
};

#define STATUS_READY	    BIT(7)
#define STATUS_ERASE_FAIL   BIT(5) /* both: a sequence that is none */
#define STATUS_PROGRAM_FAIL BIT(4)

#define MANUFACTURER 0x89u
#define PART	     0x18u
#define ERASED	     0xffu

enum mode { MODE_ARRAY, MODE_STATUS, MODE_IDENTIFIER, MODE_MAX = MODE_IDENTIFIER };

struct flash {
	struct device dev;
	u8 mode;    /* enum mode: what reads give */
	u8 command; /* that waits for its second write, or 0 */
	u8 status;
	bool written; /* since the last reset */
};

static struct flash *flash_of(struct device *d) { return container_of(d, struct flash, dev); }

/* ---- reads ---- */

static u64 flash_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct flash *f = flash_of(d);
	u64 value = 0;

	switch ((enum mode)f->mode) {
	case MODE_STATUS: return f->status;
	case MODE_IDENTIFIER: return offset & 1 ? PART : MANUFACTURER;
	case MODE_ARRAY: break;
	}
	if (range_ok(offset, size, d->env.flash.size))
		memcpy(&value, d->env.flash.host + offset, size);
	return value;
}

/* ---- writes ---- */

static void store(struct flash *f, u64 offset, u64 len)
{
	const struct device_flash *to = &f->dev.env.flash;

	f->status |= STATUS_READY;
	f->mode = MODE_STATUS;
	if (to->store)
		to->store(f->dev.env.machine, offset, len);
}

static void program(struct flash *f, u64 offset, unsigned size, u64 value)
{
	u8 *at = f->dev.env.flash.host + offset;

	for (unsigned i = 0; i < size; i++)
		at[i] &= (u8)(value >> 8 * i);
	store(f, offset, size);
}

static void erase(struct flash *f, u64 offset)
{
	offset = align_down(offset, FLASH_BLOCK);
	memset(f->dev.env.flash.host + offset, ERASED, FLASH_BLOCK);
	store(f, offset, FLASH_BLOCK);
}

static void take_command(struct flash *f, u8 command)
{
	switch (command) {
	case PROGRAM:
	case PROGRAM_ALTERNATE:
	case ERASE:
		f->command = command;
		f->mode = MODE_STATUS;
		break;
	case CLEAR_STATUS:
		f->status = 0;
		f->mode = MODE_ARRAY;
		break;
	case READ_STATUS: f->mode = MODE_STATUS; break;
	case READ_IDENTIFIER: f->mode = MODE_IDENTIFIER; break;
	default:
		if (command != READ_ARRAY)
			guest_err(f->dev.name, "unknown command 0x%02x", command);
		f->mode = MODE_ARRAY;
		break;
	}
}

static void show(const struct flash *f)
{
	if (f->dev.env.flash.show)
		f->dev.env.flash.show(f->dev.env.machine, !f->written);
}

static void flash_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct flash *f = flash_of(d);
	u8 command = f->command;

	f->command = 0;
	if (!range_ok(offset, size, d->env.flash.size))
		return;
	if (!f->written) {
		f->written = true;
		show(f);
	}
	if (!command)
		take_command(f, (u8)value);
	else if (command != ERASE)
		program(f, offset, size, value);
	else if ((u8)value == CONFIRM)
		erase(f, offset);
	else
		f->status |= STATUS_READY | STATUS_ERASE_FAIL | STATUS_PROGRAM_FAIL;
}

/* ---- reset, init, tables ---- */

static void flash_reset(struct device *d)
{
	struct flash *f = flash_of(d);

	f->mode = MODE_ARRAY;
	f->command = f->status = 0;
	f->written = false;
	show(f);
}

/* The contents came with memory: who follows them has older ones, or another machine's. */
static void flash_loaded(struct device *d)
{
	const struct device_flash *to = &d->env.flash;

	if (to->store)
		to->store(d->env.machine, 0, to->size);
	show(flash_of(d));
}

static int flash_init(struct device *d, struct err *err)
{
	u64 size = d->env.flash.size;

	if (!size || size % FLASH_BLOCK || size > FLASH_SIZE_MAX)
		return err_set(err, -EINVAL, "flash is a multiple of 4 KiB, up to 4 MiB");
	d->ports[0].at.len = size;
	return 0;
}

static const struct field flash_state[] = {
	FIELD_MAX(struct flash, mode, MODE_MAX),
	FIELD(struct flash, command),
	FIELD(struct flash, status),
	FIELD(struct flash, written),
	FIELD_END,
};

const struct device_class flash_class = {
	.name = "flash",
	.doc = "flash memory for firmware's variables",
	.size = sizeof(struct flash),
	.init = flash_init,
	.reset = flash_reset,
	.read = flash_read,
	.write = flash_write,
	.loaded = flash_loaded,
	/* Below the firmware's code, where the machine puts it; its length is the contents'. */
	.windows = { { BUS_MMIO, 0xffc00000, FLASH_BLOCK } },
	.state = flash_state,
};
