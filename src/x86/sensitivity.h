/*
 * Which instructions stand in the way of virtualization, and how each engine gets round them: data
 * for `strata isa-audit`, the counters of `strata run --stats`, and the test that executes all of
 * them without privileges (tests/diff/audit.c).
 *
 * Popek and Goldberg (CACM 17(7), 1974) ask that every sensitive instruction be privileged, so that
 * a kernel run without privileges traps wherever it must be emulated. An instruction is privileged
 * it faults at CPL 3 and does not at CPL 0 control-sensitive     it changes what belongs to the
 * machine: mode, tables, interrupts, devices behaviour-sensitive   its result tells or depends on
 * such things, or on the privilege level and what is sensitive but not privileged violates the
 * condition: no trap tells the hypervisor.
 */
#pragma once
#include "base/types.h"

/* Exactly one per instruction: privileged goes first, then control. The index of counters. */
enum x86_sensitivity {
	X86_PRIVILEGED,
	X86_CONTROL_SENSITIVE,
	X86_BEHAVIOUR_SENSITIVE,
	X86_SENSITIVITIES,
};

/* x86_sensitive.traits */
#define X86_TRAIT_PRIVILEGED BIT(0)
#define X86_TRAIT_CONTROL    BIT(1)
#define X86_TRAIT_BEHAVIOUR  BIT(2)
#define X86_TRAIT_CLASSIC    BIT(3) /* on the list of Robin and Irvine, USENIX Security 2000 */
#define X86_TRAIT_UMIP	     BIT(4) /* #GP at CPL 3 when CR4.UMIP is set */
#define X86_TRAIT_INLINE     BIT(5) /* the translator emits code for it; it hands all others over */
#define X86_TRAIT_EXIT \
	BIT(6) /* hardware can leave the guest: then the kernel or this program emulates */
#define X86_TRAIT_ABSENT BIT(7) /* not in the guest's CPU model: #UD in every engine of ours */

#define X86_NO_FAULT 0xff

struct x86_sensitive {
	const char *name;
	u8 code[5], length; /* an example in 64-bit code; memory operands are [rbx] */
	u8 vector;	    /* of the fault at CPL 3 and IOPL 0, or X86_NO_FAULT */
	u8 traits;
	const char *why;    /* it is sensitive */
	const char *source; /* the file, below src/, that says what it means to the interpreter */
};

extern const struct x86_sensitive x86_sensitives[];
extern const unsigned x86_sensitives_count;

enum x86_sensitivity x86_sensitivity_of(const struct x86_sensitive *i);
const char *x86_sensitivity_name(enum x86_sensitivity class);
/* Sensitive without being privileged. */
bool x86_sensitivity_violates(const struct x86_sensitive *i);
