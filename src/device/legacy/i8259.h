/* The 8259A pair as the machine and the processor see it. Machine's lock held. */
#pragma once
#include "device/device.h"

/* Drives IRQ input n (0-15; 2 is the cascade and has no pin). */
void pic_set_irq(struct device *d, unsigned n, bool level);
/* The processor's INTA cycles: the vector of the highest request, or the spurious one (IRQ7,
 * IRQ15). */
int pic_ack(struct device *d);
