/*
 * A bench for one device: a bus, a manual clock, and lines, a console and callbacks that remember
 * what was done to them. Two rigs that saw the same compare equal.
 */
#pragma once
#include "base/bits.h"
#include "device/device.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

#define RIG_CONSOLE 256u
#define RIG_MEMORY  MiB
#define RIG_DISK    (128 * KiB)
#define RIG_PENDING 64u
#define RIG_VIDEO   (256 * KiB)
#define RIG_WALL    946684800ull /* 2000-01-01 00:00:00, a Saturday */

struct rig {
	struct device *dev;
	void (*configure)(struct rig *); /* for the other rig of rig_check_migration() */
	struct bus bus;
	struct memory memory; /* RIG_MEMORY bytes at 0 */
	struct pci_bus pci;
	/* A disk whose requests end when the test says so */
	u8 disk[RIG_DISK];
	struct block_request *pending[RIG_PENDING];
	unsigned pending_count, flushes, kicks;
	bool disk_readonly;
	/* A network that remembers the last frame */
	u8 frame[65536 + 64];
	size_t frame_len;
	unsigned frames, net_rooms;
	unsigned messages; /* interrupts that were written */
	u64 address;
	u32 data;
	struct guest_clock clock;
	u8 video[RIG_VIDEO];
	u64 video_at, stored;
	bool level[DEVICE_LINES_MAX];
	unsigned rises[DEVICE_LINES_MAX];
	u8 console[RIG_CONSOLE];
	size_t console_len, console_room; /* room: bytes the backend will still take */
	unsigned rooms, power_offs, resets, exits;
	u32 exit_value;
};

static void rig_line(void *ctx, unsigned n, bool level)
{
	struct rig *r = ctx;

	r->rises[n] += level && !r->level[n];
	r->level[n] = level;
}

static void rig_message(void *ctx, u64 address, u32 data)
{
	struct rig *r = ctx;

	r->messages++;
	r->address = address;
	r->data = data;
}

static size_t rig_write(void *ctx, const u8 *data, size_t len)
{
	struct rig *r = ctx;
	size_t n = min_u64(min_u64(len, r->console_room), RIG_CONSOLE - r->console_len);

	memcpy(r->console + r->console_len, data, n);
	r->console_len += n;
	r->console_room -= n;
	return n;
}

static void rig_room(void *ctx) { ((struct rig *)ctx)->rooms++; }
static void rig_power_off(void *ctx) { ((struct rig *)ctx)->power_offs++; }
static void rig_reset(void *ctx) { ((struct rig *)ctx)->resets++; }
static void rig_show(void *ctx, u64 base) { ((struct rig *)ctx)->video_at = base; }
static void rig_store(void *ctx, u64 offset, u64 len) { ((struct rig *)ctx)->stored += len; }
static u64 rig_wall(void *ctx) { return RIG_WALL; }

static bool rig_random(void *ctx, void *buf, size_t len)
{
	memset(buf, 0x5a, len);
	return true;
}

static struct block_info rig_disk_info(void *ctx)
{
	return (struct block_info){ .size = RIG_DISK,
		.readonly = ((struct rig *)ctx)->disk_readonly };
}

static void rig_disk_submit(void *ctx, struct block_request *q)
{
	struct rig *r = ctx;

	assert_true(r->pending_count < RIG_PENDING);
	assert_true(range_ok(q->offset, q->len, RIG_DISK));
	r->pending[r->pending_count++] = q;
}

static void rig_disk_kick(void *ctx) { ((struct rig *)ctx)->kicks++; }

static void rig_disk_work(struct rig *r, struct block_request *q)
{
	u8 *at = r->disk + q->offset;

	r->flushes += q->op == BLOCK_FLUSH;
	if (q->op == BLOCK_ZERO || q->op == BLOCK_DISCARD)
		memset(at, q->op == BLOCK_ZERO ? 0 : 0xdd, q->len);
	for (unsigned i = 0; i < q->iovcnt; at += q->iov[i++].iov_len) {
		if (q->op == BLOCK_READ)
			memcpy(q->iov[i].iov_base, at, q->iov[i].iov_len);
		else
			memcpy(at, q->iov[i].iov_base, q->iov[i].iov_len);
	}
}

/* The request at `i` in the order in which they were submitted ends, with rc. */
static void rig_disk_end(struct rig *r, unsigned i, int rc)
{
	assert_true(i < r->pending_count);
	struct block_request *q = r->pending[i];

	r->pending_count--;
	memmove(&r->pending[i], &r->pending[i + 1], (r->pending_count - i) * sizeof(q));
	if (!rc)
		rig_disk_work(r, q);
	q->done(q, rc);
}

static void rig_disk_drain(void *ctx)
{
	struct rig *r = ctx;

	while (r->pending_count)
		rig_disk_end(r, 0, 0);
}

static const struct disk_ops rig_disk = { rig_disk_info, rig_disk_submit, rig_disk_kick,
	rig_disk_drain };

static void rig_send(void *ctx, const u8 *frame, size_t len)
{
	struct rig *r = ctx;

	assert_true(len <= sizeof(r->frame));
	memcpy(r->frame, frame, len);
	r->frame_len = len;
	r->frames++;
}

static void rig_net_room(void *ctx) { ((struct rig *)ctx)->net_rooms++; }

