/*
 * NVM Express controller (NVM Express Base Specification 1.4) on PCI, with one namespace, which is
 * the disk. Pages are 4 KiB, blocks 512 bytes. One pair of admin queues and up to eight of I/O
 * queues in guest memory; interrupts by MSI-X, or one wire for all queues. See nvme_priv.h for who
 * does what, and how a command lives.
 *
 * The one BAR (2.1.10) holds the registers in its first page, doorbells in the second, and MSI-X's
 * tables in the third and fourth.
 *
 * A queue that is not in memory is a controller fatal status (9.5): nothing more is done until the
 * driver resets the controller. A reset waits for what the disk is doing.
 */
#include "base/log.h"
#include "device/nvme/nvme_priv.h"
#include <errno.h>
#include <stdatomic.h>

/* Registers, 3.1 */
enum {
	CAP = 0x00,
	VS = 0x08,
	INTMS = 0x0c,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30,
	DOORBELLS = 0x1000,
	MSIX_TABLE = 0x2000,
	MSIX_PBA = 0x3000,
	BAR_LEN = 0x4000,
};

#define VERSION_1_4 0x00010400u
#define CAP_VALUE   /* queue entries, contiguous only, ready within 5 s, the NVM command set */ \
	((u64)(NVME_ENTRIES_MAX - 1) | BIT64(16) | 10ull << 24 | BIT64(37))

#define CC_EN		BIT(0)
#define CC_CSS(v)	bits(v, 6, 4)
#define CC_MPS(v)	bits(v, 10, 7)
#define CC_AMS(v)	bits(v, 13, 11)
#define CC_SHN(v)	bits(v, 15, 14)
#define CC_WRITABLE	0x00fffff1u
#define CSTS_RDY	BIT(0)
#define CSTS_CFS	BIT(1)
#define CSTS_SHST	(3u << 2)
#define CSTS_SHST_DONE	(2u << 2)
#define AQA_SQ(v)	((u16)(bits(v, 11, 0) + 1))
#define AQA_CQ(v)	((u16)(bits(v, 27, 16) + 1))
#define AQA_WRITABLE	0x0fff0fffu
#define QUEUE_BASE_MASK (~PAGE_MASK)

#define SQ_ENTRY 64u
#define CQ_ENTRY 16u

/* Helpers */

bool nvme_ready(const struct nvme *n)
{
	return (n->csts & (CSTS_RDY | CSTS_CFS)) == CSTS_RDY && pci_is_master(&n->pci);
}

static void fatal(struct nvme *n, const char *why)
{
	guest_err(n->dev.name, "fatal: %s", why);
	n->csts |= CSTS_CFS;
}

/* 7.5.1.1: without messages one wire stands for vector 0, high while a completion waits. */
void nvme_drive(struct nvme *n)
{
	bool level = false;

	for (unsigned i = 0; i < NVME_PAIRS; i++)
		level |= n->cq[i].open && n->cq[i].interrupts && n->cq[i].head != n->cq[i].tail;
	pci_intx(&n->pci, level && !(n->intms & 1));
}

static u16 entries_used(u16 head, u16 tail, u16 size)
{
	return (u16)(tail >= head ? tail - head : size - head + tail);
}

bool nvme_has_room(const struct nvme *n, unsigned cq)
{
	const struct nvme_cq *q = &n->cq[cq];

	return entries_used(q->head, q->tail, q->size) + q->reserved < q->size - 1;
}

/* ---- completions ---- */

static bool write_entry(struct nvme *n, u64 at, const u8 entry[CQ_ENTRY])
{
	struct memory *m = n->dev.env.memory;
	u8 *host = memory_host(m, gpa(at), CQ_ENTRY);

	if (!host || memory_page(m, gpa(at)).rom)
		return false;
	memcpy(host, entry, 12);
	/* The phase tag is in the last word: who sees it must see the rest. */
	atomic_store_explicit(
		(_Atomic u32 *)(void *)(host + 12), get_le32(entry + 12), memory_order_release);
	memory_written(m, gpa(at), CQ_ENTRY);
	return true;
}

/* An error that trying again does not mend carries "do not retry" (4.6.1). */
static u16 status_field(enum nvme_status status, bool phase)
{
	bool again = status == NVME_OK || status == NVME_CAPACITY_EXCEEDED ||
		     status == NVME_WRITE_FAULT || status == NVME_READ_ERROR;

	return (u16)((unsigned)status << 1 | (again ? 0 : BIT(15)) | phase);
}

