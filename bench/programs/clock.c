/* clock_gettime by the C library: the vDSO, or a system call where the kernel finds no clock that
 * it may show to processes. A unit is one call. */
#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	struct timespec t;
	const double started = now();

	for (long i = 0; i < n; i++)
		KEEP(clock_gettime(CLOCK_MONOTONIC, &t));
	report(n, started);
	return 0;
}
