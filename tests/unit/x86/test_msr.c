/* The MSR table and kvmclock. */
#include "control_fake.h"

static u64 now_tsc;
static u64 test_tsc(struct x86_cpu *cpu) { return now_tsc; }
static u64 told_offset;
static void test_tsc_changed(struct x86_cpu *cpu) { told_offset = cpu->s.tsc_offset; }
static u64 test_wall(struct x86_cpu *cpu) { return 1700000000000000000ull; }
static bool apic_read(struct x86_cpu *cpu, u32 index, u64 *value)
{
	*value = 0x5a;
	return index == MSR_X2APIC_FIRST + 2 || index == MSR_TSC_DEADLINE;
}
static bool apic_write(struct x86_cpu *cpu, u32 index, u64 value)
{
	return index == MSR_TSC_DEADLINE;
}

static struct fake *msr_new(bool amd)
{
	struct fake *f = control_new();

	fake_long(f, 0);
	control_ops.host_tsc = test_tsc;
	control_ops.tsc_changed = test_tsc_changed;
	control_ops.wall_ns = test_wall;
	control_ops.msr_read = apic_read;
	control_ops.msr_write = apic_write;
	f->model.amd = amd;
	now_tsc = 5000000000ull; /* 2 s at the model's 2.5 GHz */
	return f;
}

static u64 read_ok(struct fake *f, u32 index)
{
	u64 value = 0;

	assert_ok(x86_rdmsr(&f->cpu, index, &value));
	return value;
}

static void unknown_msrs_fault_and_known_ones_have_names(void **state)
{
	struct fake *f = msr_new(false);
	u64 value;

	assert_fault(f, x86_rdmsr(&f->cpu, 0x12345, &value), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, 0x12345, 0), X86_GP, 0);
	assert_fault(f, x86_rdmsr(&f->cpu, 0xffffffff, &value), X86_GP, 0);
	assert_string_equal(x86_msr_name(MSR_LSTAR), "LSTAR");
	assert_null(x86_msr_name(0x12345));
	fake_free(f);
}

/* Binary search finds every slot: so the table is sorted. */
static void every_slot_is_in_the_table_and_reads_its_field(void **state)
{
	struct fake *f = msr_new(true);

	for (unsigned i = 0; i < x86_msr_slot_count; i++) {
		u32 index = x86_msr_slots[i].index;
		bool elsewhere =
			index == MSR_APIC_BASE || (index >= 0x4b564d02 && index <= 0x4b564d05);

		if (!elsewhere)
			assert_non_null(x86_msr_name(index));
	}
	f->cpu.s.mtrr_fix[10] = 0x0606060606060606;
	f->cpu.s.mtrr_var[7][1] = 0x800;
	assert_int_equal(read_ok(f, 0x26f), 0x0606060606060606);
	assert_int_equal(read_ok(f, 0x20f), 0x800);
	f->cpu.s.seg[X86_GS].base = 0x1234;
	assert_int_equal(read_ok(f, MSR_GS_BASE), 0x1234);
	fake_free(f);
}

static void addresses_must_be_canonical(void **state)
{
	static const u32 msrs[] = { MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE,
		MSR_KERNEL_GS_BASE, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP };
	struct fake *f = msr_new(false);

	for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
		assert_fault(f, x86_wrmsr(&f->cpu, msrs[i], BIT64(47)), X86_GP, 0);
		assert_ok(x86_wrmsr(&f->cpu, msrs[i], 0xffff800000000000));
		assert_int_equal(read_ok(f, msrs[i]), 0xffff800000000000);
	}
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_SFMASK, BIT64(32)), X86_GP, 0);
	fake_free(f);
}

static void memory_types_are_validated(void **state)
{
	struct fake *f = msr_new(false);

	assert_ok(x86_wrmsr(&f->cpu, MSR_PAT, 0x0407010500070406));
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_PAT, 2), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_PAT, 0x0800000000000000), X86_GP, 0);
	assert_int_equal(read_ok(f, MSR_MTRRCAP), 0x508);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_MTRRCAP, 0), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, 0x250, 7), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, 0x200, 0xc0000006));
	assert_fault(f, x86_wrmsr(&f->cpu, 0x200, 0x106), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, 0x200, BIT64(f->model.phys_bits)), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, 0x201, 0xc0000800));
	assert_fault(f, x86_wrmsr(&f->cpu, 0x201, 0xc0000801), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_MTRR_DEF_TYPE, 0xc06));
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_MTRR_DEF_TYPE, 0x1c06), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_MTRR_DEF_TYPE, 0xc02), X86_GP, 0);
	fake_free(f);
}

static void tsc_writes_move_offset_and_adjust_together(void **state)
{
	struct fake *f = msr_new(false);

	f->cpu.s.tsc_offset = 0;
	assert_ok(x86_wrmsr(&f->cpu, MSR_TSC, 100));
	assert_int_equal(read_ok(f, MSR_TSC), 100);
	assert_int_equal(read_ok(f, MSR_TSC_ADJUST), 100 - now_tsc);
	assert_int_equal(told_offset, 100 - now_tsc);
	assert_ok(x86_wrmsr(&f->cpu, MSR_TSC_ADJUST, 0));
	assert_int_equal(x86_tsc(&f->cpu), now_tsc);
	assert_int_equal(f->cpu.s.tsc_offset, 0);
	assert_int_equal(told_offset, 0);
	fake_free(f);
}

