/* N-body: scalar double precision with square roots and divisions. A unit is one time step of 5
 * bodies. */
#include <math.h>

#include "bench.h"

enum { BODIES = 5 };

struct body {
	double at[3], speed[3], mass;
};

static struct body bodies[BODIES];

static void place(void)
{
	for (int i = 0; i < BODIES; i++) {
		const double r = 1.0 + i;

		bodies[i] = (struct body){
			.at = { r, r * 0.5, 0.1 * i },
			.speed = { -0.2 / r, 0.3 / r, 0.01 },
			.mass = i ? 0.001 * i : 1.0,
		};
	}
}

static void attract(struct body *a, struct body *b, double dt)
{
	double d[3], square = 0;

	for (int k = 0; k < 3; k++) {
		d[k] = a->at[k] - b->at[k];
		square += d[k] * d[k];
	}
	const double force = dt / (square * sqrt(square));

	for (int k = 0; k < 3; k++) {
		a->speed[k] -= d[k] * b->mass * force;
		b->speed[k] += d[k] * a->mass * force;
	}
}

static void step(double dt)
{
	for (int i = 0; i < BODIES; i++)
		for (int j = i + 1; j < BODIES; j++)
			attract(&bodies[i], &bodies[j], dt);
	for (int i = 0; i < BODIES; i++)
		for (int k = 0; k < 3; k++)
			bodies[i].at[k] += dt * bodies[i].speed[k];
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);

	place();
	const double started = now();

	for (long i = 0; i < n; i++)
		step(0.001);
	KEEP(bodies);
	report(n, started);
	return 0;
}
