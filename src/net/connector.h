/*
 * A process that connects to sockets for one that has given up opening paths: it is forked before
 * the sandbox is entered, keeps the user's rights, and knows one base path. Asked for a number it
 * connects to the Unix socket at PATH_number, without waiting, and sends the descriptor back. That
 * is all that it can be made to do. It ends when the other end closes.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define CONNECTOR_SUFFIX 11u /* "_4294967295" */

struct connector {
	int fd; /* -1: none; becomes readable when there is an answer */
};

NODISCARD int connector_open(struct connector *c, const char *path, struct err *err);
void connector_close(struct connector *c);
/* 0, or -errno when too much has been asked. Never blocks. */
NODISCARD int connector_ask(struct connector *c, u32 id, u32 number);
/* The next answer: true. *fd is -1 where nobody listens. */
NODISCARD bool connector_answer(struct connector *c, u32 *id, int *fd);
