/*
 * strata restore: a machine goes on from a file. Without a name, or with its own, it is the machine
 * itself, in its folder and with its disks, which must be what they were. With another name it is
 * another machine, as often as one likes: a folder of its own, disks that stand on the saved ones
 * (frozen.h), another port for ssh, another MAC address for when its driver begins anew.
 *
 * All of the file is read and checked first. Nothing is changed before, and a new machine that does
 * not come to run is gone again.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/clone.h"
#include "cli/disk_option.h"
#include "cli/frozen.h"
#include "cli/image.h"
#include "cli/life.h"
#include "cli/machines.h"
#include "cli/progress.h"
#include "machine/engines.h"
#include "saved/saved.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* What its programs hardly notice. */
#define MOMENT_NS (60 * 1000000000ull)

enum { CLOCK_AUTO, CLOCK_HOST, CLOCK_SAVED };

struct restore_values {
	const char *file, *name, *engine;
	unsigned clock;
};

struct restore {
	const struct restore_values *v;
	struct saved *saved;
	char from[STORE_NAME_MAX + 1]; /* the machine that was saved */
	const char *to;
	struct store_config config;
	/* Its disks, in the machine's order, where they were */
	struct machine_disk_config disks[MACHINE_DISKS_MAX];
	unsigned disk_count;
	char folder[FROZEN_PATH_MAX]; /* of the machine that was saved, with a slash at its end */
	int alone;		      /* held while names and ports are chosen */
	char frozen[FROZEN_PATH_MAX]; /* what CLONE_DISK has become; or empty */
};

/* ---- the file ---- */

static int read_name(struct restore *r, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *name = saved_part(r->saved, LIFE_NAME, &len, err);

	if (!name)
		return err->code;
	if (strlen((char *)name) != len || store_check_name((char *)name, err))
		return err_set(err, -EINVAL, "the saved state has no good name");
	memcpy(r->from, name, len + 1);
	r->to = r->v->name ? r->v->name : r->from;
	return 0;
}

static int read_config(struct restore *r, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *text = saved_part(r->saved, LIFE_CONFIG, &len, err);

	if (!text)
		return err->code;
	return store_config_parse(&r->config, (char *)text, len, err)
		       ? err_wrap(err, "the saved state's configuration")
		       : 0;
}

static int read_file(struct restore *r, int fd, struct err *err)
{
	struct progress bar;

	if (saved_open(&r->saved, fd, err))
		return err->code;
	progress_begin(&bar, "reading");
	int rc = saved_check(r->saved, 0, progress_show, &bar, err);

	progress_end(&bar);
	return rc || read_name(r, err) || read_config(r, err) ? err->code : 0;
}

/* ---- the configuration ---- */

/* Another engine's switches would ask for that engine. */
static int set_engine(struct restore *r, struct err *err)
{
	if (!r->v->engine)
		return 0;
	store_config_drop(&r->config, "translate");
	store_config_drop(&r->config, "kvm");
	return store_config_set(&r->config, "engine", r->v->engine, err);
}

static int find_disks(struct restore *r, struct err *err)
{
	struct run_values v;

	if (life_values(&r->config, &v, err))
		return err->code;
	r->disk_count = v.disks.count;
	return disk_option_parse(&v.disks, r->disks, err) ||
			       disk_option_cdroms(&v.cdroms, r->disks, &r->disk_count, err)
		       ? err->code
		       : 0;
}

/* The file's name if it is in the machine's own folder; or NULL. */
static const char *own_file(const struct restore *r, const char *path)
{
	size_t len = strlen(r->folder);

	return !strncmp(path, r->folder, len) && !strchr(path + len, '/') ? path + len : NULL;
}

static bool is_own_disk(const struct restore *r, const char *path)
{
	const char *file = own_file(r, path);

	return file && !strcmp(file, CLONE_DISK);
}

/* With what its own disk has become. */
static int check_fits(struct restore *r, struct err *err)
{
	const char *paths[MACHINE_DISKS_MAX];

	for (unsigned i = 0; i < r->disk_count; i++) {
		paths[i] = r->disks[i].path;
		if (r->frozen[0] && is_own_disk(r, paths[i]))
			paths[i] = r->frozen;
	}
	return machine_saved_fits(r->saved, paths, r->disk_count, err);
}

/* ---- the machine itself ---- */

static int check_itself(struct restore *r, struct store_machine *m, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *born = saved_part(r->saved, LIFE_BORN, &len, err);

	if (!born)
		return err->code;
	if (len != sizeof(u64) || get_le64(born) != store_born(m))
		return err_set(err, -ESTALE,
			"machine %s is another one than that which was saved; --name NAME "
			"restores it beside this one",
			m->name);
	if (check_fits(r, err))
		return err->code;
	if (r->frozen[0] && !frozen_untouched(m, saved_id(r->saved)))
		return err_set(err, -ESTALE,
			"machine %s has run on since it was saved; --name NAME restores it as "
			"another one",
			m->name);
	return 0;
}

