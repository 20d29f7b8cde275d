/* Indirect calls: a byte-code interpreter whose operations are functions called through a table,
 * with the program's order random: what virtual functions and interpreters do. A unit is a pass of
 * 4096 calls. */
#include <stdint.h>

#include "bench.h"

enum { LENGTH = 4096 };

typedef uint64_t operation(uint64_t);

static uint64_t add(uint64_t x) { return x + 7; }
static uint64_t sub(uint64_t x) { return x - 3; }
static uint64_t mul(uint64_t x) { return x * 5; }
static uint64_t xor (uint64_t x) { return x ^ 0x5555; } static uint64_t shl(uint64_t x)
{
	return x << 1;
}
static uint64_t shr(uint64_t x) { return x >> 3; }
static uint64_t not(uint64_t x) { return ~x; }
static uint64_t neg(uint64_t x) { return 0 - x; }

static operation *const table[] = { add, sub, mul, xor, shl, shr, not, neg };

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	static unsigned char program[LENGTH];
	uint32_t random = 1;
	uint64_t x = 1;

	for (int i = 0; i < LENGTH; i++) {
		random = random * 1664525 + 1013904223;
		program[i] = (unsigned char)(random >> 29);
	}

	const double started = now();

	for (long pass = 0; pass < n; pass++)
		for (int i = 0; i < LENGTH; i++)
			x = table[program[i]](x);
	KEEP(x);
	report(n, started);
	return 0;
}
