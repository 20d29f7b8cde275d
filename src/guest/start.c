/*
 * /.strata/init: the first process of a machine that was made of an OCI image, which is made for a
 * container and brings no kernel. What a container's host does, it does: loads the drivers of the
 * machine's devices from /lib/modules, names the machine, sets up the network; then the image's
 * own /sbin/init takes its place. Where there is none, /.strata/run is what the image runs: when
 * that has ended, the machine is powered off.
 *
 * Where there is no modprobe, the kernel calls this program in its place ("modprobe -q -- NAME"),
 * so that file systems and protocols come when they are asked for.
 */
#include "guest/call.h"
#include "guest/modules.h"
#include "guest/network.h"
#include "guest/say.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#define INIT	   "/.strata/init"
#define RUN	   "/.strata/run"
#define PATH	   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define HOST_WORD  "strata.name="
#define HOST_MAX   64u
#define WORDS_MAX  64u
#define COMPRESSED 4 /* linux/module.h: MODULE_INIT_COMPRESSED_FILE */

/* Where devices are that drivers are looked for, in this order: the drivers of the first find those
 * of the next. */
static const char *const buses[] = {
	"/sys/bus/pci/devices/",
	"/sys/bus/platform/devices/",
	"/sys/bus/virtio/devices/",
	"/sys/bus/scsi/devices/",
};

/* ---- modules ---- */

struct modules {
	char folder[128]; /* with a slash at its end */
	struct text dep, aliases;
};

static struct text text_of(const char *text) { return (struct text){ text, strlen(text) }; }

static bool join(char *to, size_t size, const char *a, struct text b)
{
	size_t len = strlen(a);

	if (len + b.len >= size)
		return false;
	memcpy(to, a, len);
	memcpy(to + len, b.at, b.len);
	to[len + b.len] = '\0';
	return true;
}

/* Empty: it is not there. It stays mapped. */
static struct text map_file(const char *folder, const char *name)
{
	struct text none = { 0 };
	struct stat st;
	char path[256];
	long fd = join(path, sizeof(path), folder, text_of(name)) ? CALL(open, path, O_RDONLY) : -1;

	if (fd < 0 || CALL(fstat, fd, &st) < 0 || !st.st_size)
		return none;
	long at = CALL(mmap, 0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	CALL(close, fd);
	return at < 0 && at > -4096 ? none : (struct text){ (const char *)at, (size_t)st.st_size };
}

static struct modules find_modules(void)
{
	struct modules m = { .folder = "" };
	struct utsname u;
	char path[96];

