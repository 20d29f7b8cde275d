/*
 * The DSDT: what a guest cannot find by itself. Processors, the devices of the ISA bus, the ports
 * and pages the platform occupies, and the sleep state that powers off.
 *
 * The ISA devices stand beside the PCI host bridge: what they decode is theirs before anything on
 * PCI sees it, and guests without PCI find them, too. The power button is the fixed one of the PM1
 * block, which needs no object here.
 */
#include "base/bits.h"
#include "boot/acpi.h"
#include "boot/aml.h"
#include <stdio.h>
#include <string.h>

/* Resources: up to two port ranges and one interrupt; a length or interrupt of 0 is none. */
struct isa_device {
	const char *name, *hid;
	struct {
		u16 base;
		u8 len;
	} io[2];
	u8 irq;
	u8 uid;
};

static const struct isa_device always[] = {
	{ "PIC_", "PNP0000", { { 0x20, 2 }, { 0xa0, 2 } }, 2, 0 },
	{ "TIMR", "PNP0100", { { 0x40, 4 } }, 0, 0 },
	{ "RTC_", "PNP0B00", { { 0x70, 2 } }, 8, 0 },
};

static const struct isa_device i8042[] = {
	{ "KBD_", "PNP0303", { { 0x60, 1 }, { 0x64, 1 } }, 1, 0 },
	{ "MOU_", "PNP0F13", { { 0 } }, 12, 0 },
};

/* QEMU docs/specs/fw_cfg.rst, "ACPI Interface" */
static const struct isa_device fw_cfg[] = {
	{ "FWCF", "QEMU0002", { { 0x510, 12 } }, 0, 0 },
};

static const struct isa_device com_ports[] = {
	{ "COM1", "PNP0501", { { 0x3f8, 8 } }, 4, 1 },
	{ "COM2", "PNP0501", { { 0x2f8, 8 } }, 3, 2 },
};

static void isa_devices(struct aml *a, const struct isa_device *devices, unsigned count)
{
	for (const struct isa_device *d = devices; d < devices + count; d++) {
		aml_device(a, d->name);
		if (strlen(d->hid) == 7)
			aml_name_eisaid(a, "_HID", d->hid);
		else
			aml_name_string(a, "_HID", d->hid);
		if (d->uid)
			aml_name_int(a, "_UID", d->uid);
		aml_crs(a);
		for (unsigned i = 0; i < ARRAY_LEN(d->io); i++)
			if (d->io[i].len)
				aml_crs_io(a, d->io[i].base, d->io[i].len);
		if (d->irq)
			aml_crs_irq(a, d->irq);
		aml_crs_end(a);
		aml_close(a);
	}
}

static void hpet(struct aml *a)
{
	aml_device(a, "HPET");
	aml_name_eisaid(a, "_HID", "PNP0103");
	aml_crs(a);
	aml_crs_memory(a, 0xfed00000, 0x400);
	aml_crs_end(a);
	aml_close(a);
}

/* Keeps operating systems from placing anything else there. Of power management it is all that an
 * ICH9's block has (316972, chapter 13): where they find an ISA bridge of that kind, they expect so
 * much, and do not want part of it to be somebody else's. */
#define PM_BLOCK 128u

static void platform(struct aml *a, const struct acpi_config *c)
{
	aml_device(a, "MBRD");
	aml_name_eisaid(a, "_HID", "PNP0C02");
	aml_crs(a);
	aml_crs_io(a, c->ports.base, PM_BLOCK);
	if (c->ports.smi_command)
		aml_crs_io(a, c->ports.smi_command, 1);
	if (c->ports.reset && !c->pci) /* else within the bridge's ports */
		aml_crs_io(a, c->ports.reset, 1);
	if (c->hotplug.port && !range_ok(c->hotplug.port - c->ports.base, c->hotplug.len, PM_BLOCK))
		aml_crs_io(a, c->hotplug.port, c->hotplug.len);
	if (c->pci)
		aml_crs_memory(a, (u32)c->pci->ecam, 256 * MiB);
	aml_crs_memory(a, 0xfec00000, 0x1000);
	aml_crs_memory(a, 0xfee00000, 0x1000);
	aml_crs_end(a);
	aml_close(a);
}

