/* An engine whose run() is a function of the test: machines without guest code. */
#pragma once
#include "machine/machine_priv.h"

static enum cpu_exit (*fake_run)(struct vcpu *v);

static void fake_flush(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid) {}
static void fake_mode_changed(struct x86_cpu *cpu) {}
static u64 fake_tsc(struct x86_cpu *cpu) { return 1000; }

static const struct x86_ops fake_x86_ops = {
	.flush = fake_flush,
	.mode_changed = fake_mode_changed,
	.host_tsc = fake_tsc,
};

static int fake_probe(struct err *why) { return 0; }

static int fake_open(struct vcpu *v, struct err *err)
{
	v->x86.ops = &fake_x86_ops;
	return 0;
}

static void fake_close(struct vcpu *v) {}
static int fake_move(struct vcpu *v) { return 0; }

/* As engines do: STOP is consumed, everything else is the test's. */
static enum cpu_exit fake_run_or_stop(struct vcpu *v)
{
	if (v->attention & ATTN_STOP) {
		v->attention &= ~ATTN_STOP;
		return CPU_EXIT_KICK;
	}
	return fake_run(v);
}

static const struct cpu_engine fake_engine = {
	.name = "fake",
	.doc = "for tests",
	.probe = fake_probe,
	.open = fake_open,
	.close = fake_close,
	.run = fake_run_or_stop,
	.pull = fake_move,
	.push = fake_move,
};

static inline struct machine_config fake_config(void)
{
	return (struct machine_config){
		.engine = &fake_engine,
		.memory = 16 * MiB,
		.cpus = 1,
		.input = -1,
		.output = -1,
		.escape = -1,
	};
}

static inline void fake_out(struct vcpu *v, u16 port, u8 value)
{
	v->ops->port_out(v->ops_ctx, v, port, 1, value);
}

static inline u8 fake_in(struct vcpu *v, u16 port)
{
	return (u8)v->ops->port_in(v->ops_ctx, v, port, 1);
}
