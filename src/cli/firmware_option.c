/* Firmware by name: where Debian's packages put it. */
#include "cli/firmware_option.h"
#include "base/types.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

static const struct row {
	const char *name, *doc, *path, *package;
	const char *video; /* what it needs to use a VGA; NULL: nothing */
} rows[] = {
	{ "seabios", "a PC BIOS; its screen and the boot loader's are the first serial port",
		"/usr/share/seabios/bios-256k.bin", "seabios",
		"/usr/share/seabios/vgabios-stdvga.bin" },
};

static int missing(const struct row *r, const char *path, struct err *err)
{
	return err_set(err, -ENOENT, "--firmware %s: there is no %s: install Debian's package %s",
		r->name, path, r->package);
}

int firmware_option_find(const char *text, const char **path, struct err *err)
{
	*path = text;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].name, text))
			continue;
		*path = rows[i].path;
		if (access(rows[i].path, R_OK))
			return missing(&rows[i], rows[i].path, err);
	}
	return 0;
}

int firmware_option_video(const char *text, const char **path, struct err *err)
{
	*path = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i].name, text) || !rows[i].video)
			continue;
		*path = rows[i].video;
		if (access(*path, R_OK))
			return missing(&rows[i], *path, err);
	}
	return 0;
}

void firmware_option_help(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		fprintf(to, "          %s  %s\n", rows[i].name, rows[i].doc);
}
