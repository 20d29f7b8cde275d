/*
 * Far transfers, fast system calls and task switches; then a storm of random descriptors, selectors
 * and stacks through every entry point, to see that a fault changes nothing and that success leaves
 * a consistent processor.
 */
#include "fake.h"
#include "x86/exception.h"
#include "x86/segment.h"
#include "x86/transfer.h"

#define TARGET 0xd000u
#define USER   A_DPL(3)

static u64 stack_at(const struct fake *f, unsigned slot, unsigned size)
{
	return fake_get(f, (f->cpu.s.gpr[RSP] & x86_stack_mask(&f->cpu.s)) + slot * size, size);
}

/* --- code segments ---------------------------------------------------------------------------- */

static void real_call_and_ret_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_real(f);
	before = *s;
	assert_ok(x86_call_far(&f->cpu, 0x1234, 0x10056, 2, 0xc005)); /* 16 bits of the offset */
	assert_int_equal(s->seg[X86_CS].base, 0x12340);
	assert_int_equal(s->rip, 0x56);
	assert_ok(x86_ret_far(&f->cpu, 2, 6));
	before.rip = 0xc005;
	before.gpr[RSP] += 6;
	assert_same_state(&before, s);
	assert_fault(f, x86_jmp_far(&f->cpu, 0, 0x10000, 4, 0), X86_GP, 0);
	fake_free(f);
}

struct jump_case {
	unsigned cpl;
	u16 selector;
	u8 vector; /* 0: none */
	u32 error;
	u16 cs;
};

static const struct jump_case jump_cases[] = {
	{ 0, SEL_CODE0, 0, 0, SEL_CODE0 },
	{ 0, SEL_CODE0 | 3, X86_GP, SEL_CODE0, 0 },
	{ 0, SEL_CODE3, X86_GP, SEL_CODE3, 0 },
	{ 0, 3, X86_GP, 0, 0 },
	{ 0, SEL_DATA0, X86_GP, SEL_DATA0, 0 },
	{ 0, SEL_LDT, X86_GP, SEL_LDT, 0 },
	{ 0, SEL_ABSENT_CODE, X86_NP, SEL_ABSENT_CODE, 0 },
	{ 0, 0x300, X86_GP, 0x300, 0 },
	{ 3, SEL_CODE3, 0, 0, SEL_CODE3 | 3 }, /* the RPL becomes the CPL */
	{ 3, SEL_CODE0, X86_GP, SEL_CODE0, 0 },
	{ 3, SEL_CONFORMING, 0, 0, SEL_CONFORMING | 3 },
};

static void jmp_far_follows_the_exception_list(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(jump_cases); i++) {
		const struct jump_case *c = &jump_cases[i];
		struct fake *f = fake_new();

		fake_protected(f, c->cpl);
		if (c->vector) {
			assert_fault(f, x86_jmp_far(&f->cpu, c->selector, TARGET, 4, 0), c->vector,
				c->error);
		} else {
			assert_ok(x86_jmp_far(&f->cpu, c->selector, TARGET, 4, 0));
			assert_int_equal(f->cpu.s.seg[X86_CS].selector, c->cs);
			assert_int_equal(f->cpu.s.rip, TARGET);
		}
		assert_int_equal(x86_cpl(&f->cpu.s), c->cpl);
		fake_free(f);
	}
}

static void jump_between_compatibility_and_64bit_code(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	assert_ok(x86_jmp_far(&f->cpu, SEL_CODE0, TARGET, 4, 0));
	assert_false(x86_code64(&f->cpu.s));
	assert_ok(x86_jmp_far(&f->cpu, SEL_CODE64, TARGET + 2, 4, 0));
	assert_true(x86_code64(&f->cpu.s));
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_CODE64, BIT64(47), 8, 0), X86_GP, 0);
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_TSS2, 0, 8, 0), X86_GP, SEL_TSS2);
	fake_desc(f, SEL_FREE, 0, 0xfffff, A_CODE64 | SEG_DB); /* L and D */
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_FREE, 0, 8, 0), X86_GP, SEL_FREE);
	fake_free(f);
}

