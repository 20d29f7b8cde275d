/*
 * Frames of the driver (3.3): legacy descriptors, which say all of a frame, and extended ones: a
 * context says where headers are, data descriptors refer to it. A frame's pieces are collected,
 * and sent when the last one has come.
 *
 * After so many descriptors the vcpu goes on, and the rest is done when the machine comes to it.
 */
#include "base/log.h"
#include "device/e1000/e1000_priv.h"

#define TURN_MAX 1024u
#define TCTL_EN	 BIT(1)

/* The command byte, 3.3.3, 3.3.7 */
#define CMD_EOP	 BIT(0)
#define CMD_IC	 BIT(2)
#define CMD_TSE	 BIT(2)
#define CMD_RS	 BIT(3)
#define CMD_RPS	 BIT(4)
#define CMD_DEXT BIT(5)
#define CMD_VLE	 BIT(6)
/* of a context's */
#define CMD_TCP BIT(0)
#define CMD_IP	BIT(1)

#define STATUS_DD BIT(0)

void e1000_tx_forget(struct e1000 *e)
{
	e->collected = 0;
	e->options = 0;
	e->segment = e->tag = e->too_long = false;
}

static void take_context(struct e1000 *e, const u8 d[E1000_DESC])
{
	e->context = (struct e1000_context){ .ip_start = d[0],
		.ip_at = d[1],
		.ip_end = get_le16(d + 2),
		.tcp_start = d[4],
		.tcp_at = d[5],
		.tcp_end = get_le16(d + 6),
		.payload = get_le32(d + 8) & 0xfffff,
		.tcp = d[11] & CMD_TCP,
		.ip4 = d[11] & CMD_IP,
		.head = d[13],
		.mss = get_le16(d + 14) };
}

static void collect(struct e1000 *e, u64 at, u32 len)
{
	if (len > E1000_FRAME_MAX - e->collected ||
		!memory_read(e->dev.env.memory, gpa(at), e->frame + e->collected, len)) {
		e->too_long = true;
		return;
	}
	e->collected += len;
}

static void take_data(struct e1000 *e, const u8 d[E1000_DESC])
{
	bool extended = d[11] & CMD_DEXT;
	u32 len = extended ? get_le32(d + 8) & 0xfffff : get_le16(d + 8);

	if (!e->collected && extended) { /* the first one's count */
		e->options = d[13];
		e->segment = d[11] & CMD_TSE;
	}
	collect(e, get_le64(d), len);
	if (!(d[11] & CMD_EOP))
		return;
	e->tag = d[11] & CMD_VLE && e->ctrl & E1000_CTRL_VME;
	e->tag_value = get_le16(d + 14);
	if (!extended && d[11] & CMD_IC)
		e1000_offload_sum(e->frame, e->collected, d[13], d[10], 0);
	if (e->too_long)
		guest_err(e->dev.name, "a frame that is too long or not in memory");
	else
		e1000_offload(e);
	e1000_tx_forget(e);
}

/* False: the ring is not in memory. */
static bool take(struct e1000 *e)
{
	struct memory *m = e->dev.env.memory;
	u64 at = e->tx.base + (u64)e->tx.head * E1000_DESC;
	u8 d[E1000_DESC];

	if (!memory_read(m, gpa(at), d, sizeof(d)))
		return false;
	/* Type 0 of the extended ones is a context. */
	if (d[11] & CMD_DEXT && !(d[10] >> 4))
		take_context(e, d);
	else
		take_data(e, d);
	e->tx.head = (e->tx.head + 1) % e1000_ring_size(&e->tx);
	if (!(d[11] & (CMD_RS | CMD_RPS)))
		return true;
	d[12] |= STATUS_DD;
	return memory_write(m, gpa(at + 12), d + 12, 1);
}

void e1000_transmit(struct e1000 *e)
{
	struct guest_clock *clock = e->dev.env.clock;
	u32 size = e1000_ring_size(&e->tx), n = 0;

	if (!(e->tctl & TCTL_EN) || !pci_is_master(&e->pci) || e->tx.head == e->tx.tail ||
		e->tx.head >= size || e->tx.tail >= size)
		return;
	/* A turn ends where a frame does: nothing is collected meanwhile, which a save would lose.
	 */
	while (e->tx.head != e->tx.tail && (n++ < TURN_MAX || e->collected))
		if (!take(e)) {
			guest_err(e->dev.name, "a transmit ring that is not in memory");
			e->tx.head = e->tx.tail;
		}
	if (e->tx.head != e->tx.tail && !e->turn.armed)
		timer_arm(clock, &e->turn, clock_now(clock));
	e1000_cause(e, E1000_TXDW | (e->tx.head == e->tx.tail ? E1000_TXQE : 0));
}
