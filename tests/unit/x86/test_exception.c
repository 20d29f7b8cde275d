/*
 * Event delivery and IRET, mode by mode: the frame, the registers, the way back, the error codes,
 * and what happens when delivery itself fails.
 */
#include "fake.h"
#include "x86/exception.h"
#include "x86/segment.h"

#define HANDLER 0xd000u
#define INT32	(SEG_P | 14)
#define TRAP32	(SEG_P | 15)
#define INT16	(SEG_P | 6)
#define USER	A_DPL(3)

static u64 stack_at(const struct fake *f, unsigned slot, unsigned size)
{
	const struct x86_state *s = &f->cpu.s;
	u64 base = x86_code64(s) ? 0 : s->seg[X86_SS].base;

	return fake_get(f, base + (s->gpr[RSP] & x86_stack_mask(s)) + slot * size, size);
}

static void deliver(struct fake *f, u8 vector, bool has_error, u32 error)
{
	f->cpu.fault =
		(struct x86_fault){ .vector = vector, .has_error = has_error, .error = error };
	x86_deliver(&f->cpu);
}

/* --- real mode -------------------------------------------------------------------------------- */

static void real_mode_interrupt_and_iret_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_real(f);
	fake_put(f, 0x21 * 4, 4, 0x12340056);
	s->rflags = FLAG_ONE | FLAG_IF | FLAG_TF | FLAG_CF;
	before = *s;
	assert_ok(x86_software_interrupt(&f->cpu, 0x21, X86_EVENT_INT_N, FAKE_CODE + 2));
	assert_int_equal(s->seg[X86_CS].selector, 0x1234);
	assert_int_equal(s->seg[X86_CS].base, 0x12340);
	assert_int_equal(s->rip, 0x56);
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_CF);
	assert_int_equal(s->gpr[RSP], FAKE_SP3 - 6);
	assert_int_equal(stack_at(f, 0, 2), FAKE_CODE + 2);
	assert_ok(x86_iret(&f->cpu, 2));
	before.rip = FAKE_CODE + 2;
	assert_same_state(&before, s);
	fake_free(f);
}

static void real_mode_stack_wraps_within_a_frame(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_real(f);
	s->seg[X86_SS].base = 0x20000;
	s->gpr[RSP] = 0xabcd0002; /* the high half is not the stack's */
	assert_ok(x86_software_interrupt(&f->cpu, 0x21, X86_EVENT_INT_N, 0xbeef));
	assert_int_equal(s->gpr[RSP], 0xabcdfffc);
	assert_int_equal(fake_get(f, 0x2fffc, 2), 0xbeef);
	assert_int_equal(fake_get(f, 0x20000, 2), 2); /* FLAGS */
	assert_ok(x86_iret(&f->cpu, 2));
	assert_int_equal(s->gpr[RSP], 0xabcd0002);
	assert_int_equal(s->rip, 0xbeef);
	fake_free(f);
}

static void real_mode_idt_too_short_shuts_down(void **state)
{
	struct fake *f = fake_new();

	fake_real(f);
	f->cpu.s.idt.limit = 0;
	deliver(f, X86_UD, false, 0);
	assert_int_equal(f->cpu.s.activity, X86_SHUTDOWN);
	fake_free(f);
}

static void real_mode_iret_beyond_cs_limit_faults(void **state)
{
	struct fake *f = fake_new();

	fake_real(f);
	fake_put(f, FAKE_SP3, 4, 0x10000);
	assert_fault(f, x86_iret(&f->cpu, 4), X86_GP, 0);
	fake_free(f);
}

/* --- protected mode --------------------------------------------------------------------------- */

static void protected_same_level_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_protected(f, 0);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32);
	before = *s;
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, 0xc002));
	assert_int_equal(s->rip, HANDLER);
	assert_int_equal(s->rflags, FLAG_ONE);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 12);
	assert_int_equal(stack_at(f, 0, 4), 0xc002);
	assert_int_equal(stack_at(f, 1, 4), SEL_CODE0);
	assert_int_equal(stack_at(f, 2, 4), FLAG_ONE | FLAG_IF);
	assert_ok(x86_iret(&f->cpu, 4));
	before.rip = 0xc002;
	assert_same_state(&before, s);
	fake_free(f);
}

