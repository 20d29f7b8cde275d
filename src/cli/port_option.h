/* --port NAME=SOCKET, repeated */
#pragma once
#include "cli/options.h"
#include "machine/machine.h"

/* -EINVAL with err. To be freed in any case. */
NODISCARD int port_option_parse(const struct option_list *texts,
	struct machine_port_config ports[MACHINE_PORTS_MAX], struct err *err);
void port_option_free(struct machine_port_config ports[MACHINE_PORTS_MAX]);
