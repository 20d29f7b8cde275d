/*
 * A CD-ROM drive with a disc of one data track in it (ATA/ATAPI-6 brings its packets; their meaning
 * is MMC-3's and SPC-2's: "MMC 5.1" names a section). The disc cannot be written, and stays in.
 *
 * A packet is looked up in a table and answers in the channel's buffer, or reads from the disc, or
 * fails: then the error register has the sense key, and what exactly was wrong can be asked for.
 */
#include "base/bits.h"
#include "device/ide/ide_priv.h"

/* Sense keys and codes, SPC-2 7.20 and annex C */
enum { SENSE_NONE = 0, SENSE_ILLEGAL = 5 };
#define NO_SUCH_COMMAND 0x20u
#define OUT_OF_RANGE	0x21u
#define BAD_FIELD	0x24u

#define CD_ROM	      5u
#define PROFILE	      0x0008u /* CD-ROM */
#define LEAD_OUT      0xaau
#define TRACK_DATA    0x14u /* data, copying is prohibited or not: no matter */
#define FRAMES_SECOND 75u
#define PREGAP	      150u /* sectors before the first, in minutes and seconds */

static void put_be16(u8 *to, u32 v) { put_le16(to, __builtin_bswap16((u16)v)); }
static void put_be32(u8 *to, u32 v) { put_le32(to, __builtin_bswap32(v)); }
static u32 be16(const u8 *from) { return __builtin_bswap16(get_le16(from)); }
static u32 be32(const u8 *from) { return __builtin_bswap32(get_le32(from)); }

static u32 sectors(const struct ide_drive *d)
{
	return (u32)min_u64(d->disk.ops->info(d->disk.ctx).size / ATAPI_SECTOR, 0xffffffff);
}

/* ---- ends ---- */

static void fail(struct ide_channel *c, u8 code)
{
	struct ide_drive *d = ide_selected(c);

	d->sense = SENSE_ILLEGAL;
	d->sense_code = code;
	ide_end(c, SENSE_ILLEGAL << 4 | ATA_ERROR_ABRT);
}

/* `len` bytes of the buffer, of which the driver has room for some. */
static void answer(struct ide_channel *c, u32 len, u32 room)
{
	c->from_disk = c->to_disk = c->stable = false;
	c->left = min_u64(len, room);
	c->offset = 0;
	if (c->left)
		ide_transfer(c);
	else
		ide_end(c, 0);
}

/* ---- packets ---- */

static void nothing(struct ide_channel *c, const u8 *p) { ide_end(c, 0); }

static void request_sense(struct ide_channel *c, const u8 *p)
{
	struct ide_drive *d = ide_selected(c);

	c->buffer[0] = 0x70; /* of the packet before, in the fixed format */
	c->buffer[2] = d->sense;
	c->buffer[7] = 10;
	c->buffer[12] = d->sense_code;
	d->sense = d->sense_code = SENSE_NONE;
	answer(c, 18, p[4]);
}

static void inquiry(struct ide_channel *c, const u8 *p)
{
	if (p[1] & 3) {
		fail(c, BAD_FIELD);
		return;
	}
	c->buffer[0] = CD_ROM;
	c->buffer[1] = BIT(7); /* removable */
	c->buffer[3] = 0x21;   /* ATAPI's, in the usual format */
	c->buffer[4] = 36 - 5;
	memcpy(c->buffer + 8, "STRATA  CD-ROM          1.0 ", 28);
	answer(c, 36, p[4]);
}

static void read_capacity(struct ide_channel *c, const u8 *p)
{
	u32 count = sectors(ide_selected(c));

	put_be32(c->buffer, count ? count - 1 : 0);
	put_be32(c->buffer + 4, ATAPI_SECTOR);
	answer(c, 8, 8);
}

static void read_sectors(struct ide_channel *c, u32 first, u32 count)
{
	if (!range_ok(first, count, sectors(ide_selected(c)))) {
		fail(c, OUT_OF_RANGE);
		return;
	}
	if (!count) {
		ide_end(c, 0);
		return;
	}
	c->from_disk = true;
	c->to_disk = c->stable = false;
	c->offset = (u64)first * ATAPI_SECTOR;
	c->left = (u64)count * ATAPI_SECTOR;
	/* Whole sectors, also for whoever asks for less at once. */
	c->block = (u32)max_u64(align_down(c->block, ATAPI_SECTOR), ATAPI_SECTOR);
	ide_transfer(c);
}

static void read_10(struct ide_channel *c, const u8 *p)
{
	read_sectors(c, be32(p + 2), be16(p + 7));
}

static void read_12(struct ide_channel *c, const u8 *p)
{
	read_sectors(c, be32(p + 2), be32(p + 6));
}

static void put_address(u8 *to, u32 sector, bool as_time)
{
	u32 at = sector + PREGAP;

	put_be32(to, sector);
	if (as_time)
		put_be32(to, at / FRAMES_SECOND / 60 << 16 | at / FRAMES_SECOND % 60 << 8 |
				     at % FRAMES_SECOND);
}

static u32 put_track(u8 *to, u8 track, u32 sector, bool as_time)
{
	to[1] = TRACK_DATA;
	to[2] = track;
	put_address(to + 4, sector, as_time);
	return 8;
}

/* MMC 5.23: the tracks from a number on, or the sessions. */
static void read_toc(struct ide_channel *c, const u8 *p)
{
	u8 format = p[2] & 15 ? p[2] & 15 : p[9] >> 6, from = p[6];
	bool as_time = p[1] & BIT(1);
	u32 len = 4;

	if (format > 1 || (!format && from > 1 && from != LEAD_OUT)) {
		fail(c, BAD_FIELD);
		return;
	}
	c->buffer[2] = c->buffer[3] = 1; /* first and last */
	if (format || from != LEAD_OUT)
		len += put_track(c->buffer + len, 1, 0, as_time);
	if (!format)
		len += put_track(c->buffer + len, LEAD_OUT, sectors(ide_selected(c)), as_time);
	put_be16(c->buffer, len - 2);
	answer(c, len, be16(p + 7));
}

