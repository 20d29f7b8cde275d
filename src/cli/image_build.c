/* strata image build, import: images by name, from Debian's packages or from what somebody has. */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/image.h"
#include "cli/image_oci.h"
#include "cli/system.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SIZE \
	(10 * GiB) /* of a disk, unless somebody says otherwise: what is not used takes nothing */
#define DIRECT "console=ttyS0 root=" SYSTEM_ROOT " rootwait rw"

/* What can be made of nothing. */
static const struct known {
	const char *name, *suite, *about, *packages;
} known[] = {
	{ "debian:12", "bookworm", "Debian 12 (bookworm), amd64",
		"systemd,systemd-sysv,systemd-resolved,libpam-systemd,dbus,udev,kmod,procps,login,"
		"linux-image-cloud-amd64,openssh-server,iproute2,iputils-ping,netbase,"
		"ca-certificates,"
		"sudo,less,nano" },
};

static const struct known *find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		if (!strcmp(known[i].name, name))
			return &known[i];
	return NULL;
}

bool image_known(const char *name) { return find(name) != NULL; }

int image_known_names(struct err *err)
{
	char names[200] = "";

	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s",
			i ? ", " : "", known[i].name);
	char text[sizeof(err->text)];

	snprintf(text, sizeof(text), "%s", err->text);
	return err_set(err, err->code, "%.300s; those that can be built: %s", text, names);
}

/* ---- facts ---- */

struct fact {
	const char *name, *value;
};

static int add_facts(
	struct store_config *facts, const struct fact *list, unsigned count, struct err *err)
{
	for (unsigned i = 0; i < count; i++)
		if (list[i].value && store_config_add(facts, list[i].name, list[i].value, 0, err))
			return err->code;
	return 0;
}

/* RFC 3339, of the moment. */
static const char *now(char text[32])
{
	time_t t = time(NULL);
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return text;
}

/* The last steps of each image: it says what it is, then it has its name. */
static int finish(struct images_image *i, const char *name, const struct fact *list, unsigned count,
	struct err *err)
{
	struct store_config facts = { 0 };
	int rc = add_facts(&facts, list, count, err);

	if (!rc)
		rc = images_write(i, &facts, err);
	if (!rc)
		rc = images_finish(i, name, err);
	store_config_free(&facts);
	return rc;
}

/* Before the work is done; it counts at its end. */
static int check_name(const char *name, struct err *err)
{
	struct images_image i;
	struct err why = { 0 };

	if (images_check_name(name, err))
		return err->code;
	if (images_open(&i, name, &why))
		return why.code == -ENOENT ? 0 : (*err = why, why.code);
	images_close(&i);
	return images_taken(name, err);
}

static int done(const char *verb, const char *name, const struct err *err)
{
	if (!err->code) {
		printf("%s\n", name);
		return CLI_OK;
	}
	fprintf(stderr, "strata: image %s: %s\n", verb, err->text);
	return err->code == -EINVAL ? CLI_USAGE : CLI_FAILED;
}

/* ---- build ---- */

struct build_values {
	const char *image, *packages, *name, *mirror;
	u64 size;
};

static int build_new(struct images_image *i, const struct known *k, const struct build_values *v,
	struct err *err)
{
	char packages[2048], at[32];
	const struct system_plan plan = {
		.kind = SYSTEM_DEBIAN,
		.name = "image build",
		.source = k->suite,
		.mirror = v->mirror,
		.packages = packages,
		.size = v->size,
	};

	if ((size_t)snprintf(packages, sizeof(packages), "%s%s%s", k->packages,
		    v->packages ? "," : "", v->packages ? v->packages : "") >= sizeof(packages))
		return err_set(err, -EINVAL, "--packages: a list of more than 1500 letters");
	int rc = system_make(i, &plan, err);

	if (!rc && faccessat(i->folder, IMAGES_KERNEL, F_OK, 0))
		rc = err_set(err, -ENOENT, "the packages brought no kernel");
	/* It boots without one, whatever the packages made. */
	unlinkat(i->folder, IMAGES_INITRD, 0);
	const struct fact facts[] = { { "about", k->about }, { "source", k->name },
		{ "packages", v->packages }, { "made", now(at) }, { "append", DIRECT },
		{ "bus", "nvme" }, { "seed", "nocloud" } };

	return rc ? rc : finish(i, v->name, facts, ARRAY_LEN(facts), err);
}

static int build_known(const struct known *k, const struct build_values *v, struct err *err)
{
	struct images_image i;

	if (check_name(v->name, err) || images_begin(&i, err))
		return err->code;
	int rc = build_new(&i, k, v, err);

	if (rc)
		images_abandon(&i);
	images_close(&i);
	return rc;
}

