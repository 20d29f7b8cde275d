/* What the server's files share. */
#pragma once
#include "control/control.h"
#include <jansson.h>

enum control_mode {
	CONTROL_LINES,
	CONTROL_CONSOLE, /* bytes both ways */
	CONTROL_LAST,	 /* is hung up on once its output is gone */
};

struct control_conn {
	struct control *control;
	struct control_conn *next;
	struct loop_source source;
	enum control_mode mode;
	bool events;
	bool ended;		     /* sends nothing more */
	bool saves;		     /* the machine is held for it */
	int passed[CONTROL_FDS_MAX]; /* descriptors that came along; -1: taken */
	unsigned passed_count;
	u64 written; /* bytes, ever: whether there is progress */
	u64 seen;    /* the same, when the console's clock was set */
	size_t in_len, out_len;
	char in[CONTROL_LINE_MAX];
	char out[CONTROL_OUT];
};

/* console.c: the machine's serial port, as others see it. */
struct control_stream {
	int fd, peer; /* a pair of sockets: ours, the machine's; -1: none */
	struct loop_source source, stall;
	bool held; /* not read from: a connection has no room */
	unsigned log;
	u64 logged; /* bytes in it */
};

/* counting.c: how long somebody wants the guest's instructions counted. */
struct control_counting {
	struct loop_source timer;
	u64 until; /* by fd_monotonic_ns(); 0: nobody does */
};

struct control {
	struct control_config config;
	struct loop *loop;
	uid_t owner;
	int listener;
	struct loop_source source;
	struct control_conn *conns;
	unsigned count;
	struct control_stream console;
	struct control_counting counting;
};

/* commands.c: the answer to one line; new reference. It may change the connection. */
json_t *control_answer(struct control_conn *conn, const char *line, size_t len);

/* control.c */
void control_line(struct control_conn *conn, const json_t *message);
bool control_flush(struct control_conn *conn); /* false: it is gone */
void control_hang_up(struct control_conn *conn);

/* console.c */
NODISCARD int control_stream_open(struct control *c, struct err *err);
void control_stream_close(struct control *c); /* nobody is connected any more */
void control_stream_room(struct control *c);  /* a connection has taken something, or is gone */
void control_stream_drain(struct control *c); /* to the log, whatever the connections say */
/* Bytes for the guest, from the connection's input; those that find no room stay there. */
void control_stream_type(struct control_conn *conn);

/* counting.c */
NODISCARD int control_counting_open(struct control *c, struct err *err);
void control_counting_close(struct control *c);
NODISCARD int control_count(struct control *c, unsigned seconds, struct err *err);
