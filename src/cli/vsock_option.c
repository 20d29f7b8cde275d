#include "cli/vsock_option.h"
#include "cli/options.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int set(struct vsock_option *o, const char *item, struct err *err)
{
	u64 cid;

	if (strncmp(item, "cid=", 4))
		return err_set(err, -EINVAL, "--vsock: no option %.40s; there is cid=N", item);
	if (options_size(item + 4, &cid) || cid < MACHINE_CID_MIN || cid > MACHINE_CID_MAX)
		return err_set(err, -EINVAL, "--vsock: %.40s: must be between %u and %u", item,
			MACHINE_CID_MIN, MACHINE_CID_MAX);
	o->config.cid = (u32)cid;
	return 0;
}

int vsock_option_parse(const char *text, struct vsock_option *o, bool *wanted, struct err *err)
{
	*wanted = text != NULL;
	*o = (struct vsock_option){ .text = text ? strdup(text) : NULL };
	char *rest = o->text, *item = rest ? strsep(&rest, ",") : NULL;

	if (!item)
		return 0;
	o->config = (struct machine_vsock_config){ .path = item, .cid = MACHINE_CID_MIN };
	if (!*item)
		return err_set(err, -EINVAL, "--vsock: a socket's path is missing");
	while ((item = strsep(&rest, ",")))
		if (set(o, item, err))
			return err->code;
	return 0;
}

void vsock_option_free(struct vsock_option *o) { free(o->text); }
