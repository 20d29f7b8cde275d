/*
 * The host's side of a serial port: two byte queues with a thread each, which read and write
 * blocking descriptors. So it does not matter what the descriptors are (terminals, pipes, files,
 * sockets, /dev/null), and their O_NONBLOCK flag, which other processes share, is left alone.
 *
 * Output is lossless: a vcpu whose guest has filled half of the queue waits in console_wait() until
 * the reader at the other end has caught up. When the other end is gone, output is thrown away.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <pthread.h>

#define CONSOLE_QUEUE 65536u

struct console_queue {
	u8 bytes[CONSOLE_QUEUE];
	u32 head, tail; /* counts of bytes put and taken: head - tail are queued */
};

struct console {
	int input, output; /* -1: none */
	int escape;
	void (*arrived)(
		void *ctx); /* input is waiting; called by the reading thread, no lock held */
	void (*escaped)(void *ctx);
	void (*drained)(void *ctx); /* output became empty; the writing thread, no lock held */
	void *ctx;

	pthread_t reader, writer;
	bool reader_runs, writer_runs;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	struct console_queue in, out;
	bool writing;	      /* bytes taken from `out` are on their way */
	bool dead;	      /* nobody reads our output any more */
	bool released;	      /* console_wait() does not wait */
	_Atomic bool closing; /* these two are also read without the lock */
	_Atomic bool congested;
};

/* Fill in the members before `reader`, then open. */
NODISCARD int console_open(struct console *c, struct err *err);
void console_close(struct console *c);

/* Device side, machine's lock held. Both return how many bytes they moved; never block. */
size_t console_put(struct console *c, const u8 *data, size_t len);
size_t console_peek(struct console *c, u8 *data, size_t len);
void console_take(struct console *c, size_t len); /* drops what peek showed */

/* A vcpu's thread, no lock held: waits while the output queue is more than half full. */
void console_wait(struct console *c);
/* true: nobody waits any more, and whoever waits returns. */
void console_release(struct console *c, bool released);
bool console_idle(struct console *c); /* all output is written, or never will be */
