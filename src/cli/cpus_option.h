/* --cpus N[,sockets=N][,cores=N][,threads=N][,numa] */
#pragma once
#include "machine/machine.h"

struct cpus_option {
	unsigned count;
	struct x86_topology topology; /* of so many */
	bool numa;
};

/* text NULL: one processor. What is not given of the topology follows from the rest; together it
 * must be the number of processors. -EINVAL with err. */
NODISCARD int cpus_option_parse(const char *text, struct cpus_option *o, struct err *err);
void cpus_option_help(FILE *to);
