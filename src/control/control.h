/*
 * The control socket of a machine that runs: how its owner's programs ask it for things.
 *
 * Protocol, version 1. A Unix stream socket, JSON (RFC 8259) in both directions, one object a line.
 * The machine speaks first:
 *
 *   {"strata": "0.1.0", "protocol": 1, "name": "web"}
 *
 * then answers each request, in their order:
 *
 *   {"command": "pause", "id": 7}
 *   {"id": 7, "result": {}}
 *   {"id": 7, "error": {"code": "already", "text": "the machine is paused already"}}
 *
 * `id` is any string or number, and may be left out. A member that a command does not know is an
 * error, and so is a line longer than CONTROL_LINE_MAX, after which the machine hangs up. The
 * commands are rows of a table (commands.c); `help` lists them. Two of them change what the
 * connection is, once they have been answered:
 *
 *   events   each thing that happens is told by a line, {"event": "paused", "text": "..."},
 *            between the answers, from now on. The last one is "ended".
 *   console  the connection is the machine's serial console: bytes, no lines any more. Of a machine
 *            whose console is a terminal already, an error.
 *
 * `attach` takes "disk" or "net", a text as `strata run --disk` or `--net` has it, paths beginning
 * at the root. What is to be opened comes along as SCM_RIGHTS, open and, if a disk's, locked
 * (block_files_open(), net_files_open()). The answer is
 * {"device": "disk1"}. `detach` takes "device", that name, and only asks: that the guest has let go
 * is told by an event, {"event": "detached", "text": "disk1"}.
 *
 * `balloon` takes "target", a number of bytes, with which the guest's balloon is to be filled;
 * without it, it only tells. `save` takes an open file, which comes with its line as SCM_RIGHTS. It
 * is answered when the machine is held and its state is taken; memory is written from then on, and
 * `saving` tells how far that is ("done", "written", "total"). The guest is held as long as the
 * connection lives that asked: who is killed, or hangs up because the file is not to his liking,
 * leaves a machine that goes on. Who has his file, and wants the machine no more, says `kill`.
 *
 * `count` takes "seconds", from 1 to CONTROL_COUNT_MAX: for that long, from now on, all
 * instructions that the guest executes are counted, which may make it slower. Who wants them for
 * longer asks again; of several, who asks for longest decides. "counting" in what `status` says is
 * whether the number of "instructions" in "counters" grows by all of them.
 *
 * A version with the same number may have more commands, members of results, and events; whatever
 * would break a program gets another number.
 *
 * Who may. The socket lies in a folder that only its owner can enter, and whoever connects is asked
 * for his user id: the owner's, or root's.
 *
 * Bounds. CONTROL_CONNS_MAX connections; each has one line of input and CONTROL_OUT bytes of output
 * that wait. What has not been read is not answered: a connection whose output is more than half
 * full is not read from. A reader of events who lets them pile up is hung up on. Who reads the
 * console slowly holds the guest's output up, as a slow terminal does, but for no longer than
 * CONTROL_STALL_MS without a byte read: then it is he who is hung up on.
 *
 * Threads. Everything is the main thread's, in the machine's event loop. All descriptors but those
 * of connections are opened by control_open(), before the sandbox is entered.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "os/loop.h"

#define CONTROL_PROTOCOL  1
#define CONTROL_LINE_MAX  8192u
#define CONTROL_OUT	  65536u
#define CONTROL_CONNS_MAX 16u
#define CONTROL_STALL_MS  2000u
#define CONTROL_FDS_MAX	  33u /* descriptors with a request */

struct control;

struct control_status {
	const char *state;  /* running, paused, full, saving, ending */
	const char *engine; /* its name */
	unsigned cpus;
	u64 memory;
	u64 held;	     /* bytes of the host's memory that the guest has now */
	u64 guest_ns;	     /* since power-on, not in pauses */
	const char *address; /* how to reach it; NULL: not known */
	bool network;	     /* the guest has an address of its own */
	u64 cpu_ns;	     /* of the host's processors that the monitor has had */
	/* Since it began to run: numbers, and bytes as the guest sees them */
	u64 port_ios, mmios, interrupts, disk_read, disk_written, net_sent, net_received;
	/* As struct cpu_counts has them */
	u64 instructions, code_exits, code_misses;
	bool counting; /* all instructions are counted */
};

/* A memory balloon, in bytes; what the guest says of itself is as it was when it was asked last. */
struct control_balloon {
	u64 target, actual, given; /* asked for; in the balloon; given back to the host in all */
	bool told;		   /* the guest has said these: */
	u64 free, available, total;
};

/* What is to be attached. Descriptors that are taken become -1. */
struct control_attach {
	const char *disk, *net; /* one of them is not NULL */
	int *fds;
	unsigned count;
};

struct control_device {
	const char *name, *about; /* what it was attached by */
	bool leaving;		  /* the guest was asked to let go of it */
};
#define CONTROL_DEVICE_MAX 16u /* of a name, with its end */

/* How far it is; -errno with err of what has failed. */
struct control_saving {
	bool done;
	u64 written, total; /* bytes of memory */
};

#define CONTROL_COUNT_MAX 3600u /* seconds */

/* What commands do: 0, or -errno with err. All on the main thread. A NULL one is refused. */
struct control_ops {
	void (*status)(void *ctx, struct control_status *status);
	int (*pause)(void *ctx, struct err *err);
	int (*resume)(void *ctx, struct err *err);
	int (*stop)(void *ctx, struct err *err); /* the power button */
	int (*kill)(void *ctx, struct err *err);
	int (*reset)(void *ctx, struct err *err);
	/* Counts all of the guest's instructions from now on, or no longer, which cannot fail. */
	int (*count)(void *ctx, bool on, struct err *err);
	/* target NULL: only to know */
	int (*balloon)(void *ctx, const u64 *target, struct control_balloon *b, struct err *err);
	int (*attach)(void *ctx, const struct control_attach *a, char name[CONTROL_DEVICE_MAX],
		struct err *err);
	int (*detach)(void *ctx, const char *name, struct err *err);
	/* The n-th device that was attached; false: there are not so many. */
	bool (*attached)(void *ctx, unsigned n, struct control_device *d);
	/* Begins; takes the file when it returns 0. The guest is held until save_end(), which is
	 * called when whoever asked has hung up. */
	int (*save)(void *ctx, int take_fd, struct err *err);
	int (*saving)(void *ctx, struct control_saving *saving, struct err *err);
	void (*save_end)(void *ctx);
};

struct control_config {
	const char *version, *name; /* for the greeting */
	int folder; /* where the socket is made, called CONTROL_SOCKET; -1: none, for tests */
	int log[2]; /* the console's, opened to append; -1: the console is not ours */
	const struct control_ops *ops;
	void *ctx;
};
#define CONTROL_SOCKET "control"

/* The config is copied, its strings and descriptors are borrowed. Whoever calls is the only one
 * who may: a socket that is there is taken to be left behind. NULL with err. */
struct control *control_open(
	const struct control_config *config, struct loop *loop, struct err *err);
/* The machine's input and output, for machine_config; -1 without a log. Theirs to use, not to
 * close. */
int control_console(const struct control *c);
void control_event(struct control *c, const char *what, const char *text);
/* After the loop: what the console still holds goes to the log, `ended` is told, all are hung up
 * on. */
void control_close(struct control *c, const char *text);

/* Somebody who has connected by other means; takes the descriptor. */
void control_adopt(struct control *c, int take_fd);
