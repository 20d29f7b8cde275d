/*
 * switches [--seed N] [--trials N] [--routines N]
 *
 * The differential tests with each switch of the translator's table (cpu/translate/options.c), and
 * with all at once: single instructions and routines, each executed natively once and then in one
 * guest per switch. A new row is tested without a change here.
 */
#include "cpu/translate/translate.h"
#include "cpu/vcpu.h"
#include "routine.h"
#include <getopt.h>
#include <stdlib.h>

#define VARIANTS     4u /* states of one routine */
#define SWITCHES_MAX 32u
#define FAILURES_MAX 5u

static struct {
	const char *name;
	u32 options;
	struct guest *guest;
	u64 failures;
} switches[SWITCHES_MAX];
static unsigned count;

static bool add(const char *name, u32 options)
{
	if (count == SWITCHES_MAX) {
		fprintf(stderr, "more than %u switches: raise SWITCHES_MAX\n", SWITCHES_MAX);
		return false;
	}
	switches[count].name = name;
	switches[count].options = options;
	return (switches[count++].guest = guest_new(&translate_engine, options)) != NULL;
}

static bool add_all(void)
{
	u32 all = 0;

	for (const struct cpu_engine_option *o = translate_engine.options; o->name; o++) {
		all |= o->bit;
		if (!add(o->name, o->bit))
			return false;
	}
	return add("all of them", all);
}

/* The trials are filled in. */
static void run_batch(struct host *h, unsigned n)
{
	static struct outcome engine;
	const struct trial *t = host_trials(h);
	const struct outcome *native = host_run(h, n);

	for (unsigned i = 0; i < n; i++) {
		for (unsigned s = 0; s < count; s++) {
			guest_run(switches[s].guest, &t[i], &engine);
			if (outcome_equal(&t[i], &native[i], &engine) ||
				switches[s].failures++ >= FAILURES_MAX)
				continue;
			printf("FAILED with %s: trial 0x%llx\n", switches[s].name,
				(unsigned long long)t[i].seed);
			outcome_print_differences(&t[i], &native[i], &engine, "translate");
			printf("  case: ");
			case_write(&t[i], stdout);
			fflush(stdout);
		}
	}
}

static u64 failures(void)
{
	u64 sum = 0;

	for (unsigned s = 0; s < count; s++)
		sum += switches[s].failures;
	return sum;
}

/* Shadow memory lies where the window must be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "seed", 1, NULL, 's' }, { "trials", 1, NULL, 't' },
		{ "routines", 1, NULL, 'r' }, { 0 } };
	static const struct routine_wish any = { 0 };
	u64 trials = 20000, routines = 300;
	struct rng r = { 1 };
	struct tame tame = { 0 };
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's': r.s = strtoull(optarg, NULL, 0); break;
		case 't': trials = strtoull(optarg, NULL, 0); break;
		case 'r': routines = strtoull(optarg, NULL, 0); break;
		default: return 2;
		}
	}
	if (SANITIZED)
		return 77;
	host_stay_on_this_processor();
	struct generator g = { .long_mode = forms_new(64) };
	struct host *h = host_new();
	if (!h || !g.long_mode || !tame_open(&tame, g.long_mode, h) || !add_all())
		return 1;
	for (u64 i = 0; i < trials; i += HOST_BATCH) {
		for (unsigned k = 0; k < HOST_BATCH; k++) {
			generate(&g, rng_next(&r), &host_trials(h)[k]);
			fpu_clip(&host_trials(h)[k].in.fpu);
		}
		run_batch(h, HOST_BATCH);
	}
	for (u64 i = 0; i < routines; i += HOST_BATCH / VARIANTS) {
		u64 seed = 0;

		for (unsigned k = 0; k < HOST_BATCH; k++) {
			seed = k % VARIANTS ? seed : rng_next(&r);
			routine_generate(&tame, seed, k % VARIANTS, &any, &host_trials(h)[k]);
		}
		run_batch(h, HOST_BATCH);
	}
	for (unsigned s = 0; s < count; s++) {
		printf("%-12s %llu trials, %llu routines in %u states, %llu differences\n",
			switches[s].name, (unsigned long long)align_up(trials, HOST_BATCH),
			(unsigned long long)align_up(routines, HOST_BATCH / VARIANTS), VARIANTS,
			(unsigned long long)switches[s].failures);
		guest_free(switches[s].guest);
	}
	tame_close(&tame);
	forms_free(g.long_mode);
	host_free(h);
	return failures() ? 1 : 0;
}
