/*
 * Segment loads and descriptor queries, case by case from the exception lists of SDM 2 (MOV, LLDT,
 * LTR, LAR, LSL, VERR) and the limit rules of SDM 3A 5.3.
 */
#include "fake.h"
#include "x86/segment.h"

#define NONE 0xff /* no fault */

struct load_case {
	unsigned cpl;
	enum x86_segreg reg;
	u16 selector;
	u8 vector;
	u32 error;
};

static const struct load_case load_cases[] = {
	{ 0, X86_DS, SEL_DATA0, NONE, 0 },
	{ 0, X86_DS, 0, NONE, 0 },
	{ 0, X86_DS, 3, NONE, 0 },
	{ 0, X86_DS, SEL_DATA3 | 3, NONE, 0 },
	{ 0, X86_DS, SEL_DATA0 | 3, X86_GP, SEL_DATA0 }, /* RPL counts */
	{ 0, X86_DS, SEL_CODE0, NONE, 0 },		 /* readable code */
	{ 0, X86_DS, SEL_EXECUTE_ONLY, X86_GP, SEL_EXECUTE_ONLY },
	{ 0, X86_DS, SEL_ABSENT, X86_NP, SEL_ABSENT },
	{ 0, X86_DS, SEL_TSS, X86_GP, SEL_TSS },
	{ 0, X86_DS, 0x200, X86_GP, 0x200 }, /* beyond the GDT's limit */
	{ 0, X86_DS, 0x104, X86_GP, 0x104 }, /* beyond the LDT's */
	{ 3, X86_DS, SEL_DATA0, X86_GP, SEL_DATA0 },
	{ 3, X86_DS, SEL_CONFORMING | 3, NONE, 0 },
	{ 3, X86_GS, SEL_CODE0 | 3, X86_GP, SEL_CODE0 },
	{ 0, X86_SS, SEL_DATA0, NONE, 0 },
	{ 0, X86_SS, 0, X86_GP, 0 },
	{ 0, X86_SS, SEL_DATA3, X86_GP, SEL_DATA3 },
	{ 0, X86_SS, SEL_DATA0 | 3, X86_GP, SEL_DATA0 },
	{ 0, X86_SS, SEL_READONLY, X86_GP, SEL_READONLY },
	{ 0, X86_SS, SEL_CODE0, X86_GP, SEL_CODE0 },
	{ 3, X86_SS, SEL_DATA3 | 3, NONE, 0 },
	{ 3, X86_SS, SEL_ABSENT | 3, X86_SS_FAULT, SEL_ABSENT },
};

static void load_segment_follows_the_exception_lists(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(load_cases); i++) {
		const struct load_case *c = &load_cases[i];
		struct fake *f = fake_new();

		fake_protected(f, c->cpl);
		if (c->vector != NONE) {
			assert_fault(f, x86_load_segment(&f->cpu, c->reg, c->selector), c->vector,
				c->error);
		} else {
			assert_ok(x86_load_segment(&f->cpu, c->reg, c->selector));
			assert_int_equal(f->cpu.s.seg[c->reg].selector, c->selector);
			assert_int_equal(
				!(c->selector & ~3), !!(f->cpu.s.seg[c->reg].attr & SEG_UNUSABLE));
		}
		assert_int_equal(x86_cpl(&f->cpu.s), c->cpl);
		fake_free(f);
	}
}

static void load_segment_caches_descriptor_and_sets_accessed(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	fake_desc(f, SEL_FREE, 0x12345678, 0x9abcd, A_DATA);
	assert_ok(x86_load_segment(&f->cpu, X86_ES, SEL_FREE));
	assert_int_equal(f->cpu.s.seg[X86_ES].base, 0x12345678);
	assert_int_equal(f->cpu.s.seg[X86_ES].limit, 0x9abcdfff);
	assert_int_equal(f->cpu.s.seg[X86_ES].attr, A_DATA | SEG_ACCESSED);
	assert_int_equal(fake_get(f, FAKE_GDT + SEL_FREE + 5, 1), 0x93);
	fake_free(f);
}

static void null_ss_is_for_64bit_kernels(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	assert_ok(x86_load_segment(&f->cpu, X86_SS, 0));
	assert_int_equal(x86_cpl(&f->cpu.s), 0);
	assert_fault(f, x86_load_segment(&f->cpu, X86_SS, 3), X86_GP, 0);
	fake_long(f, 3);
	assert_fault(f, x86_load_segment(&f->cpu, X86_SS, 3), X86_GP, 0);
	fake_free(f);
}

