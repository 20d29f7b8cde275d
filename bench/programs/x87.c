/* x87 n: a recurrence in long double; each step multiplies, divides, adds, compares and reads
 * memory. */
#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	volatile long double limit = 1e6L;
	long double x = 0.5L, y = 1.25L, sum = 0;
	const double started = now();

	for (long i = 0; i < n; i++) {
		x = x * 1.0000001L + y / 3.0L;
		y = y * 0.9999999L;
		sum += x - y;
		if (x > limit)
			x = 0.5L;
	}
	KEEP(sum);
	report(n, started);
	return 0;
}
