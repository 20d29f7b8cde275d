/* What `strata run` is told, and what others start machines by. */
#pragma once
#include "cli/verbs.h"

struct life;

struct run_values {
	const char *engine, *kernel, *initrd, *append, *firmware, *trace, *translate, *kvm, *net,
		*vsock, *pin, *cpus, *display, *name, *image, *user, *file, *limits;
	u64 memory, timeout_ns, balloon; /* memory 0: as much as is usual */
	struct option_list disks, cdroms, shares, ports;
	unsigned log, console;
	bool no_reboot, no_sandbox, stats, detach, remove, overcommit;
};

/* create's, of which the first is its own. */
extern const struct option_row create_options[];
#define run_options (&create_options[1])
void run_defaults(void *values); /* struct run_values */
/* One machine in this process, until it ends: the exit status. life NULL: it has no name. */
int run_machine_of(const struct run_values *v, struct life *life);
/* Whether they would make a machine, as far as that can be said without opening anything. -EINVAL:
 * usage. */
NODISCARD int run_check(const struct run_values *v, struct err *err);
/* The exit status, after a message that begins with `verb` if it is not CLI_OK. */
int run_checked(const struct run_values *v, const char *verb);
