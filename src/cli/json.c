#include "cli/json.h"

void json_print(FILE *to, const char *text)
{
	fputc('"', to);
	for (const char *c = text; *c; c++)
		if (*c == '"' || *c == '\\')
			fprintf(to, "\\%c", *c);
		else if ((unsigned char)*c < 0x20)
			fprintf(to, "\\u%04x", *c);
		else
			fputc(*c, to);
	fputc('"', to);
}