static void call_beyond_limit_faults_before_pushing(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	fake_put(f, FAKE_SP0 - 8, 8, 0x5555);
	assert_fault(f, x86_call_far(&f->cpu, SEL_CODE16, 0x10000, 4, 0), X86_GP, 0);
	f->cpu.s.gpr[RSP] = 4; /* the second slot wraps to the top, which is within the limit */
	assert_ok(x86_call_far(&f->cpu, SEL_CODE0, TARGET, 4, 1));
	fake_protected(f, 0);
	f->cpu.s.seg[X86_SS].limit = FAKE_SP0 - 5;
	assert_fault(f, x86_call_far(&f->cpu, SEL_CODE0, TARGET, 4, 1), X86_SS_FAULT, 0);
	fake_free(f);
}

static void check_rip_knows_limits_and_canonical_form(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	f->cpu.s.seg[X86_CS].limit = 0xffff;
	assert_ok(x86_check_rip(&f->cpu, 0xffff));
	assert_fault(f, x86_check_rip(&f->cpu, 0x10000), X86_GP, 0);
	fake_long(f, 0);
	assert_ok(x86_check_rip(&f->cpu, 0xffff800000000000));
	assert_fault(f, x86_check_rip(&f->cpu, BIT64(47)), X86_GP, 0);
	fake_free(f);
}

/* --- call gates ------------------------------------------------------------------------------- */

static void call_gate32_copies_parameters_inwards_and_ret_releases_both(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_protected(f, 3);
	fake_gate(f, FAKE_GDT + SEL_FREE, SEL_CODE0, TARGET, SEG_P | USER | 12, 3);
	s->gpr[RSP] -= 12;
	for (unsigned i = 0; i < 3; i++)
		fake_put(f, s->gpr[RSP] + 4 * i, 4, 0x100 + i);
	before = *s;
	assert_ok(x86_call_far(&f->cpu, SEL_FREE | 3, 0xffffffff, 4, 0xc007));
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->seg[X86_CS].selector, SEL_CODE0);
	assert_int_equal(s->rip, TARGET);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 28);
	assert_int_equal(stack_at(f, 0, 4), 0xc007);
	assert_int_equal(stack_at(f, 1, 4), SEL_CODE3 | 3);
	assert_int_equal(stack_at(f, 2, 4), 0x100);
	assert_int_equal(stack_at(f, 4, 4), 0x102);
	assert_int_equal(stack_at(f, 5, 4), before.gpr[RSP]);
	assert_int_equal(stack_at(f, 6, 4), SEL_DATA3 | 3);
	assert_ok(x86_ret_far(&f->cpu, 4, 12));
	before.rip = 0xc007;
	before.gpr[RSP] += 12;
	assert_same_state(&before, s);
	fake_free(f);
}

static void call_gate16_pushes_words(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	fake_gate(f, FAKE_GDT + SEL_FREE, SEL_CODE0, 0x7777d000, SEG_P | 4, 0);
	assert_ok(x86_call_far(&f->cpu, SEL_FREE, 0, 4, 0x1234));
	assert_int_equal(f->cpu.s.rip, TARGET);
	assert_int_equal(f->cpu.s.gpr[RSP], FAKE_SP0 - 4);
	assert_int_equal(stack_at(f, 0, 2), 0x1234);
	fake_free(f);
}

static void call_gate_rules(void **state)
{
	struct fake *f = fake_new();
	const u64 at = FAKE_GDT + SEL_FREE;

	fake_protected(f, 3);
	fake_gate(f, at, SEL_CODE0, TARGET, SEG_P | 12, 0);
	assert_fault(f, x86_call_far(&f->cpu, SEL_FREE, 0, 4, 0), X86_GP, SEL_FREE);
	fake_gate(f, at, SEL_CODE0, TARGET, USER | 12, 0);
	assert_fault(f, x86_call_far(&f->cpu, SEL_FREE, 0, 4, 0), X86_NP, SEL_FREE);
	fake_gate(f, at, SEL_CODE0, TARGET, SEG_P | USER | 12, 0);
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_FREE, 0, 4, 0), X86_GP,
		SEL_CODE0); /* inwards: CALL only */
	fake_gate(f, at, SEL_CONFORMING, TARGET, SEG_P | USER | 12, 0);
	assert_ok(x86_jmp_far(&f->cpu, SEL_FREE, 0, 4, 0));
	fake_free(f);
}