/* 6.2.13: for each slot and pin, INTA# being pin 0 here, the global interrupt. */
static void pci_routing(struct aml *a, const struct pci_map *p)
{
	aml_name_open(a, "_PRT", PCI_SLOTS * 4);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		for (unsigned pin = 1; pin <= 4; pin++) {
			aml_package(a, 4);
			aml_int(a, slot << 16 | 0xffff);
			aml_int(a, pin - 1);
			aml_int(a, 0);
			aml_int(a, p->first_pin + pci_link(slot, pin));
			aml_close(a);
		}
	aml_close(a);
}

#define PCI_PORTS 0xcf8u /* eight of them are the bridge's own */

static void pci_windows(struct aml *a, const struct pci_map *p)
{
	aml_crs(a);
	aml_crs_bus_range(a, 0, 255);
	aml_crs_io(a, PCI_PORTS, 8);
	aml_crs_io_range(a, 0, PCI_PORTS - 1);
	aml_crs_io_range(a, PCI_PORTS + 8, 0xffff);
	for (unsigned i = 0; i < ARRAY_LEN(p->low); i++)
		if (p->low[i].len)
			aml_crs_memory_range(a, (u32)p->low[i].base, (u32)p->low[i].len);
	if (p->high.len)
		aml_crs_memory64_range(a, p->high.base, p->high.len);
	aml_crs_end(a);
}

/* Table 5.161: what a device is notified of. */
#define NOTIFY_DEVICE_CHECK  1
#define NOTIFY_EJECT_REQUEST 3

/* The registers' names are those of the DSDT only; what they do says device/pci/hotplug.h. */
static const char *const hotplug_registers[] = { "HPUP", "HPDN", "HPEJ" };

static const char *slot_name(unsigned slot, char name[5])
{
	snprintf(name, 5, "S%03X", slot & 0xfff);
	return name;
}

/* 6.3.3: _EJ0 is what makes systems take a slot for one whose function can go. There is no _STA:
 * whether a function is there its configuration space says. */
static void hotplug_slot(struct aml *a, unsigned slot)
{
	char name[5];

	aml_device(a, slot_name(slot, name));
	aml_name_int(a, "_ADR", slot << 16);
	aml_name_int(a, "_SUN", slot);
	aml_method(a, "_EJ0", 1);
	aml_set(a, "HPEJ", BIT(slot));
	aml_close(a);
	aml_close(a);
}

/* Takes a register's bits, and tells of each. */
static void hotplug_tell(struct aml *a, u32 slots, const char *from, u8 what)
{
	char name[5];

	aml_load(a, from);
	aml_store(a, from);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		if (!(slots & BIT(slot)))
			continue;
		aml_if_any(a, BIT(slot));
		aml_notify(a, slot_name(slot, name), what);
		aml_close(a);
	}
}

static void hotplug(struct aml *a, const struct acpi_hotplug *h)
{
	aml_ports(a, "HPRG", h->port, h->len);
	aml_dwords(a, "HPRG", hotplug_registers, ARRAY_LEN(hotplug_registers));
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (h->slots & BIT(slot))
			hotplug_slot(a, slot);
	aml_method(a, "HPEV", 0);
	hotplug_tell(a, h->slots, "HPUP", NOTIFY_DEVICE_CHECK);
	hotplug_tell(a, h->slots, "HPDN", NOTIFY_EJECT_REQUEST);
	aml_close(a);
}

static void pci(struct aml *a, const struct pci_map *p, const struct acpi_hotplug *h)
{
	aml_device(a, "PCI0");
	aml_name_eisaid(a, "_HID", "PNP0A08");
	aml_name_eisaid(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	pci_windows(a, p);
	pci_routing(a, p);
	if (h->port)
		hotplug(a, h);
	aml_close(a);
}

/* 8.4: a processor's _UID is its MADT entry's. */
static void processors(struct aml *a, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[5];

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device(a, name);
		aml_name_string(a, "_HID", "ACPI0007");
		aml_name_int(a, "_UID", i);
		aml_close(a);
	}
}

