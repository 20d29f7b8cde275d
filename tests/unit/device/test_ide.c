/* The IDE controller as drivers use it: signatures, identification, programmed and bus-master
 * transfers, packets; and what a driver must not do. */
#include "device/ide/ide.h"
#include "rig.h"

#define BASE	0x1f0
#define CONTROL 0x3f6
#define SECOND	0x170
#define MASTER	0xc000
#define REGIONS 0x2000u
#define BUFFER	0x10000u

enum { DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, COMMAND };

/* Master of the first channel a disk, of the second a CD-ROM drive with the same contents. */
static void cd_on_second(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "cd0", "on", NULL), 0);
}

static void start(struct rig *r)
{
	rig_open(r, &ide_class);
	for (unsigned i = 0; i < RIG_DISK; i++)
		r->disk[i] = (u8)(i / 512 + i);
	pci_config_write(&r->pci, 0, PCI_BAR0 + 16, 4, MASTER);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, 5);
}

static void start_cd(struct rig *r)
{
	start(r);
	r->configure = cd_on_second;
	cd_on_second(r);
	pci_config_write(&r->pci, 0, PCI_BAR0 + 16, 4, MASTER);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, 5);
}

static void command(struct rig *r, u8 op, u32 lba, u8 count)
{
	out8(r, BASE + COUNT, count);
	out8(r, BASE + LOW, (u8)lba);
	out8(r, BASE + MID, (u8)(lba >> 8));
	out8(r, BASE + HIGH, (u8)(lba >> 16));
	out8(r, BASE + DEVICE, (u8)(0x40 | lba >> 24));
	out8(r, BASE + COMMAND, op);
}

static void read_words(struct rig *r, u8 *to, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i += 2)
		put_le16(to + i, in16(r, BASE + DATA));
}

static void reset_leaves_signatures(void **state)
{
	struct rig r;

	start(&r);
	assert_int_equal(in8(&r, CONTROL), 0x50);
	out8(&r, CONTROL, 4);
	assert_int_equal(in8(&r, CONTROL), 0x80);
	out8(&r, CONTROL, 0);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	assert_int_equal(in8(&r, BASE + ERROR), 1);
	assert_int_equal(in8(&r, BASE + MID), 0);
	/* Nobody is the slave, and nothing is on the second channel. */
	out8(&r, BASE + DEVICE, 0x10);
	assert_int_equal(in8(&r, BASE + COMMAND), 0);
	assert_int_equal(in8(&r, SECOND + COMMAND), 0);
	rig_close(&r);
	start_cd(&r);
	assert_int_equal(in8(&r, BASE + MID), 0x14);
	assert_int_equal(in8(&r, BASE + HIGH), 0xeb);
	rig_close(&r);
}

static void identify_has_the_size(void **state)
{
	u8 words[512];
	struct rig r;

	start(&r);
	command(&r, 0xec, 0, 0);
	assert_true(r.level[0]);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x58);
	assert_false(r.level[0]); /* reading the status acknowledges */
	read_words(&r, words, 512);
	assert_int_equal(get_le32(words + 120), RIG_DISK / 512);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	rig_close(&r);
}

static void sectors_are_read_one_interrupt_each(void **state)
{
	u8 data[1024];
	struct rig r;

	start(&r);
	command(&r, 0x20, 3, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(in8(&r, CONTROL), 0x80);
		rig_disk_end(&r, 0, 0);
		assert_true(r.level[0]);
		assert_int_equal(in8(&r, BASE + COMMAND), 0x58);
		read_words(&r, data + 512 * i, 512);
	}
	assert_memory_equal(data, r.disk + 3 * 512, 1024);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	assert_int_equal(r.rises[0], 2);
	rig_close(&r);
}

static void multiple_reads_take_one_interrupt_a_block(void **state)
{
	u8 data[5 * 512];
	struct rig r;

	start(&r);
	command(&r, 0xc6, 0, 4);
	r.rises[0] = 0;
	command(&r, 0xc4, 1, 5);
	rig_disk_end(&r, 0, 0);
	read_words(&r, data, 4 * 512);
	rig_disk_end(&r, 0, 0);
	in8(&r, BASE + COMMAND);
	read_words(&r, data + 4 * 512, 512);
	assert_memory_equal(data, r.disk + 512, sizeof(data));
	rig_close(&r);
}

