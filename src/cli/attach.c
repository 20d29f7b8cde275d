/*
 * strata attach, detach: devices for a machine that runs, and away again.
 *
 * A monitor in its sandbox opens nothing. The command reads the option, opens and locks what it
 * names, and sends the option's text with the descriptors; the monitor reads the same text, by the
 * same table, and takes the descriptors instead of opening.
 */
#include "cli/attach.h"
#include "base/scope.h"
#include "cli/clone.h"
#include "cli/disk_option.h"
#include "cli/machines.h"
#include "cli/net_option.h"
#include "os/fd.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ATTACH_MS  30000u /* an image's tables may have to be read, or put right */
#define PATIENCE_S 10u	  /* with a guest that is asked to let go */

_Static_assert(BLOCK_FILES_MAX <= CONTROL_FDS_MAX, "descriptors with a request");
_Static_assert(MACHINE_NAME_MAX == CONTROL_DEVICE_MAX, "names");

/* ---- the monitor's end ---- */

/* How many of the request's descriptors it has taken. */
static unsigned take_files(int *to, unsigned most, const struct control_attach *a)
{
	unsigned count = 0;

	for (unsigned i = 0; i < a->count && count < most; i++) {
		to[count++] = a->fds[i];
		a->fds[i] = -1;
	}
	return count;
}

static int attach_disk_to(struct machine *m, const struct control_attach *a,
	char name[CONTROL_DEVICE_MAX], struct err *err)
{
	struct machine_disk_config disks[MACHINE_DISKS_MAX] = { 0 };
	const struct option_list texts = { .items = { a->disk }, .count = 1 };
	struct block_files files = { .count = 0 };

	files.count = take_files(files.fd, BLOCK_FILES_MAX, a);
	if (!disk_option_parse(&texts, disks, err))
		(void)!machine_attach_disk(m, &disks[0], &files, disks[0].path, name, err);
	block_files_close(&files);
	disk_option_free(disks);
	return err->code;
}

/* net_option_free() it in any case. */
static int parse_net(const char *text, struct net_option *option, struct err *err)
{
	bool wanted;

	if (net_option_parse(text, option, &wanted, err))
		return err->code;
	return wanted ? 0 : err_set(err, -EINVAL, "--net none: there is nothing to attach");
}

static int attach_net_to(struct machine *m, const struct control_attach *a,
	char name[CONTROL_DEVICE_MAX], struct err *err)
{
	struct net_files files = { .count = 0 };
	struct net_option option;

	files.count = take_files(files.fd, NET_FILES_MAX, a);
	if (!parse_net(a->net, &option, err))
		(void)!machine_attach_net(m, &option.config, &files, a->net, name, err);
	net_files_close(&files);
	net_option_free(&option);
	return err->code;
}

int attach_to(struct machine *m, const struct control_attach *a, char name[CONTROL_DEVICE_MAX],
	struct err *err)
{
	return a->disk ? attach_disk_to(m, a, name, err) : attach_net_to(m, a, name, err);
}

/* ---- the command's end: attach ---- */

struct attach_values {
	const char *name, *disk, *net;
};

/* The monitor has a folder of its own. */
static char *with_folder(const char *text, struct err *err)
{
	AUTO_FREE char *here = *text == '/' ? strdup("") : getcwd(NULL, 0);
	AUTO_FREE char *path = here ? clone_path_text(here) : NULL;
	char *whole;

	if (path && asprintf(&whole, "%s%s%s", path, *path ? "/" : "", text) >= 0)
		return whole;
	err_set(err, -errno, "the current folder: %s", strerror(errno));
	return NULL;
}

static int send(struct control_client *c, const char *text, const struct block_files *files,
	json_t **result, struct err *err)
{
	AUTO_FREE char *whole = with_folder(text, err);

	if (!whole)
		return err->code;
	return client_request_with(c, json_pack("{s:s,s:s}", "command", "attach", "disk", whole),
		files->fd, files->count, ATTACH_MS, result, err);
}

static int attach_disk(struct control_client *c, const char *text, json_t **result, struct err *err)
{
	struct machine_disk_config disks[MACHINE_DISKS_MAX] = { 0 };
	const struct option_list texts = { .items = { text }, .count = 1 };
	struct block_files files = { .count = 0 };

	if (!disk_option_parse(&texts, disks, err) &&
		!block_files_open(&files, disks[0].path, &disks[0].options, err))
		(void)!send(c, text, &files, result, err);
	block_files_close(&files);
	disk_option_free(disks);
	return err->code;
}

