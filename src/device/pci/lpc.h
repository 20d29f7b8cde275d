/* The ISA bridge of the Q35's I/O controller hub. */
#pragma once
#include "device/device.h"

#define LPC_SLOT 31u

extern const struct device_class lpc_class;
