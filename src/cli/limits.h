/*
 * A machine's limits at work: its monitor, with the processes that help it, is a control group of
 * its own (os/cgroup.h), which it enters before it has threads or memory, and long before guest
 * code runs. In its sandbox it cannot write to it: who changes limits is the command, as the owner.
 *
 * Where systemd runs, the hierarchy is systemd's to write to: it makes the group, a scope, and
 * removes it with its last process. An ordinary user asks his own systemd, which has from the
 * host's what that hands down. Elsewhere, and where STRATA_CGROUP names a group, the group is made
 * here, and the next command removes what was left (store.h).
 */
#pragma once
#include "cli/limits_option.h"
#include "store/store.h"
#include <jansson.h>

/* In the process that is to be the monitor, with the machine's lock. An -errno with err: not on
 * this host, or not for this user. */
NODISCARD int limits_enter(
	const struct store_machine *m, const struct limits_option *o, struct err *err);
/* Of one that runs; not set: none. With err: it needs a restart, or is impossible. */
NODISCARD int limits_change(
	const struct store_machine *m, const struct limits_option *o, struct err *err);
/* Those of one that runs, as an object; NULL: it has none. New reference. */
json_t *limits_show(const struct store_machine *m);