static void call_gate64_switches_to_the_tss_stack(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_long(f, 3);
	fake_gate(f, FAKE_GDT + SEL_FREE, SEL_CODE64, TARGET, SEG_P | USER | 12, 0);
	fake_put(f, FAKE_GDT + SEL_FREE + 8, 8, 0xffff8000);
	before = *s;
	assert_ok(x86_call_far(&f->cpu, SEL_FREE, 0, 4, 0xc007));
	assert_int_equal(s->rip, 0xffff800000000000 + TARGET);
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->seg[X86_SS].selector, 0);
	assert_int_equal(s->gpr[RSP], FAKE_SP0 - 32);
	assert_int_equal(stack_at(f, 3, 8), SEL_DATA3 | 3);
	assert_ok(x86_ret_far(&f->cpu, 8, 0));
	before.rip = 0xc007;
	assert_same_state(&before, s);
	fake_free(f);
}

/* --- fast system calls ------------------------------------------------------------------------ */

static void syscall_and_sysret_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 3);
	s->star = (u64)(SEL_DATA3 - 8) << 48 | (u64)SEL_CODE64 << 32;
	s->lstar = 0xffffffff81000000;
	s->sfmask = FLAG_IF | FLAG_TF;
	assert_ok(x86_syscall(&f->cpu, FAKE_CODE + 2));
	assert_int_equal(s->rip, 0xffffffff81000000);
	assert_int_equal(s->gpr[RCX], FAKE_CODE + 2);
	assert_int_equal(s->gpr[R11], FLAG_ONE | FLAG_IF);
	assert_int_equal(s->rflags, FLAG_ONE);
	assert_int_equal(x86_cpl(s), 0);
	assert_int_equal(s->seg[X86_CS].selector, SEL_CODE64);
	assert_int_equal(s->seg[X86_SS].selector, SEL_CODE64 + 8);
	s->gpr[R11] = ~0ull;
	assert_ok(x86_sysret(&f->cpu, 8));
	assert_int_equal(s->rip, FAKE_CODE + 2);
	assert_int_equal(s->rflags, 0x3c7fd7);
	assert_int_equal(x86_cpl(s), 3);
	assert_int_equal(s->seg[X86_CS].selector, (SEL_DATA3 - 8 + 16) | 3);
	assert_int_equal(s->seg[X86_SS].selector, SEL_DATA3 | 3);
	assert_fault(f, x86_sysret(&f->cpu, 8), X86_GP, 0); /* CPL 3 */
	fake_free(f);
}

static void sysret_to_non_canonical_rcx_differs_by_vendor(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	f->cpu.s.gpr[RCX] = BIT64(47);
	assert_fault(f, x86_sysret(&f->cpu, 8), X86_GP, 0);
	f->model.amd = true;
	assert_ok(x86_sysret(&f->cpu, 8));
	assert_int_equal(x86_cpl(&f->cpu.s), 3);
	assert_fault(f, x86_check_rip(&f->cpu, f->cpu.s.rip), X86_GP, 0);
	fake_free(f);
}

static void syscall_outside_64bit_mode_is_amd_only(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	assert_ok(x86_jmp_far(&f->cpu, SEL_CODE0, TARGET, 4, 0));
	s->cstar = 0x1234;
	assert_fault(f, x86_syscall(&f->cpu, 0), X86_UD, 0);
	f->model.amd = true;
	assert_ok(x86_syscall(&f->cpu, 0));
	assert_int_equal(s->rip, 0x1234);
	fake_protected(f, 3);
	s->efer = EFER_SCE;
	s->star = 0x00100008c0001234;
	assert_ok(x86_syscall(&f->cpu, 0xc002));
	assert_int_equal(s->rip, 0xc0001234);
	assert_int_equal(s->rflags, FLAG_ONE);
	s->efer = 0;
	assert_fault(f, x86_syscall(&f->cpu, 0), X86_UD, 0);
	fake_free(f);
}

