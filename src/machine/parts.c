/*
 * The devices of the PC and where each one sits. Adding one adds a row.
 *
 * `wires` says where a device's output lines go. Most are ISA lines; the machine's own wires have
 * functions of their own: the 8259 pair's INTR, and what the HPET uses instead of the 8254 and the
 * real-time clock.
 */
#include "base/log.h"
#include "base/scope.h"
#include "device/ahci/ahci.h"
#include "device/firmware/flash.h"
#include "device/firmware/fw_cfg.h"
#include "device/ide/ide.h"
#include "device/legacy/acpi_pm.h"
#include "device/legacy/hpet.h"
#include "device/legacy/legacy.h"
#include "device/legacy/ps2.h"
#include "device/pci/hotplug.h"
#include "device/pci/lpc.h"
#include "device/pci/q35.h"
#include "device/vga/vga.h"
#include "device/virtio/balloon.h"
#include "device/virtio/console.h"
#include "device/virtio/fs.h"
#include "device/virtio/rng.h"
#include "device/virtio/vsock.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

typedef void (*line_fn)(void *part, unsigned n, bool level);

struct wire {
	line_fn set; /* NULL ends the list */
	u8 first;    /* the device's output line */
	u8 count;    /* of lines in a row */
	u8 to;	     /* the number `first` gets at the other end */
};

#define WIRES_MAX 4
#define ISA(line, to)                \
	{                            \
		irq_isa, line, 1, to \
	}

struct machine_place {
	const struct device_class *class;
	const char *name;
	u64 base;     /* of window 0; 0: where the class says */
	size_t known; /* offset of the machine's own pointer to it; 0: none */
	bool console; /* COM1: the console is its backend */
	enum { ALWAYS, WITH_FIRMWARE, WITH_FIRMWARE_LOG, WITH_FLASH, WITH_DISPLAY } when;
	struct wire wires[WIRES_MAX];
};

#define KNOWN(member) offsetof(struct machine, member)

/* The 8259 pair and the I/O APIC come first: resetting any other part may move a line. */
static const struct machine_place places[] = {
	{ &pic_class, "pic", .known = KNOWN(pic), .wires = { { irq_intr, 0, 1, 0 } } },
	{ &ioapic_class, "ioapic", .known = KNOWN(ioapic) },
	{ &pit_class, "pit", .wires = { { irq_replaceable, 0, 1, 0 } } },
	{ &rtc_class, "rtc", .known = KNOWN(rtc), .wires = { { irq_replaceable, 0, 1, 8 } } },
	{ &hpet_class, "hpet",
		.wires = { { irq_pin, 0, IOAPIC_PINS, 0 }, ISA(HPET_LINE_IRQ0, 0),
			ISA(HPET_LINE_IRQ8, 8), { irq_replace, HPET_LINE_LEGACY, 1, 0 } } },
	{ &uart_class, "uart0", .known = KNOWN(com1), .console = true, .wires = { ISA(0, 4) } },
	{ &uart_class, "uart1", .base = 0x2f8, .wires = { ISA(0, 3) } },
	{ &i8042_class, "i8042", .known = KNOWN(i8042), .wires = { ISA(0, 1), ISA(1, 12) } },
	{ &ps2_keyboard_class, "keyboard", .known = KNOWN(keyboard) },
	{ &ps2_mouse_class, "mouse", .known = KNOWN(mouse) },
	{ &acpi_pm_class, "acpi-pm", .known = KNOWN(pm), .wires = { ISA(0, ACPI_PM_SCI_IRQ) } },
	{ &q35_class, "pci", .wires = { { irq_pin, 0, PCI_LINKS, PCI_FIRST_PIN } } },
	{ &pci_hotplug_class, "hotplug", .known = KNOWN(hotplug),
		.wires = { { irq_event, 0, 1, ACPI_GPE_HOTPLUG } } },
	{ &vga_class, "vga", .known = KNOWN(vga), .when = WITH_DISPLAY },
	{ &virtio_rng_class, "rng" },
	{ &debug_exit_class, "debug-exit" },
	{ &post_port_class, "post-port" },
	{ &debugcon_class, "debugcon" },
	{ &lpc_class, "lpc", .when = WITH_FLASH },
	{ &flash_class, "flash", .when = WITH_FLASH },
	{ &fw_cfg_class, "fw_cfg", .known = KNOWN(fw_cfg), .when = WITH_FIRMWARE },
	{ &debugcon_class, "firmware", .base = 0x402, .when = WITH_FIRMWARE_LOG },
};

