/*
 * interrupts --engine interpret|translate [--seed N] [--count N] [--long-count N]
 *
 * Are asynchronous interrupts precise? A second thread posts them at random times into a routine
 * that runs in the engine, and each must find the guest exactly between two instructions (or two
 * elements of a repeated string instruction).
 *
 * That is decided, not estimated. The routine first runs in the interpreter with TF set, which
 * stops it after each instruction; there a digest of everything is kept: all registers, vector and
 * x87 state included, and all memory. A routine is deterministic, so an interrupt is precise if and
 * only if the digest of what it interrupted is among these, and not before that of the one before
 * it; and at the end the whole state must be that of the end of the trace. No state occurs twice,
 * or the routine would never end.
 *
 * The handler is HLT and IRETQ: it halts, which leaves run(); we look at everything; and the next
 * run() returns from it.
 *
 * Now and then it makes the engine forget all code, which must not show.
 *
 * For the translator kicks.c counts how many posts found the thread in a translated block.
 */
#include "cpu/interpret/interpret.h"
#include "cpu/translate/translate.h"
#include "cpu/vcpu.h"
#include "kicks.h"
#include "routine.h"
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

#define VECTOR	     0x40u
#define TRACE_WANTED 30000u /* steps of a routine, about */
#define TRACE_MAX    400000u
#define TRACE_TABLE  (1u << 20)
#define EACH	     4000u /* interrupts into one routine; then another one */
#define APART_EACH   500u  /* of them from another processor */
#define FAILURES_MAX 5u

struct trace {
	u64 digest[TRACE_MAX];
	u64 rip[TRACE_MAX];
	unsigned count;		/* the last one is that of the end */
	u32 table[TRACE_TABLE]; /* index + 1 by digest */
};

struct poster {
	pthread_t thread;
	struct vcpu *v;
	struct rng r;
	unsigned cpu[2];    /* the vcpu's; another one, if there is */
	_Atomic bool apart; /* which of them */
	_Atomic bool armed, pending, quit;
};

struct run {
	u64 seed, count;
	const struct cpu_engine *engine;
	struct tame tame;
	struct host *host;
	struct guest *reference, *guest;
	struct trace trace;
	struct poster poster;
	u64 done, routines, places, in_strings, failures;
};

/* ---- everything in 64 bits ---- */

struct digest {
	u64 lane[4];
};

static void mix(struct digest *d, const void *bytes, unsigned len)
{
	const u8 *p = bytes;

	for (; len >= 32; len -= 32, p += 32)
		for (unsigned i = 0; i < 4; i++)
			d->lane[i] = (d->lane[i] ^ get_le64(p + 8 * i)) * 0x9e3779b97f4a7c15ull;
	for (unsigned i = 0; i < len; i++)
		d->lane[0] = (d->lane[0] ^ p[i]) * 0x9e3779b97f4a7c15ull;
	for (unsigned i = 0; i < 4; i++)
		d->lane[i] ^= d->lane[i] >> 29;
}

/* Of what the handler that the guest is halted in has interrupted. */
static u64 digest_of(const struct guest *g, u64 *rip)
{
	struct digest d = { { 1, 2, 3, 4 } };
	struct regs r;
	u64 sum = 0;

	guest_registers(g, &r);
	*rip = r.rip;
	r.rflags &= ~(FLAG_TF | FLAG_RF);
	mix(&d, r.gpr, sizeof(r.gpr));
	mix(&d, &r.rip, 8);
	mix(&d, &r.rflags, 8);
	mix(&d, &r.fs_base, 16);
	mix(&d, &r.fpu, offsetof(struct x86_fpu, fop));
	mix(&d, &r.fpu.mxcsr, 4);
	for (unsigned i = 0; i < 8; i++)
		mix(&d, r.fpu.st[i], 10);
	mix(&d, r.fpu.zmm, sizeof(r.fpu.zmm));
	mix(&d, r.fpu.k, sizeof(r.fpu.k));
	mix(&d, guest_memory(g), DATA_SIZE);
	mix(&d, guest_text(g), TEXT_SIZE);
	for (unsigned i = 0; i < 4; i++) {
		struct rng mixer = { sum ^ d.lane[i] };

		sum = rng_next(&mixer);
	}
	return sum;
}

/* ---- the trace ---- */

static void trace_add(struct trace *t, const struct guest *g)
{
	unsigned n = t->count++;

	t->digest[n] = digest_of(g, &t->rip[n]);
	u32 slot = (u32)t->digest[n] & (TRACE_TABLE - 1);
	while (t->table[slot])
		slot = (slot + 1) & (TRACE_TABLE - 1);
	t->table[slot] = n + 1;
}

/* Its index, or -1. */
static int trace_find(const struct trace *t, u64 digest)
{
	u32 slot = (u32)digest & (TRACE_TABLE - 1);

	for (; t->table[slot]; slot = (slot + 1) & (TRACE_TABLE - 1))
		if (t->digest[t->table[slot] - 1] == digest)
			return (int)t->table[slot] - 1;
	return -1;
}