static void sysenter_and_sysexit_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 3);
	assert_fault(f, x86_sysenter(&f->cpu), X86_GP, 0);
	s->sysenter_cs = SEL_CODE64;
	s->sysenter_eip = 0xffffffff81000000;
	s->sysenter_esp = 0xffff888000000000;
	assert_ok(x86_sysenter(&f->cpu));
	assert_int_equal(s->rip, 0xffffffff81000000);
	assert_int_equal(s->gpr[RSP], 0xffff888000000000);
	assert_int_equal(x86_cpl(s), 0);
	assert_true(x86_code64(s));
	s->gpr[RCX] = 0x100008000;
	s->gpr[RDX] = 0xc002;
	assert_ok(x86_sysexit(&f->cpu, 4));
	assert_int_equal(s->gpr[RSP], 0x8000);
	assert_int_equal(s->seg[X86_CS].selector, (SEL_CODE64 + 16) | 3);
	assert_false(x86_code64(s));
	assert_int_equal(x86_cpl(s), 3);
	f->model.amd = true;
	assert_fault(f, x86_sysenter(&f->cpu), X86_UD, 0);
	fake_free(f);
}

/* --- tasks ------------------------------------------------------------------------------------ */

/* A task at CPL 3 in the TSS at FAKE_TSS2. */
static void make_task(struct fake *f)
{
	const u16 sreg[] = { SEL_DATA3 | 3, SEL_CODE3 | 3, SEL_DATA3 | 3, SEL_DATA3 | 3, 0, 0 };

	fake_put(f, FAKE_TSS2 + 32, 4, TARGET);
	fake_put(f, FAKE_TSS2 + 36, 4, FLAG_ONE);
	fake_put(f, FAKE_TSS2 + 40, 4, 0xa0a0a0a0); /* EAX */
	fake_put(f, FAKE_TSS2 + 40 + 4 * RSP, 4, FAKE_SP3);
	for (unsigned i = 0; i < ARRAY_LEN(sreg); i++)
		fake_put(f, FAKE_TSS2 + 72 + 4 * i, 2, sreg[i]);
	fake_put(f, FAKE_TSS2 + 96, 2, SEL_LDT);
}

static unsigned desc_type(const struct fake *f, u16 selector)
{
	return fake_get(f, FAKE_GDT + selector + 5, 1) & 15;
}

static void task_call_and_iret_round_trip(void **state)
{
	struct fake *f = fake_new();
	struct x86_state before, *s = &f->cpu.s;

	fake_protected(f, 0);
	make_task(f);
	fake_put(f, FAKE_TSS + 96, 2, SEL_LDT);
	s->gpr[RBX] = 0xb0b0b0b0;
	before = *s;
	assert_ok(x86_call_far(&f->cpu, SEL_TSS2, 0, 4, 0xc007));
	assert_int_equal(s->rip, TARGET);
	assert_int_equal(s->gpr[RAX], 0xa0a0a0a0);
	assert_int_equal(x86_cpl(s), 3);
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_NT);
	assert_int_equal(s->seg[X86_TR].selector, SEL_TSS2);
	assert_true(s->cr0 & CR0_TS);
	assert_int_equal(desc_type(f, SEL_TSS), 11);
	assert_int_equal(desc_type(f, SEL_TSS2), 11);
	assert_int_equal(fake_get(f, FAKE_TSS2, 2), SEL_TSS);
	assert_int_equal(fake_get(f, FAKE_TSS + 32, 4), 0xc007);
	s->gpr[RAX] = 1;
	s->rip = 0xd123;
	assert_ok(x86_iret(&f->cpu, 4));
	assert_int_equal(desc_type(f, SEL_TSS2), 9);
	assert_int_equal(fake_get(f, FAKE_TSS2 + 32, 4), 0xd123);
	assert_int_equal(fake_get(f, FAKE_TSS2 + 36, 4), FLAG_ONE);
	assert_int_equal(s->gpr[RBX], 0xb0b0b0b0);
	assert_int_equal(s->rip, 0xc007);
	assert_int_equal(s->seg[X86_SS].selector, before.seg[X86_SS].selector);
	assert_int_equal(s->rflags, before.rflags);
	assert_int_equal(x86_cpl(s), 0);
	fake_free(f);
}

