/*
 * routines [--seed N] [--instructions N] [--long-instructions N] [--routine SEED] [--no-shrink]
 * [--keep-going N] [CASES.txt ...]
 *
 * Whole programs four ways: on this host's processor, in the interpreter, in the translator, and on
 * a second processor in the same memory, which finds there what the first has translated;
 * afterwards everything must be equal, the bytes of the code included, and so must the numbers of
 * instructions, where they are counted. Replays the stored cases, then runs random routines
 * (routine.h) until the interpreter has counted `instructions`.
 *
 * Each routine runs with several states, one after the other in the same engines: what was
 * translated for one is there, joined and perhaps changed by itself, when the next begins.
 */
#include "cpu/interpret/interpret.h"
#include "cpu/translate/translate.h"
#include "routine.h"
#include <getopt.h>
#include <stdlib.h>
#include <time.h>

#define VARIANTS 4u
#define AGAIN	 3u /* times a failing one runs in a row, to have its code hot */

static const struct way {
	const char *name;
	const struct cpu_engine *engine;
	bool beside; /* a second processor of the way before */
} ways[] = {
	{ "interpret", &interpret_engine, false },
	{ "translate", &translate_engine, false },
	{ "translate, the second processor", &translate_engine, true },
};
#define WAYS ARRAY_LEN(ways)

struct run {
	u64 seed, instructions, routine;
	bool one, shrink;
	unsigned keep_going;
	struct tame tame;
	struct host *host;
	struct guest *guest[WAYS];
	u64 interpreted; /* instructions of what ran last */
	u64 executed, routines, cases, endless, failures;
	u64 by_vector[32];
};

static u64 seed_of(u64 seed, u64 i)
{
	struct rng r = { seed ^ i * 0xd1342543de82ef95ull };

	return rng_next(&r);
}

/* ---- one routine ---- */

/* Runs it one way, the first one first: true if everything is as it was natively, and there are as
 * many instructions as the interpreter has executed, if they are counted. */
static bool agrees(struct run *r, unsigned way, const struct trial *t, const struct outcome *native)
{
	static struct outcome engine;
	const struct vcpu *v = guest_vcpu(r->guest[way]);
	u64 before = v->engine->counts(v).instructions;

	guest_run(r->guest[way], t, &engine);
	struct cpu_counts c = v->engine->counts(v);
	c.instructions -= before;
	if (!way)
		r->interpreted = c.instructions;
	if (!outcome_equal(t, native, &engine))
		return false;
	if (!c.counting || c.instructions == r->interpreted)
		return true;
	printf("%s counts %llu instructions, the interpreter %llu\n", ways[way].name,
		(unsigned long long)c.instructions, (unsigned long long)r->interpreted);
	return false;
}

/* Runs it everywhere. A routine that does not end natively says nothing about the engines. */
static bool all_agree(void *ctx, const struct trial *t)
{
	static struct outcome native;
	struct run *r = ctx;

	struct trial *here = &host_trials(r->host)[0];

	*here = *t;
	fpu_clip(&here->in.fpu); /* a stored case may come from another host */
	native = *host_run(r->host, 1);
	t = here;
	for (unsigned i = 0; native.stopped && i < WAYS * AGAIN; i++)
		if (!agrees(r, i / AGAIN, t, &native))
			return false;
	return true;
}

static void report(struct run *r, const struct trial *failing)
{
	static struct outcome native, engine;
	static struct trial t;

	t = *failing;
	r->failures++;
	printf("FAILED: routine 0x%llx\n", (unsigned long long)t.seed);
	fflush(stdout);
	if (all_agree(r, &t))
		printf("  (does not happen again alone)\n");
	else if (r->shrink)
		routine_shrink(&t, all_agree, r);
	routine_print(&t, stdout);
	host_trials(r->host)[0] = t;
	native = *host_run(r->host, 1);
	for (unsigned i = 0; i < WAYS * AGAIN; i++) {
		guest_run(r->guest[i / AGAIN], &t, &engine);
		if (outcome_equal(&t, &native, &engine))
			continue;
		outcome_print_differences(&t, &native, &engine, ways[i / AGAIN].name);
		i = (i / AGAIN + 1) * AGAIN - 1;
	}
	printf("  case: ");
	case_write(&t, stdout);
	fflush(stdout);
}

/* ---- many ---- */

/* Ways begin and end to count their instructions, in all combinations. */
static void switch_counting(struct run *r, u64 round)
{
	for (unsigned e = 0; e < WAYS; e++)
		if (ways[e].engine->count)
			ways[e].engine->count(guest_vcpu(r->guest[e]), round >> e & 1);
}

