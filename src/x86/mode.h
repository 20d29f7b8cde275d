/* Predicates on the current mode (SDM 3A 2.2). All are pure functions of the state. */
#pragma once
#include "x86/state.h"

static inline bool x86_protected(const struct x86_state *s) { return s->cr0 & CR0_PE; }
static inline bool x86_paging(const struct x86_state *s) { return s->cr0 & CR0_PG; }
static inline bool x86_v86(const struct x86_state *s) { return s->rflags & FLAG_VM; }
static inline bool x86_long_mode(const struct x86_state *s) { return s->efer & EFER_LMA; }
/* 64-bit submode: long mode and CS.L */
static inline bool x86_code64(const struct x86_state *s)
{
	return (s->efer & EFER_LMA) && (s->seg[X86_CS].attr & SEG_L);
}
/* Real-address or virtual-8086: segment loads do not read descriptors. */
static inline bool x86_real_segments(const struct x86_state *s)
{
	return !x86_protected(s) || x86_v86(s);
}
/* Outside real mode and virtual-8086 the CPL is SS.DPL (as VMX and SVM define it). */
static inline unsigned x86_cpl(const struct x86_state *s)
{
	if (!x86_protected(s))
		return 0;
	return x86_v86(s) ? 3 : SEG_DPL(s->seg[X86_SS].attr);
}
static inline unsigned x86_iopl(const struct x86_state *s) { return (s->rflags >> 12) & 3; }
/* Bytes of the default operand size of code: 2, 4, or 4 in 64-bit code. */
static inline unsigned x86_code_bits(const struct x86_state *s)
{
	if (x86_code64(s))
		return 64;
	return s->seg[X86_CS].attr & SEG_DB ? 32 : 16;
}
/* Mask for the stack pointer: SS.B, or 64 bits in 64-bit code. */
static inline u64 x86_stack_mask(const struct x86_state *s)
{
	if (x86_code64(s))
		return ~0ull;
	return s->seg[X86_SS].attr & SEG_DB ? 0xffffffffull : 0xffffull;
}
static inline bool x86_canonical(u64 v) { return (u64)((s64)(v << 16) >> 16) == v; }
static inline bool x86_irq_enabled(const struct x86_state *s)
{
	return (s->rflags & FLAG_IF) && !(s->blocking & (BLOCK_STI | BLOCK_MOV_SS));
}
