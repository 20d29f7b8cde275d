/*
 * What all virtio devices share, by way of the entropy device: registers, negotiation, both kinds
 * of rings, interrupts, and drivers that break every rule.
 */
#include "device/virtio/rng.h"
#include "virtio_driver.h"

#define BOTH_KINDS 2
#define ALL	   (VIRTQ_FEATURES | VIRTIO_F_VERSION_1)

static const u64 kinds[BOTH_KINDS] = { 0, VIRTIO_F_PACKED };

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "packed", "on", NULL), 0);
}

static void open_rig(struct rig *r)
{
	rig_open(r, &virtio_rng_class);
	r->configure = configure;
	configure(r);
}

static void registers_say_what_it_is(void **state)
{
	struct rig r;

	open_rig(&r);
	map_bars(&r);
	assert_int_equal(pci_config_read(&r.pci, 0, 0, 4), 0x10441af4);
	assert_int_equal(pci_config_read(&r.pci, 0, PCI_REVISION, 1), 1);
	assert_int_equal(get(&r, COMMON(0x12), 2), 1);
	assert_int_equal(get(&r, COMMON(0x18), 2), VIRTQ_SIZE_MAX);
	assert_int_equal(get(&r, COMMON(0x1c), 2), 0);
	assert_int_equal(offered(&r), ALL);
	set(&r, COMMON(0), 4, 2);
	assert_int_equal(get(&r, COMMON(4), 4), 0);
	set(&r, COMMON(0x16), 2, 1); /* no such queue */
	assert_int_equal(get(&r, COMMON(0x18), 2), 0);
	rig_close(&r);
}

/* The list of 4.1.4: each structure once, inside of its BAR. */
static void capabilities_lead_to_the_structures(void **state)
{
	unsigned seen = 0;
	struct rig r;

	open_rig(&r);
	for (u32 at = pci_config_read(&r.pci, 0, PCI_CAPABILITIES, 1); at;
		at = pci_config_read(&r.pci, 0, at + 1, 1)) {
		if (pci_config_read(&r.pci, 0, at, 1) != PCI_CAP_VENDOR)
			continue;
		u32 type = pci_config_read(&r.pci, 0, at + 3, 1);
		u32 offset = pci_config_read(&r.pci, 0, at + 8, 4);
		u32 len = pci_config_read(&r.pci, 0, at + 12, 4);

		assert_true(range_ok(offset, len, 0x4000));
		assert_int_equal(pci_config_read(&r.pci, 0, at + 4, 1), type == 5 ? 0 : 4);
		seen |= BIT(type);
	}
	assert_int_equal(seen, BIT(1) | BIT(2) | BIT(3) | BIT(5));
	rig_close(&r);
}

static void configuration_space_is_a_way_to_the_registers(void **state)
{
	struct rig r;
	unsigned at;

	open_rig(&r);
	at = container_of(r.dev, struct virtio, dev)->window;
	pci_config_write(&r.pci, 0, at + 4, 1, 4);
	pci_config_write(&r.pci, 0, at + 8, 4, 0x12);
	pci_config_write(&r.pci, 0, at + 12, 4, 2);
	assert_int_equal(pci_config_read(&r.pci, 0, at + 16, 2), 1);
	pci_config_write(&r.pci, 0, at + 8, 4, 0x14);
	pci_config_write(&r.pci, 0, at + 12, 4, 1);
	pci_config_write(&r.pci, 0, at + 16, 1, 3);
	map_bars(&r);
	assert_int_equal(status(&r), 3);
	/* Nowhere, misaligned, too wide. */
	pci_config_write(&r.pci, 0, at + 8, 4, 0xfffffffc);
	pci_config_write(&r.pci, 0, at + 12, 4, 4);
	pci_config_write(&r.pci, 0, at + 16, 4, 1);
	pci_config_write(&r.pci, 0, at + 8, 4, 1);
	pci_config_read(&r.pci, 0, at + 16, 4);
	pci_config_write(&r.pci, 0, at + 12, 4, 0x80000000);
	pci_config_read(&r.pci, 0, at + 16, 4);
	rig_close(&r);
}

