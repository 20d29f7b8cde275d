/*
 * Gigabit Ethernet controller 82540EM (Intel 317453, PCI/PCI-X Family of Gigabit Ethernet
 * Controllers Software Developer's Manual, revision 4.0): one ring in each direction, a wire for
 * interrupts. Registers are in memory behind BAR 0 and, one at a time, behind two ports of BAR 2
 * (13.2.2.2). See e1000_priv.h for who does what.
 *
 * Not modelled: wake-up and management, flow control, loopback, flash, delays of interrupts (all
 * come at once; what is set of delays and throttling is only remembered).
 */
#include "base/log.h"
#include "device/e1000/e1000_priv.h"
#include <errno.h>

/* Registers, 13.2 */
enum {
	CTRL = 0x0000,
	CTRL_DUP = 0x0004,
	STATUS = 0x0008,
	EECD = 0x0010,
	EERD = 0x0014,
	MDIC = 0x0020,
	ICR = 0x00c0,
	ICS = 0x00c8,
	IMS = 0x00d0,
	IMC = 0x00d8,
	RCTL = 0x0100,
	TCTL = 0x0400,
	RDBAL = 0x2800,
	TDBAL = 0x3800,
	STATS = 0x4000,
	STATS_END = 0x4100,
};
enum { RING_LOW = 0x00, RING_HIGH = 0x04, RING_LEN = 0x08, RING_HEAD = 0x10, RING_TAIL = 0x18 };

#define MEMORY_BAR 0u
#define MEMORY_LEN (128 * KiB)
#define PORT_BAR   2u
#define PORT_LEN   64u
enum { PORT_ADDRESS = 0, PORT_DATA = 4 };

#define CTRL_RESET     BIT(26)
#define CTRL_PHY_RESET BIT(31)
#define CTRL_START     0x00000241u /* full duplex, link up, 1000 Mb/s */
#define STATUS_VALUE   0x00000283u /* full duplex, link up, 1000 Mb/s, found by itself */
#define LEN_MASK       0x000fff80u
#define BASE_MASK      (~15ull)
#define RCTL_WRITABLE  0x07dfb3feu
#define TCTL_WRITABLE  0x01fffffau

/* Registers that are stored and told back: where, how many, at reset. */
static const struct row {
	u16 at, count;
	u32 init;
} rows[] = {
	{ 0x0018, 1, 0 },				      /* CTRL_EXT */
	{ 0x0028, 3, 0 },				      /* flow control */
	{ E1000_VET, 1, 0x8100 }, { 0x00c4, 1, 0 },	      /* ITR */
	{ 0x0170, 1, 0 }, { 0x0178, 1, 0 },		      /* TXCW */
	{ 0x0410, 1, 0x00602008 },			      /* TIPG */
	{ 0x0458, 1, 0 },				      /* AIT */
	{ 0x0e00, 1, 0x07068302 },			      /* LEDCTL */
	{ 0x1000, 1, 0x00100030 },			      /* PBA */
	{ 0x2160, 1, 0 }, { 0x2168, 1, 0 }, { 0x2820, 1, 0 }, /* RDTR */
	{ 0x2828, 2, 0 },				      /* RXDCTL, RADV */
	{ 0x2c00, 1, 0 }, { 0x3820, 1, 0 },		      /* TIDV */
	{ 0x3828, 3, 0 },				      /* TXDCTL, TADV, TSPMT */
	{ E1000_RXCSUM, 1, 0 }, { E1000_MTA, 128, 0 }, { E1000_RA, 32, 0 }, { E1000_VFTA, 128, 0 },
	{ 0x5800, 1, 0 },  /* WUC */
	{ 0x5808, 1, 0 },  /* WUFC */
	{ 0x5810, 1, 0 },  /* WUS */
	{ 0x5820, 1, 0 },  /* MANC */
	{ 0x5838, 1, 0 },  /* IPAV */
	{ 0x5840, 7, 0 },  /* IP4AT */
	{ 0x5880, 4, 0 },  /* IP6AT */
	{ 0x5900, 1, 0 },  /* WUPL */
	{ 0x5f00, 19, 0 }, /* FFLT */
};

/* Helpers */

/* Its place in the store; NULL: none. Each row of the table in turn. */
static u32 *stored(struct e1000 *e, u32 at)
{
	u32 index = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); index += rows[i++].count)
		if (at >= rows[i].at && at < rows[i].at + 4u * rows[i].count)
			return &e->store[index + (at - rows[i].at) / 4];
	return NULL;
}

