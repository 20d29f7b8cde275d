/* strata image: disk images, without a machine. */
#include "cli/image.h"
#include "base/bits.h"
#include "base/scope.h"
#include "block/lock.h"
#include "cli/json.h"
#include "cli/progress.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const image_formats[] = { "qcow2", "raw", NULL };

int image_failed(const char *verb, const struct err *err)
{
	fprintf(stderr, "strata: image %s: %s\n", verb, err->text);
	return CLI_FAILED;
}

const char *image_human(u64 bytes, char text[24])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i + 1 < ARRAY_LEN(units); i++)
		v /= 1024;
	snprintf(text, 24, v == (double)(u64)v ? "%.0f %s" : "%.1f %s", v, units[i]);
	return text;
}

/* ---- create ---- */

static int make(int fd, const struct image_new *n, struct err *err)
{
	const struct block_format *f = formats_find(image_formats[n->format]);
	struct block_create create = n->create;
	int rc;

	create.size = align_up(create.size, BLOCK_SECTOR);
	if (ftruncate(fd, 0))
		return err_set(err, -errno, "%s", strerror(errno));
	rc = f->create(fd, &create, err);
	if (!rc && fsync(fd))
		rc = err_set(err, -errno, "%s", strerror(errno));
	return rc;
}

/* What is replaced may be in use, perhaps as what the new one is made from. */
int image_make(const struct image_new *n, struct err *err)
{
	AUTO_FD fd = open(n->path, O_RDWR | O_CREAT | O_CLOEXEC | (n->force ? 0 : O_EXCL), 0644);
	int rc;

	if (fd < 0 && errno == EEXIST)
		return err_set(err, -EEXIST, "%s exists; --force replaces it", n->path);
	if (fd < 0)
		return err_set(err, -errno, "%s: %s", n->path, strerror(errno));
	rc = lock_take(fd, n->path, true, err);
	if (rc)
		return rc;
	rc = make(fd, n, err);
	if (rc) {
		unlink(n->path);
		err_wrap(err, "%s", n->path);
	}
	return rc;
}

struct create_values {
	const char *path, *backing, *backing_format;
	unsigned format;
	u64 size, cluster;
	bool old, lazy, force;
};

/* What it stands on must be there, and says how large it is and what. */
static int look_at_backing(const struct create_values *v, struct block_create *c, struct err *err)
{
	const struct block_options o = { .format = v->backing_format, .readonly = true };
	AUTO_FREE char *path = node_beside(v->path, v->backing);
	struct node *n;
	int rc = path ? node_open(&n, path, &o, err) : -ENOMEM;

	if (rc)
		return err_wrap(err, "backing file");
	c->backing = v->backing;
	c->backing_format = n->format->name;
	if (!c->size)
		c->size = n->size;
	return node_close(n);
}

static int create(const void *values)
{
	const struct create_values *v = values;
	struct image_new n = { .path = v->path,
		.format = v->format,
		.force = v->force,
		.create = { .size = v->size,
			.cluster = (u32)v->cluster,
			.old = v->old,
			.lazy = v->lazy } };
	struct err err = { 0 };

	if (v->backing && v->format != IMAGE_QCOW2) {
		err_set(&err, -EINVAL, "a raw image stands on nothing; --format qcow2 does");
		return image_failed("create", &err);
	}
	if (v->backing && look_at_backing(v, &n.create, &err))
		return image_failed("create", &err);
	if (!n.create.size) {
		err_set(&err, -EINVAL, "--size SIZE is missing");
		fprintf(stderr, "strata: image create: %s\n", err.text);
		return CLI_USAGE;
	}
	return image_make(&n, &err) ? image_failed("create", &err) : CLI_OK;
}

#define CREATE(field) offsetof(struct create_values, field)
static const struct option_row create_options[] = {
	{ "FILE", NULL, "the new image", OPTION_OPERAND, CREATE(path), .required = true },
	{ "size", "SIZE", "of the disk; with --backing: as large as that", OPTION_SIZE,
		CREATE(size), .min = 512, .max = BLOCK_SIZE_MAX },
	{ "format", "NAME", "qcow2 or raw", OPTION_CHOICE, CREATE(format),
		.choices = image_formats },
	{ "backing", "FILE",
		"what the image shows until it is written to; relative to the image's folder",
		OPTION_TEXT, CREATE(backing) },
	{ "backing-format", "NAME", "its format, instead of what it looks like", OPTION_TEXT,
		CREATE(backing_format) },
	{ "cluster", "SIZE", "in such pieces a qcow2 image grows", OPTION_SIZE, CREATE(cluster),
		.min = 512, .max = 2 * MiB },
	{ "old", NULL, "qcow2 of version 2, for programs that know no other", OPTION_SWITCH,
		CREATE(old) },
	{ "lazy-refcounts", NULL, "say so in the image, for other programs", OPTION_SWITCH,
		CREATE(lazy) },
	{ "force", NULL, "replace a file that exists", OPTION_SWITCH, CREATE(force) },
	{ 0 },
};