/* Steps through the routine; false: it does not end as it should, or not soon enough. */
static bool trace_make(struct run *r, const struct trial *t)
{
	static struct trial stepped;
	struct trace *to = &r->trace;
	u32 vector;

	to->count = 0;
	memset(to->table, 0, sizeof(to->table));
	stepped = *t;
	guest_load(r->reference, &stepped);
	/* An interrupt before the first instruction shows the start. */
	vcpu_post(guest_vcpu(r->reference), ATTN_INTR);
	if (guest_go(r->reference) != VECTOR)
		return false;
	trace_add(to, r->reference);
	stepped.in.rflags |= FLAG_TF;
	guest_load(r->reference, &stepped);
	while ((vector = guest_go(r->reference)) == X86_DB && to->count + 1 < TRACE_MAX)
		trace_add(to, r->reference);
	/* INT3 is a trap, and no boundary before it was new. */
	trace_add(to, r->reference);
	return vector == X86_BP;
}

/* Its steps with that many iterations; 0: it is not fit. */
static unsigned length_of(struct run *r, u64 seed, unsigned loops, struct trial *t)
{
	struct routine_wish wish = { .loops = loops, .well_behaved = true };

	routine_generate(&r->tame, seed, 0, &wish, t);
	return trace_make(r, t) ? r->trace.count : 0;
}

static bool choose_routine(struct run *r, u64 seed, struct trial *t)
{
	unsigned few = length_of(r, seed, 2, t);

	return few && length_of(r, seed, 1 + 2 * TRACE_WANTED / few, t) > TRACE_WANTED / 4;
}

/* ---- the other thread ---- */

static void stay_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* On the vcpu's processor: the timer that ends the sleep stops the vcpu's thread just where it is.
 */
static void sleep_a_while(struct poster *p)
{
	struct timespec ts = { .tv_nsec = (long)rng_below(&p->r, 30000) };

	nanosleep(&ts, NULL);
}

/* On another one: both really run at the same time. */
static void spin_a_while(struct poster *p)
{
	for (unsigned n = rng_below(&p->r, 1u << (2 + rng_below(&p->r, 10))); n; n--)
		__builtin_ia32_pause();
}

static void *post_for_ever(void *arg)
{
	struct poster *p = arg;
	bool apart = false;

	prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
	stay_on(p->cpu[0]);
	while (!atomic_load(&p->quit)) {
		if (apart != atomic_load(&p->apart)) {
			apart = !apart;
			stay_on(p->cpu[apart]);
		}
		if (apart)
			spin_a_while(p);
		else
			sleep_a_while(p);
		/* Whatever the engine holds on to is gone, where it is: that must not show. */
		if (rng_one_in(&p->r, 16))
			p->v->engine->forget(p->v, gpa(0), 1 * MiB);
		/* Only while the guest runs: between, every post would come to the same boundary.
		 */
		if (atomic_exchange(&p->armed, false)) {
			atomic_store(&p->pending, true);
			vcpu_post(p->v, ATTN_INTR);
		}
	}
	return NULL;
}

/* vcpu_ops.interrupt */
static int acknowledge(void *ctx, struct vcpu *v)
{
	struct poster *p = ctx;

	return atomic_exchange(&p->pending, false) ? (int)VECTOR : -1;
}

static int acknowledge_once(void *ctx, struct vcpu *v)
{
	atomic_fetch_and(&v->attention, ~ATTN_INTR);
	bool *asked = ctx;
	*asked = !*asked;
	return *asked ? (int)VECTOR : -1;
}

static void start_poster(struct run *r)
{
	static struct vcpu_ops ops;
	struct poster *p = &r->poster;
	cpu_set_t set;

	p->v = guest_vcpu(r->guest);
	p->r.s = r->seed;
	getcpu(&p->cpu[0], NULL);
	p->cpu[1] = p->cpu[0];
	for (unsigned i = 0; i < CPU_SETSIZE && !sched_getaffinity(0, sizeof(set), &set); i++)
		if (CPU_ISSET(i, &set) && i != p->cpu[0])
			p->cpu[1] = i;
	stay_on(p->cpu[0]);
	ops = *p->v->ops;
	ops.interrupt = acknowledge;
	p->v->ops = &ops;
	p->v->ops_ctx = p;
	pthread_create(&p->thread, NULL, post_for_ever, p);
}

/* ---- one run of the routine ---- */

static void complain(struct run *r, const struct trial *t, const char *what, u64 rip, int last)
{
	r->failures++;
	printf("FAILED: routine 0x%llx after %llu interrupts: %s at 0x%llx; before it, step %d at "
	       "0x%llx\n",
		(unsigned long long)t->seed, (unsigned long long)r->done, what,
		(unsigned long long)rip, last,
		(unsigned long long)(last >= 0 ? r->trace.rip[last] : 0));
	fflush(stdout);
}

