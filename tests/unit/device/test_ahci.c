/* The AHCI adapter under a small driver: Serial ATA AHCI 1.3.1, ATA's commands, and what drivers
 * get wrong. */
#include "device/ahci/ahci.h"
#include "device/ata/ata.h"
#include "rig.h"
#include <errno.h>

#define BAR	 0xd0000000ull
#define REG(at)	 (BAR + (at))
#define PORT(at) (BAR + 0x100 + (at))
#define LIST	 0x10000ull
#define RECEIVED 0x11000ull
#define TABLE(n) (0x12000ull + 0x400 * (n))
#define DATA	 0x80000ull

enum { GHC = 0x04, IS = 0x08, PI = 0x0c, VS = 0x10 };
enum {
	CLB = 0x00,
	FB = 0x08,
	PIS = 0x10,
	PIE = 0x14,
	CMD = 0x18,
	TFD = 0x20,
	SIG = 0x24,
	SSTS = 0x28,
	SCTL = 0x2c,
	SERR = 0x30,
	SACT = 0x34,
	CI = 0x38
};

#define ENABLE BIT(1)
#define START  0x11u
#define D2H    BIT(0)
#define PIO    BIT(1)
#define SDB    BIT(3)
#define TASK   BIT(30)
#define WRITE  BIT(6)

struct issue {
	u8 op, device;
	u16 features, count;
	u64 lba;
	u32 flags; /* of the header */
	u64 data;
	u32 len;
};

static u32 get(struct rig *r, u64 at) { return (u32)bus_read(&r->bus, BUS_MMIO, at, 4); }
static void set(struct rig *r, u64 at, u32 v) { bus_write(&r->bus, BUS_MMIO, at, 4, v); }
static void poke(struct rig *r, u64 at, const void *data, u64 len)
{
	assert_true(memory_write(&r->memory, gpa(at), data, len));
}
static void peek(struct rig *r, u64 at, void *data, u64 len)
{
	assert_true(memory_read(&r->memory, gpa(at), data, len));
}

static void configure(struct rig *r)
{
	for (unsigned i = 0; i < PCI_LINKS; i++)
		r->pci.links[i] = (struct irq_line){ rig_line, r, i };
	assert_int_equal(device_set(r->dev, "serial0", "strata-0001", NULL), 0);
}

static void open_rig(struct rig *r)
{
	rig_open(r, &ahci_class);
	r->configure = configure;
	configure(r);
	for (unsigned i = 0; i < RIG_DISK; i++)
		r->disk[i] = (u8)(i / 512 + i);
	pci_config_write(&r->pci, 0, PCI_BAR0 + 20, 4, (u32)BAR);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void start(struct rig *r)
{
	set(r, REG(GHC), ENABLE);
	set(r, PORT(SERR), ~0u);
	set(r, PORT(PIS), ~0u);
	set(r, REG(IS), ~0u);
	set(r, PORT(CLB), LIST);
	set(r, PORT(FB), RECEIVED);
	set(r, PORT(PIE), ~0u);
	set(r, PORT(CMD), START);
}

static void lay(struct rig *r, unsigned slot, const struct issue *q)
{
	u8 header[32] = { 0 }, fis[20] = { 0x27, 0x80, q->op, (u8)q->features };
	u8 prd[16] = { 0 };

	put_le32(header, 5 | q->flags | (q->len ? 1u << 16 : 0));
	put_le64(header + 8, TABLE(slot));
	for (unsigned i = 0; i < 3; i++) {
		fis[4 + i] = (u8)(q->lba >> 8 * i);
		fis[8 + i] = (u8)(q->lba >> (24 + 8 * i));
	}
	fis[7] = q->device;
	fis[11] = (u8)(q->features >> 8);
	put_le16(fis + 12, q->count);
	put_le64(prd, q->data);
	put_le32(prd + 12, q->len - 1);
	poke(r, LIST + 32 * slot, header, sizeof(header));
	poke(r, TABLE(slot), fis, sizeof(fis));
	poke(r, TABLE(slot) + 0x80, prd, sizeof(prd));
}

static void issue(struct rig *r, unsigned slot, const struct issue *q)
{
	lay(r, slot, q);
	if (q->op == 0x60 || q->op == 0x61)
		set(r, PORT(SACT), 1u << slot);
	set(r, PORT(CI), 1u << slot);
}

/* Issues, lets the disk do it, and returns the task file: status, and the error above it. */
static u32 run(struct rig *r, const struct issue *q)
{
	issue(r, 0, q);
	while (r->pending_count)
		rig_disk_end(r, 0, 0);
	return get(r, PORT(TFD));
}

/* After an error: stop, clear, go on. */
static void recover(struct rig *r)
{
	set(r, PORT(CMD), 0x10);
	assert_int_equal(get(r, PORT(CI)), 0);
	set(r, PORT(PIS), ~0u);
	set(r, REG(IS), ~0u);
	set(r, PORT(CMD), START);
}

static void registers_are_as_documented(void **state)
{
	struct rig r;

	open_rig(&r);
	u32 cap = get(&r, REG(0));

	assert_int_equal(bits(cap, 4, 0), 5);
	assert_int_equal(bits(cap, 12, 8), 31);
	assert_true(cap & BIT(30));
	assert_int_equal(get(&r, REG(GHC)), 1u << 31);
	assert_int_equal(get(&r, REG(PI)), 0x3f);
	assert_int_equal(get(&r, REG(VS)), 0x10301);
	assert_int_equal(get(&r, PORT(SSTS)), 0x133);
	assert_int_equal(get(&r, PORT(SIG)), 0x101);
	assert_int_equal(get(&r, PORT(TFD)), 0x150);
	assert_int_equal(get(&r, PORT(0x80 + SSTS)), 0); /* the next port has no disk */
	assert_int_equal(get(&r, PORT(0x80 + SIG)), ~0u);
	assert_int_equal(get(&r, PORT(6 * 0x80 + SIG)), 0);
	set(&r, PORT(CLB), 0x12345678);
	set(&r, PORT(CLB + 4), 9);
	assert_int_equal(get(&r, PORT(CLB)), 0x12345400);
	assert_int_equal(get(&r, PORT(CLB + 4)), 9);
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, PORT(SSTS), 1), 0x33);
	rig_close(&r);
}

