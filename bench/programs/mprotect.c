/* A page is made read-only and writable again, and written: two system calls that invalidate a
 * translation, as garbage collectors make. A unit is such a pair. */
#include <sys/mman.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	const int writable = PROT_READ | PROT_WRITE;
	volatile char *page = mmap(NULL, 4096, writable, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		fail("mmap");
	page[0] = 1;
	const double started = now();

	for (long i = 0; i < n; i++) {
		if (mprotect((void *)page, 4096, PROT_READ) ||
			mprotect((void *)page, 4096, writable))
			fail("mprotect");
		page[0] = (char)i;
	}
	report(n, started);
	return 0;
}
