/*
 * What an engine makes of guest code, told one guest instruction at a time, for people to read.
 *
 * The engine fills a struct explain_insn for each instruction and calls sink->insn. Everything it
 * points to lives until that call returns. Operands that are addresses are written as names where
 * sink->name knows one.
 */
#pragma once
#include "base/types.h"

enum explain_fate {
	EXPLAIN_COPIED,	     /* the same bytes */
	EXPLAIN_REENCODED,   /* the same operation, on other registers */
	EXPLAIN_MEMORY,	     /* the same operation behind a check of the address */
	EXPLAIN_LINK,	     /* a jump to a known address: chained */
	EXPLAIN_LOOKUP,	     /* a jump to a computed address: looked up */
	EXPLAIN_HANDED,	     /* not translated: the interpreter's function executes it */
	EXPLAIN_INLINE,	     /* sensitive: its effect on the guest's state, in other instructions */
	EXPLAIN_NOTHING,     /* needs no code */
	EXPLAIN_INTERPRETED, /* not in a block at all */
	EXPLAIN_FATES,
};

#define EXPLAIN_TEXT 128u

struct explain_code {
	u64 at; /* guest instructions: linear address; host code: offset in the block */
	const u8 *bytes;
	unsigned length;
	char text[EXPLAIN_TEXT];
};

struct explain_insn {
	struct explain_code guest;
	const char *symbol; /* the instruction is `offset` bytes into it; NULL: no name */
	u64 offset;
	bool starts_block;
	enum explain_fate fate;
	char why[2 * EXPLAIN_TEXT]; /* a sentence without its beginning and full stop */
	const struct explain_code *host;
	unsigned host_count;
};

struct explain_sink {
	void (*insn)(void *insn_ctx, const struct explain_insn *insn);
	/* The symbol that holds `at` and how far into it; NULL: none. */
	const char *(*name)(void *name_ctx, u64 at, u64 *offset);
	void *insn_ctx, *name_ctx;
};
