/* The 8259A pair: initialisation, priorities, modes, cascade, spurious interrupts. */
#include "device/legacy/i8259.h"
#include "device/legacy/legacy.h"
#include "rig.h"

#define EOI 0x20u

/* As every PC operating system does it: vectors 0x20 and 0x28, nothing masked. */
static void setup(struct rig *r, u8 icw4)
{
	static const u8 words[][4] = { { 0x11, 0x20, 4, 0 }, { 0x11, 0x28, 2, 0 } };

	rig_open(r, &pic_class);
	for (unsigned chip = 0; chip < 2; chip++) {
		u16 port = chip ? 0xa0 : 0x20;

		out8(r, port, words[chip][0]);
		out8(r, port + 1, words[chip][1]);
		out8(r, port + 1, words[chip][2]);
		out8(r, port + 1, icw4);
	}
}

static void pulse(struct rig *r, unsigned n)
{
	pic_set_irq(r->dev, n, true);
	pic_set_irq(r->dev, n, false);
}

static u8 isr(struct rig *r, u16 port)
{
	out8(r, port, 0x0b);
	return in8(r, port);
}

static u8 irr(struct rig *r, u16 port)
{
	out8(r, port, 0x0a);
	return in8(r, port);
}

static void edge_is_delivered_once(void **state)
{
	struct rig r;

	setup(&r, 1);
	pic_set_irq(r.dev, 4, true);
	assert_true(r.level[0]);
	assert_int_equal(irr(&r, 0x20), 0x10);
	assert_int_equal(pic_ack(r.dev), 0x24);
	assert_false(r.level[0]);
	assert_int_equal(isr(&r, 0x20), 0x10);
	out8(&r, 0x20, EOI);
	assert_int_equal(isr(&r, 0x20), 0);
	/* The pin is still high: no new edge. */
	assert_false(r.level[0]);
	pic_set_irq(r.dev, 4, false);
	pic_set_irq(r.dev, 4, true);
	assert_true(r.level[0]);
	rig_close(&r);
}

static void level_input_requests_until_it_falls(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x4d0, 0xff);
	assert_int_equal(in8(&r, 0x4d0), 0xf8);
	out16(&r, 0x4d0, 0xffff);
	assert_int_equal(in16(&r, 0x4d0), 0xdef8);
	pic_set_irq(r.dev, 5, true);
	assert_int_equal(pic_ack(r.dev), 0x25);
	out8(&r, 0x20, EOI);
	assert_true(r.level[0]);
	pic_set_irq(r.dev, 5, false);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void masked_requests_wait(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x21, 0xfe);
	assert_int_equal(in8(&r, 0x21), 0xfe);
	pulse(&r, 3);
	assert_false(r.level[0]);
	out8(&r, 0x21, 0);
	assert_int_equal(pic_ack(r.dev), 0x23);
	rig_close(&r);
}

static void higher_level_interrupts_a_lower_one_only(void **state)
{
	struct rig r;

	setup(&r, 1);
	pulse(&r, 4);
	assert_int_equal(pic_ack(r.dev), 0x24);
	pulse(&r, 6);
	assert_false(r.level[0]);
	pulse(&r, 1);
	assert_int_equal(pic_ack(r.dev), 0x21);
	assert_int_equal(isr(&r, 0x20), 0x12);
	out8(&r, 0x20, EOI);
	assert_int_equal(isr(&r, 0x20), 0x10);
	out8(&r, 0x20, 0x60 | 4);
	assert_int_equal(pic_ack(r.dev), 0x26);
	rig_close(&r);
}

static void slave_goes_through_the_cascade(void **state)
{
	struct rig r;

	setup(&r, 1);
	pulse(&r, 8);
	assert_int_equal(irr(&r, 0x20), 4);
	assert_int_equal(pic_ack(r.dev), 0x28);
	assert_int_equal(isr(&r, 0x20), 4);
	assert_int_equal(isr(&r, 0xa0), 1);
	pulse(&r, 12);
	assert_false(r.level[0]);
	out8(&r, 0xa0, EOI);
	out8(&r, 0x20, EOI);
	assert_int_equal(pic_ack(r.dev), 0x2c);
	rig_close(&r);
}

static void special_fully_nested_master_lets_a_higher_slave_level_through(void **state)
{
	struct rig r;

	setup(&r, 0x11);
	pulse(&r, 12);
	assert_int_equal(pic_ack(r.dev), 0x2c);
	pulse(&r, 9);
	assert_true(r.level[0]);
	assert_int_equal(pic_ack(r.dev), 0x29);
	rig_close(&r);
}

