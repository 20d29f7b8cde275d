/* What the workload programs share: the clock, the amount of work, the answer.
 *
 * A program is called as `NAME UNITS`. It prepares, does UNITS units of work between now() and
 * report(), and prints the seconds that one unit took: that number alone goes to standard output.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Makes the compiler believe that all memory, and this value, is used: no work is optimized away.
 */
#define KEEP(value) __asm__ volatile("" : : "r"(value) : "memory")

static inline _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline long units(int argc, char **argv)
{
	const long n = argc > 1 ? atol(argv[1]) : 0;

	if (n < 1) {
		fprintf(stderr, "usage: %s UNITS\n", argv[0]);
		exit(2);
	}
	return n;
}

static inline void report(long n, double started)
{
	printf("%.6e\n", (now() - started) / (double)n);
}

#endif
