/* The firmware configuration device: items by number and by name, through ports and by DMA. */
#include "device/firmware/fw_cfg.h"
#include "rig.h"

#define SELECT 0x510
#define DATA   0x511
#define DMA    0x514

#define DESCRIPTOR 0x1000u
#define BUFFER	   0x2000u

static u32 be32(u32 v) { return __builtin_bswap32(v); }

static void fill(struct rig *r)
{
	fw_cfg_number(r->dev, FW_CFG_CPUS, 3, 2);
	assert_int_equal(fw_cfg_file(r->dev, "etc/first", "12345", 5, NULL), 0);
	assert_int_equal(fw_cfg_file(r->dev, "second", "abc", 3, NULL), 0);
}

static void open_filled(struct rig *r)
{
	rig_open(r, &fw_cfg_class);
	r->configure = fill;
	fill(r);
}

static u32 read_be(struct rig *r, unsigned bytes)
{
	u32 v = 0;

	while (bytes--)
		v = v << 8 | in8(r, DATA);
	return v;
}

/* Runs a descriptor; its control word afterwards. */
static u32 dma(struct rig *r, u32 control, u32 len, u64 to)
{
	u8 *d = memory_host(&r->memory, gpa(DESCRIPTOR), 16);

	put_le32(d, be32(control));
	put_le32(d + 4, be32(len));
	put_le64(d + 8, __builtin_bswap64(to));
	out32(r, DMA, 0);
	out32(r, DMA + 4, be32(DESCRIPTOR));
	return be32(get_le32(d));
}

static void items_are_read_byte_by_byte_and_end_in_zeros(void **state)
{
	struct rig r;

	open_filled(&r);
	out16(&r, SELECT, FW_CFG_SIGNATURE);
	for (const char *p = "QEMU"; *p; p++)
		assert_int_equal(in8(&r, DATA), *p);
	assert_int_equal(in8(&r, DATA), 0);
	out16(&r, SELECT, FW_CFG_ID);
	assert_int_equal(in8(&r, DATA), 3);
	out16(&r, SELECT, FW_CFG_CPUS);
	assert_int_equal(in8(&r, DATA), 3);
	out16(&r, SELECT, 0x7777); /* no such item */
	assert_int_equal(in8(&r, DATA), 0);
	rig_close(&r);
}

static void directory_names_every_file(void **state)
{
	static const char *const names[] = { "etc/first", "second" };
	struct rig r;

	open_filled(&r);
	out16(&r, SELECT, FW_CFG_DIRECTORY);
	assert_int_equal(read_be(&r, 4), 2);
	for (unsigned i = 0; i < 2; i++) {
		char name[FW_CFG_NAME_SIZE];

		assert_int_equal(read_be(&r, 4), i ? 3 : 5);
		assert_int_equal(read_be(&r, 2), FW_CFG_FIRST_FILE + i);
		read_be(&r, 2);
		for (unsigned k = 0; k < sizeof(name); k++)
			name[k] = (char)in8(&r, DATA);
		assert_string_equal(name, names[i]);
	}
	out16(&r, SELECT, FW_CFG_FIRST_FILE + 1);
	assert_int_equal(read_be(&r, 3), 0x616263);
	rig_close(&r);
}

static void dma_selects_skips_and_reads(void **state)
{
	struct rig r;

	open_filled(&r);
	assert_int_equal(be32(in32(&r, DMA)), 0x51454d55);
	assert_int_equal(be32(in32(&r, DMA + 4)), 0x20434647);
	u8 *buf = memory_host(&r.memory, gpa(BUFFER), 16);
	memset(buf, 0xee, 16);
	assert_int_equal(dma(&r, FW_CFG_FIRST_FILE << 16 | 8 | 4, 2, 0), 0);
	assert_int_equal(dma(&r, 2, 5, BUFFER), 0);
	assert_memory_equal(buf, "345\0\0\xee", 6);
	rig_close(&r);
}

static void dma_outside_of_memory_is_an_error_and_moves_nothing(void **state)
{
	struct rig r;

	open_filled(&r);
	assert_int_equal(dma(&r, FW_CFG_FIRST_FILE << 16 | 8 | 2, 5, RIG_MEMORY - 2), 1);
	assert_int_equal(dma(&r, 2, 5, ~0ull - 1), 1);
	assert_int_equal(dma(&r, 2, 0xffffffff, 0), 1); /* nor is all of memory zeroed */
	assert_int_equal(dma(&r, 0x10, 1, BUFFER), 1);	/* nothing can be written */
	assert_int_equal(in8(&r, DATA), '1');
	/* A descriptor that is nowhere. */
	out32(&r, DMA, be32(0xff));
	out32(&r, DMA + 4, be32(DESCRIPTOR));
	/* Skipping for ever ends at the end. */
	assert_int_equal(dma(&r, 4, 0xffffffff, 0), 0);
	assert_int_equal(dma(&r, 4, 0xffffffff, 0), 0);
	assert_int_equal(in8(&r, DATA), 0);
	rig_close(&r);
}

static void names_and_numbers_have_limits(void **state)
{
	char name[FW_CFG_NAME_SIZE + 1];
	struct rig r;

	rig_open(&r, &fw_cfg_class);
	memset(name, 'x', sizeof(name));
	name[FW_CFG_NAME_SIZE] = '\0';
	assert_int_equal(fw_cfg_file(r.dev, name, "", 0, NULL), -22);
	assert_int_equal(fw_cfg_file(r.dev, "x", "", FW_CFG_FILE_MAX + 1, NULL), -22);
	name[FW_CFG_NAME_SIZE - 1] = '\0';
	int rc = 0;
	for (unsigned i = 0; i < 100 && !rc; i++)
		rc = fw_cfg_file(r.dev, name, "", 0, NULL);
	assert_int_equal(rc, -28);
	rig_close(&r);
}

static void script(struct rig *r)
{
	assert_int_equal(in8(r, DATA), '3');
	out32(r, DMA + 4, be32(DESCRIPTOR));
}

static void state_survives_migration(void **state)
{
	struct rig r;

	open_filled(&r);
	out16(&r, SELECT, FW_CFG_FIRST_FILE);
	read_be(&r, 2);
	out32(&r, DMA, be32(0x12));
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(items_are_read_byte_by_byte_and_end_in_zeros),
		cmocka_unit_test(directory_names_every_file),
		cmocka_unit_test(dma_selects_skips_and_reads),
		cmocka_unit_test(dma_outside_of_memory_is_an_error_and_moves_nothing),
		cmocka_unit_test(names_and_numbers_have_limits),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("fw_cfg", tests, NULL, NULL);
}
