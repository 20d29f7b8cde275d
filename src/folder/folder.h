/*
 * A folder of the host for a guest: requests of the FUSE protocol (fuse.h) are answered by a
 * process of its own, since the monitor opens nothing once the guest runs.
 *
 * That process is forked before the sandbox is entered and keeps the user's rights over files, and
 * little else: it has given up all other capabilities, it has the folder as its root where it may
 * have one (root's may), and makes the system calls of a table of its own (fence.c). What the host
 * forbids of that is left out, with a warning, as the monitor does it. It ends when the monitor
 * does.
 *
 * Requests and answers stand in memory that both share, a buffer a slot; a socket carries the
 * numbers. Neither side trusts the other: the server copies what it looks at, and of an answer the
 * monitor checks the length.
 *
 * Threads: everything under one lock of the caller's, but folder_open() and folder_close().
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define FOLDER_SLOTS  16u
#define FOLDER_BUFFER (1024u * KiB + 4096u) /* the longest request and answer */
#define FOLDER_GONE   UINT32_MAX

struct folder {
	int fd; /* becomes readable when there is an answer; -1: nobody is there any more */
	u8 *buffers;
	u32 session;
	u32 busy; /* slots whose answer has not come, a bit each */
	u32 room[FOLDER_SLOTS];
};

/* Of a folder. Before the caller has threads. */
NODISCARD int folder_open(struct folder *s, const char *folder, bool readonly, struct err *err);
void folder_close(struct folder *s);

static inline u8 *folder_buffer(const struct folder *s, unsigned slot)
{
	return s->buffers + (size_t)slot * FOLDER_BUFFER;
}
/* What is in the slot's buffer is a request of in_len bytes; its answer may be `room` bytes long,
 * and will be in the same buffer. false: nobody is there. */
NODISCARD bool folder_ask(struct folder *s, unsigned slot, u32 in_len, u32 room);
/* An answer: true. *len is its length, 0 where the request wants none, FOLDER_GONE where none will
 * come. */
NODISCARD bool folder_answer(struct folder *s, unsigned *slot, u32 *len);
/* Waits for the next one. */
void folder_wait(const struct folder *s);
/* The guest begins anew: with the next request, whatever it has named or opened is forgotten. */
void folder_reset(struct folder *s);
