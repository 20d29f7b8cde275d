#include "cli/image_oci.h"
#include "base/bits.h"
#include "base/scope.h"
#include "guest/start_bytes.h" /* made of the folder's other files */
#include "os/child.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DOCUMENT_MAX (4 * MiB) /* of an index, manifest or configuration */
#define DEPTH_MAX    4u	       /* of indexes in indexes */
#define WORDS_MAX    1024u
#define FETCHED	     ".oci-layout"

/* ---- where it is ---- */

static bool begins(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

static bool is_layout(const char *path)
{
	char file[1100];

	return snprintf(file, sizeof(file), "%.1000s/oci-layout", path) > 0 && !access(file, F_OK);
}

bool image_oci_is(const char *from)
{
	return begins(from, "oci:") || begins(from, "oci-archive:") ||
	       begins(from, "docker-archive:") || begins(from, "docker://") || is_layout(from);
}

/* "FOLDER:TAG", as skopeo has it: a tag has no slash. */
static int split(struct oci *o, const char *path, struct err *err)
{
	const char *colon = strrchr(path, ':');

	if (colon && strchr(colon, '/'))
		colon = NULL;
	int len = colon ? (int)(colon - path) : (int)strlen(path);

	if (len >= (int)sizeof(o->layout) || (colon && strlen(colon) >= sizeof(o->tag)))
		return err_set(err, -ENAMETOOLONG, "%.200s...: too long a name", path);
	snprintf(o->layout, sizeof(o->layout), "%.*s", len, path);
	snprintf(o->tag, sizeof(o->tag), "%s", colon ? colon + 1 : "");
	return is_layout(o->layout)
		       ? 0
		       : err_set(err, -EINVAL,
				 "%.200s is no OCI image layout: it has no file oci-layout; "
				 "oci-archive: and docker:// name others",
				 o->layout);
}

static int fetch(struct oci *o, const char *from, const struct images_image *at, struct err *err)
{
	char to[sizeof(o->layout) + 16];
	struct child_last last = { "" };

	snprintf(o->layout, sizeof(o->layout), "%.900s/" FETCHED, at->path);
	snprintf(o->tag, sizeof(o->tag), "image");
	snprintf(to, sizeof(to), "oci:%s:image", o->layout);
	const char *const argv[] = { "skopeo", "--tmpdir", at->path, "copy", "--quiet",
		"--override-os", "linux", "--override-arch", "amd64", from, to, NULL };

	fprintf(stderr, "strata: image import: fetching %s\n", from);
	int status = child_run(
		&(struct child){
			.argv = argv, .keep = at->lock, .line = child_keep_last, .ctx = &last },
		err);

	if (status == -ENOENT)
		return child_missing("skopeo", "skopeo", err);
	return status > 0 ? err_set(err, -EIO, "%.100s: is there a network? (%s)", from, last.line)
			  : status;
}

/* ---- its documents: untrusted ---- */

static json_t *read_json(const char *path, struct err *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = malloc(DOCUMENT_MAX);
	json_error_t where;
	size_t len = 0;
	ssize_t n = -1;

	while (fd >= 0 && text && len < DOCUMENT_MAX &&
		(n = read(fd, text + len, DOCUMENT_MAX - len)) > 0)
		len += (size_t)n;
	if (n < 0) {
		err_set(err, -errno, "%.300s: %s", path, strerror(errno));
		return NULL;
	}
	json_t *j = len < DOCUMENT_MAX ? json_loadb(text, len, 0, &where) : NULL;

	if (!j)
		err_set(err, -EINVAL, "%.300s: %s", path,
			len < DOCUMENT_MAX ? where.text : "too large for what it is");
	return j;
}

static const char *text_of(const json_t *j, const char *name)
{
	const char *text = json_string_value(json_object_get(j, name));

	return text ? text : "";
}

/* A digest names a file (image-layout, "blobs"): nothing else may be in it. */
static json_t *read_blob(const struct oci *o, const json_t *descriptor, struct err *err)
{
	const char *digest = text_of(descriptor, "digest");
	const char *hex = begins(digest, "sha256:") ? digest + strlen("sha256:") : "";
	char path[1400];
	bool good = strlen(hex) == 64;

	for (unsigned i = 0; good && i < 64; i++)
		good = isxdigit((unsigned char)hex[i]);
	if (!good) {
		err_set(err, -EINVAL, "%.200s: %.80s is no digest of the kind sha256", o->layout,
			*digest ? digest : "what is empty");
		return NULL;
	}
	snprintf(path, sizeof(path), "%s/blobs/sha256/%s", o->layout, hex);
	return read_json(path, err);
}

/* Other machines' processors are passed over, where the index tells. */
static bool is_ours(const json_t *descriptor)
{
	const char *arch = text_of(json_object_get(descriptor, "platform"), "architecture");

	return !*arch || !strcmp(arch, "amd64");
}

static const char *tag_of(const json_t *descriptor)
{
	return text_of(
		json_object_get(descriptor, "annotations"), "org.opencontainers.image.ref.name");
}

/* The manifest with the tag; without one, the only one there is. umoci wants its tag. */
static const json_t *choose(struct oci *o, const json_t *index, struct err *err)
{
	const json_t *list = json_object_get(index, "manifests"), *d, *found = NULL;
	size_t i, count = 0;

	json_array_foreach(list, i, d)
	{
		if (*o->tag && strcmp(tag_of(d), o->tag) != 0)
			continue;
		found = d;
		count++;
	}
	if (count == 1 && *tag_of(found) && strlen(tag_of(found)) < sizeof(o->tag)) {
		snprintf(o->tag, sizeof(o->tag), "%s", tag_of(found));
		return found;
	}
	if (*o->tag)
		err_set(err, -ENOENT, "%.200s has %s image with the tag %.60s", o->layout,
			count ? "more than one" : "no", o->tag);
	else
		err_set(err, -EINVAL, "%.200s has %zu images%s; oci:FOLDER:TAG names one",
			o->layout, count, count == 1 ? ", without a tag" : "");
	return NULL;
}

/* Down through indexes to the configuration. New reference. */
static json_t *read_config(const struct oci *o, const json_t *descriptor, struct err *err)
{
	json_t *at = read_blob(o, descriptor, err);

	for (unsigned depth = 0; at && json_object_get(at, "manifests"); depth++) {
		const json_t *list = json_object_get(at, "manifests"), *d, *found = NULL;
		size_t i;

		json_array_foreach(list, i, d) found = !found && is_ours(d) ? d : found;
		json_t *next = found && depth < DEPTH_MAX ? read_blob(o, found, err) : NULL;

		if (!next && !err->code)
			err_set(err, -EINVAL, "%.200s has nothing for x86-64 (amd64) with that tag",
				o->layout);
		json_decref(at);
		at = next;
	}
	json_t *config = at ? read_blob(o, json_object_get(at, "config"), err) : NULL;

	json_decref(at);
	return config;
}

/* ---- what it runs ---- */

static void print_word(FILE *f, const char *word)
{
	fputc('\'', f);
	for (; *word; word++)
		fprintf(f, *word == '\'' ? "'\\''" : "%c", *word);
	fputc('\'', f);
}

static bool is_name(const char *text, size_t len)
{
	bool good = len && !isdigit((unsigned char)*text);

	for (size_t i = 0; good && i < len; i++)
		good = isalnum((unsigned char)text[i]) || text[i] == '_';
	return good;
}

static void print_environment(FILE *f, const json_t *list)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		const char *text = json_string_value(item), *equals = text ? strchr(text, '=') : 0;

		if (!equals || !is_name(text, (size_t)(equals - text)))
			continue; /* no shell can export it */
		fprintf(f, "export %.*s=", (int)(equals - text), text);
		print_word(f, equals + 1);
		fputc('\n', f);
	}
}

