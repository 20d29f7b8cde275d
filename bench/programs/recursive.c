/* Recursive calls: Fibonacci numbers the slow way, two calls and two returns for each addition. A
 * unit is fib(20), which is 21891 calls. */
#include "bench.h"

static __attribute__((noinline)) long fib(long n)
{
	if (n < 2)
		return n;
	const long one = fib(n - 1);
	KEEP(one);
	const long two = fib(n - 2);
	KEEP(two); /* or else the compiler makes a loop of this call */
	return one + two;
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	const double started = now();

	for (long i = 0; i < n; i++)
		KEEP(fib(20));
	report(n, started);
	return 0;
}
