/* The CPUID model: policy, topology, dynamic fields; on this host's answers and on invented hosts.
 */
#include "control_fake.h"
#include "x86/cpuid_policy.h"
#include <errno.h>

/* An Intel host without AVX-512, with everything else a policy might have to hide. */
static struct x86_cpuid intel_host(u32 leaf, u32 subleaf)
{
	switch (leaf) {
	case 0: return (struct x86_cpuid){ 0x20, 0x756e6547, 0x6c65746e, 0x49656e69 };
	case 1: return (struct x86_cpuid){ 0x000906ea, 0, ~0u, ~0u };
	case 4:
		if (subleaf > 3)
			return (struct x86_cpuid){ 0 };
		return (struct x86_cpuid){ 0xfc004001 | (subleaf < 2 ? 1 : subleaf) << 5, 1, 2, 3 };
	case 7:
		return subleaf < 2 ? (struct x86_cpuid){ ~0u, ~0u, ~0u, ~0u }
				   : (struct x86_cpuid){ 0 };
	case 0xd:
		if (subleaf == 0)
			return (struct x86_cpuid){ 7, 832, 832, 0 };
		if (subleaf == 1)
			return (struct x86_cpuid){ ~0u, 832, 0x100, 0 };
		return subleaf == 2 ? (struct x86_cpuid){ 256, 576, 0, 0 }
				    : (struct x86_cpuid){ 0 };
	case 0x80000000: return (struct x86_cpuid){ 0x80000008 };
	case 0x80000001: return (struct x86_cpuid){ 0, 0, ~0u, ~0u };
	case 0x80000007:
	case 0x80000008: return (struct x86_cpuid){ 0x3027, ~0u, ~0u, ~0u };
	default: return (struct x86_cpuid){ ~0u, ~0u, ~0u, ~0u };
	}
}

/* A host that answers every leaf with ones: nothing may overflow or escape the policy. */
static struct x86_cpuid ones_host(u32 leaf, u32 subleaf)
{
	return (struct x86_cpuid){ ~0u, ~0u, ~0u, ~0u };
}

static struct x86_cpuid zeros_host(u32 leaf, u32 subleaf) { return (struct x86_cpuid){ 0 }; }

static struct fake *cpuid_new_with(x86_host_cpuid host, struct x86_topology topology)
{
	struct fake *f = control_new();

	x86_model_build(&f->model, host, 2600000000ull, &topology);
	fake_long(f, 0);
	return f;
}

static struct fake *cpuid_new(x86_host_cpuid host, unsigned cpus)
{
	return cpuid_new_with(host, x86_topology_flat(cpus));
}

static u32 policy_known_bits(u32 leaf, u32 subleaf, enum policy_reg reg)
{
	u32 known = 0;

	for (unsigned i = 0; i < x86_policy_count; i++) {
		const struct policy_row *r = &x86_policy[i];

		if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg &&
			r->action != POLICY_HIDE)
			known |= r->bits;
	}
	return known;
}

static void no_bit_has_two_rows_and_each_has_a_reason(void **state)
{
	for (unsigned i = 0; i < x86_policy_count; i++) {
		const struct policy_row *a = &x86_policy[i];

		assert_true(a->bits && strlen(a->what) && strlen(a->why) > 3);
		for (unsigned j = 0; j < i; j++) {
			const struct policy_row *b = &x86_policy[j];
			bool same =
				a->leaf == b->leaf && a->subleaf == b->subleaf && a->reg == b->reg;

			assert_false(same && (a->bits & b->bits));
		}
	}
}

