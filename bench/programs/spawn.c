/* fork, exec of this program again, which ends at once, and wait. A unit is one such process. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static void spawn(char *program)
{
	const pid_t child = fork();
	int status = 0;

	if (child == 0) {
		execv(program, (char *[]){ program, "end", NULL });
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status)
		fail("child");
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "end"))
		return 0;

	const long n = units(argc, argv);
	const double started = now();

	for (long i = 0; i < n; i++)
		spawn("/bench/bin/spawn");
	report(n, started);
	return 0;
}