static void protected_inner_level_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_protected(f, 3);
	fake_idt32(f, X86_GP, SEL_CODE0, HANDLER, TRAP32);
	before = *s;
	deliver(f, X86_GP, true, 0x1234);
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->seg[X86_SS].selector, SEL_DATA0);
	assert_int_equal(s->seg[X86_CS].selector, SEL_CODE0);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 24);
	assert_true(s->rflags & FLAG_IF); /* a trap gate */
	assert_int_equal(stack_at(f, 0, 4), 0x1234);
	assert_int_equal(stack_at(f, 1, 4), FAKE_CODE);
	assert_int_equal(stack_at(f, 2, 4), SEL_CODE3 | 3);
	assert_int_equal(stack_at(f, 3, 4), FLAG_ONE | FLAG_IF | FLAG_RF);
	assert_int_equal(stack_at(f, 4, 4), FAKE_SP3);
	assert_int_equal(stack_at(f, 5, 4), SEL_DATA3 | 3);
	s->gpr[RSP] += 4;
	assert_ok(x86_iret(&f->cpu, 4));
	before.rflags |= FLAG_RF; /* until the instruction has executed */
	assert_same_state(&before, s);
	fake_free(f);
}

static void gate16_pushes_words(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_protected(f, 3);
	fake_idt32(f, 0x80, SEL_CODE0, 0x5678d000, INT16 | USER); /* high half is ignored */
	before = *s;
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(s->rip, HANDLER);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 10);
	assert_int_equal(stack_at(f, 4, 2), SEL_DATA3 | 3);
	assert_ok(x86_iret(&f->cpu, 2));
	assert_same_state(&before, s);
	fake_free(f);
}

static void inner_16bit_stack_takes_all_of_esp(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 3);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32 | USER);
	fake_put(f, FAKE_TSS + 4, 4, 0x12340008);
	fake_put(f, FAKE_TSS + 8, 2, SEL_DATA16);
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(f->cpu.s.gpr[RSP], 0x1234fff4); /* wrapped within 64 KiB */
	assert_int_equal(fake_get(f, 4, 4), SEL_DATA3 | 3);
	assert_int_equal(fake_get(f, 0xfff4, 4), FAKE_CODE);
	fake_free(f);
}

static void inner_stack_from_a_16bit_tss(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 3);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32 | USER);
	f->cpu.s.seg[X86_TR].attr = SEG_P | 3;
	fake_put(f, FAKE_TSS + 2, 2, FAKE_SP1);
	fake_put(f, FAKE_TSS + 4, 2, SEL_DATA0);
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(f->cpu.s.gpr[RSP], FAKE_SP1 - 20);
	fake_free(f);
}

static void interrupt_to_conforming_code_stays_on_its_level(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 3);
	fake_idt32(f, 0x80, SEL_CONFORMING, HANDLER, INT32 | USER);
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(x86_cpl(&f->cpu.s), 3);
	assert_int_equal(f->cpu.s.seg[X86_CS].selector, SEL_CONFORMING | 3);
	assert_int_equal(f->cpu.s.gpr[RSP], FAKE_SP3 - 12);
	fake_free(f);
}

static int int80(struct fake *f)
{
	return x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, 0);
}

static void gate_faults_name_gate_segment_or_stack(void **state)
{
	struct fake *f = fake_new();
	const u32 idt = 0x80 * 8 + 2;

	fake_protected(f, 3);
	assert_fault(f, int80(f), X86_GP, idt); /* type 0 */
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32);
	assert_fault(f, int80(f), X86_GP, idt); /* DPL 0 */
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, (INT32 & ~SEG_P) | USER);
	assert_fault(f, int80(f), X86_NP, idt);
	fake_idt32(f, 0x80, 3, HANDLER, INT32 | USER);
	assert_fault(f, int80(f), X86_GP, 0);
	fake_idt32(f, 0x80, SEL_DATA0, HANDLER, INT32 | USER);
	assert_fault(f, int80(f), X86_GP, SEL_DATA0);
	fake_idt32(f, 0x80, SEL_ABSENT_CODE, HANDLER, INT32 | USER);
	assert_fault(f, int80(f), X86_NP, SEL_ABSENT_CODE);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32 | USER);
	fake_put(f, FAKE_TSS + 8, 2, 0);
	assert_fault(f, int80(f), X86_TS, 0);
	fake_put(f, FAKE_TSS + 8, 2, SEL_DATA3 | 3);
	assert_fault(f, int80(f), X86_TS, SEL_DATA3);
	fake_desc(f, SEL_FREE, 0, 0xfffff, A_DATA & ~SEG_P);
	fake_put(f, FAKE_TSS + 8, 2, SEL_FREE);
	assert_fault(f, int80(f), X86_SS_FAULT, SEL_FREE);
	fake_desc(f, SEL_FREE, 0, FAKE_SP0 - 30, A_DATA & ~SEG_G); /* too small for the frame */
	assert_fault(f, int80(f), X86_SS_FAULT, SEL_FREE);
	f->cpu.s.seg[X86_TR].limit = 8;
	assert_fault(f, int80(f), X86_TS, SEL_TSS);
	f->cpu.s.idt.limit = 0x3ff;
	assert_fault(f, int80(f), X86_GP, idt);
	fake_free(f);
}

