/* The I/O APIC: turns 24 interrupt lines into messages to the local APICs. */
#pragma once
#include "device/device.h"

#define IOAPIC_BASE 0xfec00000ull
#define IOAPIC_SIZE 0x1000ull
#define IOAPIC_PINS 24u

extern const struct device_class ioapic_class;

/* true: the line is asserted, whichever polarity the pin is programmed for. */
void ioapic_set_irq(struct device *dev, unsigned pin, bool level);
/* Calls `fn` with what a pin sends whenever that may have changed, before it is sent; now for every
 * pin. For engines that keep the local APICs: they tell the EOIs of vectors that they know. */
typedef void ioapic_route_fn(void *ctx, unsigned pin, u64 address, u32 data);
void ioapic_watch(struct device *dev, ioapic_route_fn *fn, void *ctx);
/* A local APIC finished this level-triggered vector. */
void ioapic_eoi(struct device *dev, u8 vector);
