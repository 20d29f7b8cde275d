#include "cli/display_option.h"
#include "base/scope.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Of a file's first line, what the protocol uses. */
static int read_password(struct display_option *o, const char *path, struct err *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, o->password, sizeof(o->password) - 1);

	if (len < 0)
		return err_set(err, -EINVAL, "password=%s: %s", path, strerror(errno));
	o->password[len] = '\0';
	o->password[strcspn(o->password, "\r\n")] = '\0';
	if (!*o->password)
		return err_set(err, -EINVAL, "password=%s: its first line is empty", path);
	o->config.password = o->password;
	return 0;
}

static int parse(char *text, struct display_option *o, struct err *err)
{
	char *rest = text, *item = strsep(&rest, ",");

	if (strncmp(item, "vnc=", 4))
		return err_set(err, -EINVAL, "%.64s: must be vnc=ADDRESS or none", item);
	if (display_address_parse(item + 4, &o->config.address, err))
		return err_wrap(err, "vnc");
	while ((item = strsep(&rest, ","))) {
		if (strncmp(item, "password=", 9))
			return err_set(err, -EINVAL, "no option %.40s; --help lists them", item);
		if (read_password(o, item + 9, err))
			return err->code;
	}
	if (!o->config.password && !display_is_local(&o->config.address))
		return err_set(err, -EINVAL,
			"vnc=%s: anybody on the network could type there: add password=FILE, or "
			"listen at 127.0.0.1",
			o->config.address.host);
	return 0;
}

int display_option_parse(const char *text, struct display_option *o, bool *wanted, struct err *err)
{
	AUTO_FREE char *copy = strdup(text ? text : "none");

	*o = (struct display_option){ 0 };
	*wanted = copy && strcmp(copy, "none");
	return *wanted && parse(copy, o, err) ? err_wrap(err, "--display") : 0;
}

void display_option_help(FILE *to)
{
	fputs("          vnc=ADDRESS[:PORT]  listen there for VNC viewers (port 5900 unless you "
	      "say "
	      "otherwise); the guest gets a VGA\n"
	      "          vnc=PATH  the same at a Unix socket: a path with a / in it\n"
	      "          none  no display, and no VGA (the default)\n"
	      "          password=FILE  viewers must know the file's first line, of which the "
	      "protocol uses eight characters\n",
		to);
}