void nvme_complete(struct nvme *n, unsigned sq, u16 id, enum nvme_status status, u32 result)
{
	struct nvme_sq *s = &n->sq[sq];
	struct nvme_cq *q = &n->cq[s->cq];
	u8 entry[CQ_ENTRY] = { 0 };

	if (q->reserved)
		q->reserved--;
	if (!nvme_ready(n) || !q->open)
		return;
	put_le32(entry, result);
	put_le16(entry + 8, s->head);
	put_le16(entry + 10, (u16)sq);
	put_le16(entry + 12, id);
	put_le16(entry + 14, status_field(status, q->phase));
	if (!write_entry(n, q->base + (u64)q->tail * CQ_ENTRY, entry)) {
		fatal(n, "a completion queue that is not in memory");
		return;
	}
	if (++q->tail == q->size) {
		q->tail = 0;
		q->phase = !q->phase;
	}
	if (q->interrupts)
		pci_notify(&n->pci, q->vector);
	nvme_drive(n);
}

/* ---- commands ---- */

static bool may_take(const struct nvme *n, const struct nvme_sq *s)
{
	return nvme_ready(n) && s->open && s->head != s->tail &&
	       n->in_flight < NVME_IN_FLIGHT_MAX && nvme_has_room(n, s->cq);
}

static void take(struct nvme *n, unsigned sq)
{
	struct nvme_sq *s = &n->sq[sq];
	u8 e[SQ_ENTRY];

	if (!memory_read(n->dev.env.memory, gpa(s->base + (u64)s->head * SQ_ENTRY), e, SQ_ENTRY)) {
		fatal(n, "a submission queue that is not in memory");
		return;
	}
	s->head = s->head + 1 == s->size ? 0 : (u16)(s->head + 1);
	n->cq[s->cq].reserved++;
	struct nvme_command c = { .op = e[0],
		.flags = e[1],
		.id = get_le16(e + 2),
		.nsid = get_le32(e + 4),
		.prp1 = get_le64(e + 24),
		.prp2 = get_le64(e + 32) };

	memcpy(c.dw, e + 40, sizeof(c.dw));
	if (sq)
		nvme_io(n, sq, &c);
	else
		nvme_admin(n, &c);
}

/* Takes what there is. Tails move only by doorbells, so it ends. A command that waits for the disk
 * (deleting a queue) has completions come in meanwhile, which call this again: once more round. */
void nvme_run(struct nvme *n)
{
	n->again = true;
	if (n->running)
		return;
	n->running = true;
	while (n->again) {
		n->again = false;
		for (unsigned i = 0; i < NVME_PAIRS; i++)
			while (may_take(n, &n->sq[i]))
				take(n, i);
		n->dev.env.disk->kick(n->dev.env.disk_ctx);
	}
	n->running = false;
}

/* ---- enabling, shutting down, resetting ---- */

static void settle(struct nvme *n) { n->dev.env.disk->drain(n->dev.env.disk_ctx); }

/* 7.3.2: what a controller reset forgets. The admin queues' registers keep their values. */
static void forget(struct nvme *n)
{
	n->csts = 0;
	settle(n);
	memset(n->sq, 0, sizeof(n->sq));
	memset(n->cq, 0, sizeof(n->cq));
	n->intms = 0;
	n->event_count = n->events_waiting = 0;
	n->events_masked = false;
	nvme_reset_features(n);
	nvme_drive(n);
}

static void enable(struct nvme *n)
{
	u16 sq = AQA_SQ(n->aqa), cq = AQA_CQ(n->aqa);

	if (CC_CSS(n->cc) || CC_MPS(n->cc) || CC_AMS(n->cc) || sq < 2 || cq < 2 ||
		sq > NVME_ENTRIES_MAX || cq > NVME_ENTRIES_MAX) {
		fatal(n, "enabled with what the controller cannot do");
		return;
	}
	n->sq[0] = (struct nvme_sq){ .base = n->asq, .size = sq, .open = true };
	n->cq[0] = (struct nvme_cq){
		.base = n->acq, .size = cq, .open = true, .phase = true, .interrupts = true
	};
	n->csts |= CSTS_RDY;
}

static void write_cc(struct nvme *n, u32 value)
{
	u32 before = n->cc;

	n->cc = value & CC_WRITABLE;
	if (before & CC_EN && !(value & CC_EN))
		forget(n);
	else if (!(before & CC_EN) && value & CC_EN)
		enable(n);
	if (CC_SHN(value) && !CC_SHN(before)) { /* 7.6.2 */
		settle(n);
		nvme_io_flush_now(n);
		n->csts = (n->csts & ~CSTS_SHST) | CSTS_SHST_DONE;
	} else if (!CC_SHN(value)) {
		n->csts &= ~CSTS_SHST;
	}
}

/* Reads */

