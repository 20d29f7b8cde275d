/*
 * --translate stats. What is counted on paths that leave translated code anyway is counted always
 * (struct translator); the rest, and the clock, only when asked for.
 *
 * Counters are the vcpu thread's; the report is made after that thread has ended.
 */
#include "cpu/translate/stats.h"
#include "cpu/translate/translate_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define TOP 15u

int stats_open(struct translator *t, struct err *err)
{
	t->stats = calloc(1, sizeof(*t->stats));
	return t->stats ? 0 : err_set(err, -ENOMEM, "translate: no memory for counters");
}

u64 stats_now(const struct translator *t)
{
	struct timespec now;

	if (likely(!t->stats))
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

void stats_op(struct translator *t, const struct tinsn *in)
{
	if (in->mnemonic < STATS_MNEMONICS)
		(in->handed ? t->stats->handed : t->stats->missed)[in->mnemonic]++;
}

static double percent(u64 part, u64 whole)
{
	return whole ? 100 * (double)part / (double)whole : 0;
}

static double ratio(u64 a, u64 b) { return b ? (double)a / (double)b : 0; }

static u64 sum(const u64 *counts)
{
	u64 all = 0;

	for (unsigned i = 0; i < STATS_MNEMONICS; i++)
		all += counts[i];
	return all;
}

/* The most frequent first. Clears what it has printed; the counters have no reader after it. */
static void top(const char *title, u64 *counts, FILE *to)
{
	u64 all = sum(counts);

	fprintf(to, "  %-17s %llu\n", title, (unsigned long long)all);
	for (unsigned n = 0; n < TOP; n++) {
		unsigned most = 0;

		for (unsigned i = 1; i < STATS_MNEMONICS; i++)
			if (counts[i] > counts[most])
				most = i;
		if (!counts[most])
			return;
		fprintf(to, "    %-15s %llu (%.1f %%)\n",
			ZydisMnemonicGetString((ZydisMnemonic)most),
			(unsigned long long)counts[most], percent(counts[most], all));
		counts[most] = 0;
	}
}

static void exits(const struct translator *t, FILE *to)
{
	static const char *const names[] = {
		[EXIT_LINK] = "direct jumps",
		[EXIT_LOOKUP] = "indirect jumps",
		[EXIT_OP] = "instructions",
		[EXIT_VECTOR] = "vector state",
		[EXIT_X87] = "x87 state",
		[EXIT_PAGE] = "pages",
		[EXIT_ATTENTION] = "attention",
	};
	_Static_assert(ARRAY_LEN(names) == ARRAY_LEN(t->exits), "a name for each kind of exit");
	u64 all = 0;

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		all += t->exits[i];
	fprintf(to, "  %-17s %llu\n", "exits", (unsigned long long)all);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		fprintf(to, "    %-15s %llu (%.1f %%)\n", names[i], (unsigned long long)t->exits[i],
			percent(t->exits[i], all));
}

void stats_report(struct translator *t, unsigned cpu, FILE *to)
{
	const struct mmu *m = &t->c->mmu;
	struct translate_stats *s = t->stats;

	if (!s)
		return;
	fprintf(to, "translator of cpu%u\n", cpu);
	fprintf(to, "  %-17s %llu, from %llu guest bytes to %llu host bytes (%.2f times)\n",
		"blocks", (unsigned long long)t->blocks_made, (unsigned long long)t->guest_bytes,
		(unsigned long long)t->host_bytes, ratio(t->host_bytes, t->guest_bytes));
	fprintf(to, "  %-17s %llu, rebased %llu\n", "blocks copied", (unsigned long long)t->copied,
		(unsigned long long)t->rebased);
	fprintf(to, "  %-17s %.3f s in %.3f s (%.1f %%), %.0f ns a block\n", "translating",
		(double)s->translate_ns / 1e9, (double)s->run_ns / 1e9,
		percent(s->translate_ns, s->run_ns), ratio(s->translate_ns, t->blocks_made));
	fprintf(to, "  %-17s %llu, put back %llu, side exits of blocks %llu, loops %llu\n",
		"links made", (unsigned long long)t->links_made, (unsigned long long)t->put_back,
		(unsigned long long)t->side_exits, (unsigned long long)t->loops);
	fprintf(to, "  %-17s %llu\n", "fast TLB fills", (unsigned long long)t->fast_fills);
	fprintf(to, "  %-17s %llu, flushes %llu, of pages with code %llu\n", "MMU fills",
		(unsigned long long)m->fills, (unsigned long long)m->flushes,
		(unsigned long long)t->code_flushes);
	fprintf(to, "  %-17s %llu, pages shown %llu, emptied %llu, faults %llu\n", "windows given",
		(unsigned long long)t->window.takeovers, (unsigned long long)t->window.shown,
		(unsigned long long)t->window.drops, (unsigned long long)t->window.fault_count);
	fprintf(to, "  %-17s %llu pages shown, emptied %llu, kernel faults %llu\n", "kernel window",
		(unsigned long long)t->kernel.shown, (unsigned long long)t->kernel.drops,
		(unsigned long long)t->kernel.faults);
	fprintf(to, "  %-17s %llu, rests %llu, descriptors now %.1f MiB\n", "cache emptied",
		(unsigned long long)t->clears, (unsigned long long)t->rests,
		(double)t->pool_used / (double)MiB);
	exits(t, to);
	top("handed over", s->handed, to);
	top("fast TLB misses", s->missed, to);
}
