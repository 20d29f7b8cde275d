/* What the sandbox's files share: the rules of the filter. */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* 1 in builds with sanitizers or coverage: meson.build says. */
#ifndef SANDBOX_INSTRUMENTED
#define SANDBOX_INSTRUMENTED 0
#endif

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

extern const struct sandbox_rule sandbox_rules[];
extern const unsigned sandbox_rule_count;

/* sandbox_filter.c: the last stage. */
NODISCARD int sandbox_filter(unsigned needs, unsigned *count, struct err *err);
