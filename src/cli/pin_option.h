/* --pin CPU[,CPU...] */
#pragma once
#include "machine/machine.h"

/* The host's processors, one for each of the machine's `cpus`. All of them exist, and this process
 * may run on them. -EINVAL with err. */
NODISCARD int pin_option_parse(
	const char *text, unsigned cpus, int pins[MACHINE_CPUS_MAX], struct err *err);
