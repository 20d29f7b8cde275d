/*
 * What the machine tells its firmware: numbered items and named files, all of them copies that the
 * device owns, put in before power-on. Linux Documentation and SeaBIOS call the parts so, too.
 */
#pragma once
#include "device/device.h"

#define FW_CFG_BASE	 0x510u
#define FW_CFG_PORTS	 12u /* for the DSDT: selector, data and DMA address */
#define FW_CFG_NAME_SIZE 56u /* with the zero at the end */
#define FW_CFG_FILE_MAX	 MiB

/* Numbers of items that are no files */
enum fw_cfg_key {
	FW_CFG_SIGNATURE = 0x00,
	FW_CFG_ID = 0x01,
	FW_CFG_CPUS = 0x05,
	FW_CFG_BOOT_MENU = 0x0e,
	FW_CFG_CPUS_MAX = 0x0f,
	FW_CFG_DIRECTORY = 0x19,
	FW_CFG_FIRST_FILE = 0x20,
};

/* A number of up to eight bytes. */
void fw_cfg_number(struct device *d, enum fw_cfg_key key, u64 value, unsigned len);
/* -ENOSPC, -ENOMEM; -EINVAL for a name or a length that is too long. */
NODISCARD int fw_cfg_file(
	struct device *d, const char *name, const void *data, size_t len, struct err *err);

extern const struct device_class fw_cfg_class;