static u64 away_max(const struct restore_values *v)
{
	return v->clock == CLOCK_HOST ? UINT64_MAX : v->clock == CLOCK_SAVED ? 0 : MOMENT_NS;
}

static int restore_itself(struct restore *r, struct store_machine *m, struct err *err)
{
	const struct life_origin o = {
		.saved = r->saved, .config = &r->config, .away_max_ns = away_max(r->v)
	};

	if (store_lock(m, err)) {
		if (err->code == -EBUSY)
			err_set(err, -EBUSY,
				"%s runs; --name NAME restores the saved state as another machine",
				m->name);
		return machines_failed("restore", err);
	}
	if (check_itself(r, m, err) || set_engine(r, err))
		return machines_failed("restore", err);
	return life_restore(&o, m);
}

/* ---- another one ---- */

/* That nobody else has, as far as chance can see to that: locally administered, as the usual one.
 */
static int new_mac(char text[18], struct err *err)
{
	u8 b[3];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return err_set(err, -errno, "a MAC address: %s", strerror(errno));
	snprintf(text, 18, "52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
	return 0;
}

static bool is_ssh_forward(const char *item)
{
	size_t len = strlen(item);

	return !strncmp(item, "forward=tcp:", 12) && len > 15 && !strcmp(item + len - 3, ":22");
}

/* Its own address, its own port for ssh; what others have open is not opened again. */
static int set_net(struct restore *r, struct err *err)
{
	const char *old = store_config_get(&r->config, "net");
	AUTO_FREE char *copy = old ? strdup(old) : NULL;
	char text[2048] = "", mac[18], *rest = copy, *item;
	u16 port = clone_port();

	if (!old || !strcmp(r->to, r->from))
		return 0;
	if (!copy || strlen(old) > sizeof(text) / 2 || new_mac(mac, err))
		return err->code ? err->code : err_set(err, -ENOMEM, "--net: too long");
	while ((item = strsep(&rest, ","))) {
		size_t used = strlen(text);

		if (!strncmp(item, "mac=", 4) || !strncmp(item, "capture=", 8))
			continue;
		if (is_ssh_forward(item) && port)
			snprintf(text + used, sizeof(text) - used, ",forward=tcp:127.0.0.1:%u:%u",
				port, CLONE_SSH);
		else
			snprintf(text + used, sizeof(text) - used, "%s%s", used ? "," : "", item);
	}
	if (strcmp(text, "none"))
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ",mac=%s", mac);
	return store_config_set(&r->config, "net", text, err);
}

/* Options of disks in the one's folder become the other's. */
static int move_disks(struct restore *r, struct err *err)
{
	char folder[FROZEN_PATH_MAX];

	if (store_path(r->to, folder, sizeof(folder), err))
		return err->code;
	AUTO_FREE char *from = clone_path_text(r->folder), *to = clone_path_text(folder);

	for (unsigned i = 0; from && to && i < r->config.count; i++) {
		struct store_item *item = &r->config.items[i];
		char *text;

		if (strcmp(item->name, "disk") || strncmp(item->value, from, strlen(from)))
			continue;
		if (asprintf(&text, "%s/%s", to, item->value + strlen(from)) < 0)
			return err_set(err, -ENOMEM, "no memory");
		free(item->value);
		item->value = text;
	}
	return from && to ? 0 : err_set(err, -ENOMEM, "no memory");
}

/* What cannot be two machines'. */
static int check_shareable(const struct restore *r, struct err *err)
{
	if (!strcmp(r->to, r->from))
		return 0;
	for (unsigned i = 0; i < r->disk_count; i++) {
		const struct machine_disk_config *d = &r->disks[i];

		if (!d->options.readonly && !d->cdrom && !is_own_disk(r, d->path))
			return err_set(err, -EPERM,
				"disk %s is not in the machine's own folder, and two machines "
				"cannot both write to it: leave --name out",
				d->path);
	}
	return 0;
}

/* Its disk becomes an image, unless it is one already. */
static int freeze(struct restore *r, struct err *err)
{
	struct store_machine m;
	bool own = false;

	for (unsigned i = 0; i < r->disk_count; i++)
		own = own || is_own_disk(r, r->disks[i].path);
	if (check_fits(r, err) || !own || r->frozen[0])
		return err->code;
	if (store_open(&m, r->from, err))
		return err->code;
	/* Looked at again, now that nobody can start it. */
	if (!store_lock(&m, err) && !check_fits(r, err))
		(void)!frozen_make(&m, saved_id(r->saved), r->frozen, err);
	store_close(&m);
	return err->code;
}

