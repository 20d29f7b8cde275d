/*
 * Where machines with names live: a folder each, below the user's state folder
 * ($XDG_STATE_HOME/strata/machines, or ~/.local/state/...), which only he can enter.
 *
 *   machine.yaml   what it is, for people to read and edit (store/config.h)
 *   lock           whoever runs, starts or removes the machine has locked it
 *   outcome        how its last run goes or went; none before the first
 *   control        its control socket, while it runs (control/control.h)
 *   console.0, .1  what its console said; monitor.log what the monitor said
 *   ephemeral      exists when the machine goes once it has ended
 *   group, memory  what it has of the host in its last or this run: its control group, and how much
 *                  memory it was promised
 *   starved        which run has ended by its limit of memory (enum store_state)
 *   disk.qcow2, seed.img, known_hosts    of one that was made from an image (cli/clone.h)
 *
 * The lock decides. It is one of open file descriptions, so it lives exactly as long as the process
 * that has it, however that ends: a machine whose lock is free does not run, whatever its other
 * files say, and if `outcome` says that it does, its monitor was killed. Everything that changes a
 * folder takes the lock first, and then looks whether the folder is still the one of that name.
 *
 * A folder comes and goes as a whole, by being renamed: it is made as .new-*, and removed as
 * .gone-*. What is left of somebody who was killed meanwhile, store_sweep() removes: its lock is
 * free.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "store/config.h"

#define STORE_NAME_MAX 63u

struct store_machine {
	char name[STORE_NAME_MAX + 1];
	int folder;
	int lock; /* an open file; locked by us when `locked` */
	bool locked;
};

enum store_state {
	STORE_NEW,     /* has never run */
	STORE_RUNNING, /* as the lock says: somebody starts or runs it, or removes it */
	STORE_ENDED,
	STORE_CRASHED, /* its monitor ended without a word */
	STORE_STARVED, /* likewise, by the kernel: the machine had come to its limit of memory */
};

struct store_outcome {
	s64 pid;
	s64 since, until; /* seconds since 1970; 0: not known */
	int status;	  /* the exit status, when it has ended */
	char text[200];
};

/* Letters, digits and ._- after a letter or digit. -EINVAL with err. */
NODISCARD int store_check_name(const char *name, struct err *err);

struct store_new {
	const struct store_config *config;
	bool ephemeral;
	/* Called before anybody else can see the folder, to put more into it: at `path`, until it
	 * has its name. NULL: there is nothing more. */
	int (*fill)(void *ctx, int folder, const char *path, struct err *err);
	void *ctx;
};

/* A new machine, its lock taken. -EEXIST: there is one of that name. */
NODISCARD int store_create(
	struct store_machine *m, const char *name, const struct store_new *n, struct err *err);
int store_taken(const char *name, struct err *err); /* says so: -EEXIST */
/* Where a machine of that name is, or will be. */
NODISCARD int store_path(const char *name, char *path, size_t size, struct err *err);
/* One that is there. -ENOENT. */
NODISCARD int store_open(struct store_machine *m, const char *name, struct err *err);
/* -EBUSY: it runs, or somebody else is at it; -ENOENT: it has gone meanwhile. */
NODISCARD int store_lock(struct store_machine *m, struct err *err);
void store_unlock(struct store_machine *m);
void store_close(struct store_machine *m); /* the lock, too, unless a child has it */
/* Its folder and all that is in it. The lock is taken. */
NODISCARD int store_remove(struct store_machine *m, struct err *err);

enum store_state store_state(const struct store_machine *m, struct store_outcome *outcome);
/* Waits until nobody has the lock; false: not within that time. ms 0: for ever. */
bool store_wait(const struct store_machine *m, unsigned ms);
NODISCARD int store_read_config(
	const struct store_machine *m, struct store_config *config, struct err *err);

/* In the place of the one that is there, whole or not at all. For the next start: whoever runs the
 * machine has read it. Under store_alone(). */
NODISCARD int store_write_config(
	const struct store_machine *m, const struct store_config *config, struct err *err);
/* When it was made, in nanoseconds since 1970, by its lock, which is never written to: another
 * machine of that name has another time. */
u64 store_born(const struct store_machine *m);
bool store_is_ephemeral(const struct store_machine *m);
/* The same file's text, checked to be one; free() it. NULL with err. */
char *store_config_text(const struct store_machine *m, struct err *err);

/* Writes the outcome, to a descriptor that store_outcome_open() has opened: in the sandbox, too. */
NODISCARD int store_outcome_open(const struct store_machine *m, struct err *err);
void store_outcome_write(int fd, bool running, const struct store_outcome *outcome);
/* A file in the folder, to append to; -errno with err. */
NODISCARD int store_log(const struct store_machine *m, const char *file, struct err *err);

/* Which control group the machine's processes are in (os/cgroup.h): its folder, or, where systemd
 * makes it, any other word. Whoever makes one has written it here before, with the machine's lock,
 * so that it can be removed when he has been killed: drop() does, with the lock; tidy(), of one
 * that has just ended, and store_sweep() need none, and leave a group alone that has processes. */
NODISCARD int store_group_set(const struct store_machine *m, const char *group, struct err *err);
bool store_group(const struct store_machine *m, char *group, size_t size); /* false: none */
NODISCARD int store_group_drop(const struct store_machine *m, struct err *err);
void store_group_tidy(const struct store_machine *m);

/* How much memory a machine may take in this run, in bytes; 0: nobody has said. Said with its lock,
 * under store_alone(). */
NODISCARD int store_promise(const struct store_machine *m, u64 memory, struct err *err);
u64 store_promised(const struct store_machine *m);

/* The names of all, sorted; the list and each name are the caller's to free. -errno with err. */
NODISCARD int store_list(char ***names, unsigned *count, struct err *err);
/* Each that can be opened, for as long as `visit` runs; none, if they cannot be listed. */
void store_each(void (*visit)(const struct store_machine *m, void *ctx), void *ctx);
/* Held by whoever chooses what no other machine may have, until his machine is there: a descriptor
 * to close. Waits. -errno with err. */
NODISCARD int store_alone(struct err *err);
/* Where a file of ours is that belongs to no machine; its folder is there. */
NODISCARD int store_state_path(char *path, size_t size, const char *file, struct err *err);
/* Removes what has died half-made, and ephemeral machines that have ended. */
void store_sweep(void);
