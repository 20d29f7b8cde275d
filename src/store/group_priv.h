/* What machines have left of their control groups. */
#pragma once

/* Removes those of machines that do not run. Needs no lock. */
void group_sweep(void);
/* Of a machine's folder that goes; its lock is taken. */
void group_forget(int folder);
