#pragma once
#include <stdio.h>

/* The text as a JSON string (RFC 8259, section 7), with its quotation marks. */
void json_print(FILE *to, const char *text);
