/* The virtio entropy device. Its backend is device_env's random(). */
#pragma once
#include "device/device.h"

extern const struct device_class virtio_rng_class;
