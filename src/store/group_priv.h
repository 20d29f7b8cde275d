/* What machines have left of their control groups. */
#pragma once
#include "store/store.h"

/* Of one whose monitor was killed in that run: by the kernel, for the group's limit of memory. A
 * group that systemd has made goes with its last process, and cannot be asked. */
bool group_starved(const struct store_machine *m, const struct store_outcome *o);

/* Removes those of machines that do not run. Needs no lock. */
void group_sweep(void);
/* Of a machine's folder that goes; its lock is taken. */
void group_forget(int folder);
