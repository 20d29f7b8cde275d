/*
 * A number that one thread counts and any thread reads: plain loads and stores, of which none is
 * torn. Who reads several of them may see one without the other.
 */
#pragma once
#include "base/types.h"
#include <stdatomic.h>

typedef _Atomic u64 counter;

/* By the thread that counts. */
static inline void counter_add(counter *c, u64 n)
{
	u64 before = atomic_load_explicit(c, memory_order_relaxed);

	atomic_store_explicit(c, before + n, memory_order_relaxed);
}

static inline u64 counter_read(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}
