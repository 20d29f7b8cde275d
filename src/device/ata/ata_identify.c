/* IDENTIFY DEVICE (ACS-3 7.12): what the disk says of itself, word by word. */
#include "base/bits.h"
#include "device/ata/ata.h"

#define LBA28_MAX 0x0fffffffull
#define SIGNED	  0x4000u /* "these words are valid": bits 15:14 are 01 */
#define SIGNATURE 0xa5u

static const struct row {
	u8 word;
	u16 value;
} rows[] = {
	{ 0, 0x0040 },			/* not removable */
	{ 47, 0x8010 },			/* at most 16 sectors in a multiple command's block */
	{ 48, SIGNED }, { 49, 0x2f00 }, /* DMA, LBA, IORDY, standby timer */
	{ 50, SIGNED }, { 53, 0x0007 }, /* words 54 to 58, 64 to 70 and 88 count */
	{ 64, 0x0003 },			/* PIO modes 3 and 4 */
	{ 65, 120 },			/* cycle times, nanoseconds */
	{ 66, 120 }, { 67, 120 }, { 68, 120 }, { 80, 0x07f0 }, /* up to ACS-3 */
	{ 82, 0x4068 },		 /* NOP, look-ahead, write cache, power management */
	{ 83, SIGNED | 0x3400 }, /* flush, flush ext, 48-bit addresses */
	{ 84, SIGNED | 0x0060 }, /* writes with FUA, general purpose logs */
	{ 86, 0x3400 }, { 87, SIGNED | 0x0060 }, { 105, ATA_TRIM_MAX / 512 },
	{ 106, SIGNED | 0x2003 }, /* 2^3 blocks in a physical one */
	{ 169, 1 },		  /* trim */
	{ 217, 1 },		  /* does not turn */
};

static const struct row serial_rows[] = {
	{ 75, ATA_QUEUE - 1 }, { 76, 0x010e }, /* queued commands; 1.5, 3 and 6 Gb/s */
	{ 222, 0x107f },		       /* SATA 3.1 and before */
};

static void put(u8 *words, unsigned word, u16 value) { put_le16(words + 2 * word, value); }

/* Two characters a word, the first in its upper half. */
static void put_text(u8 *words, unsigned word, unsigned count, const char *text)
{
	size_t len = strnlen(text, 2 * count);

	for (unsigned i = 0; i < 2 * count; i++)
		words[2 * word + (i ^ 1)] = i < len ? (u8)text[i] : ' ';
}

u16 ata_cylinders(const struct ata_disk *d, unsigned heads, unsigned sectors)
{
	return (u16)min_u64(ata_blocks(d) / (heads * sectors), 16383);
}

static void put_geometry(const struct ata_disk *d, u8 *words)
{
	u16 cylinders = ata_cylinders(d, d->heads, d->sectors);

	put(words, 1, ata_cylinders(d, ATA_HEADS, ATA_SECTORS));
	put(words, 3, ATA_HEADS);
	put(words, 6, ATA_SECTORS);
	put(words, 54, cylinders);
	put(words, 55, d->heads);
	put(words, 56, d->sectors);
	put_le32(words + 2 * 57, (u32)cylinders * d->heads * d->sectors);
}

/* Modes: the class in bits 7:3, 00001 PIO, 00100 multiword, 01000 ultra (7.45). */
static void put_modes(const struct ata_disk *d, u8 *words)
{
	unsigned chosen = 0x100u << (d->mode & 7);

	put(words, 63, (u16)(0x07 | (d->mode >> 3 == 4 ? chosen : 0)));
	put(words, 88, (u16)(0x7f | (d->mode >> 3 == 8 ? chosen : 0)));
}

void ata_identify(const struct ata_disk *d, u8 *words)
{
	u64 blocks = ata_blocks(d);
	u8 sum = SIGNATURE;

	memset(words, 0, ATA_ANSWER_LEN);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		put(words, rows[i].word, rows[i].value);
	for (unsigned i = 0; d->sata && i < ARRAY_LEN(serial_rows); i++)
		put(words, serial_rows[i].word, serial_rows[i].value);
	put_text(words, 10, 10, d->serial ? d->serial : d->name);
	put_text(words, 23, 4, "1");
	put_text(words, 27, 20, "Strata ATA disk");
	put_geometry(d, words);
	put_modes(d, words);
	put(words, 59, d->multiple ? 0x100 | d->multiple : 0);
	put_le32(words + 2 * 60, (u32)min_u64(blocks, LBA28_MAX));
	put(words, 85, (u16)(0x4008 | (d->lookahead ? 0x40 : 0) | (d->cache ? 0x20 : 0)));
	/* The parallel cable's word: device 0, which found an 80-wire cable. */
	put(words, 93, d->sata ? 0 : SIGNED | 0x2009);
	put_le64(words + 2 * 100, blocks);
	words[510] = SIGNATURE;
	for (unsigned i = 0; i < 510; i++)
		sum = (u8)(sum + words[i]);
	words[511] = (u8)-sum;
}
