/* Between the two ends, and what the server's process may do. */
#pragma once
#include "folder/folder.h"

/* The server's first message begins with one of these; words may follow. */
enum { FOLDER_READY, FOLDER_UNFENCED, FOLDER_FAILED };

struct folder_question {
	u32 slot, session, len, room;
};

struct folder_reply {
	u32 slot, len;
};

/* server.c: in the process of its own. Takes both descriptors. */
_Noreturn void folder_serve(int socket, int folder, u8 *buffers, bool readonly);
/* fence.c: what it gives up; `folder` is all that it needs. */
NODISCARD int folder_fence(int folder, struct err *err);
