/*
 * Entering a handler through the interrupt descriptor table (SDM 3A 6.12, 6.14; SDM 2, INT n).
 *
 * Real mode has a table of far pointers; protected mode has gates that lead to a code segment of
 * the same or an inner privilege level, on an inner level on the stack that the TSS names; long
 * mode has 16-byte gates that may name a stack of their own (IST). Everything that can fault is
 * done first, the frame last of that; then the registers are loaded. From virtual-8086 mode only
 * level 0 can be entered, and the data segments are pushed and nulled besides.
 */
#include "x86/x86_priv.h"

#define ERROR_EXT BIT(0) /* the event came from outside the program (SDM 3A 6.13) */
#define ERROR_IDT BIT(1) /* the index is one of the IDT */

struct gate {
	u16 selector;
	u32 attr;
	unsigned ist;
	u64 offset;
};

/* What the entry will load. */
struct entry {
	struct x86_desc cs;
	u16 selector;
	unsigned cpl;
	u64 rip;
	struct x86_stack stack;
};

static u32 idt_error(u8 vector) { return vector * 8u | ERROR_IDT; }

static bool from_program(enum x86_event kind)
{
	return kind == X86_EVENT_INT_N || kind == X86_EVENT_INT3_INTO;
}

static int read_gate(struct x86_cpu *cpu, u8 vector, struct gate *g)
{
	unsigned size = x86_long_mode(&cpu->s) ? 16 : 8;
	u32 raw[4] = { 0 };

	if (!range_ok(vector * size, size, cpu->s.idt.limit + 1ull))
		return x86_gp(cpu, idt_error(vector));
	TRY(cpu->ops->load(cpu, gva(cpu->s.idt.base + vector * size), raw, size, ACCESS_SYSTEM));
	*g = (struct gate){
		.selector = (u16)(raw[0] >> 16),
		.attr = (raw[1] >> 8) & 0xff,
		.ist = size == 16 ? raw[1] & 7 : 0,
		.offset = (raw[0] & 0xffff) | (raw[1] & 0xffff0000) | (u64)raw[2] << 32,
	};
	if (!(g->attr & 8))
		g->offset &= 0xffff; /* a 16-bit gate */
	return X86_OK;
}

static int check_gate(struct x86_cpu *cpu, const struct x86_delivery *d, const struct gate *g)
{
	const u32 gates64 = BIT(SYS_INT) | BIT(SYS_TRAP);
	const u32 gates = gates64 | BIT(SYS_TASK_GATE) | BIT(SYS_INT16) | BIT(SYS_TRAP16);
	u32 allowed = x86_long_mode(&cpu->s) ? gates64 : gates;

	if ((g->attr & SEG_S) || !(allowed & BIT(g->attr & SEG_TYPE)))
		return x86_gp(cpu, idt_error(d->vector));
	if (from_program(d->kind) && SEG_DPL(g->attr) < x86_cpl(&cpu->s))
		return x86_gp(cpu, idt_error(d->vector));
	if (!(g->attr & SEG_P))
		return x86_fault_code(cpu, X86_NP, idt_error(d->vector));
	return X86_OK;
}

