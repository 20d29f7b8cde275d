/*
 * Which guest-physical bytes some engine has decoded, so that writes to them are noticed.
 *
 * A unit is a run of code bytes in one page, or in two when its last instruction straddles them.
 * The map knows for each page its units and which 64-byte lines they cover, because pages mix code
 * and data: a store to another line costs one test. A write that overlaps a unit kills it
 * (unit->kill) and drops it from the map; its memory stays the owner's.
 *
 * MEM_CODE on a page tells stores to report (memory.h). The map's owner sets it before it decodes
 * bytes, and clears it when code_map_write() says that the page holds nothing any more.
 *
 * Threads: the owner's only.
 */
#pragma once
#include "memory/memory.h"

#define CODE_NO_PAGE (~0ull)

struct code_unit {
	u64 gpa;  /* of the first byte */
	u64 gpa2; /* of the second page, or CODE_NO_PAGE */
	u16 bytes;
	bool valid;
	struct code_unit *page_next[2];
	void (*kill)(void *ctx, struct code_unit *u); /* called once, with valid already false */
	void *ctx;
};

#define CODE_PAGES 4096u

struct code_page;
struct code_map {
	struct code_page *pages[CODE_PAGES]; /* hashed by page number */
};

/* The unit's gpa, gpa2, bytes, kill and ctx are set. 0 or -ENOMEM. */
NODISCARD int code_map_add(struct code_map *m, struct code_unit *u);
/* [at, at+len) within one page was written. True when the page holds no code any more. */
bool code_map_write(struct code_map *m, u64 at, u64 len);
/* Forgets everything without killing: the owner drops all units. */
void code_map_clear(struct code_map *m);
