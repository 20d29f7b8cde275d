/*
 * A virtual processor and the engine interface.
 *
 * A vcpu belongs to one thread: only that thread calls run, pull and push, and touches x86. Other
 * threads talk to it by vcpu_post(): they set an attention bit and kick. An engine looks at
 * `attention` at least once per block of guest instructions; it never waits.
 *
 * Life of run(): the engine executes guest instructions until something needs the machine, and
 * returns why. Port and MMIO accesses, CPUID's APIC id, interrupts and device MSRs do not leave
 * run(): they go through `ops`, which the machine supplies and which take its lock.
 */
#pragma once
#include "base/err.h"
#include "cpu/irqchip.h"
#include "memory/memory.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"
#include "x86/sensitivity.h"
#include <stdio.h>

struct vcpu;
struct explain_sink;

enum cpu_exit {
	CPU_EXIT_HALT,	   /* HLT (or MWAIT): sleep until attention */
	CPU_EXIT_KICK,	   /* ATTN_STOP was seen; call run again when ready */
	CPU_EXIT_SHUTDOWN, /* triple fault: x86.s.activity is X86_SHUTDOWN */
	CPU_EXIT_WAIT,	   /* waiting for SIPI */
	CPU_EXIT_ERROR,	   /* the engine cannot go on: vcpu->error says why */
};

/* attention bits, set by any thread */
#define ATTN_INTR BIT(0) /* ops->interrupt_pending may be true */
#define ATTN_NMI  BIT(1)
#define ATTN_INIT BIT(2)
#define ATTN_SIPI BIT(3) /* vector in sipi_vector */
#define ATTN_STOP BIT(4) /* leave run() with CPU_EXIT_KICK at the next boundary */
#define ATTN_CODE BIT(5) /* engine-internal: code another thread wrote must be forgotten */
#define ATTN_LOOK BIT(6) /* engine-internal: another thread has asked for something */

struct vcpu_ops {
	/* The vector to deliver, acknowledged at the controller, or -1 when there is none after
	 * all. */
	int (*interrupt)(void *ctx, struct vcpu *v);
	u64 (*port_in)(void *ctx, struct vcpu *v, u16 port, unsigned size);
	void (*port_out)(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value);
	/* Addresses that are not RAM; also writes to ROM. size 1, 2, 4, 8. */
	u64 (*mmio_read)(void *ctx, struct vcpu *v, gpa_t at, unsigned size);
	void (*mmio_write)(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value);
	bool (*msr_read)(void *ctx, struct vcpu *v, u32 index, u64 *value);
	bool (*msr_write)(void *ctx, struct vcpu *v, u32 index, u64 value);
	u64 (*cr8_read)(void *ctx, struct vcpu *v);
	void (*cr8_write)(void *ctx, struct vcpu *v, u64 value);
	/* The guest has written its TSC or TSC_ADJUST: x86.s.tsc_offset is new. May be NULL. */
	void (*tsc_changed)(void *ctx, struct vcpu *v);
	/* Of engines with local APICs of their own: see cpu/irqchip.h. */
	void (*eoi)(void *ctx, struct vcpu *v, u8 vector);
	/* For kvmclock, as struct x86_ops has them. */
	u64 (*clock_ns)(void *ctx, struct vcpu *v, u64 host_tsc);
	u64 (*wall_ns)(void *ctx, struct vcpu *v);
};

struct vcpu_stats {
	u64 instructions; /* retired; 0 where the engine cannot count */
	u64 exits[5];	  /* by enum cpu_exit */
	u64 port_ios, mmios, interrupts, exceptions;
	u64 sensitive[X86_SENSITIVITIES]; /* executed by the interpreter's handlers; faults count,
					     too */
};

/* What an engine has done since open(), as far as counting it costs nothing. */
struct cpu_counts {
	u64 instructions; /* of the guest, those that were counted */
	bool counting;	  /* all of them are, now */
	u64 exits;	  /* translated code was left */
	u64 misses;	  /* of them: for a jump that leads, or led then, to no other code */
};

/* --trace: each is false when off. Lines are written by the vcpu's thread. */
struct vcpu_trace {
	FILE *to;
	bool exits, instructions, interrupts;
	bool requests; /* not an engine's: machine/requests.h */
};

/* A switch of one engine: `strata run --<engine> NAME[,NAME...]`. A NULL name ends the table. */
struct cpu_engine_option {
	const char *name, *doc;
	u32 bit;
};

struct vcpu {
	struct x86_cpu x86; /* x86.ctx is this vcpu */
	unsigned index;
	u32 apic_id; /* x86_topology_apic_id() of the index */
	const struct cpu_engine *engine;
	u32 engine_options; /* bits of the engine's table; fixed before open() */
	void *engine_data;
	const struct cpu_irqchip *irqchip; /* set by open(): the engine keeps the local APIC */
	struct mmu *mmu; /* of engines with software paging (cpu/mmu.h), else NULL */
	struct memory *memory;
	const struct vcpu_ops *ops;
	void *ops_ctx;
	_Atomic u32 attention;
	_Atomic bool sleeping; /* in vcpu_sleep() */
	_Atomic u8 sipi_vector;
	struct vcpu_stats stats;
	struct vcpu_trace trace;
	struct err error;
};

struct cpu_engine {
	const char *name;
	const char *doc;
	int (*probe)(struct err *why); /* 0: this host can run it well; else -errno and why not */
	/* One line on how it would run here, for `strata host`; NULL: nothing to tell. */
	void (*about)(char *text, size_t size);
	int (*open)(struct vcpu *v, struct err *err);
	void (*close)(struct vcpu *v);
	enum cpu_exit (*run)(struct vcpu *v);
	void (*kick)(struct vcpu *v); /* any thread: make run() look at attention soon */
	int (*pull)(struct vcpu *v);  /* x86.s := the engine's copy */
	int (*push)(struct vcpu *v);  /* the engine's copy := x86.s */
	void (*forget)(struct vcpu *v, gpa_t at, u64 len); /* NULL: nothing cached */
	const struct cpu_engine_option *options;	   /* NULL: it has none */
	/* Guest writes at this address, whatever they are, signal the event descriptor, and guest
	 * code goes on; or no longer. Any thread; v is any of the machine's. NULL: they exit. */
	int (*doorbell)(struct vcpu *v, u64 at, int fd, bool on, struct err *err);
	bool fixed_memory; /* slots that change after open() are not noticed */
	/* Prints what the options asked for, after the last run(); the vcpu's thread has ended. May
	 * be NULL. */
	void (*report)(struct vcpu *v, FILE *to);
	struct cpu_counts (*counts)(const struct vcpu *v); /* any thread; NULL: it has none */
	/* Any thread: count all instructions, or no longer. NULL: it always does, or cannot. */
	void (*count)(struct vcpu *v, bool on);
	/* Tells what the code in [from, end), at most `count` instructions of it, becomes, without
	 * running it: see cpu/explain.h. NULL: it becomes nothing else. */
	int (*explain)(struct vcpu *v, u64 from, u64 end, unsigned count,
		const struct explain_sink *to, struct err *err);
};

/* Sets attention bits and kicks; any thread. */
void vcpu_post(struct vcpu *v, u32 attention);
/* The vcpu's thread: sleeps until one of the bits in `wake` is set. Consumes nothing. */
void vcpu_sleep(struct vcpu *v, u32 wake);

/* All engines in order of preference: machine/engines.c. */
