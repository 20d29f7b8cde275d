/*
 * Virtio devices (OASIS virtio 1.2, without the legacy interface) over PCI or MMIO. What all have
 * in common is here: features, status, queues, configuration space, interrupts. A kind of device is
 * a struct virtio_type and the device class that names it.
 *
 * A device's struct starts with struct virtio; its class's functions are the virtio_*() below, its
 * init calls virtio_init(), and its state[] has a row with virtio_fields.
 *
 * A driver that breaks the rules of its rings gets DEVICE_NEEDS_RESET, and nothing more is taken
 * from any queue until it resets the device (2.1.1).
 *
 * Threads: with the machine's lock held.
 */
#pragma once
#include "device/device.h"
#include "device/virtio/virtq.h"

#define VIRTIO_QUEUES_MAX 10u
#define VIRTIO_CONFIG_MAX 64u

struct virtio;
struct virtio_transport;

struct virtio_type {
	u16 id;		 /* chapter 5 */
	u32 class;	 /* PCI's */
	u64 features;	 /* offered, besides those of rings and VERSION_1 */
	unsigned queues; /* at most */
	unsigned config_len;
	u32 waiting; /* queues whose chains are for what comes from elsewhere, a bit each */
	/* What was accepted is settled, was loaded, or (none) is forgotten. May be NULL. */
	void (*agreed)(struct virtio *v);
	/* The driver has something in this queue. All may be NULL. */
	void (*notify)(struct virtio *v, unsigned queue);
	void (*config_wrote)(struct virtio *v, unsigned at, unsigned size);
	/* Chains that were taken are forgotten, before the queues are. */
	void (*reset)(struct virtio *v);
};

struct virtio {
	struct device dev;
	const struct virtio_type *type;
	const struct virtio_transport
		*transport; /* mmio.c where the class has windows, else pci.c */
	u64 features; /* offered besides those of rings: the type's, until the device says otherwise
		       */
	u64 offered;
	unsigned queue_count; /* the type's, until the device says otherwise */
	u32 waiting;	      /* the same */
	bool packed;	      /* property: offer packed rings */
	u64 accepted;
	u32 offered_select, accepted_select;
	u16 queue_select, config_vector;
	u8 status, isr, generation;
	u32 budget; /* chains that may still be taken in this turn */
	u16 later;  /* queues that have had their turn and want another one */
	struct clock_timer turn;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	u8 config[VIRTIO_CONFIG_MAX];
	struct pci_function pci;
	unsigned
		window; /* offset of the capability that reaches BARs through configuration space */
};

/* In a class with properties of its own these rows come first. */
#define VIRTIO_PROPS(type)                                                                   \
	{                                                                                    \
		"packed", "offer packed rings", PROP_BOOL, offsetof(type, v.packed), 0, 0, 1 \
	}

extern const struct field virtio_fields[];

NODISCARD int virtio_init(struct virtio *v, const struct virtio_type *type, struct err *err);
void virtio_fini(struct device *d);
void virtio_power_on(struct device *d);
void virtio_loaded(struct device *d);

/* For a kind of device. */
static inline struct virtio *virtio_of(struct device *d)
{
	return container_of(d, struct virtio, dev);
}
/* A chain from a queue: true. False: there is none, or the driver is told to reset the device. */
NODISCARD bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *c);
/* Gives one back; virtio_interrupt() once after the last of several. */
void virtio_push(struct virtio *v, unsigned queue, u16 id, u16 slots, u32 written);
void virtio_interrupt(struct virtio *v, unsigned queue);
/* All chains of a queue in `waiting` have been popped, and it wants another one: notify() is called
 * when there is. true: there is already. */
NODISCARD bool virtio_await(struct virtio *v, unsigned queue);
void virtio_config_changed(struct virtio *v);
void virtio_broken(struct virtio *v, const char *why);
static inline bool virtio_has(const struct virtio *v, u64 feature) { return v->accepted & feature; }