u32 e1000_stored(const struct e1000 *e, u32 at)
{
	return *stored((struct e1000 *)(uintptr_t)e, at);
}

static void reset_store(struct e1000 *e)
{
	u32 index = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		for (unsigned n = 0; n < rows[i].count; n++)
			e->store[index++] = rows[i].init;
}

static void drive(struct e1000 *e) { pci_intx(&e->pci, e->icr & e->ims); }

void e1000_cause(struct e1000 *e, u32 what)
{
	e->icr |= what;
	drive(e);
}

void e1000_count(struct e1000 *e, enum e1000_stat what, u64 n)
{
	e->stats[what] = (u32)min_u64(e->stats[what] + n, ~0u);
}

static void count_bytes(struct e1000 *e, enum e1000_stat what, u64 n)
{
	u64 sum = (e->stats[what] | (u64)e->stats[what + 1] << 32) + n;

	e->stats[what] = (u32)sum;
	e->stats[what + 1] = (u32)(sum >> 32);
}

/* 13.7: with the check sequence. */
void e1000_count_frame(struct e1000 *e, bool sent, const u8 *frame, u64 len)
{
	static const u16 limits[] = { 64, 127, 255, 511, 1023 };
	u64 total = max_u64(len, ETHERNET_MIN) + 4;
	bool group = frame[0] & 1, all = group && get_le32(frame) == ~0u && frame[4] == 0xff;
	unsigned size = 0;

	while (size < ARRAY_LEN(limits) && total > limits[size])
		size++;
	e1000_count(e, (sent ? STAT_PTC64 : STAT_PRC64) + size, 1);
	e1000_count(e, sent ? STAT_TPT : STAT_TPR, 1);
	e1000_count(e, sent ? STAT_GPTC : STAT_GPRC, 1);
	if (all)
		e1000_count(e, sent ? STAT_BPTC : STAT_BPRC, 1);
	else if (group)
		e1000_count(e, sent ? STAT_MPTC : STAT_MPRC, 1);
	count_bytes(e, sent ? STAT_GOTC : STAT_GORC, total);
	count_bytes(e, sent ? STAT_TOT : STAT_TOR, total);
}

/* Reads */

static u32 read_ring(const struct e1000_ring *r, u32 at)
{
	switch (at) {
	case RING_LOW: return (u32)r->base;
	case RING_HIGH: return (u32)(r->base >> 32);
	case RING_LEN: return r->len;
	case RING_HEAD: return r->head;
	case RING_TAIL: return r->tail;
	default: return 0;
	}
}

/* Cleared by reading; a pair by reading its upper half. */
static u32 read_stat(struct e1000 *e, unsigned n)
{
	bool low = n == STAT_GORC || n == STAT_GOTC || n == STAT_TOR || n == STAT_TOT;
	u32 value = e->stats[n];

	if (low)
		return value;
	e->stats[n] = 0;
	if (n == STAT_GORC + 1 || n == STAT_GOTC + 1 || n == STAT_TOR + 1 || n == STAT_TOT + 1)
		e->stats[n - 1] = 0;
	return value;
}

static u32 read_causes(struct e1000 *e)
{
	u32 value = e->icr;

	e->icr = 0;
	drive(e);
	return value;
}

static u32 read_register(struct e1000 *e, u32 at)
{
	u32 *plain;

	switch (at) {
	case CTRL:
	case CTRL_DUP: return e->ctrl;
	case STATUS: return STATUS_VALUE;
	case EECD: return e1000_eecd_read(e);
	case EERD: return e->eerd;
	case MDIC: return e->mdic;
	case ICR: return read_causes(e);
	case IMS: return e->ims;
	case RCTL: return e->rctl;
	case TCTL: return e->tctl;
	default: break;
	}
	if (at >= STATS && at < STATS_END)
		return read_stat(e, (at - STATS) / 4);
	plain = stored(e, at);
	if (plain)
		return *plain;
	if (at >= RDBAL && at <= RDBAL + RING_TAIL)
		return read_ring(&e->rx, at - RDBAL);
	return at >= TDBAL && at <= TDBAL + RING_TAIL ? read_ring(&e->tx, at - TDBAL) : 0;
}

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	struct e1000 *e = ctx;
	u64 value;

	if (bar == PORT_BAR)
		return offset == PORT_DATA	? read_register(e, e->io_address)
		       : offset == PORT_ADDRESS ? e->io_address
						: 0;
	value = read_register(e, (u32)offset & ~3u);
	if ((offset & 3) + size > 4)
		value |= (u64)read_register(e, ((u32)offset & ~3u) + 4) << 32;
	return value >> 8 * (offset & 3);
}

