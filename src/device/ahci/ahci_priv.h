/*
 * What the AHCI adapter's files share. Section numbers are those of Serial ATA AHCI 1.3.1.
 *
 *   ahci.c          the PCI function, the adapter's registers, interrupts, the class
 *   ahci_port.c     a port's registers: its link, starting and stopping
 *   ahci_command.c  the command list: what was issued is carried out, and what the disk answers
 *   ahci_fis.c      frames that a disk sends, as they appear in memory
 *
 * Life of a command. The driver sets a bit of PxCI; ahci_port_run() reads the slot's header and
 * frame, decodes it (device/ata/ata.h), collects its memory, and hands it to the disk. Queued
 * commands go side by side; any other one goes alone, after all before it. ahci_command_end()
 * answers with a frame and an interrupt.
 *
 * An error halts the port until the driver has stopped it (6.2.2). Stopping a port, resetting its
 * link or the adapter waits for what its disk is doing: nothing of it touches memory afterwards.
 */
#pragma once
#include "base/bits.h"
#include "device/ahci/ahci.h"
#include "device/ata/ata.h"
#include "device/dma.h"

#define AHCI_SLOTS 32u

/* PxIS and PxIE, 3.3.5 */
#define AHCI_IS_D2H	 BIT(0)
#define AHCI_IS_PIO	 BIT(1)
#define AHCI_IS_SDB	 BIT(3)
#define AHCI_IS_PRD	 BIT(5)
#define AHCI_IS_CONNECT	 BIT(6)
#define AHCI_IS_PHYRDY	 BIT(22)
#define AHCI_IS_OVERFLOW BIT(24)
#define AHCI_IS_BUS	 BIT(29)
#define AHCI_IS_TASK	 BIT(30)
#define AHCI_IE_BITS	 0xfdc000ffu

/* PxCMD, 3.3.7 */
#define AHCI_CMD_START	   BIT(0)
#define AHCI_CMD_SPIN_UP   BIT(1)
#define AHCI_CMD_POWER	   BIT(2)
#define AHCI_CMD_OVERRIDE  BIT(3)
#define AHCI_CMD_RECEIVE   BIT(4)
#define AHCI_CMD_RECEIVING BIT(14)
#define AHCI_CMD_RUNNING   BIT(15)
#define AHCI_CMD_SLOT(n)   ((u32)(n) << 8)
#define AHCI_CMD_SLOT_BITS (31u << 8)

struct ahci_job;

struct ahci_port {
	struct ahci *hba;
	unsigned index;
	struct ata_disk disk;
	u64 list, received; /* PxCLB, PxFB */
	u32 is, ie, cmd, tfd, sig, ssts, sctl, serr, sact, ci;
	bool halted;	/* until stopped */
	bool resetting; /* by the control register */
	bool greeting;	/* the frame with the signature has not been received yet */
	u32 queued;	/* slots of queued commands at the disk */
	bool alone;	/* a command that is not queued is there */
	struct ahci_job *jobs[AHCI_SLOTS]; /* made when first used */
};

struct ahci_job {
	struct ata_job ata;
	struct ahci_port *port;
	unsigned slot;
	bool prd_interrupt;
	u64 header; /* its address */
	struct dma_map map;
};

struct ahci {
	struct device dev;
	struct pci_function pci;
	u32 ghc, is;
	struct ahci_port ports[AHCI_PORTS];
	char *serials[AHCI_PORTS]; /* properties */
};

static inline struct ahci *ahci_of(struct device *d) { return container_of(d, struct ahci, dev); }
static inline struct memory *ahci_memory(const struct ahci_port *p)
{
	return p->hba->dev.env.memory;
}

/* ahci.c */
void ahci_interrupt(struct ahci_port *p, u32 what); /* new bits of PxIS */
void ahci_drive(struct ahci *h);

/* ahci_port.c */
/* PxIS: two of its bits are there while PxSERR has theirs (3.3.5). */
u32 ahci_port_causes(const struct ahci_port *p);
u32 ahci_port_read(const struct ahci_port *p, unsigned at);
void ahci_port_write(struct ahci_port *p, unsigned at, u32 value);
void ahci_port_reset(struct ahci_port *p); /* as at power-on */
void ahci_port_loaded(struct ahci_port *p);
extern const struct field ahci_port_fields[];

/* ahci_command.c */
void ahci_command_run(struct ahci_port *p);
void ahci_command_settle(struct ahci_port *p); /* the disk has nothing under way */
void ahci_command_free(struct ahci_port *p);

/* ahci_fis.c: a frame for the driver, and the task file that comes with it */
void ahci_fis_registers(struct ahci_port *p, u8 status, u8 error, u64 lba, u16 count, u8 device);
void ahci_fis_pio(struct ahci_port *p, const struct ata_plan *plan, u8 device);
void ahci_fis_bits(struct ahci_port *p, u8 status, u8 error, u32 done);
void ahci_fis_signature(struct ahci_port *p);
