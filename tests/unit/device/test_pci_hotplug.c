/* Slots whose functions come and go: what the ACPI methods find in the registers, and what they do.
 */
#include "device/pci/hotplug.h"
#include "rig.h"

#define CAME  (PCI_HOTPLUG_BASE + 0)
#define LEAVE (PCI_HOTPLUG_BASE + 4)
#define EJECT (PCI_HOTPLUG_BASE + 8)

static u32 ejected; /* slots, a bit each */
static unsigned ejections;

static void on_eject(void *machine, unsigned slot)
{
	ejected |= BIT(slot);
	ejections++;
}

static void open_rig(struct rig *r)
{
	rig_open(r, &pci_hotplug_class);
	r->dev->env.eject = on_eject;
	ejected = ejections = 0;
}

static void what_comes_is_told_once(void **state)
{
	struct rig r;

	open_rig(&r);
	assert_int_equal(in32(&r, CAME), 0);
	assert_false(r.level[0]);
	pci_hotplug_came(r.dev, 24);
	pci_hotplug_came(r.dev, 31);
	assert_true(r.level[0]);
	assert_int_equal(in32(&r, CAME), BIT(24) | BIT(31));
	assert_int_equal(in32(&r, LEAVE), 0);
	out32(&r, CAME, BIT(24));
	assert_int_equal(in32(&r, CAME), BIT(31));
	assert_true(r.level[0]);
	out32(&r, CAME, 0xffffffff);
	assert_int_equal(in32(&r, CAME), 0);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void what_leaves_goes_when_the_guest_ejects_it(void **state)
{
	struct rig r;

	open_rig(&r);
	pci_hotplug_leave(r.dev, 25);
	assert_int_equal(in32(&r, LEAVE), BIT(25));
	out32(&r, LEAVE, BIT(25));
	assert_int_equal(ejections, 0);
	/* Asked again. */
	pci_hotplug_leave(r.dev, 25);
	assert_int_equal(r.rises[0], 2);
	out32(&r, EJECT, BIT(25));
	assert_int_equal(ejected, BIT(25));
	assert_int_equal(in32(&r, LEAVE), 0);
	assert_false(r.level[0]);
	assert_int_equal(in32(&r, EJECT), 0);
	rig_close(&r);
}

/* Slots of devices that are there for good, narrow and crooked accesses, and reads behind the end.
 */
static void nothing_else_ejects(void **state)
{
	struct rig r;

	open_rig(&r);
	out32(&r, EJECT, 0x00ffffff);
	out8(&r, EJECT + 3, 0xff);
	out16(&r, EJECT + 2, 0xffff);
	assert_int_equal(ejections, 0);
	pci_hotplug_came(r.dev, 26);
	out8(&r, CAME + 3, 0xff);
	assert_int_equal(in8(&r, CAME + 3), 4);
	assert_int_equal(in16(&r, CAME + 2), 0x400);
	pci_hotplug_gone(r.dev, 26);
	assert_int_equal(in32(&r, CAME), 0);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void reset_forgets(void **state)
{
	struct rig r;

	open_rig(&r);
	pci_hotplug_came(r.dev, 24);
	pci_hotplug_leave(r.dev, 25);
	r.dev->class->reset(r.dev);
	assert_int_equal(in32(&r, CAME) | in32(&r, LEAVE), 0);
	assert_false(r.level[0]);
	rig_close(&r);
}

static void take_it(struct rig *r)
{
	out32(r, CAME, in32(r, CAME));
	out32(r, LEAVE, in32(r, LEAVE));
}

static void migrates(void **state)
{
	struct rig r;

	open_rig(&r);
	pci_hotplug_came(r.dev, 30);
	pci_hotplug_leave(r.dev, 24);
	rig_check_migration(&r, take_it);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_is_told_once),
		cmocka_unit_test(what_leaves_goes_when_the_guest_ejects_it),
		cmocka_unit_test(nothing_else_ejects),
		cmocka_unit_test(reset_forgets),
		cmocka_unit_test(migrates),
	};

	return cmocka_run_group_tests_name("pci_hotplug", tests, NULL, NULL);
}