_Static_assert(ARRAY_LEN(places) + MACHINE_CPUS_MAX + MACHINE_DISKS_MAX + MACHINE_SHARES_MAX + 4 <=
		       MACHINE_PARTS_MAX,
	"MACHINE_PARTS_MAX");

/* What devices ask of the machine, with the lock held */

static void power_off(void *machine) { machine_end(machine, MACHINE_POWER_OFF, 0, "power off"); }
static void reset(void *machine) { run_ask_reset(machine); }

static void exit_code(void *machine, u32 value)
{
	machine_end(machine, MACHINE_EXIT_CODE, value, "debug exit");
}

static u64 wall_clock(void *machine)
{
	return (u64)((struct machine *)machine)->wall_base / 1000000000u;
}

static bool random_bytes(void *machine, void *buf, size_t len)
{
	return getrandom(buf, len, GRND_NONBLOCK) == (ssize_t)len;
}

static size_t console_write(void *ctx, const u8 *data, size_t len)
{
	return console_put(ctx, data, len);
}

static size_t console_input(struct machine *m, const u8 *bytes, size_t n)
{
	if (m->config.virtio_console)
		return m->virtio_console ? virtio_console_input(m->virtio_console, 0, bytes, n) : 0;
	return m->com1->class->input(m->com1, bytes, n);
}

void parts_input(struct machine *m)
{
	u8 bytes[64];
	size_t n, taken;

	if (m->frozen)
		return;
	do {
		n = console_peek(&m->console, bytes, sizeof(bytes));
		taken = n ? console_input(m, bytes, n) : 0;
		console_take(&m->console, taken);
	} while (n && taken == n);
}

static void console_room(void *ctx) { parts_input(container_of(ctx, struct machine, console)); }

static const struct console_ops console_backend = { .write = console_write, .room = console_room };

/* Making them */

static void connect(struct machine_part *p, struct device_env *env)
{
	for (const struct wire *w = p->place->wires; w < p->place->wires + WIRES_MAX && w->set; w++)
		for (unsigned i = 0; i < w->count; i++)
			env->lines[w->first + i] = (struct irq_line){ w->set, p, w->to + i };
}

static struct machine_part *new_part(struct machine *m, const struct machine_place *place)
{
	struct machine_part *p = &m->parts[m->part_count];

	*p = (struct machine_part){ .machine = m, .place = place, .bit = BIT64(m->part_count) };
	return p;
}

struct device_env parts_env(struct machine *m)
{
	return (struct device_env){
		.memory = &m->memory,
		.clock = &m->clock,
		.msi = { irq_msi, m },
		.pci = &m->pci,
		.slot = PCI_ANY_SLOT,
		.machine = m,
		.power_off = power_off,
		.reset = reset,
		.exit_code = exit_code,
		.eject = hot_eject,
		.random = random_bytes,
		.video = video_memory(m),
		.flash = flash_memory(m),
		.wall_clock = wall_clock,
	};
}

/* The part has its device, and counts, or NULL with err. */
static struct device *fill(struct machine_part *p, const struct device_class *class,
	const char *name, const struct device_env *env, struct err *err)
{
	p->device = device_new(class, name, env, err);
	p->machine->part_count += p->device != NULL;
	return p->device;
}

