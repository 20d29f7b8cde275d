/*
 * An IDE controller as in Intel's PIIX3, with up to four drives: master and slave of the primary
 * channel, master and slave of the secondary one. env.disk_ctx is the first's contents, disk_more
 * the others'; a property of each says whether it is a CD-ROM drive.
 */
#pragma once
#include "device/device.h"

#define IDE_DRIVES 4u

extern const struct device_class ide_class;
