/* The virtio network device. Its backend is device_env's net. */
#pragma once
#include "device/device.h"

/* "52:54:00:12:34:56" */
#define VIRTIO_NET_MAC_LEN   17u
#define VIRTIO_NET_PAIRS_MAX 4u

extern const struct device_class virtio_net_class;
