/* A local APIC's registers given to another keeper and taken back. */
#include "apic_fixture.h"
#include <string.h>

struct rig rig;

#define REG(offset) ((offset) / 16)
#define PERIODIC    0x20000u
#define MASKED	    0x10000u

/* What a guest reads is what is given, and what is taken is what it reads again. */
static void registers_survive(void **state)
{
	u32 reg[LAPIC_REGS];

	wr(0, TPR, 0x40);
	wr(0, LDR, 0x04000000);
	wr(0, LVT_L0, 0x700);
	wr(0, LVT_T, PERIODIC | 0x33);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1000000);
	send_ipi(0, 0, 0x35);
	send_ipi(0, 0, 0x55);
	assert_int_equal(ack(0), 0x55);
	clock_advance(&rig.clock, 250000);
	lapic_give(rig.cpu[0], reg);
	for (unsigned i = 0; i < LAPIC_REGS; i++)
		if (i != REG(EOI))
			assert_int_equal(reg[i], rd(0, 16 * i));
	assert_int_equal(reg[REG(COUNT_NOW)], 750000);

	lapic_take(rig.cpu[1], reg);
	for (unsigned i = 0; i < LAPIC_REGS; i++)
		if (i != REG(EOI))
			assert_int_equal(rd(1, 16 * i), reg[i]);
}

static void given_away_it_interrupts_nobody(void **state)
{
	u32 reg[LAPIC_REGS];

	wr(0, LVT_T, 0x33);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1000);
	lapic_give(rig.cpu[0], reg);
	clock_advance(&rig.clock, 5000);
	assert_int_equal(pending_set(), 0);
	lapic_take(rig.cpu[0], reg);
	clock_advance(&rig.clock, 5000);
	assert_int_equal(pending_set(), 0);
}

static void expired_one_shot_does_not_start_again(void **state)
{
	u32 reg[LAPIC_REGS];

	wr(0, LVT_T, MASKED | 0x33);
	wr(0, DIVIDE, 0xb);
	wr(0, COUNT_INIT, 1000);
	clock_advance(&rig.clock, 5000);
	lapic_give(rig.cpu[0], reg);
	assert_int_equal(reg[REG(COUNT_NOW)], 0);
	assert_int_equal(reg[REG(COUNT_INIT)], 0);
}

static void x2apic_command_has_two_halves(void **state)
{
	u32 reg[LAPIC_REGS];

	to_x2apic(3);
	assert_true(wrmsr(3, ICR, 0x0000000500000035ull));
	lapic_give(rig.cpu[3], reg);
	assert_int_equal(reg[REG(ID)], 3);
	assert_int_equal(reg[REG(ICR)], 0x35);
	assert_int_equal(reg[REG(ICR_HIGH)], 5);
	lapic_take(rig.cpu[3], reg);
	assert_int_equal(rdmsr(3, ICR), 0x0000000500000035ull);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, rig_up, rig_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers_survive),
		TEST(given_away_it_interrupts_nobody),
		TEST(expired_one_shot_does_not_start_again),
		TEST(x2apic_command_has_two_halves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
