/* strata explain: what an engine makes of a kernel's code, without running it. */
#pragma once
#include "cpu/explain.h"
#include "machine/machine.h"

struct machine_explain {
	const struct cpu_engine *engine;
	const char *kernel;
	const char *at; /* SYMBOL, SYMBOL+OFFSET, or an address */
	unsigned count; /* instructions; 0: to the end of the symbol, at most `most` */
	unsigned most;
	u64 memory;
	void (*insn)(void *ctx, const struct explain_insn *insn);
	void *ctx;
};

/* -EINVAL: `at` is nowhere. */
NODISCARD int machine_explain(const struct machine_explain *what, struct err *err);
