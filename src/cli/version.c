/* strata version */
#include "cli/version.h"
#include "cli/verbs.h"

static int run(const void *values)
{
	printf("strata %s\n", STRATA_VERSION);
	return CLI_OK;
}

static const struct option_row options[] = { { 0 } };

const struct verb verbs_version = {
	.name = "version",
	.doc = "print the version",
	.options = options,
	.run = run,
};