static void features_outside_the_policy_are_hidden(void **state)
{
	static const x86_host_cpuid hosts[] = { intel_host, ones_host, zeros_host,
		x86_native_cpuid };
	static const u32 leaves[] = { 7, 0x80000007, 0x80000021 };

	for (unsigned h = 0; h < ARRAY_LEN(hosts); h++) {
		struct fake *f = cpuid_new(hosts[h], 2);

		for (unsigned i = 0; i < ARRAY_LEN(leaves); i++) {
			struct x86_cpuid c = x86_cpuid(&f->cpu, leaves[i], 0, 0);

			if (leaves[i] > 0x80000008 && !f->model.amd)
				continue; /* Intel answers with the highest basic leaf */
			assert_int_equal(c.ebx & ~policy_known_bits(leaves[i], 0, REG_EBX), 0);
			assert_int_equal(c.ecx & ~policy_known_bits(leaves[i], 0, REG_ECX), 0);
			assert_int_equal(c.edx & ~policy_known_bits(leaves[i], 0, REG_EDX), 0);
		}
		struct x86_cpuid one = x86_cpuid(&f->cpu, 1, 0, 0);
		assert_int_equal(one.ecx & ~policy_known_bits(1, 0, REG_ECX), 0);
		assert_int_equal(one.edx & 0x4080, 0x4080); /* MCE, MCA: with no banks */
		assert_true(one.ecx & BIT(31));
		assert_int_equal(x86_cpuid(&f->cpu, 0xa, 0, 0).eax, 0);	 /* no PMU */
		assert_int_equal(x86_cpuid(&f->cpu, 0x12, 0, 0).eax, 0); /* no SGX */
		assert_in_range(f->model.phys_bits, 36, 52);
		fake_free(f);
	}
}

static void vector_features_need_their_state(void **state)
{
	struct fake *f = cpuid_new(intel_host, 1);

	assert_int_equal(f->model.xcr0_mask, 7);
	assert_true(x86_model_has(&f->model, 7, 0, REG_EBX, 5));   /* AVX2 */
	assert_false(x86_model_has(&f->model, 7, 0, REG_EBX, 16)); /* AVX512F */
	assert_false(x86_model_has(&f->model, 7, 0, REG_ECX, 11)); /* VNNI */
	fake_free(f);
}

static void intel_guests_see_an_immune_processor(void **state)
{
	struct fake *f = cpuid_new(intel_host, 1);
	u64 value = 0;

	assert_string_equal(f->model.vendor, "GenuineIntel");
	assert_ok(x86_rdmsr(&f->cpu, MSR_ARCH_CAP, &value));
	assert_int_equal(value, X86_ARCH_CAP_IMMUNE);
	assert_ok(x86_wrmsr(&f->cpu, MSR_SPEC_CTRL, 1));
	assert_fault(f, x86_wrmsr(&f->cpu, MSR_SPEC_CTRL, 8), X86_GP, 0);
	assert_ok(x86_wrmsr(&f->cpu, MSR_PRED_CMD, 1));
	assert_int_equal(x86_cpuid(&f->cpu, 0x80000000, 0, 0).eax, 0x80000008);
	/* Beyond the last leaf Intel repeats the highest basic one. */
	assert_int_equal(x86_cpuid(&f->cpu, 0x5000, 1, 0).ecx, 0x201);
	fake_free(f);
}

static void topology_is_the_same_in_every_leaf(void **state)
{
	static const struct {
		unsigned cpus, width;
	} cases[] = { { 1, 0 }, { 2, 1 }, { 3, 2 }, { 8, 3 }, { 255, 8 } };

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned n = cases[i].cpus, width = cases[i].width;
		struct fake *f = cpuid_new(intel_host, n);
		u32 id = n - 1;

		struct x86_cpuid one = x86_cpuid(&f->cpu, 1, 0, id);
		assert_int_equal(one.ebx >> 24, id);
		assert_int_equal((one.ebx >> 16) & 0xff, width == 8 ? 255 : 1u << width);
		assert_int_equal(!!(one.edx & BIT(28)), n > 1);
		struct x86_cpuid smt = x86_cpuid(&f->cpu, 0xb, 0, id),
				 core = x86_cpuid(&f->cpu, 0xb, 1, id);
		assert_int_equal(smt.eax, 0);
		assert_int_equal(smt.ebx, 1);
		assert_int_equal(smt.ecx, 0x100);
		assert_int_equal(core.eax, width);
		assert_int_equal(core.ebx, n);
		assert_int_equal(core.ecx, 0x201);
		assert_int_equal(core.edx, id);
		assert_int_equal(x86_cpuid(&f->cpu, 0xb, 2, id).ecx, 2);
		/* L1 is private, L3 shared by all. */
		assert_int_equal((x86_cpuid(&f->cpu, 4, 0, id).eax >> 14) & 0xfff, 0);
		assert_int_equal((x86_cpuid(&f->cpu, 4, 3, id).eax >> 14) & 0xfff, BIT(width) - 1);
		fake_free(f);
	}
}