/* Writes */

static void usual_mac(const struct e1000 *e, u8 mac[6])
{
	static const u8 usual[6] = ETHERNET_USUAL_MAC;

	if (!e->mac || !ethernet_parse_mac(e->mac, mac))
		memcpy(mac, usual, sizeof(usual));
}

/* 4.6: what CTRL.RST resets; the first address is the EEPROM's. */
static void reset_mac(struct e1000 *e)
{
	u8 mac[6];

	timer_cancel(e->dev.env.clock, &e->turn);
	usual_mac(e, mac);
	reset_store(e);
	*stored(e, E1000_RA) = get_le32(mac);
	*stored(e, E1000_RA + 4) = get_le16(mac + 4) | BIT(31);
	e->ctrl = CTRL_START;
	e->icr = e->ims = e->rctl = e->tctl = e->mdic = e->eerd = 0;
	memset(e->stats, 0, sizeof(e->stats));
	e->rx = e->tx = (struct e1000_ring){ 0 };
	e->hungry = false;
	e->context = (struct e1000_context){ 0 };
	e1000_tx_forget(e);
	drive(e);
}

static void write_ctrl(struct e1000 *e, u32 value)
{
	if (value & CTRL_PHY_RESET)
		e1000_phy_reset(e);
	if (value & CTRL_RESET)
		reset_mac(e);
	else
		e->ctrl = value & ~CTRL_PHY_RESET;
}

/* Heads and tails are always within the ring. */
static void write_ring(struct e1000_ring *r, u32 at, u32 value)
{
	u32 size;

	switch (at) {
	case RING_LOW: r->base = ((r->base & ~0xffffffffull) | value) & BASE_MASK; break;
	case RING_HIGH: r->base = (u32)r->base | (u64)value << 32; break;
	case RING_LEN: r->len = value & LEN_MASK; break;
	case RING_HEAD: r->head = (u16)value; break;
	case RING_TAIL: r->tail = (u16)value; break;
	default: break;
	}
	size = e1000_ring_size(r);
	r->head = r->head < size ? r->head : 0;
	r->tail = r->tail < size ? r->tail : 0;
}

static void write_plain(struct e1000 *e, u32 at, u32 value)
{
	u32 *plain = stored(e, at);

	if (plain) {
		*plain = value;
	} else if (at >= RDBAL && at <= RDBAL + RING_TAIL) {
		write_ring(&e->rx, at - RDBAL, value);
		if (at == RDBAL + RING_TAIL)
			e1000_rx_more(e);
	} else if (at >= TDBAL && at <= TDBAL + RING_TAIL) {
		write_ring(&e->tx, at - TDBAL, value);
		if (at == TDBAL + RING_TAIL)
			e1000_transmit(e);
	}
}

static void write_register(struct e1000 *e, u32 at, u32 value)
{
	switch (at) {
	case CTRL:
	case CTRL_DUP: write_ctrl(e, value); break;
	case EECD: e1000_eecd_write(e, value); break;
	case EERD: e1000_eerd_write(e, value); break;
	case MDIC: e1000_mdic_write(e, value); break;
	case ICR: e->icr &= ~value; break;
	case ICS: e->icr |= value; break;
	case IMS: e->ims |= value; break;
	case IMC: e->ims &= ~value; break;
	case RCTL:
		e->rctl = value & RCTL_WRITABLE;
		e1000_rx_more(e);
		break;
	case TCTL:
		e->tctl = value & TCTL_WRITABLE;
		e1000_transmit(e);
		break;
	default: write_plain(e, at, value); break;
	}
	drive(e);
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct e1000 *e = ctx;

	if (bar == PORT_BAR) {
		if (offset == PORT_ADDRESS && size == 4)
			e->io_address = (u32)value & 0x1fffc;
		else if (offset == PORT_DATA && size == 4)
			write_register(e, e->io_address, (u32)value);
		return;
	}
	if (size < 4 || offset & (size - 1)) {
		guest_err(e->dev.name, "%u-byte write at 0x%x", size, (unsigned)offset);
		return;
	}
	write_register(e, (u32)offset, (u32)value);
	if (size == 8)
		write_register(e, (u32)offset + 4, (u32)(value >> 32));
}

static void take_turn(void *ctx) { e1000_transmit(ctx); }

/* Reset */