static bool check_interrupt(struct run *r, const struct trial *t, int *last)
{
	u64 rip, digest = digest_of(r->guest, &rip);
	int at = trace_find(&r->trace, digest);

	r->done++;
	if (at < 0 || at < *last) {
		complain(r, t, at < 0 ? "not between two instructions" : "backwards", rip, *last);
		return false;
	}
	r->places += at > *last;
	r->in_strings += at > 0 && r->trace.rip[at - 1] == rip;
	*last = at;
	return true;
}

static void run_once(struct run *r, const struct trial *t)
{
	int last = 0;
	u64 rip;
	u32 vector;

	guest_load(r->guest, t);
	for (;;) {
		atomic_store(&r->poster.armed, true);
		vector = guest_go(r->guest);
		atomic_store(&r->poster.armed, false);
		if (vector != VECTOR)
			break;
		if (!check_interrupt(r, t, &last))
			return;
	}
	if (vector != X86_BP || digest_of(r->guest, &rip) != r->trace.digest[r->trace.count - 1])
		complain(r, t, "another end", r->guest ? guest_vcpu(r->guest)->x86.s.rip : 0, last);
}

/* ---- the program ---- */

static bool parse(int argc, char **argv, struct run *r)
{
	static const struct option longs[] = { { "engine", 1, NULL, 'e' }, { "seed", 1, NULL, 's' },
		{ "count", 1, NULL, 'c' }, { "long-count", 1, NULL, 'l' }, { 0 } };
	const char *wish = getenv("STRATA_TEST_LONG");
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'e':
			r->engine =
				strcmp(optarg, "translate") ? &interpret_engine : &translate_engine;
			break;
		case 's': r->seed = strtoull(optarg, NULL, 0); break;
		case 'c': r->count = strtoull(optarg, NULL, 0); break;
		case 'l':
			if (wish && !strcmp(wish, "1"))
				r->count = strtoull(optarg, NULL, 0);
			break;
		default: return false;
		}
	}
	return r->engine != NULL;
}

static bool open_all(struct run *r, struct forms *forms)
{
	static struct vcpu_ops once;
	static bool asked;
	bool ok = forms && (r->host = host_new()) && tame_open(&r->tame, forms, r->host) &&
		  (r->reference = guest_new(&interpret_engine, 0)) &&
		  (r->guest = guest_new(r->engine, 0));

	if (!ok)
		return false;
	once = *guest_vcpu(r->reference)->ops;
	once.interrupt = acknowledge_once;
	guest_vcpu(r->reference)->ops = &once;
	guest_vcpu(r->reference)->ops_ctx = &asked;
	if (r->engine == &translate_engine)
		kicks_watch(guest_vcpu(r->guest));
	start_poster(r);
	return true;
}

/* Shadow memory lies where the window must be. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

int main(int argc, char **argv)
{
	static struct run r = { .seed = 1, .count = 100000 };
	static struct trial t;
	struct rng seeds;

	if (!parse(argc, argv, &r)) {
		fprintf(stderr, "usage: see the top of tests/diff/interrupts.c\n");
		return 2;
	}
	if (SANITIZED)
		return 77;
	seeds.s = r.seed;
	struct forms *forms = forms_new(64);
	if (!open_all(&r, forms))
		return 1;
	while (r.done < r.count && r.failures < FAILURES_MAX) {
		if (!choose_routine(&r, rng_next(&seeds), &t))
			continue;
		r.routines++;
		u64 start = r.done, end = min_u64(r.count, start + EACH);
		while (r.done < end && r.failures < FAILURES_MAX) {
			atomic_store(&r.poster.apart,
				r.done - start < APART_EACH && r.poster.cpu[0] != r.poster.cpu[1]);
			run_once(&r, &t);
		}
	}
	atomic_store(&r.poster.quit, true);
	pthread_join(r.poster.thread, NULL);
	printf("%llu interrupts in %llu routines under %s, %llu of them further on than the one "
	       "before, %llu between two elements of a string; not precise: %llu\n",
		(unsigned long long)r.done, (unsigned long long)r.routines, r.engine->name,
		(unsigned long long)r.places, (unsigned long long)r.in_strings,
		(unsigned long long)r.failures);
	struct kicks k = kicks_counted();
	if (r.engine == &translate_engine)
		printf("signals that found the thread in a translated block: %llu, in a way in or "
		       "out: %llu, outside the code cache: %llu\n",
			(unsigned long long)k.in_block, (unsigned long long)k.in_stub,
			(unsigned long long)k.elsewhere);
	guest_free(r.guest);
	guest_free(r.reference);
	tame_close(&r.tame);
	forms_free(forms);
	host_free(r.host);
	if (r.engine == &translate_engine && !k.in_block) {
		printf("FAILED: no interrupt found translated code running\n");
		return 1;
	}
	return r.failures ? 1 : 0;
}
