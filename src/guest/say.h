/* A line on the console, from pieces. */
#pragma once
#include "guest/call.h"
#include <string.h>

#define SAY(...) say((const char *const[]){ "strata: ", __VA_ARGS__, "\n", NULL })

static inline void say(const char *const *pieces)
{
	char line[512];
	size_t len = 0;

	for (; *pieces; pieces++)
		for (const char *c = *pieces; *c && len < sizeof(line); c++)
			line[len++] = *c;
	CALL(write, 2, line, len);
}

/* A number's digits, in the caller's room. */
static inline const char *say_number(char room[24], unsigned long value)
{
	char *at = room + 23;

	*at = '\0';
	do
		*--at = (char)('0' + value % 10);
	while (value /= 10);
	return at;
}
