/*
 * An ATA disk (ACS-3; "7.12" names a section of it) without its wires: what commands mean, what
 * the disk says of itself, and the requests they become. A transport (ahci/) brings a command and
 * moves its data:
 *
 *   ata_decode()  what is to be done: a plan. Nothing has happened yet, except that settings
 *                 have changed.
 *   ATA_END       it is over; the plan has status and error.
 *   ATA_ANSWER    plan.answer is to be moved to the driver; then it is over.
 *   otherwise     the transport says where the data is and calls ata_run(), which calls done()
 *                 later, never at once; it kicks the disk after the last of several.
 *
 * The transport has at most one job under way, or only queued ones (7.23, 7.61).
 */
#pragma once
#include "device/device.h"

#define ATA_ANSWER_LEN 512u
#define ATA_TRIM_MAX   4096u /* bytes of ranges in one command */
#define ATA_QUEUE      32u

/* Status and error registers, 6.2 and 6.3 */
#define ATA_STATUS_ERR	BIT(0)
#define ATA_STATUS_DRQ	BIT(3)
#define ATA_STATUS_SEEK BIT(4) /* as disks have always had it */
#define ATA_STATUS_DF	BIT(5)
#define ATA_STATUS_DRDY BIT(6)
#define ATA_STATUS_BSY	BIT(7)
#define ATA_READY	(ATA_STATUS_DRDY | ATA_STATUS_SEEK)
#define ATA_ERROR_ABRT	BIT(2)
#define ATA_ERROR_IDNF	BIT(4)
#define ATA_ERROR_UNC	BIT(6)
/* What a disk's registers hold after a reset: ATA/ATAPI-6 9.12, signature and persistence */
#define ATA_SIGNATURE	    0x00000101u
#define ATA_DIAGNOSTIC_GOOD 0x01u

/* A command's registers, as wide as they are for 48-bit commands. */
struct ata_command {
	u8 op, device;
	u16 features, count;
	u64 lba;
};

enum ata_action { ATA_END, ATA_ANSWER, ATA_READ, ATA_WRITE, ATA_TRIM, ATA_FLUSH };
enum ata_transfer { ATA_NO_DATA, ATA_PIO, ATA_DMA, ATA_QUEUED };

struct ata_plan {
	enum ata_action action;
	enum ata_transfer transfer;
	u64 offset, len; /* bytes: on the disk; of data to be moved */
	bool stable;	 /* done only when it will survive */
	u8 tag;		 /* of a queued one */
	/* What the registers hold at the end */
	u8 status, error;
	u16 count;
	u64 lba;
	u8 answer[ATA_ANSWER_LEN];
};

struct ata_disk {
	const char *name;
	const struct disk_ops *ops; /* NULL: no disk */
	void *ctx;
	const char *serial; /* or NULL */
	bool sata;	    /* a serial link, with queued commands */
	/* Settings */
	bool cache, lookahead, standby;
	u8 multiple, mode;  /* sectors in a block of the multiple commands; transfer mode, 7.45 */
	u16 heads, sectors; /* of the geometry that drivers set */
	/* The last queued command that failed, for log 10h */
	u8 failed_tag, failed_status, failed_error;
	u64 failed_lba;
	u16 failed_count;
};

extern const struct field ata_fields[];

struct ata_job {
	struct ata_disk *disk;
	struct ata_plan plan;
	const struct iovec *iov; /* data of reads and writes */
	unsigned iovcnt;
	u8 ranges[ATA_TRIM_MAX];	 /* data of trims */
	void (*done)(struct ata_job *j); /* status and error are in the plan */
	/* ata's own */
	struct block_request r;
	unsigned range;
	u64 at, left;
};

/* At power-on and when a link is reset. */
void ata_reset(struct ata_disk *d);
void ata_loaded(struct ata_disk *d); /* settings that cannot be are the usual ones */
void ata_decode(struct ata_disk *d, const struct ata_command *c, struct ata_plan *plan);
void ata_run(struct ata_job *j);

/* ata_identify.c: 7.12, 512 bytes. */
void ata_identify(const struct ata_disk *d, u8 *words);
/* Cylinders, heads and sectors of the usual geometry; cylinders are at most 16383. */
u16 ata_cylinders(const struct ata_disk *d, unsigned heads, unsigned sectors);
static inline u64 ata_blocks(const struct ata_disk *d)
{
	return d->ops->info(d->ctx).size / BLOCK_SECTOR;
}
#define ATA_HEADS   16u
#define ATA_SECTORS 63u
