/*
 * What IRET and far RET share: going back to the same or an outer privilege level (SDM 3A 5.8.6).
 */
#include "x86/x86_priv.h"

static int check_return_stack(struct x86_cpu *cpu, struct x86_return *r)
{
	unsigned cpl = selector_rpl(r->cs);

	if (selector_null(r->ss)) {
		/* Only 64-bit code below CPL 3 runs on a null SS. */
		if (!desc_is_code64(&cpu->s, &r->cs_desc) || cpl == 3 || selector_rpl(r->ss) != cpl)
			return x86_gp(cpu, 0);
		return X86_OK;
	}
	TRY(x86_fetch_stack_desc(cpu, r->ss, cpl, X86_GP, &r->ss_desc));
	return x86_mark_accessed(cpu, &r->ss_desc);
}

int x86_check_return(struct x86_cpu *cpu, struct x86_return *r)
{
	if (r->switch_stack)
		TRY(check_return_stack(cpu, r));
	TRY(x86_check_target(cpu, &r->cs_desc, r->rip));
	return x86_mark_accessed(cpu, &r->cs_desc);
}

/* A 16-bit stack receives SP only: the rest of ESP is the inner level's. */
static void commit_stack(struct x86_state *s, const struct x86_return *r)
{
	struct x86_stack stack = x86_current_stack(s);

	if (!r->switch_stack)
		stack.sp = r->sp;
	else if (desc_is_code64(s, &r->cs_desc))
		stack = (struct x86_stack){ .sp = r->sp, .mask = ~0ull };
	else if (r->ss_desc.attr & SEG_DB)
		stack = (struct x86_stack){ .sp = r->sp, .mask = 0xffffffff };
	else
		stack = (struct x86_stack){ .sp = (s->gpr[RSP] & ~0xffffull) | (u16)r->sp,
			.mask = 0xffff };
	x86_commit_sp(s, &stack);
}

void x86_commit_return(struct x86_cpu *cpu, const struct x86_return *r)
{
	unsigned cpl = selector_rpl(r->cs);
	struct x86_state *s = &cpu->s;
	bool outward = cpl > x86_cpl(s);

	commit_stack(s, r);
	if (r->switch_stack)
		s->seg[X86_SS] =
			selector_null(r->ss) ? seg_null(r->ss, cpl) : seg_from(&r->ss_desc, r->ss);
	s->seg[X86_CS] = seg_from(&r->cs_desc, r->cs);
	s->rip = r->rip;
	if (outward)
		x86_drop_inner_segments(s, cpl);
	cpu->ops->mode_changed(cpu);
}

int x86_jump_real(struct x86_cpu *cpu, u16 selector, u64 ip)
{
	if (ip > cpu->s.seg[X86_CS].limit)
		return x86_gp(cpu, 0);
	x86_load_real_segment(cpu, X86_CS, selector);
	cpu->s.rip = ip;
	cpu->ops->mode_changed(cpu);
	return X86_OK;
}
