/*
 * Control and debug registers, XCR0, the descriptor-table registers and flag writes: values are
 * checked exactly as the manuals say (#GP(0), #UD), consequences (flushes, mode changes) go
 * through ops. None of these functions check CPL: x86_require_cpl0() does, first.
 */
#pragma once
#include "x86/cpu.h"

int x86_require_cpl0(struct x86_cpu *cpu); /* #GP(0) otherwise */

int x86_write_cr(struct x86_cpu *cpu, unsigned cr, u64 value); /* 0, 2, 3, 4, 8; others #UD */
int x86_read_cr(struct x86_cpu *cpu, unsigned cr, u64 *value);
int x86_write_dr(struct x86_cpu *cpu, unsigned dr, u64 value); /* DR7.GD, CR4.DE aliasing */
int x86_read_dr(struct x86_cpu *cpu, unsigned dr, u64 *value);
int x86_xsetbv(struct x86_cpu *cpu, u32 index, u64 value);
int x86_write_efer(struct x86_cpu *cpu, u64 value); /* WRMSR's part; LMA is kept */
int x86_invlpg(struct x86_cpu *cpu, u64 linear);
int x86_invpcid(struct x86_cpu *cpu, u64 type, u64 pcid, u64 linear);
int x86_lmsw(struct x86_cpu *cpu, u16 value);
int x86_clts(struct x86_cpu *cpu);

/* CLI, STI (with VME/PVI virtual interrupts); STI sets BLOCK_STI when IF went from 0 to 1. */
int x86_cli(struct x86_cpu *cpu);
int x86_sti(struct x86_cpu *cpu);
/* PUSHF value and POPF for operand size 2, 4, 8: IOPL, VM, VME and reserved bits as in SDM 2. */
int x86_pushf_value(struct x86_cpu *cpu, unsigned size, u64 *value);
int x86_popf(struct x86_cpu *cpu, unsigned size, u64 value);

/* IN/OUT permission for size bytes at port: CPL vs IOPL, then the TSS bitmap (SDM 1 19.5.2). */
int x86_check_port(struct x86_cpu *cpu, u16 port, unsigned size);

/* SGDT/SIDT/SLDT/STR/SMSW at CPL>0 under CR4.UMIP: #GP(0). */
int x86_check_umip(struct x86_cpu *cpu);

/* FPU availability: x87/MMX (CR0.EM/TS/MP), SSE (OSFXSR), AVX (OSXSAVE, XCR0), AVX-512. */
enum x86_simd {
	X86_SIMD_X87,
	X86_SIMD_WAIT,
	X86_SIMD_MMX,
	X86_SIMD_SSE,
	X86_SIMD_AVX,
	X86_SIMD_AVX512,
	X86_SIMD_FXSAVE,
	X86_SIMD_XSAVE
};
int x86_check_simd(struct x86_cpu *cpu, enum x86_simd kind);
