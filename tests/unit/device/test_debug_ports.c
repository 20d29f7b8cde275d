/* Debug exit, POST port, debug console; and what they show of the device life cycle. */
#include "device/legacy/legacy.h"
#include "rig.h"

static void debug_exit_reports_any_size(void **state)
{
	struct rig r;

	rig_open(&r, &debug_exit_class);
	out8(&r, 0xf4, 0x10);
	assert_int_equal(r.exit_value, 0x10);
	out32(&r, 0xf4, 0x12345678);
	assert_int_equal(r.exit_value, 0x12345678);
	out16(&r, 0x501, 0x0203);
	assert_int_equal(r.exit_value, 0x0203);
	assert_int_equal(r.exits, 3);
	assert_int_equal(in8(&r, 0xf4), 0);
	rig_close(&r);
}

static void script(struct rig *r) { out16(r, 0x7f, 0x2244); }

static void post_port_keeps_the_last_code(void **state)
{
	struct rig r;

	rig_open(&r, &post_port_class);
	out8(&r, 0x80, 0x31);
	out8(&r, 0xed, 0x99);
	assert_int_equal(in8(&r, 0x80), 0x31);
	rig_check_migration(&r, script);
	assert_int_equal(in8(&r, 0x80), 0x22);
	rig_close(&r);
}

static void debugcon_writes_characters(void **state)
{
	struct rig r;

	rig_open(&r, &debugcon_class);
	assert_int_equal(in8(&r, 0xe9), 0xe9);
	for (const char *p = "hi"; *p; p++)
		out8(&r, 0xe9, (u8)*p);
	assert_memory_equal(r.console, "hi", 2);
	rig_close(&r);
}

static void classes_in_the_table_are_complete_and_distinct(void **state)
{
	for (unsigned i = 0; i < device_class_count; i++) {
		const struct device_class *c = device_classes[i];

		assert_non_null(c->name);
		assert_non_null(c->doc);
		assert_true(c->size >= sizeof(struct device));
		for (unsigned j = 0; j < i; j++)
			assert_string_not_equal(c->name, device_classes[j]->name);
		for (const struct prop *p = c->props; p && p->name; p++)
			assert_true(p->init >= p->min && p->init <= p->max);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(debug_exit_reports_any_size),
		cmocka_unit_test(post_port_keeps_the_last_code),
		cmocka_unit_test(debugcon_writes_characters),
		cmocka_unit_test(classes_in_the_table_are_complete_and_distinct),
	};

	return cmocka_run_group_tests_name("debug_ports", tests, NULL, NULL);
}
