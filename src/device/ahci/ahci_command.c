/*
 * Commands (AHCI 1.3.1 4.2.2 and 5): a slot of the command list has a header, which leads to a
 * table with the command's frame and the list of its memory. All three are copied in before they
 * are looked at; of the list, as much as the command has data.
 */
#include "base/log.h"
#include "device/ahci/ahci_priv.h"
#include <stdlib.h>

/* Header, 4.2.2 */
#define HEADER_LEN     32u
#define HEADER_FIS(w)  ((w)&31u) /* dwords */
#define HEADER_ATAPI   BIT(5)
#define HEADER_WRITE   BIT(6)
#define HEADER_CLEAR   BIT(10)
#define HEADER_PRDS(w) ((w) >> 16)
#define HEADER_MOVED   4u /* bytes, written by the adapter */
#define HEADER_TABLE   8u

/* Table, 4.2.3 */
#define TABLE_PRDS    0x80u
#define PRD_LEN	      16u
#define PRD_BYTES(w)  (((w)&0x3fffffu) + 1)
#define PRD_INTERRUPT BIT(31)
#define PRDS_AT_ONCE  64u

/* The frame, Serial ATA 10.5.5 */
#define FIS_LEN	     20u
#define FIS_COMMAND  0x27u
#define FIS_IS_CMD   BIT(7)
#define CONTROL_SRST BIT(2)

static void run_done(struct ata_job *ata);

static struct ahci_job *job_of(struct ahci_port *p, unsigned slot)
{
	struct ahci_job *j = p->jobs[slot];

	if (j)
		return j;
	j = malloc(sizeof(*j));
	p->jobs[slot] = j;
	if (j) {
		j->port = p;
		j->slot = slot;
		j->ata.disk = &p->disk;
		j->ata.done = run_done;
	}
	return j;
}

void ahci_command_free(struct ahci_port *p)
{
	for (unsigned i = 0; i < AHCI_SLOTS; i++)
		free(p->jobs[i]);
	memset(p->jobs, 0, sizeof(p->jobs));
}

void ahci_command_settle(struct ahci_port *p)
{
	if (p->disk.ops)
		p->disk.ops->drain(p->disk.ctx);
}

/* ---- ends ---- */

/* 6.2.2: nothing more is done until the driver has stopped the port. */
static void halt(struct ahci_port *p, unsigned slot, u32 why)
{
	p->halted = true;
	p->cmd = (p->cmd & ~AHCI_CMD_SLOT_BITS) | AHCI_CMD_SLOT(slot);
	ahci_interrupt(p, why);
}

static void end_queued(struct ahci_port *p, const struct ahci_job *j)
{
	const struct ata_plan *plan = &j->ata.plan;

	if (plan->error) {
		ahci_fis_bits(p, plan->status, plan->error, 0);
		halt(p, j->slot, AHCI_IS_TASK | AHCI_IS_SDB);
		return;
	}
	p->sact &= ~BIT(j->slot);
	ahci_fis_bits(p, plan->status, 0, BIT(j->slot));
	ahci_interrupt(p, AHCI_IS_SDB);
}

static void end_alone(struct ahci_port *p, struct ahci_job *j, u8 device)
{
	const struct ata_plan *plan = &j->ata.plan;
	bool failed = plan->status & ATA_STATUS_ERR;
	bool pio_in = plan->transfer == ATA_PIO && plan->action != ATA_WRITE && !failed;
	u8 moved[4];

	put_le32(moved, failed ? 0 : (u32)plan->len);
	if (!memory_write(ahci_memory(p), gpa(j->header + HEADER_MOVED), moved, sizeof(moved)))
		ahci_interrupt(p, AHCI_IS_BUS);
	if (pio_in)
		ahci_fis_pio(p, plan, device);
	else
		ahci_fis_registers(p, plan->status, plan->error, plan->lba, plan->count, device);
	if (failed) {
		halt(p, j->slot, AHCI_IS_TASK | AHCI_IS_D2H);
		return;
	}
	p->ci &= ~BIT(j->slot);
	ahci_interrupt(
		p, (pio_in ? AHCI_IS_PIO : AHCI_IS_D2H) | (j->prd_interrupt ? AHCI_IS_PRD : 0));
}

static void run_done(struct ata_job *ata)
{
	struct ahci_job *j = container_of(ata, struct ahci_job, ata);
	struct ahci_port *p = j->port;

	if (ata->plan.action == ATA_READ && !ata->plan.error)
		dma_written(&j->map, ahci_memory(p), ata->plan.len);
	if (ata->plan.transfer == ATA_QUEUED) {
		p->queued &= ~BIT(j->slot);
		if (!p->halted)
			end_queued(p, j);
	} else {
		p->alone = false;
		if (!p->halted)
			end_alone(p, j, 0);
	}
	ahci_command_run(p);
}

/* ---- beginnings ---- */

