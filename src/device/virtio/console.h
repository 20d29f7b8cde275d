/* A console and ports: see console.c. */
#pragma once
#include "device/device.h"

#define VIRTIO_CONSOLE_PORTS 4u

extern const struct device_class virtio_console_class;

/* Bytes for a port; returns how many were taken. Less than all: struct port_ops.room comes. */
size_t virtio_console_input(struct device *d, unsigned port, const u8 *data, size_t len);
/* Whoever took less than he was given takes more. */
void virtio_console_room(struct device *d, unsigned port);
/* Somebody is at the host's end of the port, or nobody is any more. */
void virtio_console_connected(struct device *d, unsigned port, bool connected);
