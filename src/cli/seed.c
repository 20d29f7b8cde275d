#include "cli/seed.h"
#include "base/scope.h"
#include "os/child.h"
#include "store/store.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOST_KEY  "host_key"
#define USER_DATA "user-data"
#define META_DATA "meta-data"
#define KEY_MAX	  4096u
#define PATH_MAX_ 1100u

struct text {
	char s[KEY_MAX];
};

/* ---- programs ---- */

static int call(const char *package, const char *const *argv, struct err *err)
{
	struct child_last last = { "" };
	int status = child_run(
		&(struct child){ .argv = argv, .line = child_keep_last, .ctx = &last }, err);

	if (status == -ENOENT)
		return child_missing(argv[0], package, err);
	if (status > 0)
		return err_set(err, -EIO, "%s: exit status %d: %s", argv[0], status, last.line);
	return status;
}

static int make_key(const char *path, const char *comment, struct err *err)
{
	return call("openssh-client",
		(const char *const[]){ "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment,
			"-f", path, NULL },
		err);
}

/* ---- files ---- */

static int read_text(const char *path, struct text *t, struct err *err)
{
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, t->s, sizeof(t->s) - 1);

	if (n < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	t->s[n] = '\0';
	return 0;
}

static FILE *create(int folder, const char *file, struct err *err)
{
	int fd = openat(folder, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f) {
		err_set(err, -errno, "%s: %s", file, strerror(errno));
		if (fd >= 0)
			close(fd);
	}
	return f;
}

static int finish(FILE *f, const char *file, struct err *err)
{
	bool bad = ferror(f);

	return fclose(f) || bad ? err_set(err, -EIO, "%s: %s", file, strerror(errno)) : 0;
}

/* ---- strata's own key ---- */

/* The public half, made before the private one has its name: who finds that finds both. */
static int own_key(struct text *public, struct err *err)
{
	char key[PATH_MAX_], public_path[PATH_MAX_ + 4], fresh[PATH_MAX_ + 4],
		fresh_public[PATH_MAX_ + 8];

	if (store_state_path(key, sizeof(key), SEED_KEY, err))
		return err->code;
	snprintf(public_path, sizeof(public_path), "%s.pub", key);
	snprintf(fresh, sizeof(fresh), "%s.new", key);
	snprintf(fresh_public, sizeof(fresh_public), "%s.pub", fresh);
	if (access(key, F_OK)) {
		unlink(fresh);
		if (make_key(fresh, "strata", err))
			return err->code;
		if (rename(fresh_public, public_path) || rename(fresh, key))
			return err_set(err, -errno, "%s: %s", key, strerror(errno));
	}
	return read_text(public_path, public, err);
}

/* ---- the two files ---- */

/* A host name has no dots and underscores (RFC 1123). */
static void host_name(const char *machine, char name[64])
{
	size_t i = 0;

	for (; machine[i] && i < 63; i++)
		name[i] = isalnum((unsigned char)machine[i]) ? machine[i] : '-';
	name[i] = '\0';
}

static int write_meta_data(int folder, const char *host, struct err *err)
{
	unsigned char id[8];
	FILE *f = create(folder, META_DATA, err);

	if (!f)
		return err->code;
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		memset(id, 0, sizeof(id));
	fprintf(f, "instance-id: i-");
	for (unsigned i = 0; i < sizeof(id); i++)
		fprintf(f, "%02x", id[i]);
	fprintf(f, "\nlocal-hostname: %s\n", host);
	return finish(f, META_DATA, err);
}

static void print_user(FILE *f, const char *user, const char *key)
{
	fprintf(f, "  - name: %s\n", user);
	if (strcmp(user, "root") != 0)
		fprintf(f, "    shell: /bin/bash\n    sudo: ALL=(ALL) NOPASSWD:ALL\n");
	fprintf(f, "    ssh_authorized_keys:\n      - %s", key);
}

/* As a block of YAML: each line moved in. */
static void print_block(FILE *f, const char *text)
{
	for (const char *end; (end = strchr(text, '\n')); text = end + 1)
		fprintf(f, "    %.*s\n", (int)(end - text), text);
}

static int write_user_data(int folder, const struct seed *s, const char *host, const char *login,
	const struct text *private, const struct text *public, struct err *err)
{
	FILE *f = create(folder, USER_DATA, err);

	if (!f)
		return err->code;
	fprintf(f, "#cloud-config\nhostname: %s\ndisable_root: false\nusers:\n", host);
	print_user(f, "root", login);
	if (s->user && strcmp(s->user, "root") != 0)
		print_user(f, s->user, login);
	fprintf(f, "ssh_keys:\n  ed25519_private: |\n");
	print_block(f, private->s);
	fprintf(f, "  ed25519_public: %s", public->s);
	return finish(f, USER_DATA, err);
}

static int write_known_hosts(int folder, const char *name, const char *key, struct err *err)
{
	FILE *f = create(folder, SEED_KNOWN_HOSTS, err);

	if (!f)
		return err->code;
	fprintf(f, "%s %s", name, key);
	return finish(f, SEED_KNOWN_HOSTS, err);
}

/* ---- the disk ---- */

static int make_disk(const char *path, struct err *err)
{
	char disk[PATH_MAX_], meta[PATH_MAX_], user[PATH_MAX_];

	snprintf(disk, sizeof(disk), "%s/" SEED_DISK, path);
	snprintf(meta, sizeof(meta), "%s/" META_DATA, path);
	snprintf(user, sizeof(user), "%s/" USER_DATA, path);
	return call("mtools",
		       (const char *const[]){ "mformat", "-C", "-f", "320", "-v", "cidata", "-i",
			       disk, "::", NULL },
		       err) || call("mtools",
				       (const char *const[]){
					       "mcopy", "-i", disk, meta, user, "::", NULL },
				       err)
		       ? err->code
		       : 0;
}

int seed_make(int folder, const char *path, const struct seed *s, struct err *err)
{
	static const char *const left[] = { HOST_KEY, HOST_KEY ".pub", USER_DATA, META_DATA };
	char key[PATH_MAX_], key_public[PATH_MAX_ + 4], host[64];
	struct text login, private, public;

	host_name(s->name, host);
	snprintf(key, sizeof(key), "%s/" HOST_KEY, path);
	snprintf(key_public, sizeof(key_public), "%s.pub", key);
	if (own_key(&login, err) || make_key(key, host, err) || read_text(key, &private, err) ||
		read_text(key_public, &public, err) || write_meta_data(folder, host, err) ||
		write_user_data(folder, s, host, login.s, &private, &public, err) ||
		write_known_hosts(folder, s->name, public.s, err) || make_disk(path, err))
		return err_wrap(err, "seed");
	for (unsigned i = 0; i < ARRAY_LEN(left); i++)
		unlinkat(folder, left[i], 0);
	/* As private as the folder, which it may be copied from. */
	return fchmodat(folder, SEED_DISK, 0600, 0)
		       ? err_set(err, -errno, SEED_DISK ": %s", strerror(errno))
		       : 0;
}
