/*
 * Instructions that read or write RFLAGS as a system register: CLI, STI, PUSHF, POPF.
 *
 * Who may touch IF: CPL <= IOPL. Below that, CR4.VME (virtual-8086) and CR4.PVI (CPL 3) let the
 * program work on VIF instead, with VIP announcing that the system holds an interrupt back for it
 * (SDM 3B 20.3, 20.4). Real mode has CPL 0, so it needs no case of its own.
 */
#include "x86/control.h"
#include "x86/mode.h"

enum if_access { IF_REAL, IF_VIRTUAL, IF_DENIED };

static enum if_access if_access(const struct x86_state *s)
{
	unsigned cpl = x86_cpl(s);

	if (cpl <= x86_iopl(s))
		return IF_REAL;
	if (x86_v86(s))
		return s->cr4 & CR4_VME ? IF_VIRTUAL : IF_DENIED;
	return cpl == 3 && (s->cr4 & CR4_PVI) ? IF_VIRTUAL : IF_DENIED;
}

int x86_cli(struct x86_cpu *cpu)
{
	switch (if_access(&cpu->s)) {
	case IF_REAL: cpu->s.rflags &= ~FLAG_IF; return X86_OK;
	case IF_VIRTUAL: cpu->s.rflags &= ~FLAG_VIF; return X86_OK;
	case IF_DENIED: break;
	}
	return x86_gp(cpu, 0);
}

int x86_sti(struct x86_cpu *cpu)
{
	struct x86_state *s = &cpu->s;

	switch (if_access(s)) {
	case IF_REAL:
		if (!(s->rflags & FLAG_IF))
			s->blocking |= BLOCK_STI;
		s->rflags |= FLAG_IF;
		return X86_OK;
	case IF_VIRTUAL:
		if (s->rflags & FLAG_VIP)
			break;
		s->rflags |= FLAG_VIF;
		return X86_OK;
	case IF_DENIED: break;
	}
	return x86_gp(cpu, 0);
}

/* The virtual-8086 cases with IOPL < 3, where PUSHF and POPF either fault or work on VIF. */
static bool v86_restricted(const struct x86_state *s) { return x86_v86(s) && x86_iopl(s) < 3; }

static bool v86_virtual(const struct x86_state *s, unsigned size)
{
	return (s->cr4 & CR4_VME) && size == 2;
}

int x86_pushf_value(struct x86_cpu *cpu, unsigned size, u64 *value)
{
	const struct x86_state *s = &cpu->s;
	u64 flags = s->rflags & ~(FLAG_VM | FLAG_RF);

	if (v86_restricted(s)) {
		if (!v86_virtual(s, size))
			return x86_gp(cpu, 0);
		flags = (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
	}
	*value = size == 2 ? flags & 0xffff : flags;
	return X86_OK;
}

static int popf_virtual(struct x86_cpu *cpu, u64 value)
{
	const u64 writable = FLAGS_STATUS | FLAG_DF | FLAG_NT;
	struct x86_state *s = &cpu->s;

	if ((value & FLAG_TF) || ((value & FLAG_IF) && (s->rflags & FLAG_VIP)))
		return x86_gp(cpu, 0);
	s->rflags = (s->rflags & ~(writable | FLAG_TF | FLAG_VIF)) | (value & writable) |
		    (value & FLAG_IF ? FLAG_VIF : 0);
	return X86_OK;
}

/* SDM 2B "POPF", table 4-16: which flags each privilege may change. VIP, VIF and VM never do. */
int x86_popf(struct x86_cpu *cpu, unsigned size, u64 value)
{
	struct x86_state *s = &cpu->s;
	u64 writable = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;
	unsigned cpl = x86_cpl(s);

	if (v86_restricted(s))
		return v86_virtual(s, size) ? popf_virtual(cpu, value) : x86_gp(cpu, 0);
	if (size > 2)
		writable |= FLAG_AC | FLAG_ID;
	if (cpl <= x86_iopl(s))
		writable |= FLAG_IF;
	if (cpl == 0)
		writable |= FLAG_IOPL;
	s->rflags = (s->rflags & ~writable) | (value & writable) | FLAG_ONE;
	if (size > 2)
		s->rflags &= ~FLAG_RF;
	return X86_OK;
}
