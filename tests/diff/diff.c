/*
 * diff [--engine interpret|translate] [--seed N] [--count N] [--long-count N] [--trial N]
 * [--no-compat] [--no-shrink]
 * [--keep-going N] [--coverage]
 *      [--list-undefined] [--list-excluded] [CASES.txt ...]
 *
 * Replays the stored cases, then runs `count` random trials from `seed`. Trial i has the seed
 * trial_seed(seed, i), which a failure prints: `diff --trial SEED` runs just that one.
 */
#include "diff.h"
#include "cpu/interpret/interpret.h"
#include "cpu/translate/translate.h"
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>

struct options {
	u64 seed, count, trial;
	bool one_trial, compat, shrink, coverage;
	unsigned keep_going;
	const struct cpu_engine *engine;
};

struct tally {
	u64 trials, instructions, failures, cases;
	u64 by_vector[256];
	u64 executed[ZYDIS_MNEMONIC_MAX_VALUE + 1];  /* as the only or first instruction */
	u64 completed[ZYDIS_MNEMONIC_MAX_VALUE + 1]; /* without a fault */
};

struct run {
	struct options opt;
	struct generator generator;
	struct bench bench;
	struct tally tally;
};

static u64 trial_seed(u64 seed, u64 i)
{
	struct rng r = { seed ^ i * 0xd1342543de82ef95ull };

	return rng_next(&r);
}

/* ---- one result ---- */

static void count(struct run *r, const struct trial *t, const struct outcome *o)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	bool complete = o->vector == X86_DB ||
			(o->vector == X86_BP && o->regs.rip == t->in.rip + t->len + 1);

	r->tally.trials++;
	r->tally.by_vector[o->vector & 0xff]++;
	for (unsigned at = 0; at < t->len; at += insn.length) {
		if (!decode_one(t->bits, t->code + at, t->len - at, &insn, operands))
			break;
		if (!complete && at)
			break; /* which one faulted is not known */
		r->tally.instructions++;
		r->tally.executed[insn.mnemonic]++;
		r->tally.completed[insn.mnemonic] += complete;
	}
}

bool bench_agrees(
	struct bench *b, const struct trial *t, struct outcome *native, struct outcome *engine)
{
	static struct outcome scratch[2];

	if (!native) {
		native = &scratch[0];
		engine = &scratch[1];
	}
	struct trial *here = &host_trials(b->host)[0];

	*here = *t;
	fpu_clip(&here->in.fpu);
	*native = *host_run(b->host, 1);
	guest_run(b->guest, here, engine);
	return outcome_equal(here, native, engine);
}

static void report(struct run *r, const struct trial *failing)
{
	static struct outcome native, engine;
	struct trial t = *failing;

	printf("FAILED: trial 0x%llx, %u-bit\n", (unsigned long long)t.seed, t.bits);
	if (r->opt.shrink)
		shrink(&r->bench, &t);
	if (bench_agrees(&r->bench, &t, &native, &engine))
		printf("  (does not happen again)\n");
	trial_print_code(&t, stdout);
	outcome_print_differences(&t, &native, &engine, "engine");
	printf("  case: ");
	case_write(&t, stdout);
	fflush(stdout);
}

/* ---- random trials ---- */

static void run_batch(struct run *r, u64 from, unsigned n)
{
	static struct trial failed[HOST_BATCH];
	static struct outcome engine;
	struct trial *trials = host_trials(r->bench.host);
	unsigned failures = 0;

	for (unsigned i = 0; i < n; i++) {
		generate(&r->generator,
			r->opt.one_trial ? r->opt.trial : trial_seed(r->opt.seed, from + i),
			&trials[i]);
		fpu_clip(&trials[i].in.fpu);
	}
	const struct outcome *native = host_run(r->bench.host, n);
	for (unsigned i = 0; i < n; i++) {
		guest_run(r->bench.guest, &trials[i], &engine);
		count(r, &trials[i], &native[i]);
		if (!outcome_equal(&trials[i], &native[i], &engine))
			failed[failures++] = trials[i];
	}
	for (unsigned i = 0; i < failures && r->tally.failures < r->opt.keep_going; i++) {
		r->tally.failures++;
		report(r, &failed[i]);
	}
}

