/*
 * Virtio over PCI (virtio 1.2 4.1): five structures in one BAR, each announced by a capability, and
 * a BAR for MSI-X.
 *
 *   BAR 0   MSI-X table at 0, pending bits at 0x800
 *   BAR 4   0x0000 common configuration, 0x1000 ISR, 0x2000 the device's configuration,
 *           0x3000 notifications, four bytes a queue
 *
 * The fifth capability is a window: a way to BAR 4 for what can only reach configuration space.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio_priv.h"
#include <errno.h>

/* Registers */

#define VENDOR	    0x1af4
#define DEVICE_BASE 0x1040
#define REVISION    1

#define MSIX_BAR 0u
#define MSIX_PBA 0x800u
#define MAIN_BAR 4u
#define BAR_LEN	 0x4000u
#define PART_LEN 0x1000u

enum { PART_COMMON, PART_ISR, PART_DEVICE, PART_NOTIFY };

#define NOTIFY_STEP 4u

/* 4.1.4 */
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_WINDOW };
#define CAP_LEN	   2u
#define CAP_TYPE   3u
#define CAP_BAR	   4u
#define CAP_OFFSET 8u
#define CAP_LENGTH 12u
#define CAP_EXTRA  16u /* notifications: the step; window: the data */
#define CAP_SIZE   16u

/* 4.1.4.3 */
enum common {
	OFFERED_SELECT = 0x00,
	OFFERED = 0x04,
	ACCEPTED_SELECT = 0x08,
	ACCEPTED = 0x0c,
	CONFIG_VECTOR = 0x10,
	QUEUE_COUNT = 0x12,
	STATUS = 0x14,
	GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY = 0x1e,
	QUEUE_DESC = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
	COMMON_LEN = 0x38,
};

/* Helpers */

static void drive(struct virtio *v) { pci_intx(&v->pci, v->isr != 0); }

static void interrupt(struct virtio *v, u16 vector, u8 isr)
{
	if (pci_has_msix(&v->pci)) {
		pci_notify(&v->pci, vector);
		return;
	}
	v->isr |= isr;
	drive(v);
}

static u16 vector_or_none(const struct virtio *v, u64 vector)
{
	return vector < v->pci.msix_vectors ? (u16)vector : NO_VECTOR;
}

/* Reads */

static void common_image(struct virtio *v, u8 image[COMMON_LEN])
{
	const struct virtq *q = virtio_selected(v);

	memset(image, 0, COMMON_LEN);
	put_le32(image + OFFERED_SELECT, v->offered_select);
	put_le32(image + OFFERED, virtio_half(v->offered, v->offered_select));
	put_le32(image + ACCEPTED_SELECT, v->accepted_select);
	put_le32(image + ACCEPTED, virtio_half(v->accepted, v->accepted_select));
	put_le16(image + CONFIG_VECTOR, v->config_vector);
	put_le16(image + QUEUE_COUNT, (u16)v->queue_count);
	image[STATUS] = v->status;
	image[GENERATION] = v->generation;
	put_le16(image + QUEUE_SELECT, v->queue_select);
	if (!q)
		return;
	put_le16(image + QUEUE_SIZE, q->size);
	put_le16(image + QUEUE_VECTOR, q->vector);
	put_le16(image + QUEUE_ENABLE, q->enabled);
	put_le16(image + QUEUE_NOTIFY, v->queue_select);
	put_le64(image + QUEUE_DESC, q->desc);
	put_le64(image + QUEUE_DRIVER, q->driver);
	put_le64(image + QUEUE_DEVICE, q->device);
}

static u64 read_bytes(const u8 *from, u64 len, u64 offset, unsigned size)
{
	u64 value = 0;

	if (range_ok(offset, size, len))
		memcpy(&value, from + offset, size);
	return value;
}

/* 4.1.4.5: reading it is what acknowledges the interrupt. */
static u64 read_isr(struct virtio *v)
{
	u8 isr = v->isr;

	v->isr = 0;
	drive(v);
	return isr;
}

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	struct virtio *v = ctx;
	u64 at = offset % PART_LEN;
	u8 image[COMMON_LEN];

	if (bar != MAIN_BAR)
		return 0;
	switch (offset / PART_LEN) {
	case PART_COMMON: common_image(v, image); return read_bytes(image, COMMON_LEN, at, size);
	case PART_ISR: return at ? 0 : read_isr(v);
	case PART_DEVICE: return read_bytes(v->config, v->type->config_len, at, size);
	default: return 0;
	}
}

