/*
 * Virtio devices under a driver that writes into its rings what it likes, when it likes. The
 * input's first byte chooses the device; what follows is a program of operations: ring entries
 * that are nearly right, memory that changes, registers, resets, saves. Whatever happens, the
 * device must neither crash nor hang nor touch what is not guest memory.
 */
#include "base/bits.h"
#include "base/must.h"
#include "device/virtio/balloon.h"
#include "device/virtio/blk.h"
#include "device/virtio/console.h"
#include "device/virtio/fs.h"
#include "device/virtio/net.h"
#include "device/virtio/rng.h"
#include "device/virtio/virtio.h"
#include "device/virtio/vsock.h"
#include <stdlib.h>

#define RAM    (256 * KiB)
#define BAR    0xd0000000ull
#define QUEUES 5u
#define RING(q)                                                                          \
	(0x4000ull * (q)) /* descriptors; +0x1000 driver, +0x2000 device; +0x3000 tables \
			   */
#define BUFFERS 0x20000ull
#define SIZE	16u

struct input {
	const u8 *at, *end;
};

struct bench {
	struct guest_clock clock;
	struct bus bus;
	struct pci_bus pci;
	struct memory *memory;
	struct device_env env;
	struct device *dev;
	struct block_request *requests; /* of the disk, under way */
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static const struct device_class *const classes[] = {
	&virtio_rng_class,
	&virtio_blk_class,
	&virtio_net_class,
	&virtio_vsock_class,
	&virtio_balloon_class,
	&virtio_fs_class,
	&virtio_console_class,
};

static u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static u64 take(struct input *in, unsigned bytes)
{
	u64 v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (u64)take8(in) << (8 * i);
	return v;
}

/* ---- the outside world ---- */

static void on_msi(void *ctx, u64 address, u32 data) {}
static void on_line(void *ctx, unsigned n, bool level) {}

static bool random_bytes(void *ctx, void *buf, size_t len)
{
	memset(buf, 0x5a, len);
	return true;
}

/* A disk whose requests end later, well or badly. */
#define DISK_SIZE MiB

static void hold_request(struct block_request **list, struct block_request *r)
{
	while (*list)
		list = &(*list)->next;
	r->next = NULL;
	*list = r;
}

static void end_request(struct block_request **list, int rc)
{
	struct block_request *r = *list;

	if (!r)
		return;
	*list = r->next;
	for (unsigned i = 0; !rc && r->op == BLOCK_READ && i < r->iovcnt; i++)
		memset(r->iov[i].iov_base, 0xd5, r->iov[i].iov_len);
	r->done(r, rc);
}

static struct block_info disk_info(void *ctx) { return (struct block_info){ .size = DISK_SIZE }; }

static void disk_submit(void *ctx, struct block_request *r)
{
	volatile u8 sum = 0;
	u64 len = 0;

	must(range_ok(r->offset, r->len, DISK_SIZE), "request outside of the disk");
	for (unsigned i = 0; i < r->iovcnt; len += r->iov[i++].iov_len)
		if (r->op == BLOCK_WRITE && r->iov[i].iov_len)
			sum = (u8)(sum + *(const u8 *)r->iov[i].iov_base);
	must(!r->iovcnt || len == r->len, "segments and length differ");
	hold_request(&((struct bench *)ctx)->requests, r);
}

static void disk_kick(void *ctx) {}

static void disk_drain(void *ctx)
{
	struct bench *b = ctx;

	while (b->requests)
		end_request(&b->requests, 0);
}

static const struct disk_ops disk = { disk_info, disk_submit, disk_kick, disk_drain };

/* ---- a shared folder: who has it answers later, or has gone ---- */

static struct {
	u8 buffers[SHARED_SLOTS][SHARED_BUFFER];
	u32 asked, room[SHARED_SLOTS];
	bool gone;
} folder;

static u8 *folder_buffer(void *ctx, unsigned slot) { return folder.buffers[slot]; }

static bool folder_ask(void *ctx, unsigned slot, u32 len, u32 room)
{
	must(slot < SHARED_SLOTS && !(folder.asked & BIT(slot)), "slot %u is taken", slot);
	must(len <= SHARED_BUFFER && room <= SHARED_BUFFER, "%u bytes, %u bytes", len, room);
	folder.room[slot] = room;
	folder.asked |= folder.gone ? 0 : BIT(slot);
	return !folder.gone;
}

static void folder_reset(void *ctx) {}

static const struct shared_ops shared = { folder_buffer, folder_ask, folder_reset };

/* ---- ports whose other ends take what they like ---- */

static struct {
	u8 appetite;
} ends;

static size_t port_write(void *ctx, unsigned port, const u8 *data, size_t len)
{
	volatile u8 sum = 0;
	size_t taken = len * (ends.appetite % 5) / 4;

	must(port < VIRTIO_CONSOLE_PORTS, "port %u", port);
	for (size_t i = 0; i < len; i++)
		sum = (u8)(sum + data[i]);
	return taken < len ? taken : len;
}

static void port_room(void *ctx, unsigned port)
{
	static const u8 bytes[100];

	must(virtio_console_input(((struct bench *)ctx)->dev, port, bytes, sizeof(bytes)) <=
			sizeof(bytes),
		"took more than given");
}

static const struct port_ops ports = { port_write, port_room };

/* ---- a network ---- */

static void net_send(void *ctx, const u8 *frame, size_t len)
{
	volatile u8 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (u8)(sum + frame[i]);
}

static void net_room(void *ctx)
{
	struct bench *b = ctx;
	static const u8 frame[1514];

	(void)b->dev->class->input(b->dev, frame, sizeof(frame));
}

static void net_offload(void *ctx, bool heads, unsigned offloads) {}

/* The second kind passes heads on. */
static const struct net_ops nets[] = { { true, net_send, net_room },
	{ false, net_send, net_room, net_send, net_offload } };

/* ---- operations ---- */

static void poke(struct bench *b, u64 at, u64 value, unsigned size)
{
	(void)!memory_write(b->memory, gpa(at), &value, size);
}

static void set(struct bench *b, u64 at, unsigned size, u64 value)
{
	bus_write(&b->bus, BUS_MMIO, BAR + at, size, value);
}

/* Mostly in memory; now and then at its end, beyond it, or nowhere at all. */
static u64 address(struct input *in)
{
	u8 how = take8(in);

	if (how < 0xf0)
		return BUFFERS + how * 64ull;
	return how < 0xf8 ? RAM - (how & 7) * 8 : how < 0xfc ? RING(how & 3) + 0x3000 : take(in, 8);
}

static void op_desc(struct bench *b, struct input *in)
{
	u8 where = take8(in);
	u64 at = RING(where % QUEUES) + (where & 0x80 ? 0x3000 : 0) + 16 * (take8(in) % (SIZE + 1));
	u8 len = take8(in);

	poke(b, at, address(in), 8);
	poke(b, at + 8, len < 0xfc ? len * 4u : take(in, 4), 4);
	poke(b, at + 12, take(in, 2), 2);
	poke(b, at + 14, take(in, 2), 2);
}

/* The chain that a kind of device expects: a request's head, data, room for an answer. */
static void op_request(struct bench *b, struct input *in)
{
	unsigned q = take8(in) % QUEUES, i = take8(in) % (SIZE - 3);
	u64 ring = RING(q), head = address(in);
	u16 write = take8(in) & 1 ? 2 : 0;
	u16 idx = 0;

	poke(b, head, take8(in) % 16, 4);
	poke(b, head + 4, 0, 4);
	poke(b, head + 8, take(in, 2), 8);
	for (unsigned n = 0; n < 3; n++) {
		u64 at = ring + 16 * (i + n);

		poke(b, at, n ? address(in) : head, 8);
		poke(b, at + 8, n == 0 ? 16u : n == 1 ? take8(in) * 512u : 1u, 4);
		poke(b, at + 12, (n < 2 ? 1u : 2u) | (n == 1 ? write : 0), 2);
		poke(b, at + 14, i + n + 1, 2);
	}
	(void)!memory_read(b->memory, gpa(ring + 0x1002), &idx, 2);
	poke(b, ring + 0x1004 + 2 * (idx % SIZE), i, 2);
	poke(b, ring + 0x1002, idx + 1u, 2);
	set(b, 0x3000 + 4 * q, 2, q);
}

static void op_offer(struct bench *b, struct input *in)
{
	u64 driver = RING(take8(in) % QUEUES) + 0x1000;
	u16 idx = 0;

	(void)!memory_read(b->memory, gpa(driver + 2), &idx, 2);
	poke(b, driver + 4 + 2 * (idx % SIZE), take8(in) % (SIZE + 1), 2);
	poke(b, driver + 2, idx + (u64)(take8(in) % 3), 2);
}

static void op_poke(struct bench *b, struct input *in)
{
	u64 at = take(in, 3) % RAM;

	poke(b, at, take(in, 4), 4);
}

static void op_kick(struct bench *b, struct input *in) { set(b, 0x3000 + take8(in), 2, 0); }

static void op_register(struct bench *b, struct input *in)
{
	unsigned size = 1u << take8(in) % 4;
	u64 at = take8(in) & 0x7f;

	set(b, at & 0x40 ? 0x2000 + (at & 0x3f) : at, size, take(in, size));
}

static void op_read(struct bench *b, struct input *in)
{
	bus_read(&b->bus, BUS_MMIO, BAR + take(in, 2) % 0x4000, 1u << take8(in) % 4);
}

static void op_config(struct bench *b, struct input *in)
{
	unsigned size = 1u << take8(in) % 3;

	if (take8(in) & 1)
		pci_config_read(&b->pci, 0, take8(in), size);
	else
		pci_config_write(&b->pci, 0, take8(in), size, (u32)take(in, size));
}

/* As a driver does it, with some of the features. */
static void op_start(struct bench *b, struct input *in)
{
	u8 refused = take8(in);

	pci_config_write(&b->pci, 0, PCI_BAR0, 4, 0xc0000000);
	pci_config_write(&b->pci, 0, PCI_BAR0 + 16, 4, (u32)BAR);
	pci_config_write(&b->pci, 0, PCI_BAR0 + 20, 4, 0);
	pci_config_write(&b->pci, 0, PCI_COMMAND, 2, 6);
	set(b, 0x14, 1, 0);
	set(b, 0x14, 1, 3);
	for (unsigned half = 0; half < 2; half++) {
		u32 features, without = half ? (refused >> 6 & 1u) << 2 : (refused & 3u) << 28;

		set(b, 0, 4, half);
		features = (u32)bus_read(&b->bus, BUS_MMIO, BAR + 4, 4);
		set(b, 8, 4, half);
		set(b, 0xc, 4, features & ~without);
	}
	set(b, 0x14, 1, 11);
	for (unsigned q = 0; q < QUEUES; q++) {
		set(b, 0x16, 2, q);
		set(b, 0x18, 2, SIZE);
		set(b, 0x20, 8, RING(q));
		set(b, 0x28, 8, RING(q) + 0x1000);
		set(b, 0x30, 8, RING(q) + 0x2000);
		set(b, 0x1c, 2, 1);
	}
	set(b, 0x14, 1, 15);
}

static void op_disk(struct bench *b, struct input *in)
{
	end_request(&b->requests, take8(in) & 7 ? 0 : -5);
}

static void op_input(struct bench *b, struct input *in)
{
	static const u8 frame[4096];
	size_t len = take(in, 2) % sizeof(frame);

	if (b->dev->class->input)
		must(b->dev->class->input(b->dev, frame, len) <= len, "took more than given");
}

static void op_answer(struct bench *b, struct input *in)
{
	u8 how = take8(in);
	unsigned slot = how % SHARED_SLOTS;

	folder.gone = how >= 0xf0;
	if (b->dev->class != &virtio_fs_class || !(folder.asked & BIT(slot)))
		return;
	folder.asked &= ~(u32)BIT(slot);
	virtio_fs_answered(b->dev, slot,
		how & 0x80 ? VIRTIO_FS_GONE : (u32)min_u64(take(in, 2), folder.room[slot]));
}

static void op_port(struct bench *b, struct input *in)
{
	u8 how = take8(in);
	unsigned port = how % VIRTIO_CONSOLE_PORTS;

	ends.appetite = take8(in);
	if (b->dev->class != &virtio_console_class)
		return;
	if (how & 0x40)
		virtio_console_connected(b->dev, port, how & 0x80);
	else if (how & 0x20)
		virtio_console_room(b->dev, port);
	else
		port_room(b, port);
}

static void op_reset(struct bench *b, struct input *in) { b->dev->class->reset(b->dev); }

/* Saved and loaded again, perhaps damaged. */
static void op_load(struct bench *b, struct input *in)
{
	struct blob saved = { 0 };
	struct err err = { 0 };
	u8 edits = take8(in) % 4;

	disk_drain(b); /* as a machine does */
	must(!device_save(b->dev, &saved), "save");
	for (unsigned i = 0; i < edits; i++) {
		size_t at = take(in, 3) % saved.len;

		saved.data[at] = take8(in);
	}
	if (device_load(b->dev, saved.data, saved.len, NULL, &err) < 0)
		must(edits && err.text[0], "refused: %s", err.text);
	blob_free(&saved);
}

static void (*const ops[])(struct bench *, struct input *) = {
	op_desc,
	op_desc,
	op_request,
	op_request,
	op_request,
	op_offer,
	op_poke,
	op_kick,
	op_kick,
	op_disk,
	op_disk,
	op_input,
	op_answer,
	op_answer,
	op_port,
	op_port,
	op_register,
	op_read,
	op_config,
	op_start,
	op_reset,
	op_load,
};

/* Made once: it costs more than most inputs. */
static struct memory *empty_memory(void)
{
	static struct memory memory;