static void features_must_have_been_offered(void **state)
{
	struct rig r;

	open_rig(&r);
	map_bars(&r);
	set(&r, COMMON(0x14), 1, 3);
	accept_features(&r, VIRTIO_F_VERSION_1 | BIT64(33));
	set(&r, COMMON(0x14), 1, 11);
	assert_int_equal(status(&r), 3);
	accept_features(&r, 0); /* a legacy driver */
	set(&r, COMMON(0x14), 1, 11);
	assert_int_equal(status(&r), 3);
	accept_features(&r, ALL);
	set(&r, COMMON(0x14), 1, 11);
	assert_int_equal(status(&r), 11);
	accept_features(&r, 0); /* too late */
	assert_int_equal(get(&r, COMMON(0xc), 4), ALL >> 32);
	set(&r, COMMON(0x14), 1, 0);
	assert_int_equal(status(&r), 0);
	assert_int_equal(get(&r, COMMON(0xc), 4), 0);
	rig_close(&r);
}

static void chains_come_back_filled(void **state)
{
	static const u64 features[] = { 0, VIRTIO_F_EVENT_IDX, VIRTIO_F_PACKED,
		VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX };
	u8 bytes[64];
	u32 written;

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, features[i], 1);

		/* Several times around the ring. */
		for (unsigned n = 0; n < 5 * QUEUE; n++) {
			const struct buffer b[] = { { BUFFERS, 20, WRITE },
				{ BUFFERS + 40, 0, WRITE }, { BUFFERS + 30, 10, WRITE } };

			memset(bytes, 0, sizeof(bytes));
			poke(&r, BUFFERS, bytes, sizeof(bytes));
			offer(&d, 0, b, 3);
			kick(&d, 0);
			assert_true(collect(&d, 0, 3, &written));
			assert_int_equal(written, 30);
			peek(&r, BUFFERS, bytes, sizeof(bytes));
			assert_int_equal(bytes[19], 0x5a);
			assert_int_equal(bytes[20], 0);
			assert_int_equal(bytes[39], 0x5a);
			assert_int_equal(bytes[40], 0);
			assert_false(collect(&d, 0, 3, &written));
		}
		assert_true(r.messages);
		assert_int_equal(r.data, VECTOR + 1);
		assert_int_equal(status(&r), 15);
		rig_close(&r);
	}
}

static void lay_table(struct driver *d, u64 table, unsigned i, struct buffer b, u16 next)
{
	u16 flags = b.flags;

	b.flags = d->packed ? 0 : flags;
	lay(d->r, table, i, &b, d->packed ? flags : next);
}

static void indirect_tables_are_followed(void **state)
{
	const struct buffer head = { BUFFERS, 32, INDIRECT };
	u32 written;

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i] | VIRTIO_F_INDIRECT, 1);

		lay_table(&d, BUFFERS, 0, (struct buffer){ BUFFERS + 64, 8, WRITE | NEXT }, 1);
		lay_table(&d, BUFFERS, 1, (struct buffer){ BUFFERS + 128, 8, WRITE }, 0);
		offer(&d, 0, &head, 1);
		kick(&d, 0);
		assert_true(collect(&d, 0, 1, &written));
		assert_int_equal(written, 16);
		assert_int_equal(peek16(&r, BUFFERS + 134), 0x5a5a);
		rig_close(&r);
	}
}

/* 2.7.5.3.2: ordinary descriptors, then an indirect one. */
static void indirect_table_may_end_a_split_chain(void **state)
{
	const struct buffer b[] = { { BUFFERS + 64, 8, WRITE }, { BUFFERS, 16, INDIRECT } };
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, VIRTIO_F_INDIRECT, 1);

	lay_table(&d, BUFFERS, 0, (struct buffer){ BUFFERS + 128, 8, WRITE }, 0);
	offer(&d, 0, b, 2);
	kick(&d, 0);
	assert_true(collect(&d, 0, 2, &written));
	assert_int_equal(written, 16);
	rig_close(&r);
}

