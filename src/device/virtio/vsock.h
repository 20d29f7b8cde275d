/* The virtio socket device. Its backend is device_env's net; what passes is packets, head and data,
 * as virtio 1.2 5.10.6 has them. */
#pragma once
#include "device/device.h"

#define VIRTIO_VSOCK_CID_MIN 3u
#define VIRTIO_VSOCK_CID_MAX 0xfffffffeu

extern const struct device_class virtio_vsock_class;
