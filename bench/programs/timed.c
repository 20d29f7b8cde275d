/* timed UNITS COMMAND...: runs the command with its output thrown away, and prints the seconds it
 * took for each unit. */
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	int status = -1;
	const double started = now();
	const pid_t child = fork();

	if (child == 0) {
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		execvp(argv[2], argv + 2);
		perror(argv[2]);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		fail("child");
	if (status) {
		fprintf(stderr, "%s: wait status %#x\n", argv[2], (unsigned)status);
		return 1;
	}
	report(n, started);
	return 0;
}
