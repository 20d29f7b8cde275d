/*
 * The two sockets of the keyboard controller. A keyboard or mouse plugs itself in and then gets the
 * bytes the guest sends it; it answers with i8042_send(). Machine's lock held.
 */
#pragma once
#include "device/device.h"

enum i8042_port { I8042_KEYBOARD, I8042_AUX, I8042_PORTS };

struct ps2_device {
	void (*receive)(void *ctx, u8 byte); /* may answer at once */
	void (*room)(void *ctx);	     /* for a byte more; NULL: it does not care */
	void *ctx;
};

void i8042_plug(struct device *d, enum i8042_port port, struct ps2_device what);
/* How many bytes can be sent now. */
unsigned i8042_room(struct device *d, enum i8042_port port);
/* A byte from the device; false when the controller's queue for that port is full. */
NODISCARD bool i8042_send(struct device *d, enum i8042_port port, u8 byte);
