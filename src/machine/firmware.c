/*
 * A machine that starts in firmware: a ROM that ends at 4 GiB, the first instruction at the reset
 * vector, and the device through which the firmware learns the rest (device/firmware/fw_cfg.h).
 * SeaBIOS (docs/Runtime_config.md) and OVMF know the files by these names.
 *
 * Firmware finds PCI as it comes out of reset, places BARs and tables itself, and boots from the
 * first disk of its boot order that it can.
 */
#include "base/bits.h"
#include "base/log.h"
#include "base/scope.h"
#include "boot/acpi_linker.h"
#include "boot/e820.h"
#include "device/firmware/fw_cfg.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COM1_PORT 0x3f8

int firmware_layout(struct machine *m, struct err *err)
{
	enum boot_format format;
	u64 size = m->firmware.size;

	if (boot_detect(&m->firmware, &format, &(struct err){ 0 }) || format != BOOT_FIRMWARE)
		return err_set(err, -ENOEXEC,
			"firmware %s: not a BIOS image: its size is no multiple of 4 KiB up to 16 "
			"MiB, or "
			"there is no jump 16 bytes before its end",
			m->config.firmware);
	struct memory_region *rom = memory_add_region(&m->memory, "firmware", size, true, err);
	return rom ? memory_add_slot(&m->memory, rom, gpa(4 * GiB - size), 0, size, err)
		   : err->code;
}

int firmware_boot(struct machine *m, struct err *err)
{
	struct e820_map map;

	m->firmware_log.len = 0;
	e820_build(&map, &m->memory);
	return boot_load(
		&(struct boot_request){
			.memory = &m->memory,
			.map = &map,
			.kernel = m->firmware,
			.format = BOOT_FIRMWARE,
		},
		&m->cpus[0].v.x86.s, err);
}

/* ---- what it says ---- */

static size_t log_write(void *ctx, const u8 *data, size_t len)
{
	struct firmware_log *log = ctx;

	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n')
			log->line[log->len++] =
				data[i] >= ' ' && data[i] < 0x7f ? (char)data[i] : '?';
		if ((data[i] == '\n' && log->len) || log->len == sizeof(log->line)) {
			log_dbg("firmware", "%.*s", (int)log->len, log->line);
			log->len = 0;
		}
	}
	return len;
}

const struct console_ops firmware_log_backend = { .write = log_write };

/* ---- what it is told ---- */

/* RAM as the files' readers expect it: what is not RAM between 0 and its end is their business. */
static u32 memory_map(const struct machine *m, struct e820_entry entries[2])
{
	u64 top = memory_ram_top(&m->memory);
	u64 low = min_u64(memory_ram_size(&m->memory), FIRMWARE_ECAM);

	entries[0] = (struct e820_entry){ 0, low, E820_RAM };
	entries[1] = (struct e820_entry){ 4 * GiB, top - 4 * GiB, E820_RAM };
	return top > 4 * GiB ? 2 : 1;
}

static int tell_sizes(
	struct machine *m, const struct e820_entry entries[2], u32 count, struct err *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)entries[0].size);
	if (device_set(m->rtc, "ram_below_4g", text, err))
		return err->code;
	snprintf(text, sizeof(text), "%llu", count > 1 ? (unsigned long long)entries[1].size : 0);
	return device_set(m->rtc, "ram_above_4g", text, err);
}

static int add_tables(struct machine *m, struct err *err)
{
	AUTO_FREE struct acpi_image *acpi = calloc(1, sizeof(*acpi));
	AUTO_FREE struct smbios_image *smbios = calloc(1, sizeof(*smbios));
	AUTO_FREE struct acpi_script *script = calloc(1, sizeof(*script));

	if (!acpi || !smbios || !script)
		return err_set(err, -ENOMEM, "no memory for the firmware tables");
	if (load_tables(m, acpi, smbios, err))
		return err->code;
	acpi_link(acpi, script);
	u32 start = acpi_files_start(acpi);
	const struct {
		const char *name;
		const void *data;
		u32 len;
	} files[] = {
		{ ACPI_FILE_RSDP, acpi->data, ACPI_RSDP_LEN },
		{ ACPI_FILE_TABLES, acpi->data + start, acpi->len - start },
		{ ACPI_FILE_SCRIPT, script->data, script->len },
		{ "etc/smbios/smbios-anchor", smbios->data + SMBIOS_ANCHOR, SMBIOS_ANCHOR_LEN },
		{ "etc/smbios/smbios-tables", smbios->data + SMBIOS_STRUCTURES,
			smbios->len - SMBIOS_STRUCTURES },
	};
	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		if (fw_cfg_file(m->fw_cfg, files[i].name, files[i].data, files[i].len, err))
			return err->code;
	return 0;
}