static void the_disk_identifies_itself(void **state)
{
	const struct issue q = { .op = 0xec, .data = DATA, .len = 512 };
	u8 words[512], fis[20], header[8], sum = 0;
	struct rig r;

	open_rig(&r);
	start(&r);
	assert_int_equal(run(&r, &q), 0x50);
	assert_int_equal(get(&r, PORT(PIS)), PIO);
	assert_true(r.level[pci_link(0, 1)]);
	peek(&r, RECEIVED + 0x20, fis, sizeof(fis));
	assert_int_equal(fis[0], 0x5f);
	assert_int_equal(fis[15], 0x50);
	peek(&r, LIST, header, sizeof(header));
	assert_int_equal(get_le32(header + 4), 512);
	peek(&r, DATA, words, sizeof(words));
	for (unsigned i = 0; i < 512; i++)
		sum = (u8)(sum + words[i]);
	assert_int_equal(sum, 0);
	assert_memory_equal(words + 20, "tsarat0-00 1        ", 20);
	assert_int_equal(get_le64(words + 200), RIG_DISK / 512);
	assert_int_equal(get_le16(words + 152), 0x10e);
	set(&r, PORT(PIS), PIO);
	set(&r, REG(IS), 1);
	assert_false(r.level[pci_link(0, 1)]);
	rig_close(&r);
}

static void sectors_are_read_and_written(void **state)
{
	static const struct {
		u8 in, out;
		u16 flags;
	} ways[] = { { 0x25, 0x35, 0 }, { 0xc8, 0xca, 0 }, { 0x20, 0x30, 0 }, { 0x29, 0x39, 0 },
		{ 0x24, 0x3d, 0 } };
	u8 data[1024];

	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		struct issue q = { ways[i].in, 0x40, 0, 2, 3, 0, DATA, 1024 };
		struct rig r;

		open_rig(&r);
		start(&r);
		assert_int_equal(run(&r, &q), 0x50);
		peek(&r, DATA, data, sizeof(data));
		assert_memory_equal(data, r.disk + 3 * 512, sizeof(data));
		q.op = ways[i].out;
		q.flags = WRITE;
		q.lba = 10;
		set(&r, PORT(PIS), ~0u);
		assert_int_equal(run(&r, &q), 0x50);
		assert_int_equal(get(&r, PORT(PIS)), D2H);
		assert_memory_equal(data, r.disk + 10 * 512, sizeof(data));
		assert_int_equal(r.flushes, q.op == 0x3d);
		assert_int_equal(get(&r, PORT(CI)), 0);
		rig_close(&r);
	}
}

