/* The shortest system call. A unit is one. */
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	const double started = now();

	for (long i = 0; i < n; i++)
		KEEP(syscall(SYS_getppid));
	report(n, started);
	return 0;
}
