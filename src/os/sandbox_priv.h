/* What the sandbox's files share: the rules of the filter. */
#pragma once
#include "base/err.h"
#include "os/sandbox_filter.h"

/* 1 in builds with sanitizers or coverage: meson.build says. */
#ifndef SANDBOX_INSTRUMENTED
#define SANDBOX_INSTRUMENTED 0
#endif

extern const struct sandbox_rule sandbox_rules[];
extern const unsigned sandbox_rule_count;
