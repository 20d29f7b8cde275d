/*
 * A machine's screen, keyboard and mouse for viewers of the RFB protocol (RFC 6143), "VNC":
 * LibVNCServer speaks it, this says to whom and what.
 *
 * Life. display_open() before the sandbox is entered: it listens, and makes a thread, which waits
 * for viewers. While there is one, the thread asks for the picture, 30 times a second while that
 * changes and ten times while it does not; without one it sleeps. What a viewer does comes from the
 * same thread. So a slow viewer delays other viewers, and no guest.
 *
 * Who may connect. To a Unix socket: this user. To an address that is not the host's own: whoever
 * has the password, which the option therefore asks for; the protocol sends pictures and keys in
 * the clear, and of a password uses eight characters. A tunnel (ssh -L) is what to use.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define DISPLAY_PORT	    5900u
#define DISPLAY_CLIENTS_MAX 8u

/* Where to listen: a path, or an address. */
struct display_address {
	char path[108]; /* empty: it is an address */
	char host[46];	/* numbers, of IPv4 or IPv6 */
	u16 port;
};

/* 0x00bbggrr, width of them a row */
struct display_picture {
	const u32 *pixels;
	unsigned width, height;
};

/* A viewer's buttons, as bits; the wheel is two of them. */
enum display_button {
	DISPLAY_LEFT = 1,
	DISPLAY_MIDDLE = 2,
	DISPLAY_RIGHT = 4,
	DISPLAY_WHEEL_UP = 8,
	DISPLAY_WHEEL_DOWN = 16,
};

struct display_source {
	/* Draws. Tells which rows have changed; true: so has the size. */
	bool (*draw)(void *ctx, void (*changed)(void *to, unsigned first, unsigned count), void *to,
		struct display_picture *picture);
	/* A key as keys.h names it. */
	void (*key)(void *ctx, u16 key, bool down);
	void (*pointer)(void *ctx, int x, int y, unsigned buttons);
	void *ctx;
};

struct display_config {
	struct display_address address;
	const char *password; /* NULL: none; copied */
};

struct display;

/* ADDRESS[:PORT], [ADDRESS]:PORT, or a path with a slash in it. -EINVAL. */
NODISCARD int display_address_parse(const char *text, struct display_address *a, struct err *err);
bool display_is_local(const struct display_address *a);

NODISCARD int display_open(struct display **d, const struct display_config *config,
	const struct display_source *source, struct err *err);
void display_close(struct display *d); /* NULL: nothing to do */
