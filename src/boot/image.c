/* Reads kernel and initrd files into host memory, bounded, with messages that say what is wrong. */
#include "base/bits.h"
#include "base/scope.h"
#include "boot/boot_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int read_all(int fd, u8 *to, u64 size)
{
	for (u64 done = 0; done < size;) {
		const struct iovec rest = { to + done, size - done };
		ssize_t n = preadv(fd, &rest, 1, (off_t)done); /* what the sandbox allows */

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		done += (u64)n;
	}
	return 0;
}

static int check_file(const struct stat *st, u64 limit, struct err *err)
{
	if (S_ISDIR(st->st_mode))
		return err_set(err, -EISDIR, "is a directory");
	if (!S_ISREG(st->st_mode))
		return err_set(err, -EINVAL, "is not a regular file");
	if (st->st_size == 0)
		return err_set(err, -ENOEXEC, "is empty");
	if ((u64)st->st_size > limit)
		return err_set(err, -EFBIG,
			"its %llu MiB are too large for a machine with %llu MiB of memory",
			(unsigned long long)((u64)st->st_size / MiB),
			(unsigned long long)(limit / MiB));
	return 0;
}

int boot_image_open(
	struct boot_image *image, const char *what, const char *path, u64 limit, struct err *err)
{
	struct stat st;

	/* Not blocking: opening a FIFO must fail below, not wait for a writer. */
	AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "%s %s: %s%s", what, path, strerror(errno),
			errno == EACCES ? ": it, or a folder above it, is not yours to read: ls -l "
					  "shows whose"
					: "");
	if (check_file(&st, limit, err) < 0)
		return err_wrap(err, "%s %s", what, path);

	*image = (struct boot_image){ .name = path, .size = (u64)st.st_size, .fd = steal_fd(&fd) };
	return 0;
}

int boot_image_read(
	struct boot_image *image, const char *what, const char *path, u64 limit, struct err *err)
{
	if (boot_image_open(image, what, path, limit, err))
		return err->code;
	if (boot_image_again(image, err)) {
		boot_image_free(image);
		return err_wrap(err, "%s", what);
	}
	return 0;
}

int boot_image_again(struct boot_image *image, struct err *err)
{
	if (!image->size || image->data)
		return 0;
	AUTO_FREE u8 *data = malloc(image->size);
	if (!data)
		return err_set(err, -ENOMEM, "%s: no memory for %llu MiB", image->name,
			(unsigned long long)(image->size / MiB));
	int r = read_all(image->fd, data, image->size);
	if (r < 0)
		return err_set(err, r, "%s: %s", image->name,
			r == -ENODATA ? "it has shrunk" : strerror(-r));
	image->data = steal_ptr(&data);
	return 0;
}

void boot_image_let_go(struct boot_image *image)
{
	if (image->fd < 0)
		return;
	free((void *)(uintptr_t)image->data);
	image->data = NULL;
}

int boot_image_unpacked(
	struct boot_image *out, const struct boot_image *kernel, u64 limit, struct err *err)
{
	u8 *data = NULL;
	u64 size = kernel->size;

	if (bzimage_probe(kernel)) {
		if (bzimage_unpack(kernel, limit, &data, &size, err) < 0)
			return err_wrap(err, "%s", kernel->name);
	} else {
		data = malloc(max_u64(size, 1));
		if (!data)
			return err_set(err, -ENOMEM, "%s: no memory", kernel->name);
		memcpy(data, kernel->data, size);
	}
	*out = (struct boot_image){ .name = kernel->name, .data = data, .size = size, .fd = -1 };
	return 0;
}

void boot_image_free(struct boot_image *image)
{
	free((void *)(uintptr_t)image->data);
	if (image->size && image->fd >= 0)
		close(image->fd);
	*image = (struct boot_image){ 0 };
}
