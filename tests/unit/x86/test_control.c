/* Control, debug and flag registers; permissions. */
#include "control_fake.h"

static void cr0_refuses_inconsistent_bits(void **state)
{
	struct fake *f = control_new();

	fake_protected(f, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 0, CR0_PG), X86_GP, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 0, CR0_PE | CR0_NW), X86_GP, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 0, CR0_PE | BIT64(32)), X86_GP, 0);
	assert_ok(
		x86_write_cr(&f->cpu, 0, CR0_PE | BIT64(10))); /* undefined low bits are ignored */
	assert_int_equal(f->cpu.s.cr0, CR0_PE | CR0_ET);
	assert_fault(f, x86_write_cr(&f->cpu, 1, 0), X86_UD, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 8, 16), X86_GP, 0);
	fake_free(f);
}

static void paging_with_lme_activates_long_mode_when_all_conditions_hold(void **state)
{
	struct fake *f = control_new();
	struct x86_state *s = &f->cpu.s;
	u64 on;

	fake_protected(f, 0);
	fake_identity_map(f);
	on = s->cr0 | CR0_PG;
	s->cr3 = FAKE_PML4;
	assert_ok(x86_wrmsr(&f->cpu, MSR_EFER, EFER_LME));
	assert_fault(f, x86_write_cr(&f->cpu, 0, on), X86_GP, 0); /* no PAE */
	assert_ok(x86_write_cr(&f->cpu, 4, CR4_PAE));
	s->seg[X86_CS].attr |= SEG_L;
	assert_fault(f, x86_write_cr(&f->cpu, 0, on), X86_GP, 0);
	s->seg[X86_CS].attr &= ~SEG_L;
	s->seg[X86_TR].attr = SEG_P | 3;
	assert_fault(f, x86_write_cr(&f->cpu, 0, on), X86_GP, 0);
	s->seg[X86_TR].attr = SEG_P | 11;
	assert_flush(X86_FLUSH_ALL, x86_write_cr(&f->cpu, 0, on));
	assert_true(s->efer & EFER_LMA);

	/* Inside: LME and PAE are locked; compatibility mode may leave. */
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_EFER, 0), X86_GP, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 4, 0), X86_GP, 0);
	s->seg[X86_CS].attr |= SEG_L;
	assert_fault(f, x86_write_cr(&f->cpu, 0, on & ~CR0_PG), X86_GP, 0);
	s->seg[X86_CS].attr &= ~SEG_L;
	assert_ok(x86_write_cr(&f->cpu, 0, on & ~CR0_PG));
	assert_false(s->efer & EFER_LMA);
	assert_true(s->efer & EFER_LME);
	fake_free(f);
}

static void cr3_flushes_what_pcids_and_bit_63_say(void **state)
{
	struct fake *f = control_new();

	fake_long(f, 0);
	assert_flush(X86_FLUSH_NONGLOBAL, x86_write_cr(&f->cpu, 3, FAKE_PML4));
	assert_fault(f, x86_write_cr(&f->cpu, 3, FAKE_PML4 | BIT64(63)), X86_GP, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 3, BIT64(f->model.phys_bits)), X86_GP, 0);

	f->cpu.s.cr3 = FAKE_PML4 | 5;
	assert_fault(f, x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_PCIDE), X86_GP, 0);
	f->cpu.s.cr3 = FAKE_PML4;
	assert_flush(X86_FLUSH_ALL, x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_PCIDE));
	assert_flush(X86_FLUSH_PCID, x86_write_cr(&f->cpu, 3, FAKE_PML4 | 7));
	assert_int_equal(flushed.pcid, 7);
	f->mode_changes = 0;
	assert_no_flush(x86_write_cr(&f->cpu, 3, FAKE_PML4 | 8 | BIT64(63)));
	assert_int_equal(f->cpu.s.cr3, FAKE_PML4 | 8); /* bit 63 is not stored */
	assert_int_equal(f->mode_changes, 1);
	/* PG and PCIDE: neither way out while PCIDs are on. */
	f->cpu.s.seg[X86_CS].attr &= ~SEG_L;
	assert_fault(f, x86_write_cr(&f->cpu, 0, CR0_PE), X86_GP, 0);
	fake_free(f);
}

