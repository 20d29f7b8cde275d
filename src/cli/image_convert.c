/* strata image convert: what an image shows, in a new one of another format. */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/image.h"
#include "cli/progress.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE	 (2 * MiB)
#define ZERO_RUN 4096u /* zeroes in such pieces are not written */

struct values {
	const char *from, *to, *from_format;
	unsigned format;
	u64 cluster;
	bool old, force;
};

static bool is_zero(const u8 *p, u64 len) { return !*p && !memcmp(p, p + 1, len - 1); }

/* Writes a piece except for its zeroes: the new image has them already. */
static int put(struct block *to, u64 at, const u8 *buf, u64 len)
{
	for (u64 from = 0, end; from < len; from = end) {
		bool zero = is_zero(buf + from, min_u64(ZERO_RUN, len - from));

		for (end = from; end < len; end += min_u64(ZERO_RUN, len - end))
			if (is_zero(buf + end, min_u64(ZERO_RUN, len - end)) != zero)
				break;
		int rc = zero ? 0 : block_write(to, at + from, buf + from, end - from);

		if (rc)
			return rc;
	}
	return 0;
}

static int copy(struct node *from, struct block *to, struct progress *p)
{
	AUTO_FREE u8 *buf = malloc(PIECE);
	struct extent e;
	struct node *in;
	int rc = buf ? 0 : -ENOMEM;

	for (u64 at = 0; at < from->size && !rc; at += e.len) {
		progress_show(p, at, from->size);
		rc = node_map(from, at, from->size - at, true, &in, &e);
		if (rc || e.kind == EXTENT_ZERO)
			continue;
		u64 hole = e.kind == EXTENT_DATA ? io_hole(in->meta, e.at, e.len) : 0;

		if (hole >= BLOCK_SECTOR) {
			e.len = align_down(hole, BLOCK_SECTOR);
			continue;
		}
		e.len = min_u64(e.len, PIECE);
		rc = node_read_buf(from, at, buf, e.len);
		if (!rc)
			rc = put(to, at, buf, e.len);
	}
	return rc ? rc : block_flush(to);
}

static int write_copy(struct node *from, const struct image_copy *c, struct err *err)
{
	const struct block_options o = { .format = image_formats[c->to.format] };
	struct progress p;
	struct block *to;
	int rc = block_open(&to, c->to.path, &o, err), last;

	if (rc)
		return rc;
	progress_begin(&p, c->what ? c->what : "writing");
	rc = copy(from, to, &p);
	progress_end(&p);
	if (rc)
		err_set(err, rc, "%s to %s: %s", c->from, c->to.path, strerror(-rc));
	last = block_close(to, rc ? NULL : err);
	return rc ? rc : last;
}

static int copy_node(struct node *from, const struct image_copy *c, struct err *err)
{
	struct image_new n = c->to;

	n.create.size = from->size;
	int rc = image_make(&n, err);

	if (rc)
		return rc;
	rc = write_copy(from, c, err);
	if (rc)
		unlink(n.path);
	return rc;
}

int image_copy(const struct image_copy *c, struct err *err)
{
	const struct block_options o = { .format = c->from_format, .readonly = true };
	struct node *from;

	if (node_open(&from, c->from, &o, err))
		return err->code;
	int rc = copy_node(from, c, err), last = node_close(from);

	if (!rc && last)
		rc = err_set(err, last, "%s: %s", c->from, strerror(-last));
	return rc;
}

static int run(const void *values)
{
	const struct values *v = values;
	const struct image_copy c = {
		.from = v->from,
		.from_format = v->from_format,
		.what = "converting",
		.to = { .path = v->to,
			.format = v->format,
			.force = v->force,
			.create = { .cluster = (u32)v->cluster, .old = v->old } },
	};
	struct err err = { 0 };

	return image_copy(&c, &err) ? image_failed("convert", &err) : CLI_OK;
}

static const struct option_row options[] = {
	{ "FILE", NULL, "the image, with all that it stands on", OPTION_OPERAND,
		offsetof(struct values, from), .required = true },
	{ "NEW", NULL, "the new image, which stands alone", OPTION_OPERAND,
		offsetof(struct values, to), .required = true },
	{ "format", "NAME", "of the new one: qcow2 or raw", OPTION_CHOICE,
		offsetof(struct values, format), .choices = image_formats },
	{ "from-format", "NAME", "of the old one, instead of what it looks like", OPTION_TEXT,
		offsetof(struct values, from_format) },
	{ "cluster", "SIZE", "in such pieces a qcow2 image grows", OPTION_SIZE,
		offsetof(struct values, cluster), .min = 512, .max = 2 * MiB },
	{ "old", NULL, "qcow2 of version 2, for programs that know no other", OPTION_SWITCH,
		offsetof(struct values, old) },
	{ "force", NULL, "replace a file that exists", OPTION_SWITCH,
		offsetof(struct values, force) },
	{ 0 },
};

const struct verb image_convert_verb = {
	.name = "image convert",
	.doc = "copy what a disk image shows to a new one, of the same or another format",
	.options = options,
	.size = sizeof(struct values),
	.run = run,
};