/* Collects `len` bytes of the table's list. False: the list is too short, or not memory. */
static bool collect(struct ahci_port *p, struct ahci_job *j, u64 table, unsigned prds, bool in)
{
	u8 entries[PRDS_AT_ONCE * PRD_LEN];
	u64 left = j->ata.plan.len;

	dma_clear(&j->map);
	j->prd_interrupt = false;
	for (unsigned i = 0; i < prds && left; i++) {
		const u8 *e = entries + i % PRDS_AT_ONCE * PRD_LEN;
		unsigned batch = (unsigned)min_u64(prds - i, PRDS_AT_ONCE);

		if (i % PRDS_AT_ONCE == 0 &&
			!memory_read(ahci_memory(p), gpa(table + TABLE_PRDS + (u64)i * PRD_LEN),
				entries, batch * PRD_LEN))
			return false;
		u32 last = get_le32(e + 12);
		u64 part = min_u64(left, PRD_BYTES(last));

		if (!dma_add(&j->map, ahci_memory(p), get_le64(e) & ~1ull, part, in))
			return false;
		j->prd_interrupt |= !!(last & PRD_INTERRUPT);
		left -= part;
	}
	return !left;
}

static struct ata_command command_of(const u8 fis[FIS_LEN])
{
	return (struct ata_command){ .op = fis[2],
		.device = fis[7],
		.features = (u16)(fis[3] | fis[11] << 8),
		.count = get_le16(fis + 12),
		.lba = fis[4] | fis[5] << 8 | fis[6] << 16 | (u64)fis[8] << 24 | (u64)fis[9] << 32 |
		       (u64)fis[10] << 40 };
}

/* 10.4.1: the control register resets the disk when it has had this bit and loses it. */
static void control(struct ahci_port *p, unsigned slot, u8 value)
{
	bool on = value & CONTROL_SRST;

	p->ci &= ~BIT(slot);
	if (p->resetting && !on) {
		ata_reset(&p->disk);
		ahci_fis_signature(p);
	}
	p->resetting = on;
}

static bool to_memory(const struct ata_plan *plan)
{
	return plan->action == ATA_READ || plan->action == ATA_ANSWER;
}

/* The command has memory for its data: the disk has it, or it is over. */
static void go(struct ahci_port *p, struct ahci_job *j, u8 device)
{
	struct ata_plan *plan = &j->ata.plan;
	bool queued = plan->transfer == ATA_QUEUED;

	j->ata.iov = j->map.iov;
	j->ata.iovcnt = j->map.count;
	if (queued) /* the disk has taken it, and is ready for more */
		p->ci &= ~BIT(j->slot);
	if (plan->action == ATA_END || plan->action == ATA_ANSWER) {
		if (plan->action == ATA_ANSWER)
			dma_put(&j->map, ahci_memory(p), plan->answer, plan->len);
		if (queued)
			end_queued(p, j);
		else
			end_alone(p, j, device);
		return;
	}
	if (plan->action == ATA_TRIM)
		dma_get(&j->map, j->ata.ranges, plan->len);
	if (queued) {
		p->queued |= BIT(j->slot);
	} else {
		p->alone = true;
		p->tfd = ATA_READY | ATA_STATUS_BSY;
	}
	ata_run(&j->ata);
}

/* Takes a slot's command, unless it must wait for others: false. */
static bool begin(struct ahci_port *p, unsigned slot)
{
	struct ahci_job *j = job_of(p, slot);
	u64 at = p->list + slot * HEADER_LEN, table;
	u8 header[HEADER_LEN], fis[FIS_LEN];

	if (!j || !memory_read(ahci_memory(p), gpa(at), header, sizeof(header)) ||
		!memory_read(ahci_memory(p), gpa(get_le64(header + HEADER_TABLE) & ~127ull), fis,
			sizeof(fis))) {
		halt(p, slot, AHCI_IS_BUS);
		return true;
	}
	u32 word = get_le32(header);

	table = get_le64(header + HEADER_TABLE) & ~127ull;
	if (HEADER_FIS(word) < 5 || fis[0] != FIS_COMMAND || !(fis[1] & FIS_IS_CMD)) {
		control(p, slot, fis[15]);
		return true;
	}
	struct ata_command c = command_of(fis);

	if (p->alone || (p->queued && c.op != 0x60 && c.op != 0x61))
		return false;
	if (word & HEADER_ATAPI) /* a disk takes no packets */
		c.op = 0xa0;
	j->header = at;
	ata_decode(&p->disk, &c, &j->ata.plan);
	if (j->ata.plan.transfer == ATA_QUEUED && j->ata.plan.tag != slot) {
		guest_err(p->hba->dev.name, "port %u: tag %u in slot %u", p->index, j->ata.plan.tag,
			slot);
		halt(p, slot, AHCI_IS_BUS);
	} else if (!collect(p, j, table, HEADER_PRDS(word), to_memory(&j->ata.plan))) {
		guest_err(p->hba->dev.name, "port %u: a command without memory for its data",
			p->index);
		halt(p, slot, AHCI_IS_BUS | AHCI_IS_OVERFLOW);
	} else {
		go(p, j, c.device);
	}
	return true;
}

static bool runs(const struct ahci_port *p)
{
	return p->cmd & AHCI_CMD_RUNNING && !p->halted && pci_is_master(&p->hba->pci);
}

/* In order of slots, each once: bits of PxCI are set by register writes only. */
void ahci_command_run(struct ahci_port *p)
{
	for (unsigned slot = 0; slot < AHCI_SLOTS && runs(p) && !p->alone; slot++)
		if (p->ci & BIT(slot) && !(p->queued & BIT(slot)) && !begin(p, slot))
			break;
	if (p->disk.ops)
		p->disk.ops->kick(p->disk.ctx);
}
