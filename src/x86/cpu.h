/*
 * The processor as pure functions: struct x86_cpu is the state, the CPU model, and an ops struct
 * through which every effect outside the state passes. System semantics (paging, segments,
 * exceptions, control transfers, CRs, MSRs, CPUID) are written once, in this folder, and every
 * engine calls them.
 *
 * Conventions
 *  - A function that can fault returns X86_OK or X86_FAULT; on X86_FAULT cpu->fault says which
 *    exception, and nothing architectural has changed except accessed/dirty bits and accessed
 *    descriptor bits, so the instruction can be restarted (SDM 3A 6.6). The caller then calls
 *    x86_deliver(). TRY() propagates.
 *  - RIP: while an instruction executes, state.rip is its own address; functions that transfer
 *    control are told the address of the next instruction and set state.rip themselves.
 *  - One thread at a time: the thread that owns the vcpu.
 */
#pragma once
#include "x86/state.h"

enum x86_result { X86_OK = 0, X86_FAULT = 1 };

#define TRY(expr)                               \
	do {                                    \
		if (unlikely((expr) != X86_OK)) \
			return X86_FAULT;       \
	} while (0)

/* Access kinds, or-ed. Without ACCESS_SYSTEM the current CPL decides user or supervisor. */
#define ACCESS_READ  0u
#define ACCESS_WRITE BIT(0)
#define ACCESS_FETCH BIT(1)
#define ACCESS_SYSTEM \
	BIT(2) /* implicit supervisor access: descriptor tables, TSS, IDT (SDM 3A 4.6.1) */
#define ACCESS_USER BIT(3) /* as if CPL were 3: pushes onto an outer stack */

struct x86_fault {
	u8 vector;
	bool has_error;
	u32 error;
	u64 address; /* #PF: the linear address for CR2 */
	u64 dr6;     /* #DB: bits to set in DR6 */
};

enum x86_flush {
	X86_FLUSH_ALL,	     /* every entry, global ones too */
	X86_FLUSH_NONGLOBAL, /* the current PCID's entries except global ones */
	X86_FLUSH_PAGE,	     /* one linear address in the current PCID, global or not */
	X86_FLUSH_PCID,	     /* every non-global entry of one PCID */
	X86_FLUSH_PCID_PAGE, /* one address in one PCID, not global */
};

struct x86_cpu;

/*
 * All effects. ctx is the owner's. Linear accesses translate and check with x86_translate() or an
 * engine's TLB in front of it; they may cross pages and are all-or-nothing as to faults.
 */
struct x86_ops {
	/* Linear memory, len <= 4096. X86_FAULT with cpu->fault set, else X86_OK. */
	int (*load)(struct x86_cpu *cpu, gva_t at, void *buf, unsigned len, unsigned access);
	int (*store)(struct x86_cpu *cpu, gva_t at, const void *buf, unsigned len, unsigned access);

	/* Guest-physical memory, for page-table walks; size 4 or 8, naturally aligned. Reads of
	 * what is not RAM return all ones. phys_cas returns false when the old value was no longer
	 * there. */
	u64 (*phys_load)(struct x86_cpu *cpu, gpa_t at, unsigned size);
	bool (*phys_cas)(struct x86_cpu *cpu, gpa_t at, u64 old, u64 new, unsigned size);
	/* Guest-physical store that needs no translation (kvmclock pages); false when not RAM. */
	bool (*phys_store)(struct x86_cpu *cpu, gpa_t at, const void *buf, unsigned len);

	/* Translations that must be forgotten; `pcid` and `at` as the kind needs. */
	void (*flush)(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid);
	/* CS, CPL, CR0, CR4, EFER, RFLAGS.VM or DR7 changed in a way that changes how code decodes
	 * or which translations apply; or CR3 did, with PCIDs: then possibly without a flush, and a
	 * TLB whose entries carry no PCID must forget the non-global ones. */
	void (*mode_changed)(struct x86_cpu *cpu);

	/* Port I/O after the permission check; size 1, 2 or 4. Never fault. */
	u32 (*port_in)(struct x86_cpu *cpu, u16 port, unsigned size);
	void (*port_out)(struct x86_cpu *cpu, u16 port, unsigned size, u32 value);

	/* MSRs owned outside x86/ (local APIC base and x2APIC range, TSC deadline, kvmclock side
	 * effects). Return false for "no such MSR": the caller raises #GP(0). */
	bool (*msr_read)(struct x86_cpu *cpu, u32 index, u64 *value);
	bool (*msr_write)(struct x86_cpu *cpu, u32 index, u64 value);

	u64 (*cr8_read)(struct x86_cpu *cpu);
	void (*cr8_write)(struct x86_cpu *cpu, u64 value);

	u64 (*host_tsc)(struct x86_cpu *cpu);
	/* The guest has moved its counter: s.tsc_offset is new. NULL: nobody waits for a value of
	 * it. */
	void (*tsc_changed)(struct x86_cpu *cpu);

	/* For kvmclock. clock_ns: nanoseconds of guest time at that host TSC value, one linear
	 * function for all vcpus of the machine, so that their clocks agree exactly; NULL: host TSC
	 * over tsc_hz. wall_ns: nanoseconds since 1970 UTC now; NULL: the wall clock reads as the
	 * epoch. */
	u64 (*clock_ns)(struct x86_cpu *cpu, u64 host_tsc);
	u64 (*wall_ns)(struct x86_cpu *cpu);
};

struct x86_model; /* x86/cpuid.h */

struct x86_cpu {
	struct x86_state s;
	struct x86_fault fault;
	const struct x86_ops *ops;
	const struct x86_model *model;
	void *ctx;
	u8 last_vector; /* for messages: the last exception delivered, 0xff for none */
	u32 last_error;
	u64 last_rip;
};

/* Fill cpu->fault and return X86_FAULT, so that callers write `return x86_gp(cpu, 0)`. */
int x86_fault_plain(struct x86_cpu *cpu, enum x86_vector v);	       /* no error code */
int x86_fault_code(struct x86_cpu *cpu, enum x86_vector v, u32 error); /* with error code */
static inline int x86_ud(struct x86_cpu *cpu) { return x86_fault_plain(cpu, X86_UD); }
static inline int x86_nm(struct x86_cpu *cpu) { return x86_fault_plain(cpu, X86_NM); }
static inline int x86_gp(struct x86_cpu *cpu, u32 error)
{
	return x86_fault_code(cpu, X86_GP, error);
}

/* Typed linear accesses through ops, zero-extended; size 1, 2, 4 or 8. */
int x86_load(struct x86_cpu *cpu, gva_t at, unsigned size, unsigned access, u64 *value);
int x86_store(struct x86_cpu *cpu, gva_t at, unsigned size, unsigned access, u64 value);

/*
 * Power-on state (SDM 3A 9.1.1) for the processor, and the state after INIT (keeps what INIT
 * keeps). x86_sipi starts a waiting processor at vector << 12.
 */
void x86_reset(struct x86_cpu *cpu);
void x86_init(struct x86_cpu *cpu);
void x86_sipi(struct x86_cpu *cpu, u8 vector);

/* One line naming RIP, CS, mode and the last exception, for error messages. */
void x86_describe(const struct x86_cpu *cpu, char *text, size_t size);

/* The field table of struct x86_state lives in machine/, which may include state/ and x86/. */
