/* The host bridge: both ways to configuration space, and the reset control register. */
#include "device/legacy/legacy.h"
#include "device/pci/q35.h"
#include "rig.h"

#define ECAM 0xe0000000ull

static u32 ecam(struct rig *r, u64 offset, unsigned size)
{
	return (u32)bus_read(&r->bus, BUS_MMIO, ECAM + offset, size);
}

static void ports_reach_configuration_space(void **state)
{
	struct rig r;

	rig_open(&r, &q35_class);
	assert_int_equal(in32(&r, 0xcfc), 0xffffffff);
	out32(&r, 0xcf8, 0x80000000);
	assert_int_equal(in32(&r, 0xcf8), 0x80000000);
	assert_int_equal(in32(&r, 0xcfc), 0x29c08086);
	assert_int_equal(in16(&r, 0xcfe), 0x29c0);
	assert_int_equal(in8(&r, 0xcfd), 0x80);
	out32(&r, 0xcf8, 0x80000008);
	assert_int_equal(in32(&r, 0xcfc) >> 8, 0x060000);
	/* Another slot, function, bus. */
	out32(&r, 0xcf8, 0x80000800);
	assert_int_equal(in32(&r, 0xcfc), 0xffffffff);
	out32(&r, 0xcf8, 0x80000100);
	assert_int_equal(in32(&r, 0xcfc), 0xffffffff);
	out32(&r, 0xcf8, 0x80010000);
	assert_int_equal(in32(&r, 0xcfc), 0xffffffff);
	rig_close(&r);
}

static void memory_shows_configuration_space_where_the_register_says(void **state)
{
	struct rig r;

	rig_open(&r, &q35_class);
	assert_int_equal(ecam(&r, 0, 4), 0xffffffff);
	out32(&r, 0xcf8, 0x80000000 | Q35_PCIEXBAR);
	out32(&r, 0xcfc, (u32)ECAM | Q35_ECAM_ON);
	assert_int_equal(ecam(&r, 0, 4), 0x29c08086);
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, ECAM, 8), 0x29c08086);
	assert_int_equal(ecam(&r, 0x100, 4), 0xffffffff);  /* no extended registers */
	assert_int_equal(ecam(&r, 0x1000, 4), 0xffffffff); /* function */
	assert_int_equal(ecam(&r, 0x8000, 4), 0xffffffff); /* slot */
	assert_int_equal(ecam(&r, 0x100000, 4), 0xffffffff);
	/* Moved by a write through itself. */
	bus_write(&r.bus, BUS_MMIO, ECAM + Q35_PCIEXBAR, 8, 0x1f0000000 | Q35_ECAM_ON);
	assert_int_equal(ecam(&r, 0, 4), 0xffffffff);
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, 0x1f0000000, 4), 0x29c08086);
	out32(&r, 0xcfc, 0);
	assert_int_equal(r.bus.count[BUS_MMIO], 0);
	rig_close(&r);
}

/* What firmware does to them (and nothing else happens): Intel 316966 5.1.20 and following. */
static void pam_registers_can_be_written(void **state)
{
	struct rig r;

	rig_open(&r, &q35_class);
	for (unsigned i = 0; i < 7; i++) {
		pci_config_write(&r.pci, Q35_SLOT, Q35_PAM + i, 1, 0xff);
		assert_int_equal(
			pci_config_read(&r.pci, Q35_SLOT, Q35_PAM + i, 1), i ? 0x33 : 0x30);
	}
	pci_config_write(&r.pci, Q35_SLOT, Q35_SMRAM, 1, 0x48);
	assert_int_equal(pci_config_read(&r.pci, Q35_SLOT, Q35_SMRAM, 1), 0x02);
	r.dev->class->reset(r.dev);
	assert_int_equal(pci_config_read(&r.pci, Q35_SLOT, Q35_PAM, 4), 0);
	rig_close(&r);
}

static void reset_register_needs_a_byte_write(void **state)
{
	struct rig r;

	rig_open(&r, &q35_class);
	/* A configuration address whose second byte looks like a reset. */
	out32(&r, 0xcf8, 0x80000600);
	assert_int_equal(r.resets, 0);
	out8(&r, Q35_RESET, 0x02);
	assert_int_equal(r.resets, 0);
	assert_int_equal(in8(&r, Q35_RESET), 0x02);
	out8(&r, Q35_RESET, Q35_RESET_ON);
	assert_int_equal(r.resets, 1);
	out8(&r, Q35_RESET, Q35_RESET_ON);
	assert_int_equal(r.resets, 1);
	assert_int_equal(in32(&r, 0xcf8), 0x80000600);
	rig_close(&r);
}

static void script(struct rig *r)
{
	assert_int_equal(in32(r, 0xcfc), ECAM | Q35_ECAM_ON);
	assert_int_equal(ecam(r, 2, 2), 0x29c0);
	out8(r, Q35_RESET, Q35_RESET_ON);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	rig_open(&r, &q35_class);
	out32(&r, 0xcf8, 0x80000000 | Q35_PCIEXBAR);
	out32(&r, 0xcfc, (u32)ECAM | Q35_ECAM_ON);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports_reach_configuration_space),
		cmocka_unit_test(memory_shows_configuration_space_where_the_register_says),
		cmocka_unit_test(pam_registers_can_be_written),
		cmocka_unit_test(reset_register_needs_a_byte_write),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("q35", tests, NULL, NULL);
}