/* The slot of a device on PCI; PCI_SLOTS when it has none. */
static unsigned slot_of(const struct machine *m, const char *name)
{
	unsigned slot = 0;

	while (slot < PCI_SLOTS && !(m->pci.slots[slot] && !strcmp(m->pci.slots[slot]->name, name)))
		slot++;
	return slot;
}

/* Which of the disks with this one's bus it is. */
static unsigned nth(const struct machine *m, unsigned disk)
{
	unsigned n = 0;

	for (unsigned i = 0; i < disk; i++)
		n += m->config.disks[i].bus == m->config.disks[disk].bus;
	return n;
}

/* Its Open Firmware path; how long it is. */
static int boot_path(const struct machine *m, unsigned disk, char *to, size_t size)
{
	unsigned drives[MACHINE_IDE_MAX], n = 0;
	char name[16];

	snprintf(name, sizeof(name), "disk%u", disk);
	switch ((enum machine_bus)m->config.disks[disk].bus) {
	case MACHINE_VIRTIO:
	case MACHINE_NVME:
		return snprintf(to, size, "/pci@i0cf8/scsi@%x/disk@0,0", slot_of(m, name));
	case MACHINE_AHCI:
		return snprintf(to, size, "/pci@i0cf8/pci@%x/drive@%x/disk@0", slot_of(m, "ahci"),
			nth(m, disk));
	case MACHINE_IDE:
		disk_ide(m, drives);
		while (n < MACHINE_IDE_MAX - 1 && drives[n] != disk)
			n++;
		return snprintf(to, size, "/pci@i0cf8/ide@%x/drive@%x/disk@%x", slot_of(m, "ide"),
			n / 2, n % 2);
	}
	return 0;
}

/* A line each, the first choice first: disks as the command line has them, then CD-ROM drives. */
static int add_boot_order(struct machine *m, struct err *err)
{
	char text[64 * MACHINE_DISKS_MAX] = "";
	size_t len = 0;

	for (unsigned i = 0; i < 2 * m->disk_count; i++) {
		unsigned disk = i % m->disk_count, cd = i / m->disk_count;

		if (m->config.disks[disk].cdrom != cd)
			continue;
		if (len)
			text[len++] = '\n';
		len += (size_t)boot_path(m, disk, text + len, sizeof(text) - len);
	}
	return fw_cfg_file(m->fw_cfg, "bootorder", text, len + 1, err);
}

int firmware_describe(struct machine *m, struct err *err)
{
	const u16 cpus = (u16)m->config.cpus, com1 = COM1_PORT;
	/* What firmware calls the most there can be is where APIC ids end. */
	const u16 ids = (u16)(m->cpus[cpus - 1].v.apic_id + 1);
	struct e820_entry entries[2];
	u32 count = memory_map(m, entries);

	if (!m->config.firmware)
		return 0;
	fw_cfg_number(m->fw_cfg, FW_CFG_CPUS, cpus, sizeof(cpus));
	fw_cfg_number(m->fw_cfg, FW_CFG_CPUS_MAX, ids, sizeof(ids));
	fw_cfg_number(m->fw_cfg, FW_CFG_BOOT_MENU, 0, sizeof(u16));
	if (tell_sizes(m, entries, count, err) ||
		fw_cfg_file(m->fw_cfg, "etc/e820", entries, count * sizeof(entries[0]), err) ||
		fw_cfg_file(m->fw_cfg, "etc/boot-cpus", &cpus, sizeof(cpus), err) ||
		fw_cfg_file(m->fw_cfg, "etc/sercon-port", &com1, sizeof(com1), err) ||
		add_tables(m, err))
		return err->code;
	/* The name is that of the VGA's PCI identity. */
	if (m->video_bios.size && fw_cfg_file(m->fw_cfg, "pci1234,1111.rom", m->video_bios.data,
					  m->video_bios.size, err))
		return err->code;
	return add_boot_order(m, err);
}
