/*
 * Every class of device_classes[] under a hostile guest, a hostile saved state and a late host. The
 * input's first byte chooses the class; what follows is a program of operations on it. Whatever
 * happens, the device must neither crash nor hang, its saved state must load again and be equal,
 * and freeing it must leave no timer or window behind.
 */
#include "base/bits.h"
#include "base/must.h"
#include "device/apic/ioapic.h"
#include "device/apic/lapic.h"
#include "device/firmware/fw_cfg.h"
#include "device/ide/ide.h"
#include "device/legacy/acpi_pm.h"
#include "device/legacy/i8042.h"
#include "device/legacy/i8259.h"
#include "device/legacy/legacy.h"
#include "device/legacy/ps2.h"
#include "device/pci/hotplug.h"

/* Registers outside any window: the local APIC's page, which its class serves directly. */
#define PAGE_LEN 0x1000u
#define RAM	 (64 * KiB)

struct input {
	const u8 *at, *end;
};

struct bench {
	struct guest_clock clock;
	struct bus bus;
	struct pci_bus pci;
	struct block_request *request; /* the disk's, under way */
	struct lapic_bus apics;
	struct device *dev;
	struct device_env env;
	u8 video[256 * KiB];
	struct device *keyboard, *mouse; /* a keyboard controller's */
	u8 backend;			 /* bytes the console takes at once */
	bool in_room;
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static u64 take(struct input *in, unsigned bytes)
{
	u64 v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (u64)take8(in) << (8 * i);
	return v;
}

/* ---- the outside world ---- */

static void on_line(void *ctx, unsigned n, bool level) {}
static void on_msi(void *ctx, u64 address, u32 data) {}
static void on_event(void *ctx) {}
static void on_exit_code(void *ctx, u32 value) {}
static void on_eject(void *ctx, unsigned slot) { must(slot < PCI_SLOTS, "slot %u", slot); }
static void on_show(void *ctx, u64 base) {}
static u64 wall(void *ctx) { return 1700000000; }

static bool random_bytes(void *ctx, void *buf, size_t len)
{
	memset(buf, 0x5a, len);
	return true;
}

static struct block_info disk_info(void *ctx) { return (struct block_info){ .size = MiB }; }

/* One request at a time: the one before it ends when the next one comes. */
static void disk_drain(void *ctx)
{
	struct bench *b = ctx;
	struct block_request *r = b->request;

	b->request = NULL;
	if (r)
		r->done(r, 0);
	if (b->request)
		disk_drain(b);
}

static void disk_submit(void *ctx, struct block_request *r)
{
	struct bench *b = ctx;
	struct block_request *before = b->request;

	b->request = r;
	if (before)
		before->done(before, -5);
}

static void disk_kick(void *ctx) {}
static const struct disk_ops disk = { disk_info, disk_submit, disk_kick, disk_drain };

static void net_send(void *ctx, const u8 *frame, size_t len) {}
static void net_room(void *ctx) {}
static size_t port_write(void *ctx, unsigned port, const u8 *data, size_t len) { return len / 2; }
static void port_room(void *ctx, unsigned port) {}
static const struct port_ops ports = { port_write, port_room };

static u8 *folder_buffer(void *ctx, unsigned slot)
{
	static u8 buffers[SHARED_SLOTS][SHARED_BUFFER];

	return buffers[slot];
}

static bool folder_ask(void *ctx, unsigned slot, u32 len, u32 room) { return false; }
static void folder_reset(void *ctx) {}
static const struct shared_ops shared = { folder_buffer, folder_ask, folder_reset };

static const struct net_ops net = { false, net_send, net_room };

static size_t console_write(void *ctx, const u8 *data, size_t len)
{
	struct bench *b = ctx;
	volatile u8 sum = 0;

	for (size_t i = 0; i < len; i++)
		sum = (u8)(sum + data[i]);
	return min_u64(len, b->backend);
}

/* A backend that answers the news of room with input at once, as its contract allows. */
static void console_room(void *ctx)
{
	struct bench *b = ctx;
	const u8 text[40] = "as much as there is room for, and more";

	if (b->in_room)
		return;
	b->in_room = true;
	b->dev->class->input(b->dev, text, sizeof(text));
	b->in_room = false;
}

static const struct console_ops console = { console_write, console_room };

/* ---- operations ---- */

static const struct device_port *choose_port(struct bench *b, struct input *in)
{
	return &b->dev->ports[take8(in) % DEVICE_WINDOWS_MAX];
}

/* Offsets near the start are where registers are. */
static u64 choose_offset(struct input *in, u64 len)
{
	u64 v = take(in, 2);

	return (v & 0x8000 ? v : v & 0x3ff) % len;
}

static void op_write(struct bench *b, struct input *in)
{
	const struct device_port *p = choose_port(b, in);
	unsigned size = 1u << (take8(in) & (p->at.space == BUS_PORT ? 1 : 3));
	u64 value = take(in, size);

	if (p->at.len)
		bus_write(&b->bus, p->at.space, p->at.base + choose_offset(in, p->at.len), size,
			value);
	else if (!p->window && b->dev->class->write)
		b->dev->class->write(b->dev, 0, choose_offset(in, PAGE_LEN) & ~3ull, 4, value);
}

static void op_read(struct bench *b, struct input *in)
{
	const struct device_port *p = choose_port(b, in);
	unsigned size = 1u << (take8(in) & (p->at.space == BUS_PORT ? 1 : 3));

	if (p->at.len)
		bus_read(&b->bus, p->at.space, p->at.base + choose_offset(in, p->at.len), size);
	else if (!p->window && b->dev->class->read)
		b->dev->class->read(b->dev, 0, choose_offset(in, PAGE_LEN) & ~3ull, 4);
}

/* Configuration space, of whatever slot; and BARs where a guest likes to have them. */
static void op_config(struct bench *b, struct input *in)
{
	unsigned slot = take8(in) & 1, size = 1u << take8(in) % 3;

	pci_config_write(&b->pci, slot, take8(in), size, (u32)take(in, size));
}

static void op_config_read(struct bench *b, struct input *in)
{
	pci_config_read(&b->pci, take8(in) & 1, take8(in), 1u << take8(in) % 3);
}

static void op_bar(struct bench *b, struct input *in)
{
	const struct pci_function *fn = b->pci.slots[0];
	const struct pci_bar *bar = fn ? &fn->bars[take8(in) % PCI_BARS] : NULL;

	if (!bar || !bar->kind)
		return;
	if (!bar->mapped) {
		u32 base = (u32)bar->index << 28 | 0x80000000;

		pci_config_write(&b->pci, 0, PCI_BAR0 + 4 * bar->index, 4, base);
		pci_config_write(&b->pci, 0, PCI_COMMAND, 2, 7);
		return;
	}
	enum bus_space space = bar->kind == PCI_BAR_IO ? BUS_PORT : BUS_MMIO;
	unsigned how = take8(in), size = 1u << (how & (space == BUS_PORT ? 1 : 3));
	u64 at = bar->at + choose_offset(in, bar->size);

	if (how & 0x80)
		bus_read(&b->bus, space, at, size);
	else
		bus_write(&b->bus, space, at, size, take(in, size));
}

/* Time passes with everyone watching: each timer at its moment. */
static void op_advance(struct bench *b, struct input *in)
{
	clock_advance(&b->clock, take8(in) * 1000ull);
}

/* The host was away: all that is due is due at once. Up to hours, and rarely years. */
static void op_jump(struct bench *b, struct input *in)
{
	u8 exponent = take8(in);
	u64 ns = (u64)take8(in) << (exponent == 255 ? 48 : exponent % 38);

	b->clock.frozen_at += min_u64(ns, (1ull << 62) - min_u64(b->clock.frozen_at, 1ull << 62));
	clock_run(&b->clock);
}

static void op_input(struct bench *b, struct input *in)
{
	size_t len = min_u64(take8(in) % 32, (u64)(in->end - in->at));
	const u8 *text = in->at;

	in->at += len;
	b->backend = take8(in) & 15;
	if (b->dev->class->input)
		must(b->dev->class->input(b->dev, text, len) <= len, "took more than given");
}

static void op_reset(struct bench *b, struct input *in)
{
	if (b->dev->class->reset)
		b->dev->class->reset(b->dev);
}

/* A second device that loads what the first saved must be equal to it. */
static void op_migrate(struct bench *b, struct input *in)
{
	struct device_env env = b->env;
	struct pci_bus pci;
	struct bus bus;

	bus_init(&bus);
	pci_bus_init(&pci, &bus, b->env.msi);
	env.pci = &pci;
	struct device *other = device_new(b->dev->class, "copy", &env, NULL);
	struct blob saved = { 0 }, again = { 0 };
	struct err err = { 0 };

	must(other, "second device");
	must(!device_save(b->dev, &saved), "save");
	must(!device_load(other, saved.data, saved.len, NULL, &err), "%s", err.text);
	must(!device_save(other, &again), "save");
	must(saved.len == again.len, "lengths differ");
	blob_free(&saved);
	blob_free(&again);
	device_free(other);
}

/* A damaged stream is refused or makes some device; the following operations must survive that. */
static void op_damage(struct bench *b, struct input *in)
{
	struct blob saved = { 0 };
	struct err err;

	must(!device_save(b->dev, &saved), "save");
	for (unsigned edits = take8(in) % 4; edits; edits--) {
		size_t at = take(in, 2) % saved.len;

		saved.data[at] = take8(in);
	}
	if (device_load(b->dev, saved.data, saved.len, NULL, &err) < 0)
		must(err.text[0], "refused without a reason");
	blob_free(&saved);
}

/* What reaches a device by other ways than its registers. */
static void op_outside(struct bench *b, struct input *in)
{
	const struct device_class *class = b->dev->class;
	u8 what = take8(in), n = take8(in);

	if (class == &pic_class && what & 1)
		pic_ack(b->dev);
	else if (class == &pic_class)
		pic_set_irq(b->dev, n & 15, what & 2);
	else if (class == &ioapic_class && what & 1)
		ioapic_eoi(b->dev, n);
	else if (class == &ioapic_class)
		ioapic_set_irq(b->dev, n % IOAPIC_PINS, what & 2);
	else if (class == &acpi_pm_class)
		acpi_pm_event(b->dev, n & 15);
	else if (class == &pci_hotplug_class && what & 1)
		pci_hotplug_came(b->dev, PCI_HOTPLUG_FIRST + n % PCI_HOTPLUG_COUNT);
	else if (class == &pci_hotplug_class)
		pci_hotplug_leave(b->dev, PCI_HOTPLUG_FIRST + n % PCI_HOTPLUG_COUNT);
	else if (class == &i8042_class && what & 4)
		ps2_mouse_move(b->mouse, (s8)n, (s8)take8(in), (s8)take8(in), what);
	else if (class == &i8042_class)
		ps2_keyboard_key(b->keyboard, (u16)(n | (what & 0x18) << 5), what & 1);
	else if (class == &ps2_keyboard_class)
		ps2_keyboard_key(b->dev, n, what & 1);
	else if (class == &ps2_mouse_class)
		ps2_mouse_move(b->dev, n, n, n, what);
}

static void op_local_apic(struct bench *b, struct input *in)
{
	struct lapic *l = container_of(b->dev, struct lapic, dev);
	u64 value;

	if (b->dev->class != &lapic_class)
		return;
	switch (take8(in) % 5) {
	case 0: lapic_msr_write(l, 0x800 + take8(in), take(in, 8)); break;
	case 1: lapic_msr_write(l, 0x1b, take(in, 8)); break;
	case 2: lapic_msr_read(l, 0x800 + take8(in), &value); break;
	case 3: lapic_ack(l); break;
	default: lapic_bus_msi(&b->apics, 0xfee00000 | take(in, 2), (u32)take(in, 2)); break;
	}
}

static void (*const ops[])(struct bench *, struct input *) = {
	op_write,
	op_write,
	op_write,
	op_write,
	op_read,
	op_read,
	op_advance,
	op_advance,
	op_jump,
	op_input,
	op_reset,
	op_migrate,
	op_damage,
	op_outside,
	op_local_apic,
	op_config,
	op_config,
	op_config_read,
	op_bar,
	op_bar,
	op_bar,
	op_bar,
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

static void open_bench(struct bench *b, const struct device_class *class)
{
	*b = (struct bench){ .backend = 16 };
	bus_init(&b->bus);
	pci_bus_init(&b->pci, &b->bus, (struct msi_sink){ on_msi, b });
	clock_init(&b->clock);
	b->env = (struct device_env){
		.memory = empty_memory(),
		.clock = &b->clock,
		.random = random_bytes,
		.port = &ports,
		.shared = &shared,
		.net = &net,
		.disk = &disk,
		.disk_ctx = b,
		.disk_more = { b },
		.msi = { on_msi, b },
		.pci = &b->pci,
		.slot = PCI_ANY_SLOT,
		.machine = b,
		.power_off = on_event,
		.reset = on_event,
		.exit_code = on_exit_code,
		.eject = on_eject,
		.console = &console,
		.console_ctx = b,
		.video = { b->video, sizeof(b->video), on_show },
		.flash = { b->video, sizeof(b->video), NULL },
		.wall_clock = wall,
	};
	for (unsigned i = 0; i < DEVICE_LINES_MAX; i++)
		b->env.lines[i] = (struct irq_line){ on_line, b, i };
	b->dev = device_new(class, class->name, &b->env, NULL);
	must(b->dev && !device_attach(b->dev, &b->bus, NULL), "class %s", class->name);
	if (class == &ide_class) /* the slave is a CD-ROM drive */
		must(!device_set(b->dev, "cd1", "on", NULL), "cd1");
	if (class == &i8042_class) {
		b->keyboard = device_new(&ps2_keyboard_class, "keyboard", &b->env, NULL);
		b->mouse = device_new(&ps2_mouse_class, "mouse", &b->env, NULL);
		must(b->keyboard && b->mouse, "keyboard and mouse");
		ps2_keyboard_plug(b->keyboard, b->dev);
		ps2_mouse_plug(b->mouse, b->dev);
	}
	if (class == &fw_cfg_class)
		must(!fw_cfg_file(b->dev, "file", "content", 7, NULL), "file");
	if (class == &lapic_class)
		lapic_bus_add(&b->apics, container_of(b->dev, struct lapic, dev));
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };
	struct bench b;

	open_bench(&b, device_classes[take8(&in) % device_class_count]);
	while (in.at < in.end)
		ops[take8(&in) % ARRAY_LEN(ops)](&b, &in);
	if (b.keyboard) {
		device_free(b.mouse);
		device_free(b.keyboard);
	}
	device_free(b.dev);
	must(!b.clock.timers, "a timer is left");
	must(!b.bus.count[BUS_PORT] && !b.bus.count[BUS_MMIO], "a window is left");
	return 0;
}
