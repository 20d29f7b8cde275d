/*
 * main() for fuzz harnesses built without libFuzzer: `fuzz_x [SECONDS [SEED]]` tries random inputs,
 * `fuzz_x FILE...` tries those files. Input number n depends on the seed and n only; when a run
 * dies, the line "seed S, input N" says how to see it again: `fuzz_x 0 S N`.
 */
#include "base/types.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define INPUT_MAX 4096u

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u64 seed, current;

static void say_where(int sig)
{
	char line[80];
	int n = snprintf(line, sizeof(line), "\nfuzz: seed %llu, input %llu\n",
		(unsigned long long)seed, (unsigned long long)current);

	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(1);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* splitmix64, of public domain fame: any state is a good one. */
static u64 next(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Exactly sized, so that the address sanitizer sees the first byte too many. */
static void try_random(u64 n)
{
	u64 state = seed ^ (n + 1) * 0xda942042e4dd58b5;
	size_t size = next(&state) % INPUT_MAX;
	u8 *data = malloc(size + 1);

	current = n;
	if (!data)
		return;
	for (size_t i = 0; i < size; i++)
		data[i] = (u8)next(&state);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

static int try_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	u8 *data = malloc(1u << 20);
	size_t size;

	if (!f || !data) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, 1u << 20, f);
	fclose(f);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

static int try_files(int count, char **paths)
{
	int failed = 0;

	for (int i = 0; i < count; i++)
		failed |= try_file(paths[i]);
	return failed;
}

/* tests/README.md: how long, and whether the inputs are new ones every time. */
static bool long_run(void) { return getenv("STRATA_TEST_LONG"); }

static long default_seconds(void)
{
	const char *wish = getenv("STRATA_FUZZ_SECONDS");

	return wish ? strtol(wish, NULL, 10) : long_run() ? 60 : 5;
}

int main(int argc, char **argv)
{
	char *end = NULL;
	long seconds = argc > 1 ? strtol(argv[1], &end, 0) : default_seconds();
	time_t stop = time(NULL) + seconds;
	u64 n = 0;

	if (end && *end)
		return try_files(argc - 1, argv + 1);
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : long_run() ? (u64)time(NULL) : 1;
	signal(SIGABRT, say_where);
	signal(SIGSEGV, say_where);
	signal(SIGALRM, say_where); /* a hang is a finding too */
	printf("%s: seed %llu\n", argv[0], (unsigned long long)seed);
	fflush(stdout);
	if (argc > 3) {
		try_random(strtoull(argv[3], NULL, 0));
		return 0;
	}
	for (; time(NULL) < stop; n++) {
		alarm(20);
		try_random(n);
	}
	printf("%s: %llu inputs without a finding\n", argv[0], (unsigned long long)n);
	return 0;
}
