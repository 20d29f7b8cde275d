/* --<engine> NAME[,NAME...]: the switches that an engine's table lists. */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <stdio.h>

/* `owner` is the engine with the table, `chosen` the user's --engine. -EINVAL with err: usage. */
NODISCARD int engine_options_parse(
	const char *owner, const char *chosen, const char *text, u32 *bits, struct err *err);
void engine_options_help(const char *owner, FILE *to);