static void cr4_refuses_hidden_features_and_flushes(void **state)
{
	struct fake *f = control_new();

	fake_long(f, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_LA57), X86_GP, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 4, CR4_PAE | BIT64(22)), X86_GP, 0); /* PKE */
	assert_fault(f, x86_write_cr(&f->cpu, 4, CR4_PAE | BIT64(32)), X86_GP, 0);
	assert_flush(X86_FLUSH_ALL, x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_PGE));
	assert_flush(X86_FLUSH_ALL, x86_write_cr(&f->cpu, 4, CR4_PAE));
	assert_no_flush(x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_OSFXSR));
	assert_no_flush(x86_write_cr(&f->cpu, 4, CR4_PAE | CR4_MCE | CR4_OSFXSR));
	fake_protected(f, 0);
	assert_fault(f, x86_write_cr(&f->cpu, 4, CR4_PCIDE), X86_GP, 0);
	fake_free(f);
}

static void pae_paging_checks_its_pdptes(void **state)
{
	struct fake *f = control_new();

	fake_protected(f, 0);
	f->cpu.s.cr4 = CR4_PAE;
	f->cpu.s.cr3 = 0x20000;
	fake_put(f, 0x20000, 8, 0x21000 | 1 | BIT64(62)); /* reserved */
	assert_fault(f, x86_write_cr(&f->cpu, 0, f->cpu.s.cr0 | CR0_PG), X86_GP, 0);
	fake_put(f, 0x20000, 8, 0x21000 | 1);
	assert_ok(x86_write_cr(&f->cpu, 0, f->cpu.s.cr0 | CR0_PG));
	fake_free(f);
}

static void lmsw_sets_pe_but_never_clears_it(void **state)
{
	struct fake *f = control_new();

	fake_real(f);
	assert_ok(x86_lmsw(&f->cpu, 0xfff1));
	assert_true(f->cpu.s.cr0 & CR0_PE);
	assert_ok(x86_lmsw(&f->cpu, 0xe));
	assert_int_equal(f->cpu.s.cr0 & 0xf, 0xf);
	assert_ok(x86_clts(&f->cpu));
	assert_int_equal(f->cpu.s.cr0 & 0xf, 0x7);
	fake_free(f);
}

static void efer_reserved_bits_fault_and_nxe_flushes(void **state)
{
	struct fake *f = control_new();

	fake_protected(f, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_EFER, BIT64(1)), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_EFER, BIT64(14)), X86_GP, 0); /* FFXSR is hidden */
	assert_ok(x86_wrmsr(&f->cpu, MSR_EFER, EFER_LMA));		     /* read-only */
	assert_int_equal(f->cpu.s.efer, 0);
	assert_flush(X86_FLUSH_ALL, x86_wrmsr(&f->cpu, MSR_EFER, EFER_NXE | EFER_SCE));
	fake_free(f);
}

static void xsetbv_keeps_components_consistent(void **state)
{
	struct fake *f = control_new();

	fake_long(f, 0);
	f->model.xcr0_mask = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512;
	assert_fault(f, x86_xsetbv(&f->cpu, 0, 1), X86_UD, 0);
	f->cpu.s.cr4 |= CR4_OSXSAVE;
	assert_fault(f, x86_xsetbv(&f->cpu, 1, 1), X86_GP, 0);
	assert_fault(f, x86_xsetbv(&f->cpu, 0, XCR0_SSE), X86_GP, 0);
	assert_fault(f, x86_xsetbv(&f->cpu, 0, XCR0_X87 | XCR0_AVX), X86_GP, 0);
	assert_fault(f, x86_xsetbv(&f->cpu, 0, 7 | XCR0_OPMASK), X86_GP, 0);
	assert_fault(f, x86_xsetbv(&f->cpu, 0, 3 | XCR0_AVX512), X86_GP, 0);
	assert_fault(f, x86_xsetbv(&f->cpu, 0, 7 | BIT64(9)), X86_GP, 0);
	assert_ok(x86_xsetbv(&f->cpu, 0, 7 | XCR0_AVX512));
	fake_free(f);
}

