/* The AHCI host bus adapter's class; the machine gives it disks. */
#pragma once
#include "device/device.h"

#define AHCI_PORTS DEVICE_DISKS_MAX /* as the ICH9 has */

extern const struct device_class ahci_class;
