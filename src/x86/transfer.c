/*
 * Far jumps, calls and returns (SDM 3A 5.8; SDM 2, JMP, CALL, RET).
 *
 * A selector names a code segment, a call gate, a task gate or a TSS. A code segment is entered at
 * the current privilege level. A call gate names code of the same or, for CALL, an inner level;
 * then the stack changes to the one in the TSS and up to 31 parameters are copied across. Task
 * gates and TSSs switch tasks (task.c) and do not exist in long mode.
 */
#include "x86/transfer.h"
#include "x86/x86_priv.h"

/* A far JMP or CALL. */
struct transfer {
	u16 selector;
	u64 offset;
	unsigned size;
	u64 next_rip;
	bool call;
};

struct call_gate {
	u16 selector;
	u64 offset;
	unsigned slot;	     /* bytes of what a call through it pushes */
	unsigned parameters; /* to copy to an inner stack */
};

/* What CS:RIP will be. */
struct target {
	struct x86_desc cs;
	u16 selector;
	u64 rip;
};

static void commit_target(struct x86_cpu *cpu, const struct target *t, unsigned cpl)
{
	cpu->s.seg[X86_CS] = seg_from(&t->cs, (u16)((t->selector & 0xfffc) | cpl));
	cpu->s.rip = t->rip;
	cpu->ops->mode_changed(cpu);
}

static void frame_push_return(const struct x86_state *s, struct x86_frame *f, u64 next_rip)
{
	frame_push(f, s->seg[X86_CS].selector);
	frame_push(f, next_rip);
}

static int push_return(struct x86_cpu *cpu, struct x86_stack *stack, unsigned slot, u64 next_rip)
{
	struct x86_frame f = { .slot = slot };

	frame_push_return(&cpu->s, &f, next_rip);
	return x86_stack_push(cpu, stack, &f);
}

/* --- real-address and virtual-8086 mode ------------------------------------------------------- */

static int far_real(struct x86_cpu *cpu, const struct transfer *t)
{
	struct x86_stack stack = x86_current_stack(&cpu->s);

	if (t->offset > cpu->s.seg[X86_CS].limit)
		return x86_gp(cpu, 0);
	if (t->call) {
		TRY(push_return(cpu, &stack, t->size, t->next_rip));
		x86_commit_sp(&cpu->s, &stack);
	}
	return x86_jump_real(cpu, t->selector, t->offset);
}

/* --- a code segment --------------------------------------------------------------------------- */

