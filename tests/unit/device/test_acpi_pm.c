/* ACPI fixed hardware: sleep, timer, SCI, reset. */
#include "device/legacy/acpi_pm.h"
#include "device/legacy/legacy.h"
#include "rig.h"

#define HZ 3579545u

static void only_the_sleep_type_of_s5_powers_off(void **state)
{
	struct rig r;

	rig_open(&r, &acpi_pm_class);
	out16(&r, 0x604, 0x2000 | 3 << 10);
	assert_int_equal(r.power_offs, 0);
	out16(&r, 0x604, ACPI_PM_S5_TYPE << 10);
	assert_int_equal(r.power_offs, 0);
	out16(&r, 0x604, 0x2000 | ACPI_PM_S5_TYPE << 10);
	assert_int_equal(r.power_offs, 1);
	/* SLP_EN reads as zero. */
	assert_int_equal(in16(&r, 0x604) & 0x2000, 0);
	out8(&r, 0x605, 0x20 | ACPI_PM_S5_TYPE << 2);
	assert_int_equal(r.power_offs, 2);
	rig_close(&r);
}

static void timer_counts_at_its_frequency(void **state)
{
	struct rig r;
	u32 start;

	rig_open(&r, &acpi_pm_class);
	start = in32(&r, ACPI_PM_TMR);
	clock_advance(&r.clock, 1000000000);
	assert_int_equal(in32(&r, ACPI_PM_TMR) - start, HZ);
	/* Writes are ignored, narrow reads see the same value. */
	out32(&r, ACPI_PM_TMR, 0);
	assert_int_equal(in16(&r, ACPI_PM_TMR) | (u32)in16(&r, ACPI_PM_TMR + 2) << 16, HZ);
	clock_advance(&r.clock, clock_ns(1ull << 32, HZ) - 1000000000);
	assert_int_equal(in32(&r, ACPI_PM_TMR), 0);
	rig_close(&r);
}

static void carry_of_the_highest_bit_raises_sci(void **state)
{
	static const struct {
		const char *bits;
		u64 half;
	} widths[] = {
		{ "24", 1ull << 23 },
		{ "32", 1ull << 31 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(widths); i++) {
		u64 half = widths[i].half;
		struct rig r;

		rig_open(&r, &acpi_pm_class);
		assert_int_equal(device_set(r.dev, "timer_bits", widths[i].bits, NULL), 0);
		out16(&r, 0x602, 1);
		clock_advance(&r.clock, clock_ns(half, HZ) - 1);
		assert_false(r.level[0]);
		assert_int_equal(in32(&r, ACPI_PM_TMR), half - 1);
		clock_advance(&r.clock, 1);
		assert_true(r.level[0]);
		assert_int_equal(in16(&r, 0x600), 1);
		out16(&r, 0x600, 1);
		assert_false(r.level[0]);
		clock_advance(&r.clock, clock_ns(half, HZ));
		assert_true(r.level[0]);
		assert_int_equal(r.rises[0], 2);
		rig_close(&r);
	}
}

static void status_is_kept_without_its_interrupt(void **state)
{
	struct rig r;

	rig_open(&r, &acpi_pm_class);
	clock_advance(&r.clock, clock_ns(1ull << 31, HZ));
	assert_null(r.clock.timers);
	assert_int_equal(in16(&r, 0x600), 1);
	acpi_pm_power_button(r.dev);
	assert_int_equal(in32(&r, 0x600), 0x0101);
	assert_false(r.level[0]);
	out16(&r, 0x602, 0xffff);
	assert_int_equal(in16(&r, 0x602), 0x0721);
	out16(&r, 0x602, 0x0100);
	assert_true(r.level[0]);
	out8(&r, 0x601, 0x01); /* a byte clears only its own bits */
	assert_false(r.level[0]);
	assert_int_equal(in32(&r, 0x600), 0x01000001);
	rig_close(&r);
}

static void smi_commands_switch_sci(void **state)
{
	struct rig r;

	rig_open(&r, &acpi_pm_class);
	assert_int_equal(in16(&r, 0x604) & 1, 1);
	out16(&r, 0x602, 0x0100);
	out8(&r, 0xb2, ACPI_PM_DISABLE);
	assert_int_equal(in16(&r, 0x604) & 1, 0);
	acpi_pm_power_button(r.dev);
	assert_false(r.level[0]);
	out8(&r, 0xb2, ACPI_PM_ENABLE);
	assert_true(r.level[0]);
	out16(&r, 0x604, 0); /* SCI_EN is the firmware's */
	assert_int_equal(in16(&r, 0x604) & 1, 1);
	rig_close(&r);
}

static void general_purpose_events_raise_sci(void **state)
{
	struct rig r;

	rig_open(&r, &acpi_pm_class);
	acpi_pm_event(r.dev, 9);
	assert_false(r.level[0]);
	out16(&r, ACPI_PM_GPE0 + 2, 1 << 9);
	assert_true(r.level[0]);
	assert_int_equal(in32(&r, ACPI_PM_GPE0), 0x02000200);
	out16(&r, ACPI_PM_GPE0, 1 << 9);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void script(struct rig *r)
{
	clock_advance(&r->clock, clock_ns(3ull << 31, HZ));
	in32(r, 0x600);
	out16(r, 0x600, 0xffff);
	clock_advance(&r->clock, clock_ns(1ull << 31, HZ));
	in32(r, ACPI_PM_TMR);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	rig_open(&r, &acpi_pm_class);
	out16(&r, 0x602, 0x0101);
	out16(&r, ACPI_PM_GPE0 + 2, 0xff);
	acpi_pm_event(r.dev, 12);
	clock_advance(&r.clock, 987654321);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_the_sleep_type_of_s5_powers_off),
		cmocka_unit_test(timer_counts_at_its_frequency),
		cmocka_unit_test(carry_of_the_highest_bit_raises_sci),
		cmocka_unit_test(status_is_kept_without_its_interrupt),
		cmocka_unit_test(smi_commands_switch_sci),
		cmocka_unit_test(general_purpose_events_raise_sci),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("acpi_pm", tests, NULL, NULL);
}
