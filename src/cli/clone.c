#include "cli/clone.h"
#include "base/bits.h"
#include "base/scope.h"
#include "block/format.h"
#include "cli/image.h"
#include "cli/image_oci.h"
#include "cli/net_option.h"
#include "cli/seed.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MEMORY	     (1 * GiB)
#define CPUS	     2u
#define PORT_FIRST   2222u
#define PORT_LAST    4221u
#define MACHINES_MAX 100000u

/* ---- the image ---- */

static int open_image(struct clone *c, const char *name, struct err *err)
{
	int rc = images_open(&c->image, name, err);

	if (rc == -ENOENT && image_known(name)) {
		fprintf(stderr,
			"strata: there is no image %s yet: it is made now, which takes a few "
			"minutes, "
			"and then kept\n",
			name);
		rc = image_build_known(name, err);
		if (rc && rc != -EEXIST)
			return err_wrap(err, "image %s", name);
		rc = images_open(&c->image, name, err);
	} else if (rc == -ENOENT) {
		image_known_names(err);
	}
	return rc ? rc : images_lock(&c->image, true, err);
}

/* A login name, as useradd(8) takes it; it goes into the guest's shell. */
static bool is_user(const char *name)
{
	size_t len = strlen(name);
	bool good = len && len <= 32 && (islower((unsigned char)name[0]) || name[0] == '_');

	for (size_t i = 0; i < len && good; i++)
		good = islower((unsigned char)name[i]) || isdigit((unsigned char)name[i]) ||
		       name[i] == '_' || name[i] == '-';
	return good;
}

static int check_options(const struct run_values *v, struct err *err)
{
	const char *other = v->kernel	  ? "kernel"
			    : v->initrd	  ? "initrd"
			    : v->firmware ? "firmware"
					  : NULL;

	if (other)
		return err_set(err, -EINVAL, "--%s goes with no image: image %s brings what boots",
			other, v->image);
	if (v->user && !is_user(v->user))
		return err_set(err, -EINVAL,
			"--user %.40s: a user's name is up to 32 small letters, digits, dashes and "
			"underscores, and begins with a letter",
			v->user);
	return 0;
}

/* ---- what nobody else may have ---- */

static bool is_taken(const char *name)
{
	char path[1100];
	struct err err;

	return !store_path(name, path, sizeof(path), &err) && !access(path, F_OK);
}

/* "debian-1": after the image, up to the first character that no machine's name has. */
static int choose_name(struct clone *c, const char *wanted, struct err *err)
{
	if (wanted) {
		snprintf(c->name, sizeof(c->name), "%s", wanted);
		return store_check_name(wanted, err);
	}
	for (unsigned i = 1; i < MACHINES_MAX; i++) {
		snprintf(c->name, sizeof(c->name), "%.*s-%u",
			(int)min_u64(strcspn(c->image.name, ":"), 40), c->image.name, i);
		if (!is_taken(c->name))
			return 0;
	}
	return err_set(err, -EEXIST, "%s exists: too many machines", c->name);
}

/* Marks the host's ports that a machine's network will listen at. */
static void mark_ports(const char *net, bool *taken)
{
	struct net_option o;
	struct err err;
	bool wanted;

	if (!net_option_parse(net, &o, &wanted, &err))
		for (unsigned i = 0; i < o.config.forward_count; i++) {
			u16 port = o.config.forwards[i].host_port;

			if (port >= PORT_FIRST && port <= PORT_LAST)
				taken[port - PORT_FIRST] = true;
		}
	net_option_free(&o);
}

static void mark_ports_of(const struct store_machine *m, void *taken)
{
	struct store_config config = { 0 };
	struct err err;

	if (!store_read_config(m, &config, &err) && store_config_get(&config, "net"))
		mark_ports(store_config_get(&config, "net"), taken);
	store_config_free(&config);
}

static bool is_free(u16 port)
{
	AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };

	return fd >= 0 && !bind(fd, (const struct sockaddr *)&at, sizeof(at));
}