static void sectors_are_written(void **state)
{
	struct rig r;

	start(&r);
	command(&r, 0x30, 7, 2);
	assert_false(r.level[0]); /* the first block is asked for without an interrupt */
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(in8(&r, CONTROL), 0x58);
		for (unsigned k = 0; k < 256; k++)
			out16(&r, BASE + DATA, (u16)(k + i));
		assert_int_equal(in8(&r, CONTROL), 0x80);
		rig_disk_end(&r, 0, 0);
		assert_true(r.level[0]);
		in8(&r, BASE + COMMAND);
	}
	assert_int_equal(in8(&r, CONTROL), 0x50);
	assert_int_equal(get_le16(r.disk + 7 * 512 + 20), 10);
	assert_int_equal(get_le16(r.disk + 8 * 512 + 20), 11);
	rig_close(&r);
}

static void errors_end_commands(void **state)
{
	struct rig r;

	start(&r);
	command(&r, 0x20, RIG_DISK / 512 - 1, 2);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(in8(&r, BASE + ERROR), 0x10);
	command(&r, 0xa0, 0, 1); /* packets are for others */
	assert_int_equal(in8(&r, BASE + ERROR), 0x04);
	command(&r, 0x20, 0, 1);
	rig_disk_end(&r, 0, -5);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(in8(&r, BASE + ERROR), 0x40);
	rig_close(&r);
}

static void region(struct rig *r, unsigned i, u32 at, u16 len, bool last)
{
	u8 *p = memory_host(&r->memory, gpa(REGIONS + 8 * i), 8);

	put_le32(p, at);
	put_le32(p + 4, len | (last ? 0x80000000 : 0));
}

static void master_reads_into_regions(void **state)
{
	struct rig r;

	start(&r);
	region(&r, 0, BUFFER, 700, false);
	region(&r, 1, BUFFER + 0x4000, 324, true);
	out32(&r, MASTER + 4, REGIONS);
	command(&r, 0xc8, 2, 2);
	assert_int_equal(r.pending_count, 0); /* until the master is started */
	out8(&r, MASTER, 9);
	assert_int_equal(in8(&r, MASTER + 2), 1);
	rig_disk_end(&r, 0, 0);
	assert_true(r.level[0]);
	assert_int_equal(in8(&r, MASTER + 2), 4);
	assert_memory_equal(memory_host(&r.memory, gpa(BUFFER), 700), r.disk + 1024, 700);
	assert_memory_equal(memory_host(&r.memory, gpa(BUFFER + 0x4000), 324), r.disk + 1724, 324);
	out8(&r, MASTER, 0);
	out8(&r, MASTER + 2, 4);
	assert_int_equal(in8(&r, MASTER + 2), 0);
	rig_close(&r);
}

static void master_writes_48_bits(void **state)
{
	struct rig r;

	start(&r);
	region(&r, 0, BUFFER, 0, true); /* 64 KiB: more than it needs */
	memset(memory_host(&r.memory, gpa(BUFFER), 512), 0xab, 512);
	out32(&r, MASTER + 4, REGIONS);
	out8(&r, MASTER, 1);
	out8(&r, BASE + COUNT, 0);
	out8(&r, BASE + LOW, 0);
	command(&r, 0x35, 9, 1);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(r.disk[9 * 512 + 511], 0xab);
	assert_int_equal(in8(&r, MASTER + 2), 5); /* active still: there is room left */
	rig_close(&r);
}

static void master_without_memory_is_an_error(void **state)
{
	struct rig r;

	start(&r);
	out32(&r, MASTER + 4, REGIONS);
	region(&r, 0, BUFFER, 100, true); /* too short */
	command(&r, 0xc8, 2, 1);
	out8(&r, MASTER, 9);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(in8(&r, MASTER + 2) & 3, 2);
	out8(&r, MASTER, 0);
	region(&r, 0, 0xfffffff0, 0, true); /* no memory */
	command(&r, 0xc8, 2, 1);
	out8(&r, MASTER, 9);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	out8(&r, MASTER, 0);
	command(&r, 0xca, 2, 1); /* the other direction */
	out8(&r, MASTER, 9);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(r.pending_count, 0);
	rig_close(&r);
}

static void reset_waits_for_the_disk(void **state)
{
	struct rig r;

	start(&r);
	region(&r, 0, BUFFER, 512, true);
	out32(&r, MASTER + 4, REGIONS);
	command(&r, 0xc8, 2, 1);
	out8(&r, MASTER, 9);
	assert_int_equal(r.pending_count, 1);
	out8(&r, CONTROL, 4);
	assert_int_equal(r.pending_count, 0);
	out8(&r, CONTROL, 0);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	rig_close(&r);
}

/* ---- packets ---- */

static void packet(struct rig *r, const u8 p[12], u16 limit)
{
	command(r, 0xa0, (u32)limit << 8, 0);
	assert_int_equal(in8(r, BASE + COUNT), 1);
	for (unsigned i = 0; i < 12; i += 2)
		out16(r, BASE + DATA, get_le16(p + i));
}