static void cylinders_heads_and_sectors_count_from_one(void **state)
{
	const struct issue geometry = { .op = 0x91, .device = 3, .count = 7 };
	struct issue q = { 0xc8, 0x02, 0, 1, 0x000105, 0, DATA, 512 }; /* 1, 2, 5 */
	u8 data[512];
	struct rig r;

	open_rig(&r);
	start(&r);
	assert_int_equal(run(&r, &geometry), 0x50);
	assert_int_equal(run(&r, &q), 0x50);
	peek(&r, DATA, data, sizeof(data));
	assert_memory_equal(data, r.disk + (0x01 * 4 + 2) * 7 * 512 + 4 * 512, sizeof(data));
	q.lba = 0x000100;
	assert_int_equal(run(&r, &q), 0x1051);
	rig_close(&r);
}

static void queued_commands_end_in_any_order(void **state)
{
	struct rig r;
	u8 fis[8];

	open_rig(&r);
	start(&r);
	for (unsigned i = 0; i < 3; i++)
		lay(&r, i,
			&(struct issue){ 0x60, 0x40, 1, (u16)(i << 3), i, 0, DATA + 512 * i, 512 });
	set(&r, PORT(SACT), 7);
	set(&r, PORT(CI), 7);
	assert_int_equal(get(&r, PORT(CI)), 0);
	assert_int_equal(r.pending_count, 3);
	rig_disk_end(&r, 2, 0);
	assert_int_equal(get(&r, PORT(SACT)), 3);
	assert_int_equal(get(&r, PORT(PIS)), SDB);
	peek(&r, RECEIVED + 0x58, fis, sizeof(fis));
	assert_int_equal(fis[0], 0xa1);
	assert_int_equal(get_le32(fis + 4), 4);
	rig_disk_end(&r, 0, 0);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(get(&r, PORT(SACT)), 0);
	/* One that is not queued waits for those that are. */
	issue(&r, 0, &(struct issue){ 0x60, 0x40, 1, 0, 0, 0, DATA, 512 });
	issue(&r, 1, &(struct issue){ 0xea, 0x40, 0, 0, 0, 0, 0, 0 });
	assert_int_equal(r.pending_count, 1);
	assert_int_equal(get(&r, PORT(CI)), 2);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(r.pending_count, 1);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(get(&r, PORT(CI)), 0);
	assert_int_equal(r.flushes, 1);
	rig_close(&r);
}

static void errors_halt_the_port(void **state)
{
	const struct issue beyond = { 0x25, 0x40, 0, 1, RIG_DISK / 512, 0, DATA, 512 };
	const struct issue good = { 0x25, 0x40, 0, 1, 0, 0, DATA, 512 };
	struct rig r;

	open_rig(&r);
	start(&r);
	assert_int_equal(run(&r, &beyond), 0x1051);
	assert_int_equal(get(&r, PORT(PIS)), TASK | D2H);
	assert_int_equal(get(&r, PORT(CI)), 1);
	issue(&r, 1, &good);
	assert_int_equal(r.pending_count, 0);
	recover(&r);
	assert_int_equal(run(&r, &good), 0x50);
	issue(&r, 0, &good);
	rig_disk_end(&r, 0, -EIO);
	assert_int_equal(get(&r, PORT(TFD)), 0x4051);
	recover(&r);
	assert_int_equal(run(&r, &(struct issue){ .op = 0x77 }), 0x451);
	recover(&r);
	r.disk_readonly = true;
	assert_int_equal(run(&r, &(struct issue){ 0x35, 0x40, 0, 1, 0, WRITE, DATA, 512 }), 0x451);
	rig_close(&r);
}

