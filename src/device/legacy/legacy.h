/* The classes of the ISA-era parts, for device/table.c and for the machine that wires them. */
#pragma once
#include "device/device.h"

extern const struct device_class pic_class;
extern const struct device_class pit_class;
extern const struct device_class rtc_class;
extern const struct device_class uart_class;
extern const struct device_class i8042_class;
extern const struct device_class acpi_pm_class;
extern const struct device_class debug_exit_class;
extern const struct device_class post_port_class;
extern const struct device_class debugcon_class;

/* The real-time clock alone goes forward by that much, in whole seconds. */
void rtc_pass(struct device *d, u64 ns);
