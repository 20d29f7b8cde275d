/*
 * Options of the command line, as tables: each verb has one, and parsing, --help, the manual pages
 * and shell completion come from it. An option is written `--name value`, `--name=value`, or, a
 * switch, `--name`; an operand stands alone, in its place. Behind a lone `--` all words are another
 * program's.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <stdio.h>

enum option_kind {
	OPTION_SWITCH,	/* bool */
	OPTION_TEXT,	/* const char * */
	OPTION_NUMBER,	/* u64 */
	OPTION_SIZE,	/* u64 bytes; K, M, G or T may follow the number */
	OPTION_SECONDS, /* u64 nanoseconds; written in seconds, with decimals if need be */
	OPTION_CHOICE,	/* unsigned: index into `choices` */
	OPTION_LIST,	/* struct option_list: may be given several times */
	OPTION_OPERAND, /* const char *: a word without a name, which is `name` in the help */
	OPTION_REST,	/* struct option_rest: everything behind a -- */
};

#define OPTION_LIST_MAX 16

struct option_list {
	const char *items[OPTION_LIST_MAX];
	unsigned count;
};

struct option_rest {
	char *const *items;
	unsigned count;
};

struct option_row {
	const char *name;  /* without the dashes; NULL ends the table */
	const char *value; /* what --help calls the value: "FILE" */
	const char *doc;
	enum option_kind kind;
	size_t offset;		    /* of the value in the verb's struct */
	u64 min, max;		    /* numbers, sizes */
	const char *const *choices; /* NULL-terminated */
	char letter;		    /* 0, or another name: -f */
	bool required;
	bool once;		/* of this one command: no part of a machine's configuration */
	void (*more)(FILE *to); /* --help prints this below the doc; may be NULL */
};

/* Fills `values` from argv[0..argc); what is not mentioned keeps its value. -EINVAL with err:
 * usage. */
NODISCARD int options_parse(
	const struct option_row *table, int argc, char **argv, void *values, struct err *err);
/* One option by its name, as files have them: a switch's text is true or false. */
NODISCARD int options_set(const struct option_row *table, const char *name, const char *text,
	void *values, struct err *err);
/* Calls `each` for every option that differs from its default, with the text that options_set()
 * takes, until it returns anything but 0, which is returned then. */
NODISCARD int options_each(const struct option_row *table, const void *values, const void *defaults,
	int (*each)(void *ctx, const char *name, const char *text), void *ctx);
/* The operands, as a usage line has them: " FILE [-- COMMAND]". */
void options_operands(const struct option_row *table, FILE *to);
/* Whether the row is no option: it has no dashes before its name. */
bool options_stands_alone(const struct option_row *row);
/* One line and its explanation per option. */
void options_help(const struct option_row *table, FILE *to);

/* The name most like `text`, or NULL when none is near. names: count strings, stride bytes apart.
 */
const char *options_nearest(
	const char *text, const char *const *names, size_t count, size_t stride);

NODISCARD int options_size(const char *text, u64 *value); /* "512M"; 0 or -EINVAL */