static void run_random(struct run *r)
{
	u64 total = r->opt.one_trial ? 1 : r->opt.count;

	for (u64 i = 0; i < total && r->tally.failures < r->opt.keep_going; i += HOST_BATCH)
		run_batch(r, i, (unsigned)min_u64(HOST_BATCH, total - i));
}

/* ---- stored cases ---- */

/* Cases come from other hosts: what is excluded on this one is passed over. */
static const char *excluded_here(const struct trial *t)
{
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

	if (!decode_one(t->bits, t->code, t->len, &insn, operands))
		return NULL;
	return rules_excluded(insn.mnemonic);
}

static bool run_cases(struct run *r, const char *path)
{
	static char line[65536];
	FILE *f = fopen(path, "r");
	unsigned number = 0;
	struct trial t;

	if (!f) {
		perror(path);
		return false;
	}
	while (fgets(line, sizeof(line), f)) {
		number++;
		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!case_read(line, &t)) {
			printf("%s:%u: not a case\n", path, number);
			r->tally.failures++;
			continue;
		}
		const char *why = excluded_here(&t);
		if (why) {
			printf("%s:%u: passed over: %s\n", path, number, why);
			continue;
		}
		r->tally.cases++;
		if (bench_agrees(&r->bench, &t, NULL, NULL))
			continue;
		printf("%s:%u: ", path, number);
		r->tally.failures++;
		report(r, &t);
	}
	fclose(f);
	return true;
}

/* ---- the summary ---- */

static void print_coverage(const struct run *r)
{
	const struct forms *f = r->generator.long_mode, *c = r->generator.compat;
	unsigned never = 0, faulted = 0;

	printf("%-20s %9s %9s %6s %6s\n", "mnemonic", "executed", "completed", "forms", "run");
	for (unsigned m = 1; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++) {
		unsigned forms = 0, run = 0;

		for (unsigned i = f->first[m]; i < f->first[m + 1]; i++, forms++)
			run += f->hits[i] != 0;
		for (unsigned i = c ? c->first[m] : 0; c && i < c->first[m + 1]; i++, forms++)
			run += c->hits[i] != 0;
		const char *why = rules_excluded((ZydisMnemonic)m);
		if (!why && !forms)
			why = "the decoder knows no form of it in these modes";
		if (!why && !r->tally.executed[m])
			why = "not drawn: run longer";
		never += !r->tally.executed[m];
		faulted += r->tally.executed[m] && !r->tally.completed[m];
		printf("%-20s %9llu %9llu %6u %6u %s\n", ZydisMnemonicGetString((ZydisMnemonic)m),
			(unsigned long long)r->tally.executed[m],
			(unsigned long long)r->tally.completed[m], forms, run,
			r->tally.executed[m]
				? r->tally.completed[m] ? "" : "only faults, equal in both"
				: why);
	}
	printf("%u mnemonics: %u executed (%u of them only with faults), %u never\n",
		ZYDIS_MNEMONIC_MAX_VALUE, ZYDIS_MNEMONIC_MAX_VALUE - never, faulted, never);
}

static void print_ends(const struct run *r)
{
	printf("ended by");
	for (unsigned v = 0; v < 256; v++)
		if (r->tally.by_vector[v])
			printf(" %u:%llu", v, (unsigned long long)r->tally.by_vector[v]);
	printf("\n");
}

/* ---- the program ---- */

static int usage(void)
{
	fprintf(stderr, "usage: diff [--seed N] [--count N] [--long-count N] [--trial SEED] "
			"[--no-compat] [--no-shrink]\n"
			"            [--keep-going N] [--coverage] [--list-undefined] "
			"[--list-excluded] [CASES.txt ...]\n");
	return 2;
}

