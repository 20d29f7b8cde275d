/*
 * What the 82540EM's files share. Section numbers are those of Intel's PCI/PCI-X Family of Gigabit
 * Ethernet Controllers Software Developer's Manual (317453, revision 4.0).
 *
 *   e1000.c         registers, interrupts, the class
 *   e1000_rx.c      frames for the driver: filters, descriptors
 *   e1000_tx.c      frames of the driver: descriptors, contexts
 *   e1000_offload.c checksums and segmentation of what is sent
 *   e1000_serial.c  what hangs on serial wires: EEPROM and PHY
 */
#pragma once
#include "device/e1000/e1000.h"
#include "device/ethernet.h"

#define E1000_WORDS	    64u /* of EEPROM */
#define E1000_PHY_REGISTERS 32u
#define E1000_STATS	    64u /* from 0x4000 on */
#define E1000_FRAME_MAX	    (ETHERNET_LARGE + 4)
#define E1000_STORE	    347u /* registers that are only stored: e1000.c's table */

/* Device control, 13.4.1 */
#define E1000_CTRL_VME BIT(30) /* VLAN tags are handled here */

/* Causes of interrupts, 13.4.17 */
#define E1000_TXDW   BIT(0)
#define E1000_TXQE   BIT(1)
#define E1000_LSC    BIT(2)
#define E1000_RXDMT0 BIT(4)
#define E1000_RXT0   BIT(7)
#define E1000_MDAC   BIT(9)

/* Statistics, 13.7: numbers of registers from 0x4000 on */
enum e1000_stat {
	STAT_MPC = 0x10 / 4,
	STAT_PRC64 = 0x5c / 4, /* six, by size */
	STAT_GPRC = 0x74 / 4,
	STAT_BPRC = 0x78 / 4,
	STAT_MPRC = 0x7c / 4,
	STAT_GPTC = 0x80 / 4,
	STAT_GORC = 0x88 / 4, /* 64 bits */
	STAT_GOTC = 0x90 / 4,
	STAT_RNBC = 0xa0 / 4,
	STAT_ROC = 0xac / 4,
	STAT_TOR = 0xc0 / 4,
	STAT_TOT = 0xc8 / 4,
	STAT_TPR = 0xd0 / 4,
	STAT_TPT = 0xd4 / 4,
	STAT_PTC64 = 0xd8 / 4,
	STAT_MPTC = 0xf0 / 4,
	STAT_BPTC = 0xf4 / 4,
	STAT_TSCTC = 0xf8 / 4,
};

/* A ring of descriptors of 16 bytes. */
struct e1000_ring {
	u64 base;
	u32 len; /* bytes */
	u32 head, tail;
};
#define E1000_DESC 16u
static inline u32 e1000_ring_size(const struct e1000_ring *r) { return r->len / E1000_DESC; }

/* What a context descriptor has set, 3.3.6. */
struct e1000_context {
	u8 ip_start, ip_at, tcp_start, tcp_at;
	u16 ip_end, tcp_end, mss;
	u8 head;
	bool ip4, tcp;
	u32 payload;
};

struct e1000 {
	struct device dev;
	struct pci_function pci;
	char *mac; /* property */
	u32 ctrl, icr, ims, rctl, tctl, mdic, eerd, io_address;
	u32 store[E1000_STORE];
	u32 stats[E1000_STATS];
	struct e1000_ring rx, tx;
	bool hungry; /* a frame was refused for want of descriptors */
	/* The frame that is being collected, and what its first descriptor said */
	struct e1000_context context;
	u32 collected;
	u8 options; /* POPTS */
	bool segment, tag, too_long;
	u16 tag_value;
	/* Serial wires */
	u32 eecd;
	u16 shift;   /* bits that came in */
	u16 shifted; /* how many, since the chip was selected */
	u16 eeprom[E1000_WORDS];
	u16 phy[E1000_PHY_REGISTERS];
	struct clock_timer turn; /* what is left of the transmit ring */
	u8 frame[E1000_FRAME_MAX + 64], part[E1000_FRAME_MAX + 64];
};

static inline struct e1000 *e1000_of(struct device *d)
{
	return container_of(d, struct e1000, dev);
}

/* e1000.c */
void e1000_cause(struct e1000 *e, u32 what);
u32 e1000_stored(const struct e1000 *e, u32 at);		/* a register that is only stored */
void e1000_count(struct e1000 *e, enum e1000_stat what, u64 n); /* n to a counter of 32 bits */
void e1000_count_frame(struct e1000 *e, bool sent, const u8 *frame, u64 len);
enum {
	E1000_VET = 0x0038,
	E1000_RXCSUM = 0x5000,
	E1000_MTA = 0x5200,
	E1000_RA = 0x5400,
	E1000_VFTA = 0x5600,
};

/* e1000_rx.c */
size_t e1000_receive(struct device *d, const u8 *frame, size_t len);
void e1000_rx_more(struct e1000 *e); /* the driver has given descriptors, or enabled receiving */

/* e1000_tx.c */
void e1000_transmit(struct e1000 *e);
void e1000_tx_forget(struct e1000 *e); /* what was collected */

/* e1000_offload.c: sends what has been collected. */
void e1000_offload(struct e1000 *e);
/* A checksum over [start, end], to the end when `end` is 0, into the word at `at`. */
void e1000_offload_sum(u8 *frame, u64 len, u64 start, u64 at, u64 end);

/* e1000_serial.c */
void e1000_serial_reset(struct e1000 *e, const u8 mac[6]);
void e1000_phy_reset(struct e1000 *e);
u32 e1000_eecd_read(const struct e1000 *e);
void e1000_eecd_write(struct e1000 *e, u32 value);
void e1000_eerd_write(struct e1000 *e, u32 value);
void e1000_mdic_write(struct e1000 *e, u32 value);
