/*
 * 82093AA I/O APIC (Intel 290566), in the version 0x20 of later chipsets, which adds an EOI
 * register for directed EOIs.
 *
 * A pin's edge, or its level while the remote IRR bit is clear, becomes one message through
 * env.msi, in the form of an MSI (SDM 3A 10.11): so the local APICs, KVM's or ours, know one way
 * in. A level pin then waits, remote IRR set, until the EOI of its vector returns, and sends again
 * if the line is still asserted. An edge on a masked pin is lost, as the data sheet has it.
 *
 * Polarity is not modelled: lines carry "asserted", and the firmware tables tell guests the
 * polarity that makes it so. It is stored and read back.
 */
#include "device/apic/ioapic.h"
#include "base/bits.h"
#include "base/log.h"

/* Registers */

#define WINDOW_SELECT 0x00
#define WINDOW_DATA   0x10
#define WINDOW_EOI    0x40

#define REG_ID	    0x00
#define REG_VERSION 0x01
#define REG_ARB	    0x02
#define REG_RTE	    0x10 /* two words for each pin */

#define IOAPIC_VERSION (0x20u | (IOAPIC_PINS - 1) << 16)
#define ID_MASK	       0x0f000000u

/* Redirection table entry */
#define RTE_VECTOR     0xffu
#define RTE_MODE(e)    bits(e, 10, 8)
#define RTE_LOGICAL    BIT64(11)
#define RTE_PENDING    BIT64(12) /* read-only; delivery is instant */
#define RTE_REMOTE_IRR BIT64(14) /* read-only */
#define RTE_LEVEL      BIT64(15)
#define RTE_MASKED     BIT64(16)
#define RTE_DEST(e)    bits(e, 63, 56)
#define RTE_WRITABLE   0xff0000000001afffull

#define MODE_FIXED  0
#define MODE_LOWEST 1

#define MSI_ADDRESS 0xfee00000ull
#define MSI_LOGICAL BIT64(2)
#define MSI_ASSERT  BIT(14)
#define MSI_LEVEL   BIT(15)

/* State */

struct ioapic {
	struct device dev;
	u64 rte[IOAPIC_PINS];
	u32 asserted; /* a bit for each pin */
	u32 id;
	u8 select;
	ioapic_route_fn *watcher;
	void *watcher_ctx;
};

/* Helpers */

/* Only these two wait for an EOI; NMI, INIT and ExtINT are edges whatever bit 15 says. */
static bool is_level(u64 rte) { return rte & RTE_LEVEL && RTE_MODE(rte) <= MODE_LOWEST; }

static u64 message_address(u64 rte)
{
	return MSI_ADDRESS | RTE_DEST(rte) << 12 | (rte & RTE_LOGICAL ? MSI_LOGICAL : 0);
}

static u32 message_data(u64 rte)
{
	return (u32)(rte & 0x7ff) | (is_level(rte) ? MSI_LEVEL | MSI_ASSERT : 0);
}

static void send(struct ioapic *io, unsigned pin)
{
	u64 rte = io->rte[pin];

	msi_send(&io->dev.env.msi, message_address(rte), message_data(rte));
}

static void tell(struct ioapic *io, unsigned pin)
{
	u64 rte = io->rte[pin];

	if (io->watcher)
		io->watcher(io->watcher_ctx, pin, message_address(rte), message_data(rte));
}

static void tell_all(struct ioapic *io)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		tell(io, pin);
}

void ioapic_watch(struct device *dev, ioapic_route_fn *fn, void *ctx)
{
	struct ioapic *io = (struct ioapic *)dev;

	io->watcher = fn;
	io->watcher_ctx = ctx;
	tell_all(io);
}

/* Sends for a level pin that is asserted and not waiting for its EOI. The bit goes first: the EOI
 * may come before msi_send() returns. */
static void service_level(struct ioapic *io, unsigned pin)
{
	u64 *rte = &io->rte[pin];

	if (!(io->asserted & BIT(pin)) || *rte & (RTE_MASKED | RTE_REMOTE_IRR) || !is_level(*rte))
		return;
	*rte |= RTE_REMOTE_IRR;
	send(io, pin);
}

