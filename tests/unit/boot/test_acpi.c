/* ACPI tables: every pointer leads to a table, every checksum holds, and the fields a guest reads
 * first say what the configuration said. tests/unit/boot/acpica.py has ACPICA read them too. */
#include "base/bits.h"
#include "boot/acpi.h"
#include "boot/aml.h"
#include "boot/e820.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the above */

static struct acpi_image image;

static const struct pci_map pci = {
	.io = { 0x1000, 0xf000 },
	.low = { { 0xc0000000, 0x20000000 }, { 0xf0000000, 0xec00000 } },
	.high = { 0x180000000, 0x8000000000 },
	.ecam = 0xe0000000,
	.first_pin = 16,
};

static const struct acpi_config pc = {
	.topology = { 1, 4, 1 },
	.ports = {
		.base = 0x600,
		.len = 0x40,
		.event = 0x600,
		.control = 0x604,
		.timer = 0x608,
		.gpe0 = 0x620,
		.smi_command = 0xb2,
		.enable = 0xf1,
		.disable = 0xf0,
		.reset = 0xcf9,
		.reset_value = 6,
	},
	.sci_irq = 9,
	.s5_type = 5,
	.hpet_id = 0x8086a201,
	.hpet_min_tick = 5000,
	.com_ports = 2,
	.mmio_count = 2,
	.mmio_base = 0xfeda0000,
	.mmio_irq = { 10, 11 },
	.i8042 = true,
	.pci = &pci,
	.hotplug = { 0x640, 12, 1, 0xff000000 },
	.generation = { 0xdf000, 2 },
};

static u8 sum(const u8 *p, u32 len)
{
	u8 s = 0;

	while (len--)
		s += *p++;
	return s;
}

static const u8 *at(u64 address)
{
	assert_in_range(address, ACPI_BASE, ACPI_BASE + image.len - 1);
	return image.data + (address - ACPI_BASE);
}

/* A table reached through the XSDT, or NULL. */
static const u8 *find(const char *signature)
{
	const u8 *xsdt = at(get_le64(image.data + 24));

	for (u32 i = 36; i < get_le32(xsdt + 4); i += 8) {
		const u8 *t = at(get_le64(xsdt + i));

		if (!memcmp(t, signature, 4))
			return t;
	}
	return NULL;
}

static void build(const struct acpi_config *c)
{
	struct err err = { 0 };

	assert_int_equal(acpi_build(&image, c, &err), 0);
}

static void checksums_and_pointers(void **state)
{
	build(&pc);
	assert_int_equal(image.rsdp.v % 16, 0);
	assert_memory_equal(image.data, "RSD PTR ", 8);
	assert_int_equal(sum(image.data, 20), 0);
	assert_int_equal(sum(image.data, 36), 0);

	const u8 *rsdt = at(get_le32(image.data + 16)), *xsdt = at(get_le64(image.data + 24));
	assert_memory_equal(rsdt, "RSDT", 4);
	assert_memory_equal(xsdt, "XSDT", 4);
	assert_int_equal((get_le32(rsdt + 4) - 36) / 4, (get_le32(xsdt + 4) - 36) / 8);
	for (u32 i = 0; i < (get_le32(rsdt + 4) - 36) / 4; i++)
		assert_int_equal(get_le32(rsdt + 36 + 4 * i), get_le64(xsdt + 36 + 8 * i));

	assert_int_equal(image.count, 8);
	for (unsigned i = 0; i < image.count; i++) {
		const struct acpi_table *t = &image.tables[i];
		const u8 *p = image.data + t->offset;

		assert_int_equal(get_le32(p + 4), t->len);
		if (memcmp(p, "FACS", 4))
			assert_int_equal(sum(p, t->len), 0);
	}
}

static void fadt(void **state)
{
	build(&pc);
	const u8 *f = find("FACP");

	assert_int_equal(get_le32(f + 4), 276);
	assert_memory_equal(at(get_le32(f + 36)), "FACS", 4);
	assert_int_equal(get_le32(f + 36) % 64, 0);
	assert_memory_equal(at(get_le64(f + 140)), "DSDT", 4);
	assert_int_equal(get_le16(f + 46), 9);
	assert_memory_equal(f + 48, "\xb2\0\0\0\xf1\xf0", 6);
	assert_int_equal(get_le32(f + 56), 0x600);
	assert_int_equal(get_le32(f + 64), 0x604);
	assert_int_equal(get_le32(f + 76), 0x608);
	assert_int_equal(get_le32(f + 80), 0x620);
	assert_int_equal(f[92], 4);
	assert_int_equal(get_le16(f + 109), 7);
	assert_int_equal(get_le32(f + 112), 0x465);
	assert_memory_equal(f + 116, "\x01\x08\x00\x01\xf9\x0c\0\0\0\0\0\0\x06", 13);
}

