/* Flash memory for firmware's variables: see flash.c. */
#pragma once
#include "device/device.h"

#define FLASH_BLOCK    4096u
#define FLASH_SIZE_MAX (4 * MiB)

extern const struct device_class flash_class;