int image_build_known(const char *name, struct err *err)
{
	const struct build_values v = { .name = name, .size = SIZE };

	return build_known(find(name), &v, err);
}

static int build(const void *values)
{
	struct build_values v = *(const struct build_values *)values;
	const struct known *k = find(v.image);
	struct err err = { 0 };

	if (!v.name)
		v.name = v.image;
	v.size = align_down(v.size, MiB);
	if (!k) {
		err_set(&err, -EINVAL, "%.60s: nobody knows how", v.image);
		image_known_names(&err);
	} else {
		(void)!build_known(k, &v, &err);
	}
	return done("build", v.name, &err);
}

static void build_defaults(void *values) { ((struct build_values *)values)->size = SIZE; }

#define BUILD(field) offsetof(struct build_values, field)
static const struct option_row build_options[] = {
	{ "IMAGE", NULL, "what to build: debian:12", OPTION_OPERAND, BUILD(image),
		.required = true },
	{ "packages", "NAME[,NAME...]", "what else to install", OPTION_TEXT, BUILD(packages) },
	{ "size", "SIZE", "of the disk (default 10G); what is not used takes no room", OPTION_SIZE,
		BUILD(size), .min = 1 * GiB, .max = SYSTEM_SIZE_MAX },
	{ "name", "NAME", "call it so, instead of IMAGE", OPTION_TEXT, BUILD(name) },
	{ "mirror", "URL", "get Debian's packages there", OPTION_TEXT, BUILD(mirror) },
	{ 0 },
};

const struct verb image_build_verb = {
	.name = "image build",
	.doc = "make an image that machines can be made of, from a distribution's packages",
	.options = build_options,
	.size = sizeof(struct build_values),
	.defaults = build_defaults,
	.run = build,
};

/* ---- import ---- */

struct import_values {
	const char *from, *name, *kernel, *kernel_of, *initrd, *append;
	u64 size;
};