static void a_queued_commands_error_is_in_the_log(void **state)
{
	const struct issue log = { .op = 0x2f, .count = 1, .lba = 0x10, .data = DATA, .len = 512 };
	u8 page[512], sum = 0;
	struct rig r;

	open_rig(&r);
	start(&r);
	issue(&r, 3, &(struct issue){ 0x60, 0x40, 1, 3 << 3, 5, 0, DATA, 512 });
	issue(&r, 4, &(struct issue){ 0x60, 0x40, 1, 4 << 3, 6, 0, DATA, 512 });
	rig_disk_end(&r, 0, -EIO);
	assert_int_equal(get(&r, PORT(SACT)), 0x18);
	assert_int_equal(get(&r, PORT(TFD)) & 0xffff, 0x4051);
	assert_int_equal(r.pending_count, 1);
	recover(&r); /* waits for the other one */
	assert_int_equal(r.pending_count, 0);
	assert_int_equal(get(&r, PORT(SACT)), 0);
	assert_int_equal(run(&r, &log), 0x50);
	peek(&r, DATA, page, sizeof(page));
	assert_int_equal(page[0], 3);
	assert_int_equal(page[2], 0x51);
	assert_int_equal(page[3], 0x40);
	assert_int_equal(page[4], 5);
	for (unsigned i = 0; i < 512; i++)
		sum = (u8)(sum + page[i]);
	assert_int_equal(sum, 0);
	rig_close(&r);
}

static void ranges_are_trimmed(void **state)
{
	struct issue q = { 0x06, 0x40, 1, 1, 0, WRITE, DATA, 512 };
	u64 ranges[64] = { 20 | 2ull << 48, 30 | 1ull << 48 };
	struct rig r;

	open_rig(&r);
	start(&r);
	poke(&r, DATA, ranges, sizeof(ranges));
	assert_int_equal(run(&r, &q), 0x50);
	assert_int_equal(r.disk[20 * 512], 0xdd);
	assert_int_equal(r.disk[22 * 512 - 1], 0xdd);
	assert_int_equal(r.disk[30 * 512], 0xdd);
	assert_int_not_equal(r.disk[31 * 512], 0xdd);
	ranges[1] = RIG_DISK / 512 | 1ull << 48;
	poke(&r, DATA, ranges, sizeof(ranges));
	assert_int_equal(run(&r, &q), 0x1051);
	recover(&r);
	memset(ranges, 0, sizeof(ranges));
	poke(&r, DATA, ranges, sizeof(ranges));
	assert_int_equal(run(&r, &q), 0x50);
	q.count = 9;
	assert_int_equal(run(&r, &q), 0x451);
	rig_close(&r);
}

static void settings_are_kept(void **state)
{
	u8 words[512];
	struct rig r;

	open_rig(&r);
	start(&r);
	assert_int_equal(run(&r, &(struct issue){ .op = 0xef, .features = 0x82 }), 0x50);
	assert_int_equal(r.flushes, 1);
	assert_int_equal(run(&r, &(struct issue){ 0x35, 0x40, 0, 1, 0, WRITE, DATA, 512 }), 0x50);
	assert_int_equal(r.flushes, 2);
	assert_int_equal(run(&r, &(struct issue){ .op = 0xc6, .count = 4 }), 0x50);
	assert_int_equal(
		run(&r, &(struct issue){ .op = 0xef, .features = 3, .count = 0x22 }), 0x50);
	run(&r, &(struct issue){ .op = 0xec, .data = DATA, .len = 512 });
	peek(&r, DATA, words, sizeof(words));
	assert_int_equal(get_le16(words + 2 * 85), 0x4048);
	assert_int_equal(get_le16(words + 2 * 59), 0x104);
	assert_int_equal(get_le16(words + 2 * 63), 0x407);
	assert_int_equal(get_le16(words + 2 * 88), 0x7f);
	assert_int_equal(run(&r, &(struct issue){ .op = 0xc6, .count = 3 }), 0x451);
	recover(&r);
	assert_int_equal(
		run(&r, &(struct issue){ .op = 0xef, .features = 0x10, .count = 2 }), 0x451);
	rig_close(&r);
}

static void memory_that_is_not_there_halts_the_port(void **state)
{
	static const struct issue rows[] = {
		{ 0x25, 0x40, 0, 1, 0, 0, RIG_MEMORY, 512 }, { 0x25, 0x40, 0, 2, 0, 0, DATA, 512 },
		{ 0x25, 0x40, 0, 1, 0, 0, 0, 0 },
		{ 0x60, 0x40, 1, 5 << 3, 0, 0, DATA, 512 }, /* another tag than its slot's */
	};
	struct rig r;

	open_rig(&r);
	start(&r);
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		issue(&r, 0, &rows[i]);
		assert_int_equal(r.pending_count, 0);
		assert_true(get(&r, PORT(PIS)) & BIT(29));
		recover(&r);
	}
	set(&r, PORT(CMD), 0x10);
	set(&r, PORT(CLB), RIG_MEMORY);
	set(&r, PORT(CMD), START);
	set(&r, PORT(CI), 1);
	assert_true(get(&r, PORT(PIS)) & BIT(29));
	rig_close(&r);
}

