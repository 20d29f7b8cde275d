/*
 * A small virtio driver for tests: sets a device up through its PCI registers, lays descriptors
 * into split or packed rings in guest memory, and looks at what comes back.
 */
#pragma once
#include "device/virtio/virtio.h"
#include "rig.h"

#define BAR_MSIX    0xc0000000ull
#define BAR_MAIN    0xd0000000ull
#define COMMON(reg) (BAR_MAIN + (reg))
#define ISR	    (BAR_MAIN + 0x1000)
#define CONFIG(reg) (BAR_MAIN + 0x2000 + (reg))
#define NOTIFY(q)   (BAR_MAIN + 0x3000 + 4 * (q))

#define RINGS(q) (0x10000ull + 0x4000 * (q)) /* descriptors; +0x1000 driver, +0x2000 device */
#define QUEUE	 16u
#define BUFFERS	 0x80000ull
#define VECTOR	 0x40u

enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };

struct buffer {
	u64 at;
	u32 len;
	u16 flags;
};

struct driver {
	struct rig *r;
	bool packed;
	u16 next[VIRTIO_QUEUES_MAX], seen[VIRTIO_QUEUES_MAX]; /* ring positions */
	bool wrap[VIRTIO_QUEUES_MAX], seen_wrap[VIRTIO_QUEUES_MAX];
};

static inline u64 get(struct rig *r, u64 at, unsigned size)
{
	return bus_read(&r->bus, BUS_MMIO, at, size);
}
static inline void set(struct rig *r, u64 at, unsigned size, u64 value)
{
	bus_write(&r->bus, BUS_MMIO, at, size, value);
}
static inline void poke(struct rig *r, u64 at, const void *data, u64 len)
{
	assert_true(memory_write(&r->memory, gpa(at), data, len));
}
static inline void peek(struct rig *r, u64 at, void *data, u64 len)
{
	assert_true(memory_read(&r->memory, gpa(at), data, len));
}
static inline u16 peek16(struct rig *r, u64 at)
{
	u16 v;

	peek(r, at, &v, 2);
	return v;
}
static inline void poke16(struct rig *r, u64 at, u16 v) { poke(r, at, &v, 2); }

