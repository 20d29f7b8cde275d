/* The world around a device under fuzz: memory, a PCI bus, a disk whose requests end later, well or
 * badly, a network. */
#pragma once
#include "base/bits.h"
#include "base/must.h"
#include "device/device.h"

#define WORLD_RAM  (256 * KiB)
#define WORLD_DISK MiB

struct input {
	const u8 *at, *end;
};

struct world {
	struct guest_clock clock;
	struct bus bus;
	struct pci_bus pci;
	struct memory *memory;
	struct device_env env;
	struct device *dev;
	struct block_request *requests; /* of the disk, under way */
};

static inline u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static inline u64 take(struct input *in, unsigned bytes)
{
	u64 v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (u64)take8(in) << (8 * i);
	return v;
}

static inline void poke(struct world *w, u64 at, const void *data, u64 len)
{
	(void)!memory_write(w->memory, gpa(at), data, len);
}

/* The i-th request of those under way ends. */
static inline void world_disk_end(struct world *w, unsigned i, int rc)
{
	struct block_request **list = &w->requests, *r;

	while (*list && (*list)->next && i--)
		list = &(*list)->next;
	r = *list;
	if (!r)
		return;
	*list = r->next;
	for (unsigned n = 0; !rc && r->op == BLOCK_READ && n < r->iovcnt; n++)
		memset(r->iov[n].iov_base, 0xd5, r->iov[n].iov_len);
	r->done(r, rc);
}

static inline struct block_info world_disk_info(void *ctx)
{
	return (struct block_info){ .size = WORLD_DISK };
}

static inline void world_disk_submit(void *ctx, struct block_request *r)
{
	struct block_request **list = &((struct world *)ctx)->requests;
	volatile u8 sum = 0;
	u64 len = 0;

	must(range_ok(r->offset, r->len, WORLD_DISK), "request outside of the disk");
	must(r->iovcnt <= 1024, "%u segments", r->iovcnt);
	for (unsigned i = 0; i < r->iovcnt; len += r->iov[i++].iov_len)
		if (r->op == BLOCK_WRITE && r->iov[i].iov_len)
			sum = (u8)(sum + *(const u8 *)r->iov[i].iov_base);
	must(!r->iovcnt || len == r->len, "segments and length differ");
	while (*list)
		list = &(*list)->next;
	r->next = NULL;
	*list = r;
}

static inline void world_disk_kick(void *ctx) {}

static inline void world_disk_drain(void *ctx)
{
	struct world *w = ctx;

	while (w->requests)
		world_disk_end(w, 0, 0);
}

static inline void world_net_send(void *ctx, const u8 *frame, size_t len)
{
	volatile u8 sum = 0;

	must(len <= 65536 + 64, "a frame of %zu bytes", len);
	for (size_t i = 0; i < len; i++)
		sum = (u8)(sum + frame[i]);
}

static inline void world_net_room(void *ctx)
{
	struct world *w = ctx;
	static const u8 frame[1514];

	(void)w->dev->class->input(w->dev, frame, sizeof(frame));
}

static inline void world_msi(void *ctx, u64 address, u32 data) {}
static inline void world_line(void *ctx, unsigned n, bool level) {}

/* Made once: it costs more than most inputs. */
static inline struct memory *world_memory(void)
{
	static struct memory memory;

	if (!memory.region_count) {
		memory_init(&memory);
		memory_add_region(&memory, "ram", WORLD_RAM, false, NULL);
		must(!memory_add_slot(&memory, &memory.regions[0], gpa(0), 0, WORLD_RAM, NULL),
			"memory");
	}
	memset(memory.regions[0].host, 0, WORLD_RAM);
	return &memory;
}

static inline void world_open(struct world *w, const struct device_class *class)
{
	static const struct disk_ops disk = { world_disk_info, world_disk_submit, world_disk_kick,
		world_disk_drain };
	static const struct net_ops net = { true, world_net_send, world_net_room };

	*w = (struct world){ .memory = world_memory() };
	bus_init(&w->bus);
	pci_bus_init(&w->pci, &w->bus, (struct msi_sink){ world_msi, w });
	for (unsigned i = 0; i < PCI_LINKS; i++)
		w->pci.links[i] = (struct irq_line){ world_line, w, i };
	clock_init(&w->clock);
	w->env = (struct device_env){
		.memory = w->memory,
		.clock = &w->clock,
		.msi = { world_msi, w },
		.pci = &w->pci,
		.slot = PCI_ANY_SLOT,
		.machine = w,
		.net = &net,
		.net_ctx = w,
		.disk = &disk,
		.disk_ctx = w,
	};
	w->dev = device_new(class, class->name, &w->env, NULL);
	must(w->dev, "class %s", class->name);
}

static inline void world_close(struct world *w)
{
	device_free(w->dev);
	must(!w->requests, "a request is left");
	must(!w->clock.timers, "a timer is left");
	must(!w->bus.count[BUS_PORT] && !w->bus.count[BUS_MMIO], "a window is left");
}

/* Saved and loaded again, perhaps damaged. */
static inline void world_load(struct world *w, struct input *in)
{
	struct blob saved = { 0 };
	struct err err = { 0 };
	u8 edits = take8(in) % 4;

	world_disk_drain(w); /* as a machine does */
	must(!device_save(w->dev, &saved), "save");
	for (unsigned i = 0; i < edits; i++) {
		size_t at = take(in, 3) % saved.len;

		saved.data[at] = take8(in);
	}
	if (device_load(w->dev, saved.data, saved.len, NULL, &err) < 0)
		must(edits && err.text[0], "refused: %s", err.text);
	blob_free(&saved);
}
