/* A port (AHCI 1.3.1 3.3 and 10): its registers, its link, starting and stopping. */
#include "base/log.h"
#include "device/ahci/ahci_priv.h"

/* Registers, 3.3 */
enum {
	CLB = 0x00,  /* 3.3.1: command list */
	CLBU = 0x04, /* 3.3.2 */
	FB = 0x08,   /* 3.3.3: received frames */
	FBU = 0x0c,  /* 3.3.4 */
	IS = 0x10,   /* 3.3.5: interrupt causes */
	IE = 0x14,   /* 3.3.6: those that interrupt */
	CMD = 0x18,  /* 3.3.7: starting, stopping */
	TFD = 0x20,  /* 3.3.8: the disk's status and error */
	SIG = 0x24,  /* 3.3.9: what kind of device it is */
	SSTS = 0x28, /* 3.3.10: the link's state */
	SCTL = 0x2c, /* 3.3.11: the link's control */
	SERR = 0x30, /* 3.3.12: the link's errors */
	SACT = 0x34, /* 3.3.13: queued commands under way */
	CI = 0x38,   /* 3.3.14: commands that were issued */
};

#define LIST_ALIGN     (~1023ull)
#define RECEIVED_ALIGN (~255ull)
#define CMD_WRITABLE   (AHCI_CMD_START | AHCI_CMD_RECEIVE)
#define CMD_ALWAYS     (AHCI_CMD_SPIN_UP | AHCI_CMD_POWER) /* no staggered spin-up, 3.3.7 */
#define SCTL_DET(v)    ((v)&15u)
#define SCTL_WRITABLE  0x00000fffu
#define DET_RESET      1u
#define DET_OFF	       4u
#define SSTS_OFF       4u
#define SSTS_UP	       0x133u /* a disk, third generation, active */
#define SERR_PHYRDY    BIT(16)
#define SERR_EXCHANGED BIT(26)
#define TFD_NOTHING    0x7fu
#define SIG_NOTHING    0xffffffffu

u32 ahci_port_causes(const struct ahci_port *p)
{
	return p->is | (p->serr & SERR_EXCHANGED ? AHCI_IS_CONNECT : 0) |
	       (p->serr & SERR_PHYRDY ? AHCI_IS_PHYRDY : 0);
}

/* ---- the link ---- */

static void link_up(struct ahci_port *p)
{
	if (!p->disk.ops) {
		p->ssts = 0;
		return;
	}
	p->ssts = SSTS_UP;
	p->serr |= SERR_EXCHANGED | SERR_PHYRDY;
	ata_reset(&p->disk);
	ahci_fis_signature(p);
	ahci_interrupt(p, 0);
}

static void link_down(struct ahci_port *p, u32 status)
{
	bool halted = p->halted;

	p->halted = true; /* what ends now is not told */
	ahci_command_settle(p);
	p->halted = halted;
	p->ssts = p->disk.ops ? status : 0;
	p->tfd = TFD_NOTHING;
	p->sig = SIG_NOTHING;
	p->ci = p->sact = 0;
	p->resetting = p->greeting = false;
}

/* 10.4.2: the link is down while software says so, and negotiates when it no longer does. */
static void write_sctl(struct ahci_port *p, u32 value)
{
	unsigned before = SCTL_DET(p->sctl), now = SCTL_DET(value);

	p->sctl = value & SCTL_WRITABLE;
	if (now == before)
		return;
	if (now == DET_RESET || now == DET_OFF)
		link_down(p, now == DET_OFF ? SSTS_OFF : 0);
	else if (before == DET_RESET || before == DET_OFF)
		link_up(p);
}

void ahci_port_reset(struct ahci_port *p)
{
	p->halted = true; /* what ends now is not told */
	ahci_command_settle(p);
	p->list = p->received = 0;
	p->is = p->ie = p->serr = p->sact = p->ci = p->sctl = 0;
	p->cmd = CMD_ALWAYS;
	p->tfd = TFD_NOTHING;
	p->sig = SIG_NOTHING;
	p->halted = p->resetting = p->greeting = false;
	ata_reset(&p->disk);
	link_up(p);
}

/* ---- starting and stopping ---- */

/* 10.3: a port that is stopped has forgotten its commands. */
static void stop(struct ahci_port *p)
{
	p->halted = true;
	ahci_command_settle(p);
	p->ci = p->sact = 0;
	p->halted = false;
	p->cmd &= ~(AHCI_CMD_RUNNING | AHCI_CMD_SLOT_BITS);
}