static void vanished_requests_are_spurious(void **state)
{
	struct rig r;

	setup(&r, 1);
	assert_int_equal(pic_ack(r.dev), 0x27);
	assert_int_equal(isr(&r, 0x20), 0);
	/* A level request of the slave that goes between the two acknowledge cycles. */
	out8(&r, 0x4d1, 0x02);
	pic_set_irq(r.dev, 9, true);
	pic_set_irq(r.dev, 9, false);
	assert_int_equal(pic_ack(r.dev), 0x27);
	rig_close(&r);
}

static void automatic_eoi_leaves_nothing_in_service(void **state)
{
	struct rig r;

	setup(&r, 3);
	out8(&r, 0x20, 0x80); /* rotate in automatic EOI mode */
	pulse(&r, 3);
	assert_int_equal(pic_ack(r.dev), 0x23);
	assert_int_equal(isr(&r, 0x20), 0);
	/* 3 is lowest now: 4 goes before 0. */
	pulse(&r, 0);
	pulse(&r, 4);
	assert_int_equal(pic_ack(r.dev), 0x24);
	rig_close(&r);
}

static void rotation_moves_the_lowest_level(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x20, 0xc0 | 5); /* set priority: 5 lowest, 6 highest */
	pulse(&r, 0);
	pulse(&r, 6);
	assert_int_equal(pic_ack(r.dev), 0x26);
	out8(&r, 0x20, 0xa0); /* rotate on non-specific EOI: 6 lowest */
	pulse(&r, 6);
	pulse(&r, 7);
	assert_int_equal(pic_ack(r.dev), 0x27);
	out8(&r, 0x20, 0xe0 | 7); /* rotate on specific EOI */
	assert_int_equal(pic_ack(r.dev), 0x20);
	rig_close(&r);
}

static void special_mask_mode_lets_lower_levels_in(void **state)
{
	struct rig r;

	setup(&r, 1);
	pulse(&r, 1);
	assert_int_equal(pic_ack(r.dev), 0x21);
	pulse(&r, 6);
	assert_false(r.level[0]);
	out8(&r, 0x21, 0x02);
	out8(&r, 0x20, 0x68);
	assert_int_equal(pic_ack(r.dev), 0x26);
	/* A non-specific EOI passes over the masked level 1. */
	out8(&r, 0x20, EOI);
	assert_int_equal(isr(&r, 0x20), 0x02);
	out8(&r, 0x20, 0x48);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void poll_acknowledges(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x20, 0x0c);
	assert_int_equal(in8(&r, 0x20), 0);
	pulse(&r, 5);
	out8(&r, 0x20, 0x0c);
	assert_int_equal(in8(&r, 0x20), 0x85);
	assert_int_equal(isr(&r, 0x20), 0x20);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void initialisation_forgets_edges_but_not_level_inputs(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x4d0, 0x20);
	pic_set_irq(r.dev, 4, true);
	pic_set_irq(r.dev, 5, true);
	out8(&r, 0x20, 0x11);
	out8(&r, 0x21, 0x40);
	out8(&r, 0x21, 4);
	out8(&r, 0x21, 1);
	assert_int_equal(in8(&r, 0x21), 0);
	assert_int_equal(irr(&r, 0x20), 0x20);
	assert_int_equal(pic_ack(r.dev), 0x45);
	rig_close(&r);
}

static void script(struct rig *r)
{
	pulse(r, 8);
	pulse(r, 1);
	pic_ack(r->dev);
	pic_ack(r->dev);
	out8(r, 0x20, 0xa0);
	pic_ack(r->dev);
	out8(r, 0x21, 0x02);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	setup(&r, 1);
	out8(&r, 0x20, 0xc3);
	pulse(&r, 4);
	pic_ack(r.dev);
	pic_set_irq(r.dev, 14, true);
	out8(&r, 0xa0, 0x11); /* in the middle of an initialisation */
	out8(&r, 0xa1, 0x70);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(edge_is_delivered_once),
		cmocka_unit_test(level_input_requests_until_it_falls),
		cmocka_unit_test(masked_requests_wait),
		cmocka_unit_test(higher_level_interrupts_a_lower_one_only),
		cmocka_unit_test(slave_goes_through_the_cascade),
		cmocka_unit_test(special_fully_nested_master_lets_a_higher_slave_level_through),
		cmocka_unit_test(vanished_requests_are_spurious),
		cmocka_unit_test(automatic_eoi_leaves_nothing_in_service),
		cmocka_unit_test(rotation_moves_the_lowest_level),
		cmocka_unit_test(special_mask_mode_lets_lower_levels_in),
		cmocka_unit_test(poll_acknowledges),
		cmocka_unit_test(initialisation_forgets_edges_but_not_level_inputs),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("i8259", tests, NULL, NULL);
}
