#include "cli/port_option.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse(const char *text, struct machine_port_config *p, struct err *err)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text || !equals[1])
		return err_set(err, -EINVAL,
			"the name that the guest knows it by and the path of a socket are wanted: "
			"NAME=SOCKET");
	if ((size_t)(equals - text) > MACHINE_PORT_NAME_MAX)
		return err_set(
			err, -EINVAL, "the name is longer than %u bytes", MACHINE_PORT_NAME_MAX);
	p->name = strndup(text, (size_t)(equals - text));
	p->path = strdup(equals + 1);
	return p->name && p->path ? 0 : err_set(err, -ENOMEM, "no memory");
}

int port_option_parse(const struct option_list *texts,
	struct machine_port_config ports[MACHINE_PORTS_MAX], struct err *err)
{
	if (texts->count > MACHINE_PORTS_MAX)
		return err_set(err, -EINVAL, "--port: at most %d ports", MACHINE_PORTS_MAX);
	for (unsigned i = 0; i < texts->count; i++) {
		if (parse(texts->items[i], &ports[i], err))
			return err_wrap(err, "--port %.80s", texts->items[i]);
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(ports[i].name, ports[j].name))
				return err_set(err, -EINVAL, "--port: two ports are called %.64s",
					ports[i].name);
	}
	return 0;
}

void port_option_free(struct machine_port_config ports[MACHINE_PORTS_MAX])
{
	for (unsigned i = 0; i < MACHINE_PORTS_MAX; i++) {
		free((void *)(uintptr_t)ports[i].name);
		free((void *)(uintptr_t)ports[i].path);
	}
}
