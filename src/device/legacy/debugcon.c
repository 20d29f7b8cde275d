/*
 * The debug console at 0xe9: a write is a character, a read gives 0xe9, by which firmware knows
 * that somebody listens. There is no status and so no flow control: a character that the backend
 * does not take at once is lost. There is no state.
 */
#include "device/legacy/legacy.h"

#define DEBUGCON_PORT 0xe9u

static u64 debugcon_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	return DEBUGCON_PORT;
}

static void debugcon_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	u8 byte = (u8)value;

	if (d->env.console)
		d->env.console->write(d->env.console_ctx, &byte, 1);
}

const struct device_class debugcon_class = {
	.name = "debugcon",
	.doc = "debug console at port 0xe9",
	.size = sizeof(struct device),
	.width = 1,
	.read = debugcon_read,
	.write = debugcon_write,
	.windows = { { BUS_PORT, DEBUGCON_PORT, 1 } },
};
