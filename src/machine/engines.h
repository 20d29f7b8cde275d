/* The table of engines, in order of preference. */
#pragma once
#include "base/err.h"
#include "cpu/vcpu.h"

extern const struct cpu_engine *const engines[];
extern const unsigned engines_count;

/* NULL: no such engine. */
const struct cpu_engine *engines_named(const char *name);
/* The first whose probe passes; NULL with err naming each and why not. */
const struct cpu_engine *engines_auto(struct err *err);
