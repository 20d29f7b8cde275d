/* See mapped.h. */
#include "block/mapped.h"
#include "base/bits.h"
#include "block/io.h"
#include "os/chain.h"
#include <emmintrin.h>
#include <linux/magic.h>
#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#define LINE 64u

/* Where a thread that stores goes on when it cannot; NULL: it does not store. */
static __thread sigjmp_buf *volatile give_up;
static struct sigaction before;

static void on_bus_error(int sig, siginfo_t *info, void *context)
{
	if (give_up)
		siglongjmp(*give_up, 1);
	chain_signal(&before, sig, info, context);
}

static void install(void)
{
	/* Nodefer: the mask need not be put back. */
	struct sigaction sa = { .sa_sigaction = on_bus_error,
		.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	sigaction(SIGBUS, &sa, &before);
}

void mapped_open(struct mapped *m, int fd, u64 size)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct statfs fs;
	void *at;

	*m = (struct mapped){ 0 };
	if (fstatfs(fd, &fs) || fs.f_type != TMPFS_MAGIC)
		return;
	at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return;
	pthread_once(&once, install);
	*m = (struct mapped){ at, size };
}

void mapped_close(struct mapped *m)
{
	if (m->at)
		munmap(m->at, m->size);
	m->at = NULL;
}

/* Whole lines at a time, which the processor's write buffers put together (SDM 1 10.4.6.2). */
static void store(u8 *to, const u8 *from, size_t len)
{
	size_t head = min_u64(-(uintptr_t)to & (LINE - 1), len);

	memcpy(to, from, head);
	for (to += head, from += head, len -= head; len >= LINE;
		to += LINE, from += LINE, len -= LINE)
		for (unsigned i = 0; i < LINE; i += sizeof(__m128i))
			_mm_stream_si128((__m128i *)(void *)(to + i),
				_mm_loadu_si128((const __m128i *)(const void *)(from + i)));
	memcpy(to, from, len);
}

static void store_all(u8 *to, const struct iovec *iov, unsigned iovcnt)
{
	for (unsigned i = 0; i < iovcnt; i++) {
		store(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
	_mm_sfence();
}

bool mapped_write(const struct mapped *m, u64 offset, const struct iovec *iov, unsigned iovcnt)
{
	sigjmp_buf here;

	if (!m->at || !range_ok(offset, io_total(iov, iovcnt), m->size))
		return false;
	bool failed = sigsetjmp(here, 0);

	give_up = failed ? NULL : &here;
	if (!failed)
		store_all(m->at + offset, iov, iovcnt);
	give_up = NULL;
	return !failed;
}
