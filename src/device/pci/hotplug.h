/*
 * Slots of the PCI bus whose functions come and go while a guest runs. How its system hears of it,
 * and agrees, is ACPI's (6.4, 5.6.6 and 6.3.3); the registers behind the ACPI methods are our own:
 *
 *   0  came    a bit for each slot: its function has come; writing a one clears the bit
 *   4  leave   its function is asked to go; the same
 *   8  eject   writing a one takes the slot's function away; reads as zero
 *
 * lines[0]: rises when there is something new in one of the first two, and so is told to the
 * general-purpose event; falls when both are empty.
 */
#pragma once
#include "device/device.h"

#define PCI_HOTPLUG_BASE 0x640u
#define PCI_HOTPLUG_LEN	 12u
#define PCI_HOTPLUG_FIRST \
	24u /* the slots from here on; what a machine is made with fills the others */
#define PCI_HOTPLUG_COUNT (PCI_SLOTS - PCI_HOTPLUG_FIRST)
#define PCI_HOTPLUG_SLOTS (0xffffffffu << PCI_HOTPLUG_FIRST)

/* The slot's function is there now. The machine's lock held, as for all of them. */
void pci_hotplug_came(struct device *d, unsigned slot);
/* The guest is asked to let go of it; env.eject() is called when it has. May be asked again. */
void pci_hotplug_leave(struct device *d, unsigned slot);
/* There is nothing to say about the slot any more. */
void pci_hotplug_gone(struct device *d, unsigned slot);

extern const struct device_class pci_hotplug_class;