/* --long-count replaces --count where STRATA_TEST_LONG asks for more (tests/README.md). */
static bool long_run(void)
{
	const char *wish = getenv("STRATA_TEST_LONG");

	return wish && !strcmp(wish, "1");
}

static const struct cpu_engine *engine_named(const char *name)
{
	static const struct cpu_engine *const all[] = { &interpret_engine, &translate_engine };

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		if (!strcmp(all[i]->name, name))
			return all[i];
	return NULL;
}

static int parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = { { "engine", 1, NULL, 'e' }, { "seed", 1, NULL, 's' },
		{ "count", 1, NULL, 'c' }, { "long-count", 1, NULL, 'l' },
		{ "trial", 1, NULL, 't' }, { "no-compat", 0, NULL, '6' },
		{ "no-shrink", 0, NULL, 'n' }, { "keep-going", 1, NULL, 'k' },
		{ "coverage", 0, NULL, 'C' }, { "list-undefined", 0, NULL, 'u' },
		{ "list-excluded", 0, NULL, 'x' }, { 0 } };
	u64 long_count = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'e':
			o->engine = engine_named(optarg);
			if (!o->engine)
				return usage();
			break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 'l': long_count = strtoull(optarg, NULL, 0); break;
		case 't': o->trial = strtoull(optarg, NULL, 0), o->one_trial = true; break;
		case '6': o->compat = false; break;
		case 'n': o->shrink = false; break;
		case 'k': o->keep_going = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'C': o->coverage = true; break;
		case 'u': rules_print_undefined(stdout); exit(0);
		case 'x': rules_print_excluded(stdout); exit(0);
		default: return usage();
		}
	}
	if (long_count && long_run())
		o->count = long_count;
	else if (long_count && !o->count)
		exit(77); /* a long run only */
	return 0;
}

/* Shadow memory lies where the window must be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

static bool open_bench(struct run *r)
{
	host_stay_on_this_processor();
	r->bench.host = host_new();
	r->bench.guest = guest_new(r->opt.engine ? r->opt.engine : &interpret_engine, 0);
	r->generator.long_mode = forms_new(64);
	r->generator.compat = r->opt.compat ? forms_new(32) : NULL;
	return r->bench.host && r->bench.guest && r->generator.long_mode &&
	       (r->generator.compat || !r->opt.compat);
}

static void close_bench(struct run *r)
{
	forms_free(r->generator.long_mode);
	forms_free(r->generator.compat);
	guest_free(r->bench.guest);
	host_free(r->bench.host);
}

int main(int argc, char **argv)
{
	static struct run r = {
		.opt = { .count = 100000, .compat = true, .shrink = true, .keep_going = 10 }
	};
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	r.opt.seed = (u64)now.tv_sec * 1000000007ull + (u64)now.tv_nsec;
	if (parse(argc, argv, &r.opt))
		return 2;
	if (SANITIZED)
		return 77;
	if (!open_bench(&r))
		return 1;
	printf("seed 0x%llx, %u forms of 64-bit code, %u of 32-bit code\n",
		(unsigned long long)r.opt.seed, r.generator.long_mode->count,
		r.generator.compat ? r.generator.compat->count : 0);
	fflush(stdout);
	for (int i = optind; i < argc; i++)
		if (!run_cases(&r, argv[i]))
			return 1;
	run_random(&r);
	if (r.opt.coverage)
		print_coverage(&r);
	print_ends(&r);
	printf("%llu stored cases, %llu trials, %llu instructions, %llu differences\n",
		(unsigned long long)r.tally.cases, (unsigned long long)r.tally.trials,
		(unsigned long long)r.tally.instructions, (unsigned long long)r.tally.failures);
	close_bench(&r);
	return r.tally.failures ? 1 : 0;
}
