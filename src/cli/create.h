/* A machine from a file that somebody has written: `strata create --file`. */
#pragma once
#include "cli/run.h"
#include "store/config.h"

int create_of_file(const struct run_values *v); /* the exit status */

/*
 * Whether each item, and all of them together, would make a machine. What is wrong with one of them
 * is told with its line, where that is known; what is wrong between them is not. -EINVAL. *values
 * gets what they say, and points into them.
 */
NODISCARD int create_check(
	const struct store_config *config, struct run_values *values, struct err *err);
