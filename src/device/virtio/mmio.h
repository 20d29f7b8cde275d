/* What the class of a virtio device has whose registers are memory-mapped: see mmio.c. */
#pragma once
#include "device/device.h"

#define VIRTIO_MMIO_LEN 0x200u

u64 virtio_mmio_read(struct device *d, unsigned window, u64 offset, unsigned size);
void virtio_mmio_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value);
