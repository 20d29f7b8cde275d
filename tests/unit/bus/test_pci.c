/* The PCI core: configuration space, BARs as windows, messages, INTx, and a save in between. */
#include "base/bits.h"
#include "bus/pci.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

#define SLOT   3u
#define TABLE  0x1000u
#define PBA    0x1800u
#define MSI    0x40u
#define MSIX   0x58u
#define MASTER (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY | PCI_COMMAND_IO)

struct bench {
	struct bus bus;
	struct pci_bus pci;
	struct pci_function fn, other;
	unsigned bar, size; /* of the last access to a BAR */
	u64 offset, value;
	unsigned sent;
	u64 address;
	u32 data;
	bool level[PCI_LINKS];
	unsigned reads, wrote; /* of configuration */
};

static void on_msi(void *ctx, u64 address, u32 data)
{
	struct bench *b = ctx;

	b->sent++;
	b->address = address;
	b->data = data;
}

static void on_link(void *ctx, unsigned n, bool level) { ((struct bench *)ctx)->level[n] = level; }

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	struct bench *b = ctx;

	b->bar = bar;
	b->offset = offset;
	b->size = size;
	return 0x1122334455667788;
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct bench *b = ctx;

	bar_read(ctx, bar, offset, size);
	b->value = value;
}

static void config_reads(void *ctx, unsigned at, unsigned size) { ((struct bench *)ctx)->reads++; }
static void config_wrote(void *ctx, unsigned at, unsigned size) { ((struct bench *)ctx)->wrote++; }

static const struct pci_ops ops = { bar_read, bar_write, config_reads, config_wrote };

static void describe(struct bench *b, struct pci_function *fn)
{
	static const struct pci_identity who = {
		.vendor = 0x1af4,
		.device = 0x1042,
		.subvendor = 0x1234,
		.subdevice = 0x5678,
		.class = 0x010203,
		.revision = 9,
		.intx = true,
	};

	pci_init(fn, "toy", &who, &ops, b);
	pci_add_bar(fn, 0, PCI_BAR_MEMORY, 0x2000);
	pci_add_bar(fn, 1, PCI_BAR_IO, 0x40);
	pci_add_bar(fn, 4, PCI_BAR_MEMORY64, 64 * GiB);
	pci_add_msi(fn, 4);
	pci_add_msix(fn, 5, 0, TABLE, PBA);
}

static void open_bench(struct bench *b)
{
	*b = (struct bench){ 0 };
	bus_init(&b->bus);
	pci_bus_init(&b->pci, &b->bus, (struct msi_sink){ on_msi, b });
	for (unsigned i = 0; i < PCI_LINKS; i++)
		b->pci.links[i] = (struct irq_line){ on_link, b, i };
	describe(b, &b->fn);
	assert_int_equal(pci_attach(&b->pci, &b->fn, SLOT, NULL), 0);
}

static void close_bench(struct bench *b)
{
	pci_detach(&b->fn);
	assert_int_equal(b->bus.count[BUS_MMIO] + b->bus.count[BUS_PORT], 0);
}

static u32 get(struct bench *b, unsigned at, unsigned size)
{
	return pci_config_read(&b->pci, SLOT, at, size);
}

static void set(struct bench *b, unsigned at, unsigned size, u32 value)
{
	pci_config_write(&b->pci, SLOT, at, size, value);
}

static u64 load(struct bench *b, u64 at, unsigned size)
{
	return bus_read(&b->bus, BUS_MMIO, at, size);
}

static void store(struct bench *b, u64 at, unsigned size, u64 value)
{
	bus_write(&b->bus, BUS_MMIO, at, size, value);
}

static void header_says_who_it_is(void **state)
{
	struct bench b;

	open_bench(&b);
	assert_int_equal(get(&b, PCI_VENDOR, 4), 0x10421af4);
	assert_int_equal(get(&b, PCI_REVISION, 4), 0x01020309);
	assert_int_equal(get(&b, PCI_SUBVENDOR, 4), 0x56781234);
	assert_int_equal(get(&b, PCI_PIN, 1), 1);
	set(&b, PCI_VENDOR, 4, 0);
	set(&b, PCI_PIN, 1, 4);
	set(&b, PCI_LINE, 1, 0x5a);
	assert_int_equal(get(&b, PCI_VENDOR, 4), 0x10421af4);
	assert_int_equal(get(&b, PCI_LINE, 2), 0x015a);
	assert_int_equal(b.wrote, 3);
	assert_true(b.reads > 3);
	close_bench(&b);
}

