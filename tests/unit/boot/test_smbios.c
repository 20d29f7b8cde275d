/* SMBIOS: both entry points check, and the structures can be walked and say the right things. */
#include "base/bits.h"
#include "boot/smbios.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

static struct smbios_image image;
static struct memory m;

static u8 sum(const u8 *p, u32 len)
{
	u8 s = 0;

	while (len--)
		s += *p++;
	return s;
}

static void build(u64 ram)
{
	struct smbios_config c = { .topology = { 2, 300, 2 }, .version = "1.2.3" };
	struct err err = { 0 };

	for (unsigned i = 0; i < 16; i++)
		c.uuid[i] = (u8)(i + 1);
	memory_init(&m);
	struct memory_region *r = memory_add_region(&m, "ram", ram, false, &err);
	assert_non_null(r);
	u64 low = min_u64(ram, 2 * GiB);
	assert_int_equal(memory_add_slot(&m, r, gpa(0), 0, low, &err), 0);
	if (ram > low)
		assert_int_equal(memory_add_slot(&m, r, gpa(4 * GiB), low, ram - low, &err), 0);
	smbios_build(&image, &c, &m);
}

static int down(void **state)
{
	memory_fini(&m);
	return 0;
}

/* The n-th structure of a type, found as a guest does; NULL when there is none. Walks to the end.
 */
static const u8 *find(u8 type, unsigned n)
{
	const u8 *p = image.data + 0x40, *end = image.data + image.len, *found = NULL;

	while (p < end) {
		if (p[0] == type && n-- == 0)
			found = p;
		const u8 *strings = p + p[1];
		while (strings[0] || strings[1])
			strings++;
		p = strings + 2;
	}
	assert_ptr_equal(p, end);
	return found;
}

static const char *string(const u8 *structure, u8 n)
{
	const char *s = (const char *)structure + structure[1];

	while (--n)
		s += strlen(s) + 1;
	return s;
}

static void entry_points(void **state)
{
	build(512 * MiB);
	const u8 *e3 = image.data, *e2 = image.data + 0x20;

	assert_memory_equal(e3, "_SM3_", 5);
	assert_int_equal(sum(e3, 0x18), 0);
	assert_int_equal(get_le64(e3 + 0x10), SMBIOS_BASE + 0x40);
	assert_int_equal(get_le32(e3 + 0x0c), image.len - 0x40);
	assert_memory_equal(e2, "_SM_", 4);
	assert_memory_equal(e2 + 0x10, "_DMI_", 5);
	assert_int_equal(sum(e2, 0x1f), 0);
	assert_int_equal(sum(e2 + 0x10, 0x0f), 0);
	assert_int_equal(get_le32(e2 + 0x18), SMBIOS_BASE + 0x40);
	assert_int_equal(get_le16(e2 + 0x16), image.len - 0x40);
	assert_int_equal(get_le16(e2 + 0x1c), 10);
}

static void identity(void **state)
{
	build(512 * MiB);
	const u8 *bios = find(0, 0), *system = find(1, 0), *cpu = find(4, 0);

	assert_string_equal(string(bios, bios[4]), "Strata");
	assert_string_equal(string(bios, bios[5]), "1.2.3");
	assert_string_equal(string(system, system[4]), "Strata");
	assert_memory_equal(system + 8, "\4\3\2\1\6\5\x8\x7\x9\xa\xb\xc\xd\xe\xf\x10", 16);
	assert_non_null(find(3, 0));
	assert_non_null(find(32, 0));
	assert_non_null(find(127, 0));
	assert_int_equal(cpu[0x23], 0xff);
	assert_int_equal(get_le16(cpu + 0x2a), 300);
	assert_int_equal(get_le16(cpu + 0x2e), 600);
	assert_string_equal(string(cpu, cpu[4]), "CPU 0");
	cpu = find(4, 1);
	assert_string_equal(string(cpu, cpu[4]), "CPU 1");
	assert_int_equal(get_le16(cpu + 0x26), 0x1c); /* 64-bit, cores, threads */
	assert_null(find(4, 2));
}

static void small_memory(void **state)
{
	build(512 * MiB);
	const u8 *array = find(16, 0), *module = find(17, 0), *range = find(19, 0);

	assert_int_equal(get_le32(array + 7), 512 * 1024);
	assert_int_equal(get_le16(module + 0x0c), 512);
	assert_int_equal(get_le32(range + 4), 0);
	assert_int_equal(get_le32(range + 8), 512 * 1024 - 1);
	assert_null(find(19, 1));
}

static void large_memory(void **state)
{
	build(64 * GiB);
	const u8 *module = find(17, 0), *high = find(19, 1);

	assert_int_equal(get_le16(module + 0x0c), 0x7fff);
	assert_int_equal(get_le32(module + 0x1c), 64 * 1024);
	assert_int_equal(get_le32(high + 4), 4 * GiB / KiB);
	assert_int_equal(get_le32(high + 8), 66 * GiB / KiB - 1);
}

static void loads(void **state)
{
	struct err err = { 0 };

	build(2 * MiB);
	assert_int_equal(smbios_load(&image, &m, &err), 0);
	assert_memory_equal(memory_host(&m, gpa(SMBIOS_BASE), 5), "_SM3_", 5);
	memory_fini(&m);
	memory_init(&m);
	assert_true(smbios_load(&image, &m, &err) < 0);
}

#define TEST(f) cmocka_unit_test_teardown(f, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(entry_points),
		TEST(identity),
		TEST(small_memory),
		TEST(large_memory),
		TEST(loads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