static void big_real_mode_keeps_its_limit(void **state)
{
	struct fake *f = fake_new();
	gva_t at;

	fake_real(f);
	assert_fault(f, x86_linear(&f->cpu, X86_DS, 0x10000, 1, ACCESS_READ, &at), X86_GP, 0);
	f->cpu.s.seg[X86_DS] =
		fake_seg(SEL_DATA0, A_DATA); /* as a trip to protected mode leaves it */
	assert_ok(x86_load_segment(&f->cpu, X86_DS, 0x1234));
	assert_int_equal(f->cpu.s.seg[X86_DS].base, 0x12340);
	assert_ok(x86_linear(&f->cpu, X86_DS, 0x100000, 4, ACCESS_WRITE, &at));
	assert_int_equal(at.v, 0x112340);
	assert_ok(x86_linear(&f->cpu, X86_CS, 0, 4, ACCESS_WRITE, &at)); /* no types in real mode */
	fake_free(f);
}

static void v86_loads_force_64k_data(void **state)
{
	struct fake *f = fake_new();

	fake_v86(f, 3);
	f->cpu.s.seg[X86_FS] = fake_seg(SEL_DATA0, A_DATA);
	assert_ok(x86_load_segment(&f->cpu, X86_FS, 0xffff));
	assert_int_equal(f->cpu.s.seg[X86_FS].base, 0xffff0);
	assert_int_equal(f->cpu.s.seg[X86_FS].limit, 0xffff);
	assert_int_equal(f->cpu.s.seg[X86_FS].attr, 0xf3);
	fake_free(f);
}

struct limit_case {
	u32 attr, limit;
	u64 ea;
	unsigned size;
	bool ok;
};

static const struct limit_case limit_cases[] = {
	{ A_DATA, 0xfff, 0xfff, 1, true },
	{ A_DATA, 0xfff, 0xfff, 2, false },
	{ A_DATA, 0xfff, 0x1000, 1, false },
	{ A_DATA, 0xffffffff, 0xffffffff, 1, true },
	{ A_DATA, 0xffffffff, 0xffffffff, 2, false },
	{ A_DATA | SEG_DC, 0xfff, 0xfff, 1, false }, /* expand-down: above the limit */
	{ A_DATA | SEG_DC, 0xfff, 0x1000, 4, true },
	{ A_DATA | SEG_DC, 0xfff, 0xffffffff, 1, true },
	{ A_DATA | SEG_DC, 0xfff, 0xffffffff, 2, false },
	{ (A_DATA | SEG_DC) & ~SEG_DB, 0xfff, 0xfffe, 2, true },
	{ (A_DATA | SEG_DC) & ~SEG_DB, 0xfff, 0xffff, 2, false },
	{ A_DATA | SEG_UNUSABLE, 0xffffffff, 0, 1, false },
};

static void linear_checks_limits(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	for (unsigned i = 0; i < ARRAY_LEN(limit_cases); i++) {
		const struct limit_case *c = &limit_cases[i];
		gva_t at;

		f->cpu.s.seg[X86_ES] = (struct x86_seg){ 0x10, c->attr, c->limit, 0x1000 };
		assert_int_equal(
			x86_linear(&f->cpu, X86_ES, c->ea, c->size, ACCESS_READ, &at) == X86_OK,
			c->ok);
		if (c->ok)
			assert_int_equal(at.v, (u32)(c->ea + 0x1000));
	}
	fake_free(f);
}

static void linear_checks_types(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;
	gva_t at;

	fake_protected(f, 0);
	s->seg[X86_DS] = fake_seg(SEL_READONLY, A_DATA & ~SEG_RW);
	assert_ok(x86_linear(&f->cpu, X86_DS, 0, 1, ACCESS_READ, &at));
	assert_fault(f, x86_linear(&f->cpu, X86_DS, 0, 1, ACCESS_WRITE, &at), X86_GP, 0);
	assert_fault(f, x86_linear(&f->cpu, X86_CS, 0, 1, ACCESS_WRITE, &at), X86_GP, 0);
	s->seg[X86_CS] = fake_seg(SEL_EXECUTE_ONLY, A_CODE & ~SEG_RW);
	assert_fault(f, x86_linear(&f->cpu, X86_CS, 0, 1, ACCESS_READ, &at), X86_GP, 0);
	assert_ok(x86_linear(&f->cpu, X86_CS, 0, 1, ACCESS_FETCH, &at));
	s->seg[X86_SS].limit = 0xfff;
	assert_fault(f, x86_linear(&f->cpu, X86_SS, 0x1000, 1, ACCESS_READ, &at), X86_SS_FAULT, 0);
	fake_free(f);
}