static void task_jump_releases_the_old_task(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	make_task(f);
	fake_gate(f, FAKE_GDT + SEL_FREE, SEL_TSS2, 0, SEG_P | 5, 0);
	assert_ok(x86_jmp_far(&f->cpu, SEL_FREE, 0, 4, 0xc007));
	assert_int_equal(desc_type(f, SEL_TSS), 9);
	assert_int_equal(desc_type(f, SEL_TSS2), 11);
	assert_int_equal(f->cpu.s.rflags, FLAG_ONE);
	fake_free(f);
}

static void task16_has_words(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;
	const u16 image[] = { TARGET, 2, 0x1111, 0, 0, 0, FAKE_SP0, 0, 0, 0, SEL_DATA0, SEL_CODE0,
		SEL_DATA0, 0, 0 };

	fake_protected(f, 0);
	fake_desc(f, SEL_TSS2, FAKE_TSS2, 43, SEG_P | 1);
	for (unsigned i = 0; i < ARRAY_LEN(image); i++)
		fake_put(f, FAKE_TSS2 + 14 + 2 * i, 2, image[i]);
	assert_ok(x86_jmp_far(&f->cpu, SEL_TSS2, 0, 4, 0xc007));
	assert_int_equal(s->rip, TARGET);
	assert_int_equal(s->gpr[RAX] & 0xffff, 0x1111);
	assert_int_equal(s->seg[X86_ES].selector, SEL_DATA0);
	assert_int_equal(s->seg[X86_CS].selector, SEL_CODE0);
	assert_true(s->seg[X86_DS].attr & SEG_UNUSABLE);
	fake_free(f);
}

static void task16_can_be_left_and_resumed(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	make_task(f);
	fake_desc(f, SEL_TSS, FAKE_TSS, 43, SEG_P | 3);
	s->seg[X86_TR] = (struct x86_seg){ SEL_TSS, SEG_P | 3, 43, FAKE_TSS };
	fake_put(f, FAKE_TSS + 42, 2, 0); /* no LDT */
	s->gpr[RBX] = 0x1234b0b0;
	assert_ok(x86_call_far(&f->cpu, SEL_TSS2, 0, 4, 0xc007));
	assert_int_equal(fake_get(f, FAKE_TSS + 14, 2), 0xc007);
	assert_ok(x86_iret(&f->cpu, 4));
	assert_int_equal(s->rip, 0xc007);
	assert_int_equal(s->gpr[RBX] & 0xffff, 0xb0b0);
	fake_free(f);
}

static void task_in_v86_mode_with_its_own_cr3(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	make_task(f);
	for (unsigned i = 0; i < 2; i++) /* two directories that map low memory one to one */
		fake_put(f, 0x20000 + 0x1000 * i, 4, 0x87);
	s->cr3 = 0x20000;
	s->cr4 = CR4_PSE;
	s->cr0 |= CR0_PG;
	fake_put(f, FAKE_TSS2 + 28, 4, 0x21000);
	fake_put(f, FAKE_TSS2 + 36, 4, FLAG_ONE | FLAG_VM);
	fake_put(f, FAKE_TSS2 + 76, 2, 0x1234);
	f->flushes = 0;
	assert_ok(x86_task_switch(&f->cpu, SEL_TSS2, X86_TASK_JMP, 0xc007, false, 0));
	assert_int_equal(s->cr3, 0x21000);
	assert_int_equal(f->flushes, 1);
	assert_true(x86_v86(s));
	assert_int_equal(s->seg[X86_CS].base, 0x12340);
	fake_free(f);
}

static void task_gate_in_the_idt_pushes_the_error_code(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	make_task(f);
	fake_idt32(f, X86_GP, SEL_TSS2, 0, SEG_P | 5);
	f->cpu.fault = (struct x86_fault){ .vector = X86_GP, .has_error = true, .error = 0x77 };
	x86_deliver(&f->cpu);
	assert_int_equal(s->rip, TARGET);
	assert_int_equal(s->gpr[RSP], FAKE_SP3 - 4);
	assert_int_equal(stack_at(f, 0, 4), 0x77);
	assert_int_equal(fake_get(f, FAKE_TSS + 36, 4), FLAG_ONE | FLAG_IF | FLAG_RF);
	fake_free(f);
}

