/* Page touch: the first store to each page of new memory, a page fault each. A unit is one page;
 * 1024 are mapped at a time. */
#include <sys/mman.h>

#include "bench.h"

enum { PAGE = 4096, PAGES = 1024 };

static void touch(long pages)
{
	const size_t size = (size_t)pages * PAGE;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		fail("mmap");
	madvise(memory, size, MADV_NOHUGEPAGE); /* one fault must not bring 512 pages; fails where
						   there are none */
	for (long i = 0; i < pages; i++)
		memory[i * PAGE] = 1;
	munmap(memory, size);
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	const double started = now();

	for (long left = n; left > 0; left -= PAGES)
		touch(left < PAGES ? left : PAGES);
	report(n, started);
	return 0;
}
