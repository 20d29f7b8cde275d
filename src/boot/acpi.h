/*
 * The ACPI tables of the machine (ACPI 6.4): RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, MCFG, SRAT,
 * SLIT, DSDT. Built in a buffer as one image for a fixed place below 1 MiB, then copied to guest
 * memory. The boot layer knows no devices: whoever assembles the machine says what it has.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "bus/pci.h"
#include "memory/memory.h"
#include "x86/topology.h"

/* The RSDP is first, on the 16-byte boundary where legacy systems search (5.2.5.1). SMBIOS has the
 * 64 KiB above. */
#define ACPI_BASE 0xe0000ull
#define ACPI_SIZE 0x10000u

#define ACPI_CPUS_MAX	255 /* APIC ids 0 to 254; 255 is broadcast */
#define ACPI_TABLES_MAX 12
#define ACPI_MMIO_MAX	2

/* Ports of power management; those in parentheses may be 0 for "none". */
struct acpi_ports {
	u16 base, len;	    /* what they occupy, side by side */
	u16 event, control; /* PM1a: 4 bytes (status, enable), 2 bytes */
	u16 timer;	    /* 4 bytes */
	u16 gpe0;	    /* (4 bytes: status, enable) */
	u16 smi_command;    /* (without it the machine is always in ACPI mode) */
	u8 enable, disable; /* what to write there */
	u16 reset;	    /* (1 byte) */
	u8 reset_value;
};

/* Slots whose functions come and go (device/pci/hotplug.h has the registers). */
struct acpi_hotplug {
	u16 port; /* 0: none */
	u8 len;
	u8 gpe;	   /* the event that tells of them */
	u32 slots; /* a bit for each */
};

/* The virtual machine generation id (Microsoft, "Virtual Machine Generation ID", 2012): 16 bytes of
 * memory that no system uses, and the event that tells of their change. */
struct acpi_generation {
	u32 at; /* 0: none */
	u8 gpe;
};

/* Memory that is nearer to one socket's processors than to others. */
struct acpi_near {
	u64 base, size;
	unsigned socket;
};

struct acpi_config {
	struct x86_topology topology; /* at most ACPI_CPUS_MAX processors */
	/* near_count of them; 0: all memory is equally far from everybody */
	const struct acpi_near *near;
	unsigned near_count;
	struct acpi_ports ports;
	bool timer_32bit;   /* else 24 */
	u8 sci_irq;	    /* level-triggered, active high */
	u8 s5_type;	    /* SLP_TYP that powers off */
	u32 hpet_id;	    /* low half of the HPET's capability register; 0: no HPET */
	u16 hpet_min_tick;  /* shortest period it can keep up with, in its ticks */
	unsigned com_ports; /* 0 to 2 */
	bool i8042;	    /* keyboard controller */
	bool vga;
	bool fw_cfg; /* the firmware's configuration device */
	/* Virtio devices that are not on PCI: a page from mmio_base on and an interrupt each. */
	unsigned mmio_count;
	u32 mmio_base;
	u8 mmio_irq[ACPI_MMIO_MAX];
	const struct pci_map *pci;   /* NULL: no PCI */
	struct acpi_hotplug hotplug; /* with PCI */
	struct acpi_generation generation;
};

struct acpi_table {
	char signature[5];
	u32 offset, len; /* in the image */
};

struct acpi_image {
	u8 data[ACPI_SIZE];
	u32 len;
	gpa_t rsdp; /* for loaders that hand it over (PVH, Linux's zero page) */
	struct acpi_table tables[ACPI_TABLES_MAX]; /* all but the RSDP */
	unsigned count;
};

NODISCARD int acpi_build(
	struct acpi_image *image, const struct acpi_config *config, struct err *err);
NODISCARD int acpi_load(const struct acpi_image *image, struct memory *m, struct err *err);

/* boot/dsdt.c: the DSDT's body at to[0..size); its length, or 0 when it does not fit. */
u32 acpi_dsdt(u8 *to, u32 size, const struct acpi_config *config);
