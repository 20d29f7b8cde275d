/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM 2; AMD APM 3): between user and kernel without tables.
 * Selectors come from MSRs, the rest of CS and SS is fixed: flat segments.
 *
 * Where the vendors differ, model->amd decides. AMD has SYSCALL in all protected modes, Intel
 * only in 64-bit mode; AMD has SYSENTER in legacy mode only. SYSRET to a non-canonical address is
 * #GP at CPL 0 on Intel; on AMD it succeeds and the next fetch faults at CPL 3. AMD's SYSRET leaves
 * the hidden part of SS as it is but for the DPL; here it becomes the flat segment that every
 * program sets up anyway.
 */
#include "x86/control.h"
#include "x86/cpuid.h"
#include "x86/transfer.h"
#include "x86/x86_priv.h"

/* SDM 2, SYSRET: what RFLAGS may take from R11. */
#define SYSRET_FLAGS 0x3c7fd7ull

static void enter_segments(struct x86_cpu *cpu, u16 cs, u32 code_attr, u16 ss, unsigned cpl)
{
	cpu->s.seg[X86_CS] = seg_flat(cs, code_attr, cpl);
	cpu->s.seg[X86_SS] = seg_flat(ss, FLAT_DATA, cpl);
	cpu->ops->mode_changed(cpu);
}

static bool syscall_exists(const struct x86_cpu *cpu)
{
	return x86_protected(&cpu->s) && (cpu->s.efer & EFER_SCE) &&
	       (cpu->model->amd || x86_code64(&cpu->s));
}

static void syscall_legacy(struct x86_state *s, u64 next_rip)
{
	s->gpr[RCX] = (u32)next_rip;
	s->rip = (u32)s->star;
	s->rflags &= ~(FLAG_IF | FLAG_VM | FLAG_RF);
}

static void syscall_long(struct x86_state *s, u64 next_rip)
{
	s->gpr[RCX] = next_rip;
	s->gpr[R11] = s->rflags & ~FLAG_RF;
	s->rip = x86_code64(s) ? s->lstar : s->cstar;
	s->rflags = (s->rflags & ~(s->sfmask | FLAG_RF)) | FLAG_ONE;
}

int x86_syscall(struct x86_cpu *cpu, u64 next_rip)
{
	struct x86_state *s = &cpu->s;
	u16 selector = (u16)(s->star >> 32) & 0xfffc;

	if (!syscall_exists(cpu))
		return x86_ud(cpu);
	if (x86_long_mode(s))
		syscall_long(s, next_rip);
	else
		syscall_legacy(s, next_rip);
	enter_segments(cpu, selector, x86_long_mode(s) ? FLAT_CODE64 : FLAT_CODE32,
		(u16)(selector + 8), 0);
	return X86_OK;
}

int x86_sysret(struct x86_cpu *cpu, unsigned size)
{
	struct x86_state *s = &cpu->s;
	u16 base = (u16)(s->star >> 48);
	bool to64 = size == 8;
	u64 rip = to64 ? s->gpr[RCX] : (u32)s->gpr[RCX];

	if (!syscall_exists(cpu))
		return x86_ud(cpu);
	if (x86_cpl(s) || (!cpu->model->amd && !x86_canonical(rip)))
		return x86_gp(cpu, 0);
	if (x86_long_mode(s))
		s->rflags = (s->gpr[R11] & SYSRET_FLAGS) | FLAG_ONE;
	else
		s->rflags |= FLAG_IF;
	s->rip = rip;
	enter_segments(cpu, (u16)((base + (to64 ? 16 : 0)) | 3), to64 ? FLAT_CODE64 : FLAT_CODE32,
		(u16)((base + 8) | 3), 3);
	return X86_OK;
}

/* SYSENTER and SYSEXIT: there is none on AMD in long mode, and #GP without a kernel segment. */
static int check_sysenter(struct x86_cpu *cpu)
{
	if (cpu->model->amd && x86_long_mode(&cpu->s))
		return x86_ud(cpu);
	if (!x86_protected(&cpu->s) || selector_null((u16)cpu->s.sysenter_cs))
		return x86_gp(cpu, 0);
	return X86_OK;
}

int x86_sysenter(struct x86_cpu *cpu)
{
	struct x86_state *s = &cpu->s;
	u16 selector = (u16)s->sysenter_cs & 0xfffc;
	bool wide = x86_long_mode(s);

	TRY(check_sysenter(cpu));
	s->rflags &= ~(FLAG_VM | FLAG_IF | FLAG_RF);
	s->gpr[RSP] = wide ? s->sysenter_esp : (u32)s->sysenter_esp;
	s->rip = wide ? s->sysenter_eip : (u32)s->sysenter_eip;
	enter_segments(cpu, selector, wide ? FLAT_CODE64 : FLAT_CODE32, (u16)(selector + 8), 0);
	return X86_OK;
}

int x86_sysexit(struct x86_cpu *cpu, unsigned size)
{
	struct x86_state *s = &cpu->s;
	bool to64 = size == 8;
	u64 rip = to64 ? s->gpr[RDX] : (u32)s->gpr[RDX];
	u64 rsp = to64 ? s->gpr[RCX] : (u32)s->gpr[RCX];
	u16 selector = (u16)((s->sysenter_cs & 0xfffc) + (to64 ? 32 : 16));

	TRY(x86_require_cpl0(cpu)); /* before AMD's #UD in long mode */
	TRY(check_sysenter(cpu));
	if (!x86_canonical(rip) || !x86_canonical(rsp))
		return x86_gp(cpu, 0);
	s->rip = rip;
	s->gpr[RSP] = rsp;
	enter_segments(cpu, (u16)(selector | 3), to64 ? FLAT_CODE64 : FLAT_CODE32,
		(u16)((selector + 8) | 3), 3);
	return X86_OK;
}
