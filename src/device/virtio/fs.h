/* A shared folder: see fs.c. */
#pragma once
#include "device/device.h"

#define VIRTIO_FS_TAG_MAX 36u
#define VIRTIO_FS_GONE	  UINT32_MAX

extern const struct device_class virtio_fs_class;

/* Of the request in this slot: how long its answer is, 0 where it has none; VIRTIO_FS_GONE: there
 * will be none. */
void virtio_fs_answered(struct device *d, unsigned slot, u32 len);
