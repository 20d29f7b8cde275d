/* High precision event timers. The outputs, in device_env.lines, are listed here. */
#pragma once
#include "device/device.h"

#define HPET_BASE 0xfed00000ull
#define HPET_SIZE 0x400ull

/* The low half of the capability register, which the ACPI table repeats: revision 1, three
 * timers, 64-bit counter, legacy replacement. */
#define HPET_ID 0x8086a201u

/* Shortest period served without loss, in ticks of 10 ns; the ACPI table says so. */
#define HPET_MIN_TICK 5000u

/* lines[0..23]: pins of the I/O APIC, by a timer's route field. */
#define HPET_LINE_IRQ0	 24 /* legacy replacement: where the 8254 was, by both controllers */
#define HPET_LINE_IRQ8	 25 /* and the real-time clock */
#define HPET_LINE_LEGACY 26 /* replacement is on: the machine disconnects those two */

extern const struct device_class hpet_class;
