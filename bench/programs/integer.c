/* Integer mix: shifts, multiplication, division, and a branch that cannot be predicted. A unit is
 * 1000 rounds. */
#include <stdint.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	uint64_t x = 0x9e3779b97f4a7c15u, sum = 0;
	const double started = now();

	for (long i = 0; i < n * 1000; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		sum += x * 0xd1342543de82ef95u >> 32;
		if (x & 1)
			sum ^= (uint32_t)x / ((uint32_t)i | 1);
		else
			sum = (sum << 5 | sum >> 59) - x;
	}
	KEEP(sum);
	report(n, started);
	return 0;
}
