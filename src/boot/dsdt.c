/*
 * The DSDT: what a guest cannot find by itself. Processors, the devices of the ISA bus, the ports
 * and pages the platform occupies, and the sleep state that powers off.
 *
 * The ISA devices stand beside the PCI host bridge: what they decode is theirs before anything on
 * PCI sees it, and guests without PCI find them, too. The power button is the fixed one of the PM1
 * block, which needs no object here.
 */
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

/* Keeps operating systems from placing anything else there. */
static void platform(struct aml *a, const struct acpi_config *c)
{
	aml_device(a, "MBRD");
	aml_name_eisaid(a, "_HID", "PNP0C02");
	aml_crs(a);
	aml_crs_io(a, c->ports.base, (u8)c->ports.len);
	if (c->ports.smi_command)
		aml_crs_io(a, c->ports.smi_command, 1);
	if (c->ports.reset && !c->pci) /* else within the bridge's ports */
		aml_crs_io(a, c->ports.reset, 1);
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

static void pci(struct aml *a, const struct pci_map *p)
{
	aml_device(a, "PCI0");
	aml_name_eisaid(a, "_HID", "PNP0A08");
	aml_name_eisaid(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	pci_windows(a, p);
	pci_routing(a, p);
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
	if (c->pci)
		pci(a, c->pci);
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
	aml_name_package(&a, "\\_S5_", s5, ARRAY_LEN(s5));
	return a.overflow ? 0 : a.len;
}
