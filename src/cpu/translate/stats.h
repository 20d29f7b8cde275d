/* Counters that cost too much to keep when nobody asks, and the report of all. */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <Zydis/Zydis.h>
#include <stdio.h>

#define STATS_MNEMONICS (ZYDIS_MNEMONIC_MAX_VALUE + 1)

/* Hangs off struct translator while --translate stats is on. */
struct translate_stats {
	u64 run_ns, translate_ns;
	u64 handed[STATS_MNEMONICS]; /* executed by the interpreter because they are always */
	u64 missed[STATS_MNEMONICS]; /* because the page was not in the fast TLB */
};

struct translator;
struct tinsn;

NODISCARD int stats_open(struct translator *t, struct err *err);
u64 stats_now(const struct translator *t); /* nanoseconds; 0 when off */
void stats_op(struct translator *t, const struct tinsn *in);
void stats_report(struct translator *t, unsigned cpu, FILE *to);
