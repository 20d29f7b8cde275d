/*
 * Virtio over memory-mapped registers (virtio 1.2 4.2), version 2: one page of registers and one
 * level-triggered interrupt, of which the guest hears by ACPI (LNRO0005). A class of its own has
 * the page as its window and the functions below; everything else of the device is the same.
 */
#include "device/virtio/mmio.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio_priv.h"
#include <errno.h>

#define MAGIC	0x74726976u
#define VERSION 2u
#define VENDOR	0x1af4u

/* 4.2.2 */
enum mmio {
	MAGIC_VALUE = 0x00,
	VERSION_ = 0x04,
	DEVICE_ID = 0x08,
	VENDOR_ID = 0x0c,
	OFFERED = 0x10,
	OFFERED_SELECT = 0x14,
	ACCEPTED = 0x20,
	ACCEPTED_SELECT = 0x24,
	QUEUE_SELECT = 0x30,
	QUEUE_MAX = 0x34,
	QUEUE_SIZE = 0x38,
	QUEUE_READY = 0x44,
	QUEUE_NOTIFY = 0x50,
	ISR = 0x60,
	ISR_ACK = 0x64,
	STATUS = 0x70,
	QUEUE_DESC = 0x80,
	QUEUE_DRIVER = 0x90,
	QUEUE_DEVICE = 0xa0,
	SHM_LEN = 0xb0,
	SHM_LEN_HIGH = 0xb4,
	SHM_BASE = 0xb8,
	SHM_BASE_HIGH = 0xbc,
	GENERATION = 0xfc,
	CONFIG = 0x100,
};

static void set_half(u64 *to, unsigned upper, u32 value)
{
	*to = upper ? (*to & 0xffffffff) | (u64)value << 32 : (*to & ~0xffffffffull) | value;
}

/* ---- transport ---- */

static int mmio_init(struct virtio *v, struct err *err)
{
	if (!v->dev.env.memory || !v->dev.env.clock)
		return err_set(err, -EINVAL, "no memory or clock");
	return 0;
}

static void mmio_drive(struct virtio *v) { irq_set(&v->dev.env.lines[0], v->isr != 0); }

static void mmio_interrupt(struct virtio *v, u16 vector, u8 isr)
{
	v->isr |= isr;
	mmio_drive(v);
}

static bool mmio_may(const struct virtio *v) { return true; }
static void mmio_nothing(struct virtio *v) {}

const struct virtio_transport virtio_mmio = {
	.init = mmio_init,
	.fini = mmio_nothing,
	.power_on = mmio_nothing,
	.loaded = mmio_nothing,
	.drive = mmio_drive,
	.interrupt = mmio_interrupt,
	.may_access = mmio_may,
};

/* ---- reads ---- */

static u32 read_register(struct virtio *v, unsigned at)
{
	const struct virtq *q = virtio_selected(v);

	switch (at) {
	case MAGIC_VALUE: return MAGIC;
	case VERSION_: return VERSION;
	case DEVICE_ID: return v->type->id;
	case VENDOR_ID: return VENDOR;
	case OFFERED: return virtio_half(v->offered, v->offered_select);
	case QUEUE_MAX: return q ? VIRTQ_SIZE_MAX : 0;
	case QUEUE_READY: return q && q->enabled;
	case ISR: return v->isr;
	case STATUS: return v->status;
	/* 4.2.2.1: no shared memory is as long as this. */
	case SHM_LEN:
	case SHM_LEN_HIGH:
	case SHM_BASE:
	case SHM_BASE_HIGH: return ~0u;
	case GENERATION: return v->generation;
	default: return 0;
	}
}

u64 virtio_mmio_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct virtio *v = virtio_of(d);
	u64 value = 0;

	if (offset >= CONFIG) {
		if (range_ok(offset - CONFIG, size, v->type->config_len))
			memcpy(&value, v->config + (offset - CONFIG), size);
		return value;
	}
	return size == 4 && !(offset & 3) ? read_register(v, (unsigned)offset) : 0;
}

/* ---- writes ---- */

/* 4.2.2.2: a queue that is made not ready is not used any more; what was taken of it is forgotten
 * with the device's reset only, so that is what it takes. */
static void set_ready(struct virtio *v, struct virtq *q, bool ready)
{
	const char *why;

	if (ready && !q->enabled && virtq_enable(q, v->dev.env.memory, v->accepted, &why))
		virtio_broken(v, why);
	else if (!ready && q->enabled)
		virtio_broken(v, "a queue is made not ready while it is used");
}

static void write_queue(struct virtio *v, unsigned at, u32 value)
{
	struct virtq *q = virtio_selected(v);

	if (!q)
		return;
	if (at == QUEUE_READY)
		set_ready(v, q, value & 1);
	else if (q->enabled)
		guest_err(v->dev.name, "write to register 0x%x of an enabled queue", at);
	else if (at == QUEUE_SIZE)
		q->size = (u16)min_u64(value, VIRTQ_SIZE_MAX);
	else
		set_half(at < QUEUE_DRIVER   ? &q->desc
			 : at < QUEUE_DEVICE ? &q->driver
					     : &q->device,
			at & 4, value);
}

static void write_register(struct virtio *v, unsigned at, u32 value)
{
	switch (at) {
	case OFFERED_SELECT: v->offered_select = value; break;
	case ACCEPTED_SELECT: v->accepted_select = value; break;
	case ACCEPTED:
		if (v->accepted_select <= 1 && !(v->status & STATUS_FEATURES_OK))
			set_half(&v->accepted, v->accepted_select, value);
		break;
	case QUEUE_SELECT: v->queue_select = (u16)min_u64(value, 0xffff); break;
	case QUEUE_NOTIFY: virtio_notified(v, value); break;
	case ISR_ACK:
		v->isr &= (u8)~value;
		mmio_drive(v);
		break;
	case STATUS: virtio_write_status(v, (u8)value); break;
	case QUEUE_SIZE:
	case QUEUE_READY:
	case QUEUE_DESC:
	case QUEUE_DESC + 4:
	case QUEUE_DRIVER:
	case QUEUE_DRIVER + 4:
	case QUEUE_DEVICE:
	case QUEUE_DEVICE + 4: write_queue(v, at, value); break;
	default: guest_err(v->dev.name, "write to register 0x%x", at); break;
	}
}

void virtio_mmio_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct virtio *v = virtio_of(d);

	if (offset >= CONFIG) {
		if (v->type->config_wrote && range_ok(offset - CONFIG, size, v->type->config_len)) {
			memcpy(v->config + (offset - CONFIG), &value, size);
			v->type->config_wrote(v, (unsigned)(offset - CONFIG), size);
		}
		return;
	}
	if (size == 4 && !(offset & 3))
		write_register(v, (unsigned)offset, (u32)value);
}
