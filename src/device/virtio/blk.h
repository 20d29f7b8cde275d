/* The virtio block device. Its backend is device_env's disk. */
#pragma once
#include "device/device.h"

#define VIRTIO_BLK_QUEUES_MAX 8u

extern const struct device_class virtio_blk_class, virtio_blk_mmio_class;