static int fetch_handler(struct x86_cpu *cpu, const struct gate *g, struct entry *e)
{
	unsigned cpl = x86_cpl(&cpu->s);

	if (selector_null(g->selector))
		return x86_gp(cpu, 0);
	TRY(x86_fetch_desc(cpu, g->selector, X86_GP, false, &e->cs));
	if (!attr_code(e->cs.attr) || SEG_DPL(e->cs.attr) > cpl)
		return x86_fault_selector(cpu, X86_GP, g->selector);
	if (x86_long_mode(&cpu->s) && (e->cs.attr & (SEG_L | SEG_DB)) != SEG_L)
		return x86_fault_selector(cpu, X86_GP, g->selector);
	if (!(e->cs.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, g->selector);
	e->cpl = attr_conforming(e->cs.attr) ? cpl : SEG_DPL(e->cs.attr);
	if (x86_v86(&cpu->s) && e->cpl)
		return x86_fault_selector(cpu, X86_GP, g->selector);
	e->selector = (u16)((g->selector & 0xfffc) | e->cpl);
	e->rip = g->offset;
	return x86_check_target(cpu, &e->cs, e->rip);
}

static void push_data_segments(const struct x86_state *s, struct x86_frame *f)
{
	frame_push(f, s->seg[X86_GS].selector);
	frame_push(f, s->seg[X86_FS].selector);
	frame_push(f, s->seg[X86_DS].selector);
	frame_push(f, s->seg[X86_ES].selector);
}

static void push_return(
	const struct x86_state *s, const struct x86_delivery *d, struct x86_frame *f)
{
	frame_push(f, d->rflags);
	frame_push(f, s->seg[X86_CS].selector);
	frame_push(f, d->rip);
	if (d->has_error)
		frame_push(f, d->error);
}

static void commit(struct x86_cpu *cpu, const struct gate *g, const struct entry *e)
{
	struct x86_state *s = &cpu->s;
	bool from_v86 = x86_v86(s);

	if (e->cpl != x86_cpl(s))
		s->seg[X86_SS] = e->stack.seg;
	x86_commit_sp(s, &e->stack);
	s->seg[X86_CS] = seg_from(&e->cs, e->selector);
	s->rip = e->rip;
	s->rflags &= ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	if (!(g->attr & 1)) /* an interrupt gate, not a trap gate */
		s->rflags &= ~FLAG_IF;
	if (from_v86)
		s->seg[X86_ES] = s->seg[X86_DS] = s->seg[X86_FS] = s->seg[X86_GS] = seg_null(0, 0);
}

static int enter_legacy(struct x86_cpu *cpu, const struct x86_delivery *d, const struct gate *g)
{
	struct x86_frame f = { .slot = g->attr & 8 ? 4 : 2 };
	struct x86_state *s = &cpu->s;
	struct entry e;

	TRY(fetch_handler(cpu, g, &e));
	if (e.cpl < x86_cpl(s)) {
		TRY(x86_inner_stack(cpu, e.cpl, &e.stack));
		if (x86_v86(s))
			push_data_segments(s, &f);
		frame_push(&f, s->seg[X86_SS].selector);
		frame_push(&f, s->gpr[RSP]);
	} else {
		e.stack = x86_current_stack(s);
	}
	push_return(s, d, &f);
	TRY(x86_mark_accessed(cpu, &e.cs));
	TRY(x86_stack_push(cpu, &e.stack, &f));
	commit(cpu, g, &e);
	return X86_OK;
}

/* Which stack a long-mode handler runs on (SDM 3A 6.14.2, 6.14.4, 6.14.5). */
static int long_stack(struct x86_cpu *cpu, const struct gate *g, struct entry *e)
{
	struct x86_seg seg = seg_null((u16)e->cpl, e->cpl);

	if (g->ist)
		return x86_inner_stack64(cpu, 28 + 8 * g->ist, e->cpl, &e->stack);
	if (e->cpl < x86_cpl(&cpu->s))
		return x86_inner_stack64(cpu, 4 + 8 * e->cpl, e->cpl, &e->stack);
	e->stack = x86_other_stack(&cpu->s, &seg, cpu->s.gpr[RSP], e->cpl, true);
	e->stack.selector = 0;
	return X86_OK;
}

static int enter_long(struct x86_cpu *cpu, const struct x86_delivery *d, const struct gate *g)
{
	struct x86_frame f = { .slot = 8 };
	struct x86_state *s = &cpu->s;
	struct entry e;

	TRY(fetch_handler(cpu, g, &e));
	TRY(long_stack(cpu, g, &e));
	e.stack.sp &= ~15ull;
	frame_push(&f, s->seg[X86_SS].selector);
	/* Compatibility-mode code has no upper half of RSP to come back to. */
	frame_push(&f, x86_code64(s) ? s->gpr[RSP] : (u32)s->gpr[RSP]);
	push_return(s, d, &f);
	TRY(x86_mark_accessed(cpu, &e.cs));
	TRY(x86_stack_push(cpu, &e.stack, &f));
	commit(cpu, g, &e);
	return X86_OK;
}

static int enter_real(struct x86_cpu *cpu, const struct x86_delivery *d)
{
	struct x86_state *s = &cpu->s;

	if (!range_ok(d->vector * 4u, 4, s->idt.limit + 1ull))
		return x86_gp(cpu, idt_error(d->vector));
	TRY(x86_enter_8086(cpu, gva(s->idt.base + d->vector * 4u), (u16)d->rflags, d->rip));
	s->rflags &= ~(FLAG_IF | FLAG_TF | FLAG_RF | FLAG_AC);
	return X86_OK;
}

static int enter(struct x86_cpu *cpu, const struct x86_delivery *d)
{
	struct gate g;

	if (!x86_protected(&cpu->s))
		return enter_real(cpu, d);
	TRY(read_gate(cpu, d->vector, &g));
	TRY(check_gate(cpu, d, &g));
	if (attr_system(g.attr) == SYS_TASK_GATE) {
		struct x86_task t = { g.selector, X86_TASK_INT, d->rip, d->rflags, d->has_error,
			d->error };

		return x86_switch_task(cpu, &t);
	}
	return x86_long_mode(&cpu->s) ? enter_long(cpu, d, &g) : enter_legacy(cpu, d, &g);
}

int x86_enter_handler(struct x86_cpu *cpu, const struct x86_delivery *d)
{
	if (enter(cpu, d) != X86_OK) {
		u8 vector = cpu->fault.vector;

		if (!from_program(d->kind) && vector >= X86_TS && vector <= X86_GP)
			cpu->fault.error |= ERROR_EXT;
		return X86_FAULT;
	}
	cpu->s.blocking &= ~(BLOCK_STI | BLOCK_MOV_SS);
	cpu->ops->mode_changed(cpu);
	return X86_OK;
}