static void invpcid_checks_type_descriptor_and_address(void **state)
{
	struct fake *f = control_new();

	fake_long(f, 0);
	assert_fault(f, x86_invpcid(&f->cpu, 4, 0, 0), X86_GP, 0);
	assert_fault(f, x86_invpcid(&f->cpu, 2, BIT64(12), 0), X86_GP, 0);
	assert_fault(f, x86_invpcid(&f->cpu, 1, 3, 0), X86_GP, 0); /* PCIDE is off */
	f->cpu.s.cr4 |= CR4_PCIDE;
	assert_fault(f, x86_invpcid(&f->cpu, 0, 3, BIT64(60)), X86_GP, 0);
	assert_flush(X86_FLUSH_PCID_PAGE, x86_invpcid(&f->cpu, 0, 3, 0x1000));
	assert_int_equal(flushed.pcid, 3);
	assert_flush(X86_FLUSH_PCID, x86_invpcid(&f->cpu, 1, 3, 0));
	assert_flush(X86_FLUSH_ALL, x86_invpcid(&f->cpu, 2, 0, 0));
	assert_flush(X86_FLUSH_ALL, x86_invpcid(&f->cpu, 3, 0, 0));
	assert_no_flush(x86_invlpg(&f->cpu, BIT64(60)));
	assert_flush(X86_FLUSH_PAGE, x86_invlpg(&f->cpu, 0x5000));
	fake_free(f);
}

static void debug_registers_alias_and_are_guarded(void **state)
{
	struct fake *f = control_new();
	u64 value;

	fake_long(f, 0);
	assert_ok(x86_write_dr(&f->cpu, 5, 0x455)); /* DR7 */
	assert_int_equal(f->cpu.s.dr7, 0x455);
	assert_ok(x86_write_dr(&f->cpu, 7, 0xffffffff & ~BIT64(13)));
	assert_int_equal(f->cpu.s.dr7, 0xffff07ff);
	assert_ok(x86_write_dr(&f->cpu, 4, 0));
	assert_ok(x86_read_dr(&f->cpu, 6, &value));
	assert_int_equal(value, 0xffff0ff0);
	assert_fault(f, x86_write_dr(&f->cpu, 6, BIT64(32)), X86_GP, 0);
	assert_fault(f, x86_write_dr(&f->cpu, 7, BIT64(32)), X86_GP, 0);
	assert_ok(x86_write_dr(&f->cpu, 7, BIT64(13)));
	assert_fault(f, x86_read_dr(&f->cpu, 0, &value), X86_DB, 0);
	assert_int_equal(f->cpu.fault.dr6, BIT64(13));
	f->cpu.s.cr4 |= CR4_DE;
	assert_fault(f, x86_read_dr(&f->cpu, 4, &value), X86_UD, 0); /* before GD */
	fake_free(f);
}

static void cli_and_sti_follow_iopl_vme_and_pvi(void **state)
{
	struct fake *f = control_new();
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 0);
	assert_ok(x86_cli(&f->cpu));
	assert_ok(x86_sti(&f->cpu));
	assert_int_equal(s->blocking, BLOCK_STI);
	s->blocking = 0;
	assert_ok(x86_sti(&f->cpu)); /* IF was set already: no shadow */
	assert_int_equal(s->blocking, 0);

	fake_protected(f, 3);
	assert_fault(f, x86_cli(&f->cpu), X86_GP, 0);
	s->cr4 |= CR4_PVI;
	assert_ok(x86_sti(&f->cpu));
	assert_true(s->rflags & FLAG_VIF);
	assert_ok(x86_cli(&f->cpu));
	assert_true(s->rflags & FLAG_IF);
	assert_false(s->rflags & FLAG_VIF);
	s->rflags |= FLAG_VIP;
	assert_fault(f, x86_sti(&f->cpu), X86_GP, 0);

	fake_v86(f, 0);
	s->cr4 = CR4_PVI;
	assert_fault(f, x86_cli(&f->cpu), X86_GP, 0);
	s->cr4 = CR4_VME;
	assert_ok(x86_sti(&f->cpu));
	assert_true(s->rflags & FLAG_VIF);
	fake_v86(f, 3);
	assert_ok(x86_cli(&f->cpu));
	assert_false(s->rflags & FLAG_IF);
	fake_free(f);
}

