/* Triad: a[i] = b[i] + s * c[i] over three arrays of 16 MiB: the bandwidth of memory. A unit is
 * 4096 elements. */
#include "bench.h"

enum { BLOCK = 4096, BLOCKS = 512 };

static double a[BLOCKS][BLOCK], b[BLOCKS][BLOCK], c[BLOCKS][BLOCK];

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	double s = 3;

	for (int block = 0; block < BLOCKS; block++)
		for (int i = 0; i < BLOCK; i++) {
			a[block][i] = 0; /* no page is touched first in the timed loop */
			b[block][i] = i;
			c[block][i] = block;
		}
	__asm__("" : "+x"(s));
	const double started = now();

	for (long unit = 0; unit < n; unit++) {
		const int block = (int)(unit % BLOCKS);

		for (int i = 0; i < BLOCK; i++)
			a[block][i] = b[block][i] + s * c[block][i];
		KEEP(a);
	}
	report(n, started);
	return 0;
}