static void links_and_disks_are_reset(void **state)
{
	u8 fis[20] = { 0x27, 0 }, header[32] = { 5 };
	struct rig r;

	open_rig(&r);
	start(&r);
	issue(&r, 0, &(struct issue){ 0x25, 0x40, 0, 1, 0, 0, DATA, 512 });
	set(&r, PORT(SCTL), 1);
	assert_int_equal(r.pending_count, 0);
	assert_int_equal(get(&r, PORT(SSTS)), 0);
	assert_int_equal(get(&r, PORT(SIG)), ~0u);
	set(&r, PORT(SCTL), 0);
	assert_int_equal(get(&r, PORT(SSTS)), 0x133);
	assert_int_equal(get(&r, PORT(SIG)), 0x101);
	assert_true(get(&r, PORT(PIS)) & BIT(6));
	set(&r, PORT(SERR), ~0u);
	assert_false(get(&r, PORT(PIS)) & BIT(6));
	/* By the control register: two frames. */
	put_le64(header + 8, TABLE(0));
	poke(&r, LIST, header, sizeof(header));
	fis[15] = 4;
	poke(&r, TABLE(0), fis, sizeof(fis));
	set(&r, PORT(CI), 1);
	assert_int_equal(get(&r, PORT(CI)), 0);
	fis[15] = 0;
	poke(&r, TABLE(0), fis, sizeof(fis));
	set(&r, PORT(CI), 1);
	assert_int_equal(get(&r, PORT(TFD)), 0x150);
	peek(&r, RECEIVED + 0x40, fis, sizeof(fis));
	assert_int_equal(fis[0], 0x34);
	assert_int_equal(fis[12], 1);
	set(&r, REG(GHC), 1);
	assert_int_equal(get(&r, REG(GHC)), 1u << 31);
	assert_int_equal(get(&r, PORT(CMD)), 6);
	rig_close(&r);
}

static void a_message_stands_for_the_wire(void **state)
{
	struct rig r;

	open_rig(&r);
	pci_config_write(&r.pci, 0, 0x44, 4, 0xfee00000);
	pci_config_write(&r.pci, 0, 0x4c, 2, 0x55);
	pci_config_write(&r.pci, 0, 0x42, 2, 1);
	start(&r);
	r.messages = 0;
	run(&r, &(struct issue){ .op = 0xec, .data = DATA, .len = 512 });
	assert_int_equal(r.messages, 1);
	assert_int_equal(r.data, 0x55);
	assert_false(r.level[pci_link(0, 1)]);
	rig_close(&r);
}

static void script(struct rig *r)
{
	run(r, &(struct issue){ 0x25, 0x40, 0, 1, 7, 0, DATA, 512 });
	run(r, &(struct issue){ 0x60, 0x40, 1, 0, 2, 0, DATA, 512 });
	run(r, &(struct issue){ .op = 0xec, .data = DATA, .len = 512 });
}

static void state_survives_migration(void **state)
{
	struct rig r;

	open_rig(&r);
	start(&r);
	memset(r.disk, 0, RIG_DISK); /* the other rig's is */
	run(&r, &(struct issue){ .op = 0xc6, .count = 4 });
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_are_as_documented),
		cmocka_unit_test(the_disk_identifies_itself),
		cmocka_unit_test(sectors_are_read_and_written),
		cmocka_unit_test(cylinders_heads_and_sectors_count_from_one),
		cmocka_unit_test(queued_commands_end_in_any_order),
		cmocka_unit_test(errors_halt_the_port),
		cmocka_unit_test(a_queued_commands_error_is_in_the_log),
		cmocka_unit_test(ranges_are_trimmed),
		cmocka_unit_test(settings_are_kept),
		cmocka_unit_test(memory_that_is_not_there_halts_the_port),
		cmocka_unit_test(links_and_disks_are_reset),
		cmocka_unit_test(a_message_stands_for_the_wire),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("ahci", tests, NULL, NULL);
}