/* As far as the driver of a PCI function comes before it looks at virtio. */
static inline void map_bars(struct rig *r)
{
	pci_config_write(&r->pci, 0, PCI_BAR0, 4, (u32)BAR_MSIX);
	pci_config_write(&r->pci, 0, PCI_BAR0 + 16, 4, (u32)BAR_MAIN);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static inline u64 offered(struct rig *r)
{
	u64 features;

	set(r, COMMON(0), 4, 0);
	features = get(r, COMMON(4), 4);
	set(r, COMMON(0), 4, 1);
	return features | get(r, COMMON(4), 4) << 32;
}

static inline void accept_features(struct rig *r, u64 features)
{
	set(r, COMMON(8), 4, 0);
	set(r, COMMON(0xc), 4, (u32)features);
	set(r, COMMON(8), 4, 1);
	set(r, COMMON(0xc), 4, features >> 32);
}

static inline u8 status(struct rig *r) { return (u8)get(r, COMMON(0x14), 1); }

static inline void use_msix(struct rig *r)
{
	pci_config_write(&r->pci, 0, 0x42, 2, 0x8000);
	for (unsigned i = 0; i < 4; i++) {
		set(r, BAR_MSIX + 16 * i, 8, 0xfee00000);
		set(r, BAR_MSIX + 16 * i + 8, 8, VECTOR + i);
	}
	set(r, COMMON(0x10), 2, 0);
}

static inline void open_queue(struct rig *r, unsigned q)
{
	set(r, COMMON(0x16), 2, q);
	set(r, COMMON(0x18), 2, QUEUE);
	set(r, COMMON(0x1a), 2, q + 1);
	set(r, COMMON(0x20), 4, RINGS(q));
	set(r, COMMON(0x24), 4, 0);
	set(r, COMMON(0x28), 8, RINGS(q) + 0x1000);
	set(r, COMMON(0x30), 8, RINGS(q) + 0x2000);
	set(r, COMMON(0x1c), 2, 1);
}

/* 3.1.1, with these features if they are offered. */
static inline struct driver start(struct rig *r, u64 features, unsigned queues)
{
	static const u8 zeroes[0x4000];
	struct driver d = { .r = r, .packed = features & VIRTIO_F_PACKED };

	map_bars(r);
	set(r, COMMON(0x14), 1, 0);
	set(r, COMMON(0x14), 1, 1);
	set(r, COMMON(0x14), 1, 3);
	accept_features(r, (features & offered(r)) | VIRTIO_F_VERSION_1);
	set(r, COMMON(0x14), 1, 11);
	assert_int_equal(status(r), 11);
	use_msix(r);
	for (unsigned q = 0; q < queues; q++) {
		poke(r, RINGS(q), zeroes, sizeof(zeroes));
		open_queue(r, q);
		d.wrap[q] = d.seen_wrap[q] = true;
	}
	set(r, COMMON(0x14), 1, 15);
	assert_int_equal(status(r), 15);
	return d;
}

static inline void lay(struct rig *r, u64 table, unsigned i, const struct buffer *b, u16 last)
{
	u8 bytes[16];

	put_le64(bytes, b->at);
	put_le32(bytes + 8, b->len);
	put_le16(bytes + 12, b->flags); /* split: flags, next; packed: id, flags */
	put_le16(bytes + 14, last);
	poke(r, table + 16ull * i, bytes, 16);
}

/* Makes a chain available; split: in descriptors `count` positions from entry 0 of the ring on. */
static inline void offer(struct driver *d, unsigned q, const struct buffer *b, unsigned count)
{
	u64 rings = RINGS(q);
	u16 head = d->next[q] % QUEUE;

	for (unsigned i = 0; i < count; i++) {
		u16 at = (u16)((head + i) % QUEUE);
		u16 flags = (u16)(b[i].flags | (i + 1 < count ? NEXT : 0));
		struct buffer laid = { b[i].at, b[i].len, flags };

		if (d->packed) {
			bool wrap = at < head ? !d->wrap[q] : d->wrap[q];

			laid.flags = 7; /* the buffer's id */
			lay(d->r, rings, at, &laid, flags | (wrap ? 0x80 : 0x8000));
		} else {
			lay(d->r, rings, at, &laid, (u16)((at + 1) % QUEUE));
		}
	}
	if (d->packed) {
		d->wrap[q] = head + count >= QUEUE ? !d->wrap[q] : d->wrap[q];
		d->next[q] = (u16)((head + count) % QUEUE);
		return;
	}
	u16 idx = peek16(d->r, rings + 0x1002);

	poke16(d->r, rings + 0x1004 + 2 * (idx % QUEUE), head);
	poke16(d->r, rings + 0x1002, (u16)(idx + 1));
	d->next[q] = (u16)((head + count) % QUEUE);
}

static inline void kick(struct driver *d, unsigned q) { set(d->r, NOTIFY(q), 2, q); }

/* The next used chain: true, and how much was written. `slots`: how many descriptors it had. */
static inline bool collect(struct driver *d, unsigned q, unsigned slots, u32 *written)
{
	u64 rings = RINGS(q);
	u8 used[16];

	if (d->packed) {
		peek(d->r, rings + 16ull * d->seen[q], used, 16);
		u16 flags = get_le16(used + 14);

		if (!!(flags & 0x80) != d->seen_wrap[q] || !!(flags & 0x8000) != d->seen_wrap[q])
			return false;
		assert_int_equal(get_le16(used + 12), 7);
		*written = get_le32(used + 8);
		if (d->seen[q] + slots >= QUEUE)
			d->seen_wrap[q] = !d->seen_wrap[q];
		d->seen[q] = (u16)((d->seen[q] + slots) % QUEUE);
		return true;
	}
	if (peek16(d->r, rings + 0x2002) == d->seen[q])
		return false;
	peek(d->r, rings + 0x2004 + 8 * (d->seen[q] % QUEUE), used, 8);
	*written = get_le32(used + 4);
	d->seen[q]++;
	return true;
}