static u64 read_register(const struct nvme *n, u64 at)
{
	switch (at) {
	case CAP: return CAP_VALUE;
	case CAP + 4: return CAP_VALUE >> 32;
	case VS: return VERSION_1_4;
	case INTMS:
	case INTMC: return n->intms;
	case CC: return n->cc;
	case CSTS: return n->csts;
	case AQA: return n->aqa;
	case ASQ: return n->asq;
	case ASQ + 4: return n->asq >> 32;
	case ACQ: return n->acq;
	case ACQ + 4: return n->acq >> 32;
	default: return 0;
	}
}

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	u64 low = read_register(ctx, offset & ~7ull),
	    high = read_register(ctx, (offset & ~7ull) + 4);
	u64 both = (u32)low | high << 32;

	return range_ok(offset & 7, size, 8) ? both >> 8 * (offset & 7) & mask_bytes(size) : 0;
}

/* Writes */

static void write_half(u64 *reg, unsigned upper, u32 value)
{
	*reg = upper ? (*reg & ~0u) | (u64)value << 32 : (*reg & ~0ull << 32) | value;
	*reg &= QUEUE_BASE_MASK;
}

static void write_register(struct nvme *n, u64 at, u32 value)
{
	bool off = !(n->cc & CC_EN);

	switch (at) {
	case INTMS: n->intms |= value; break;
	case INTMC: n->intms &= ~value; break;
	case CC: write_cc(n, value); break;
	case AQA: n->aqa = off ? value & AQA_WRITABLE : n->aqa; break;
	case ASQ:
	case ASQ + 4:
		if (off)
			write_half(&n->asq, at & 4, value);
		break;
	case ACQ:
	case ACQ + 4:
		if (off)
			write_half(&n->acq, at & 4, value);
		break;
	default: guest_err(n->dev.name, "write to register 0x%x", (unsigned)at); break;
	}
	nvme_drive(n);
}

/* 3.1.24, 3.1.25: queue y's tail is doorbell 2y, its head 2y + 1. */
static void ring(struct nvme *n, u64 doorbell, u16 value)
{
	u64 y = doorbell / 2;
	struct nvme_sq *s = &n->sq[y < NVME_PAIRS ? y : 0];
	struct nvme_cq *q = &n->cq[y < NVME_PAIRS ? y : 0];
	bool head = doorbell & 1;

	if (!nvme_ready(n))
		return;
	if (y >= NVME_PAIRS || !(head ? q->open : s->open))
		nvme_error_event(n, NVME_BAD_DOORBELL);
	else if (value >= (head ? q->size : s->size))
		nvme_error_event(n, NVME_BAD_DOORBELL_VALUE);
	else if (head)
		q->head = value;
	else
		s->tail = value;
	if (head)
		nvme_send_events(n);
	nvme_drive(n);
	nvme_run(n);
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct nvme *n = ctx;

	if (size < 4 || offset & (size - 1)) {
		guest_err(n->dev.name, "%u-byte write at 0x%x", size, (unsigned)offset);
		return;
	}
	if (offset >= MSIX_TABLE)
		return;
	if (offset >= DOORBELLS) {
		ring(n, (offset - DOORBELLS) / 4, (u16)value);
		return;
	}
	write_register(n, offset, (u32)value);
	if (size == 8)
		write_register(n, offset + 4, (u32)(value >> 32));
}

/* A driver that becomes master of the bus only after its doorbells. */
static void config_wrote(void *ctx, unsigned at, unsigned size)
{
	if (at <= PCI_COMMAND && at + size > PCI_COMMAND)
		nvme_run(ctx);
}

/* Reset */

static void nvme_reset(struct device *d)
{
	struct nvme *n = nvme_of(d);

	forget(n);
	n->cc = n->aqa = 0;
	n->asq = n->acq = 0;
	memset(n->errors, 0, sizeof(n->errors));
	n->error_count = 0;
	n->blocks_read = n->blocks_written = n->reads = n->writes = n->media_errors = 0;
	pci_reset(&n->pci);
}

static bool sane(u16 size, u16 head, u16 tail)
{
	return size >= 2 && size <= NVME_ENTRIES_MAX && head < size && tail < size;
}

/* Queues of a hostile save that cannot be are closed. */
static void nvme_loaded(struct device *d)
{
	struct nvme *n = nvme_of(d);

	pci_loaded(&n->pci);
	for (unsigned i = 0; i < NVME_PAIRS; i++) {
		struct nvme_sq *s = &n->sq[i];
		struct nvme_cq *q = &n->cq[i];

		q->reserved = 0;
		q->open = q->open && sane(q->size, q->head, q->tail);
		if (!q->open)
			*q = (struct nvme_cq){ 0 };
		s->open = s->open && sane(s->size, s->head, s->tail);
	}
	for (unsigned i = 0; i < NVME_PAIRS; i++) {
		n->sq[i].open = n->sq[i].open && n->cq[n->sq[i].cq].open;
		if (!n->sq[i].open)
			n->sq[i] = (struct nvme_sq){ 0 };
	}
	if (n->csts & CSTS_RDY && !(n->sq[0].open && n->cq[0].open))
		fatal(n, "a saved state without admin queues");
	nvme_drive(n);
	nvme_run(n);
}

