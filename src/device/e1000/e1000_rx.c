/*
 * Frames for the driver (3.2): filters by address and VLAN, then one or more descriptors, each
 * with a buffer of the size that RCTL says. A frame for which there are too few waits in the
 * backend, which is told when there are more. The check sequence that drivers expect at the end
 * is four zero bytes, unless RCTL strips it.
 */
#include "base/log.h"
#include "device/e1000/e1000_priv.h"

/* RCTL, 13.4.22 */
#define RCTL_EN	      BIT(1)
#define RCTL_UPE      BIT(3)
#define RCTL_MPE      BIT(4)
#define RCTL_LPE      BIT(5)
#define RCTL_RDMTS(v) ((unsigned)bits(v, 9, 8))
#define RCTL_MO(v)    ((unsigned)bits(v, 13, 12))
#define RCTL_BAM      BIT(15)
#define RCTL_BSIZE(v) ((unsigned)bits(v, 17, 16))
#define RCTL_VFE      BIT(18)
#define RCTL_BSEX     BIT(25)
#define RCTL_SECRC    BIT(26)

#define RXCSUM_START(v) ((unsigned)bits(v, 7, 0))
#define RXCSUM_IP	BIT(8)
#define RXCSUM_TCP	BIT(9)
#define ADDRESS_VALID	BIT(31)
#define ADDRESSES	16u
#define FRAME_MAX	1518u
#define CHECK_LEN	4u
#define TAG_LEN		4u

/* Status of a descriptor, 3.2.3.1 */
#define STATUS_DD    BIT(0)
#define STATUS_EOP   BIT(1)
#define STATUS_IXSM  BIT(2)
#define STATUS_VP    BIT(3)
#define STATUS_TCPCS BIT(5)
#define STATUS_IPCS  BIT(6)

static const u8 broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* ---- filters ---- */

static bool is_ours(const struct e1000 *e, const u8 *to)
{
	for (unsigned i = 0; i < ADDRESSES; i++) {
		u32 low = e1000_stored(e, E1000_RA + 8 * i);
		u32 high = e1000_stored(e, E1000_RA + 8 * i + 4);

		if (high & ADDRESS_VALID && low == get_le32(to) && (u16)high == get_le16(to + 4))
			return true;
	}
	return false;
}

/* 13.5.1: twelve bits of the address choose one of 4096; which twelve, RCTL says. */
static bool is_in_table(const struct e1000 *e, const u8 *to)
{
	static const unsigned shifts[] = { 4, 3, 2, 0 };
	unsigned hash = get_le16(to + 4) >> shifts[RCTL_MO(e->rctl)] & 0xfff;

	return e1000_stored(e, E1000_MTA + 4 * (hash >> 5)) >> (hash & 31) & 1;
}

static bool address_wanted(const struct e1000 *e, const u8 *to)
{
	if (!memcmp(to, broadcast, 6))
		return e->rctl & RCTL_BAM;
	if (is_ours(e, to))
		return true;
	if (to[0] & 1)
		return e->rctl & RCTL_MPE || is_in_table(e, to);
	return e->rctl & RCTL_UPE;
}

static bool has_tag(const struct e1000 *e, const u8 *frame, size_t len)
{
	return len >= ETHERNET_HEAD + TAG_LEN &&
	       get_be16(frame + 12) == (u16)e1000_stored(e, E1000_VET);
}

static bool tag_wanted(const struct e1000 *e, const u8 *frame, size_t len)
{
	unsigned id;

	if (!(e->rctl & RCTL_VFE) || !has_tag(e, frame, len))
		return true;
	id = get_be16(frame + 14) & 0xfff;
	return e1000_stored(e, E1000_VFTA + 4 * (id >> 5)) >> (id & 31) & 1;
}

static bool wanted(struct e1000 *e, const u8 *frame, size_t len)
{
	if (!(e->rctl & RCTL_EN) || len < ETHERNET_HEAD || !address_wanted(e, frame) ||
		!tag_wanted(e, frame, len))
		return false;
	if (len > E1000_FRAME_MAX || (len + CHECK_LEN > FRAME_MAX && !(e->rctl & RCTL_LPE))) {
		e1000_count(e, STAT_ROC, 1);
		return false;
	}
	return true;
}

/* ---- descriptors ---- */

static u32 buffer_size(const struct e1000 *e)
{
	u32 size = 2048u >> RCTL_BSIZE(e->rctl);

	/* With the extension 01 is 16 KiB, 10 8 KiB, 11 4 KiB. */
	return e->rctl & RCTL_BSEX && RCTL_BSIZE(e->rctl) ? size << 4 : size;
}

static u32 available(const struct e1000 *e)
{
	u32 size = e1000_ring_size(&e->rx);

	return e->rx.tail >= e->rx.head ? e->rx.tail - e->rx.head : size - e->rx.head + e->rx.tail;
}