static unsigned print_words(FILE *f, const json_t *list)
{
	const json_t *item;
	unsigned count = 0;
	size_t i;

	json_array_foreach(list, i, item) if (json_is_string(item) && count < WORDS_MAX)
	{
		fputc(' ', f);
		print_word(f, json_string_value(item));
		count++;
	}
	return count;
}

/* By name or number, with its group's behind a colon, which is left to the system. */
static void print_user(FILE *f, const char *user)
{
	char name[64];

	snprintf(name, sizeof(name), "%.*s", (int)min_u64(strcspn(user, ":"), 63), user);
	if (!*name || !strcmp(name, "root") || !strcmp(name, "0"))
		return;
	if (strspn(name, "0123456789") == strlen(name))
		fprintf(f, "set -- setpriv --reuid=%s --regid=%s --clear-groups \"$@\"\n", name,
			name);
	else {
		fputs("set -- su -s /bin/sh ", f);
		print_word(f, name);
		fputs(" -c 'exec \"$0\" \"$@\"' \"$@\"\n", f);
	}
}

/* A script, which ends as what it runs does: image-spec, config.md. */
static int write_run(int folder, const json_t *config, struct err *err)
{
	const json_t *c = json_object_get(config, "config");
	const char *where = text_of(c, "WorkingDir");
	int fd = openat(folder, OCI_RUN, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -errno, OCI_RUN ": %s", strerror(errno));
	}
	fprintf(f, "#!/bin/sh\n# What the image runs, of its configuration.\n");
	print_environment(f, json_object_get(c, "Env"));
	fputs("cd ", f);
	print_word(f, *where ? where : "/");
	fputs(" || exit\nset --", f);
	unsigned words = print_words(f, json_object_get(c, "Entrypoint")) +
			 print_words(f, json_object_get(c, "Cmd"));

	fprintf(f, words ? "\n" : " /bin/sh\n");
	print_user(f, text_of(c, "User"));
	fputs("exec \"$@\"\n", f);
	bool bad = ferror(f);

	return fclose(f) || bad ? err_set(err, -EIO, OCI_RUN ": %s", strerror(errno)) : 0;
}