static void run_batch(struct run *r, u64 from)
{
	static const struct routine_wish any = { 0 };
	static struct trial failed[HOST_BATCH];
	struct trial *t = host_trials(r->host);
	unsigned failures = 0, n = r->one ? VARIANTS : HOST_BATCH;

	switch_counting(r, from / (HOST_BATCH / VARIANTS));

	for (unsigned i = 0; i < n; i++)
		routine_generate(&r->tame,
			r->one ? r->routine : seed_of(r->seed, from + i / VARIANTS), i % VARIANTS,
			&any, &t[i]);
	const struct outcome *native = host_run(r->host, n);
	for (unsigned i = 0; i < n; i++) {
		bool equal = true;

		/* It has overwritten what was to end it. */
		if (!native[i].stopped) {
			r->endless++;
			continue;
		}
		for (unsigned e = 0; e < WAYS; e++) {
			equal &= agrees(r, e, &t[i], &native[i]);
			r->executed += e ? 0 : r->interpreted;
		}
		r->by_vector[native[i].vector & 31]++;
		if (!equal)
			failed[failures++] = t[i];
	}
	r->routines += n / VARIANTS;
	for (unsigned i = 0; i < failures && r->failures < r->keep_going; i++)
		report(r, &failed[i]);
}

static bool run_cases(struct run *r, const char *path)
{
	static char line[1 << 17];
	static struct trial t;
	FILE *f = fopen(path, "r");

	if (!f) {
		perror(path);
		return false;
	}
	for (unsigned number = 1; fgets(line, sizeof(line), f); number++) {
		if (line[0] == '#' || line[0] == '\n')
			continue;
		r->cases++;
		if (case_read(line, &t) && all_agree(r, &t))
			continue;
		printf("%s:%u: ", path, number);
		report(r, &t);
	}
	fclose(f);
	return true;
}

/* ---- the program ---- */

static bool long_run(void)
{
	const char *wish = getenv("STRATA_TEST_LONG");

	return wish && !strcmp(wish, "1");
}

static bool parse(int argc, char **argv, struct run *r)
{
	static const struct option longs[] = { { "seed", 1, NULL, 's' },
		{ "instructions", 1, NULL, 'i' }, { "long-instructions", 1, NULL, 'l' },
		{ "routine", 1, NULL, 'r' }, { "no-shrink", 0, NULL, 'n' },
		{ "keep-going", 1, NULL, 'k' }, { 0 } };
	u64 more = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's': r->seed = strtoull(optarg, NULL, 0); break;
		case 'i': r->instructions = strtoull(optarg, NULL, 0); break;
		case 'l': more = strtoull(optarg, NULL, 0); break;
		case 'r': r->routine = strtoull(optarg, NULL, 0), r->one = true; break;
		case 'n': r->shrink = false; break;
		case 'k': r->keep_going = (unsigned)strtoul(optarg, NULL, 0); break;
		default: return false;
		}
	}
	if (more && long_run())
		r->instructions = more;
	else if (more && !r->instructions)
		exit(77); /* a long run only */
	return true;
}

static bool open_all(struct run *r, struct forms *forms)
{
	bool ok = forms && (r->host = host_new()) && tame_open(&r->tame, forms, r->host);

	for (unsigned e = 0; ok && e < WAYS; e++) {
		r->guest[e] = ways[e].beside ? guest_beside(r->guest[e - 1])
					     : guest_new(ways[e].engine, 0);
		ok = r->guest[e];
	}
	return ok;
}

/* Shadow memory lies where the window must be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

int main(int argc, char **argv)
{
	static struct run r = { .instructions = 1000000, .shrink = true, .keep_going = 5 };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r.seed = (u64)now.tv_sec * 1000000007ull + (u64)now.tv_nsec;
	if (!parse(argc, argv, &r)) {
		fprintf(stderr, "usage: see the top of tests/diff/routines.c\n");
		return 2;
	}
	if (SANITIZED)
		return 77;
	host_stay_on_this_processor();
	struct forms *forms = forms_new(64);
	if (!open_all(&r, forms))
		return 1;
	printf("seed 0x%llx, %u of %u forms are tame, %u of them integer\n",
		(unsigned long long)r.seed, r.tame.all_count, forms->count, r.tame.base_count);
	fflush(stdout);
	for (int i = optind; i < argc; i++)
		if (!run_cases(&r, argv[i]))
			return 1;
	for (u64 i = 0; r.failures < r.keep_going && (r.one ? !i : r.executed < r.instructions);
		i += HOST_BATCH / VARIANTS)
		run_batch(&r, i);
	printf("ended by");
	for (unsigned v = 0; v < 32; v++)
		if (r.by_vector[v])
			printf(" %u:%llu", v, (unsigned long long)r.by_vector[v]);
	printf("\n%llu stored cases, %llu routines (%llu of their variants never end), %llu "
	       "instructions in each engine, %llu differences\n",
		(unsigned long long)r.cases, (unsigned long long)r.routines,
		(unsigned long long)r.endless, (unsigned long long)r.executed,
		(unsigned long long)r.failures);
	for (unsigned e = WAYS; e--;)
		guest_free(r.guest[e]);
	tame_close(&r.tame);
	forms_free(forms);
	host_free(r.host);
	return r.failures ? 1 : 0;
}
