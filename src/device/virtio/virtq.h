/*
 * Virtqueues (virtio 1.2 chapter 2.6 to 2.8): the only code that follows what a driver has written
 * into its rings. Split and packed rings, indirect descriptors, event suppression.
 *
 * A chain is taken with virtq_pop(): every descriptor is copied once and the copy is checked; what
 * it says is turned into host memory there and then. A chain has at most as many descriptors as
 * the queue has entries (2.6.5.3.1), so neither loops nor tables of indirect descriptors make the
 * walk longer. Anything else than a chain as the specification has it is an error, after which the
 * device needs a reset. The chain is given back with virtq_push(), in any order.
 *
 * Rings are host pointers while a queue is enabled: memory slots do not change while the machine
 * runs. Stores to guest memory are reported to it (memory/memory.h).
 */
#pragma once
#include "memory/memory.h"
#include "state/field.h"
#include <sys/uio.h>

#define VIRTQ_SIZE_MAX 256u

/* The features that rings depend on, as bits of those that were negotiated (chapter 6). */
#define VIRTIO_F_INDIRECT  BIT64(28)
#define VIRTIO_F_EVENT_IDX BIT64(29)
#define VIRTIO_F_VERSION_1 BIT64(32)
#define VIRTIO_F_PACKED	   BIT64(34)
#define VIRTQ_FEATURES	   (VIRTIO_F_INDIRECT | VIRTIO_F_EVENT_IDX | VIRTIO_F_PACKED)

struct virtq {
	u64 desc, driver, device; /* guest-physical addresses of the three areas */
	u16 size;		  /* entries */
	u16 vector;		  /* transport's */
	bool enabled;
	bool avail_wrap, used_wrap; /* packed */
	bool told_valid;
	u16 next_avail, next_used; /* split: free-running; packed: below size */
	u16 told;		   /* next_used when the driver was interrupted last */
	bool pushed;		   /* since the driver was asked whether it wants to know */
	/* Derived while enabled */
	u64 features;
	u8 *desc_at, *driver_at, *device_at;
};

struct virtq_chain {
	u16 id;		  /* split: the head's index; packed: the buffer's */
	u16 slots;	  /* packed: descriptors in the ring */
	unsigned out, in; /* segments: what the device reads comes first, then what it writes */
	u64 out_len, in_len;
	struct iovec iov[VIRTQ_SIZE_MAX];
	u64 at[VIRTQ_SIZE_MAX]; /* guest-physical */
};

extern const struct field virtq_fields[];

void virtq_reset(struct virtq *q);
/* Begins to work with rings at the addresses that were set. -EINVAL with why. */
NODISCARD int virtq_enable(struct virtq *q, const struct memory *m, u64 features, const char **why);
/* 1: a chain; 0: none; -EINVAL with why. */
NODISCARD int virtq_pop(
	struct virtq *q, const struct memory *m, struct virtq_chain *c, const char **why);
bool virtq_empty(const struct virtq *q);
/* Chains that were popped since the mark was taken, and not pushed, are in the queue again. */
struct virtq_mark {
	u16 next_avail;
	bool avail_wrap;
};
struct virtq_mark virtq_mark(const struct virtq *q);
void virtq_rewind(struct virtq *q, struct virtq_mark mark);
/* `written` bytes of the chain's in-segments, from their beginning, hold data. */
void virtq_push(struct virtq *q, struct memory *m, u16 id, u16 slots, u32 written);
/* Several chains of which the driver must see all or none; at most VIRTQ_SIZE_MAX. */
struct virtq_used {
	u16 id, slots;
	u32 written;
};
void virtq_push_all(struct virtq *q, struct memory *m, const struct virtq_used *used, unsigned n);
/* Asks to be notified of what comes next; true: something has come in the meantime. */
NODISCARD bool virtq_listen(struct virtq *q, struct memory *m);
/* After pushes: the driver wants an interrupt. */
bool virtq_wants_interrupt(struct virtq *q);

/* Copies from the out-segments or into the in-segments; how many bytes there were. */
size_t virtq_read(const struct virtq_chain *c, u64 offset, void *buf, size_t len);
size_t virtq_write(
	const struct virtq_chain *c, struct memory *m, u64 offset, const void *buf, size_t len);
/* The device has written to the in-segments itself. */
void virtq_written(const struct virtq_chain *c, struct memory *m, u64 len);