int image_copy_file(int to_folder, const char *to, const char *from, struct err *err)
{
	AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
	AUTO_FD out =
		in < 0 ? -1 : openat(to_folder, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n = -1;

	if (in >= 0 && out >= 0)
		while ((n = copy_file_range(in, NULL, out, NULL, 16 * MiB, 0)) > 0)
			;
	/* Some file systems cannot, or not to each other. */
	if (n < 0 && in >= 0 && out >= 0 && !ftruncate(out, 0) && lseek(in, 0, SEEK_SET) == 0 &&
		lseek(out, 0, SEEK_SET) == 0) {
		AUTO_FREE char *buf = malloc(MiB);

		while (buf && (n = read(in, buf, MiB)) > 0)
			if (write(out, buf, (size_t)n) != n)
				n = -1;
	}
	return n < 0 ? err_set(err, -errno, "%s: %s", from, strerror(errno)) : 0;
}

/* An exported image is a folder that says what it is; its files are taken as they are. */
static int import_exported(struct images_image *i, const struct import_values *v, struct err *err)
{
	static const char *const files[] = { IMAGES_DISK, IMAGES_KERNEL, IMAGES_INITRD,
		IMAGES_MODULES, IMAGES_FACTS };
	struct store_config facts = { 0 };

	for (unsigned f = 0; f < ARRAY_LEN(files); f++) {
		char path[1100];

		snprintf(path, sizeof(path), "%.1000s/%s", v->from, files[f]);
		if (access(path, F_OK) && f && f < ARRAY_LEN(files) - 1)
			continue;
		if (image_copy_file(i->folder, files[f], path, err))
			return err->code;
	}
	int rc = images_read(i, &facts, err);

	store_config_free(&facts);
	return rc ? rc : images_finish(i, v->name, err);
}

/* ---- a kernel that is not its own ---- */

/* -ENOENT: the other image has no such file. */
static int borrow(
	struct images_image *i, const struct images_image *other, const char *file, struct err *err)
{
	char path[sizeof(other->path) + 16];

	unlinkat(i->folder, file, 0);
	snprintf(path, sizeof(path), "%s/%s", other->path, file);
	return access(path, F_OK) ? -ENOENT : image_copy_file(i->folder, file, path, err);
}

/* Its modules come first: the system is made with them. */
static int begin_borrowing(
	struct images_image *i, struct images_image *other, const char *name, struct err *err)
{
	if (images_open(other, name, err) || images_lock(other, true, err))
		return err->code;
	if (faccessat(other->folder, IMAGES_KERNEL, F_OK, 0))
		return err_set(err, -ENOENT,
			"image %s has no kernel: a boot loader on its disk does", name);
	int rc = borrow(i, other, IMAGES_MODULES, err);

	if (rc != -ENOENT)
		return rc;
	fprintf(stderr,
		"strata: image import: image %s has no modules of its kernel to give, so machines "
		"have what that has built in; one that is built or imported anew may have them\n",
		name);
	return 0;
}

static int end_borrowing(struct images_image *i, const struct images_image *other, struct err *err)
{
	static const char *const files[] = { IMAGES_KERNEL, IMAGES_INITRD, IMAGES_MODULES };

	for (unsigned f = 0; f < ARRAY_LEN(files); f++) {
		int rc = borrow(i, other, files[f], err);

		if (rc && rc != -ENOENT)
			return rc;
	}
	return 0;
}

static int take_files(struct images_image *i, const struct import_values *v, struct err *err)
{
	unlinkat(i->folder, IMAGES_INITRD, 0);
	unlinkat(i->folder, IMAGES_MODULES, 0);
	if (image_copy_file(i->folder, IMAGES_KERNEL, v->kernel, err))
		return err->code;
	return v->initrd ? image_copy_file(i->folder, IMAGES_INITRD, v->initrd, err) : 0;
}

/* What is in an archive or a folder boots by a kernel, its own or one that is given. */
static int make_tree(struct images_image *i, const struct images_image *other,
	const struct import_values *v, enum system_kind kind, struct err *err)
{
	struct oci oci = { "", "" };
	struct system_plan plan = {
		.kind = kind, .name = "image import", .source = v->from, .size = v->size
	};

	if (kind == SYSTEM_OCI) {
		if (image_oci_begin(&oci, v->from, i, err))
			return err->code;
		plan.source = oci.layout;
		plan.tag = oci.tag;
	}
	if (system_make(i, &plan, err))
		return err->code;
	if (v->kernel_of && end_borrowing(i, other, err))
		return err->code;
	if (v->kernel && take_files(i, v, err))
		return err->code;
	return faccessat(i->folder, IMAGES_KERNEL, F_OK, 0)
		       ? err_set(err, -EINVAL,
				 "%s has no kernel in /boot (vmlinuz-*): --kernel FILE names one, "
				 "or --kernel-of debian:12 an image that has one",
				 v->from)
		       : 0;
}

static int import_tree(struct images_image *i, const struct import_values *v, enum system_kind kind,
	struct err *err)
{
	struct images_image other = { .folder = -1, .lock = -1 };
	int rc = v->kernel_of ? begin_borrowing(i, &other, v->kernel_of, err) : 0;
	char at[32];

	if (!rc)
		rc = make_tree(i, &other, v, kind, err);
	images_close(&other);
	if (rc)
		return rc;
	bool seeded = unlinkat(i->folder, OCI_RUNS, 0) != 0;
	/* An initrd brings drivers; without one it is the disk whose driver stock kernels have. */
	const struct fact facts[] = { { "source", v->from }, { "made", now(at) },
		{ "append", v->append		 ? v->append
			    : kind == SYSTEM_OCI ? DIRECT " init=" OCI_INIT
						 : DIRECT },
		{ "bus", "nvme" }, { "seed", seeded ? "nocloud" : NULL } };

	return finish(i, v->name, facts, ARRAY_LEN(facts), err);
}

static int import_disk(struct images_image *i, const struct import_values *v, struct err *err)
{
	char to[sizeof(i->path) + 16], at[32];
	const struct image_copy c = {
		.from = v->from, .to = { .path = to, .format = IMAGE_QCOW2 }, .what = "importing"
	};

	snprintf(to, sizeof(to), "%s/" IMAGES_DISK, i->path);
	if (image_copy(&c, err) ||
		(v->kernel && image_copy_file(i->folder, IMAGES_KERNEL, v->kernel, err)) ||
		(v->initrd && image_copy_file(i->folder, IMAGES_INITRD, v->initrd, err)))
		return err->code;
	const struct fact facts[] = { { "source", v->from }, { "made", now(at) },
		{ "append", v->append }, { "bus", "virtio" }, { "seed", "nocloud" } };

	return finish(i, v->name, facts, ARRAY_LEN(facts), err);
}

/* A tar archive, perhaps packed (POSIX, "ustar Interchange Format": its mark at 257). */
static bool is_archive(const char *path)
{
	static const struct {
		const char *bytes;
		unsigned at, len;
	} marks[] = { { "ustar", 257, 5 }, { "\x1f\x8b", 0, 2 },
		{ "\xfd"
		  "7zXZ",
			0, 5 },
		{ "\x28\xb5\x2f\xfd", 0, 4 }, { "BZh", 0, 3 } };
	char head[512] = { 0 };
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	bool found = false;

	if (fd < 0 || read(fd, head, sizeof(head)) < 0)
		return false;
	for (unsigned i = 0; i < ARRAY_LEN(marks); i++)
		found |= !memcmp(head + marks[i].at, marks[i].bytes, marks[i].len);
	return found;
}

static int import_new(struct images_image *i, const struct import_values *v, struct err *err)
{
	char facts[1100];
	struct stat st;

	if (image_oci_is(v->from))
		return import_tree(i, v, SYSTEM_OCI, err);
	if (v->kernel_of && stat(v->from, &st) == 0 && !S_ISDIR(st.st_mode) && !is_archive(v->from))
		return err_set(err, -EINVAL,
			"--kernel-of is for archives, folders and OCI images; --kernel FILE for "
			"disks");
	if (stat(v->from, &st))
		return err_set(err, -errno, "%s: %s", v->from, strerror(errno));
	snprintf(facts, sizeof(facts), "%.1000s/" IMAGES_FACTS, v->from);
	if (S_ISDIR(st.st_mode))
		return access(facts, F_OK) ? import_tree(i, v, SYSTEM_FOLDER, err)
					   : import_exported(i, v, err);
	return is_archive(v->from) ? import_tree(i, v, SYSTEM_TAR, err) : import_disk(i, v, err);
}

/* "/tmp/alpine.tar.gz" is called alpine. */
static void name_after(const char *path, char name[IMAGES_NAME_MAX + 1])
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	const char *slash = memrchr(path, '/', len);
	const char *from = slash ? slash + 1 : path;

	len -= (size_t)(from - path);
	const char *dot = memchr(from, '.', len);

	snprintf(name, IMAGES_NAME_MAX + 1, "%.*s",
		(int)min_u64(dot && dot > from ? (u64)(dot - from) : len, IMAGES_NAME_MAX), from);
}

