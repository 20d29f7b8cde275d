/* Firmware by name: where Debian's packages put it. */
#include "cli/firmware_option.h"
#include "base/types.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct row {
	const char *name, *doc, *package, *path;
	const char *flash; /* what its flash memory holds at first; NULL: it has none */
	const char *video; /* what it needs to use a VGA; NULL: nothing */
} rows[] = {
	{ "seabios", "a PC BIOS; its screen and the boot loader's are the first serial port",
		"seabios", "/usr/share/seabios/bios-256k.bin", NULL,
		"/usr/share/seabios/vgabios-stdvga.bin" },
	{ "ovmf", "UEFI; what it keeps between boots is lost, or in a FILE: ovmf,vars=FILE", "ovmf",
		"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", NULL },
};

/* NULL is always there. */
static int must_exist(const struct row *r, const char *path, struct err *err)
{
	return !path || !access(path, R_OK)
		       ? 0
		       : err_set(err, -ENOENT,
				 "--firmware %s: there is no %s: install Debian's package %s",
				 r->name, path, r->package);
}

static int take_vars(struct firmware_option *o, const char *item, struct err *err)
{
	if (strncmp(item, "vars=", 5) || !item[5])
		return err_set(
			err, -EINVAL, "--firmware: no option %.40s; there is vars=FILE", item);
	if (!o->flash)
		return err_set(err, -EINVAL,
			"--firmware %.64s: vars= is for firmware that keeps something: ovmf",
			o->text);
	o->vars = item + 5;
	return 0;
}

int firmware_option_parse(const char *text, bool video, struct firmware_option *o, struct err *err)
{
	*o = (struct firmware_option){ .text = strdup(text ? text : "") };
	char *rest = o->text, *item = rest ? strsep(&rest, ",") : NULL;

	if (!text || !item)
		return 0;
	o->path = item;
	for (const struct row *r = rows; r < rows + ARRAY_LEN(rows); r++) {
		if (strcmp(r->name, item))
			continue;
		o->path = r->path;
		o->flash = r->flash;
		o->video = video ? r->video : NULL;
		if (must_exist(r, o->path, err) || must_exist(r, o->flash, err) ||
			must_exist(r, o->video, err))
			return err->code;
	}
	while ((item = strsep(&rest, ",")))
		if (take_vars(o, item, err))
			return err->code;
	return 0;
}

void firmware_option_free(struct firmware_option *o) { free(o->text); }

void firmware_option_help(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		fprintf(to, "          %s  %s\n", rows[i].name, rows[i].doc);
}