	if (CALL(uname, &u) < 0 || !join(path, sizeof(path), "/lib/modules/", text_of(u.release)) ||
		!join(m.folder, sizeof(m.folder), path, text_of("/")))
		return m;
	m.dep = map_file(m.folder, "modules.dep");
	m.aliases = map_file(m.folder, "modules.alias");
	return m;
}

static bool is_packed(struct text file) { return file.len < 3 || file.at[file.len - 1] != 'o'; }

static long load_file(const struct modules *m, struct text file)
{
	char path[512];
	long fd = join(path, sizeof(path), m->folder, file) ? CALL(open, path, O_RDONLY) : -ENOENT;

	if (fd < 0)
		return fd;
	long rc = CALL(finit_module, fd, "", is_packed(file) ? COMPRESSED : 0);

	CALL(close, fd);
	return rc;
}

/* Each with what it needs; what is loaded stays so. -ENOENT: there is no such module. */
static long load(const struct modules *m, struct text name)
{
	struct text line, file;
	long rc = 0;

	if (!modules_find(m->dep, name, &line))
		return -ENOENT;
	while ((!rc || rc == -EEXIST) && modules_next(&line, &file))
		rc = load_file(m, file);
	return rc == -EEXIST ? 0 : rc;
}

/* All that have the alias: one of them is the driver. */
static void load_alias(const struct modules *m, struct text alias)
{
	struct text module, aliases = m->aliases;
	char room[24], name[64];

	while (modules_alias(&aliases, alias, &module)) {
		long rc = load(m, module);

		if (rc && rc != -ENOENT && rc != -ENODEV && join(name, sizeof(name), "", module))
			SAY("module ", name, " cannot be loaded: error ",
				say_number(room, (unsigned long)-rc));
	}
}

static void load_driver(const struct modules *m, const char *bus, const char *device)
{
	char folder[256], path[280], alias[512];
	long fd = join(folder, sizeof(folder), bus, text_of(device)) &&
				  join(path, sizeof(path), folder, text_of("/modalias"))
			  ? CALL(open, path, O_RDONLY)
			  : -1;
	long n = fd < 0 ? 0 : CALL(read, fd, alias, sizeof(alias));

	if (fd >= 0)
		CALL(close, fd);
	if (n > 1)
		load_alias(m, (struct text){ alias, (size_t)n - 1 }); /* without its '\n' */
}

/* getdents64(2) */
struct entry {
	u64 inode, next;
	u16 len;
	u8 type;
	char name[];
};

static void load_drivers(const struct modules *m)
{
	_Alignas(struct entry) char entries[4096];

	for (unsigned i = 0; i < ARRAY_LEN(buses); i++) {
		long fd = CALL(open, buses[i], O_RDONLY | O_DIRECTORY), n;

		while (fd >= 0 && (n = CALL(getdents64, fd, entries, sizeof(entries))) > 0)
			for (long at = 0; at < n;) {
				const struct entry *e = (const void *)(entries + at);

				load_driver(m, buses[i], e->name);
				at += e->len;
			}
		if (fd >= 0)
			CALL(close, fd);
	}
}

/* What the kernel asks for: a module, or an alias that some have. */
static int be_modprobe(const char *name)
{
	struct modules m = find_modules();
	struct text module, aliases = m.aliases;
	long rc = load(&m, text_of(name));

	while (rc == -ENOENT && modules_alias(&aliases, text_of(name), &module))
		rc = load(&m, module);
	return rc ? 1 : 0;
}

static void write_file(const char *path, const char *text)
{
	long fd = CALL(open, path, O_WRONLY);

	if (fd < 0)
		return;
	CALL(write, fd, text, strlen(text));
	CALL(close, fd);
}

/* ---- what programs expect ---- */

static bool is_there(const char *path) { return CALL(access, path, 0) == 0; }

/* An initrd may have done so. */
static bool is_mounted(const char *path, const char *above)
{
	struct stat a, b;

	return !CALL(stat, path, &a) && !CALL(stat, above, &b) && a.st_dev != b.st_dev;
}

static void mount_all(void)
{
	static const struct {
		const char *type, *at, *above, *options;
	} all[] = {
		{ "proc", "/proc", "/", "" },
		{ "sysfs", "/sys", "/", "" },
		{ "devtmpfs", "/dev", "/", "mode=755" },
		{ "devpts", "/dev/pts", "/dev", "gid=5,mode=620,ptmxmode=666" },
		{ "tmpfs", "/dev/shm", "/dev", "mode=1777" },
		{ "tmpfs", "/run", "/", "mode=755" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		if (is_mounted(all[i].at, all[i].above))
			continue;
		CALL(mkdir, all[i].at, 0755);
		CALL(mount, all[i].type, all[i].at, all[i].type, MS_NOSUID, all[i].options);
	}
}

/* The machine's name, of the kernel's command line. */
static void name_host(char host[HOST_MAX + 1])
{
	char line[4097] = "";
	long fd = CALL(open, "/proc/cmdline", O_RDONLY);
	long n = fd < 0 ? 0 : CALL(read, fd, line, sizeof(line) - 1);
	size_t word = sizeof(HOST_WORD) - 1, len = 0;

	host[0] = '\0';
	if (fd >= 0)
		CALL(close, fd);
	for (long i = 0; i + (long)word < n; i++) {
		if ((i && line[i - 1] != ' ') || memcmp(line + i, HOST_WORD, word) != 0)
			continue;
		const char *from = line + i + word;

		for (len = 0; len < HOST_MAX && from[len] && from[len] != ' ' && from[len] != '\n';
			len++)
			host[len] = from[len];
		host[len] = '\0';
	}
	if (len)
		CALL(sethostname, host, len);
}

/* ---- what the image runs ---- */

/* With a terminal of its own, so that Ctrl-C is for it. */
static void become_program(char *const *environment)
{
	char *const argv[] = { (char *)RUN, NULL };
	char room[24];
	long console = CALL(open, "/dev/console", O_RDWR);

	CALL(setsid);
	for (long fd = 0; console >= 0 && fd < 3; fd++)
		CALL(dup2, console, fd);
	if (console > 2)
		CALL(close, console);
	CALL(ioctl, 0, TIOCSCTTY, 0);
	long rc = CALL(execve, RUN, argv, environment);

	SAY("what the image runs cannot be begun: error ", say_number(room, (unsigned long)-rc));
	CALL(exit_group, 127);
}

/* Of the program; what has lost its parent is ours to wait for, too. */
static unsigned wait_for(long child)
{
	int status = 0;
	long who;

	do
		who = CALL(wait4, -1, &status, 0, 0);
	while (who != child && who != -ECHILD);
	return WIFSIGNALED(status) ? 128u + (unsigned)WTERMSIG(status)
				   : (unsigned)WEXITSTATUS(status);
}

static void power_off(void)
{
	CALL(sync);
	CALL(kill, -1, SIGKILL);
	while (CALL(wait4, -1, 0, 0, 0) > 0)
		;
	CALL(mount, 0, "/", 0, MS_REMOUNT | MS_RDONLY, 0);
	CALL(reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_POWER_OFF, 0);
	for (;;)
		CALL(pause);
}

static void run_program(char *const *environment)
{
	char *with_path[WORDS_MAX + 2] = { (char *)PATH };
	char room[24];

	for (unsigned i = 0; i < WORDS_MAX && environment[i]; i++)
		with_path[i + 1] = environment[i];
	long child = CALL(fork);

	if (!child)
		become_program(with_path);
	static const char said[] = "what the image runs has ended: exit status ";
	const char *status = say_number(room, child < 0 ? 127 : wait_for(child));

	say((const char *const[]){ said, status, "\n", NULL });
}

/* The stack is as the kernel has left it: the count of arguments, they, NULL, the environment. */
__attribute__((used, noreturn)) static void begin(long *stack)
{
	char **argv = (char **)(stack + 1), **environment = argv + stack[0] + 1;
	char host[HOST_MAX + 1], room[24];

	if (CALL(getpid) != 1)
		CALL(exit_group, stack[0] > 1 ? be_modprobe(argv[stack[0] - 1]) : 2);
	mount_all();
	name_host(host);
	struct modules m = find_modules();

	load_drivers(&m);
	if (m.dep.len && !is_there("/sbin/modprobe"))
		write_file("/proc/sys/kernel/modprobe", INIT);
	network_begin(host);
	if (is_there(RUN)) {
		run_program(environment);
	} else {
		long rc = CALL(execve, "/sbin/init", argv, environment);

		SAY("/sbin/init cannot be begun: error ", say_number(room, (unsigned long)-rc));
	}
	power_off();
	__builtin_unreachable();
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall "
	"begin\n");