static void linear_in_64bit_code_checks_canonical_form_only(void **state)
{
	struct fake *f = fake_new();
	gva_t at;

	fake_long(f, 0);
	f->cpu.s.seg[X86_DS] = (struct x86_seg){ .attr = SEG_UNUSABLE, .base = 0x1000 };
	f->cpu.s.seg[X86_GS] = (struct x86_seg){ .attr = SEG_UNUSABLE, .base = 0xffff888000000000 };
	assert_ok(x86_linear(&f->cpu, X86_DS, 0x1234, 8, ACCESS_WRITE, &at));
	assert_int_equal(at.v, 0x1234);
	assert_ok(x86_linear(&f->cpu, X86_GS, 0x28, 8, ACCESS_READ, &at));
	assert_int_equal(at.v, 0xffff888000000028);
	assert_fault(
		f, x86_linear(&f->cpu, X86_DS, 0x7ffffffffff9, 8, ACCESS_READ, &at), X86_GP, 0);
	assert_fault(
		f, x86_linear(&f->cpu, X86_SS, BIT64(47), 1, ACCESS_READ, &at), X86_SS_FAULT, 0);
	fake_free(f);
}

static void lldt_and_ltr_check_their_descriptors(void **state)
{
	struct fake *f = fake_new();

	fake_protected(f, 0);
	assert_ok(x86_lldt(&f->cpu, SEL_LDT));
	assert_int_equal(f->cpu.s.seg[X86_LDTR].base, FAKE_LDT);
	assert_fault(f, x86_lldt(&f->cpu, SEL_TSS2), X86_GP, SEL_TSS2);
	assert_fault(f, x86_lldt(&f->cpu, 4), X86_GP, 4);
	assert_ok(x86_lldt(&f->cpu, 0));
	assert_fault(f, x86_load_segment(&f->cpu, X86_DS, 4), X86_GP, 4);
	assert_fault(f, x86_ltr(&f->cpu, 0), X86_GP, 0);
	assert_fault(f, x86_ltr(&f->cpu, SEL_TSS), X86_GP, SEL_TSS); /* busy */
	assert_ok(x86_ltr(&f->cpu, SEL_TSS2));
	assert_int_equal(f->cpu.s.seg[X86_TR].attr & SEG_TYPE, 11);
	assert_int_equal(fake_get(f, FAKE_GDT + SEL_TSS2 + 5, 1), 0x8b);
	fake_protected(f, 3);
	assert_fault(f, x86_ltr(&f->cpu, SEL_TSS2), X86_GP, 0);
	fake_real(f);
	assert_fault(f, x86_lldt(&f->cpu, 0), X86_UD, 0);
	fake_free(f);
}

static void ltr_in_long_mode_reads_sixteen_bytes(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 0);
	fake_desc(f, SEL_FREE, 0x5000, 0x67, SEG_P | 9);
	fake_desc_upper(f, SEL_FREE, 0xffffffff00000000);
	assert_ok(x86_ltr(&f->cpu, SEL_FREE));
	assert_int_equal(f->cpu.s.seg[X86_TR].base, 0xffffffff00005000);
	fake_desc(f, SEL_FREE, 0x5000, 0x67, SEG_P | 9);
	fake_put(f, FAKE_GDT + SEL_FREE + 12, 4, 0x0100); /* a type in the second half */
	assert_fault(f, x86_ltr(&f->cpu, SEL_FREE), X86_GP, SEL_FREE);
	fake_free(f);
}

