/* The verbs of the command line. Each is one row of the table in cli.c. */
#pragma once
#include "cli/options.h"

#define CLI_OK	    0
#define CLI_FAILED  1
#define CLI_USAGE   2
#define CLI_CANNOT  3 /* not possible on this host */
#define CLI_TIMEOUT 124
#define CLI_SIGNAL  128 /* plus the signal's number, as shells have it */

struct verb {
	const char *name, *doc;
	const struct option_row *options;
	size_t size;			/* of the struct that its options fill */
	void (*defaults)(void *values); /* of what is not zero by default; may be NULL */
	int (*run)(const void *values); /* the exit status */
	const char *more;		/* --help ends with it; may be NULL */
	/* NULL-terminated: the words that may follow, whose names begin with this one's. Then there
	 * is nothing else but name and doc. */
	const struct verb *const *verbs;
};

extern const struct verb verbs_run, verbs_image, verbs_explain, verbs_mem, verbs_host,
	verbs_isa_audit, verbs_generate, verbs_version;
/* All of them, NULL-terminated: cli.c. */
extern const struct verb *const cli_verbs[];
