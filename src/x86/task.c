/*
 * Hardware task switches (SDM 3A chapter 7), 16- and 32-bit; long mode has none.
 *
 * The two TSS formats are two rows of a layout table. A switch goes
 *
 *   check    the new TSS descriptor, both TSSs' sizes; read the new TSS; prove that the busy bits
 * and the link can be written, so that nothing after this can fail half-way save     the outgoing
 * registers into the old TSS, link and busy bits load     everything from the new TSS; from here on
 * we are the new task settle   LDT, segments, error code: faults here belong to the new task (SDM
 * 3A table 7-1)
 *
 * Segment registers are unusable until their descriptors have passed, with SS carrying the CPL.
 */
#include "x86/paging.h"
#include "x86/transfer.h"
#include "x86/x86_priv.h"

#define DR6_BT		BIT64(15)
#define DR7_LOCAL	0x155ull /* L0-L3, LE: cleared by a task switch (SDM 3B 17.2.4) */
#define TSS_MAX		104
#define TSS_DESC_ACCESS 5 /* the descriptor byte that holds the type */

/* Offsets in a TSS (SDM 3A figures 7-2, 7-10). */
struct tss_layout {
	u8 size, word; /* least size; bytes of a register */
	u8 ip, flags, gpr, sreg, sregs, sreg_stride, ldt;
};
static const struct tss_layout tss16 = {
	.size = 44,
	.word = 2,
	.ip = 14,
	.flags = 16,
	.gpr = 18,
	.sreg = 34,
	.sregs = 4,
	.sreg_stride = 2,
	.ldt = 42,
};
static const struct tss_layout tss32 = {
	.size = 104,
	.word = 4,
	.ip = 32,
	.flags = 36,
	.gpr = 40,
	.sreg = 72,
	.sregs = 6,
	.sreg_stride = 4,
	.ldt = 96,
};
#define TSS32_CR3  28
#define TSS32_TRAP 100

struct switch_plan {
	const struct x86_task *t;
	struct x86_desc desc; /* the new TSS */
	const struct tss_layout *from, *to;
	u8 image[TSS_MAX]; /* the new TSS as read */
	gva_t old_desc;	   /* only meaningful when the old one stops being busy */
	bool nested;	   /* CALL or interrupt: link and NT */
	bool release_old;  /* JMP or IRET: the old task is no longer busy */
};

static const struct tss_layout *layout_of(u32 attr) { return attr & 8 ? &tss32 : &tss16; }
static u32 word(const struct tss_layout *l, const u8 *p)
{
	return l->word == 4 ? get_le32(p) : get_le16(p);
}
static void put_word(const struct tss_layout *l, u8 *p, u64 v)
{
	if (l->word == 4)
		put_le32(p, (u32)v);
	else
		put_le16(p, (u16)v);
}

/* --- check ------------------------------------------------------------------------------------ */

