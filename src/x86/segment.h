/*
 * Segment registers and descriptors (SDM 3A chapters 3 and 5).
 */
#pragma once
#include "x86/cpu.h"

struct x86_desc {
	u32 lo, hi; /* the eight bytes as fetched */
	u64 base;   /* including bytes 8-11 of a 16-byte system descriptor */
	u32 limit;  /* scaled by G */
	u32 attr;   /* as in struct x86_seg */
	gva_t at;   /* where it was, to set its accessed or busy bit */
};

/*
 * Fetches the descriptor of a non-null selector. `vector` is the fault to raise (X86_GP, X86_TS,
 * X86_NP) with the selector's index as error code when it lies outside its table. System
 * descriptors in long mode are 16 bytes; set `wide` to have the upper half read into base.
 */
int x86_fetch_desc(
	struct x86_cpu *cpu, u16 selector, enum x86_vector vector, bool wide, struct x86_desc *out);

/* MOV/POP/Lxx to ES, SS, DS, FS, GS (not CS): all checks of the current mode. Does not set the
 * MOV SS shadow: the instruction does. */
int x86_load_segment(struct x86_cpu *cpu, enum x86_segreg reg, u16 selector);
/* A segment register as real mode and virtual-8086 mode load it. */
void x86_load_real_segment(struct x86_cpu *cpu, enum x86_segreg reg, u16 selector);

int x86_lldt(struct x86_cpu *cpu, u16 selector);
int x86_ltr(struct x86_cpu *cpu, u16 selector);

/* LAR, LSL, VERR, VERW: true when accessible (ZF=1); *value as the instruction returns it. Can
 * fault only by page faults on the tables. */
int x86_lar(struct x86_cpu *cpu, u16 selector, bool *ok, u32 *value);
int x86_lsl(struct x86_cpu *cpu, u16 selector, bool *ok, u32 *value);
int x86_verify(struct x86_cpu *cpu, u16 selector, bool write, bool *ok);

/* Outside of 64-bit code: may these bytes of the segment be accessed so? */
bool x86_segment_allows(
	const struct x86_state *s, enum x86_segreg reg, u64 ea, unsigned len, unsigned access);
/*
 * Adds the segment base to an effective address and checks type, limit and canonical form for an
 * access of `size` bytes (SDM 3A 5.3): #SS(0) for SS, #GP(0) for others. In 64-bit code only FS
 * and GS have a base, and only canonical form is checked.
 */
int x86_linear(struct x86_cpu *cpu, enum x86_segreg reg, u64 ea, unsigned size, unsigned access,
	gva_t *out);