static void external_events_set_ext(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	fake_idt32(f, 0x30, SEL_ABSENT_CODE, HANDLER, INT32);
	fake_idt32(f, X86_NP, SEL_CODE0, HANDLER, INT32);
	x86_interrupt(&f->cpu, 0x30);
	assert_int_equal(f->cpu.s.rip, HANDLER);
	assert_int_equal(f->cpu.last_vector, X86_NP);
	assert_int_equal(stack_at(f, 0, 4), SEL_ABSENT_CODE | 1);
	fake_free(f);
}

static void interrupt_wakes_and_nmi_blocks_until_iret(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	fake_idt32(f, X86_NMI, SEL_CODE0, HANDLER, INT32);
	s->activity = X86_HALTED;
	s->blocking = BLOCK_STI;
	x86_interrupt(&f->cpu, X86_NMI);
	assert_int_equal(s->activity, X86_RUNNING);
	assert_int_equal(s->blocking, BLOCK_NMI);
	assert_ok(x86_iret(&f->cpu, 4));
	assert_int_equal(s->blocking, 0);
	fake_free(f);
}

static void debug_exception_reports_in_dr6_and_clears_gd(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	fake_idt32(f, X86_DB, SEL_CODE0, HANDLER, INT32);
	s->dr7 |= BIT64(13);
	s->dr6 |= 8;
	f->cpu.fault = (struct x86_fault){ .vector = X86_DB, .dr6 = BIT64(14) | 1 };
	x86_deliver(&f->cpu);
	assert_int_equal(s->dr6, 0xffff0ff0 | BIT64(14) | 1);
	assert_int_equal(s->dr7, 0x400);
	assert_false(stack_at(f, 2, 4) & FLAG_RF); /* a trap or instruction breakpoint */
	fake_free(f);
}

/* --- when delivery fails ---------------------------------------------------------------------- */

static void contributory_pair_becomes_double_fault(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 3);
	fake_idt32(f, X86_DF, SEL_CODE0, HANDLER, INT32);
	deliver(f, X86_GP, true, 0); /* its gate is empty: a second #GP */
	assert_int_equal(f->cpu.s.rip, HANDLER);
	assert_int_equal(f->cpu.last_vector, X86_DF);
	assert_int_equal(stack_at(f, 0, 4), 0);
	assert_int_equal(stack_at(f, 1, 4), FAKE_CODE);
	fake_free(f);
}

static void benign_then_contributory_is_served_in_turn(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 3);
	fake_idt32(f, X86_GP, SEL_CODE0, HANDLER, INT32);
	deliver(f, X86_UD, false, 0);
	assert_int_equal(f->cpu.s.rip, HANDLER);
	assert_int_equal(stack_at(f, 0, 4), X86_UD * 8 + 2 + 1);
	fake_free(f);
}

static void no_double_fault_handler_shuts_down(void **state)
{
	struct fake *f = fake_new();
	char text[200];

	fake_protected(f, 3);
	deliver(f, X86_PF, true, 0);
	assert_int_equal(f->cpu.s.activity, X86_SHUTDOWN);
	x86_describe(&f->cpu, text, sizeof(text));
	assert_non_null(strstr(text, "rip 0xc000"));
	assert_non_null(strstr(text, "#DF"));
	fake_free(f);
}

static void page_fault_during_page_fault_shows_the_second_address(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 3);
	fake_idt64(f, X86_PF, SEL_CODE64, HANDLER, INT32, 0);
	fake_idt64(f, X86_DF, SEL_CODE64, HANDLER + 16, INT32, 1);
	fake_put(f, FAKE_TSS + 4, 8, 0x50000000);
	f->cpu.fault = (struct x86_fault){
		.vector = X86_PF, .has_error = true, .error = 4, .address = 0x1000
	};
	x86_deliver(&f->cpu);
	assert_int_equal(s->rip, HANDLER + 16);
	assert_int_equal(s->cr2, 0x50000000 - 48);
	assert_int_equal(stack_at(f, 0, 8), 0);
	fake_free(f);
}

