/*
 * Exceptions and interrupts (SDM 3A chapter 6): real mode, protected mode, virtual-8086 (with
 * CR4.VME redirection of INT n), long mode with IST; inner-stack switches; error codes; double
 * faults and shutdown.
 */
#pragma once
#include "x86/cpu.h"

enum x86_event {
	X86_EVENT_FAULT, /* hardware exception; rip pushed is state.rip (trap-class #DB, too: the
			  * caller has advanced rip) */
	X86_EVENT_INTERRUPT, /* external or NMI: EXT set in error codes it causes */
	X86_EVENT_INT_N,     /* INT n: gate DPL checked; return address is next_rip */
	X86_EVENT_INT3_INTO, /* INT3, INTO: gate DPL checked */
	X86_EVENT_INT1,	     /* 0xf1: not DPL-checked */
};

/*
 * Delivers cpu->fault. Sets CR2 or DR6 as the exception demands, follows the contributory table
 * into #DF (SDM 3A table 6-5), and on a fault while delivering #DF sets activity to X86_SHUTDOWN.
 * Never fails: afterwards the next instruction to run is at state.rip or the processor is shut
 * down.
 */
void x86_deliver(struct x86_cpu *cpu);

/* Delivers an external interrupt or NMI that the caller knows is allowed now; wakes HLT. NMI also
 * sets BLOCK_NMI. Faults on the way are delivered in turn. */
void x86_interrupt(struct x86_cpu *cpu, u8 vector);

/* INT n, INT3, INTO, INT1. A fault (gate DPL, ...) leaves rip at the instruction. */
int x86_software_interrupt(struct x86_cpu *cpu, u8 vector, enum x86_event kind, u64 next_rip);

/* IRET/IRETD/IRETQ in all forms; size 2, 4 or 8. Clears NMI blocking. */
int x86_iret(struct x86_cpu *cpu, unsigned size);

/* Debug breakpoints (SDM 3B 17.2): address matches for an instruction about to run, or for data and
 * I/O accesses that just happened. Return DR6 bits to report, 0 for none. Cheap when DR7 is 0x400.
 */
u64 x86_code_breakpoints(const struct x86_state *s, u64 linear);
u64 x86_data_breakpoints(const struct x86_state *s, u64 linear, unsigned size, bool write);
u64 x86_io_breakpoints(const struct x86_state *s, u16 port, unsigned size);
