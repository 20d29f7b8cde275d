/*
 * What passes a network, written to a file as pcapng (draft-ietf-opsawg-pcapng), which tcpdump and
 * Wireshark read. Each frame is one write, so that the file is complete at any time, also when the
 * process is killed. A file that cannot be written any more is left as it is, and the network goes
 * on.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

enum capture_way { CAPTURE_TO_GUEST, CAPTURE_FROM_GUEST };

struct capture {
	int fd; /* -1: nothing is captured */
};

NODISCARD int capture_open(struct capture *c, const char *path, struct err *err);
void capture_frame(struct capture *c, enum capture_way way, const u8 *frame, size_t len);
void capture_close(struct capture *c);