static void get_configuration(struct ide_channel *c, const u8 *p)
{
	put_be32(c->buffer, 12);
	put_be16(c->buffer + 6, PROFILE);
	c->buffer[10] = 3; /* the list of profiles: persistent, current */
	c->buffer[11] = 4;
	put_be16(c->buffer + 12, PROFILE);
	c->buffer[14] = 1;
	answer(c, 16, be16(p + 7));
}

static void get_event(struct ide_channel *c, const u8 *p)
{
	bool media = p[4] & BIT(4);

	if (!(p[1] & 1)) { /* to be told later is not offered */
		fail(c, BAD_FIELD);
		return;
	}
	put_be16(c->buffer, media ? 6 : 2);
	c->buffer[2] = media ? 4 : BIT(7);
	c->buffer[3] = BIT(4);		   /* events that there may be: of the medium */
	c->buffer[5] = media ? BIT(1) : 0; /* it is in */
	answer(c, media ? 8 : 4, be16(p + 7));
}

/* MMC 6.3: error recovery, and what the drive can do. */
static void mode_sense(struct ide_channel *c, const u8 *p)
{
	u8 page = p[2] & 0x3f, *to = c->buffer;
	u32 len = 8;

	if (page != 0x01 && page != 0x2a && page != 0x3f) {
		fail(c, BAD_FIELD);
		return;
	}
	if (page != 0x2a) {
		to[len] = 0x01;
		to[len + 1] = 6;
		len += 8;
	}
	if (page != 0x01) {
		to[len] = 0x2a;
		to[len + 1] = 18;
		to[len + 6] = 0x29;	     /* a tray that locks and ejects */
		put_be16(to + len + 8, 706); /* kB/s, four times the first drives' */
		put_be16(to + len + 14, 706);
		len += 20;
	}
	put_be16(to, len - 2);
	answer(c, len, be16(p + 7));
}

static void mechanism_status(struct ide_channel *c, const u8 *p) { answer(c, 8, be16(p + 8)); }

static const struct packet {
	u8 op;
	void (*run)(struct ide_channel *c, const u8 *p);
} packets[] = {
	{ 0x00, nothing },	     /* test unit ready: SPC-2 7.25 */
	{ 0x03, request_sense },     /* SPC-2 7.20 */
	{ 0x12, inquiry },	     /* SPC-2 7.3 */
	{ 0x1b, nothing },	     /* start stop unit */
	{ 0x1e, nothing },	     /* prevent allow medium removal: SPC-2 7.12 */
	{ 0x25, read_capacity },     /* MMC 5.16 */
	{ 0x28, read_10 },	     /* read(10) of SCSI's block commands */
	{ 0x43, read_toc },	     /* MMC 5.23 */
	{ 0x46, get_configuration }, /* MMC 5.5 */
	{ 0x4a, get_event },	     /* get event status notification: MMC 5.6 */
	{ 0x5a, mode_sense },	     /* mode sense(10): SPC-2 7.9 */
	{ 0xa8, read_12 },	     /* read(12) */
	{ 0xbb, nothing },	     /* set cd speed */
	{ 0xbd, mechanism_status },  /* MMC 5.9 */
};

void atapi_packet(struct ide_channel *c)
{
	u8 packet[ATAPI_PACKET];

	memcpy(packet, c->buffer, sizeof(packet));
	memset(c->buffer, 0, sizeof(c->buffer));
	for (unsigned i = 0; i < ARRAY_LEN(packets); i++)
		if (packets[i].op == packet[0]) {
			packets[i].run(c, packet);
			return;
		}
	fail(c, NO_SUCH_COMMAND);
}

/* ---- identify packet device ---- */

static void put_text(u8 *words, unsigned word, unsigned count, const char *text)
{
	size_t len = strnlen(text, 2 * count);

	for (unsigned i = 0; i < 2 * count; i++)
		words[2 * word + (i ^ 1)] = i < len ? (u8)text[i] : ' ';
}

void atapi_identify(const struct ide_drive *d, u8 words[ATA_ANSWER_LEN])
{
	static const struct {
		u8 word;
		u16 value;
	} rows[] = {
		{ 0, 0x85c0 },	/* packets of 12 bytes, a CD-ROM drive, removable */
		{ 49, 0x0b00 }, /* DMA, LBA, IORDY */
		{ 53, 0x0002 }, /* words 64 to 70 count */
		{ 63, 0x0007 }, /* multiword DMA modes 0 to 2 */
		{ 64, 0x0003 }, /* PIO modes 3 and 4 */
		{ 65, 120 },
		{ 66, 120 },
		{ 67, 120 },
		{ 68, 120 },
		{ 80, 0x00f0 }, /* ATA/ATAPI-4 to -7 */
		{ 82, 0x0210 },
		{ 83, 0x4000 }, /* packets, device reset */
		{ 85, 0x0210 },
		{ 87, 0x4000 },
	};

	memset(words, 0, ATA_ANSWER_LEN);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		put_le16(words + 2 * rows[i].word, rows[i].value);
	if (d->disk.mode >> 3 == 4)
		words[2 * 63 + 1] = (u8)BIT(d->disk.mode & 7);
	put_text(words, 10, 10, d->disk.serial ? d->disk.serial : "");
	put_text(words, 23, 4, "1.0");
	put_text(words, 27, 20, "Strata CD-ROM");
}