static void pushf_and_popf_move_only_permitted_flags(void **state)
{
	struct fake *f = control_new();
	struct x86_state *s = &f->cpu.s;
	u64 value;

	fake_protected(f, 0);
	s->rflags |= FLAG_RF | FLAG_VIP;
	assert_ok(x86_popf(&f->cpu, 4, ~0ull));
	assert_int_equal(s->rflags, 0x247fd7 | FLAG_VIP); /* not VM, RF, VIF; reserved 0 */
	assert_ok(x86_pushf_value(&f->cpu, 2, &value));
	assert_int_equal(value, 0x7fd7);

	fake_protected(f, 3);
	assert_ok(x86_popf(&f->cpu, 4, FLAG_IOPL | FLAG_CF));
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_IF | FLAG_CF);
	s->rflags |= FLAG_IOPL;
	assert_ok(x86_popf(&f->cpu, 4, 0)); /* IF may go, IOPL stays */
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_IOPL);

	fake_v86(f, 0);
	assert_fault(f, x86_pushf_value(&f->cpu, 2, &value), X86_GP, 0);
	assert_fault(f, x86_popf(&f->cpu, 2, 0), X86_GP, 0);
	s->cr4 = CR4_VME;
	assert_fault(f, x86_popf(&f->cpu, 4, 0), X86_GP, 0);
	assert_ok(x86_pushf_value(&f->cpu, 2, &value));
	assert_int_equal(value, FLAG_ONE | FLAG_IOPL);
	assert_ok(x86_popf(&f->cpu, 2, FLAG_IF | FLAG_ZF));
	assert_int_equal(s->rflags, FLAG_ONE | FLAG_IF | FLAG_VM | FLAG_VIF | FLAG_ZF);
	assert_fault(f, x86_popf(&f->cpu, 2, FLAG_TF), X86_GP, 0);
	s->rflags |= FLAG_VIP;
	assert_fault(f, x86_popf(&f->cpu, 2, FLAG_IF), X86_GP, 0);
	fake_free(f);
}

static void ports_are_guarded_by_iopl_and_bitmap(void **state)
{
	struct fake *f = control_new();

	fake_protected(f, 3);
	fake_put(f, FAKE_TSS + 0x88 + 0x3f8 / 8, 1, 0xfe);
	assert_ok(x86_check_port(&f->cpu, 0x3f8, 1));
	assert_fault(f, x86_check_port(&f->cpu, 0x3f8, 2), X86_GP, 0);
	/* Straddling a byte of the map. */
	fake_put(f, FAKE_TSS + 0x88, 2, 0xfe7f);
	assert_ok(x86_check_port(&f->cpu, 7, 2));
	fake_put(f, FAKE_TSS + 0x88, 2, 0xff7f);
	assert_fault(f, x86_check_port(&f->cpu, 7, 2), X86_GP, 0);
	assert_fault(f, x86_check_port(&f->cpu, 0xffff, 4), X86_GP, 0); /* beyond the limit */
	f->cpu.s.rflags |= FLAG_IOPL;
	assert_ok(x86_check_port(&f->cpu, 0x3f9, 1));
	fake_v86(f, 3); /* the bitmap counts whatever IOPL says */
	assert_fault(f, x86_check_port(&f->cpu, 0x3f9, 1), X86_GP, 0);
	f->cpu.s.seg[X86_TR].attr = SEG_P | 3;
	assert_fault(f, x86_check_port(&f->cpu, 0x3f8, 1), X86_GP, 0);
	fake_free(f);
}

