#include "os/pages.h"
#include "base/bits.h"
#include <sys/mman.h>

void pages_huge(void *at, size_t size)
{
	u64 from = align_up((u64)(uintptr_t)at, PAGE_SIZE);
	u64 to = ((u64)(uintptr_t)at + size) & ~PAGE_MASK;

	if (from < to)
		(void)!madvise((void *)(uintptr_t)from, to - from, MADV_HUGEPAGE);
}