static void drivers_can_do_without_interrupts(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };
	u32 written;

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 1);

		poke16(&r, RINGS(0) + 0x1000 + (d.packed ? 2 : 0), 1);
		offer(&d, 0, &b, 1);
		kick(&d, 0);
		assert_true(collect(&d, 0, 1, &written));
		assert_int_equal(r.messages, 0);
		poke16(&r, RINGS(0) + 0x1000 + (d.packed ? 2 : 0), 0);
		offer(&d, 0, &b, 1);
		kick(&d, 0);
		assert_int_equal(r.messages, 1);
		rig_close(&r);
	}
}

static void event_index_asks_for_the_third(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i] | VIRTIO_F_EVENT_IDX, 1);

		offer(&d, 0, &b, 1);
		kick(&d, 0);
		assert_int_equal(r.messages, 1); /* the first always does */
		if (d.packed) {
			poke16(&r, RINGS(0) + 0x1000, 0x8000 | 3);
			poke16(&r, RINGS(0) + 0x1002, 2);
		} else {
			poke16(&r, RINGS(0) + 0x1004 + 2 * QUEUE, 3);
		}
		for (unsigned n = 1; n < 3; n++) {
			offer(&d, 0, &b, 1);
			kick(&d, 0);
			assert_int_equal(r.messages, 1);
		}
		offer(&d, 0, &b, 1);
		kick(&d, 0);
		assert_int_equal(r.messages, 2);
		/* Split: the device says up to where it has seen chains. */
		if (!d.packed)
			assert_int_equal(peek16(&r, RINGS(0) + 0x2004 + 8 * QUEUE), 4);
		rig_close(&r);
	}
}

static void without_msix_there_is_a_wire(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);
	struct irq_line line = r.dev->env.lines[0];

	r.pci.links[pci_link(0, 1)] = line;
	pci_config_write(&r.pci, 0, 0x42, 2, 0);
	offer(&d, 0, &b, 1);
	kick(&d, 0);
	assert_true(r.level[0]);
	assert_int_equal(get(&r, ISR, 1), 1);
	assert_false(r.level[0]);
	assert_int_equal(get(&r, ISR, 1), 0);
	rig_close(&r);
}

static void nothing_is_taken_before_it_may_be(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);

	pci_config_write(&r.pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	offer(&d, 0, &b, 1);
	kick(&d, 0);
	set(&r, NOTIFY(1), 2, 1);
	set(&r, NOTIFY(1000), 2, 1000);
	assert_false(collect(&d, 0, 1, &written));
	pci_config_write(&r.pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	kick(&d, 0);
	assert_true(collect(&d, 0, 1, &written));
	rig_close(&r);
}

/* The host's source of entropy gives the driver time to ask for more, again and again. */
static struct driver *greedy;
static unsigned greed;

static bool offer_more(void *ctx, void *buf, size_t len)
{
	const struct buffer b = { BUFFERS, 8, WRITE };

	memset(buf, 1, len);
	if (greed && greed--)
		offer(greedy, 0, &b, 1);
	return true;
}

static void a_driver_that_never_stops_holds_nobody_up(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };
	unsigned done = 0;
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);

	greedy = &d;
	greed = 10000;
	r.dev->env.random = offer_more;
	offer(&d, 0, &b, 1);
	kick(&d, 0);
	assert_in_range(greed, 10000 - 4 * VIRTQ_SIZE_MAX - 1, 9999);
	clock_advance(&r.clock, 1);
	while (collect(&d, 0, 1, &written))
		done++;
	assert_int_equal(greed, 0);
	assert_int_equal(status(&r), 15);
	rig_close(&r);
	assert_true(done > 0);
}

/* ---- drivers that break the rules: the device wants a reset, and works after it ---- */

static void expect_broken(struct driver *d)
{
	const struct buffer b = { BUFFERS, 8, WRITE };
	u32 written;

	kick(d, 0);
	assert_int_equal(status(d->r), 15 | 0x40);
	assert_int_equal(d->r->data, VECTOR); /* told by the configuration's vector */
	kick(d, 0);
	assert_false(collect(d, 0, 1, &written));

	struct driver again = start(d->r, d->packed ? VIRTIO_F_PACKED : 0, 1);

	offer(&again, 0, &b, 1);
	kick(&again, 0);
	assert_true(collect(&again, 0, 1, &written));
}