static int make(struct machine *m, const struct machine_place *place, struct err *err)
{
	struct machine_part *p = new_part(m, place);
	struct device_env env = parts_env(m);

	connect(p, &env);
	if (place->console && !m->config.virtio_console) {
		env.console = &console_backend;
		env.console_ctx = &m->console;
	} else if (place->when == WITH_FIRMWARE_LOG) {
		env.console = &firmware_log_backend;
		env.console_ctx = &m->firmware_log;
	}
	if (!fill(p, place->class, place->name, &env, err))
		return err->code;
	if (place->base)
		device_move(p->device, 0, place->base);
	else if (place->class == &flash_class)
		device_move(p->device, 0, flash_base(m));
	if (place->known)
		*(struct device **)(void *)((u8 *)m + place->known) = p->device;
	return device_attach(p->device, &m->bus, err);
}

/* The local APICs have no window of their own: each processor sees its own at the same address. */
static int make_lapic(struct machine *m, struct machine_cpu *c, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);
	char name[16], id[16];

	snprintf(name, sizeof(name), "lapic%u", c->v.index);
	snprintf(id, sizeof(id), "%u", c->v.apic_id);
	if (!fill(p, &lapic_class, name, &env, err))
		return err->code;
	c->lapic = container_of(p->device, struct lapic, dev);
	irq_wire_cpu(c);
	if (device_set(p->device, "id", id, err) ||
		device_set(p->device, "bsp", c->v.index ? "0" : "1", err))
		return err->code;
	snprintf(id, sizeof(id), "%u", m->model.phys_bits);
	return device_set(p->device, "phys-bits", id, err);
}

static int make_disk(struct machine *m, unsigned i, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);
	char name[16];

	env.disk = &disk_backend;
	env.disk_ctx = &m->disks[i];
	bool mmio = m->config.disks[i].transport == MACHINE_TRANSPORT_MMIO;

	if (mmio)
		env.lines[0] = (struct irq_line){ irq_pin, p, machine_mmio_irqs[disk_mmio(m, i)] };
	snprintf(name, sizeof(name), "disk%u", i);
	if (!fill(p, disk_class(&m->config.disks[i]), name, &env, err))
		return err->code;
	if (mmio) {
		device_move(p->device, 0, MACHINE_MMIO + disk_mmio(m, i) * PAGE_SIZE);
		if (device_attach(p->device, &m->bus, err))
			return err->code;
	}
	return disk_configure(m, &m->config.disks[i], p->device, err);
}

/* One adapter for all disks that are to be on it. */
static int make_ahci(struct machine *m, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);
	void *at[MACHINE_AHCI_MAX];
	unsigned count = disk_ahci(m, at);

	if (!count)
		return 0;
	env.disk = &disk_backend;
	env.disk_ctx = at[0];
	for (unsigned i = 1; i < count; i++)
		env.disk_more[i - 1] = at[i];
	if (!fill(p, &ahci_class, "ahci", &env, err))
		return err->code;
	return disk_configure_ahci(m, p->device, err);
}

static const struct machine_place ide_place = { &ide_class, "ide",
	.wires = { ISA(0, 14), ISA(1, 15) } };

static int make_ide(struct machine *m, struct err *err)
{
	struct machine_part *p = new_part(m, &ide_place);
	struct device_env env = parts_env(m);
	unsigned at[MACHINE_IDE_MAX];

	if (!disk_ide(m, at))
		return 0;
	connect(p, &env);
	env.disk = &disk_backend;
	for (unsigned n = 0; n < MACHINE_IDE_MAX; n++)
		if (at[n] != MACHINE_DISKS_MAX)
			*(n ? &env.disk_more[n - 1] : &env.disk_ctx) = &m->disks[at[n]];
	if (!fill(p, ide_place.class, ide_place.name, &env, err))
		return err->code;
	if (disk_configure_ide(m, at, p->device, err))
		return err->code;
	return device_attach(p->device, &m->bus, err);
}

/* A device whose backend has a thread that runs already. */
static struct device *make_networked(struct machine *m, const struct device_class *class,
	const char *name, const struct net_ops *ops, void *ctx, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);

	env.net = ops;
	env.net_ctx = ctx;
	return fill(p, class, name, &env, err);
}