static const struct verb create_verb = {
	.name = "image create",
	.doc = "make an empty disk image",
	.options = create_options,
	.size = sizeof(struct create_values),
	.run = create,
};

/* ---- info ---- */

struct file_values {
	const char *path, *format;
	bool json, repair, shrink;
	u64 size;
};

static void say_text(void *ctx, const char *key, const char *value, bool number)
{
	printf("%-15s %s\n", key, value);
}

static void say_json(void *ctx, const char *key, const char *value, bool number)
{
	printf(",\"%s\":", key);
	if (number)
		fputs(value, stdout);
	else
		json_print(stdout, value);
}

static void show_text(const struct node *n, const struct stat *st)
{
	char size[24], used[24];

	printf("%-15s %s\n%-15s %s\n", "file", n->path, "format", n->format->name);
	printf("%-15s %s (%llu bytes)\n", "size", image_human(n->size, size),
		(unsigned long long)n->size);
	printf("%-15s %s\n", "on the host", image_human((u64)st->st_blocks * 512, used));
	if (n->backing_name[0])
		printf("%-15s %s%s%s%s\n", "backing file", n->backing_name,
			n->backing_format[0] ? " (" : "", n->backing_format,
			n->backing_format[0] ? ")" : "");
	if (n->format->describe)
		n->format->describe(n, say_text, NULL);
}

static void show_json(const struct node *n, const struct stat *st)
{
	printf("{\"file\":");
	json_print(stdout, n->path);
	say_json(NULL, "format", n->format->name, false);
	printf(",\"size\":%llu,\"host-size\":%llu", (unsigned long long)n->size,
		(unsigned long long)st->st_blocks * 512);
	if (n->backing_name[0])
		say_json(NULL, "backing", n->backing_name, false);
	if (n->backing_format[0])
		say_json(NULL, "backing-format", n->backing_format, false);
	if (n->format->describe)
		n->format->describe(n, say_json, NULL);
	printf("}\n");
}

static int info(const void *values)
{
	const struct file_values *v = values;
	const struct block_options o = {
		.format = v->format, .readonly = true, .no_lock = true, .no_backing = true
	};
	struct err err = { 0 };
	struct stat st = { 0 };
	struct node *n;

	if (node_open(&n, v->path, &o, &err))
		return image_failed("info", &err);
	if (!fstat(n->meta, &st) && v->json)
		show_json(n, &st);
	else
		show_text(n, &st);
	return node_close(n) ? CLI_FAILED : CLI_OK;
}

#define ROW(field) offsetof(struct file_values, field)
#define FORMAT                                                                              \
	{                                                                                   \
		"format", "NAME", "its format, instead of what it looks like", OPTION_TEXT, \
			ROW(format)                                                         \
	}
#define JSON                                                                 \
	{                                                                    \
		"json", NULL, "as one JSON object", OPTION_SWITCH, ROW(json) \
	}
static const struct option_row info_options[] = {
	{ "FILE", NULL, "the image; it may be in use", OPTION_OPERAND, ROW(path),
		.required = true },
	FORMAT,
	JSON,
	{ 0 },
};

static const struct verb info_verb = {
	.name = "image info",
	.doc = "show what a disk image is",
	.options = info_options,
	.size = sizeof(struct file_values),
	.run = info,
};

/* ---- resize ---- */

static int resize_node(struct node *n, const struct file_values *v, struct err *err)
{
	u64 size = v->size;

	if (!n->format->resize)
		return err_set(
			err, -EINVAL, "%s: a %s image keeps its size", n->path, n->format->name);
	if (size % BLOCK_SECTOR)
		return err_set(err, -EINVAL, "--size must be a multiple of %u", BLOCK_SECTOR);
	if (size < n->size && !v->shrink)
		return err_set(err, -EINVAL,
			"%s: has %llu bytes, of which some would be lost;"
			" --shrink allows that",
			n->path, (unsigned long long)n->size);
	return n->format->resize(n, size, err);
}

