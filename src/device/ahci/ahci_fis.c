/* Frames that a disk sends (Serial ATA 3.x 10.5), as the adapter puts them into memory (4.2.1). */
#include "device/ahci/ahci_priv.h"

/* 4.2.1, where in the port's received-frame structure */
enum { RECEIVED_PIO = 0x20, RECEIVED_REGISTERS = 0x40, RECEIVED_BITS = 0x58 };

enum { FIS_REGISTERS = 0x34, FIS_PIO = 0x5f, FIS_BITS = 0xa1 };
#define FIS_INTERRUPT BIT(6)
#define FIS_TO_HOST   BIT(5)
#define FIS_LEN	      20u
#define BITS_LEN      8u

static void put(struct ahci_port *p, unsigned at, const u8 *fis, unsigned len)
{
	if (p->cmd & AHCI_CMD_RECEIVE && pci_is_master(&p->hba->pci) &&
		!memory_write(ahci_memory(p), gpa(p->received + at), fis, len))
		ahci_interrupt(p, AHCI_IS_BUS);
}

static void fill(u8 fis[FIS_LEN], u8 status, u8 error, u64 lba, u16 count, u8 device)
{
	fis[2] = status;
	fis[3] = error;
	for (unsigned i = 0; i < 3; i++) {
		fis[4 + i] = (u8)(lba >> 8 * i);
		fis[8 + i] = (u8)(lba >> (24 + 8 * i));
	}
	fis[7] = device;
	put_le16(fis + 12, count);
}

void ahci_fis_registers(struct ahci_port *p, u8 status, u8 error, u64 lba, u16 count, u8 device)
{
	u8 fis[FIS_LEN] = { FIS_REGISTERS, FIS_INTERRUPT };

	fill(fis, status, error, lba, count, device);
	p->tfd = status | (u32)error << 8;
	put(p, RECEIVED_REGISTERS, fis, sizeof(fis));
}

void ahci_fis_pio(struct ahci_port *p, const struct ata_plan *plan, u8 device)
{
	u8 fis[FIS_LEN] = { FIS_PIO, FIS_INTERRUPT | FIS_TO_HOST };

	fill(fis, ATA_READY | ATA_STATUS_DRQ, plan->error, plan->lba, plan->count, device);
	fis[15] = plan->status;					   /* after the data */
	put_le16(fis + 16, (u16)min_u64(plan->len, BLOCK_SECTOR)); /* of the last block */
	p->tfd = plan->status | (u32)plan->error << 8;
	put(p, RECEIVED_PIO, fis, sizeof(fis));
}

void ahci_fis_bits(struct ahci_port *p, u8 status, u8 error, u32 done)
{
	u8 fis[BITS_LEN] = { FIS_BITS, FIS_INTERRUPT, status & 0x77, error };

	put_le32(fis + 4, done);
	/* 5.3.13: what the frame does not carry stays. */
	p->tfd = (p->tfd & 0x88) | (status & 0x77) | (u32)error << 8;
	put(p, RECEIVED_BITS, fis, sizeof(fis));
}

/* What a disk sends after a reset, when it is ready; no interrupt. */
void ahci_fis_signature(struct ahci_port *p)
{
	u8 fis[FIS_LEN] = { FIS_REGISTERS };

	fill(fis, ATA_READY, ATA_DIAGNOSTIC_GOOD, 1, 1, 0);
	p->tfd = ATA_READY | ATA_DIAGNOSTIC_GOOD << 8;
	p->sig = ATA_SIGNATURE;
	p->greeting = !(p->cmd & AHCI_CMD_RECEIVE);
	put(p, RECEIVED_REGISTERS, fis, sizeof(fis));
}
