/* --vsock PATH[,cid=N] */
#pragma once
#include "machine/machine.h"

struct vsock_option {
	struct machine_vsock_config config;
	char *text; /* what the config's strings point into */
};

/* *wanted: there is to be a device. -EINVAL with err. */
NODISCARD int vsock_option_parse(
	const char *text, struct vsock_option *option, bool *wanted, struct err *err);
void vsock_option_free(struct vsock_option *option);
