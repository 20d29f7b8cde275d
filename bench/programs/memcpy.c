/* The C library's memcpy between two buffers of 4 MiB, 64 KiB at a time. A unit is 64 KiB. */
#include <string.h>

#include "bench.h"

enum { CHUNK = 64 << 10, CHUNKS = 64 };

static char from[CHUNKS][CHUNK], to[CHUNKS][CHUNK];

int main(int argc, char **argv)
{
	const long n = units(argc, argv);

	memset(from, 1, sizeof(from));
	memset(to, 2, sizeof(to));
	const double started = now();

	for (long i = 0; i < n; i++) {
		memcpy(to[i % CHUNKS], from[i % CHUNKS], CHUNK);
		KEEP(to);
	}
	report(n, started);
	return 0;
}
