/*
 * A machine with a name, in the process that runs it: its folder and lock (store/store.h), its
 * control socket (control/control.h), and, detached, a process of its own.
 *
 * Detached. The command takes the machine's lock, then forks. The child is the monitor: it leaves
 * the session, its messages go to monitor.log, and it says so through a pipe once the guest runs;
 * until then the parent waits, and what goes wrong is its message and its exit status, as if the
 * machine had run there. The lock belongs to both, and to nobody else; the parent's end leaves it
 * to the child.
 *
 * Neither writes to the folder after the sandbox is entered but by descriptors: the logs, and
 * `outcome`, which says that the machine runs, and at the end how that went. A monitor that was
 * killed leaves the one without the other, and a free lock.
 */
#pragma once
#include "cli/run.h"
#include "machine/machine.h"
#include "store/store.h"

struct life;

/* strata run --name, create, start: exit statuses. */
int life_run(const struct run_values *v);
int life_create(const struct run_values *v);
int life_start(const char *name);

/* Parts of a saved state (saved/saved.h) that are the name's business: the name, machine.yaml as it
 * was when the machine was started, and when it was made. */
#define LIFE_NAME   "name"
#define LIFE_CONFIG "config"
#define LIFE_BORN   "born" /* store_born(), u64 */
/* How a machine ended that goes on from a file. */
#define LIFE_SAVED "saved"

/* What machine.yaml says, as options, which point into it; goes to the folder that paths are
 * relative to. */
NODISCARD int life_values(const struct store_config *config, struct run_values *v, struct err *err);

/* What is restored, and as what. */
struct life_origin {
	const struct saved *saved;
	const struct store_config *config;
	u64 away_max_ns;
	/* A new machine's: */
	const char *name;
	int (*fill)(void *ctx, int folder, const char *path, struct err *err);
	void (*made)(void *ctx); /* its folder is there: others may choose names and ports */
	void *ctx;
};

/* In the background: the exit status. at: the machine itself, locked by the caller, whose it stays;
 * NULL: a new one. */
int life_restore(const struct life_origin *o, struct store_machine *at);

/* Its folder and lock; NULL without a life. */
const struct store_machine *life_machine(const struct life *life);

/* The steps of run_machine_of(); life may be NULL in each. Before machine_new(): opens what the
 * sandbox will forbid, and adds to the config what is the name's business. */
NODISCARD int life_begin(
	struct life *life, struct machine_config *config, struct loop *loop, struct err *err);
void life_watch(struct life *life, struct machine *m); /* before machine_run() */
/* After it, or when it does not come to it: text NULL. */
void life_end(struct life *life, int status, const char *text);
