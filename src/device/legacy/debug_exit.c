/*
 * Debug exit: a write of v ends the monitor with status (v << 1) | 1, which tests use to report. At
 * 0xf4, where test kernels look for it, and at 0x501. Reads as zero. There is no state.
 */
#include "device/legacy/legacy.h"

static u64 exit_read(struct device *d, unsigned window, u64 offset, unsigned size) { return 0; }

static void exit_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	if (d->env.exit_code)
		d->env.exit_code(d->env.machine, (u32)value);
}

const struct device_class debug_exit_class = {
	.name = "debug_exit",
	.doc = "ends the monitor with the status a guest writes",
	.size = sizeof(struct device),
	.read = exit_read,
	.write = exit_write,
	.windows = { { BUS_PORT, 0xf4, 4 }, { BUS_PORT, 0x501, 4 } },
};
