/* fake.h's machine with a full CPU model (the host's, through the policy) and a record of flushes.
 */
#pragma once
#include "fake.h"
#include "x86/control.h"
#include "x86/msr.h"
#include "x86/xsave.h"

struct flush_record {
	unsigned count;
	enum x86_flush kind;
	u64 at;
	unsigned pcid;
};

static struct flush_record flushed;
static struct x86_ops control_ops;

static inline void record_flush(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid)
{
	flushed = (struct flush_record){ flushed.count + 1, kind, at, pcid };
}

static inline struct fake *control_new(void)
{
	struct fake *f = fake_new();

	control_ops = fake_ops;
	control_ops.flush = record_flush;
	f->cpu.ops = &control_ops;
	x86_model_build(
		&f->model, x86_native_cpuid, 2500000000ull, &(struct x86_topology){ 1, 1, 1 });
	flushed = (struct flush_record){ 0 };
	return f;
}

/* The next flush is of this kind and the only one. */
#define assert_flush(expect, call)                      \
	do {                                            \
		flushed.count = 0;                      \
		assert_ok(call);                        \
		assert_int_equal(flushed.count, 1);     \
		assert_int_equal(flushed.kind, expect); \
	} while (0)
#define assert_no_flush(call)                       \
	do {                                        \
		flushed.count = 0;                  \
		assert_ok(call);                    \
		assert_int_equal(flushed.count, 0); \
	} while (0)
