/*
 * What the process that has the files gives up: all capabilities but those over files, where it was
 * root's; everything outside of the folder, likewise; and the system calls that have no row here.
 * So no device is made (mknod), nothing executed, no socket made and no other process reached.
 */
#include "base/bits.h"
#include "folder/folder_priv.h"
#include "os/sandbox_filter.h"
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ALLOW	 SANDBOX_ALLOW
#define ALLOW_IF SANDBOX_ALLOW_IF

static const struct sandbox_rule rules[] = {
	/* requests */
	ALLOW(recvfrom, "a request"),
	ALLOW(sendto, "an answer"),

	/* files: below the folder, or those that are open */
	ALLOW(openat, "names that are looked up; files; folders"),
	ALLOW(close, "what is not needed any more"),
	ALLOW(dup, "flush: a close that says what became of writes"),
	ALLOW(newfstatat, "attributes"),
	ALLOW(fstat, "attributes, as some C libraries ask for them"),
	ALLOW(fstatfs, "statfs"),
	ALLOW(readlinkat, "readlink"),
	ALLOW(faccessat, "access"),
	ALLOW(getdents64, "readdir"),
	ALLOW(lseek, "readdir; data and holes"),
	ALLOW(pread64, "read"),
	ALLOW(pwrite64, "write"),
	ALLOW(ftruncate, "a size is set"),
	ALLOW(fallocate, "fallocate"),
	ALLOW(fsync, "fsync"),
	ALLOW(fdatasync, "fsync"),
	ALLOW(syncfs, "syncfs"),
	ALLOW(fchmodat, "a mode is set"),
	ALLOW(fchownat, "an owner is set"),
	ALLOW(utimensat, "times are set"),
	ALLOW(mkdirat, "mkdir"),
	ALLOW(symlinkat, "symlink"),
	ALLOW(linkat, "link"),
	ALLOW(unlinkat, "unlink, rmdir"),
	ALLOW(renameat2, "rename"),
	ALLOW(renameat, "the same, as some C libraries do it"),

	/* memory: never executable */
	ALLOW_IF(mmap, MATCH_CLEAR, 2, PROT_EXEC, "malloc"),
	ALLOW_IF(mprotect, MATCH_CLEAR, 2, PROT_EXEC, "malloc"),
	ALLOW(munmap, "malloc"),
	ALLOW(mremap, "realloc"),
	ALLOW(brk, "malloc"),
	ALLOW(madvise, "malloc"),
	ALLOW(getrandom, "a hash seed of malloc's"),

	/* the end */
	ALLOW(exit_group, "the process ends"),
	ALLOW(write, "a call without a row is named"),
	ALLOW(rt_sigaction, "the same"),
	ALLOW(rt_sigprocmask, "raise"),
	ALLOW(rt_sigreturn, "a handler's end"),
	ALLOW(getpid, "raise"),
	ALLOW(gettid, "raise"),
	ALLOW_IF(tgkill, MATCH_SELF, 0, 0, "raise"),
	ALLOW(restart_syscall, "the kernel's: a wait goes on after the process was stopped"),
};

int folder_fence(int folder, struct err *err)
{
	const u32 keep =
		BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER);

	if (fchdir(folder) || (chroot(".") && errno != EPERM))
		return err_set(err, -errno, "%s", strerror(errno));
	return sandbox_confine(rules, ARRAY_LEN(rules), keep, err);
}