static void lar_lsl_verify_answer(void **state)
{
	struct fake *f = fake_new();
	u32 value = 0;
	bool ok;

	fake_protected(f, 3);
	assert_ok(x86_lar(&f->cpu, SEL_DATA3, &ok, &value));
	assert_true(ok);
	assert_int_equal(value, 0xcff200);
	assert_ok(x86_lar(&f->cpu, SEL_DATA0, &ok, &value));
	assert_false(ok);
	assert_ok(x86_lar(&f->cpu, SEL_CONFORMING, &ok, &value));
	assert_true(ok);
	assert_ok(x86_lar(&f->cpu, 0, &ok, &value));
	assert_false(ok);
	assert_ok(x86_lar(&f->cpu, 0xfff8, &ok, &value));
	assert_false(ok);
	assert_ok(x86_lsl(&f->cpu, SEL_DATA16_3, &ok, &value));
	assert_true(ok);
	assert_int_equal(value, 0xffff);
	assert_ok(x86_verify(&f->cpu, SEL_DATA3, true, &ok));
	assert_true(ok);
	assert_ok(x86_verify(&f->cpu, SEL_CODE3, true, &ok));
	assert_false(ok);
	assert_ok(x86_verify(&f->cpu, SEL_CODE3, false, &ok));
	assert_true(ok);
	fake_v86(f, 3);
	assert_fault(f, x86_lar(&f->cpu, SEL_DATA3, &ok, &value), X86_UD, 0);
	fake_free(f);
}

static void lar_knows_gates_and_lsl_does_not(void **state)
{
	struct fake *f = fake_new();
	u32 value = 0;
	bool ok;

	fake_protected(f, 0);
	fake_gate(f, FAKE_GDT + SEL_FREE, SEL_CODE0, 0, SEG_P | 4, 0); /* a 16-bit call gate */
	assert_ok(x86_lar(&f->cpu, SEL_FREE, &ok, &value));
	assert_true(ok);
	assert_ok(x86_lsl(&f->cpu, SEL_FREE, &ok, &value));
	assert_false(ok);
	fake_long(f, 0);
	assert_ok(x86_lar(&f->cpu, SEL_FREE, &ok, &value));
	assert_false(ok); /* gone in long mode */
	fake_free(f);
}

static void gdt_fault_leaves_everything_alone(void **state)
{
	struct fake *f = fake_new();

	fake_long(f, 3);
	fake_put(f, FAKE_PML4 + 0x2000, 8, 0x83); /* supervisor page: the table is read as one */
	assert_ok(x86_load_segment(&f->cpu, X86_DS, SEL_DATA3 | 3));
	f->cpu.s.gdt.base = 0x40000000;
	assert_fault(f, x86_load_segment(&f->cpu, X86_DS, SEL_DATA3 | 3), X86_PF, 0);
	assert_int_equal(f->cpu.fault.address, 0x40000000 + SEL_DATA3);
	fake_free(f);
}

static void reset_init_and_sipi_set_the_documented_state(void **state)
{
	struct fake *f = fake_new();
	struct x86_state *s = &f->cpu.s;

	assert_int_equal(s->rip + s->seg[X86_CS].base, 0xfffffff0);
	assert_int_equal(s->cr0, 0x60000010);
	assert_int_equal(s->gpr[RDX], FAKE_SIGNATURE);
	assert_int_equal(s->fpu.mxcsr, 0x1f80);
	fake_long(f, 0);
	s->lstar = 0x1234;
	x86_init(&f->cpu);
	assert_int_equal(s->activity, X86_WAIT_SIPI);
	assert_int_equal(s->lstar, 0x1234);
	assert_false(x86_long_mode(s));
	x86_sipi(&f->cpu, 0x9a);
	assert_int_equal(s->activity, X86_RUNNING);
	assert_int_equal(s->seg[X86_CS].base, 0x9a000);
	assert_int_equal(s->rip, 0);
	x86_sipi(&f->cpu, 0x10); /* ignored while running */
	assert_int_equal(s->seg[X86_CS].base, 0x9a000);
	s->apic_base |= BIT64(8);
	x86_init(&f->cpu);
	assert_int_equal(s->activity, X86_RUNNING);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(load_segment_follows_the_exception_lists),
		cmocka_unit_test(load_segment_caches_descriptor_and_sets_accessed),
		cmocka_unit_test(null_ss_is_for_64bit_kernels),
		cmocka_unit_test(big_real_mode_keeps_its_limit),
		cmocka_unit_test(v86_loads_force_64k_data),
		cmocka_unit_test(linear_checks_limits),
		cmocka_unit_test(linear_checks_types),
		cmocka_unit_test(linear_in_64bit_code_checks_canonical_form_only),
		cmocka_unit_test(lldt_and_ltr_check_their_descriptors),
		cmocka_unit_test(ltr_in_long_mode_reads_sixteen_bytes),
		cmocka_unit_test(lar_lsl_verify_answer),
		cmocka_unit_test(lar_knows_gates_and_lsl_does_not),
		cmocka_unit_test(gdt_fault_leaves_everything_alone),
		cmocka_unit_test(reset_init_and_sipi_set_the_documented_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