/* The backend has made the checksums, or checked them: of IPv4, and of TCP and UDP in it. */
static u8 checksum_status(const struct e1000 *e, const u8 *frame, u64 len)
{
	u32 what = e1000_stored(e, E1000_RXCSUM);
	bool ip = len >= ETHERNET_HEAD + 20 && get_be16(frame + 12) == ETHERNET_IPV4;
	bool tcp = ip && (frame[23] == 6 || frame[23] == 17) && !(get_be16(frame + 20) & 0x3fff);
	u8 status = (u8)((ip && what & RXCSUM_IP ? STATUS_IPCS : 0) |
			 (tcp && what & RXCSUM_TCP ? STATUS_TCPCS : 0));

	return status ? status : STATUS_IXSM;
}

static bool fill_descriptor(
	struct e1000 *e, const u8 *data, u32 len, u16 sum, u8 status, u16 special)
{
	struct memory *m = e->dev.env.memory;
	u64 at = e->rx.base + (u64)e->rx.head * E1000_DESC;
	u8 desc[E1000_DESC];

	if (!memory_read(m, gpa(at), desc, sizeof(desc)) ||
		!memory_write(m, gpa(get_le64(desc)), data, len))
		return false;
	put_le16(desc + 8, (u16)len);
	put_le16(desc + 10, sum);
	desc[12] = status;
	desc[13] = 0;
	put_le16(desc + 14, special);
	/* The status last: who sees it must see the rest. */
	if (!memory_write(m, gpa(at + 8), desc + 8, 4) ||
		!memory_write(m, gpa(at + 14), desc + 14, 2) ||
		!memory_write(m, gpa(at + 12), desc + 12, 2))
		return false;
	e->rx.head = (e->rx.head + 1) % e1000_ring_size(&e->rx);
	return true;
}

/* Its tag taken off, its length made up, a place for the check sequence: in e->part. */
static u64 prepare(struct e1000 *e, const u8 *frame, u64 len, u8 *status, u16 *special)
{
	u8 *to = e->part;

	if (e->ctrl & E1000_CTRL_VME && has_tag(e, frame, len)) {
		*status |= STATUS_VP;
		*special = get_be16(frame + 14);
		memcpy(to, frame, 12);
		memcpy(to + 12, frame + 16, len - 16);
		len -= TAG_LEN;
	} else {
		memcpy(to, frame, len);
	}
	if (len < ETHERNET_MIN) {
		memset(to + len, 0, ETHERNET_MIN - len);
		len = ETHERNET_MIN;
	}
	if (!(e->rctl & RCTL_SECRC)) {
		memset(to + len, 0, CHECK_LEN);
		len += CHECK_LEN;
	}
	return len;
}

static void deliver(struct e1000 *e, u64 len, u8 status, u16 special)
{
	u32 size = buffer_size(e), from = RXCSUM_START(e1000_stored(e, E1000_RXCSUM));
	u16 sum = from < len ? ethernet_sum(e->part + from, len - from) : 0;

	for (u64 done = 0; done < len;) {
		u32 part = (u32)min_u64(len - done, size);
		u8 last = done + part == len ? STATUS_EOP | status : 0;

		if (!fill_descriptor(
			    e, e->part + done, part, sum, (u8)(STATUS_DD | last), special)) {
			guest_err(e->dev.name, "a receive descriptor or buffer is not in memory");
			return;
		}
		done += part;
	}
}

size_t e1000_receive(struct device *d, const u8 *frame, size_t len)
{
	struct e1000 *e = e1000_of(d);
	u32 ring = e1000_ring_size(&e->rx);
	u8 status = 0;
	u16 special = 0;

	if (!wanted(e, frame, len))
		return len;
	u64 needed = (max_u64(len, ETHERNET_MIN) + CHECK_LEN + buffer_size(e) - 1) / buffer_size(e);

	if (!pci_is_master(&e->pci) || needed >= ring) { /* will never do */
		e1000_count(e, STAT_MPC, 1);
		return len;
	}
	if (available(e) < needed) {
		e->hungry = true;
		e1000_count(e, STAT_RNBC, 1);
		return 0;
	}
	status = checksum_status(e, frame, len);
	u64 total = prepare(e, frame, len, &status, &special);

	deliver(e, total, status, special);
	e1000_count_frame(e, false, frame, len);
	e1000_cause(
		e, E1000_RXT0 |
			   (available(e) <= ring >> (RCTL_RDMTS(e->rctl) + 1) ? E1000_RXDMT0 : 0));
	return len;
}

void e1000_rx_more(struct e1000 *e)
{
	if (!e->hungry)
		return;
	e->hungry = false;
	e->dev.env.net->room(e->dev.env.net_ctx);
}
