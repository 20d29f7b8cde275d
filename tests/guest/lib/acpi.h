/* The few facts a test needs from ACPI's tables. */
#pragma once
#include "guest.h"

/* The table with this signature, or NULL (ACPI 6.4 5.2.5-5.2.8). */
const u8 *acpi_find(const char *signature);
u16 acpi_pm_timer_port(void); /* 0: none */
ulong acpi_hpet_base(void);   /* 0: none */