static void capabilities_are_a_list(void **state)
{
	struct bench b;

	open_bench(&b);
	assert_true(get(&b, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES);
	assert_int_equal(get(&b, PCI_CAPABILITIES, 1), MSI);
	assert_int_equal(get(&b, MSI, 2), MSIX << 8 | PCI_CAP_MSI);
	assert_int_equal(get(&b, MSIX, 4), 4 << 16 | PCI_CAP_MSIX);
	assert_int_equal(get(&b, MSIX + 4, 4), TABLE);
	assert_int_equal(get(&b, MSIX + 8, 4), PBA);
	close_bench(&b);
}

static void what_is_not_there_reads_as_ones(void **state)
{
	struct bench b;

	open_bench(&b);
	assert_int_equal(pci_config_read(&b.pci, 4, 0, 4), ~0u);
	assert_int_equal(pci_config_read(&b.pci, PCI_SLOTS, 0, 2), 0xffff);
	assert_int_equal(pci_config_read(&b.pci, ~0u, 0, 1), 0xff);
	assert_int_equal(get(&b, PCI_CONFIG_SIZE - 2, 4), ~0u);
	assert_int_equal(get(&b, PCI_CONFIG_SIZE, 4), ~0u);
	pci_config_write(&b.pci, 4, 0, 4, 0);
	set(&b, ~0u, 4, 0);
	close_bench(&b);
}

static void bars_tell_their_sizes(void **state)
{
	struct bench b;

	open_bench(&b);
	for (unsigned i = 0; i < PCI_BARS; i++)
		set(&b, PCI_BAR0 + 4 * i, 4, ~0u);
	assert_int_equal(get(&b, PCI_BAR0, 4), 0xffffe000);
	assert_int_equal(get(&b, PCI_BAR0 + 4, 4), 0xffffffc1);
	assert_int_equal(get(&b, PCI_BAR0 + 8, 4), 0);
	assert_int_equal(get(&b, PCI_BAR0 + 16, 4), 0xc);
	assert_int_equal(get(&b, PCI_BAR0 + 20, 4), 0xfffffff0);
	close_bench(&b);
}

static void bars_follow_their_registers(void **state)
{
	struct bench b;

	open_bench(&b);
	set(&b, PCI_BAR0, 4, 0xc0002000);
	set(&b, PCI_BAR0 + 4, 4, 0xc040);
	set(&b, PCI_BAR0 + 20, 4, 0x20);
	assert_int_equal(load(&b, 0xc0002010, 4), 0xffffffff);
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(load(&b, 0xc0002010, 4), 0x55667788);
	assert_int_equal(b.bar, 0);
	assert_int_equal(b.offset, 0x10);
	assert_int_equal(bus_read(&b.bus, BUS_PORT, 0xc044, 2), 0xffff);
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	assert_int_equal(bus_read(&b.bus, BUS_PORT, 0xc044, 2), 0x7788);
	assert_int_equal(b.bar, 1);
	assert_int_equal(b.offset, 4);
	store(&b, 0x2000000000 + 63 * GiB, 8, 77);
	assert_int_equal(b.bar, 4);
	assert_int_equal(b.offset, 63 * GiB);
	assert_int_equal(b.value, 77);
	/* A byte of the register is enough to move it. */
	set(&b, PCI_BAR0 + 1, 1, 0x80);
	assert_int_equal(load(&b, 0xc0002010, 4), 0xffffffff);
	assert_int_equal(load(&b, 0xc0008010, 4), 0x55667788);
	set(&b, PCI_COMMAND, 2, 0);
	assert_int_equal(b.bus.count[BUS_MMIO] + b.bus.count[BUS_PORT], 0);
	close_bench(&b);
}

static u64 bells[8];
static unsigned bell_count, moves;

static void on_doorbell(void *ctx, u64 at)
{
	assert_in_range(bell_count, 0, ARRAY_LEN(bells) - 1);
	bells[bell_count++] = at;
}

static void on_moved(void *ctx)
{
	moves++;
	bell_count = 0;
	pci_each_doorbell(ctx, on_doorbell, NULL);
}

/* Whoever looks after doorbells hears where they are whenever that may have changed. */
static void doorbells_move_with_their_bar(void **state)
{
	struct bench b;

	open_bench(&b);
	pci_add_doorbells(&b.fn, 0, 0x800, 4, 3);
	b.pci.moved = on_moved;
	b.pci.moved_ctx = &b.pci;
	moves = 0;
	set(&b, PCI_BAR0, 4, 0xc0002000);
	assert_int_equal(moves, 1);
	assert_int_equal(bell_count, 0); /* it does not decode yet */
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(bell_count, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(bells[i], 0xc0002800 + 4 * i);
	set(&b, PCI_BAR0 + 1, 1, 0x80);
	assert_int_equal(bell_count, 3);
	assert_int_equal(bells[2], 0xc0008808);
	pci_detach(&b.fn);
	assert_int_equal(bell_count, 0);
	assert_int_equal(moves, 4);
	close_bench(&b);
}

/* The lower slot is seen, and the other one as soon as there is room, whoever came first. */
static void overlapping_bars_are_ordered(void **state)
{
	struct bench b;

	open_bench(&b);
	describe(&b, &b.other);
	assert_int_equal(pci_attach(&b.pci, &b.other, SLOT, NULL), -EBUSY);
	assert_int_equal(pci_attach(&b.pci, &b.other, PCI_ANY_SLOT, NULL), 0);
	assert_int_equal(b.other.slot, 0);
	set(&b, PCI_BAR0, 4, 0xc0000000);
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b.fn.bars[0].mapped);
	pci_config_write(&b.pci, 0, PCI_BAR0, 4, 0xc0000000);
	pci_config_write(&b.pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_true(b.other.bars[0].mapped);
	assert_false(b.fn.bars[0].mapped);
	pci_detach(&b.other);
	pci_remap(&b.pci);
	assert_true(b.fn.bars[0].mapped);
	close_bench(&b);
}

static void firmware_gives_addresses(void **state)
{
	const struct pci_map map = {
		.io = { 0x1001, 0x1000 },
		.low = { { 0xc0000000, 0x1000 }, { 0xd0001000, 0x10000 } },
		.high = { 65 * GiB, 128 * GiB },
		.first_pin = 16,
	};
	struct bench b;

	open_bench(&b);
	pci_assign(&b.pci, &map);
	assert_int_equal(get(&b, PCI_BAR0, 4), 0xd0002000);
	assert_int_equal(get(&b, PCI_BAR0 + 4, 4), 0x1041);
	assert_int_equal(get(&b, PCI_BAR0 + 16, 4), 0xc);
	assert_int_equal(get(&b, PCI_BAR0 + 20, 4), 0x20);
	assert_int_equal(get(&b, PCI_LINE, 1), 16 + pci_link(SLOT, 1));
	assert_true(b.fn.bars[0].mapped && b.fn.bars[1].mapped && b.fn.bars[4].mapped);
	close_bench(&b);
}

static void intx_is_a_level_with_a_switch(void **state)
{
	unsigned link = pci_link(SLOT, 1);
	struct bench b;

	open_bench(&b);
	pci_intx(&b.fn, true);
	assert_true(b.level[link]);
	assert_true(get(&b, PCI_STATUS, 1) & PCI_STATUS_INTX);
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_false(b.level[link]);
	assert_true(get(&b, PCI_STATUS, 1) & PCI_STATUS_INTX);
	set(&b, PCI_COMMAND, 2, 0);
	assert_true(b.level[link]);
	set(&b, MSIX + 2, 2, 0x8000);
	assert_false(b.level[link]);
	set(&b, MSIX + 2, 2, 0);
	pci_intx(&b.fn, false);
	assert_false(b.level[link]);
	assert_false(get(&b, PCI_STATUS, 1) & PCI_STATUS_INTX);
	close_bench(&b);
}

static void msi_sends_what_it_was_told(void **state)
{
	struct bench b;

	open_bench(&b);
	pci_notify(&b.fn, 0);
	assert_int_equal(b.sent, 0);
	set(&b, MSI + 4, 4, 0xfee01003);
	set(&b, MSI + 8, 4, 1);
	set(&b, MSI + 12, 2, 0x40);
	set(&b, MSI + 2, 2, 1 | 1 << 4); /* two of the four vectors */
	set(&b, PCI_COMMAND, 2, MASTER);
	pci_notify(&b.fn, 3);
	assert_int_equal(b.sent, 1);
	assert_int_equal(b.address, 0x1fee01000);
	assert_int_equal(b.data, 0x41);
	set(&b, MSI + 16, 4, ~0u);
	assert_int_equal(get(&b, MSI + 16, 4), 0xf);
	pci_notify(&b.fn, 0);
	assert_int_equal(b.sent, 1);
	assert_int_equal(get(&b, MSI + 20, 4), 1);
	set(&b, MSI + 16, 4, 0);
	assert_int_equal(b.sent, 2);
	assert_int_equal(get(&b, MSI + 20, 4), 0);
	close_bench(&b);
}

static void set_up_msix(struct bench *b)
{
	set(b, PCI_BAR0, 4, 0xc0000000);
	set(b, PCI_COMMAND, 2, MASTER);
	set(b, MSIX + 2, 2, 0x8000);
	store(b, 0xc0000000 + TABLE + 16, 8, 0x00000002fee02000);
	store(b, 0xc0000000 + TABLE + 24, 4, 0x51);
}

static void msix_has_a_table(void **state)
{
	struct bench b;

	open_bench(&b);
	set_up_msix(&b);
	assert_int_equal(load(&b, 0xc0000000 + TABLE + 28, 4), 1);
	assert_int_equal(load(&b, 0xc0000000 + TABLE + 24, 8), 0x100000051);
	pci_notify(&b.fn, 1);
	assert_int_equal(b.sent, 0);
	assert_int_equal(load(&b, 0xc0000000 + PBA, 8), 2);
	store(&b, 0xc0000000 + PBA, 8, 0);
	store(&b, 0xc0000000 + TABLE + 28, 4, 0);
	assert_int_equal(b.sent, 1);
	assert_int_equal(b.address, 0x2fee02000);
	assert_int_equal(b.data, 0x51);
	assert_int_equal(load(&b, 0xc0000000 + PBA, 4), 0);
	/* The whole function masked, then switched off. */
	set(&b, MSIX + 2, 2, 0xc000);
	pci_notify(&b.fn, 1);
	assert_int_equal(b.sent, 1);
	set(&b, MSIX + 2, 2, 0x8000);
	assert_int_equal(b.sent, 2);
	set(&b, MSIX + 2, 2, 0);
	pci_notify(&b.fn, 1);
	assert_int_equal(b.sent, 2);
	/* Outside of the table, and in pieces that are not defined. */
	pci_notify(&b.fn, 5);
	pci_notify(&b.fn, ~0u);
	assert_int_equal(load(&b, 0xc0000000 + TABLE + 5 * 16, 4), 0x55667788);
	assert_int_equal(load(&b, 0xc0000000 + TABLE + 2, 2), 0);
	close_bench(&b);
}

static void nothing_is_sent_before_the_function_is_master(void **state)
{
	struct bench b;

	open_bench(&b);
	set_up_msix(&b);
	store(&b, 0xc0000000 + TABLE + 28, 4, 0);
	set(&b, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_false(pci_is_master(&b.fn));
	pci_notify(&b.fn, 1);
	assert_int_equal(b.sent, 0);
	set(&b, PCI_COMMAND, 2, MASTER);
	assert_int_equal(b.sent, 1);
	close_bench(&b);
}

static void state_survives_and_read_only_bits_stay(void **state)
{
	struct bench b, c;
	struct blob saved = { 0 }, again = { 0 };
	size_t used;

	open_bench(&b);
	open_bench(&c);
	set_up_msix(&b);
	pci_notify(&b.fn, 1);
	pci_intx(&b.fn, true);
	b.fn.config[PCI_VENDOR] = 0; /* as a hostile stream might have it */
	assert_int_equal(state_save(&saved, pci_function_fields, &b.fn), 0);
	assert_int_equal(state_load(saved.data, saved.len, &used, pci_function_fields, &c.fn,
				 sizeof(c.fn), NULL),
		0);
	pci_loaded(&c.fn);
	b.fn.config[PCI_VENDOR] = 0xf4;
	blob_free(&saved);
	assert_int_equal(state_save(&saved, pci_function_fields, &b.fn), 0);
	assert_int_equal(state_save(&again, pci_function_fields, &c.fn), 0);
	assert_int_equal(saved.len, again.len);
	assert_memory_equal(saved.data, again.data, saved.len);
	store(&c, 0xc0000000 + TABLE + 28, 4, 0);
	assert_int_equal(c.data, 0x51);
	blob_free(&saved);
	blob_free(&again);
	close_bench(&b);
	close_bench(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(header_says_who_it_is),
		cmocka_unit_test(capabilities_are_a_list),
		cmocka_unit_test(what_is_not_there_reads_as_ones),
		cmocka_unit_test(bars_tell_their_sizes),
		cmocka_unit_test(bars_follow_their_registers),
		cmocka_unit_test(doorbells_move_with_their_bar),
		cmocka_unit_test(overlapping_bars_are_ordered),
		cmocka_unit_test(firmware_gives_addresses),
		cmocka_unit_test(intx_is_a_level_with_a_switch),
		cmocka_unit_test(msi_sends_what_it_was_told),
		cmocka_unit_test(msix_has_a_table),
		cmocka_unit_test(nothing_is_sent_before_the_function_is_master),
		cmocka_unit_test(state_survives_and_read_only_bits_stay),
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