static void madt(void **state)
{
	unsigned count[16] = { 0 };

	build(&pc);
	const u8 *m = find("APIC");
	for (u32 i = 44; i < get_le32(m + 4); i += m[i + 1]) {
		const u8 *e = m + i;

		assert_in_range(e[1], 6, 16);
		assert_in_range(e[0], 0, 15);
		if (e[0] == 0)
			assert_int_equal(e[3], count[0]); /* APIC ids in order */
		if (e[0] == 2 && e[3] == 0)
			assert_int_equal(get_le32(e + 4), 2); /* the timer's pin */
		if (e[0] == 2 && e[3] == 9)
			assert_int_equal(get_le16(e + 8), 0xd);
		count[e[0]]++;
	}
	assert_int_equal(count[0], 4);
	assert_int_equal(count[1], 1);
	assert_int_equal(count[2], 2);
	assert_int_equal(count[4], 1);
}

static void mcfg(void **state)
{
	build(&pc);
	const u8 *t = find("MCFG");

	assert_non_null(t);
	assert_int_equal(get_le32(t + 4), 60);
	assert_int_equal(get_le64(t + 44), 0xe0000000);
	assert_int_equal(get_le32(t + 52), 0xff000000); /* segment 0, buses 0 to 255 */
}

static const struct acpi_near near[] = { { 0, 0xa0000, 0 }, { 0xc0000, 0x1000000, 1 } };

/* Two sockets of three cores of two threads: a third core's ids leave a gap before the next
 * socket's. */
static void nodes(void **state)
{
	static const u8 ids[] = { 0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13 };
	struct acpi_config c = pc;

	c.topology = (struct x86_topology){ 2, 3, 2 };
	build(&c);
	assert_null(find("SRAT"));
	assert_null(find("SLIT"));
	c.near = near;
	c.near_count = ARRAY_LEN(near);
	build(&c);
	const u8 *madt = find("APIC") + 44, *srat = find("SRAT"), *slit = find("SLIT");
	for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
		assert_int_equal(madt[8 * i + 2], i);
		assert_int_equal(madt[8 * i + 3], ids[i]);
		const u8 *cpu = srat + 48 + 16 * i;
		assert_int_equal(cpu[0], 0);
		assert_int_equal(cpu[2], i / 6);
		assert_int_equal(cpu[3], ids[i]);
		assert_int_equal(get_le32(cpu + 4), 1);
	}
	assert_int_equal(get_le32(srat + 36), 1);
	const u8 *memory = srat + 48 + 16 * ARRAY_LEN(ids);
	assert_int_equal(get_le32(srat + 4), 48 + 16 * ARRAY_LEN(ids) + 2 * 40);
	assert_int_equal(memory[40], 1);
	assert_int_equal(get_le32(memory + 42), 1);
	assert_int_equal(get_le64(memory + 48), 0xc0000);
	assert_int_equal(get_le64(memory + 56), 0x1000000);
	assert_int_equal(get_le32(memory + 68), 1);
	assert_int_equal(get_le64(slit + 36), 2);
	assert_memory_equal(slit + 44, "\x0a\x14\x14\x0a", 4);
}

static void options(void **state)
{
	struct acpi_config c = pc;

	c.hpet_id = 0;
	c.ports.reset = 0;
	c.ports.smi_command = 0;
	c.ports.gpe0 = 0;
	c.timer_32bit = true;
	c.i8042 = false;
	c.vga = true;
	c.hotplug = (struct acpi_hotplug){ 0 };
	build(&c);
	assert_null(find("HPET"));
	assert_int_equal(get_le16(find("FACP") + 109), 1);
	assert_int_equal(get_le32(find("FACP") + 112), 0x165);
	assert_int_equal(get_le32(find("FACP") + 48), 0);
	assert_int_equal(find("FACP")[92], 0);
}

static void refuses(void **state)
{
	struct acpi_config c = pc;
	struct err err = { 0 };

	c.topology.cores = 0;
	assert_int_equal(acpi_build(&image, &c, &err), -22);
	c.topology.cores = ACPI_CPUS_MAX + 1;
	assert_int_equal(acpi_build(&image, &c, &err), -22);
	c.topology = (struct x86_topology){ 5, 33, 1 }; /* its ids do not fit in 8 bits */
	assert_int_equal(acpi_build(&image, &c, &err), -22);
	c = pc;
	c.com_ports = 3;
	assert_int_equal(acpi_build(&image, &c, &err), -22);
	assert_non_null(strstr(err.text, "3 serial ports"));
}

static void largest_fits(void **state)
{
	struct acpi_config c = pc;

	c.topology.cores = ACPI_CPUS_MAX;
	build(&c);
	assert_true(image.len < ACPI_SIZE);
}

