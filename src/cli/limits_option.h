/* --limits NAME=VALUE[,NAME=VALUE...]: how much of the host a machine's processes take together. */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "os/cgroup.h"
#include <stdio.h>

enum limit { LIMIT_MEMORY, LIMIT_CPU, LIMIT_WEIGHT, LIMIT_PIDS, LIMITS };

#define LIMIT_UNSET UINT64_MAX
#define LIMIT_OWN   (64 * MiB) /* of the monitor's own, beside the guest's memory */

/* Bytes; thousandths of a processor; a share; a number. */
struct limits_option {
	u64 value[LIMITS];
};

/* text NULL: none. -EINVAL with err. */
NODISCARD int limits_option_parse(const char *text, struct limits_option *o, struct err *err);
/* A limit of memory is for a machine that it leaves room for. */
NODISCARD int limits_option_check(const struct limits_option *o, u64 memory, struct err *err);
void limits_option_help(FILE *to);

/* As a control group has them: those that are set; with `all`, the others, too, as unlimited. How
 * many there are. */
unsigned limits_option_values(
	const struct limits_option *o, bool all, struct cgroup_value values[LIMITS]);
/* As systemd.resource-control(5) has them, in which properties; the number of arguments, of two
 * kinds: name, D-Bus type and value; or, with `assignments`, "Name=value". */
#define LIMITS_WORDS (3 * LIMITS)
unsigned limits_option_properties(const struct limits_option *o, bool assignments,
	char words[LIMITS_WORDS][CGROUP_VALUE_MAX]);
/* The name of a limit, and what a group's file says of it: LIMIT_UNSET: it is none. */
const char *limits_option_name(enum limit limit);
const char *limits_option_file(enum limit limit);
u64 limits_option_read(enum limit limit, const char *text);
