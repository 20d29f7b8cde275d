#include "os/pages.h"
#include "base/bits.h"
#include <string.h>
#include <sys/mman.h>

void *pages_new(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

void pages_free(void *at, size_t size)
{
	if (at)
		munmap(at, size);
}

void pages_huge(void *at, size_t size)
{
	u64 from = align_up((u64)(uintptr_t)at, PAGE_SIZE);
	u64 to = ((u64)(uintptr_t)at + size) & ~PAGE_MASK;

	if (from < to)
		(void)!madvise((void *)(uintptr_t)from, to - from, MADV_HUGEPAGE);
}

void pages_forget(void *at, size_t size)
{
	u8 *start = at, *end = start + size;
	u8 *from = (u8 *)(uintptr_t)align_up((u64)(uintptr_t)start, PAGE_SIZE);
	u8 *to = (u8 *)(uintptr_t)((u64)(uintptr_t)end & ~PAGE_MASK);

	if (from >= to || madvise(from, (size_t)(to - from), MADV_DONTNEED)) {
		memset(start, 0, size);
		return;
	}
	memset(start, 0, (size_t)(from - start));
	memset(to, 0, (size_t)(end - to));
}