void ioapic_set_irq(struct device *dev, unsigned pin, bool level)
{
	struct ioapic *io = (struct ioapic *)dev;

	if (pin >= IOAPIC_PINS)
		return;
	bool rising = level && !(io->asserted & BIT(pin));

	io->asserted = level ? io->asserted | BIT(pin) : io->asserted & ~BIT(pin);
	if (is_level(io->rte[pin]))
		service_level(io, pin);
	else if (rising && !(io->rte[pin] & RTE_MASKED))
		send(io, pin);
}

void ioapic_eoi(struct device *dev, u8 vector)
{
	struct ioapic *io = (struct ioapic *)dev;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		u64 *rte = &io->rte[pin];

		if (!(*rte & RTE_REMOTE_IRR) || (*rte & RTE_VECTOR) != vector)
			continue;
		*rte &= ~RTE_REMOTE_IRR;
		service_level(io, pin);
	}
}

/* Reads */

static u32 read_reg(const struct ioapic *io, unsigned reg)
{
	unsigned word = reg - REG_RTE;

	switch (reg) {
	case REG_ID:
	case REG_ARB: return io->id;
	case REG_VERSION: return IOAPIC_VERSION;
	default: return word < 2 * IOAPIC_PINS ? (u32)(io->rte[word / 2] >> (word % 2 * 32)) : 0;
	}
}

static u64 ioapic_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct ioapic *io = (struct ioapic *)d;

	switch (offset) {
	case WINDOW_SELECT: return io->select;
	case WINDOW_DATA: return read_reg(io, io->select) & mask_bytes(size);
	default: return 0;
	}
}

/* Writes */

static void write_rte(struct ioapic *io, unsigned word, u32 value)
{
	unsigned pin = word / 2, shift = word % 2 * 32;
	u64 half = 0xffffffffull << shift;
	u64 old = io->rte[pin];
	u64 new = (old & ~half) | ((u64)value << shift & half);

	new = (new &RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
	if (!is_level(new))
		new &= ~RTE_REMOTE_IRR; /* what drivers of the older part rely on to clear it */
	io->rte[pin] = new;
	tell(io, pin);
	service_level(io, pin);
}

static void write_reg(struct ioapic *io, unsigned reg, u32 value)
{
	if (reg == REG_ID)
		io->id = value & ID_MASK;
	else if (reg >= REG_RTE && reg - REG_RTE < 2 * IOAPIC_PINS)
		write_rte(io, reg - REG_RTE, value);
}

static void ioapic_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct ioapic *io = (struct ioapic *)d;

	switch (offset) {
	case WINDOW_SELECT: io->select = (u8)value; break;
	case WINDOW_DATA:
		if (size >= 4)
			write_reg(io, io->select, (u32)value);
		else
			guest_err(d->name, "%u-byte write to register 0x%x", size, io->select);
		break;
	case WINDOW_EOI: ioapic_eoi(d, (u8)value); break;
	default: break;
	}
}

/* Reset */

static void ioapic_reset(struct device *d)
{
	struct ioapic *io = (struct ioapic *)d;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	io->asserted = io->id = io->select = 0;
	tell_all(io);
}

static void ioapic_loaded(struct device *d) { tell_all((struct ioapic *)d); }

/* Tables */

static const struct field ioapic_state[] = {
	FIELD_ARRAY(struct ioapic, rte, u64),
	FIELD(struct ioapic, asserted),
	FIELD(struct ioapic, id),
	FIELD(struct ioapic, select),
	FIELD_END,
};

const struct device_class ioapic_class = {
	.name = "ioapic",
	.doc = "82093AA I/O APIC, 24 pins",
	.size = sizeof(struct ioapic),
	.reset = ioapic_reset,
	.read = ioapic_read,
	.write = ioapic_write,
	.loaded = ioapic_loaded,
	.windows = { { BUS_MMIO, IOAPIC_BASE, IOAPIC_SIZE } },
	.state = ioapic_state,
};
