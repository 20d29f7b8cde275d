/*
 * What a process may ask of the kernel: tables of rules, and what makes them hold. The monitor's is
 * sandbox_rules.c; a process that does something for it has one of its own.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* What the one argument that a rule looks at must be. Only its low 32 bits count where the kernel
 * itself looks at no more: request and option numbers. */
enum sandbox_match {
	MATCH_ANY,   /* no argument matters */
	MATCH_EQUAL, /* the low 32 bits are `value` */
	MATCH_CLEAR, /* none of the bits of `value` is set */
	MATCH_SELF,  /* this process's id */
};

struct sandbox_rule {
	int nr; /* of the system call */
	enum sandbox_match match;
	unsigned arg;
	u32 value;
	unsigned needs; /* enum sandbox_needs: only for these; 0: for all */
	bool refuse;	/* EPERM instead of the end: libraries ask by habit and can do without */
	const char *reason;
};

/* Rows: always, or for one value of an argument. */
#define SANDBOX_ALLOW(call, why)                \
	{                                       \
		.nr = SYS_##call, .reason = why \
	}
#define SANDBOX_ALLOW_IF(call, how, n, v, why)                                      \
	{                                                                           \
		.nr = SYS_##call, .match = how, .arg = n, .value = v, .reason = why \
	}

/* From now on, for all threads, only what has a row. *used: rows that count with these needs. */
NODISCARD int sandbox_filter(const struct sandbox_rule *rules, unsigned rule_count, unsigned needs,
	unsigned *used, struct err *err);

/*
 * For a process that was forked to do one thing: no new privileges, no capabilities but those of
 * `keep` (a bit each), no debugger, the rules. All or an error; in instrumented builds
 * (os/sandbox.h) nothing.
 */
NODISCARD int sandbox_confine(
	const struct sandbox_rule *rules, unsigned rule_count, u32 keep, struct err *err);