u16 clone_port(void)
{
	bool taken[PORT_LAST - PORT_FIRST + 1] = { false };

	store_each(mark_ports_of, taken);
	for (unsigned port = PORT_FIRST; port <= PORT_LAST; port++)
		if (!taken[port - PORT_FIRST] && is_free((u16)port))
			return (u16)port;
	return 0;
}

/* ---- options ---- */

static int no_memory(struct err *err) { return err_set(err, -ENOMEM, "no memory"); }

char *clone_path_text(const char *path)
{
	char *text = malloc(2 * strlen(path) + 1), *to = text;

	for (; text && *path; path++) {
		*to++ = *path;
		if (*path == ',')
			*to++ = ',';
	}
	if (text)
		*to = '\0';
	return text;
}

static char *disk_text(const char *folder, const char *file, const char *options)
{
	AUTO_FREE char *path = clone_path_text(folder);
	char *text;

	return !path || asprintf(&text, "%s/%s%s", path, file, options) < 0 ? NULL : text;
}

static const char *fact(const struct clone *c, const char *name, const char *otherwise)
{
	const char *text = store_config_get(&c->facts, name);

	return text && *text ? text : otherwise;
}

static int add_disk(struct run_values *v, unsigned at, const char *text, struct err *err)
{
	struct option_list *l = &v->disks;

	if (l->count == OPTION_LIST_MAX)
		return err_set(err, -EINVAL, "--disk: more than %d of them, with the image's",
			OPTION_LIST_MAX);
	memmove(&l->items[at + 1], &l->items[at], (l->count - at) * sizeof(l->items[0]));
	l->items[at] = text;
	l->count++;
	return 0;
}

static int set_disks(struct clone *c, struct err *err)
{
	const char *bus = fact(c, "bus", "virtio");
	char folder[1100], options[80];

	if (store_path(c->name, folder, sizeof(folder), err))
		return err->code;
	snprintf(options, sizeof(options), ",format=qcow2,bus=%.20s", bus);
	c->disk = disk_text(folder, CLONE_DISK, options);
	c->seeded = !strcmp(fact(c, "seed", "none"), "nocloud");
	snprintf(options, sizeof(options), ",format=raw,readonly,bus=%.20s", bus);
	c->seed = c->seeded ? disk_text(folder, SEED_DISK, options) : NULL;
	if (!c->disk || (c->seeded && !c->seed))
		return no_memory(err);
	if (add_disk(&c->values, 0, c->disk, err))
		return err->code;
	return c->seeded ? add_disk(&c->values, c->values.disks.count, c->seed, err) : 0;
}

static char *beside(const struct clone *c, const char *file)
{
	char *path;

	if (faccessat(c->image.folder, file, F_OK, 0))
		return NULL;
	return asprintf(&path, "%s/%s", c->image.path, file) < 0 ? NULL : path;
}

/* What boots: a kernel of the image's, or the disk by firmware. */
static int set_boot(struct clone *c, struct err *err)
{
	struct run_values *v = &c->values;
	const char *own = fact(c, "append", "");

	c->kernel = beside(c, IMAGES_KERNEL);
	c->initrd = beside(c, IMAGES_INITRD);
	if (!c->kernel) {
		v->firmware = "seabios";
		return 0;
	}
	v->kernel = c->kernel;
	v->initrd = c->initrd;
	/* For the first process of an OCI image, which has no seed. */
	bool named = strstr(own, "init=" OCI_INIT) != NULL;

	if (asprintf(&c->append, "%s%s%s%s%s", own, named ? " strata.name=" : "",
		    named ? c->name : "", v->append && *own ? " " : "",
		    v->append ? v->append : "") < 0) {
		c->append = NULL;
		return no_memory(err);
	}
	v->append = *c->append ? c->append : NULL;
	return 0;
}

