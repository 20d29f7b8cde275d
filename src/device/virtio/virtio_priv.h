/* Between what all virtio devices do and the transport that registers come in by. */
#pragma once
#include "device/virtio/virtio.h"

#define STATUS_ACKNOWLEDGE 0x01u
#define STATUS_DRIVER	   0x02u
#define STATUS_DRIVER_OK   0x04u
#define STATUS_FEATURES_OK 0x08u
#define STATUS_NEEDS_RESET 0x40u
#define STATUS_FAILED	   0x80u

#define ISR_QUEUE  0x1u
#define ISR_CONFIG 0x2u
#define NO_VECTOR  0xffffu

/* virtio.c */
void virtio_reset(struct virtio *v); /* by the driver */
void virtio_write_status(struct virtio *v, u8 status);
void virtio_notified(struct virtio *v, unsigned queue);
struct virtq *virtio_selected(struct virtio *v); /* NULL: there is none */

/* The part of the features that the driver has selected: there are two. */
static inline u32 virtio_half(u64 features, u32 select)
{
	return select > 1 ? 0 : (u32)(features >> 32 * select);
}

/* How registers and interrupts reach a driver. */
struct virtio_transport {
	int (*init)(struct virtio *v, struct err *err);
	void (*fini)(struct virtio *v);
	void (*power_on)(struct virtio *v);
	void (*loaded)(struct virtio *v);
	void (*drive)(struct virtio *v); /* the wire, from isr */
	/* vector: a message, or ISR's bits where there are none */
	void (*interrupt)(struct virtio *v, u16 vector, u8 isr);
	bool (*may_access)(const struct virtio *v); /* memory */
};
extern const struct virtio_transport virtio_pci, virtio_mmio;
