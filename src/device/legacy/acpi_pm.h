/*
 * ACPI power management registers: where they are and what the tables must say about them. The FADT
 * is built from these constants, so that tables and device cannot disagree.
 */
#pragma once
#include "device/device.h"

/* Fixed hardware (ACPI 6.4, 4.8.3 and 5.2.9), all in I/O space. */
#define ACPI_PM_BASE	0x600u
#define ACPI_PM1A_EVT	(ACPI_PM_BASE + 0x00u) /* PM1_EVT_LEN 4: status, enable */
#define ACPI_PM1A_CNT	(ACPI_PM_BASE + 0x04u) /* PM1_CNT_LEN 2 */
#define ACPI_PM_TMR	(ACPI_PM_BASE + 0x08u) /* PM_TMR_LEN 4 */
#define ACPI_PM_GPE0	(ACPI_PM_BASE + 0x20u) /* GPE0_BLK_LEN 4: 16 events */
#define ACPI_PM_LEN	0x40u
#define ACPI_PM_SMI_CMD 0xb2u
#define ACPI_PM_ENABLE	0xf1u /* FADT ACPI_ENABLE, ACPI_DISABLE */
#define ACPI_PM_DISABLE 0xf0u
#define ACPI_PM_S5_TYPE 0u /* \_S5's first two elements; no other sleep state */
#define ACPI_PM_SCI_IRQ 9u /* level, active high; lines[0] */

/*
 * The timer is 32 bits wide (FADT flag TMR_VAL_EXT) unless property timer_bits says 24. The
 * hardware starts in ACPI mode (SCI_EN set), so the FADT need not name the SMI command port; it
 * works for firmware that wants a legacy mode.
 */

/* The general-purpose events and whose they are; 0 is nobody's, so that 0 can mean none. What each
 * leads to is a row in boot/dsdt.c. */
enum acpi_pm_gpe {
	ACPI_GPE_HOTPLUG = 1,	 /* pci/hotplug.c */
	ACPI_GPE_GENERATION = 2, /* machine/generation.c */
};

/* The fixed power button was pressed. Machine's lock held. */
void acpi_pm_power_button(struct device *d);
/* General-purpose event n (0-15) happened. */
void acpi_pm_event(struct device *d, unsigned n);