/* Writes */

static void set_half(u64 *to, unsigned upper, u64 value)
{
	u64 mask = 0xffffffffull << 32 * upper;

	*to = (*to & ~mask) | (value << 32 * upper & mask);
}

static void enable(struct virtio *v, struct virtq *q)
{
	const char *why;

	if (!q->enabled && virtq_enable(q, v->dev.env.memory, v->accepted, &why))
		virtio_broken(v, why);
}

/* A queue's registers are for before it is enabled. `at` and `size` fit the register. */
static void write_queue(struct virtio *v, struct virtq *q, unsigned at, unsigned size, u64 value)
{
	u64 *const areas[] = { &q->desc, &q->driver, &q->device };

	if (at == QUEUE_VECTOR && size == 2)
		q->vector = vector_or_none(v, value);
	else if (q->enabled)
		guest_err(v->dev.name, "write to register 0x%x of an enabled queue", at);
	else if (at == QUEUE_SIZE && size == 2)
		q->size = (u16)min_u64(value, VIRTQ_SIZE_MAX);
	else if (at == QUEUE_ENABLE && size == 2 && value == 1)
		enable(v, q);
	else if (at >= QUEUE_DESC && size == 4 && !(at & 3))
		set_half(areas[(at - QUEUE_DESC) / 8], at / 4 & 1, value);
	else if (at >= QUEUE_DESC && size == 8 && !(at & 7))
		*areas[(at - QUEUE_DESC) / 8] = value;
}

static void write_common(struct virtio *v, unsigned at, unsigned size, u64 value)
{
	struct virtq *q = virtio_selected(v);

	if (at >= QUEUE_SIZE && q && range_ok(at, size, COMMON_LEN)) {
		write_queue(v, q, at, size, value);
		return;
	}
	switch (at | size << 8) {
	case OFFERED_SELECT | 4 << 8: v->offered_select = (u32)value; break;
	case ACCEPTED_SELECT | 4 << 8: v->accepted_select = (u32)value; break;
	case ACCEPTED | 4 << 8:
		if (v->accepted_select <= 1 && !(v->status & STATUS_FEATURES_OK))
			set_half(&v->accepted, v->accepted_select, value);
		break;
	case CONFIG_VECTOR | 2 << 8: v->config_vector = vector_or_none(v, value); break;
	case STATUS | 1 << 8: virtio_write_status(v, (u8)value); break;
	case QUEUE_SELECT | 2 << 8: v->queue_select = (u16)value; break;
	default: guest_err(v->dev.name, "%u-byte write to common register 0x%x", size, at); break;
	}
}

static void write_device(struct virtio *v, unsigned at, unsigned size, u64 value)
{
	if (v->type->config_wrote && range_ok(at, size, v->type->config_len)) {
		memcpy(v->config + at, &value, size);
		v->type->config_wrote(v, at, size);
	}
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct virtio *v = ctx;
	unsigned at = (unsigned)(offset % PART_LEN);

	if (bar != MAIN_BAR)
		return;
	switch (offset / PART_LEN) {
	case PART_COMMON: write_common(v, at, size, value); break;
	case PART_DEVICE: write_device(v, at, size, value); break;
	case PART_NOTIFY: virtio_notified(v, at / NOTIFY_STEP); break;
	default: break;
	}
}

/* The window, 4.1.4.9: its data register stands for the bytes that the others name. */

static bool window_names(const struct virtio *v, u32 *offset, u32 *len)
{
	const u8 *cap = v->pci.config + v->window;

	*offset = get_le32(cap + CAP_OFFSET);
	*len = get_le32(cap + CAP_LENGTH);
	return cap[CAP_BAR] == MAIN_BAR && (*len == 1 || *len == 2 || *len == 4) &&
	       !(*offset & (*len - 1)) && range_ok(*offset, *len, BAR_LEN);
}

static bool is_window_data(const struct virtio *v, unsigned at, unsigned size)
{
	unsigned data = v->window + CAP_EXTRA;

	return at < data + 4 && data < at + size;
}

