#include "os/codemem.h"
#include "base/bits.h"
#include "base/scope.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Linux 6.3: says that the file is meant to be executable, which vm.memfd_noexec=1 asks for. Older
 * kernels know neither the flag nor the restriction. */
#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

static int executable_memfd(void)
{
	int fd = memfd_create("strata-code", MFD_CLOEXEC | MFD_EXEC);

	return fd < 0 && errno == EINVAL ? memfd_create("strata-code", MFD_CLOEXEC) : fd;
}

int codemem_open(struct codemem *c, size_t size, void *at, struct err *err)
{
	*c = (struct codemem){ 0 };
	size = align_up(size, PAGE_SIZE);

	AUTO_FD fd = executable_memfd();
	if (fd < 0)
		return err_set(err, -errno, "code memory: memfd_create: %s", strerror(errno));
	if (ftruncate(fd, (off_t)size) < 0)
		return err_set(err, -errno, "code memory: %zu bytes: %s", size, strerror(errno));

	void *rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (rw == MAP_FAILED)
		return err_set(err, -errno, "code memory: map for writing: %s", strerror(errno));
	void *rx = mmap(at, size, PROT_READ | PROT_EXEC, MAP_SHARED | (at ? MAP_FIXED : 0), fd, 0);
	if (rx == MAP_FAILED) {
		int code = -errno;

		munmap(rw, size);
		return err_set(err, code,
			"code memory: map for running: %s (does a security policy of this host "
			"forbid running from memfd?)",
			strerror(-code));
	}
	*c = (struct codemem){ .rw = rw, .rx = rx, .size = size };
	return 0;
}

void codemem_close(struct codemem *c)
{
	if (c->rw)
		munmap(c->rw, c->size);
	if (c->rx)
		munmap((void *)c->rx, c->size);
	*c = (struct codemem){ 0 };
}

void codemem_forget(struct codemem *c, size_t from, size_t end)
{
	from = align_up(from, PAGE_SIZE);
	end &= ~PAGE_MASK;
	check(end <= c->size);
	if (from < end)
		(void)!madvise(c->rw + from, end - from, MADV_REMOVE);
}