struct crime {
	struct buffer b[3];
	unsigned count;
};

static void broken_chains_need_a_reset(void **state)
{
	static const struct crime crimes[] = {
		{ { { 0x100000, 8, WRITE } }, 1 },		     /* beyond memory */
		{ { { 0xffff8, 16, WRITE } }, 1 },		     /* over its end */
		{ { { ~0ull - 7, 16, WRITE } }, 1 },		     /* over the end of all */
		{ { { BUFFERS, 8, WRITE }, { BUFFERS, 8, 0 } }, 2 }, /* wrong order */
		{ { { BUFFERS, 16, INDIRECT | NEXT }, { BUFFERS, 8, 0 } }, 2 },
		{ { { BUFFERS, 0, INDIRECT } }, 1 },
		{ { { BUFFERS, 17, INDIRECT } }, 1 },
		{ { { 0x100000, 16, INDIRECT } }, 1 },
		{ { { 0, ~0u, WRITE } }, 1 },
	};

	for (unsigned i = 0; i < BOTH_KINDS; i++)
		for (unsigned n = 0; n < ARRAY_LEN(crimes); n++) {
			struct rig r;

			open_rig(&r);
			struct driver d = start(&r, kinds[i] | VIRTIO_F_INDIRECT, 1);

			offer(&d, 0, crimes[n].b, crimes[n].count);
			expect_broken(&d);
			rig_close(&r);
		}
}

static void indirect_must_be_agreed_on(void **state)
{
	const struct buffer head = { BUFFERS, 16, INDIRECT };

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 1);

		lay_table(&d, BUFFERS, 0, (struct buffer){ BUFFERS + 64, 8, WRITE }, 0);
		offer(&d, 0, &head, 1);
		expect_broken(&d);
		rig_close(&r);
	}
}

static void nested_tables_are_refused(void **state)
{
	const struct buffer head = { BUFFERS, 16, INDIRECT };

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i] | VIRTIO_F_INDIRECT, 1);

		lay_table(&d, BUFFERS, 0, (struct buffer){ BUFFERS, 16, INDIRECT }, 0);
		offer(&d, 0, &head, 1);
		expect_broken(&d);
		rig_close(&r);
	}
}

static void loops_end(void **state)
{
	const struct buffer b[] = { { BUFFERS, 1, WRITE }, { BUFFERS, 1, WRITE | NEXT } };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);

	offer(&d, 0, b, 2);
	lay(&r, RINGS(0), 1, &b[1], 0); /* back to the first */
	expect_broken(&d);
	d = start(&r, VIRTIO_F_INDIRECT, 1);
	const struct buffer table = { BUFFERS, 32, INDIRECT };

	lay(&r, BUFFERS, 0, &(struct buffer){ BUFFERS + 64, 0, WRITE | NEXT }, 1);
	lay(&r, BUFFERS, 1, &(struct buffer){ BUFFERS + 64, 0, WRITE | NEXT }, 0);
	offer(&d, 0, &table, 1);
	expect_broken(&d);
	/* Packed: every descriptor has a next one. */
	d = start(&r, VIRTIO_F_PACKED, 1);
	for (unsigned i = 0; i < QUEUE; i++) {
		struct buffer p = { BUFFERS, 1, 0 };

		lay(&r, RINGS(0), i, &p, 0x80 | WRITE | NEXT);
	}
	expect_broken(&d);
	rig_close(&r);
}

static void indexes_out_of_range_are_refused(void **state)
{
	const struct buffer b = { BUFFERS, 1, WRITE | NEXT };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);

	poke16(&r, RINGS(0) + 0x1004, QUEUE); /* a head */
	poke16(&r, RINGS(0) + 0x1002, 1);
	expect_broken(&d);
	d = start(&r, 0, 1);
	poke16(&r, RINGS(0) + 0x1002, QUEUE + 1); /* more than there are */
	expect_broken(&d);
	d = start(&r, 0, 1);
	offer(&d, 0, &b, 1);
	lay(&r, RINGS(0), 0, &b, 0xffff); /* a next one */
	expect_broken(&d);
	rig_close(&r);
}

