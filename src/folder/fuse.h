/*
 * A FUSE server: one request in, one answer out (<linux/fuse.h>, protocol 7.31 and what is
 * compatible with it), on the files of a tree.
 *
 * Requests are untrusted, and so is the buffer that they stand in, which may change at any time:
 * what is looked at is copied first, and only the data of a WRITE is used where it is. All that
 * exists may be asked for; what is in no table (fuse.c) is answered with -ENOSYS, extended
 * attributes and locks among them: a kernel keeps locks itself then.
 *
 * Files belong to whoever runs the server, whatever user of the guest makes them, and have no
 * set-user-ID or set-group-ID bits. Neither devices nor pipes nor sockets can be made, or opened.
 *
 * The other side may go by what it has been told of a file for FUSE_VALID_S, so that long it may
 * take until it sees what the host has changed. That there is none of a name it is to ask each
 * time.
 */
#pragma once
#include "folder/tree.h"

#define FUSE_VALID_S  1u
#define FUSE_DATA_MAX (1024u * KiB) /* of one READ or WRITE */
#define FUSE_BUFFER   (FUSE_DATA_MAX + 4096u)

/* buf, 8-byte aligned, holds a request of in_len bytes, and gets the answer, which is at most
 * `room` bytes: its length; 0: there is none to give. Both are at most FUSE_BUFFER. */
size_t fuse_serve(struct tree *t, u8 *buf, size_t in_len, size_t room);
