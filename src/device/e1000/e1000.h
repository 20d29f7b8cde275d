/* The 82540EM's class; the machine plugs it into a network. */
#pragma once
#include "device/device.h"

extern const struct device_class e1000_class;