static void config_reads(void *ctx, unsigned at, unsigned size)
{
	struct virtio *v = ctx;
	u32 offset, len;

	if (is_window_data(v, at, size) && window_names(v, &offset, &len))
		put_le32(v->pci.config + v->window + CAP_EXTRA,
			(u32)bar_read(v, MAIN_BAR, offset, len));
}

static void config_wrote(void *ctx, unsigned at, unsigned size)
{
	struct virtio *v = ctx;
	u32 offset, len;

	if (is_window_data(v, at, size) && window_names(v, &offset, &len))
		bar_write(v, MAIN_BAR, offset, len,
			get_le32(v->pci.config + v->window + CAP_EXTRA) & mask_bytes(len));
}

/* Init */

static u8 *add_part(struct virtio *v, u8 type, unsigned part, u32 len, unsigned extra)
{
	unsigned at = pci_add_capability(&v->pci, PCI_CAP_VENDOR, CAP_SIZE + extra);
	u8 *cap = v->pci.config + at;

	cap[CAP_LEN] = (u8)(CAP_SIZE + extra);
	cap[CAP_TYPE] = type;
	cap[CAP_BAR] = MAIN_BAR;
	put_le32(cap + CAP_OFFSET, part * PART_LEN);
	put_le32(cap + CAP_LENGTH, len);
	return cap;
}

static void add_window(struct virtio *v)
{
	u8 *cap = add_part(v, CAP_WINDOW, 0, 0, 4);
	unsigned at = (unsigned)(cap - v->pci.config);

	v->window = at;
	cap[CAP_BAR] = 0;
	v->pci.writable[at + CAP_BAR] = 0xff;
	put_le32(v->pci.writable + at + CAP_OFFSET, ~0u);
	put_le32(v->pci.writable + at + CAP_LENGTH, ~0u);
	put_le32(v->pci.writable + at + CAP_EXTRA, ~0u);
}

static int init(struct virtio *v, struct err *err)
{
	static const struct pci_ops ops = { bar_read, bar_write, config_reads, config_wrote };
	const struct pci_identity who = {
		.vendor = VENDOR,
		.device = (u16)(DEVICE_BASE + v->type->id),
		.subvendor = VENDOR,
		.subdevice = (u16)(DEVICE_BASE + v->type->id),
		.class = v->type->class,
		.revision = REVISION,
		.intx = true,
	};

	if (!v->dev.env.pci || !v->dev.env.memory || !v->dev.env.clock)
		return err_set(err, -EINVAL, "no PCI bus, memory or clock");
	pci_init(&v->pci, v->dev.name, &who, &ops, v);
	pci_add_bar(&v->pci, MSIX_BAR, PCI_BAR_MEMORY, PART_LEN);
	pci_add_bar(&v->pci, MAIN_BAR, PCI_BAR_MEMORY64, BAR_LEN);
	/* One vector a queue, and one for the configuration. */
	pci_add_msix(&v->pci, v->type->queues + 1, MSIX_BAR, 0, MSIX_PBA);
	add_part(v, CAP_COMMON, PART_COMMON, COMMON_LEN, 0);
	put_le32(add_part(v, CAP_NOTIFY, PART_NOTIFY, v->type->queues * NOTIFY_STEP, 4) + CAP_EXTRA,
		NOTIFY_STEP);
	pci_add_doorbells(&v->pci, MAIN_BAR, PART_NOTIFY * PART_LEN, NOTIFY_STEP, v->type->queues);
	add_part(v, CAP_ISR, PART_ISR, 1, 0);
	if (v->type->config_len)
		add_part(v, CAP_DEVICE, PART_DEVICE, v->type->config_len, 0);
	add_window(v);
	return pci_attach(v->dev.env.pci, &v->pci, v->dev.env.slot, err);
}

static void fini(struct virtio *v) { pci_detach(&v->pci); }
static void power_on(struct virtio *v) { pci_reset(&v->pci); }
static void loaded(struct virtio *v) { pci_loaded(&v->pci); }
static bool may_access(const struct virtio *v) { return pci_is_master(&v->pci); }

const struct virtio_transport virtio_pci = {
	.init = init,
	.fini = fini,
	.power_on = power_on,
	.loaded = loaded,
	.drive = drive,
	.interrupt = interrupt,
	.may_access = may_access,
};