/* What an operating system makes of the ids: package, core and thread of each processor, by leaf
 * 0xb as by 0x1f, and who shares a cache. */
static void ids_say_where_a_processor_is(void **state)
{
	static const struct x86_topology cases[] = { { 2, 2, 1 }, { 1, 2, 2 }, { 2, 2, 2 },
		{ 4, 1, 2 }, { 2, 3, 1 }, { 1, 3, 2 }, { 3, 5, 3 } };

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		const struct x86_topology *t = &cases[i];
		struct fake *f = cpuid_new_with(intel_host, *t);

		for (unsigned n = 0; n < x86_topology_count(t); n++) {
			u32 id = x86_topology_apic_id(t, n);
			struct x86_cpuid smt = x86_cpuid(&f->cpu, 0xb, 0, id),
					 core = x86_cpuid(&f->cpu, 0xb, 1, id),
					 smt_1f = x86_cpuid(&f->cpu, 0x1f, 0, id),
					 core_1f = x86_cpuid(&f->cpu, 0x1f, 1, id),
					 one = x86_cpuid(&f->cpu, 1, 0, id);

			assert_int_equal(core.edx, id);
			assert_int_equal(id >> core.eax, n / (t->cores * t->threads));
			assert_int_equal(
				(id & (BIT(core.eax) - 1)) >> smt.eax, n / t->threads % t->cores);
			assert_int_equal(id & (BIT(smt.eax) - 1), n % t->threads);
			assert_int_equal(smt.ebx, t->threads);
			assert_int_equal(core.ebx, t->cores * t->threads);
			assert_memory_equal(&smt, &smt_1f, sizeof(smt));
			assert_memory_equal(&core, &core_1f, sizeof(core));
			/* SDM 2A: the first core's threads share what is the core's. */
			u32 l1 = x86_cpuid(&f->cpu, 4, 0, id).eax,
			    l3 = x86_cpuid(&f->cpu, 4, 3, id).eax;
			assert_int_equal((l1 >> 14 & 0xfff) + 1, BIT(smt.eax));
			assert_int_equal((l3 >> 14 & 0xfff) + 1, BIT(core.eax));
			assert_int_equal((l1 >> 26) + 1, BIT(core.eax - smt.eax));
			assert_int_equal(one.ebx >> 16 & 0xff, BIT(core.eax));
			assert_int_equal(!!(one.edx & BIT(28)), t->cores * t->threads > 1);
		}
		fake_free(f);
	}
}

/* As intel_host, but AMD's. */
static struct x86_cpuid amd_host(u32 leaf, u32 subleaf)
{
	switch (leaf) {
	case 0: return (struct x86_cpuid){ 0x10, 0x68747541, 0x444d4163, 0x69746e65 };
	case 0x80000000: return (struct x86_cpuid){ 0x80000021 };
	case 0x8000001d: return intel_host(4, subleaf);
	default: return intel_host(leaf, subleaf);
	}
}

static void amd_ids_say_so_too(void **state)
{
	static const struct x86_topology t = { 2, 3, 2 };
	struct fake *f = cpuid_new_with(amd_host, t);

	assert_true(f->model.amd);
	for (unsigned n = 0; n < x86_topology_count(&t); n++) {
		u32 id = x86_topology_apic_id(&t, n);
		struct x86_cpuid size = x86_cpuid(&f->cpu, 0x80000008, 0, id),
				 ids = x86_cpuid(&f->cpu, 0x8000001e, 0, id);

		assert_int_equal(size.ecx, 5 | 3 << 12);
		assert_int_equal(ids.eax, id);
		assert_int_equal(ids.ebx, 1 << 8 | n / 2 % 3);
		assert_int_equal(ids.ecx, n / 6);
		assert_int_equal(x86_cpuid(&f->cpu, 0x8000001d, 0, id).eax >> 14 & 0xfff, 1);
		assert_int_equal(x86_cpuid(&f->cpu, 0x8000001d, 3, id).eax >> 14 & 0xfff, 7);
		assert_int_equal(x86_cpuid(&f->cpu, 0xb, 1, id).edx, id);
		assert_int_equal(x86_cpuid(&f->cpu, 0x1f, 0, id).ebx, 0); /* Intel's leaf */
	}
	fake_free(f);
}