static void start(struct ahci_port *p)
{
	p->cmd |= AHCI_CMD_RUNNING;
	ahci_command_run(p);
}

static void write_cmd(struct ahci_port *p, u32 value)
{
	u32 before = p->cmd;

	p->cmd = (before & ~CMD_WRITABLE) | (value & CMD_WRITABLE);
	if (value & AHCI_CMD_OVERRIDE) /* 3.3.7: the adapter forgets that the disk is busy */
		p->tfd &= ~(u32)(ATA_STATUS_BSY | ATA_STATUS_DRQ);
	if (value & AHCI_CMD_RECEIVE)
		p->cmd |= AHCI_CMD_RECEIVING;
	else
		p->cmd &= ~AHCI_CMD_RECEIVING;
	if (p->greeting && value & AHCI_CMD_RECEIVE)
		ahci_fis_signature(p);
	if (before & AHCI_CMD_START && !(value & AHCI_CMD_START))
		stop(p);
	else if (!(before & AHCI_CMD_START) && value & AHCI_CMD_START)
		start(p);
}

/* ---- registers ---- */

u32 ahci_port_read(const struct ahci_port *p, unsigned at)
{
	switch (at) {
	case CLB: return (u32)p->list;
	case CLBU: return (u32)(p->list >> 32);
	case FB: return (u32)p->received;
	case FBU: return (u32)(p->received >> 32);
	case IS: return ahci_port_causes(p);
	case IE: return p->ie;
	case CMD: return p->cmd;
	case TFD: return p->tfd;
	case SIG: return p->sig;
	case SSTS: return p->ssts;
	case SCTL: return p->sctl;
	case SERR: return p->serr;
	case SACT: return p->sact;
	case CI: return p->ci;
	default: return 0;
	}
}

static void set_low(u64 *reg, u32 value, u64 align)
{
	*reg = ((*reg & ~0xffffffffull) | value) & align;
}

static void set_high(u64 *reg, u32 value) { *reg = (u32)*reg | (u64)value << 32; }

void ahci_port_write(struct ahci_port *p, unsigned at, u32 value)
{
	switch (at) {
	case CLB: set_low(&p->list, value, LIST_ALIGN); break;
	case CLBU: set_high(&p->list, value); break;
	case FB: set_low(&p->received, value, RECEIVED_ALIGN); break;
	case FBU: set_high(&p->received, value); break;
	case IS: p->is &= ~value; break;
	case IE:
		p->ie = value & AHCI_IE_BITS;
		ahci_interrupt(p, 0);
		break;
	case CMD: write_cmd(p, value); break;
	case SCTL: write_sctl(p, value); break;
	case SERR: p->serr &= ~value; break;
	case SACT: /* set by software before the command, 3.3.13 */
		if (p->cmd & AHCI_CMD_START)
			p->sact |= value;
		break;
	case CI:
		if (!(p->cmd & AHCI_CMD_START) || !p->disk.ops || !(p->ssts & 1))
			break;
		p->ci |= value & ~p->queued;
		ahci_command_run(p);
		break;
	default: guest_err(p->hba->dev.name, "write to port register 0x%x", at); break;
	}
}

/* ---- state ---- */

/* A disk that is not there has no link, whatever a hostile save says; nothing is under way. */
void ahci_port_loaded(struct ahci_port *p)
{
	p->queued = 0;
	p->alone = false;
	p->list &= LIST_ALIGN;
	p->received &= RECEIVED_ALIGN;
	ata_loaded(&p->disk);
	if (!p->disk.ops) {
		p->ssts = 0;
		p->ci = 0;
	}
	ahci_command_run(p);
}

const struct field ahci_port_fields[] = {
	FIELD_SUB(struct ahci_port, disk, struct ata_disk, ata_fields),
	FIELD(struct ahci_port, list),
	FIELD(struct ahci_port, received),
	FIELD(struct ahci_port, is),
	FIELD(struct ahci_port, ie),
	FIELD(struct ahci_port, cmd),
	FIELD(struct ahci_port, tfd),
	FIELD(struct ahci_port, sig),
	FIELD(struct ahci_port, ssts),
	FIELD(struct ahci_port, sctl),
	FIELD(struct ahci_port, serr),
	FIELD(struct ahci_port, sact),
	FIELD(struct ahci_port, ci),
	FIELD(struct ahci_port, halted),
	FIELD(struct ahci_port, resetting),
	FIELD(struct ahci_port, greeting),
	FIELD_END,
};