static void vendor_msrs_answer_only_their_vendor(void **state)
{
	struct fake *f = msr_new(true);
	u64 value;

	assert_int_equal(read_ok(f, MSR_AMD_HWCR), BIT64(24));
	assert_int_equal(read_ok(f, MSR_AMD_SYSCFG), 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_AMD_DE_CFG, 0x202));
	assert_int_equal(read_ok(f, MSR_AMD_DE_CFG), 2);
	assert_int_equal(read_ok(f, MSR_UCODE_REV), 0x01000065);
	assert_fault(f, x86_rdmsr(&f->cpu, MSR_MISC_ENABLE, &value), X86_GP, 0);
	f->model.amd = false;
	assert_fault(f, x86_rdmsr(&f->cpu, MSR_AMD_HWCR, &value), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_UCODE_REV, 0));
	assert_int_equal(read_ok(f, MSR_UCODE_REV), BIT64(32));
	assert_ok(x86_wrmsr(&f->cpu, MSR_MISC_ENABLE, BIT64(22)));
	assert_int_equal(read_ok(f, MSR_MISC_ENABLE), 0);
	fake_free(f);
}

static void apic_msrs_go_to_the_machine(void **state)
{
	struct fake *f = msr_new(false);
	u64 value;

	assert_int_equal(read_ok(f, MSR_X2APIC_FIRST + 2), 0x5a);
	assert_fault(f, x86_rdmsr(&f->cpu, MSR_X2APIC_FIRST + 1, &value), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_TSC_DEADLINE, 1));
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_APIC_BASE, 1), X86_GP, 0);
	fake_free(f);
}

/* The guest's own arithmetic (pvclock ABI) on the page. */
static u64 pvclock_ns(const struct fake *f, u64 at, u64 tsc)
{
	u64 delta = tsc - fake_get(f, at + 8, 8);
	s8 shift = (s8)fake_get(f, at + 28, 1);

	delta = shift < 0 ? delta >> -shift : delta << shift;
	return fake_get(f, at + 16, 8) + (u64)((u128)delta * fake_get(f, at + 24, 4) >> 32);
}

static void kvmclock_page_turns_tsc_into_time(void **state)
{
	struct fake *f = msr_new(false);
	const u64 at = 0x7000, hz[] = { 700000000, 1000000000, 2500000000, 4200000001 };

	for (unsigned i = 0; i < ARRAY_LEN(hz); i++) {
		f->model.tsc_hz = hz[i];
		f->cpu.s.tsc_offset = 12345;
		assert_ok(x86_wrmsr(&f->cpu, MSR_KVM_SYSTEM_TIME_NEW, at | 1));
		assert_int_equal(fake_get(f, at + 29, 1), 1); /* TSC stable */
		u64 later = now_tsc + 12345 + 10 * hz[i];
		u64 expect = (u64)((u128)now_tsc * 1000000000 / hz[i]) + 10000000000ull;
		s64 error = (s64)(pvclock_ns(f, at, later) - expect);
		assert_in_range(error + 20, 0, 40);
	}
	/* Versions are even at rest and grow. */
	u64 version = fake_get(f, at, 4);
	assert_int_equal(version & 1, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_TSC, 0)); /* moves the clock's reference */
	assert_int_equal(fake_get(f, at, 4), version + 2);
	assert_int_equal(fake_get(f, at + 8, 8), 0);
	fake_free(f);
}

static void kvmclock_survives_wrong_addresses(void **state)
{
	struct fake *f = msr_new(false);

	assert_fault(f, x86_wrmsr(&f->cpu, MSR_KVM_SYSTEM_TIME, 0x7003), X86_GP, 0);
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_KVM_SYSTEM_TIME, BIT64(60) | 1), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_KVM_SYSTEM_TIME, (FAKE_RAM + 0x1000) | 1)); /* not RAM */
	assert_ok(x86_wrmsr(&f->cpu, MSR_KVM_SYSTEM_TIME, 0));
	assert_ok(x86_wrmsr(&f->cpu, MSR_KVM_WALL_CLOCK, 0x7100));
	assert_int_equal(fake_get(f, 0x7104, 4), 1700000000 - 2);
	fake_free(f);
}

/* Whatever a guest writes wherever: a fault or a value, and reading it back works. */
static void random_writes_fault_or_read_back(void **state)
{
	static const u32 bases[] = { 0, 0x100, 0x200, 0x4b564d00, 0xc0000000, 0xc0000080,
		0xc0010000, 0xc0011000, 0xfffffff0 };
	struct fake *f = msr_new(true);
	u64 seed = 77;

	for (unsigned i = 0; i < 200000; i++) {
		u64 random = fake_random(&seed), value = fake_random(&seed) >> (random & 63);
		u32 index = bases[i % ARRAY_LEN(bases)] + (u32)(random >> 32 & 0x1ff);
		u64 back;

		f->model.amd = random & BIT64(20);
		f->cpu.s.cr0 &= ~(random & BIT64(21) ? CR0_PG : 0);
		if (x86_wrmsr(&f->cpu, index, value) == X86_OK)
			assert_true(x86_rdmsr(&f->cpu, index, &back) == X86_OK);
		else
			assert_int_equal(f->cpu.fault.vector, X86_GP);
	}
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_msrs_fault_and_known_ones_have_names),
		cmocka_unit_test(every_slot_is_in_the_table_and_reads_its_field),
		cmocka_unit_test(addresses_must_be_canonical),
		cmocka_unit_test(memory_types_are_validated),
		cmocka_unit_test(tsc_writes_move_offset_and_adjust_together),
		cmocka_unit_test(vendor_msrs_answer_only_their_vendor),
		cmocka_unit_test(apic_msrs_go_to_the_machine),
		cmocka_unit_test(kvmclock_page_turns_tsc_into_time),
		cmocka_unit_test(kvmclock_survives_wrong_addresses),
		cmocka_unit_test(random_writes_fault_or_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
