/* Devices for machines that run: the monitor's end of `strata attach`. */
#pragma once
#include "control/control.h"
#include "machine/machine.h"

/* What the owner has sent, as struct control_ops.attach. */
NODISCARD int attach_to(struct machine *m, const struct control_attach *a,
	char name[CONTROL_DEVICE_MAX], struct err *err);