static int check_tss(struct x86_cpu *cpu, struct switch_plan *p)
{
	bool back = p->t->source == X86_TASK_IRET;
	enum x86_vector vector = back ? X86_TS : X86_GP;
	u16 selector = p->t->selector;
	unsigned type;

	if (selector_in_ldt(selector) || selector_null(selector))
		return x86_fault_selector(cpu, vector, selector);
	TRY(x86_fetch_desc(cpu, selector, vector, false, &p->desc));
	type = attr_system(p->desc.attr);
	if ((type & ~(8u | SYS_BUSY)) != SYS_TSS16 || !(type & SYS_BUSY) == back)
		return x86_fault_selector(cpu, vector, selector);
	if (!(p->desc.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	p->to = layout_of(p->desc.attr);
	if (p->desc.limit < p->to->size - 1u)
		return x86_fault_selector(cpu, X86_TS, selector);
	return X86_OK;
}

/* Writes a byte back as it is: a fault now is better than one later. */
static int prove_writable(struct x86_cpu *cpu, gva_t at)
{
	u64 byte;

	TRY(x86_load(cpu, at, 1, ACCESS_SYSTEM, &byte));
	return x86_store(cpu, at, 1, ACCESS_SYSTEM, byte);
}

static int check_switch(struct x86_cpu *cpu, struct switch_plan *p)
{
	const struct x86_seg *tr = &cpu->s.seg[X86_TR];

	TRY(check_tss(cpu, p));
	p->from = layout_of(tr->attr);
	if (tr->limit < p->from->size - 1u)
		return x86_fault_selector(cpu, X86_TS, tr->selector);
	TRY(cpu->ops->load(cpu, gva(p->desc.base), p->image, p->to->size, ACCESS_SYSTEM));
	if (p->nested)
		TRY(prove_writable(cpu, gva(p->desc.base)));
	if (p->t->source != X86_TASK_IRET)
		TRY(prove_writable(cpu, gva(p->desc.at.v + TSS_DESC_ACCESS)));
	p->release_old = !p->nested && x86_desc_at(&cpu->s, tr->selector, 8, &p->old_desc);
	if (p->release_old)
		TRY(prove_writable(cpu, gva(p->old_desc.v + TSS_DESC_ACCESS)));
	if (p->to == &tss32 && x86_paging(&cpu->s) && (cpu->s.cr4 & CR4_PAE))
		TRY(x86_check_pdptes(cpu, get_le32(p->image + TSS32_CR3)));
	return X86_OK;
}

/* --- save ------------------------------------------------------------------------------------- */

/* The dynamic fields, IP to the last segment register, are contiguous: one store. */
static int save_registers(struct x86_cpu *cpu, const struct switch_plan *p)
{
	static const u8 order[] = { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS };
	const struct tss_layout *l = p->from;
	const struct x86_state *s = &cpu->s;
	u64 flags = p->t->rflags & ~(p->t->source == X86_TASK_IRET ? FLAG_NT : 0);
	u8 image[TSS_MAX] = { 0 };

	put_word(l, image + l->ip, p->t->rip);
	put_word(l, image + l->flags, flags);
	for (unsigned i = 0; i < 8; i++)
		put_word(l, image + l->gpr + i * l->word, s->gpr[i]);
	for (unsigned i = 0; i < l->sregs; i++)
		put_le16(image + l->sreg + i * l->sreg_stride, s->seg[order[i]].selector);
	return cpu->ops->store(cpu, gva(s->seg[X86_TR].base + l->ip), image + l->ip,
		(unsigned)(l->ldt - l->ip), ACCESS_SYSTEM | ACCESS_WRITE);
}

static int change_busy(struct x86_cpu *cpu, gva_t desc, bool busy)
{
	gva_t at = gva(desc.v + TSS_DESC_ACCESS);
	u64 byte;

	TRY(x86_load(cpu, at, 1, ACCESS_SYSTEM, &byte));
	return x86_store(cpu, at, 1, ACCESS_SYSTEM, busy ? byte | SYS_BUSY : byte & ~(u64)SYS_BUSY);
}

static int save_old(struct x86_cpu *cpu, const struct switch_plan *p)
{
	TRY(save_registers(cpu, p));
	if (p->nested)
		TRY(x86_store(
			cpu, gva(p->desc.base), 2, ACCESS_SYSTEM, cpu->s.seg[X86_TR].selector));
	if (p->release_old)
		TRY(change_busy(cpu, p->old_desc, false));
	return p->t->source == X86_TASK_IRET ? X86_OK : change_busy(cpu, p->desc.at, true);
}

/* --- load ------------------------------------------------------------------------------------- */

static void load_selectors(struct x86_state *s, const struct switch_plan *p)
{
	static const u8 order[] = { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS };
	const struct tss_layout *l = p->to;

	for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
		u16 selector = i < l->sregs ? get_le16(p->image + l->sreg + i * l->sreg_stride) : 0;

		s->seg[order[i]] = seg_null(selector, 0);
	}
	s->seg[X86_SS].attr |= selector_rpl(s->seg[X86_CS].selector) << 5;
}

static void load_new(struct x86_cpu *cpu, const struct switch_plan *p)
{
	struct x86_state *s = &cpu->s;
	const struct tss_layout *l = p->to;

	for (unsigned i = 0; i < 8; i++)
		s->gpr[i] =
			word(l, p->image + l->gpr + i * l->word) | (l->word == 2 ? 0xffff0000 : 0);
	s->rip = word(l, p->image + l->ip);
	s->rflags = (word(l, p->image + l->flags) & 0x3f7fd7) | FLAG_ONE;
	if (p->nested)
		s->rflags |= FLAG_NT;
	load_selectors(s, p);
	s->seg[X86_LDTR] = seg_null(get_le16(p->image + l->ldt), 0);
	s->seg[X86_TR] = seg_from(&p->desc, p->t->selector);
	s->seg[X86_TR].attr |= SYS_BUSY;
	s->cr0 |= CR0_TS;
	s->dr7 &= ~DR7_LOCAL;
	if (l == &tss32 && x86_paging(s)) {
		s->cr3 = get_le32(p->image + TSS32_CR3);
		cpu->ops->flush(cpu, X86_FLUSH_NONGLOBAL, 0, 0);
	}
	cpu->ops->mode_changed(cpu);
}

/* --- settle ----------------------------------------------------------------------------------- */

static int settle_ldt(struct x86_cpu *cpu)
{
	struct x86_seg *ldtr = &cpu->s.seg[X86_LDTR];
	struct x86_desc desc;

	if (selector_null(ldtr->selector))
		return X86_OK;
	if (selector_in_ldt(ldtr->selector))
		return x86_fault_selector(cpu, X86_TS, ldtr->selector);
	TRY(x86_fetch_desc(cpu, ldtr->selector, X86_TS, false, &desc));
	if (attr_system(desc.attr) != SYS_LDT || !(desc.attr & SEG_P))
		return x86_fault_selector(cpu, X86_TS, ldtr->selector);
	*ldtr = seg_from(&desc, ldtr->selector);
	return X86_OK;
}

static int settle_code(struct x86_cpu *cpu)
{
	struct x86_seg *cs = &cpu->s.seg[X86_CS];
	unsigned rpl = selector_rpl(cs->selector);
	struct x86_desc desc;
	bool dpl_ok;

	if (selector_null(cs->selector))
		return x86_fault_code(cpu, X86_TS, 0);
	TRY(x86_fetch_desc(cpu, cs->selector, X86_TS, false, &desc));
	dpl_ok = attr_conforming(desc.attr) ? SEG_DPL(desc.attr) <= rpl : SEG_DPL(desc.attr) == rpl;
	if (!attr_code(desc.attr) || !dpl_ok)
		return x86_fault_selector(cpu, X86_TS, cs->selector);
	if (!(desc.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, cs->selector);
	TRY(x86_mark_accessed(cpu, &desc));
	*cs = seg_from(&desc, cs->selector);
	return X86_OK;
}

static int settle_stack(struct x86_cpu *cpu)
{
	struct x86_seg *ss = &cpu->s.seg[X86_SS];
	struct x86_desc desc;

	if (selector_null(ss->selector))
		return x86_fault_code(cpu, X86_TS, 0);
	TRY(x86_fetch_stack_desc(cpu, ss->selector, x86_cpl(&cpu->s), X86_TS, &desc));
	TRY(x86_mark_accessed(cpu, &desc));
	*ss = seg_from(&desc, ss->selector);
	return X86_OK;
}

/* As a MOV to the register would, but what would be #GP is #TS. */
static int settle_data(struct x86_cpu *cpu, enum x86_segreg reg)
{
	if (x86_load_segment(cpu, reg, cpu->s.seg[reg].selector) == X86_OK)
		return X86_OK;
	if (cpu->fault.vector == X86_GP)
		cpu->fault.vector = X86_TS;
	return X86_FAULT;
}

static int settle_segments(struct x86_cpu *cpu)
{
	static const enum x86_segreg data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	if (x86_v86(&cpu->s)) {
		for (unsigned i = X86_ES; i <= X86_GS; i++)
			x86_load_real_segment(cpu, (enum x86_segreg)i, cpu->s.seg[i].selector);
		return X86_OK;
	}
	TRY(settle_code(cpu));
	TRY(settle_stack(cpu));
	for (unsigned i = 0; i < ARRAY_LEN(data); i++)
		TRY(settle_data(cpu, data[i]));
	return X86_OK;
}

static int push_error(struct x86_cpu *cpu, const struct switch_plan *p)
{
	struct x86_stack stack = x86_current_stack(&cpu->s);
	struct x86_frame f = { .slot = p->to->word };

	frame_push(&f, p->t->error);
	TRY(x86_stack_push(cpu, &stack, &f));
	x86_commit_sp(&cpu->s, &stack);
	return X86_OK;
}

static int settle(struct x86_cpu *cpu, const struct switch_plan *p)
{
	TRY(settle_ldt(cpu));
	TRY(settle_segments(cpu));
	cpu->ops->mode_changed(cpu);
	TRY(x86_check_rip(cpu, cpu->s.rip));
	if (p->t->has_error)
		TRY(push_error(cpu, p));
	if (p->to == &tss32 && (p->image[TSS32_TRAP] & 1)) {
		x86_fault_plain(cpu, X86_DB);
		cpu->fault.dr6 = DR6_BT;
		return X86_FAULT;
	}
	return X86_OK;
}

int x86_switch_task(struct x86_cpu *cpu, const struct x86_task *t)
{
	struct switch_plan p = {
		.t = t,
		.nested = t->source == X86_TASK_CALL || t->source == X86_TASK_INT,
	};

	TRY(check_switch(cpu, &p));
	TRY(save_old(cpu, &p));
	load_new(cpu, &p);
	return settle(cpu, &p);
}

int x86_task_switch(struct x86_cpu *cpu, u16 selector, enum x86_task_source source, u64 next_rip,
	bool has_error, u32 error)
{
	struct x86_task t = { selector, source, next_rip, cpu->s.rflags, has_error, error };

	return x86_switch_task(cpu, &t);
}
