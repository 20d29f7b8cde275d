/*
 * The virtual machine generation id: 16 bytes that are others whenever a machine goes on from a
 * state that another one may go on from, too. A guest that sees them change makes its random
 * numbers anew (Linux's vmgenid does), and whatever else must not be there twice.
 *
 * It stays through resets, and is chosen when the machine is made: so one that is restored has
 * another one, which takes the saved one's place in memory. Firmware would have to be told where
 * that is; with firmware there is none.
 */
#include "device/legacy/acpi_pm.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <string.h>
#include <sys/random.h>

/* Between video memory and the tables, where boot/e820.c has nothing to give away: RAM that stays
 * what it is, as the specification wants it, on a boundary of 8 bytes. */
#define PLACE 0xdf000u

int generation_choose(struct machine *m, struct err *err)
{
	return getrandom(m->generation, sizeof(m->generation), 0) == sizeof(m->generation)
		       ? 0
		       : err_set(err, -errno, "a generation id: %s", strerror(errno));
}

struct acpi_generation generation_place(const struct machine *m)
{
	return m->config.firmware ? (struct acpi_generation){ 0 }
				  : (struct acpi_generation){ PLACE, ACPI_GPE_GENERATION };
}

void generation_put(struct machine *m)
{
	(void)!memory_write(&m->memory, gpa(PLACE), m->generation, sizeof(m->generation));
}

void generation_renewed(struct machine *m)
{
	if (m->config.firmware)
		return;
	generation_put(m);
	pthread_mutex_lock(&m->lock);
	acpi_pm_event(m->pm, ACPI_GPE_GENERATION);
	pthread_mutex_unlock(&m->lock);
}