/* --- virtual-8086 mode ------------------------------------------------------------------------ */

static void v86_interrupt_to_ring0_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_v86(f, 3);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32 | USER);
	before = *s;
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, s->rip));
	assert_false(x86_v86(s));
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 36);
	assert_int_equal(stack_at(f, 8, 4), before.seg[X86_GS].selector);
	assert_int_equal(stack_at(f, 5, 4), before.seg[X86_ES].selector);
	assert_true(s->seg[X86_DS].attr & SEG_UNUSABLE);
	assert_ok(x86_iret(&f->cpu, 4));
	for (unsigned i = X86_ES; i <= X86_GS; i++) /* a real return recomputes the bases */
		before.seg[i].base = (u64)before.seg[i].selector << 4;
	assert_same_state(&before, s);
	fake_free(f);
}

static void v86_int_n_needs_iopl_or_redirection(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_v86(f, 0);
	fake_idt32(f, 0x80, SEL_CODE0, HANDLER, INT32 | USER);
	fake_put(f, 0x80 * 4, 4, 0x03000010);
	assert_fault(f, int80(f), X86_GP, 0);
	s->cr4 |= CR4_VME;
	fake_put(f, FAKE_TSS + 0x68 + 0x80 / 8, 1, 1);
	assert_fault(f, int80(f), X86_GP, 0);
	fake_put(f, FAKE_TSS + 0x68 + 0x80 / 8, 1, 0);
	s->rflags |= FLAG_VIF;
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, 0x22));
	assert_true(x86_v86(s));
	assert_int_equal(s->seg[X86_CS].selector, 0x300);
	assert_int_equal(s->rip, 0x10);
	assert_int_equal(s->rflags & (FLAG_VIF | FLAG_IF), FLAG_IF);
	assert_int_equal(stack_at(f, 2, 2), FLAG_ONE | FLAG_IF | FLAG_IOPL); /* IF is VIF */
	assert_ok(x86_iret(&f->cpu, 2));
	assert_int_equal(s->rip, 0x22);
	assert_int_equal(s->rflags & (FLAG_VIF | FLAG_IOPL), FLAG_VIF); /* IOPL is not taken */
	assert_fault(f, x86_iret(&f->cpu, 4), X86_GP, 0);
	fake_free(f);
}

static void v86_gate_to_other_levels_is_refused(void **state)
{
	struct fake *f = fake_new();

	fake_v86(f, 3);
	fake_idt32(f, 0x80, SEL_CODE1, HANDLER, INT32 | USER);
	assert_fault(f, int80(f), X86_GP, SEL_CODE1);
	fake_idt32(f, 0x80, SEL_CONFORMING, HANDLER, INT32 | USER);
	assert_fault(f, int80(f), X86_GP, SEL_CONFORMING);
	fake_free(f);
}

/* --- long mode -------------------------------------------------------------------------------- */

static void long_mode_user_to_kernel_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_long(f, 3);
	fake_idt64(f, X86_PF, SEL_CODE64, HANDLER, INT32, 0);
	s->gpr[RSP] = 0x7ff9;
	before = *s;
	f->cpu.fault = (struct x86_fault){
		.vector = X86_PF, .has_error = true, .error = 6, .address = 0x123456789
	};
	x86_deliver(&f->cpu);
	assert_int_equal(s->cr2, 0x123456789);
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->seg[X86_SS].selector, 0);
	assert_true(s->seg[X86_SS].attr & SEG_UNUSABLE);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 48);
	assert_int_equal(stack_at(f, 0, 8), 6);
	assert_int_equal(stack_at(f, 4, 8), 0x7ff9);
	s->gpr[RSP] += 8;
	assert_ok(x86_iret(&f->cpu, 8));
	before.cr2 = 0x123456789;
	before.rflags |= FLAG_RF;
	assert_same_state(&before, s);
	fake_free(f);
}

static void long_mode_aligns_the_stack_and_honours_ist(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	fake_idt64(f, 0x80, SEL_CODE64, HANDLER, INT32, 0);
	fake_idt64(f, 0x81, SEL_CODE64, HANDLER, INT32, 1);
	s->gpr[RSP] = FAKE_SP0 - 3;
	assert_ok(x86_software_interrupt(&f->cpu, 0x80, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 16 - 40);
	assert_int_equal(s->seg[X86_SS].selector, SEL_DATA0); /* same level: SS stays */
	assert_ok(x86_iret(&f->cpu, 8));
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 3);
	assert_ok(x86_software_interrupt(&f->cpu, 0x81, X86_EVENT_INT_N, FAKE_CODE));
	assert_int_equal(s->gpr[RSP], (FAKE_IST1 & ~15u) - 40);
	fake_free(f);
}

