/* Flash memory with Intel's commands, as OVMF uses it, and the ISA bridge that OVMF asks. */
#include "device/firmware/flash.h"
#include "device/pci/lpc.h"
#include "rig.h"

#define BASE 0xffc00000ull

static void out(struct rig *r, u64 at, u8 v) { bus_write(&r->bus, BUS_MMIO, BASE + at, 1, v); }
static u8 in(struct rig *r, u64 at) { return (u8)bus_read(&r->bus, BUS_MMIO, BASE + at, 1); }

static void open_flash(struct rig *r)
{
	rig_open(r, &flash_class);
	for (unsigned i = 0; i < RIG_VIDEO; i++)
		r->video[i] = (u8)(i * 7);
}

static void it_is_told_from_ram_and_rom_by_its_status(void **state)
{
	static struct rig r;

	open_flash(&r);
	out(&r, 1, 0x50);
	assert_int_equal(in(&r, 1), 7);
	out(&r, 1, 0x70);
	assert_int_equal(in(&r, 1), 0);
	out(&r, 1, 0xff);
	assert_int_equal(in(&r, 1), 7);
	out(&r, 1, 0x90);
	assert_int_equal(in(&r, 0), 0x89);
	out(&r, 1, 0x33); /* no command */
	assert_int_equal(in(&r, 1), 7);
	rig_close(&r);
}

static void all_of_it_is_seen(void **state)
{
	static struct rig r;

	open_flash(&r);
	assert_int_equal(in(&r, RIG_VIDEO - 1), (u8)((RIG_VIDEO - 1) * 7));
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, BASE + 8, 8), get_le64(r.video + 8));
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, BASE + RIG_VIDEO, 1), 0xff);
	rig_close(&r);
}

static void programming_clears_bits(void **state)
{
	static struct rig r;

	open_flash(&r);
	r.video[100] = 0xf0;
	out(&r, 100, 0x10);
	out(&r, 100, 0x3c);
	assert_int_equal(in(&r, 100), 0x80);
	out(&r, 100, 0xff);
	assert_int_equal(in(&r, 100), 0x30);
	assert_int_equal(r.stored, 1);
	rig_close(&r);
}

static void a_block_is_erased_when_confirmed(void **state)
{
	static struct rig r;

	open_flash(&r);
	out(&r, 5000, 0x20);
	out(&r, 5000, 0x00);
	out(&r, 0, 0x70);
	assert_int_equal(in(&r, 0), 0xb0);
	assert_int_equal(r.stored, 0);
	out(&r, 5000, 0x20);
	out(&r, 5000, 0xd0);
	out(&r, 0, 0xff);
	assert_int_equal(in(&r, 4095), (u8)(4095 * 7));
	assert_int_equal(in(&r, 4096), 0xff);
	assert_int_equal(in(&r, 8191), 0xff);
	assert_int_equal(in(&r, 8192), (u8)(8192 * 7));
	assert_int_equal(r.stored, FLASH_BLOCK);
	rig_close(&r);
}

static void script(struct rig *r)
{
	out(r, 9, 0xd0);
	out(r, 9, 0xff);
}

static void state_survives_migration(void **state)
{
	static struct rig r;

	open_flash(&r);
	out(&r, 9, 0x20);
	rig_check_migration(&r, script);
	rig_close(&r);
}

static void the_bridge_keeps_what_firmware_writes(void **state)
{
	static struct rig r;

	rig_open(&r, &lpc_class);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0, 4), 0x29188086);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 8, 4) >> 8, 0x060100);
	pci_config_write(&r.pci, LPC_SLOT, 0x40, 4, 0x600);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0x40, 4), 0x601);
	pci_config_write(&r.pci, LPC_SLOT, 0x44, 1, 0xff);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0x44, 1), 0x87);
	pci_config_write(&r.pci, LPC_SLOT, 0xf0, 4, 0xfed1c001);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0xf0, 4), 0xfed1c001);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0x60, 4), 0x80808080);
	r.dev->class->reset(r.dev);
	assert_int_equal(pci_config_read(&r.pci, LPC_SLOT, 0x40, 4), 0x001);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_told_from_ram_and_rom_by_its_status),
		cmocka_unit_test(all_of_it_is_seen),
		cmocka_unit_test(programming_clears_bits),
		cmocka_unit_test(a_block_is_erased_when_confirmed),
		cmocka_unit_test(state_survives_migration),
		cmocka_unit_test(the_bridge_keeps_what_firmware_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
