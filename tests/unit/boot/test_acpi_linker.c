/* The script is executed as firmware does: files to any place, pointers, checksums. What results
 * must be tables as acpi_build() makes them, elsewhere. */
#include "base/bits.h"
#include "boot/acpi_linker.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the above */

#define TABLES_AT 0x7ffe0040u
#define RSDP_AT	  0xf5a00u

static struct acpi_image image;
static struct acpi_script script;

static const struct pci_map pci = {
	.low = { { 0xc0000000, 0x3ec00000 } }, .ecam = 0xb0000000, .first_pin = 16
};
static const struct acpi_config pc = {
	.topology = { 1, 2, 1 },
	.ports = { .base = 0x600, .len = 0x40, .event = 0x600, .control = 0x604, .timer = 0x608 },
	.sci_irq = 9,
	.hpet_id = 0x8086a201,
	.com_ports = 2,
	.fw_cfg = true,
	.pci = &pci,
};

struct file {
	const char *name;
	u8 *data;
	u32 len, at;
	unsigned allocated;
};
static struct file files[2];

static struct file *file(const u8 *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(files); i++)
		if (!strcmp(files[i].name, (const char *)name))
			return &files[i];
	fail_msg("no file %s", (const char *)name);
	return NULL;
}

static u8 sum(const u8 *p, u32 len)
{
	u8 s = 0;

	while (len--)
		s += *p++;
	return s;
}

static void pointer(const u8 *c)
{
	struct file *in = file(c + 4), *to = file(c + 60);
	u32 at = get_le32(c + 116);
	u8 size = c[120];
	u64 v = 0;

	assert_true(range_ok(at, size, in->len));
	assert_true(in->allocated && to->allocated);
	memcpy(&v, in->data + at, size);
	assert_true(v < to->len);
	v += to->at;
	memcpy(in->data + at, &v, size);
}

static void checksum(const u8 *c)
{
	struct file *f = file(c + 4);
	u32 result = get_le32(c + 60), start = get_le32(c + 64), len = get_le32(c + 68);

	assert_true(range_ok(start, len, f->len) && result < f->len);
	assert_int_equal(f->data[result], 0); /* some put the sum there, others subtract it */
	f->data[result] = (u8)-sum(f->data + start, len);
}

static void execute(void)
{
	assert_int_equal(script.len % ACPI_COMMAND_LEN, 0);
	for (u32 i = 0; i < script.len; i += ACPI_COMMAND_LEN) {
		const u8 *c = script.data + i;

		switch (get_le32(c)) {
		case 1:
			assert_int_equal(file(c + 4)->at % get_le32(c + 60), 0);
			file(c + 4)->allocated++;
			break;
		case 2: pointer(c); break;
		case 3: checksum(c); break;
		default: fail_msg("command %u", get_le32(c));
		}
	}
}

static const u8 *at(u64 address)
{
	assert_in_range(address, TABLES_AT, TABLES_AT + files[1].len - 1);
	return files[1].data + (address - TABLES_AT);
}

static void tables_hold_wherever_they_are_put(void **state)
{
	assert_int_equal(acpi_build(&image, &pc, &(struct err){ 0 }), 0);
	acpi_link(&image, &script);
	u32 start = acpi_files_start(&image);
	files[0] = (struct file){ ACPI_FILE_RSDP, image.data, ACPI_RSDP_LEN, RSDP_AT, 0 };
	files[1] = (struct file){ ACPI_FILE_TABLES, image.data + start, image.len - start,
		TABLES_AT, 0 };
	execute();
	assert_int_equal(files[0].allocated, 1);
	assert_int_equal(files[1].allocated, 1);

	const u8 *rsdp = image.data;
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	const u8 *rsdt = at(get_le32(rsdp + 16)), *xsdt = at(get_le64(rsdp + 24));
	assert_memory_equal(rsdt, "RSDT", 4);
	assert_memory_equal(xsdt, "XSDT", 4);
	u32 count = (get_le32(xsdt + 4) - 36) / 8;
	assert_int_equal(count, 4);
	for (u32 i = 0; i < count; i++) {
		const u8 *t = at(get_le64(xsdt + 36 + 8 * i));

		assert_ptr_equal(t, at(get_le32(rsdt + 36 + 4 * i)));
		assert_int_equal(sum(t, get_le32(t + 4)), 0);
		if (memcmp(t, "FACP", 4))
			continue;
		assert_memory_equal(at(get_le32(t + 36)), "FACS", 4);
		assert_memory_equal(at(get_le32(t + 40)), "DSDT", 4);
		assert_memory_equal(at(get_le64(t + 140)), "DSDT", 4);
	}
	assert_int_equal(sum(xsdt, get_le32(xsdt + 4)), 0);
	assert_int_equal(sum(rsdt, get_le32(rsdt + 4)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(tables_hold_wherever_they_are_put) };

	return cmocka_run_group_tests_name("acpi_linker", tests, NULL, NULL);
}
