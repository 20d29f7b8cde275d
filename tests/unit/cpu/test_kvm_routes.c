/* KVM's interrupt routes as a table: no /dev/kvm needed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/kvm/routes.h"
#include <errno.h>

#define LEVEL 0x8000u

static void only_level_pins_have_a_route(void **state)
{
	struct routes r = { 0 };
	struct routes_image image;

	assert_false(routes_set_pin(&r, 2, 0xfee00000, 0x30));
	routes_build(&r, &image);
	assert_int_equal(image.nr, 0);
	assert_true(routes_set_pin(&r, 9, 0xfee01004, LEVEL | 0x59));
	routes_build(&r, &image);
	assert_int_equal(image.nr, 1);
	assert_int_equal(image.entries[0].gsi, 9);
	assert_int_equal(image.entries[0].type, KVM_IRQ_ROUTING_MSI);
	assert_int_equal(image.entries[0].u.msi.address_lo, 0xfee01004);
	assert_int_equal(image.entries[0].u.msi.data, LEVEL | 0x59);
}

static void kvm_is_told_only_what_changes(void **state)
{
	struct routes r = { 0 };

	assert_true(routes_set_pin(&r, 9, 0xfee00000, LEVEL | 0x59));
	assert_false(routes_set_pin(&r, 9, 0xfee00000, LEVEL | 0x59));
	assert_true(routes_set_pin(&r, 9, 0xfee00000, LEVEL | 0x5a));
	assert_true(routes_set_pin(&r, 9, 0xfee02000, LEVEL | 0x5a));
	assert_true(routes_set_pin(&r, 9, 0xfee02000, 0x5a)); /* an edge again */
	assert_false(routes_set_pin(&r, 9, 0xfee02000, 0x5b));
}

static void events_have_numbers_behind_the_pins(void **state)
{
	struct routes r = { 0 };
	struct routes_image image;
	int first = routes_add(&r, 0xfee00000, 0x40);

	assert_int_equal(first, IRQCHIP_PINS);
	for (unsigned i = 1; i < ROUTES_EVENTS; i++)
		assert_int_equal(routes_add(&r, 0xfee00000, i), first + (int)i);
	assert_int_equal(routes_add(&r, 0xfee00000, 1), -ENOSPC);
	routes_remove(&r, (unsigned)first + 7);
	assert_int_equal(routes_add(&r, 0x1fee00000, 0x77), first + 7);
	routes_build(&r, &image);
	assert_int_equal(image.nr, ROUTES_EVENTS);
	assert_int_equal(image.entries[7].u.msi.address_hi, 1);
	assert_int_equal(image.entries[7].u.msi.data, 0x77);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_level_pins_have_a_route),
		cmocka_unit_test(kvm_is_told_only_what_changes),
		cmocka_unit_test(events_have_numbers_behind_the_pins),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