static void e1000_reset(struct device *d)
{
	struct e1000 *e = e1000_of(d);
	u8 mac[6];

	usual_mac(e, mac);
	reset_mac(e);
	e->io_address = 0;
	e1000_serial_reset(e, mac);
	pci_reset(&e->pci);
}

static void e1000_loaded(struct device *d)
{
	struct e1000 *e = e1000_of(d);

	pci_loaded(&e->pci);
	e->io_address &= 0x1fffc;
	write_ring(&e->rx, RING_LEN, e->rx.len);
	write_ring(&e->tx, RING_LEN, e->tx.len);
	e1000_tx_forget(e);
	timer_cancel(d->env.clock, &e->turn);
	drive(e);
	e1000_transmit(e);
}

/* Init */

static int e1000_init(struct device *d, struct err *err)
{
	static const struct pci_identity who = { .vendor = 0x8086,
		.device = 0x100e,
		.subvendor = 0x8086,
		.subdevice = 0x001e,
		.class = 0x020000,
		.revision = 3,
		.intx = true };
	static const struct pci_ops ops = { bar_read, bar_write, NULL, NULL };
	struct e1000 *e = e1000_of(d);

	if (!d->env.net || !d->env.pci || !d->env.memory || !d->env.clock)
		return err_set(err, -EINVAL, "no network, PCI bus, memory or clock");
	timer_init(&e->turn, take_turn, e);
	pci_init(&e->pci, d->name, &who, &ops, e);
	pci_add_bar(&e->pci, MEMORY_BAR, PCI_BAR_MEMORY, MEMORY_LEN);
	pci_add_bar(&e->pci, PORT_BAR, PCI_BAR_IO, PORT_LEN);
	return pci_attach(d->env.pci, &e->pci, d->env.slot, err);
}

static void e1000_fini(struct device *d)
{
	struct e1000 *e = e1000_of(d);

	if (d->env.clock)
		timer_cancel(d->env.clock, &e->turn);
	pci_detach(&e->pci);
}

/* Tables */

static const struct prop e1000_props[] = {
	{ "mac", "hardware address: 52:54:00:12:34:56", PROP_STRING, offsetof(struct e1000, mac), 0,
		0, 0 },
	PROP_END,
};

static const struct field ring_fields[] = {
	FIELD(struct e1000_ring, base),
	FIELD(struct e1000_ring, len),
	FIELD(struct e1000_ring, head),
	FIELD(struct e1000_ring, tail),
	FIELD_END,
};

static const struct field context_fields[] = {
	FIELD(struct e1000_context, ip_start),
	FIELD(struct e1000_context, ip_at),
	FIELD(struct e1000_context, ip_end),
	FIELD(struct e1000_context, tcp_start),
	FIELD(struct e1000_context, tcp_at),
	FIELD(struct e1000_context, tcp_end),
	FIELD(struct e1000_context, mss),
	FIELD(struct e1000_context, head),
	FIELD(struct e1000_context, ip4),
	FIELD(struct e1000_context, tcp),
	FIELD(struct e1000_context, payload),
	FIELD_END,
};

static const struct field e1000_state[] = {
	FIELD_SUB(struct e1000, pci, struct pci_function, pci_function_fields),
	FIELD(struct e1000, ctrl),
	FIELD(struct e1000, icr),
	FIELD(struct e1000, ims),
	FIELD(struct e1000, rctl),
	FIELD(struct e1000, tctl),
	FIELD(struct e1000, mdic),
	FIELD(struct e1000, eerd),
	FIELD(struct e1000, io_address),
	FIELD_ARRAY(struct e1000, store, u32),
	FIELD_ARRAY(struct e1000, stats, u32),
	FIELD_SUB(struct e1000, rx, struct e1000_ring, ring_fields),
	FIELD_SUB(struct e1000, tx, struct e1000_ring, ring_fields),
	FIELD(struct e1000, hungry),
	FIELD_SUB(struct e1000, context, struct e1000_context, context_fields),
	FIELD(struct e1000, eecd),
	FIELD(struct e1000, shift),
	FIELD(struct e1000, shifted),
	FIELD_ARRAY(struct e1000, eeprom, u16),
	FIELD_ARRAY(struct e1000, phy, u16),
	FIELD_END,
};

const struct device_class e1000_class = {
	.name = "e1000",
	.doc = "Intel 82540EM network controller",
	.size = sizeof(struct e1000),
	.init = e1000_init,
	.reset = e1000_reset,
	.fini = e1000_fini,
	.input = e1000_receive,
	.loaded = e1000_loaded,
	.props = e1000_props,
	.state = e1000_state,
};