static int make_nic(struct machine *m, struct err *err)
{
	const struct machine_net_config *c = m->config.net;

	AUTO_LOCK(&m->lock);
	struct device *d = make_networked(m, machine_net_class(c->model), "net0",
		machine_net_backend(c->kind), &m->nics[0], err);

	return d ? machine_net_configure(&m->nics[0], c, d, err) : err->code;
}

static int make_vsock(struct machine *m, struct err *err)
{
	AUTO_LOCK(&m->lock);
	struct device *d =
		make_networked(m, &virtio_vsock_class, "vsock", &machine_vsock_backend, m, err);

	return d ? machine_vsock_configure(m, d, err) : err->code;
}

static int make_balloon(struct machine *m, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);

	if (!fill(p, &virtio_balloon_class, "balloon", &env, err))
		return err->code;
	return machine_balloon_configure(m, p->device, err);
}

static int make_share(struct machine *m, unsigned i, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);
	char name[16];

	env.shared = &machine_shared_backend;
	env.shared_ctx = &m->shares[i];
	snprintf(name, sizeof(name), "share%u", i);
	if (!fill(p, &virtio_fs_class, name, &env, err))
		return err->code;
	return machine_share_configure(m, i, p->device, err);
}

static int make_console(struct machine *m, struct err *err)
{
	struct machine_part *p = new_part(m, NULL);
	struct device_env env = parts_env(m);

	env.port = &machine_port_backend;
	env.port_ctx = m;
	if (!fill(p, &virtio_console_class, "console", &env, err))
		return err->code;
	return machine_port_configure(m, p->device, err);
}

/* Firmware that finds nobody listening says nothing. */
static bool wanted(const struct machine *m, const struct machine_place *place)
{
	switch (place->when) {
	case ALWAYS: return true;
	case WITH_FIRMWARE: return m->config.firmware;
	case WITH_FLASH: return m->flash;
	case WITH_DISPLAY: return m->config.display;
	case WITH_FIRMWARE_LOG: return m->config.firmware && log_enabled(LOG_DBG);
	}
	return false;
}

int parts_make(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.cpus; i++)
		if (make_lapic(m, &m->cpus[i], err))
			return err->code;
	for (unsigned i = 0; i < ARRAY_LEN(places); i++)
		if (wanted(m, &places[i]) && make(m, &places[i], err))
			return err->code;
	ps2_keyboard_plug(m->keyboard, m->i8042);
	ps2_mouse_plug(m->mouse, m->i8042);
	for (unsigned i = 0; i < m->disk_count; i++)
		if (m->config.disks[i].bus != MACHINE_AHCI &&
			m->config.disks[i].bus != MACHINE_IDE && make_disk(m, i, err))
			return err->code;
	if (make_ahci(m, err) || make_ide(m, err))
		return err->code;
	if (m->config.net && make_nic(m, err))
		return err->code;
	if (m->vsock_net && make_vsock(m, err))
		return err->code;
	if (m->config.balloon && make_balloon(m, err))
		return err->code;
	if ((m->config.virtio_console || m->port_count) && make_console(m, err))
		return err->code;
	for (unsigned i = 0; i < m->share_count; i++)
		if (make_share(m, i, err))
			return err->code;
	irqchip_attach(m);
	return 0;
}

/* Backwards: what drives a line goes before what the line leads to. */
void parts_free(struct machine *m)
{
	while (m->part_count)
		device_free(m->parts[--m->part_count].device);
}

void parts_reset(struct machine *m)
{
	m->replaced = false;
	memset(m->isa_levels, 0, sizeof(m->isa_levels));
	memset(m->pin_levels, 0, sizeof(m->pin_levels));
	for (unsigned i = 0; i < m->part_count; i++)
		if (m->parts[i].device->class->reset)
			m->parts[i].device->class->reset(m->parts[i].device);
	hot_reset(m);
}