/* Init */

static int nvme_init(struct device *d, struct err *err)
{
	/* VMware's, which drivers have no workarounds for and take by its class. */
	static const struct pci_identity who = { .vendor = 0x15ad,
		.device = 0x07f0,
		.subvendor = 0x15ad,
		.subdevice = 0x07f0,
		.class = 0x010802,
		.intx = true };
	static const struct pci_ops ops = { bar_read, bar_write, NULL, config_wrote };
	struct nvme *n = nvme_of(d);

	if (!d->env.disk || !d->env.pci || !d->env.memory)
		return err_set(err, -EINVAL, "no disk, PCI bus or memory");
	pci_init(&n->pci, d->name, &who, &ops, n);
	pci_add_bar(&n->pci, 0, PCI_BAR_MEMORY64, BAR_LEN);
	pci_add_msix(&n->pci, NVME_PAIRS, 0, MSIX_TABLE, MSIX_PBA);
	return pci_attach(d->env.pci, &n->pci, d->env.slot, err);
}

static void nvme_fini(struct device *d)
{
	struct nvme *n = nvme_of(d);

	if (d->env.disk) {
		n->csts = 0;
		settle(n);
	}
	pci_detach(&n->pci);
	nvme_io_free(n);
}

/* Tables */

static const struct prop nvme_props[] = {
	{ "queues", "I/O queue pairs", PROP_U64, offsetof(struct nvme, queues), 1, 1,
		NVME_QUEUES_MAX },
	{ "serial", "serial number, 20 bytes", PROP_STRING, offsetof(struct nvme, serial), 0, 0,
		0 },
	PROP_END,
};

static const struct field sq_fields[] = {
	FIELD(struct nvme_sq, base),
	FIELD_MAX(struct nvme_sq, size, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_sq, head, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_sq, tail, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_sq, cq, NVME_QUEUES_MAX),
	FIELD(struct nvme_sq, open),
	FIELD_END,
};

static const struct field cq_fields[] = {
	FIELD(struct nvme_cq, base),
	FIELD_MAX(struct nvme_cq, size, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_cq, head, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_cq, tail, NVME_ENTRIES_MAX),
	FIELD_MAX(struct nvme_cq, vector, NVME_QUEUES_MAX),
	FIELD(struct nvme_cq, open),
	FIELD(struct nvme_cq, phase),
	FIELD(struct nvme_cq, interrupts),
	FIELD_END,
};

static const struct field error_fields[] = {
	FIELD(struct nvme_error, count),
	FIELD(struct nvme_error, lba),
	FIELD(struct nvme_error, nsid),
	FIELD(struct nvme_error, sq),
	FIELD(struct nvme_error, id),
	FIELD(struct nvme_error, status),
	FIELD_END,
};

static const struct field nvme_state[] = {
	FIELD_SUB(struct nvme, pci, struct pci_function, pci_function_fields),
	FIELD(struct nvme, asq),
	FIELD(struct nvme, acq),
	FIELD(struct nvme, cc),
	FIELD(struct nvme, csts),
	FIELD(struct nvme, aqa),
	FIELD(struct nvme, intms),
	FIELD_SUB(struct nvme, sq, struct nvme_sq, sq_fields),
	FIELD_SUB(struct nvme, cq, struct nvme_cq, cq_fields),
	FIELD_ARRAY(struct nvme, features, u32),
	FIELD_ARRAY(struct nvme, event_ids, u16),
	FIELD_MAX(struct nvme, event_count, NVME_EVENTS_MAX),
	FIELD(struct nvme, events_waiting),
	FIELD(struct nvme, events_masked),
	FIELD_SUB(struct nvme, errors, struct nvme_error, error_fields),
	FIELD(struct nvme, error_count),
	FIELD(struct nvme, blocks_read),
	FIELD(struct nvme, blocks_written),
	FIELD(struct nvme, reads),
	FIELD(struct nvme, writes),
	FIELD(struct nvme, media_errors),
	FIELD_END,
};

const struct device_class nvme_class = {
	.name = "nvme",
	.doc = "NVM Express disk",
	.size = sizeof(struct nvme),
	.init = nvme_init,
	.reset = nvme_reset,
	.fini = nvme_fini,
	.loaded = nvme_loaded,
	.props = nvme_props,
	.state = nvme_state,
};
