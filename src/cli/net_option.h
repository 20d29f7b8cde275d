/* --net user|tap=IF|segment=NAME[,NAME=VALUE...], or none */
#pragma once
#include "machine/machine.h"
#include <stdio.h>

struct net_option {
	struct machine_net_config config;
	struct net_forward forwards[NET_FORWARDS_MAX];
	char mac[20];
	char *text; /* what the config's strings point into */
};

/* *wanted: there is to be a network. The option must not move afterwards. -EINVAL with err. */
NODISCARD int net_option_parse(
	const char *text, struct net_option *option, bool *wanted, struct err *err);
/* The forward by which ssh reaches the guest; NULL: there is none. */
const struct net_forward *net_option_ssh(const struct net_option *option);
void net_option_free(struct net_option *option);
void net_option_help(FILE *to);