static void amd_topology_leaves_agree(void **state)
{
	struct fake *f = cpuid_new(x86_native_cpuid, 4);

	if (!f->model.amd) {
		fake_free(f);
		skip();
	}
	assert_int_equal(x86_cpuid(&f->cpu, 0x80000008, 0, 0).ecx, 3 | 2 << 12);
	assert_int_equal(x86_cpuid(&f->cpu, 0x8000001e, 0, 3).eax, 3);
	assert_int_equal(x86_cpuid(&f->cpu, 0x8000001e, 0, 3).ebx, 3); /* core 3, one thread */
	assert_true(x86_model_has(&f->model, 0x80000021, 0, REG_EAX, 8));
	assert_true(f->model.efer_mask & BIT64(21));
	fake_free(f);
}

static void frequencies_multiply_to_the_tsc(void **state)
{
	struct fake *f = cpuid_new(intel_host, 1);
	struct x86_cpuid c = x86_cpuid(&f->cpu, 0x15, 0, 0);

	assert_int_equal(c.ecx, X86_APIC_TIMER_HZ);
	assert_int_equal((u64)c.ecx * c.ebx / c.eax, 2600000000ull);
	assert_int_equal(x86_cpuid(&f->cpu, 0x16, 0, 0).eax, 2600);
	fake_free(f);
}

static void kvm_leaves_announce_kvmclock(void **state)
{
	struct fake *f = cpuid_new(x86_native_cpuid, 1);
	struct x86_cpuid c = x86_cpuid(&f->cpu, 0x40000000, 0, 0);

	assert_int_equal(c.eax, 0x40000010);
	assert_memory_equal(&c.ebx, "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(
		x86_cpuid(&f->cpu, 0x40000001, 0, 0).eax, BIT(0) | BIT(1) | BIT(3) | BIT(24));
	assert_int_equal(x86_cpuid(&f->cpu, 0x40000010, 0, 0).eax, 2600000);
	assert_int_equal(x86_cpuid(&f->cpu, 0x40000010, 0, 0).ebx, 1000000);
	fake_free(f);
}

static void dynamic_fields_follow_the_state(void **state)
{
	struct fake *f = cpuid_new(intel_host, 1);
	struct x86_state *s = &f->cpu.s;

	assert_false(x86_cpuid(&f->cpu, 1, 0, 0).ecx & BIT(27));
	s->cr4 |= CR4_OSXSAVE;
	assert_true(x86_cpuid(&f->cpu, 1, 0, 0).ecx & BIT(27));
	s->xcr0 = 1;
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 0, 0).ebx, 576);
	s->xcr0 = 7;
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 0, 0).ebx, 832);
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 1, 0).ebx, 832);
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 0, 0).ecx, 832);
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 2, 0).ebx, 576);
	assert_int_equal(x86_cpuid(&f->cpu, 0xd, 9, 0).eax, 0);
	fake_free(f);
}

/* What this processor reports for its own XCR0 must be what the model computes for it. */
static void xsave_sizes_equal_the_hosts(void **state)
{
	struct fake *f = cpuid_new(x86_native_cpuid, 1);
	struct x86_cpuid host = x86_native_cpuid(0xd, 0);
	struct x86_cpuid host1 = x86_native_cpuid(0xd, 1);

	for (unsigned i = 2; i < 8; i++) {
		if (!(f->model.xcr0_mask & BIT64(i)))
			continue;
		assert_int_equal(f->model.xsave_offset[i], x86_native_cpuid(0xd, i).ebx);
		assert_int_equal(f->model.xsave_size[i], x86_native_cpuid(0xd, i).eax);
	}
	if (host.eax == f->model.xcr0_mask) {
		assert_int_equal(x86_xsave_size(&f->model, host.eax, false), host.ebx);
		if ((host1.eax & BIT(3)) && !host1.ecx)
			assert_int_equal(x86_xsave_size(&f->model, host.eax, true), host1.ebx);
	}
	fake_free(f);
}

static void brand_is_never_empty(void **state)
{
	struct fake *f = cpuid_new(zeros_host, 1);

	assert_int_equal(x86_cpuid(&f->cpu, 0x80000002, 0, 0).eax, get_le32("Stra"));
	fake_free(f);
}

/* ---- saved ---- */

static struct x86_model model_of(x86_host_cpuid host)
{
	const struct x86_topology flat = x86_topology_flat(3);
	struct x86_model m;

	x86_model_build(&m, host, 2600000000ull, &flat);
	return m;
}