static void task_faults_before_and_after_the_switch(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	make_task(f);
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_TSS, 0, 4, 0), X86_GP, SEL_TSS); /* busy */
	fake_desc(f, SEL_TSS2, FAKE_TSS2, 0x66, SEG_P | 9);
	assert_fault(f, x86_jmp_far(&f->cpu, SEL_TSS2, 0, 4, 0), X86_TS, SEL_TSS2);
	fake_desc(f, SEL_TSS2, FAKE_TSS2, 0x67, SEG_P | 9);
	f->cpu.s.rflags |= FLAG_NT;
	assert_fault(f, x86_iret(&f->cpu, 4), X86_TS, 0); /* link is null */
	f->cpu.s.rflags &= ~FLAG_NT;
	fake_put(f, FAKE_TSS2 + 72 + 8, 2, SEL_DATA0); /* SS of the wrong level */
	assert_int_equal(x86_jmp_far(&f->cpu, SEL_TSS2, 0, 4, 0), X86_FAULT);
	assert_int_equal(f->cpu.fault.vector, X86_TS);
	assert_int_equal(f->cpu.fault.error, SEL_DATA0);
	assert_int_equal(f->cpu.s.rip, TARGET); /* in the new task */
	assert_int_equal(x86_cpl(&f->cpu.s), 3);
	fake_free(f);
}

static void task_with_trap_bit_reports_a_debug_trap(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	make_task(f);
	fake_put(f, FAKE_TSS2 + 100, 2, 1);
	assert_int_equal(x86_jmp_far(&f->cpu, SEL_TSS2, 0, 4, 0), X86_FAULT);
	assert_int_equal(f->cpu.fault.vector, X86_DB);
	assert_int_equal(f->cpu.fault.dr6, BIT64(15));
	assert_int_equal(f->cpu.s.rip, TARGET);
	fake_free(f);
}

/* --- the storm -------------------------------------------------------------------------------- */

static u16 random_selector(u64 *seed) { return (u16)(fake_random(seed) % (FAKE_SLOTS * 8 + 16)); }

/* Valid-looking descriptors and gates as well as garbage. */
static void random_gdt(struct fake *f, u64 *seed)
{
	for (unsigned i = 1; i < FAKE_SLOTS; i++) {
		u64 r = fake_random(seed);
		u64 at = FAKE_GDT + 8 * i;

		if (r & 1)
			fake_desc(f, (u16)(8 * i), 0, 0xfffff,
				(u32)(r >> 8 & 0xf07f) | SEG_P | (r & 2 ? SEG_S : 0));
		else if (r & 2)
			fake_gate(f, at, random_selector(seed), TARGET,
				(u32)(r >> 8 & 0x6f) | SEG_P, r >> 16 & 31);
		else if (r & 4)
			fake_put(f, at, 8, r);
	}
}

static void random_stack(struct fake *f, u64 *seed)
{
	for (u64 at = FAKE_SP3; at < FAKE_SP3 + 80; at += 4)
		fake_put(f, at, 4,
			fake_random(seed) & 3 ? random_selector(seed) : fake_random(seed));
	f->cpu.s.gpr[RSP] = FAKE_SP3;
	if (!(fake_random(seed) & 7))
		f->cpu.s.gpr[RSP] = fake_random(seed);
}

static int random_call(struct fake *f, u64 *seed)
{
	struct x86_cpu *cpu = &f->cpu;
	unsigned size = x86_code64(&cpu->s) ? 8 : fake_random(seed) & 1 ? 4 : 2;
	u16 selector = random_selector(seed);

	switch (fake_random(seed) % 8) {
	case 0: return x86_jmp_far(cpu, selector, TARGET, size, 0);
	case 1: return x86_call_far(cpu, selector, TARGET, size, 0);
	case 2: return x86_ret_far(cpu, size, 8);
	case 3: return x86_load_segment(cpu, X86_SS, selector);
	case 4: return x86_load_segment(cpu, X86_GS, selector);
	case 5: return x86_software_interrupt(cpu, (u8)selector, X86_EVENT_INT_N, 0);
	case 6: return x86_ltr(cpu, selector);
	default: return x86_iret(cpu, size);
	}
}

