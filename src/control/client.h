/* The other end of the control socket: for programs that ask. Blocking, with a limit. */
#pragma once
#include "base/err.h"
#include "control/control.h"
#include <jansson.h>

struct control_client {
	int fd; /* -1: not connected */
	bool greeted;
	size_t len;
	char in[CONTROL_OUT];
};

/* Connects only: what comes first is said with the first question. For those who want to know who
 * is there (client_peer), also when he does not answer. */
NODISCARD int client_connect(struct control_client *c, int folder, unsigned ms, struct err *err);
NODISCARD int client_greet(struct control_client *c, unsigned ms, struct err *err);
/* To the machine whose folder that is; the greeting has been checked. -ECONNREFUSED and -ENOENT:
 * nobody listens there. */
NODISCARD int client_open(struct control_client *c, int folder, unsigned ms, struct err *err);
void client_close(struct control_client *c);
/* Asks, and waits for the answer, which `result` gets (a new reference; may be NULL). What the
 * machine refuses is an error with its words. pass: a file that goes along; -1: none. ms: how long
 * to wait; 0: as long as it takes. */
NODISCARD int client_ask(struct control_client *c, const char *command, int pass, unsigned ms,
	json_t **result, struct err *err);
/* The same with members: takes `take_request`. */
NODISCARD int client_request(struct control_client *c, json_t *take_request, int pass, unsigned ms,
	json_t **result, struct err *err);
/* The same with several files. */
NODISCARD int client_request_with(struct control_client *c, json_t *take_request, const int *fds,
	unsigned count, unsigned ms, json_t **result, struct err *err);
/* The next line, or NULL with err; -ENODATA: the machine has hung up. */
json_t *client_next(struct control_client *c, unsigned ms, struct err *err);
/* Who listens there, for a signal; 0: not known. */
pid_t client_peer(const struct control_client *c);