static int resize(const void *values)
{
	const struct file_values *v = values;
	const struct block_options o = { .format = v->format };
	struct err err = { 0 };
	struct node *n;
	int rc, last;

	if (node_open(&n, v->path, &o, &err))
		return image_failed("resize", &err);
	rc = resize_node(n, v, &err);
	last = node_close(n);
	if (!rc && last)
		rc = err_set(&err, last, "%s: %s", v->path, strerror(-last));
	return rc ? image_failed("resize", &err) : CLI_OK;
}

static const struct option_row resize_options[] = {
	{ "FILE", NULL, "the image", OPTION_OPERAND, ROW(path), .required = true },
	{ "size", "SIZE", "the new one", OPTION_SIZE, ROW(size), .min = 512, .max = BLOCK_SIZE_MAX,
		.required = true },
	{ "shrink", NULL, "it may become smaller: what is behind the new end is lost",
		OPTION_SWITCH, ROW(shrink) },
	FORMAT,
	{ 0 },
};

static const struct verb resize_verb = {
	.name = "image resize",
	.doc = "make a disk image larger or smaller",
	.options = resize_options,
	.size = sizeof(struct file_values),
	.run = resize,
};

/* ---- check ---- */

static int check_once(struct node *n, bool repair, struct block_check *c, struct err *err)
{
	struct progress p;
	int rc;

	progress_begin(&p, repair ? "repairing" : "checking");
	*c = (struct block_check){ .progress = progress_show, .ctx = &p };
	rc = n->format->check(n, repair, c, err);
	progress_end(&p);
	return rc;
}

static void show_check(const struct block_check *c, u64 repaired, bool json)
{
	if (json) {
		printf("{\"clusters\":%llu,\"used\":%llu,\"errors\":%llu,\"leaks\":%llu,"
		       "\"repaired\":%llu",
			(unsigned long long)c->clusters, (unsigned long long)c->used,
			(unsigned long long)c->errors, (unsigned long long)c->leaks,
			(unsigned long long)repaired);
		if (c->errors)
			say_json(NULL, "first", c->first, false);
		printf("}\n");
		return;
	}
	if (repaired)
		printf("%llu entries were put right\n", (unsigned long long)repaired);
	if (c->errors)
		printf("%llu errors, the first: %s\n", (unsigned long long)c->errors, c->first);
	if (c->leaks)
		printf("%llu clusters are counted and not used: space is lost, no data\n",
			(unsigned long long)c->leaks);
	if (!c->errors && !c->leaks)
		printf("no errors\n");
}

static int check_node(struct node *n, const struct file_values *v, struct err *err)
{
	struct block_check c = { 0 };
	u64 repaired = 0;
	int rc = 0;

	if (!n->format->check)
		return err_set(err, -EINVAL, "%s: a %s image has nothing to check", n->path,
			n->format->name);
	if (v->repair) {
		rc = check_once(n, true, &c, err);
		repaired = c.repaired;
	}
	if (!rc)
		rc = check_once(n, false, &c, err);
	if (rc)
		return rc;
	show_check(&c, repaired, v->json);
	return c.errors || c.leaks ? 1 : 0;
}

static int check_image(const void *values)
{
	const struct file_values *v = values;
	const struct block_options o = {
		.format = v->format, .readonly = !v->repair, .no_backing = true, .no_repair = true
	};
	struct err err = { 0 };
	struct node *n;
	int rc, last;

	if (node_open(&n, v->path, &o, &err))
		return image_failed("check", &err);
	rc = check_node(n, v, &err);
	last = node_close(n);
	if (rc >= 0 && last)
		rc = err_set(&err, last, "%s: %s", v->path, strerror(-last));
	if (rc < 0)
		return image_failed("check", &err);
	return rc ? CLI_FAILED : CLI_OK;
}

static const struct option_row check_options[] = {
	{ "FILE", NULL, "the image, which nobody uses", OPTION_OPERAND, ROW(path),
		.required = true },
	{ "repair", NULL, "put refcounts right", OPTION_SWITCH, ROW(repair) },
	FORMAT,
	JSON,
	{ 0 },
};

static const struct verb check_verb = {
	.name = "image check",
	.doc = "look whether a disk image is consistent; exit status 1 when it is not",
	.options = check_options,
	.size = sizeof(struct file_values),
	.run = check_image,
};

static const struct verb *const below[] = { &create_verb, &info_verb, &image_convert_verb,
	&resize_verb, &check_verb, &image_build_verb, &image_ls_verb, &image_rm_verb,
	&image_import_verb, &image_export_verb, NULL };

const struct verb verbs_image = {
	.name = "image",
	.doc = "disk images: make, show, convert, resize and check files; build, list and remove "
	       "what "
	       "machines are made of",
	.verbs = below,
};