static void a_saved_model_comes_back_as_it_was(void **state)
{
	static const x86_host_cpuid hosts[] = { intel_host, zeros_host, x86_native_cpuid };
	const struct x86_topology flat = x86_topology_flat(3);

	for (unsigned i = 0; i < ARRAY_LEN(hosts); i++) {
		struct x86_model m = model_of(hosts[i]), again;
		struct x86_model_saved saved;
		struct err err = { 0 };

		x86_model_save(&m, &saved);
		assert_int_equal(x86_model_load(&again, &saved, &flat, &err), 0);
		assert_memory_equal(&again, &m, sizeof(m));
		assert_int_equal(x86_model_fits(&again, &m, &err), 0);
	}
}

/* A file may say anything: what comes of it is a model that the builder makes, or nothing. */
static void a_model_that_nobody_makes_is_refused(void **state)
{
	const struct x86_topology flat = x86_topology_flat(3), other = x86_topology_flat(5);
	struct x86_model m = model_of(intel_host), again;
	struct x86_model_saved saved, good;
	struct err err = { 0 };

	x86_model_save(&m, &good);
	assert_int_equal(x86_model_load(&again, &good, &other, &err), -EINVAL);
	saved = good;
	saved.count = X86_MODEL_LEAVES + 1;
	assert_int_equal(x86_model_load(&again, &saved, &flat, &err), -EINVAL);
	saved = good;
	saved.count--;
	assert_int_equal(x86_model_load(&again, &saved, &flat, &err), -EINVAL);
	saved = good;
	saved.tsc_hz = 0;
	assert_int_equal(x86_model_load(&again, &saved, &flat, &err), -EINVAL);
	for (unsigned i = 0; i < good.count; i++) {
		if (good.leaf[i].leaf != 1 && good.leaf[i].leaf != 7)
			continue;
		saved = good;
		saved.leaf[i].ecx ^= BIT(5); /* VMX, WAITPKG: hidden from everybody */
		assert_int_equal(x86_model_load(&again, &saved, &flat, &err), -EINVAL);
	}
}

static void a_host_that_lacks_something_says_what(void **state)
{
	struct x86_model m = model_of(intel_host), host = m;
	struct err err = { 0 };

	for (unsigned i = 0; i < host.count; i++)
		if (host.leaf[i].leaf == 7 && !host.leaf[i].subleaf)
			host.leaf[i].value.ebx &= ~BIT(19);
	assert_int_equal(x86_model_fits(&m, &host, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "it lacks ADX"));
	assert_int_equal(x86_model_fits(&host, &m, &err), 0); /* to have more does no harm */
	host = m;
	host.tsc_hz += host.tsc_hz / 1000;
	assert_int_equal(x86_model_fits(&m, &host, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "time stamp counter"));
	host = m;
	host.xsave_offset[2] += 64;
	assert_int_equal(x86_model_fits(&m, &host, &err), -ENOTSUP);
	host = m;
	memcpy(host.vendor, "AuthenticAMD", 12);
	assert_int_equal(x86_model_fits(&m, &host, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "GenuineIntel"));
	host = m;
	host.phys_bits--;
	assert_int_equal(x86_model_fits(&m, &host, &err), -ENOTSUP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_bit_has_two_rows_and_each_has_a_reason),
		cmocka_unit_test(features_outside_the_policy_are_hidden),
		cmocka_unit_test(vector_features_need_their_state),
		cmocka_unit_test(intel_guests_see_an_immune_processor),
		cmocka_unit_test(topology_is_the_same_in_every_leaf),
		cmocka_unit_test(ids_say_where_a_processor_is),
		cmocka_unit_test(amd_ids_say_so_too),
		cmocka_unit_test(amd_topology_leaves_agree),
		cmocka_unit_test(frequencies_multiply_to_the_tsc),
		cmocka_unit_test(kvm_leaves_announce_kvmclock),
		cmocka_unit_test(dynamic_fields_follow_the_state),
		cmocka_unit_test(xsave_sizes_equal_the_hosts),
		cmocka_unit_test(brand_is_never_empty),
		cmocka_unit_test(a_saved_model_comes_back_as_it_was),
		cmocka_unit_test(a_model_that_nobody_makes_is_refused),
		cmocka_unit_test(a_host_that_lacks_something_says_what),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