/* The id that Linux's virtio_mmio driver binds to. */
static void mmio(struct aml *a, const struct acpi_config *c)
{
	for (unsigned i = 0; i < c->mmio_count; i++) {
		char name[5];

		snprintf(name, sizeof(name), "VR%02X", i & 0xff);
		aml_device(a, name);
		aml_name_string(a, "_HID", "LNRO0005");
		aml_name_int(a, "_UID", i);
		aml_crs(a);
		aml_crs_memory(a, c->mmio_base + i * (u32)PAGE_SIZE, (u32)PAGE_SIZE);
		aml_crs_level_irq(a, c->mmio_irq[i]);
		aml_crs_end(a);
		aml_close(a);
	}
}

/* Systems look for its _CID; ADDR is the low and the high half of where it is. */
static void generation(struct aml *a, const struct acpi_generation *g)
{
	aml_device(a, "VGEN");
	aml_name_string(a, "_HID", "STRA0001");
	aml_name_string(a, "_CID", "VM_Gen_Counter");
	aml_name_string(a, "_DDN", "VM_Gen_Counter");
	aml_name_open(a, "ADDR", 2);
	aml_int(a, g->at);
	aml_int(a, 0);
	aml_close(a);
	aml_close(a);
}

static void devices(struct aml *a, const struct acpi_config *c)
{
	isa_devices(a, always, ARRAY_LEN(always));
	isa_devices(a, com_ports, c->com_ports);
	if (c->i8042)
		isa_devices(a, i8042, ARRAY_LEN(i8042));
	if (c->fw_cfg)
		isa_devices(a, fw_cfg, ARRAY_LEN(fw_cfg));
	if (c->hpet_id)
		hpet(a);
	mmio(a, c);
	if (c->generation.at)
		generation(a, &c->generation);
	if (c->pci)
		pci(a, c->pci, &c->hotplug);
}

/*
 * General-purpose events (5.6.4.1): the operating system has cleared an event's status when it
 * runs \_GPE._Exx. A row says where acpi_config has the event's number, 0 being none, and what is
 * done about it.
 */
static void hotplug_event(struct aml *a) { aml_call(a, "\\_SB_.PCI0.HPEV"); }

#define NOTIFY_CHANGED 0x80 /* of a device's own kinds */
static void generation_event(struct aml *a) { aml_notify(a, "\\_SB_.VGEN", NOTIFY_CHANGED); }

static const struct event {
	size_t number; /* offset of an u8 */
	void (*handle)(struct aml *a);
} events[] = {
	{ offsetof(struct acpi_config, hotplug.gpe), hotplug_event },
	{ offsetof(struct acpi_config, generation.gpe), generation_event },
};

static void general_events(struct aml *a, const struct acpi_config *c)
{
	aml_scope(a, "\\_GPE");
	for (const struct event *e = events; e < events + ARRAY_LEN(events); e++) {
		u8 number = *((const u8 *)c + e->number);
		char name[5];

		if (!number)
			continue;
		snprintf(name, sizeof(name), "_E%02X", number);
		aml_method(a, name, 0);
		e->handle(a);
		aml_close(a);
	}
	aml_close(a);
}

u32 acpi_dsdt(u8 *to, u32 size, const struct acpi_config *c)
{
	/* 7.4.2: the values for the PM1a and PM1b control registers, and two reserved. */
	const u8 s5[] = { c->s5_type, c->s5_type, 0, 0 };
	struct aml a = aml_into(to, size);

	aml_scope(&a, "\\_SB_");
	processors(&a, x86_topology_count(&c->topology));
	platform(&a, c);
	devices(&a, c);
	aml_close(&a);
	general_events(&a, c);
	aml_name_package(&a, "\\_S5_", s5, ARRAY_LEN(s5));
	return a.overflow ? 0 : a.len;
}
