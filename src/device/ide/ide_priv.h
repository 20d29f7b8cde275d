/*
 * Who does what:
 *   ide.c           the PCI function, its windows and properties
 *   ide_channel.c   the registers of a channel (ATA/ATAPI-6 7), commands, programmed I/O
 *   ide_master.c    the bus master: memory that a command's data goes to or comes from
 *   atapi.c         a CD-ROM drive: what its packets mean
 *
 * A channel does one command at a time. What it waits for is its phase:
 *
 *   IDE_IDLE     a command
 *   IDE_PACKET   the 12 bytes of a packet, at the data port
 *   IDE_IN       the driver reads the buffer at the data port, and the next one follows
 *   IDE_OUT      the driver fills the buffer, which is then written
 *   IDE_MASTER   the bus master to be started
 *   IDE_WORK     the disk; never while the machine is saved, since that waits for disks
 */
#pragma once
#include "device/ata/ata.h"
#include "device/dma.h"
#include "device/ide/ide.h"

#define IDE_CHANNELS 2u
#define IDE_UNITS    2u
#define IDE_BUFFER   (16 * BLOCK_SECTOR) /* the largest block of the multiple commands */
#define ATAPI_PACKET 12u
#define ATAPI_SECTOR 2048u

/* Bits of the device, control and error registers that are not in ata.h */
#define IDE_DEVICE_SLAVE BIT(4) /* ATA/ATAPI-6 7.7, device register: DEV */
#define IDE_CONTROL_OFF	 BIT(1) /* 7.8, device control register: nIEN, no interrupts */
#define IDE_CONTROL_SRST BIT(2) /* the same: reset */
#define IDE_CONTROL_HOB	 BIT(7) /* the same: reads give what registers held before */

enum ide_phase { IDE_IDLE, IDE_PACKET, IDE_IN, IDE_OUT, IDE_MASTER, IDE_WORK };

/* A byte register and what was in it before, which is the upper half of 48-bit commands. */
struct ide_register {
	u8 now, before;
};

struct ide_drive {
	struct ata_disk disk; /* ops NULL: nothing is there */
	bool cd;
	struct ide_register count, lba[3];
	u8 error, status;
	u8 sense, sense_code; /* CD: what went wrong last */
};

struct ide_channel {
	struct ide *ide;
	unsigned index;
	struct ide_drive drives[IDE_UNITS];
	struct ide_register features;
	u8 device, control, command;
	bool irq; /* the drive wants one */
	u8 phase; /* enum ide_phase */
	/* The command's transfer: bytes of the disk, or of the buffer alone */
	bool from_disk, to_disk, by_master;
	bool stable; /* ends with a flush */
	u64 offset, left;
	u32 block;   /* bytes between two interrupts */
	u32 len;     /* of the block that is being moved */
	u32 at, end; /* in the buffer: what the data port reads or fills */
	u8 buffer[IDE_BUFFER];
	/* The bus master */
	u8 master, master_status;
	u32 table;
	struct ata_job job;
	bool busy;	  /* the job is under way; whatever a loaded state says */
	struct iovec own; /* the buffer, for the disk */
	struct dma_map map;
	bool longer; /* than the command's data */
};

struct ide {
	struct device dev;
	struct pci_function pci;
	struct ide_channel channels[IDE_CHANNELS];
	char *serials[IDE_DRIVES]; /* properties, and the next */
	bool cds[IDE_DRIVES];
};

static inline struct ide_drive *ide_selected(struct ide_channel *c)
{
	return &c->drives[!!(c->device & IDE_DEVICE_SLAVE)];
}

/* ide.c */
void ide_drive_lines(struct ide *ide);

/* ide_channel.c */
extern const struct field ide_channel_fields[];
void ide_channel_reset(struct ide_channel *c);
void ide_channel_settle(struct ide_channel *c); /* nothing is under way any more */
void ide_channel_loaded(struct ide_channel *c);
u64 ide_channel_read(struct ide_channel *c, unsigned at, unsigned size);
void ide_channel_write(struct ide_channel *c, unsigned at, unsigned size, u64 value);
u8 ide_channel_status(struct ide_channel *c);
void ide_channel_control(struct ide_channel *c, u8 value);
/* The command ends; error 0: well. */
void ide_end(struct ide_channel *c, u8 error);
void ide_finish(struct ide_channel *c, int error); /* the transfer has ended, or failed */
/* A transfer of `left` bytes begins, as the channel's members say. */
void ide_transfer(struct ide_channel *c);
void ide_interrupt(struct ide_channel *c);
void ide_run(struct ide_channel *c, struct ata_plan plan, const struct iovec *iov, unsigned iovcnt);
/* The registers that say which drive this is, ATA/ATAPI-6 9.12. */
void ide_signature(struct ide_drive *d);

/* ide_master.c: registers 0 to 7 of a channel. */
u64 ide_master_read(struct ide_channel *c, unsigned at, unsigned size);
void ide_master_write(struct ide_channel *c, unsigned at, unsigned size, u64 value);
void ide_master_run(struct ide_channel *c);  /* IDE_MASTER: goes on if the master is started */
void ide_master_ends(struct ide_channel *c); /* all of `left` was moved */
void ide_master_irq(struct ide_channel *c);
void ide_master_reset(struct ide_channel *c);

/* atapi.c */
void atapi_identify(const struct ide_drive *d, u8 words[ATA_ANSWER_LEN]);
void atapi_packet(struct ide_channel *c); /* in the buffer */