static void queues_must_be_possible(void **state)
{
	static const struct {
		u16 size;
		u64 desc, driver, device;
	} bad[] = {
		{ 3, RINGS(0), RINGS(0) + 0x1000, RINGS(0) + 0x2000 },
		{ 0, RINGS(0), RINGS(0) + 0x1000, RINGS(0) + 0x2000 },
		{ QUEUE, RINGS(0) + 8, RINGS(0) + 0x1000, RINGS(0) + 0x2000 },
		{ QUEUE, RINGS(0), RINGS(0) + 0x1001, RINGS(0) + 0x2000 },
		{ QUEUE, RINGS(0), RINGS(0) + 0x1000, RINGS(0) + 0x2002 },
		{ QUEUE, MiB, RINGS(0) + 0x1000, RINGS(0) + 0x2000 },
		{ QUEUE, RINGS(0), ~1ull, RINGS(0) + 0x2000 },
		{ QUEUE, RINGS(0), RINGS(0) + 0x1000, MiB - 4 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct rig r;

		open_rig(&r);
		start(&r, 0, 0);
		set(&r, COMMON(0x18), 2, bad[i].size);
		set(&r, COMMON(0x20), 8, bad[i].desc);
		set(&r, COMMON(0x28), 8, bad[i].driver);
		set(&r, COMMON(0x30), 8, bad[i].device);
		set(&r, COMMON(0x1c), 2, 1);
		assert_int_equal(get(&r, COMMON(0x1c), 2), 0);
		assert_int_equal(status(&r), 15 | 0x40);
		rig_close(&r);
	}
}

static void an_enabled_queue_stays_as_it_is(void **state)
{
	struct rig r;

	open_rig(&r);
	start(&r, 0, 1);
	set(&r, COMMON(0x20), 8, 0x1234560);
	set(&r, COMMON(0x18), 2, 8);
	set(&r, COMMON(0x1c), 2, 0);
	assert_int_equal(get(&r, COMMON(0x20), 8), RINGS(0));
	assert_int_equal(get(&r, COMMON(0x18), 2), QUEUE);
	assert_int_equal(get(&r, COMMON(0x1c), 2), 1);
	rig_close(&r);
}

static void script(struct rig *r)
{
	kick(&(struct driver){ .r = r }, 0);
	set(r, COMMON(0x16), 2, 0);
	assert_int_equal(get(r, COMMON(0x1c), 2), 1);
}

static void state_survives_migration(void **state)
{
	const struct buffer b = { BUFFERS, 8, WRITE };

	for (unsigned i = 0; i < BOTH_KINDS; i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 1);

		offer(&d, 0, &b, 1);
		kick(&d, 0);
		offer(&d, 0, &b, 1);
		rig_check_migration(&r, script);
		rig_close(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_say_what_it_is),
		cmocka_unit_test(capabilities_lead_to_the_structures),
		cmocka_unit_test(configuration_space_is_a_way_to_the_registers),
		cmocka_unit_test(features_must_have_been_offered),
		cmocka_unit_test(chains_come_back_filled),
		cmocka_unit_test(indirect_tables_are_followed),
		cmocka_unit_test(indirect_table_may_end_a_split_chain),
		cmocka_unit_test(drivers_can_do_without_interrupts),
		cmocka_unit_test(event_index_asks_for_the_third),
		cmocka_unit_test(without_msix_there_is_a_wire),
		cmocka_unit_test(nothing_is_taken_before_it_may_be),
		cmocka_unit_test(a_driver_that_never_stops_holds_nobody_up),
		cmocka_unit_test(broken_chains_need_a_reset),
		cmocka_unit_test(indirect_must_be_agreed_on),
		cmocka_unit_test(nested_tables_are_refused),
		cmocka_unit_test(loops_end),
		cmocka_unit_test(indexes_out_of_range_are_refused),
		cmocka_unit_test(queues_must_be_possible),
		cmocka_unit_test(an_enabled_queue_stays_as_it_is),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("virtio", tests, NULL, NULL);
}
