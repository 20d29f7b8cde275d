/* Reads of 4 KiB from /dev/zero: a system call that writes to the process's memory. A unit is one
 * read. */
#include <fcntl.h>
#include <unistd.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	static char buf[4096];
	const int fd = open("/dev/zero", O_RDONLY);

	if (fd < 0)
		fail("/dev/zero");
	const double started = now();

	for (long i = 0; i < n; i++)
		if (read(fd, buf, sizeof(buf)) != sizeof(buf))
			fail("read");
	report(n, started);
	return 0;
}
