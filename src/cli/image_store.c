/* strata image ls, rm, export: images by name, and the machines that stand on them. */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/clone.h"
#include "cli/image.h"
#include "cli/machines.h"
#include "store/images.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- who stands on what ---- */

struct users {
	char **names; /* of machines, then of images */
	char **backing;
	unsigned machines, count;
};

/* What a disk stands on; NULL: on nothing, or there is none. */
static char *backing_of(const char *path)
{
	const struct block_options o = { .readonly = true, .no_lock = true, .no_backing = true };
	struct err err;
	struct node *n;

	if (node_open(&n, path, &o, &err))
		return NULL;
	char *backing = n->backing_name[0] ? strdup(n->backing_name) : NULL;

	(void)!node_close(n);
	return backing;
}

static char *backing_of_user(const char *name, bool machine)
{
	char path[1100];
	struct err err;
	size_t room = sizeof(path) - 20;

	if (machine ? store_path(name, path, room, &err) : images_folder(path, room - 70, &err))
		return NULL;
	if (!machine)
		snprintf(path + strlen(path), 70, "/%.63s", name);
	strcat(path, machine ? "/" CLONE_DISK : "/" IMAGES_DISK);
	return backing_of(path);
}

/* Takes the names. */
static int add_users(struct users *u, char **names, unsigned count, bool machines, struct err *err)
{
	char **all = realloc(u->names, (u->count + count + 1) * sizeof(*all));
	char **backing = realloc(u->backing, (u->count + count + 1) * sizeof(*backing));

	u->names = all ? all : u->names;
	u->backing = backing ? backing : u->backing;
	for (unsigned i = 0; i < count; i++) {
		if (!all || !backing) {
			free(names[i]);
			continue;
		}
		u->names[u->count] = names[i];
		u->backing[u->count++] = backing_of_user(names[i], machines);
	}
	free(names);
	return all && backing ? 0 : err_set(err, -ENOMEM, "no memory");
}

static int find_users(struct users *u, struct err *err)
{
	unsigned count;
	char **names;

	*u = (struct users){ 0 };
	if (store_list(&names, &count, err) || add_users(u, names, count, true, err))
		return err->code;
	u->machines = u->count;
	return images_list(&names, &count, err) || add_users(u, names, count, false, err)
		       ? err->code
		       : 0;
}

static void free_users(struct users *u)
{
	for (unsigned i = 0; i < u->count; i++) {
		free(u->names[i]);
		free(u->backing[i]);
	}
	free(u->names);
	free(u->backing);
}

/* How many of the first `of` stand on the image; *first is one of them. */
static unsigned count_users(
	const struct users *u, unsigned of, const struct images_image *i, const char **first)
{
	char disk[sizeof(i->path) + 16];
	unsigned count = 0;

	snprintf(disk, sizeof(disk), "%s/" IMAGES_DISK, i->path);
	for (unsigned k = 0; k < of; k++)
		if (u->backing[k] && !strcmp(u->backing[k], disk) && !count++)
			*first = u->names[k];
	return count;
}

/* ---- ls ---- */

struct ls_values {
	bool json;
};

struct look {
	u64 size, used;
	unsigned machines;
	struct store_config facts;
};

/* false: it has gone meanwhile, or is none. */
static bool look_at(const char *name, const struct users *u, struct look *l)
{
	static const char *const files[] = { IMAGES_DISK, IMAGES_KERNEL, IMAGES_INITRD,
		IMAGES_MODULES };
	const struct block_options o = { .readonly = true, .no_lock = true };
	struct images_image i;
	struct err err = { 0 };
	const char *first;
	struct node *n;
	struct stat st;

	*l = (struct look){ 0 };
	if (images_open(&i, name, &err))
		return false;
	char disk[sizeof(i.path) + 16];

	snprintf(disk, sizeof(disk), "%s/" IMAGES_DISK, i.path);
	if (!node_open(&n, disk, &o, &err)) {
		l->size = n->size;
		(void)!node_close(n);
	}
	for (unsigned f = 0; f < ARRAY_LEN(files); f++)
		if (!fstatat(i.folder, files[f], &st, 0))
			l->used += (u64)st.st_blocks * 512;
	l->machines = count_users(u, u->machines, &i, &first);
	bool good = !images_read(&i, &l->facts, &err);

	images_close(&i);
	return good;
}

static const char *fact(const struct look *l, const char *name)
{
	const char *text = store_config_get(&l->facts, name);

	return text ? text : "-";
}

static void show_row(const char *name, const struct look *l)
{
	char size[24], used[24];

	printf("%-20s %10s %10s %8u  %-20s  %s\n", name, image_human(l->size, size),
		image_human(align_up(l->used, MiB), used), l->machines, fact(l, "made"),
		store_config_get(&l->facts, "about") ? fact(l, "about") : fact(l, "source"));
}

static json_t *as_json(const char *name, const struct look *l)
{
	json_t *j = json_pack("{s:s,s:I,s:I,s:I}", "name", name, "size", (json_int_t)l->size,
		"host_size", (json_int_t)l->used, "machines", (json_int_t)l->machines);

	for (unsigned i = 0; i < l->facts.count; i++)
		if (!json_object_get(j, l->facts.items[i].name))
			json_object_set_new(
				j, l->facts.items[i].name, json_string(l->facts.items[i].value));
	return j;
}

