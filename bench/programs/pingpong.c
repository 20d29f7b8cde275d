/* Two processes send a byte forth and back through two pipes: system calls and context switches. A
 * unit is one round trip. */
#include <unistd.h>

#include "bench.h"

static void echo(int in, int out)
{
	char byte;

	while (read(in, &byte, 1) == 1)
		if (write(out, &byte, 1) != 1)
			_exit(1);
	_exit(0);
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	int there[2], back[2];
	char byte = 0;

	if (pipe(there) || pipe(back))
		fail("pipe");
	const pid_t child = fork();

	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(there[1]);
		echo(there[0], back[1]);
	}
	const double started = now();

	for (long i = 0; i < n; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			fail("pipe");
	report(n, started);
	return 0;
}
