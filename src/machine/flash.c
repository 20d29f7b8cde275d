/*
 * What firmware keeps between boots: the contents of its flash memory. They begin as the template
 * that comes with the firmware, and end with the machine, unless there is a file for them: then
 * that is where they begin, and every write to the flash is one to the file before the guest goes
 * on. The file is made from the template when there is none; a machine has it to itself.
 */
#include "device/firmware/flash.h"
#include "base/log.h"
#include "base/scope.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int write_all(int fd, const u8 *data, u64 len, u64 at)
{
	while (len) {
		struct iovec piece = { (void *)data, len };
		ssize_t n = pwritev(fd, &piece, 1, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		data += n;
		len -= (u64)n;
		at += (u64)n;
	}
	return 0;
}

static void store(void *machine, u64 offset, u64 len)
{
	struct machine *m = machine;
	int rc = 0;

	if (m->flash_fd >= 0)
		rc = write_all(m->flash_fd, m->flash->host + offset, len, offset);
	if (rc && !m->flash_lost)
		log_warn("flash", "%s: %s: what the firmware keeps is not in the file",
			m->config.flash_file, strerror(-rc));
	m->flash_lost |= rc;
}

static void show(void *machine, bool shown)
{
	struct machine *m = machine;

	m->flash_shown = shown;
	if (!m->config.engine->fixed_memory)
		run_ask_memory(m);
}

u64 flash_base(const struct machine *m) { return 4 * GiB - m->firmware.size - m->flash->size; }

struct device_flash flash_memory(const struct machine *m)
{
	if (!m->flash)
		return (struct device_flash){ 0 };
	return (struct device_flash){ m->flash->host, m->flash->size, store, show };
}

static int read_file(struct machine *m, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(m->flash_fd, &st) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (!st.st_size) {
		int rc = write_all(m->flash_fd, m->flash->host, m->flash->size, 0);

		return rc ? err_set(err, rc, "%s: %s", path, strerror(-rc)) : 0;
	}
	if (!S_ISREG(st.st_mode) || (u64)st.st_size != m->flash->size)
		return err_set(err, -EINVAL,
			"%s: must be a file of %llu bytes, which another run has made", path,
			(unsigned long long)m->flash->size);
	if (pread(m->flash_fd, m->flash->host, m->flash->size, 0) != (ssize_t)m->flash->size)
		return err_set(err, -EIO, "%s: cannot be read", path);
	return 0;
}

static int open_file(struct machine *m, const char *path, struct err *err)
{
	m->flash_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (m->flash_fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (flock(m->flash_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "%s: another machine uses it", path);
	return read_file(m, path, err);
}

int flash_layout(struct machine *m, struct err *err)
{
	const struct boot_image *template = &m->flash_template;

	if (!template->size)
		return 0;
	if (template->size % FLASH_BLOCK || template->size > FLASH_SIZE_MAX)
		return err_set(
			err, -EINVAL, "%s: is no contents of a flash memory", template->name);
	m->flash = memory_add_region(&m->memory, "flash", template->size, true, err);
	if (!m->flash)
		return err->code;
	m->flash->device = true;
	memcpy(m->flash->host, template->data, template->size);
	return m->config.flash_file ? open_file(m, m->config.flash_file, err) : 0;
}

void flash_close(struct machine *m)
{
	if (m->flash_fd >= 0)
		close(m->flash_fd);
	m->flash_fd = -1;
}