static int write_program(int folder, struct err *err)
{
	AUTO_FD fd = openat(folder, OCI_PROGRAM, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	return fd >= 0 && write(fd, guest_start, sizeof(guest_start)) ==
				       (ssize_t)sizeof(guest_start)
		       ? 0
		       : err_set(err, -EIO, OCI_PROGRAM ": %s", strerror(errno));
}

static int begin(struct oci *o, const json_t *index, const struct images_image *at, struct err *err)
{
	const json_t *descriptor = choose(o, index, err);
	json_t *config = descriptor ? read_config(o, descriptor, err) : NULL;
	const char *arch = text_of(config, "architecture");
	int rc = config ? 0 : err->code;

	if (!rc && strcmp(arch, "amd64") != 0)
		rc = err_set(err, -EINVAL,
			"%.200s is for %.30s; this is x86-64 (amd64): skopeo's --override-arch "
			"chooses",
			o->layout, *arch ? arch : "no processor that it tells");
	if (!rc)
		rc = write_run(at->folder, config, err);
	if (!rc)
		rc = write_program(at->folder, err);
	json_decref(config);
	return rc;
}

int image_oci_begin(struct oci *o, const char *from, const struct images_image *at, struct err *err)
{
	bool there = begins(from, "oci:") || is_layout(from);
	char path[sizeof(o->layout) + 16];

	*o = (struct oci){ "", "" };
	if (there ? split(o, begins(from, "oci:") ? from + 4 : from, err) : fetch(o, from, at, err))
		return err->code;
	snprintf(path, sizeof(path), "%s/index.json", o->layout);
	json_t *index = read_json(path, err);
	int rc = index ? begin(o, index, at, err) : err->code;

	json_decref(index);
	return rc;
}