static int list(const struct users *u, bool json, struct err *err)
{
	json_t *all = json_array();
	unsigned count;
	char **names;
	int rc = images_list(&names, &count, err);

	if (!rc && count && !json)
		printf("%-20s %10s %10s %8s  %-20s  %s\n", "NAME", "SIZE", "ON DISK", "MACHINES",
			"MADE", "WHAT");
	for (unsigned i = 0; !rc && i < count; i++) {
		struct look l;

		if (look_at(names[i], u, &l) && json)
			json_array_append_new(all, as_json(names[i], &l));
		else if (l.facts.count)
			show_row(names[i], &l);
		store_config_free(&l.facts);
		free(names[i]);
	}
	if (!rc)
		free(names);
	if (!rc && json) {
		json_dumpf(all, stdout, JSON_COMPACT);
		printf("\n");
	}
	json_decref(all);
	return rc;
}

static int ls(const void *values)
{
	const struct ls_values *v = values;
	struct err err = { 0 };
	struct users u;

	images_sweep();
	if (!find_users(&u, &err))
		(void)!list(&u, v->json, &err);
	free_users(&u);
	return err.code ? image_failed("ls", &err) : CLI_OK;
}

static const struct option_row ls_options[] = {
	{ "json", NULL, "as a JSON array", OPTION_SWITCH, offsetof(struct ls_values, json) },
	{ 0 },
};

const struct verb image_ls_verb = {
	.name = "image ls",
	.doc = "list the images that machines can be made of",
	.options = ls_options,
	.size = sizeof(struct ls_values),
	.run = ls,
};

/* ---- rm ---- */

struct name_values {
	const char *name, *to;
};

#define IMAGE                                                                                  \
	{                                                                                      \
		"IMAGE", NULL, "its name", OPTION_OPERAND, offsetof(struct name_values, name), \
			.required = true                                                       \
	}

/* Nobody makes a machine of it while we look, since its lock is ours. */
static int remove_unused(struct images_image *i, struct err *err)
{
	const char *first = NULL;
	struct users u;
	int rc = find_users(&u, err);
	unsigned count = rc ? 0 : count_users(&u, u.machines, i, &first);

	if (count == 1)
		rc = err_set(err, -EBUSY,
			"machine %s stands on image %s; `strata rm %s` removes that first", first,
			i->name, first);
	else if (count)
		rc = err_set(err, -EBUSY,
			"%u machines stand on image %s, %s among them; `strata rm` removes them "
			"first",
			count, i->name, first);
	else if (!rc && count_users(&u, u.count, i, &first))
		rc = err_set(err, -EBUSY,
			"image %s stands on image %s; `strata image rm %s` removes that first",
			first, i->name, first);
	free_users(&u);
	return rc ? rc : images_remove(i, err);
}

static int rm(const void *values)
{
	const struct name_values *v = values;
	struct images_image i;
	struct err err = { 0 };

	images_sweep();
	store_sweep();
	if (images_open(&i, v->name, &err))
		return image_failed("rm", &err);
	if (!images_lock(&i, false, &err))
		(void)!remove_unused(&i, &err);
	images_close(&i);
	return err.code ? image_failed("rm", &err) : CLI_OK;
}

static const struct option_row rm_options[] = { IMAGE, { 0 } };

const struct verb image_rm_verb = {
	.name = "image rm",
	.doc = "remove an image that no machine stands on",
	.options = rm_options,
	.size = sizeof(struct name_values),
	.run = rm,
};

/* ---- export ---- */

static int export_files(const struct images_image *i, const char *to, struct err *err)
{
	static const char *const files[] = { IMAGES_KERNEL, IMAGES_INITRD, IMAGES_MODULES,
		IMAGES_FACTS };
	char from[sizeof(i->path) + 16], path[1100];
	AUTO_FD folder = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (folder < 0)
		return err_set(err, -errno, "%s: %s", to, strerror(errno));
	snprintf(from, sizeof(from), "%s/" IMAGES_DISK, i->path);
	snprintf(path, sizeof(path), "%.1000s/" IMAGES_DISK, to);
	if (image_copy(&(struct image_copy){ .from = from,
			       .to = { .path = path, .format = IMAGE_QCOW2 },
			       .what = "exporting" },
		    err))
		return err->code;
	for (unsigned f = 0; f < ARRAY_LEN(files); f++) {
		snprintf(from, sizeof(from), "%s/%s", i->path, files[f]);
		if (!access(from, F_OK) && image_copy_file(folder, files[f], from, err))
			return err->code;
	}
	return 0;
}

static int export(const void *values)
{
	const struct name_values *v = values;
	struct images_image i;
	struct err err = { 0 };

	if (images_open(&i, v->name, &err))
		return image_failed("export", &err);
	if (!images_lock(&i, true, &err)) {
		if (mkdir(v->to, 0777))
			err_set(&err, -errno, "%s: %s", v->to, strerror(errno));
		else if (export_files(&i, v->to, &err))
			err_wrap(&err, "what is in %s is not whole", v->to);
	}
	images_close(&i);
	return err.code ? image_failed("export", &err) : CLI_OK;
}

static const struct option_row export_options[] = {
	IMAGE,
	{ "FOLDER", NULL, "a new one, for its files", OPTION_OPERAND,
		offsetof(struct name_values, to), .required = true },
	{ 0 },
};

const struct verb image_export_verb = {
	.name = "image export",
	.doc = "copy an image to a folder, which `image import` takes on another host",
	.options = export_options,
	.size = sizeof(struct name_values),
	.run = export,
};