static int fill(void *ctx, int folder, const char *path, struct err *err)
{
	const struct restore *r = ctx;

	for (unsigned i = 0; i < r->disk_count; i++) {
		const char *file = own_file(r, r->disks[i].path);

		if (file && (!strcmp(file, CLONE_DISK)
					    ? clone_disk(folder, CLONE_DISK, r->frozen, err)
					    : image_copy_file(folder, file, r->disks[i].path, err)))
			return err->code;
	}
	return 0;
}

/* Before there is a monitor, which would hold it as long as it lives. */
static void made(void *ctx)
{
	struct restore *r = ctx;

	if (r->alone >= 0)
		close(r->alone);
	r->alone = -1;
}

static int restore_another(struct restore *r, struct err *err)
{
	const struct life_origin o = { .saved = r->saved,
		.config = &r->config,
		.away_max_ns = away_max(r->v),
		.name = r->to,
		.fill = fill,
		.made = made,
		.ctx = r };

	r->alone = store_alone(err);
	if (r->alone < 0 || check_shareable(r, err) || freeze(r, err) || set_engine(r, err) ||
		set_net(r, err) || move_disks(r, err)) {
		made(r);
		return machines_failed("restore", err);
	}
	return life_restore(&o, NULL);
}

/* ---- the verb ---- */

/* Which of the two. */
static int restore_as(struct restore *r, struct err *err)
{
	struct store_machine m;
	bool same = !strcmp(r->to, r->from);

	if (store_path(r->from, r->folder, sizeof(r->folder) - 1, err))
		return machines_failed("restore", err);
	strcat(r->folder, "/");
	if (!frozen_find(r->from, saved_id(r->saved), r->frozen))
		r->frozen[0] = '\0';
	int rc = store_open(&m, r->to, err);

	if (rc == -ENOENT) {
		*err = (struct err){ 0 };
		return find_disks(r, err) ? machines_failed("restore", err)
					  : restore_another(r, err);
	}
	if (rc)
		return machines_failed("restore", err);
	if (!same) {
		store_taken(r->to, err);
		rc = machines_failed("restore", err);
	} else {
		rc = find_disks(r, err) ? machines_failed("restore", err)
					: restore_itself(r, &m, err);
	}
	store_close(&m);
	return rc;
}

static int check_values(const struct restore_values *v, struct err *err)
{
	if (v->name && store_check_name(v->name, err))
		return err->code;
	if (v->engine && strcmp(v->engine, "auto") != 0 && !engines_named(v->engine))
		return err_set(err, -EINVAL,
			"--engine %.64s: no such engine; `strata host` lists them", v->engine);
	return 0;
}

static int restore(const void *values)
{
	const struct restore_values *v = values;
	struct restore r = { .v = v, .alone = -1 };
	struct err err = { 0 };

	AUTO_FD fd = open(v->file, O_RDONLY | O_CLOEXEC);
	int status;

	store_sweep();
	if (check_values(v, &err))
		return machines_failed("restore", &err);
	if (fd < 0) {
		err_set(&err, -errno, "%s: %s", v->file, strerror(errno));
		return machines_failed("restore", &err);
	}
	if (read_file(&r, fd, &err)) {
		err_wrap(&err, "%s", v->file);
		err.code = -EIO; /* no usage: CLI_FAILED */
		status = machines_failed("restore", &err);
	} else {
		status = restore_as(&r, &err);
	}
	disk_option_free(r.disks);
	store_config_free(&r.config);
	saved_close(r.saved);
	return status;
}

#define AT(member) offsetof(struct restore_values, member)

static const char *const clocks[] = { "auto", "host", "saved", NULL };

static const struct option_row restore_options[] = {
	{ "FILE", NULL, "what `strata save` has written", OPTION_OPERAND, AT(file),
		.required = true },
	{ "name", "NAME",
		"restore it as another machine of that name, with disks of its own; as often as "
		"you like (default: the machine itself goes on)",
		OPTION_TEXT, AT(name) },
	{ "engine", "NAME", "another engine than the one that it was started with", OPTION_TEXT,
		AT(engine) },
	{ "clock", "WHICH",
		"host: the guest's clocks move on by the time that it was away; saved: they go on "
		"where they were; auto (default): host, if that was at most a minute",
		OPTION_CHOICE, AT(clock), .choices = clocks },
	{ 0 },
};

const struct verb verbs_restore = {
	.name = "restore",
	.doc = "let a saved machine go on, in the background",
	.options = restore_options,
	.size = sizeof(struct restore_values),
	.run = restore,
};
