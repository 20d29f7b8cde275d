/* Float matrix multiplication with vectors of LANES floats: 4 is SSE2, 8 is AVX2 with fused
 * multiply-add (the build compiles this file once for each). A unit is one product of 64x64
 * matrices. */
#include <assert.h>

#include "bench.h"

enum { SIZE = 64 };

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), may_alias));

static_assert(SIZE % (4 * LANES) == 0, "a row is whole groups of four vectors");

static float a[SIZE][SIZE], b[SIZE][SIZE] __attribute__((aligned(32))),
	c[SIZE][SIZE] __attribute__((aligned(32)));

/* Four vectors of a row of c at a time, so that the additions of one need not wait for those of
 * another. */
static void row(const float *left, float *out)
{
	for (int j = 0; j < SIZE; j += 4 * LANES) {
		vec s0 = { 0 }, s1 = { 0 }, s2 = { 0 }, s3 = { 0 };
		vec *to = (vec *)&out[j];

		for (int k = 0; k < SIZE; k++) {
			const vec *right = (const vec *)&b[k][j];

			s0 += left[k] * right[0];
			s1 += left[k] * right[1];
			s2 += left[k] * right[2];
			s3 += left[k] * right[3];
		}
		to[0] = s0;
		to[1] = s1;
		to[2] = s2;
		to[3] = s3;
	}
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);

	if (LANES == 8 && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))) {
		fputs("the processor has no AVX2 and FMA\n", stderr);
		return 3;
	}
	for (int i = 0; i < SIZE; i++)
		for (int j = 0; j < SIZE; j++) {
			a[i][j] = (float)(i - j) / SIZE;
			b[i][j] = (float)(i + j) / SIZE;
		}

	const double started = now();

	for (long i = 0; i < n; i++) {
		for (int r = 0; r < SIZE; r++)
			row(a[r], c[r]);
		KEEP(c);
	}
	report(n, started);
	return 0;
}
