/* Code patched and called: a function's constant is overwritten, then the function is called and
 * must return the new one, as run-time compilers do. A unit is one store and one call. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	static const unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0xc3 }; /* mov eax, imm32; ret */
	unsigned char *page = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		fail("mmap");
	memcpy(page, code, sizeof(code));
	uint32_t (*function)(void) = (uint32_t(*)(void))page;
	const double started = now();

	for (long i = 0; i < n; i++) {
		const uint32_t constant = (uint32_t)i;

		memcpy(page + 1, &constant, sizeof(constant));
		KEEP(page);
		if (function() != constant) {
			fprintf(stderr, "call %ld ran old code\n", i);
			return 1;
		}
	}
	report(n, started);
	return 0;
}
