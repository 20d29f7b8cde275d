/*
 * ACPI tables for firmware that places them itself: the image becomes two files whose pointers are
 * offsets, and a script tells the firmware what to add where (QEMU's "etc/table-loader", described
 * in its hw/acpi/bios-linker-loader.c, which SeaBIOS and OVMF execute).
 *
 *   "etc/acpi/rsdp"     image data from 0, ACPI_RSDP_LEN bytes
 *   "etc/acpi/tables"   image data from acpi_files_start() to its end
 *   "etc/table-loader"  the script
 */
#pragma once
#include "boot/acpi.h"

#define ACPI_RSDP_LEN	  36u
#define ACPI_COMMAND_LEN  128u
#define ACPI_COMMANDS_MAX 32u
#define ACPI_FILE_RSDP	  "etc/acpi/rsdp"
#define ACPI_FILE_TABLES  "etc/acpi/tables"
#define ACPI_FILE_SCRIPT  "etc/table-loader"

struct acpi_script {
	u8 data[ACPI_COMMANDS_MAX * ACPI_COMMAND_LEN];
	u32 len;
};

u32 acpi_files_start(const struct acpi_image *image);
/* An image that acpi_build() has made; its pointers become offsets in the file of tables. */
void acpi_link(struct acpi_image *image, struct acpi_script *script);