static int check_direct(struct x86_cpu *cpu, u16 selector, const struct x86_desc *cs)
{
	unsigned cpl = x86_cpl(&cpu->s), dpl = SEG_DPL(cs->attr);
	bool allowed = attr_conforming(cs->attr) ? dpl <= cpl
						 : dpl == cpl && selector_rpl(selector) <= cpl;

	if (!allowed || (desc_is_code64(&cpu->s, cs) && (cs->attr & SEG_DB)))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(cs->attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	return X86_OK;
}

static int far_code(struct x86_cpu *cpu, const struct transfer *t, const struct x86_desc *cs)
{
	struct target to = { *cs, t->selector, t->offset };
	struct x86_stack stack = x86_current_stack(&cpu->s);

	TRY(check_direct(cpu, t->selector, cs));
	TRY(x86_check_target(cpu, cs, to.rip));
	TRY(x86_mark_accessed(cpu, cs));
	if (t->call) {
		TRY(push_return(cpu, &stack, t->size, t->next_rip));
		x86_commit_sp(&cpu->s, &stack);
	}
	commit_target(cpu, &to, x86_cpl(&cpu->s));
	return X86_OK;
}

/* --- call gates ------------------------------------------------------------------------------- */

/* The rule for every gate and TSS: both CPL and RPL reach its DPL, and it is present. */
static int check_gate(struct x86_cpu *cpu, u16 selector, const struct x86_desc *gate)
{
	unsigned dpl = SEG_DPL(gate->attr);

	if (dpl < x86_cpl(&cpu->s) || dpl < selector_rpl(selector))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(gate->attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	return X86_OK;
}

static int read_call_gate(
	struct x86_cpu *cpu, u16 selector, struct x86_desc *desc, struct call_gate *g)
{
	bool wide = x86_long_mode(&cpu->s);
	bool gate16 = attr_system(desc->attr) == SYS_CALL16;

	TRY(check_gate(cpu, selector, desc));
	if (wide) /* for offset 63:32, which comes where other descriptors have base 63:32 */
		TRY(x86_fetch_desc(cpu, selector, X86_GP, true, desc));
	*g = (struct call_gate){
		.selector = (u16)(desc->lo >> 16),
		.offset = (desc->lo & 0xffff) | (gate16 ? 0 : desc->hi & 0xffff0000),
		.slot = wide	 ? 8
			: gate16 ? 2
				 : 4,
		.parameters = wide ? 0 : desc->hi & 31,
	};
	if (wide)
		g->offset |= desc->base & ~0xffffffffull;
	return X86_OK;
}

static int fetch_gate_target(
	struct x86_cpu *cpu, const struct transfer *t, const struct call_gate *g, struct target *to)
{
	unsigned cpl = x86_cpl(&cpu->s), dpl;
	bool inward_jump;

	if (selector_null(g->selector))
		return x86_gp(cpu, 0);
	TRY(x86_fetch_desc(cpu, g->selector, X86_GP, false, &to->cs));
	to->selector = g->selector;
	to->rip = g->offset;
	dpl = SEG_DPL(to->cs.attr);
	inward_jump = !t->call && !attr_conforming(to->cs.attr) && dpl != cpl;
	if (!attr_code(to->cs.attr) || dpl > cpl || inward_jump)
		return x86_fault_selector(cpu, X86_GP, g->selector);
	if (x86_long_mode(&cpu->s) && (to->cs.attr & (SEG_L | SEG_DB)) != SEG_L)
		return x86_fault_selector(cpu, X86_GP, g->selector);
	if (!(to->cs.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, g->selector);
	TRY(x86_check_target(cpu, &to->cs, to->rip));
	return x86_mark_accessed(cpu, &to->cs);
}

/* Parameters keep their order: the last one pushed by the caller is the last one pushed here. */
static int copy_parameters(struct x86_cpu *cpu, const struct call_gate *g, struct x86_frame *f)
{
	struct x86_stack caller = x86_current_stack(&cpu->s);
	u64 parameter[POP_SLOTS];

	if (!g->parameters)
		return X86_OK;
	TRY(x86_stack_pop(cpu, &caller, g->slot, g->parameters, parameter));
	for (unsigned i = g->parameters; i-- > 0;)
		frame_push(f, parameter[i]);
	return X86_OK;
}

static int call_inward(struct x86_cpu *cpu, const struct transfer *t, const struct call_gate *g,
	const struct target *to)
{
	struct x86_frame f = { .slot = g->slot };
	unsigned cpl = SEG_DPL(to->cs.attr);
	struct x86_state *s = &cpu->s;
	struct x86_stack stack;

	if (x86_long_mode(s))
		TRY(x86_inner_stack64(cpu, 4 + 8 * cpl, cpl, &stack));
	else
		TRY(x86_inner_stack(cpu, cpl, &stack));
	frame_push(&f, s->seg[X86_SS].selector);
	frame_push(&f, s->gpr[RSP]);
	TRY(copy_parameters(cpu, g, &f));
	frame_push_return(s, &f, t->next_rip);
	TRY(x86_stack_push(cpu, &stack, &f));
	s->seg[X86_SS] = stack.seg;
	x86_commit_sp(s, &stack);
	commit_target(cpu, to, cpl);
	return X86_OK;
}

static int far_call_gate(struct x86_cpu *cpu, const struct transfer *t, struct x86_desc *desc)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	struct call_gate g;
	struct target to;

	TRY(read_call_gate(cpu, t->selector, desc, &g));
	TRY(fetch_gate_target(cpu, t, &g, &to));
	if (t->call && !attr_conforming(to.cs.attr) && SEG_DPL(to.cs.attr) < x86_cpl(s))
		return call_inward(cpu, t, &g, &to);
	if (t->call) {
		if (x86_long_mode(s)) /* the target is 64-bit code, and so is its stack */
			stack = x86_other_stack(s, &s->seg[X86_SS], s->gpr[RSP], x86_cpl(s), true);
		stack.selector = 0;
		TRY(push_return(cpu, &stack, g.slot, t->next_rip));
		x86_commit_sp(s, &stack);
	}
	commit_target(cpu, &to, x86_cpl(s));
	return X86_OK;
}

/* --- tasks ------------------------------------------------------------------------------------ */

static int far_task(struct x86_cpu *cpu, const struct transfer *t, const struct x86_desc *desc)
{
	bool gate = attr_system(desc->attr) == SYS_TASK_GATE;
	struct x86_task task = {
		.selector = gate ? (u16)(desc->lo >> 16) : t->selector,
		.source = t->call ? X86_TASK_CALL : X86_TASK_JMP,
		.rip = t->next_rip,
		.rflags = cpu->s.rflags,
	};

	TRY(check_gate(cpu, t->selector, desc));
	return x86_switch_task(cpu, &task);
}

/* --- all of them ------------------------------------------------------------------------------ */

static int far_transfer(struct x86_cpu *cpu, struct transfer t)
{
	bool legacy = !x86_long_mode(&cpu->s);
	struct x86_desc desc;

	t.offset &= mask_bytes(t.size);
	if (x86_real_segments(&cpu->s))
		return far_real(cpu, &t);
	if (selector_null(t.selector))
		return x86_gp(cpu, 0);
	TRY(x86_fetch_desc(cpu, t.selector, X86_GP, false, &desc));
	if (attr_code(desc.attr))
		return far_code(cpu, &t, &desc);
	switch (attr_system(desc.attr)) {
	case SYS_CALL: return far_call_gate(cpu, &t, &desc);
	case SYS_CALL16:
		if (legacy)
			return far_call_gate(cpu, &t, &desc);
		break;
	case SYS_TASK_GATE:
	case SYS_TSS16:
	case SYS_TSS:
		if (legacy)
			return far_task(cpu, &t, &desc);
		break;
	}
	return x86_fault_selector(cpu, X86_GP, t.selector);
}

int x86_jmp_far(struct x86_cpu *cpu, u16 selector, u64 offset, unsigned size, u64 next_rip)
{
	return far_transfer(cpu, (struct transfer){ selector, offset, size, next_rip, false });
}

int x86_call_far(struct x86_cpu *cpu, u16 selector, u64 offset, unsigned size, u64 next_rip)
{
	return far_transfer(cpu, (struct transfer){ selector, offset, size, next_rip, true });
}

static int ret_real(struct x86_cpu *cpu, struct x86_stack *stack, const u64 *image, u16 release)
{
	x86_stack_skip(stack, release);
	TRY(x86_jump_real(cpu, (u16)image[1], image[0]));
	x86_commit_sp(&cpu->s, stack);
	return X86_OK;
}

int x86_ret_far(struct x86_cpu *cpu, unsigned size, u16 release)
{
	struct x86_state *s = &cpu->s;
	struct x86_stack stack = x86_current_stack(s);
	u64 image[2], outer[2];
	struct x86_return r;

	TRY(x86_stack_pop(cpu, &stack, size, 2, image));
	if (x86_real_segments(s))
		return ret_real(cpu, &stack, image, release);
	r = (struct x86_return){ .cs = (u16)image[1], .rip = image[0] };
	TRY(x86_fetch_return_desc(cpu, r.cs, &r.cs_desc));
	x86_stack_skip(&stack, release);
	r.switch_stack = selector_rpl(r.cs) > x86_cpl(s);
	if (r.switch_stack) {
		TRY(x86_stack_pop(cpu, &stack, size, 2, outer));
		r.ss = (u16)outer[1];
		r.sp = outer[0] + release; /* the parameters were copied: both stacks hold them */
	} else {
		r.sp = stack.sp;
	}
	TRY(x86_check_return(cpu, &r));
	x86_commit_return(cpu, &r);
	return X86_OK;
}

int x86_check_rip(struct x86_cpu *cpu, u64 rip)
{
	bool ok = x86_code64(&cpu->s) ? x86_canonical(rip) : rip <= cpu->s.seg[X86_CS].limit;

	return likely(ok) ? X86_OK : x86_gp(cpu, 0);
}