static int attach_net(struct control_client *c, const char *text, json_t **result, struct err *err)
{
	struct net_files files = { .count = 0 };
	struct net_option option;
	int rc = parse_net(text, &option, err);

	if (!rc)
		rc = net_files_open(&files, option.config.kind, option.config.name, err);
	if (!rc)
		rc = client_request_with(c,
			json_pack("{s:s,s:s}", "command", "attach", "net", text), files.fd,
			files.count, ATTACH_MS, result, err);
	net_files_close(&files);
	net_option_free(&option);
	return rc;
}

static int talk_attach(struct control_client *c, const void *values, struct err *err)
{
	const struct attach_values *v = values;
	json_t *result = NULL;

	if (!(v->disk ? attach_disk(c, v->disk, &result, err)
		      : attach_net(c, v->net, &result, err)))
		printf("%s\n", json_string_value(json_object_get(result, "device")));
	json_decref(result);
	return err->code;
}

static int attach(const void *values)
{
	const struct attach_values *v = values;
	struct err err = { 0 };

	if (!v->disk == !v->net) {
		err_set(&err, -EINVAL, "either --disk FILE or --net NETWORK says what to attach");
		return machines_failed("attach", &err);
	}
	return machines_talk("attach", v->name, talk_attach, v);
}

static const struct option_row attach_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, offsetof(struct attach_values, name),
		.required = true },
	{ "disk", "FILE", "a disk image, with the options of run --disk; bus=virtio or nvme",
		OPTION_TEXT, offsetof(struct attach_values, disk) },
	{ "net", "NETWORK",
		"a network device, with the options of run --net but forward= and capture=; user "
		"is for machines that were started with it",
		OPTION_TEXT, offsetof(struct attach_values, net) },
	{ 0 },
};

const struct verb verbs_attach = {
	.name = "attach",
	.doc = "plug a device into a machine that runs, and print its name",
	.options = attach_options,
	.size = sizeof(struct attach_values),
	.run = attach,
	.more = "What is attached is there until it is detached or the machine ends; the next "
		"start is without it.\n",
};

/* ---- detach ---- */

struct detach_values {
	const char *name, *device;
	u64 timeout_ns;
};

static void detach_defaults(void *values)
{
	((struct detach_values *)values)->timeout_ns = PATIENCE_S * 1000000000ull;
}

static bool is_news_of(const json_t *event, const char *device)
{
	const char *what = json_string_value(json_object_get(event, "event"));
	const char *text = json_string_value(json_object_get(event, "text"));

	return what && text && !strcmp(what, "detached") && !strcmp(text, device);
}

/* Until the machine says that it has gone. */
static int wait_for(struct control_client *c, const struct detach_values *v, struct err *err)
{
	u64 deadline = fd_monotonic_ns() + v->timeout_ns, now;

	while ((now = fd_monotonic_ns()) < deadline) {
		json_t *event = client_next(c, (unsigned)((deadline - now) / 1000000) + 1, err);
		bool gone = event && is_news_of(event, v->device);

		json_decref(event);
		if (gone)
			return 0;
		if (!event && err->code != -ETIMEDOUT)
			return err->code;
	}
	return err_set(err, -ETIMEDOUT,
		"the guest has not let go of %s: its system may be busy, or know no hot-plug; the "
		"device goes when the guest lets go of it, or is reset",
		v->device);
}

static int talk_detach(struct control_client *c, const void *values, struct err *err)
{
	const struct detach_values *v = values;

	if (client_ask(c, "events", -1, MACHINES_ASK_MS, NULL, err) ||
		client_request(c, json_pack("{s:s,s:s}", "command", "detach", "device", v->device),
			-1, MACHINES_ASK_MS, NULL, err))
		return err->code;
	*err = (struct err){ 0 };
	return wait_for(c, v, err);
}

static int detach(const void *values)
{
	const struct detach_values *v = values;

	return machines_talk("detach", v->name, talk_detach, v);
}

static const struct option_row detach_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, offsetof(struct detach_values, name),
		.required = true },
	{ "DEVICE", NULL, "what `strata attach` has printed; `strata show` lists what is attached",
		OPTION_OPERAND, offsetof(struct detach_values, device), .required = true },
	{ "timeout", "SECONDS", "how long the guest has to let go of it (default 10)",
		OPTION_SECONDS, offsetof(struct detach_values, timeout_ns) },
	{ 0 },
};

const struct verb verbs_detach = {
	.name = "detach",
	.doc = "take a device out of a machine that runs, once its guest has let go of it",
	.options = detach_options,
	.size = sizeof(struct detach_values),
	.defaults = detach_defaults,
	.run = detach,
	.more = "Unmount a disk in the guest first: what it has not written by then is lost.\n",
};