static int import(const void *values)
{
	struct import_values v = *(const struct import_values *)values;
	char name[IMAGES_NAME_MAX + 1];
	struct images_image i;
	struct err err = { 0 };

	name_after(v.from, name);
	if (!v.name)
		v.name = name;
	v.size = align_down(v.size, MiB);
	if (v.initrd && !v.kernel)
		err_set(&err, -EINVAL, "--initrd goes with --kernel");
	else if (v.kernel && v.kernel_of)
		err_set(&err, -EINVAL, "--kernel and --kernel-of: one of them boots");
	else if (!check_name(v.name, &err) && !images_begin(&i, &err)) {
		if (import_new(&i, &v, &err))
			images_abandon(&i);
		images_close(&i);
	}
	return done("import", v.name, &err);
}

static void import_defaults(void *values) { ((struct import_values *)values)->size = SIZE; }

#define IMPORT(field) offsetof(struct import_values, field)
static const struct option_row import_options[] = {
	{ "FILE", NULL,
		"a disk image, a tar archive or folder of a whole system, what `image export` "
		"made, or an OCI image: oci:FOLDER[:TAG], oci-archive:FILE, docker://NAME",
		OPTION_OPERAND, IMPORT(from), .required = true },
	{ "name", "NAME", "call it so (default: after the file)", OPTION_TEXT, IMPORT(name) },
	{ "kernel", "FILE", "what boots it, instead of its own", OPTION_TEXT, IMPORT(kernel) },
	{ "initrd", "FILE", "and the initial RAM disk that goes with that", OPTION_TEXT,
		IMPORT(initrd) },
	{ "kernel-of", "IMAGE", "the kernel of another image, such as debian:12, and its modules",
		OPTION_TEXT, IMPORT(kernel_of) },
	{ "append", "TEXT", "kernel command line (default: console, root and, of OCI images, init)",
		OPTION_TEXT, IMPORT(append) },
	{ "size", "SIZE", "of the disk that an archive or folder becomes (default 10G)",
		OPTION_SIZE, IMPORT(size), .min = SYSTEM_SIZE_MIN, .max = SYSTEM_SIZE_MAX },
	{ 0 },
};

const struct verb image_import_verb = {
	.name = "image import",
	.doc = "make an image that machines can be made of, from a disk image, an archive or a "
	       "folder",
	.options = import_options,
	.size = sizeof(struct import_values),
	.defaults = import_defaults,
	.run = import,
};
