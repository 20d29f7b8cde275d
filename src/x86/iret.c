/*
 * IRET in all its forms (SDM 2, IRET): real mode, virtual-8086 mode (with and without VME), to the
 * previous task (NT), to virtual-8086 mode, and to the same or an outer level in protected and
 * long mode.
 *
 * The forms differ in how much they pop and in which flags they may change; the masks are
 * below. NMIs are unblocked even by an IRET that faults (SDM 3A 6.7.1).
 */
#include "x86/x86_priv.h"

#define FLAGS_ALWAYS (FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE   (FLAG_RF | FLAG_AC | FLAG_ID) /* with 32- and 64-bit operands */

static void merge_flags(struct x86_state *s, u64 image, u64 mask, unsigned size)
{
	mask &= mask_bytes(size);
	s->rflags = (s->rflags & ~mask) | (image & mask) | FLAG_ONE;
}

/* From real mode, and from virtual-8086 mode with IOPL 3, which then cannot change IOPL. */
static int iret_real(struct x86_cpu *cpu, unsigned size)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	u64 iopl = x86_v86(s) ? 0 : FLAG_IOPL;
	u64 image[3];

	TRY(x86_stack_pop(cpu, &stack, size, 3, image));
	TRY(x86_jump_real(cpu, (u16)image[1], image[0]));
	x86_commit_sp(s, &stack);
	merge_flags(s, image[2], FLAGS_ALWAYS | FLAGS_WIDE | FLAG_IF | iopl, size);
	return X86_OK;
}

/* IOPL < 3 with CR4.VME: IF in the image is the program's, that is VIF. */
static int iret_vme(struct x86_cpu *cpu)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	u64 image[3];

	TRY(x86_stack_pop(cpu, &stack, 2, 3, image));
	if ((image[2] & FLAG_TF) || ((image[2] & FLAG_IF) && (s->rflags & FLAG_VIP)))
		return x86_gp(cpu, 0);
	TRY(x86_jump_real(cpu, (u16)image[1], image[0]));
	x86_commit_sp(s, &stack);
	merge_flags(s, image[2], FLAGS_ALWAYS, 2);
	s->rflags = (s->rflags & ~FLAG_VIF) | (image[2] & FLAG_IF ? FLAG_VIF : 0);
	return X86_OK;
}

static int iret_v86(struct x86_cpu *cpu, unsigned size)
{
	if (x86_iopl(&cpu->s) == 3)
		return iret_real(cpu, size);
	if (size == 2 && (cpu->s.cr4 & CR4_VME))
		return iret_vme(cpu);
	return x86_gp(cpu, 0);
}

/* Popped after EIP, CS, EFLAGS: ESP, SS, ES, DS, FS, GS. */
static int return_to_v86(struct x86_cpu *cpu, struct x86_stack *stack, const u64 *image)
{
	static const enum x86_segreg order[] = { X86_SS, X86_ES, X86_DS, X86_FS, X86_GS };
	struct x86_state *s = &cpu->s;
	u64 more[6];

	TRY(x86_stack_pop(cpu, stack, 4, ARRAY_LEN(more), more));
	if (image[0] > 0xffff)
		return x86_gp(cpu, 0);
	merge_flags(s, image[2],
		FLAGS_ALWAYS | FLAGS_WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP, 4);
	x86_load_real_segment(cpu, X86_CS, (u16)image[1]);
	for (unsigned i = 0; i < ARRAY_LEN(order); i++)
		x86_load_real_segment(cpu, order[i], (u16)more[i + 1]);
	s->rip = image[0];
	s->gpr[RSP] = more[0];
	cpu->ops->mode_changed(cpu);
	return X86_OK;
}

static int return_to_task(struct x86_cpu *cpu)
{
	struct x86_task t = { .source = X86_TASK_IRET, .rip = cpu->s.rip, .rflags = cpu->s.rflags };
	u64 link;

	if (x86_long_mode(&cpu->s))
		return x86_gp(cpu, 0);
	TRY(x86_load(cpu, gva(cpu->s.seg[X86_TR].base), 2, ACCESS_SYSTEM, &link));
	t.selector = (u16)link;
	return x86_switch_task(cpu, &t);
}

/* SDM 2, IRET: which flags a return from privilege level `cpl` may change. */
static u64 protected_mask(const struct x86_state *s, unsigned cpl)
{
	u64 mask = FLAGS_ALWAYS | FLAGS_WIDE;

	if (cpl <= x86_iopl(s))
		mask |= FLAG_IF;
	if (cpl == 0)
		mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
	return mask;
}

static int iret_protected(struct x86_cpu *cpu, unsigned size)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	unsigned cpl = x86_cpl(s);
	u64 image[3], outer[2];
	struct x86_return r;

	TRY(x86_stack_pop(cpu, &stack, size, 3, image));
	if (size == 4 && (image[2] & FLAG_VM) && cpl == 0 && !x86_long_mode(s))
		return return_to_v86(cpu, &stack, image);
	r = (struct x86_return){ .cs = (u16)image[1], .rip = image[0] };
	TRY(x86_fetch_return_desc(cpu, r.cs, &r.cs_desc));
	/* 64-bit mode pops SS:RSP always, so that a handler's frame has one form. */
	r.switch_stack = selector_rpl(r.cs) > cpl || x86_code64(s);
	if (r.switch_stack) {
		TRY(x86_stack_pop(cpu, &stack, size, 2, outer));
		r.sp = outer[0];
		r.ss = (u16)outer[1];
	} else {
		r.sp = stack.sp;
	}
	TRY(x86_check_return(cpu, &r));
	merge_flags(s, image[2], protected_mask(s, cpl), size);
	x86_commit_return(cpu, &r);
	return X86_OK;
}

int x86_iret(struct x86_cpu *cpu, unsigned size)
{
	cpu->s.blocking &= ~BLOCK_NMI;
	if (!x86_protected(&cpu->s))
		return iret_real(cpu, size);
	if (x86_v86(&cpu->s))
		return iret_v86(cpu, size);
	if (cpu->s.rflags & FLAG_NT)
		return return_to_task(cpu);
	return iret_protected(cpu, size);
}
