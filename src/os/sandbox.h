/*
 * What the process gives up before the first guest instruction, so that a guest which takes over
 * the monitor has gained nothing but the monitor: the guest's own memory and the descriptors of its
 * console.
 *
 * When it is entered everything is open: images are read, engines have their memory and their
 * descriptors, all threads exist (guest code waits at the machine's gate). Then, in stages that
 * only take away:
 *
 *   descriptors  those inherited from whoever started us are closed; our own, and 0 to 2, stay
 *   privileges   every thread: no_new_privs, all capability sets empty, no groups; root becomes
 *                nobody
 *   process      no core dump, no debugger: memory is for nobody else
 *   filter       only the system calls of the table in sandbox_rules.c, for all threads
 *
 * After it no file can be opened, nothing executed, no socket made, no thread or process begun, no
 * memory made executable, and no other process reached; only a machine that has a network may
 * make sockets, of the Internet's kind. Code that comes to need another system call
 * adds a row there, with the reason.
 *
 * Each stage does what the host allows and the next one runs whatever became of it: an ordinary
 * user has no user to switch to, a container may forbid filters. sandbox_probe() says what works.
 *
 * Builds with sanitizers or coverage enter no stage: their run-time libraries open files, trace the
 * process and start others. Under Valgrind, and to debug, there is `strata run --no-sandbox`.
 */
#pragma once
#include "base/err.h"

enum sandbox_stage {
	SANDBOX_DESCRIPTORS,
	SANDBOX_PRIVILEGES,
	SANDBOX_PROCESS,
	SANDBOX_FILTER,
	SANDBOX_STAGES,
};

/* code 0: the stage is complete, and text may say more. Otherwise what is missing, and why. */
struct sandbox_report {
	struct err stages[SANDBOX_STAGES];
};

/* What a machine may need besides; see the rules. */
enum sandbox_needs {
	SANDBOX_INTERNET = 1, /* sockets of the Internet may be made */
	SANDBOX_SOCKETS = 2,  /* those that are there, and who connects to them */
	SANDBOX_DISPLAY = 4,  /* the same, and what LibVNCServer does with them */
	SANDBOX_CONTROL = 8,  /* a control socket, and the console's log */
};

/* needs: of enum sandbox_needs. One way. Any thread, while no other
 * begins or ends threads. What a stage cannot do is logged. */
void sandbox_enter(struct sandbox_report *report, unsigned needs);

/* What sandbox_enter() would do here, found out by a child process. Single-threaded callers. */
NODISCARD int sandbox_probe(struct sandbox_report *report, struct err *err);

const char *sandbox_stage_name(enum sandbox_stage stage);
