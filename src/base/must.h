/*
 * Assertions about our own invariants. must() stays in release builds and guards memory safety;
 * check() is for tests and debug builds. Never for anything a guest, image or user controls.
 */
#pragma once
#include "base/types.h"

_Noreturn void must_fail(const char *file, int line, const char *cond, const char *fmt, ...)
	PRINTF(4, 5);

#define must(cond, ...)                                                    \
	do {                                                               \
		if (unlikely(!(cond)))                                     \
			must_fail(__FILE__, __LINE__, #cond, __VA_ARGS__); \
	} while (0)

#ifdef NDEBUG
#define check(cond) ((void)sizeof(cond))
#else
#define check(cond) must(cond, "check failed")
#endif

/* After an exhaustive switch on an enum; no `default`, so the compiler lists what is missing. */
#define unreachable() must_fail(__FILE__, __LINE__, "unreachable", "impossible value")
