/* The NVM Express controller's class; the machine gives it a disk. */
#pragma once
#include "device/device.h"

#define NVME_QUEUES_MAX 8u /* pairs, besides the administrator's */

extern const struct device_class nvme_class;