static void units_that_are_off_fault_in_the_right_way(void **state)
{
	static const struct {
		enum x86_simd kind;
		u64 cr0, cr4, xcr0;
		int vector; /* -1: allowed */
	} cases[] = {
		{ X86_SIMD_X87, CR0_EM, 0, 1, X86_NM },
		{ X86_SIMD_X87, CR0_TS, 0, 1, X86_NM },
		{ X86_SIMD_WAIT, CR0_TS, 0, 1, -1 },
		{ X86_SIMD_WAIT, CR0_TS | CR0_MP, 0, 1, X86_NM },
		{ X86_SIMD_MMX, CR0_EM, 0, 1, X86_UD },
		{ X86_SIMD_MMX, CR0_TS, 0, 1, X86_NM },
		{ X86_SIMD_SSE, 0, 0, 1, X86_UD },
		{ X86_SIMD_SSE, CR0_EM | CR0_TS, CR4_OSFXSR, 1, X86_UD },
		{ X86_SIMD_SSE, CR0_TS, CR4_OSFXSR, 1, X86_NM },
		{ X86_SIMD_SSE, 0, CR4_OSFXSR, 1, -1 },
		{ X86_SIMD_AVX, 0, CR4_OSXSAVE, 3, X86_UD },
		{ X86_SIMD_AVX, CR0_TS, CR4_OSXSAVE, 7, X86_NM },
		{ X86_SIMD_AVX, 0, CR4_OSXSAVE, 7, -1 },
		{ X86_SIMD_AVX512, 0, CR4_OSXSAVE, 7, X86_UD },
		{ X86_SIMD_AVX512, 0, CR4_OSXSAVE, 0xe7, -1 },
		{ X86_SIMD_XSAVE, CR0_TS, 0, 1, X86_UD },
		{ X86_SIMD_XSAVE, CR0_TS, CR4_OSXSAVE, 1, X86_NM },
		{ X86_SIMD_FXSAVE, CR0_EM, 0, 1, X86_NM },
	};
	struct fake *f = control_new();

	fake_protected(f, 0);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		f->cpu.s.cr0 = CR0_PE | cases[i].cr0;
		f->cpu.s.cr4 = cases[i].cr4;
		f->cpu.s.xcr0 = cases[i].xcr0;
		if (cases[i].vector < 0)
			assert_ok(x86_check_simd(&f->cpu, cases[i].kind));
		else
			assert_fault(f, x86_check_simd(&f->cpu, cases[i].kind), cases[i].vector, 0);
	}
	f->cpu.s.cr0 = 0; /* VEX does not exist in real mode */
	f->cpu.s.cr4 = CR4_OSXSAVE;
	assert_fault(f, x86_check_simd(&f->cpu, X86_SIMD_AVX), X86_UD, 0);
	fake_free(f);
}

static void privilege_checks(void **state)
{
	struct fake *f = control_new();

	fake_protected(f, 3);
	assert_fault(f, x86_require_cpl0(&f->cpu), X86_GP, 0);
	assert_ok(x86_check_umip(&f->cpu));
	assert_ok(x86_rdtsc_allowed(&f->cpu));
	f->cpu.s.cr4 = CR4_UMIP | CR4_TSD;
	assert_fault(f, x86_check_umip(&f->cpu), X86_GP, 0);
	assert_fault(f, x86_rdtsc_allowed(&f->cpu), X86_GP, 0);
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cr0_refuses_inconsistent_bits),
		cmocka_unit_test(paging_with_lme_activates_long_mode_when_all_conditions_hold),
		cmocka_unit_test(cr3_flushes_what_pcids_and_bit_63_say),
		cmocka_unit_test(cr4_refuses_hidden_features_and_flushes),
		cmocka_unit_test(pae_paging_checks_its_pdptes),
		cmocka_unit_test(lmsw_sets_pe_but_never_clears_it),
		cmocka_unit_test(efer_reserved_bits_fault_and_nxe_flushes),
		cmocka_unit_test(xsetbv_keeps_components_consistent),
		cmocka_unit_test(invpcid_checks_type_descriptor_and_address),
		cmocka_unit_test(debug_registers_alias_and_are_guarded),
		cmocka_unit_test(cli_and_sti_follow_iopl_vme_and_pvi),
		cmocka_unit_test(pushf_and_popf_move_only_permitted_flags),
		cmocka_unit_test(ports_are_guarded_by_iopl_and_bitmap),
		cmocka_unit_test(units_that_are_off_fault_in_the_right_way),
		cmocka_unit_test(privilege_checks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