static void random_mode(struct fake *f, u64 *seed)
{
	u64 r = fake_random(seed);

	if (r & 1)
		fake_long(f, r & 2 ? 3 : 0);
	else if (!(r & 12))
		fake_v86(f, r >> 4 & 3);
	else
		fake_protected(f, r & 2 ? 3 : 0);
	f->cpu.s.rflags |= r & 0x300 ? 0 : FLAG_NT;
	f->cpu.s.idt.base = FAKE_GDT; /* gates like any */
}

static void assert_consistent(const struct x86_state *s)
{
	const struct x86_seg *cs = &s->seg[X86_CS], *ss = &s->seg[X86_SS];

	assert_true(s->rflags & FLAG_ONE);
	if (x86_v86(s)) {
		assert_int_equal(cs->attr, 0xf3);
		return;
	}
	assert_int_equal(cs->selector & 3, x86_cpl(s));
	assert_int_equal(ss->selector & 3, x86_cpl(s));
	assert_false(cs->attr & SEG_UNUSABLE);
	if (ss->attr & SEG_UNUSABLE)
		assert_true(x86_code64(s) && x86_cpl(s) < 3);
	assert_true(x86_code64(s) ? x86_canonical(s->rip) : s->rip <= cs->limit);
}

static void random_transfers_fault_cleanly_or_end_consistently(void **state)
{
	struct fake *f = fake_new();
	u64 seed = 0x5eed;
	unsigned good = 0;

	for (unsigned i = 0; i < 30000; i++) {
		struct x86_state before;

		random_mode(f, &seed);
		random_gdt(f, &seed);
		random_stack(f, &seed);
		before = f->cpu.s;
		if (random_call(f, &seed) == X86_OK) {
			good++;
			assert_consistent(&f->cpu.s);
			continue;
		}
		before.blocking = f->cpu.s.blocking;
		if (!(f->cpu.s.cr0 & CR0_TS)) /* a task switch may fault in the new task */
			assert_same_state(&before, &f->cpu.s);
		x86_deliver(&f->cpu); /* ends, one way or the other */
	}
	assert_in_range(good, 1000, 29000);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_call_and_ret_round_trip),
		cmocka_unit_test(jmp_far_follows_the_exception_list),
		cmocka_unit_test(jump_between_compatibility_and_64bit_code),
		cmocka_unit_test(call_beyond_limit_faults_before_pushing),
		cmocka_unit_test(check_rip_knows_limits_and_canonical_form),
		cmocka_unit_test(call_gate32_copies_parameters_inwards_and_ret_releases_both),
		cmocka_unit_test(call_gate16_pushes_words),
		cmocka_unit_test(call_gate_rules),
		cmocka_unit_test(call_gate64_switches_to_the_tss_stack),
		cmocka_unit_test(syscall_and_sysret_round_trip),
		cmocka_unit_test(sysret_to_non_canonical_rcx_differs_by_vendor),
		cmocka_unit_test(syscall_outside_64bit_mode_is_amd_only),
		cmocka_unit_test(sysenter_and_sysexit_round_trip),
		cmocka_unit_test(task_call_and_iret_round_trip),
		cmocka_unit_test(task_jump_releases_the_old_task),
		cmocka_unit_test(task16_has_words),
		cmocka_unit_test(task16_can_be_left_and_resumed),
		cmocka_unit_test(task_in_v86_mode_with_its_own_cr3),
		cmocka_unit_test(task_gate_in_the_idt_pushes_the_error_code),
		cmocka_unit_test(task_faults_before_and_after_the_switch),
		cmocka_unit_test(task_with_trap_bit_reports_a_debug_trap),
		cmocka_unit_test(random_transfers_fault_cleanly_or_end_consistently),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