static int set_net(struct clone *c, struct err *err)
{
	const char *net = c->values.net ? c->values.net : "user";
	struct net_option o;
	bool wanted;
	u16 port;
	int rc = net_option_parse(net, &o, &wanted, err);
	bool user = !rc && wanted && o.config.kind == NET_USER && !net_option_ssh(&o);

	net_option_free(&o);
	if (rc || !user)
		return rc;
	port = clone_port();
	if (!port)
		return err_set(err, -EADDRINUSE,
			"no port from %u to %u of this host is free for ssh: --net "
			"user,forward=tcp:127.0.0.1:PORT:22 names another",
			PORT_FIRST, PORT_LAST);
	if (asprintf(&c->net, "%s,forward=tcp:127.0.0.1:%u:%u", net, port, CLONE_SSH) < 0) {
		c->net = NULL;
		return no_memory(err);
	}
	c->values.net = c->net;
	return 0;
}

static void set_sizes(struct run_values *v)
{
	cpu_set_t cpus;

	if (!v->memory)
		v->memory = MEMORY;
	if (!v->cpus)
		v->cpus = sched_getaffinity(0, sizeof(cpus), &cpus) || CPU_COUNT(&cpus) >= (int)CPUS
				  ? "2"
				  : NULL;
}

int clone_begin(struct clone *c, const struct run_values *v, struct err *err)
{
	*c = (struct clone){ .values = *v, .image = { .folder = -1, .lock = -1 }, .alone = -1 };
	if (check_options(v, err) || (v->name && store_check_name(v->name, err)))
		return err->code;
	/* Before an image is built for it. */
	if (v->name && is_taken(v->name))
		return store_taken(v->name, err);
	if (open_image(c, v->image, err) || images_read(&c->image, &c->facts, err))
		return err->code;
	c->alone = store_alone(err);
	if (c->alone < 0 || choose_name(c, v->name, err))
		return err->code;
	c->values.name = c->name;
	set_sizes(&c->values);
	if (set_disks(c, err) || set_boot(c, err) || set_net(c, err))
		return err->code;
	return 0;
}

/* ---- the folder's contents ---- */

int clone_disk_named(
	int folder, const char *file, const char *now, const char *backing, struct err *err)
{
	struct node *n;
	const struct block_options o = { .format = "qcow2", .readonly = true };

	if (strlen(backing) >= BLOCK_NAME_MAX)
		return err_set(err, -ENAMETOOLONG, "%.200s...: too long a path", backing);
	if (node_open(&n, now, &o, err))
		return err->code;
	const struct block_create create = {
		.size = n->size, .backing = backing, .backing_format = "qcow2"
	};

	if (node_close(n))
		return err_set(err, -EIO, "%s cannot be read", now);
	AUTO_FD fd = openat(folder, file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? err_set(err, -errno, "%s: %s", file, strerror(errno))
		      : formats_find("qcow2")->create(fd, &create, err);
}

int clone_disk(int folder, const char *file, const char *backing, struct err *err)
{
	return clone_disk_named(folder, file, backing, backing, err);
}

static int make_disk(const struct clone *c, int folder, struct err *err)
{
	char backing[sizeof(c->image.path) + 16];

	snprintf(backing, sizeof(backing), "%s/" IMAGES_DISK, c->image.path);
	return clone_disk(folder, CLONE_DISK, backing, err);
}

int clone_fill(void *clone, int folder, const char *path, struct err *err)
{
	const struct clone *c = clone;

	if (make_disk(c, folder, err))
		return err->code;
	return c->seeded ? seed_make(folder, path,
				   &(struct seed){ .name = c->name, .user = c->values.user }, err)
			 : 0;
}

void clone_made(struct clone *c)
{
	if (c->alone >= 0)
		close(c->alone);
	c->alone = -1;
	images_close(&c->image);
}

void clone_free(struct clone *c)
{
	clone_made(c);
	store_config_free(&c->facts);
	free(c->kernel);
	free(c->initrd);
	free(c->append);
	free(c->disk);
	free(c->seed);
	free(c->net);
}