static void aml_lengths(void **state)
{
	static u8 room[9000];
	struct aml a = aml_into(room, sizeof(room));

	/* A package length has 1, 2 or 3 bytes: check each border by size and by first byte. */
	for (unsigned inner = 40; inner < 4200; inner++) {
		u8 text[4200];

		a.len = 0;
		aml_scope(&a, "\\_SB_");
		u32 body = a.len - 1;
		memset(text, 'x', inner);
		text[inner] = 0;
		aml_name_string(&a, "TEXT", (const char *)text);
		body += inner + 7;
		aml_close(&a);
		u32 extra = body + 1 < 64 ? 0 : body + 2 < 4096 ? 1 : 2;
		u32 len = extra ? (room[1] & 0xfu) | (u32)room[2] << 4 |
					  (extra > 1 ? (u32)room[3] << 12 : 0)
				: room[1];

		assert_int_equal(room[1] >> 6, extra);
		assert_int_equal(len, body + extra + 1);
		assert_int_equal(a.len, len + 1);
	}
}

/* 20.2.2: one segment stands alone, two and more have a prefix that counts them. */
static void aml_names(void **state)
{
	static const struct {
		const char *name, *bytes;
	} rows[] = {
		{ "HPEV", "HPEV" },
		{ "\\HPEV", "\\HPEV" },
		{ "PCI0.HPEV", "\x2ePCI0HPEV" },
		{ "\\_SB_.PCI0.HPEV", "\\\x2f\x03_SB_PCI0HPEV" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		u8 room[32];
		struct aml a = aml_into(room, sizeof(room));

		aml_call(&a, rows[i].name);
		assert_int_equal(a.len, strlen(rows[i].bytes));
		assert_memory_equal(room, rows[i].bytes, a.len);
	}
}

static void aml_overflow(void **state)
{
	u8 room[64];

	for (u32 size = 0; size < sizeof(room); size++) {
		struct aml a = aml_into(room, size);

		memset(room, 0xee, sizeof(room));
		aml_device(&a, "DEV0");
		aml_name_eisaid(&a, "_HID", "PNP0501");
		aml_crs(&a);
		aml_crs_io(&a, 0x3f8, 8);
		aml_crs_irq(&a, 4);
		aml_crs_memory(&a, 0xfed00000, 0x400);
		aml_crs_end(&a);
		aml_close(&a);
		for (u32 i = size; i < sizeof(room); i++)
			assert_int_equal(room[i], 0xee);
		assert_int_equal(a.overflow, size < 51);
	}
}

static void memory_map(void **state)
{
	struct memory m;
	struct err err = { 0 };
	struct e820_map map;

	memory_init(&m);
	struct memory_region *ram = memory_add_region(&m, "ram", 64 * MiB, false, &err);
	struct memory_region *rom = memory_add_region(&m, "bios", 256 * KiB, true, &err);
	assert_int_equal(memory_add_slot(&m, ram, gpa(0), 0, 32 * MiB, &err), 0);
	assert_int_equal(memory_add_slot(&m, ram, gpa(4 * GiB), 32 * MiB, 32 * MiB, &err), 0);
	assert_int_equal(memory_add_slot(&m, rom, gpa(4 * GiB - 256 * KiB), 0, 256 * KiB, &err), 0);
	e820_build(&map, &m);
	static const struct e820_entry want[] = {
		{ 0, 0x9fc00, E820_RAM },
		{ 0x9fc00, 0x60400, E820_RESERVED },
		{ 0x100000, 31 * MiB, E820_RAM },
		{ 0xfec00000, 0x1000, E820_RESERVED },
		{ 0xfed00000, 0x1000, E820_RESERVED },
		{ 0xfee00000, 0x1000, E820_RESERVED },
		{ 0xfffc0000, 0x40000, E820_RESERVED },
		{ 4 * GiB, 32 * MiB, E820_RAM },
	};
	assert_int_equal(map.count, ARRAY_LEN(want));
	assert_memory_equal(map.entries, want, sizeof(want));

	build(&pc);
	assert_int_equal(acpi_load(&image, &m, &err), 0);
	assert_memory_equal(memory_host(&m, gpa(ACPI_BASE), image.len), image.data, image.len);
	memory_fini(&m);
	memory_init(&m);
	assert_true(acpi_load(&image, &m, &err) < 0);
}

/* For acpica.py: with a folder as the argument, writes each table there. */
static int write_tables(const char *folder)
{
	struct acpi_config c = pc;

	c.topology.cores = ACPI_CPUS_MAX;
	c.near = near;
	c.near_count = ARRAY_LEN(near);
	build(&c);
	for (unsigned i = 0; i < image.count; i++) {
		const struct acpi_table *t = &image.tables[i];
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s.dat", folder, t->signature);
		FILE *f = fopen(path, "wb");
		if (!f || fwrite(image.data + t->offset, 1, t->len, f) != t->len || fclose(f))
			return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksums_and_pointers),
		cmocka_unit_test(fadt),
		cmocka_unit_test(madt),
		cmocka_unit_test(mcfg),
		cmocka_unit_test(nodes),
		cmocka_unit_test(options),
		cmocka_unit_test(refuses),
		cmocka_unit_test(largest_fits),
		cmocka_unit_test(aml_lengths),
		cmocka_unit_test(aml_names),
		cmocka_unit_test(aml_overflow),
		cmocka_unit_test(memory_map),
	};

	return argc > 1 ? write_tables(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
}