static void long_mode_gate_rules(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	fake_idt64(f, 0x80, SEL_CODE0, HANDLER, INT32, 0); /* not 64-bit code */
	assert_fault(f, int80(f), X86_GP, SEL_CODE0);
	fake_idt64(f, 0x80, SEL_CODE64, HANDLER, INT16, 0);
	assert_fault(f, int80(f), X86_GP, 0x80 * 8 + 2);
	fake_idt64(f, 0x80, SEL_CODE64, BIT64(50), INT32, 0);
	assert_fault(f, int80(f), X86_GP, 0);
	fake_idt64(f, 0x80, SEL_CODE64, HANDLER, INT32, 1);
	fake_put(f, FAKE_TSS + 36, 8, BIT64(50));
	assert_fault(f, int80(f), X86_SS_FAULT, 0);
	fake_free(f);
}

static void push_frame64(struct fake *f, u64 rip, u16 cs, u64 flags, u64 rsp, u16 ss)
{
	const u64 image[] = { rip, cs, flags, rsp, ss };

	for (unsigned i = 0; i < ARRAY_LEN(image); i++)
		fake_put(f, f->cpu.s.gpr[RSP] + 8 * i, 8, image[i]);
}

static void iretq_to_compatibility_mode_with_a_16bit_stack(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	s->gpr[RSP] = 0x18000;
	push_frame64(f, 0x1234, SEL_CODE3 | 3, FLAG_ONE | FLAG_VM, 0x99995678, SEL_DATA16_3 | 3);
	assert_ok(x86_iret(&f->cpu, 8));
	assert_false(x86_code64(s));
	assert_false(x86_v86(s)); /* VM is not taken in long mode */
	assert_int_equal(x86_cpl(s), 3);
	assert_int_equal(s->gpr[RSP], 0x15678); /* SP only: what espfix64 is about */
	fake_free(f);
}

static void iretq_drops_kernel_segments_but_not_null_ones(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	s->seg[X86_GS] = (struct x86_seg){ .attr = SEG_UNUSABLE, .base = 0x7000 };
	push_frame64(f, 0x1234, SEL_CODE64_3 | 3, FLAG_ONE, 0x8000, SEL_DATA3 | 3);
	assert_ok(x86_iret(&f->cpu, 8));
	assert_int_equal(s->seg[X86_DS].selector, 0);
	assert_true(s->seg[X86_DS].attr & SEG_UNUSABLE);
	assert_int_equal(s->seg[X86_GS].base, 0x7000);
	fake_free(f);
}

static void iretq_faults_leave_the_state(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	s->gpr[RSP] -= 64;
	push_frame64(f, BIT64(47), SEL_CODE64_3 | 3, FLAG_ONE, 0x8000, SEL_DATA3 | 3);
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, 0);
	push_frame64(f, 0, SEL_CODE64_3 | 3, FLAG_ONE, 0x8000, 0); /* null SS at CPL 3 */
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, 0);
	push_frame64(f, 0, SEL_CODE64_3 | 3, FLAG_ONE, 0x8000, SEL_DATA0);
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, SEL_DATA0);
	push_frame64(f, 0, SEL_CODE64_3 | 3, FLAG_ONE, 0x8000, SEL_ABSENT | 3);
	assert_fault(f, x86_iret(&f->cpu, 8), X86_SS_FAULT, SEL_ABSENT);
	push_frame64(f, 0, 0, FLAG_ONE, 0x8000, SEL_DATA3 | 3);
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, 0);
	push_frame64(f, 0, SEL_DATA3 | 3, FLAG_ONE, 0x8000, SEL_DATA3 | 3);
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, SEL_DATA3);
	s->rflags |= FLAG_NT;
	assert_fault(f, x86_iret(&f->cpu, 8), X86_GP, 0);
	fake_free(f);
}

