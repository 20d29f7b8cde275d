#include "cli/create.h"
#include "base/scope.h"
#include "cli/life.h"
#include "cli/machines.h"
#include "machine/machine.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

/* Items that are no options: where paths begin; what a file may say beside its options. */
static bool is_special(const char *name)
{
	return !strcmp(name, "folder") || !strcmp(name, "name") || !strcmp(name, "image");
}

static int at_line(const struct store_item *item, struct err *err)
{
	err->code = -EINVAL;
	return item->line ? err_wrap(err, "line %u", item->line) : err->code;
}

/* Alone, with what every machine needs, so that it is this one that is wrong. */
static int check_item(const struct store_item *item, struct err *err)
{
	struct run_values v;

	run_defaults(&v);
	if (options_set(run_options, item->name, item->value, &v, err))
		return at_line(item, err);
	/* Which needs another one. */
	if (!strcmp(item->name, "pin") || !strcmp(item->name, "balloon"))
		return 0;
	if (!strcmp(item->name, "limits"))
		v.memory = MACHINE_MEMORY_MIN;
	if (!v.firmware && !v.kernel)
		v.kernel = "kernel";
	return run_check(&v, err) ? at_line(item, err) : 0;
}

int create_check(const struct store_config *config, struct run_values *v, struct err *err)
{
	run_defaults(v);
	v->image = store_config_get(config, "image");
	for (unsigned i = 0; i < config->count; i++) {
		const struct store_item *item = &config->items[i];

		if (is_special(item->name))
			continue;
		if (check_item(item, err))
			return err->code;
		if (options_set(run_options, item->name, item->value, v, err))
			return at_line(item, err);
	}
	/* What an image brings is not there yet. */
	return v->image ? 0 : run_check(v, err);
}

static int read_file(const char *path, struct store_config *config, struct err *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	AUTO_FREE char *text = malloc(STORE_CONFIG_MAX + 1);
	size_t len = 0;
	ssize_t n = 0;

	if (!text)
		return err_set(err, -ENOMEM, "no memory");
	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	while (len <= STORE_CONFIG_MAX &&
		(n = read(fd, text + len, STORE_CONFIG_MAX + 1 - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (store_config_parse(config, text, len, err)) {
		err->code = -EINVAL;
		return err_wrap(err, "%s", path);
	}
	return 0;
}

/* Relative paths are relative to where the file is, unless it says otherwise. */
static int go_there(const char *path, const struct store_config *config, struct err *err)
{
	const char *folder = store_config_get(config, "folder");
	AUTO_FREE char *copy = strdup(path);

	if (!copy)
		return err_set(err, -ENOMEM, "no memory");
	if (chdir(dirname(copy)) || (folder && chdir(folder)))
		return err_set(
			err, -errno, "folder %s: %s", folder ? folder : ".", strerror(errno));
	return 0;
}

static int refuse_option(void *ctx, const char *name, const char *text)
{
	return err_set(ctx, -EINVAL, "--%s: with --file, the file says that", name);
}

static int make(const struct run_values *asked, struct store_config *config, struct err *err)
{
	struct run_values v, usual;

	run_defaults(&usual);
	if (options_each(run_options, asked, &usual, refuse_option, err))
		return machines_failed("create", err);
	if (read_file(asked->file, config, err))
		return machines_failed("create", err);
	if (create_check(config, &v, err)) {
		err_wrap(err, "%s", asked->file);
		return machines_failed("create", err);
	}
	v.name = asked->name ? asked->name : store_config_get(config, "name");
	if (!v.name && !v.image)
		err_set(err, -EINVAL, "--name NAME is missing; or name: in %s", asked->file);
	else if (asked->image || asked->detach || asked->remove)
		err_set(err, -EINVAL, "--file goes with --name only");
	else
		(void)!go_there(asked->file, config, err);
	return err->code ? machines_failed("create", err) : life_create(&v);
}

int create_of_file(const struct run_values *asked)
{
	struct store_config config = { 0 };
	struct err err = { 0 };
	int status = make(asked, &config, &err);

	store_config_free(&config);
	return status;
}
