/* --display vnc=ADDRESS[,password=FILE], or none */
#pragma once
#include "machine/machine.h"
#include <stdio.h>

struct display_option {
	struct display_config config;
	char password[64];
};

/* *wanted: there is to be a display. The option must not move afterwards. -EINVAL with err. */
NODISCARD int display_option_parse(
	const char *text, struct display_option *option, bool *wanted, struct err *err);
void display_option_help(FILE *to);