static const struct port_ops *rig_port;	    /* for ports: the test's */
static const struct shared_ops *rig_shared; /* for a shared folder: the test's */
static const struct net_ops rig_net = { true, rig_send, rig_net_room };

static void rig_exit(void *ctx, u32 value)
{
	struct rig *r = ctx;

	r->exits++;
	r->exit_value = value;
}

static const struct console_ops rig_console = { .write = rig_write, .room = rig_room };

static void rig_open(struct rig *r, const struct device_class *class)
{
	struct device_env env = {
		.memory = &r->memory,
		.clock = &r->clock,
		.random = rig_random,
		.port = rig_port,
		.port_ctx = r,
		.shared = rig_shared,
		.net = &rig_net,
		.net_ctx = r,
		.disk = &rig_disk,
		.disk_ctx = r,
		.pci = &r->pci,
		.slot = PCI_ANY_SLOT,
		.msi = { rig_message, r },
		.machine = r,
		.power_off = rig_power_off,
		.reset = rig_reset,
		.exit_code = rig_exit,
		.console = &rig_console,
		.console_ctx = r,
		.video = { r->video, RIG_VIDEO, rig_show },
		.flash = { r->video, RIG_VIDEO, rig_store },
		.wall_clock = rig_wall,
	};

	*r = (struct rig){ .console_room = RIG_CONSOLE };
	memory_init(&r->memory);
	struct memory_region *ram = memory_add_region(&r->memory, "ram", RIG_MEMORY, false, NULL);
	assert_non_null(ram);
	assert_int_equal(memory_add_slot(&r->memory, ram, gpa(0), 0, RIG_MEMORY, NULL), 0);
	bus_init(&r->bus);
	pci_bus_init(&r->pci, &r->bus, env.msi);
	clock_init(&r->clock);
	for (unsigned i = 0; i < DEVICE_LINES_MAX; i++)
		env.lines[i] = (struct irq_line){ rig_line, r, i };
	r->dev = device_new(class, class->name, &env, NULL);
	assert_non_null(r->dev);
	assert_int_equal(device_attach(r->dev, &r->bus, NULL), 0);
}

static void rig_close(struct rig *r)
{
	device_free(r->dev);
	memory_fini(&r->memory);
	assert_null(r->clock.timers);
	assert_int_equal(r->bus.count[BUS_PORT] + r->bus.count[BUS_MMIO], 0);
}

static inline u8 in8(struct rig *r, u16 port) { return (u8)bus_read(&r->bus, BUS_PORT, port, 1); }
static inline u16 in16(struct rig *r, u16 port)
{
	return (u16)bus_read(&r->bus, BUS_PORT, port, 2);
}
static inline u32 in32(struct rig *r, u16 port)
{
	return (u32)bus_read(&r->bus, BUS_PORT, port, 4);
}
static inline void out8(struct rig *r, u16 port, u8 v) { bus_write(&r->bus, BUS_PORT, port, 1, v); }
static inline void out16(struct rig *r, u16 port, u16 v)
{
	bus_write(&r->bus, BUS_PORT, port, 2, v);
}
static inline void out32(struct rig *r, u16 port, u32 v)
{
	bus_write(&r->bus, BUS_PORT, port, 4, v);
}

static inline void assert_same_state(struct rig *a, struct rig *b)
{
	char text[64];
	const char *name = state_diff(a->dev->class->state, a->dev, b->dev, text, sizeof(text));

	if (name)
		fail_msg("%s differs", name);
	assert_memory_equal(a->level, b->level, sizeof(a->level));
}

/*
 * Saves the device, loads it into a second one, lets both do the same, and expects the same of
 * both: state, lines, interrupts and output. Also that every truncation of the stream is refused.
 */
static inline void rig_check_migration(struct rig *r, void (*script)(struct rig *))
{
	struct blob b = { 0 };
	struct rig other;
	size_t used = 0;

	rig_open(&other, r->dev->class);
	if (r->configure)
		r->configure(&other);
	other.clock.frozen_at = r->clock.frozen_at;
	memcpy(other.memory.regions[0].host, r->memory.regions[0].host, RIG_MEMORY);
	assert_int_equal(device_save(r->dev, &b), 0);
	for (size_t len = 0; len < b.len; len += 1 + len / 7)
		assert_true(device_load(other.dev, b.data, len, &used, NULL) < 0);
	assert_int_equal(device_load(other.dev, b.data, b.len, &used, NULL), 0);
	assert_int_equal(used, b.len);
	assert_same_state(r, &other);
	r->messages = other.messages = 0;
	memset(r->rises, 0, sizeof(r->rises));
	memset(other.rises, 0, sizeof(other.rises));
	r->console_len = other.console_len = 0;
	r->console_room = other.console_room = RIG_CONSOLE;
	script(r);
	script(&other);
	assert_same_state(r, &other);
	assert_memory_equal(r->rises, other.rises, sizeof(r->rises));
	assert_int_equal(r->console_len, other.console_len);
	assert_memory_equal(r->console, other.console, r->console_len);
	assert_int_equal(r->messages, other.messages);
	assert_memory_equal(other.memory.regions[0].host, r->memory.regions[0].host, RIG_MEMORY);
	blob_free(&b);
	rig_close(&other);
}
