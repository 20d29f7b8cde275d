/* The host bridge: what the machine, in firmware's place, has to know of it. */
#pragma once
#include "device/device.h"

#define Q35_SLOT     0u
#define Q35_PCIEXBAR 0x60u /* 8 bytes: where configuration space is shown, and whether */
#define Q35_ECAM_ON  BIT(0)
#define Q35_ECAM_LEN (256 * MiB)

/* Which memory from 0xc0000 to 0xfffff is RAM, 7 bytes; registers only: all of it always is. */
#define Q35_PAM	  0x90u
#define Q35_SMRAM 0x9du

/* The reset control register, and what resets the machine there (FADT RESET_REG). */
#define Q35_RESET    0xcf9u
#define Q35_RESET_ON 0x06u

/* Output lines 0 to PCI_LINKS - 1 are the links that INTx wires end in. */
extern const struct device_class q35_class;