	if (!memory.region_count) {
		memory_init(&memory);
		memory_add_region(&memory, "ram", RAM, false, NULL);
		must(!memory_add_slot(&memory, &memory.regions[0], gpa(0), 0, RAM, NULL), "memory");
	}
	memset(memory.regions[0].host, 0, RAM);
	return &memory;
}

static void open_bench(struct bench *b, const struct device_class *class, bool packed)
{
	*b = (struct bench){ .memory = empty_memory() };
	folder.asked = 0;
	folder.gone = false;
	bus_init(&b->bus);
	pci_bus_init(&b->pci, &b->bus, (struct msi_sink){ on_msi, b });
	for (unsigned i = 0; i < PCI_LINKS; i++)
		b->pci.links[i] = (struct irq_line){ on_line, b, i };
	clock_init(&b->clock);
	b->env = (struct device_env){
		.memory = b->memory,
		.clock = &b->clock,
		.msi = { on_msi, b },
		.pci = &b->pci,
		.slot = PCI_ANY_SLOT,
		.machine = b,
		.random = random_bytes,
		.net = &nets[packed],
		.net_ctx = b,
		.port = &ports,
		.port_ctx = b,
		.shared = &shared,
		.disk = &disk,
		.disk_ctx = b,
	};
	b->dev = device_new(class, class->name, &b->env, NULL);
	must(b->dev, "class %s", class->name);
	if (class == &virtio_blk_class)
		must(!device_set(b->dev, "queues", "3", NULL), "queues");
	if (class == &virtio_net_class && packed)
		must(!device_set(b->dev, "queues", "2", NULL), "queues");
	if (class == &virtio_console_class)
		must(!device_set(b->dev, "console", "on", NULL) &&
				!device_set(b->dev, "name1", "one", NULL),
			"ports");
	must(!device_set(b->dev, "packed", packed ? "on" : "off", NULL), "packed");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };
	u8 which = take8(&in);
	struct bench b;

	open_bench(&b, classes[which / 2 % ARRAY_LEN(classes)], which & 1);
	op_start(&b, &in);
	while (in.at < in.end)
		ops[take8(&in) % ARRAY_LEN(ops)](&b, &in);
	device_free(b.dev);
	must(!b.bus.count[BUS_PORT] && !b.bus.count[BUS_MMIO], "a window is left");
	return 0;
}
