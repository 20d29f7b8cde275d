/*
 * Interrupts taken as the 8086 took them: in real mode, and in virtual-8086 mode when CR4.VME lets
 * INT n stay inside the virtual machine (SDM 3B 20.3.3, table 20-2).
 */
#include "x86/x86_priv.h"

int x86_enter_8086(struct x86_cpu *cpu, gva_t entry, u16 flags, u64 rip)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	struct x86_frame f = { .slot = 2 };
	u64 target;

	TRY(x86_load(cpu, entry, 4, ACCESS_SYSTEM, &target));
	frame_push(&f, flags);
	frame_push(&f, s->seg[X86_CS].selector);
	frame_push(&f, rip);
	TRY(x86_stack_push(cpu, &stack, &f));
	x86_commit_sp(s, &stack);
	x86_load_real_segment(cpu, X86_CS, (u16)(target >> 16));
	s->rip = target & 0xffff;
	return X86_OK;
}

/* The bit for `vector` in the 32 bytes that end where the I/O permission bitmap begins. A TSS too
 * short to hold it counts as a set bit: not redirected. */
static int redirection_bit(struct x86_cpu *cpu, u8 vector, bool *set)
{
	const struct x86_seg *tr = &cpu->s.seg[X86_TR];
	u64 io_map, byte;

	*set = true;
	if (!range_ok(102, 2, tr->limit + 1ull))
		return X86_OK;
	TRY(x86_load(cpu, gva(tr->base + 102), 2, ACCESS_SYSTEM, &io_map));
	if (io_map < 32 || !range_ok(io_map - 32 + vector / 8, 1, tr->limit + 1ull))
		return X86_OK;
	TRY(x86_load(cpu, gva(tr->base + io_map - 32 + vector / 8), 1, ACCESS_SYSTEM, &byte));
	*set = byte >> (vector & 7) & 1;
	return X86_OK;
}

int x86_v86_int_n(struct x86_cpu *cpu, u8 vector, u64 next_rip, bool *done)
{
	struct x86_state *s = &cpu->s;
	bool trusted = x86_iopl(s) == 3, monitored = true;
	u64 flags = s->rflags;

	if (s->cr4 & CR4_VME)
		TRY(redirection_bit(cpu, vector, &monitored));
	if (monitored) {
		*done = false;
		return trusted ? X86_OK : x86_gp(cpu, 0);
	}
	if (!trusted) /* the program sees VIF as its IF and itself at IOPL 3 */
		flags = (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
	TRY(x86_enter_8086(cpu, gva(vector * 4u), (u16)flags, next_rip));
	s->rflags &= ~(FLAG_TF | FLAG_RF | (trusted ? FLAG_IF : FLAG_VIF));
	cpu->ops->mode_changed(cpu);
	*done = true;
	return X86_OK;
}
