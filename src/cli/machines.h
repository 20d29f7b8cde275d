/* What the verbs about machines with names share. */
#pragma once
#include "cli/verbs.h"
#include "control/client.h"
#include "store/store.h"

#define MACHINES_ASK_MS 5000u /* what a monitor may take for a simple answer */

int machines_failed(const char *verb, const struct err *err); /* says so: the exit status */
/* Opens the machine and connects to it; reach: also when its monitor does not answer. */
NODISCARD int machines_connect(
	const char *name, struct store_machine *m, struct control_client *c, struct err *err);
NODISCARD int machines_reach(
	const char *name, struct store_machine *m, struct control_client *c, struct err *err);

/* Connects to it, lets `talk` do so, and hangs up: the exit status, what went wrong having been
 * said with both names. */
int machines_talk(const char *verb, const char *name,
	int (*talk)(struct control_client *c, const void *ctx, struct err *err), const void *ctx);

/* Tells it to end, then makes it. */
NODISCARD int machines_end(
	const struct store_machine *m, struct control_client *c, struct err *err);

extern const struct verb verbs_create, verbs_start, verbs_ls, verbs_show, verbs_console, verbs_stop,
	verbs_kill, verbs_pause, verbs_resume, verbs_reset, verbs_attach, verbs_detach,
	verbs_balloon, verbs_rm, verbs_logs, verbs_events, verbs_ssh, verbs_exec, verbs_save,
	verbs_restore, verbs_set, verbs_top;