static void iret_changes_flags_by_privilege(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 3);
	s->gpr[RSP] -= 64;
	push_frame64(f, 0, SEL_CODE64_3 | 3, ~0ull, 0x8000, SEL_DATA3 | 3);
	assert_ok(x86_iret(&f->cpu, 8));
	assert_int_equal(s->rflags, FLAGS_STATUS | FLAG_ONE | FLAG_TF | FLAG_IF | FLAG_DF |
					    FLAG_NT | FLAG_RF | FLAG_AC |
					    FLAG_ID); /* IF as it was */
	fake_long(f, 0);
	s->gpr[RSP] -= 64;
	push_frame64(f, 0, SEL_CODE64, FLAG_IOPL | FLAG_VIP, 0x8000, 0);
	assert_ok(x86_iret(&f->cpu, 8));
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_IOPL | FLAG_VIP);
	fake_free(f);
}

/* --- breakpoints ------------------------------------------------------------------------------ */

static void breakpoints_match_kind_length_and_enable(void **state)
{
	struct x86_state s = { .dr = { 0x1000, 0x2003, 0x3000, 0x60 } };

	s.dr7 = 0x400;
	assert_int_equal(x86_code_breakpoints(&s, 0x1000), 0);
	s.dr7 |= 1 << 0 | 2 << 2 | 1 << 4 | 1 << 6; /* L0, G1, L2, L3 */
	s.dr7 |= 0xdull << 20;			    /* 1: writes of 4 bytes, at 0x2000 */
	s.dr7 |= 0xbull << 24;			    /* 2: accesses of 8 bytes */
	s.dr7 |= 0x2ull << 28;			    /* 3: I/O */
	assert_int_equal(x86_code_breakpoints(&s, 0x1000), 1);
	assert_int_equal(x86_code_breakpoints(&s, 0x1001), 0);
	assert_int_equal(x86_data_breakpoints(&s, 0x1ffe, 4, true), 2);
	assert_int_equal(x86_data_breakpoints(&s, 0x2003, 1, true), 2);
	assert_int_equal(x86_data_breakpoints(&s, 0x2004, 4, true), 0);
	assert_int_equal(x86_data_breakpoints(&s, 0x2000, 4, false), 0);
	assert_int_equal(x86_data_breakpoints(&s, 0x3007, 1, false), 4);
	assert_int_equal(x86_io_breakpoints(&s, 0x60, 1), 0);
	s.cr4 = CR4_DE;
	assert_int_equal(x86_io_breakpoints(&s, 0x60, 1), 8);
	s.rflags = FLAG_RF;
	assert_int_equal(x86_code_breakpoints(&s, 0x1000), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_interrupt_and_iret_round_trip),
		cmocka_unit_test(real_mode_stack_wraps_within_a_frame),
		cmocka_unit_test(real_mode_idt_too_short_shuts_down),
		cmocka_unit_test(real_mode_iret_beyond_cs_limit_faults),
		cmocka_unit_test(protected_same_level_round_trip),
		cmocka_unit_test(protected_inner_level_round_trip),
		cmocka_unit_test(gate16_pushes_words),
		cmocka_unit_test(inner_16bit_stack_takes_all_of_esp),
		cmocka_unit_test(inner_stack_from_a_16bit_tss),
		cmocka_unit_test(interrupt_to_conforming_code_stays_on_its_level),
		cmocka_unit_test(gate_faults_name_gate_segment_or_stack),
		cmocka_unit_test(external_events_set_ext),
		cmocka_unit_test(interrupt_wakes_and_nmi_blocks_until_iret),
		cmocka_unit_test(debug_exception_reports_in_dr6_and_clears_gd),
		cmocka_unit_test(contributory_pair_becomes_double_fault),
		cmocka_unit_test(benign_then_contributory_is_served_in_turn),
		cmocka_unit_test(no_double_fault_handler_shuts_down),
		cmocka_unit_test(page_fault_during_page_fault_shows_the_second_address),
		cmocka_unit_test(v86_interrupt_to_ring0_round_trip),
		cmocka_unit_test(v86_int_n_needs_iopl_or_redirection),
		cmocka_unit_test(v86_gate_to_other_levels_is_refused),
		cmocka_unit_test(long_mode_user_to_kernel_round_trip),
		cmocka_unit_test(long_mode_aligns_the_stack_and_honours_ist),
		cmocka_unit_test(long_mode_gate_rules),
		cmocka_unit_test(iretq_to_compatibility_mode_with_a_16bit_stack),
		cmocka_unit_test(iretq_drops_kernel_segments_but_not_null_ones),
		cmocka_unit_test(iretq_faults_leave_the_state),
		cmocka_unit_test(iret_changes_flags_by_privilege),
		cmocka_unit_test(breakpoints_match_kind_length_and_enable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
