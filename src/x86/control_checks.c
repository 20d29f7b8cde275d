/*
 * May the current program do this? Privilege level, UMIP, the TSS I/O bitmap, and whether the
 * floating-point and vector units are switched on.
 */
#include "base/bits.h"
#include "x86/control.h"
#include "x86/mode.h"
#include "x86/msr.h"

int x86_require_cpl0(struct x86_cpu *cpu) { return x86_cpl(&cpu->s) ? x86_gp(cpu, 0) : X86_OK; }

int x86_check_umip(struct x86_cpu *cpu)
{
	return (cpu->s.cr4 & CR4_UMIP) && x86_cpl(&cpu->s) ? x86_gp(cpu, 0) : X86_OK;
}

int x86_rdtsc_allowed(struct x86_cpu *cpu)
{
	return (cpu->s.cr4 & CR4_TSD) && x86_cpl(&cpu->s) ? x86_gp(cpu, 0) : X86_OK;
}

#define TSS_IO_MAP_BASE 102u
#define TSS_MIN_LIMIT	103u

/* 32-bit and 64-bit TSSs have a bitmap; its word must lie inside the limit, its last byte too. */
static int check_io_bitmap(struct x86_cpu *cpu, u16 port, unsigned size)
{
	const struct x86_seg *tr = &cpu->s.seg[X86_TR];
	u64 map, word, at;

	if ((tr->attr & SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < TSS_MIN_LIMIT)
		return x86_gp(cpu, 0);
	TRY(x86_load(cpu, gva(tr->base + TSS_IO_MAP_BASE), 2, ACCESS_READ | ACCESS_SYSTEM, &map));
	at = map + port / 8;
	/* The processor always reads two bytes, so an access may straddle (SDM 1 19.5.2). */
	if (at + 1 > tr->limit)
		return x86_gp(cpu, 0);
	TRY(x86_load(cpu, gva(tr->base + at), 2, ACCESS_READ | ACCESS_SYSTEM, &word));
	return (word >> (port & 7)) & (BIT(size) - 1) ? x86_gp(cpu, 0) : X86_OK;
}

int x86_check_port(struct x86_cpu *cpu, u16 port, unsigned size)
{
	const struct x86_state *s = &cpu->s;

	/* Virtual-8086 mode always consults the bitmap: IOPL guards only the interrupt flag there.
	 */
	if (x86_v86(s) || x86_cpl(s) > x86_iopl(s))
		return check_io_bitmap(cpu, port, size);
	return X86_OK;
}

/* SDM 3A table 13-1 and 2-3..2-5, SDM 2A 2.4-2.8 (exception classes). */
static bool simd_undefined(const struct x86_state *s, enum x86_simd kind)
{
	const u64 avx = XCR0_SSE | XCR0_AVX;

	switch (kind) {
	case X86_SIMD_X87:
	case X86_SIMD_WAIT:
	case X86_SIMD_FXSAVE: return false;
	case X86_SIMD_MMX: return s->cr0 & CR0_EM;
	case X86_SIMD_SSE: return (s->cr0 & CR0_EM) || !(s->cr4 & CR4_OSFXSR);
	case X86_SIMD_XSAVE: return !(s->cr4 & CR4_OSXSAVE);
	case X86_SIMD_AVX:
		return x86_real_segments(s) || !(s->cr4 & CR4_OSXSAVE) || (s->xcr0 & avx) != avx;
	case X86_SIMD_AVX512:
		return x86_real_segments(s) || !(s->cr4 & CR4_OSXSAVE) ||
		       (s->xcr0 & (avx | XCR0_AVX512)) != (avx | XCR0_AVX512);
	}
	return true;
}

static bool simd_unavailable(const struct x86_state *s, enum x86_simd kind)
{
	switch (kind) {
	case X86_SIMD_WAIT: return (s->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS);
	case X86_SIMD_X87:
	case X86_SIMD_FXSAVE: return s->cr0 & (CR0_EM | CR0_TS);
	case X86_SIMD_MMX:
	case X86_SIMD_SSE:
	case X86_SIMD_AVX:
	case X86_SIMD_AVX512:
	case X86_SIMD_XSAVE: break;
	}
	return s->cr0 & CR0_TS;
}

int x86_check_simd(struct x86_cpu *cpu, enum x86_simd kind)
{
	if (unlikely(simd_undefined(&cpu->s, kind)))
		return x86_ud(cpu);
	if (unlikely(simd_unavailable(&cpu->s, kind)))
		return x86_nm(cpu);
	return X86_OK;
}