static void packet_reads_sectors_in_blocks(void **state)
{
	const u8 read[12] = { 0x28, 0, 0, 0, 0, 1, 0, 0, 3 };
	u8 data[3 * 2048];
	struct rig r;

	start_cd(&r);
	packet(&r, read, 4096);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(in8(&r, BASE + COUNT), 2);
	assert_int_equal(in8(&r, BASE + MID) | in8(&r, BASE + HIGH) << 8, 4096);
	read_words(&r, data, 4096);
	rig_disk_end(&r, 0, 0);
	assert_int_equal(in8(&r, BASE + MID) | in8(&r, BASE + HIGH) << 8, 2048);
	read_words(&r, data + 4096, 2048);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	assert_int_equal(in8(&r, BASE + COUNT), 3);
	assert_memory_equal(data, r.disk + 2048, sizeof(data));
	rig_close(&r);
}

static void packet_answers_are_cut_to_the_drivers_room(void **state)
{
	const u8 inquiry[12] = { 0x12, 0, 0, 0, 5 }, capacity[12] = { 0x25 };
	u8 data[8];
	struct rig r;

	start_cd(&r);
	packet(&r, inquiry, 0xfffe);
	assert_int_equal(in8(&r, BASE + MID), 5);
	read_words(&r, data, 6);
	assert_int_equal(data[0], 5);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x50);
	packet(&r, capacity, 4); /* in two pieces */
	read_words(&r, data, 4);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x58);
	read_words(&r, data + 4, 4);
	assert_int_equal(__builtin_bswap32(get_le32(data + 4)), 2048);
	assert_int_equal(__builtin_bswap32(get_le32(data)), RIG_DISK / 2048 - 1);
	rig_close(&r);
}

static void packet_failures_have_a_sense(void **state)
{
	const u8 read[12] = { 0x28, 0, 0xff }, sense[12] = { 0x03, 0, 0, 0, 18 };
	u8 data[18];
	struct rig r;

	start_cd(&r);
	packet(&r, read, 2048);
	in8(&r, BASE + COMMAND);
	packet(&r, (u8[12]){ 0x28, 0, 0xff, 0, 0, 0, 0, 0, 1 }, 2048);
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(in8(&r, BASE + ERROR), 0x54);
	packet(&r, sense, 18);
	read_words(&r, data, 18);
	assert_int_equal(data[2], 5);
	assert_int_equal(data[12], 0x21);
	command(&r, 0x20, 0, 1); /* no disk: and the signature says what it is */
	assert_int_equal(in8(&r, BASE + COMMAND), 0x51);
	assert_int_equal(in8(&r, BASE + HIGH), 0xeb);
	rig_close(&r);
}

static void packet_by_master(void **state)
{
	struct rig r;

	start_cd(&r);
	region(&r, 0, BUFFER, 2048, true);
	out32(&r, MASTER + 4, REGIONS);
	out8(&r, BASE + ERROR, 1);
	packet(&r, (u8[12]){ 0x28, 0, 0, 0, 0, 2, 0, 0, 1 }, 0);
	out8(&r, MASTER, 9);
	rig_disk_end(&r, 0, 0);
	assert_memory_equal(memory_host(&r.memory, gpa(BUFFER), 2048), r.disk + 4096, 2048);
	assert_int_equal(in8(&r, MASTER + 2), 4);
	rig_close(&r);
}

static void script(struct rig *r)
{
	u8 data[512];

	read_words(r, data, 510);
	out8(r, BASE + COMMAND, 0xec);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	start(&r);
	command(&r, 0xec, 0, 0);
	in16(&r, BASE + DATA);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reset_leaves_signatures),
		cmocka_unit_test(identify_has_the_size),
		cmocka_unit_test(sectors_are_read_one_interrupt_each),
		cmocka_unit_test(multiple_reads_take_one_interrupt_a_block),
		cmocka_unit_test(sectors_are_written),
		cmocka_unit_test(errors_end_commands),
		cmocka_unit_test(master_reads_into_regions),
		cmocka_unit_test(master_writes_48_bits),
		cmocka_unit_test(master_without_memory_is_an_error),
		cmocka_unit_test(reset_waits_for_the_disk),
		cmocka_unit_test(packet_reads_sectors_in_blocks),
		cmocka_unit_test(packet_answers_are_cut_to_the_drivers_room),
		cmocka_unit_test(packet_failures_have_a_sense),
		cmocka_unit_test(packet_by_master),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("ide", tests, NULL, NULL);
}
