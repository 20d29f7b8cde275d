/*
 * Which guest-physical bytes some engine has decoded, so that writes to them are noticed.
 *
 * A unit is a run of code bytes in one page, or in two when its last instruction straddles them.
 * The map knows for each page its units and which 64-byte lines they cover, because pages mix code
 * and data: a store to another line costs one test. A write that overlaps a unit kills it
 * and drops it from the map; its memory stays its keeper's. A unit may name some of its
 * bytes as live: it reads them from memory whenever it runs, so that writes to them alone do not
 * matter to it.
 *
 * code_map_claim() must come before bytes of a page are decoded; the map gives the claim back
 * (memory.h) when a write leaves the page without units.
 *
 * Threads: the owner's only.
 */
#pragma once
#include "memory/memory.h"

#define CODE_NO_PAGE (~0ull)

/* Whose units there are in one map. */
enum code_keeper { CODE_INTERPRETED, CODE_TRANSLATED, CODE_KEEPERS };

struct code_unit {
	u64 gpa;  /* of the first byte */
	u64 gpa2; /* of the second page, or CODE_NO_PAGE */
	struct code_unit *page_next[2];
	u16 bytes;
	u16 live_at, live_bytes; /* counted from gpa, within its page; 0 bytes: none */
	bool valid;
	u8 keeper; /* enum code_keeper */
};

#define CODE_PAGES 4096u

struct code_page;
struct code_map {
	struct memory *memory;
	struct {
		/* Called once for each unit, with valid already false. */
		void (*kill)(void *ctx, struct code_unit *u);
		void *ctx;
	} keepers[CODE_KEEPERS]; /* set before there are units of theirs */
	u64 write_at, write_len; /* for kill: the write that is under way; len 0: none is */
	struct code_page *pages[CODE_PAGES]; /* hashed by page number */
};

/* Before decoding bytes of the page: stores to it are reported from here on. */
void code_map_claim(struct code_map *m, u64 at);
/* Its pages are claimed; the unit's gpa, gpa2, bytes and keeper are set. */
void code_map_add(struct code_map *m, struct code_unit *u);
/* [at, at+len) within one page was written. */
void code_map_write(struct code_map *m, u64 at, u64 len);
/* Calls `each` for the valid units that have bytes in the page; it adds and kills none. */
void code_map_each(
	struct code_map *m, u64 page, void (*each)(void *ctx, struct code_unit *u), void *ctx);
/* Forgets everything without killing, claims too: the owner drops all units. */
void code_map_clear(struct code_map *m);
