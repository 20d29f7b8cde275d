/* Firmware and boot sectors, and reading files. */
#include "fixture.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int setup(void **state)
{
	static struct fixture f;

	fixture_init(&f, 16);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	fixture_fini(*state);
	return 0;
}

/* Each 64 KiB block is filled with its number; a far jump at the reset vector. */
static u8 bios[256 * 1024];

static void make_bios(void)
{
	for (u64 i = 0; i < sizeof(bios); i++)
		bios[i] = (u8)(i / (64 * KiB) + 1);
	bios[sizeof(bios) - 16] = 0xea;
}

static void firmware_ends_at_4_gib_and_starts_at_the_reset_vector(void **state)
{
	struct fixture *f = *state;

	make_bios();
	fixture_kernel(f, bios, sizeof(bios));
	f->s.gpr[RDX] = 0x806f8; /* the signature reset leaves there */
	assert_int_equal(fixture_load(f), 0);
	assert_memory_equal(guest(f, 4 * GiB - sizeof(bios), sizeof(bios)), bios, sizeof(bios));
	assert_true(memory_page(&f->memory, gpa(4 * GiB - PAGE_SIZE)).rom);
	assert_int_equal(f->s.seg[X86_CS].selector, 0xf000);
	assert_int_equal(f->s.seg[X86_CS].base + f->s.rip, 0xfffffff0);
	assert_int_equal(f->s.cr0, CR0_ET);
	assert_int_equal(f->s.gpr[RDX], 0x806f8);
	assert_int_equal(fixture_load(f), 0); /* again, as after a reset */
}

static void firmware_alias_is_shadow_ram_where_there_is_ram(void **state)
{
	struct fixture *f = *state;

	make_bios();
	fixture_kernel(f, bios, sizeof(bios));
	assert_int_equal(fixture_load(f), 0);
	assert_memory_equal(guest(f, 0xe0000, 128 * KiB), bios + 128 * KiB, 128 * KiB);
	assert_true(memory_write(&f->memory, gpa(0xf0000), "x", 1));
	assert_int_equal(
		*guest(f, 4 * GiB - 64 * KiB, 1), 4); /* a copy: the ROM keeps its contents */
}

static void firmware_alias_is_the_rom_where_there_is_none(void **state)
{
	struct fixture f = { 0 };

	make_bios();
	memory_init(&f.memory);
	struct memory_region *ram = memory_add_region(&f.memory, "ram", 640 * KiB, false, NULL);
	assert_int_equal(memory_add_slot(&f.memory, ram, gpa(0), 0, 640 * KiB, NULL), 0);
	e820_build(&f.map, &f.memory);
	f.req = (struct boot_request){ .memory = &f.memory, .map = &f.map };
	fixture_kernel(&f, bios, 64 * KiB); /* a small one: its alias is 64 KiB */
	f.req.format = BOOT_FIRMWARE;
	assert_int_equal(fixture_load(&f), 0);
	assert_null(memory_host(&f.memory, gpa(0xe0000), 1));
	assert_ptr_equal(guest(&f, 0xf0000, 64 * KiB), guest(&f, 4 * GiB - 64 * KiB, 64 * KiB));
	assert_false(memory_write(&f.memory, gpa(0xf0000), "x", 1));
	assert_int_equal(fixture_load(&f), 0);
	fixture_fini(&f);
}

static void odd_firmware_sizes_are_refused(void **state)
{
	struct fixture *f = *state;

	f->req.format = BOOT_FIRMWARE;
	fixture_kernel(f, bios, 1000);
	fixture_refuses(f, "multiple of 4 KiB");
	fixture_kernel(f, bios, 0);
	fixture_refuses(f, "multiple of 4 KiB");
	fixture_kernel(f, bios, 17 * MiB); /* never read */
	fixture_refuses(f, "multiple of 4 KiB");
}

static void boot_sector_starts_at_7c00(void **state)
{
	static u8 disk[1 * MiB];
	struct fixture *f = *state;

	memset(disk, 0x90, sizeof(disk));
	disk[510] = 0x55;
	disk[511] = 0xaa;
	fixture_kernel(f, disk, 1024);
	assert_int_equal(fixture_load(f), 0);
	assert_memory_equal(guest(f, 0x7c00, 1024), disk, 1024);
	assert_int_equal(f->s.rip, 0x7c00);
	assert_int_equal(f->s.seg[X86_CS].selector, 0);
	assert_int_equal(f->s.seg[X86_CS].base, 0);
	assert_int_equal(f->s.gpr[RDX], 0x80);
	fixture_kernel(f, disk, sizeof(disk) - 512);
	fixture_refuses(f, "is it a disk image?");
}

static void bad_files_are_refused_with_a_reason(void **state)
{
	char dir[] = "/tmp/strata-test-XXXXXX", path[64];
	struct boot_image image = { 0 };
	struct err err;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/file", dir);
	assert_int_equal(boot_image_read(&image, "kernel", path, MiB, &err), -ENOENT);
	assert_non_null(strstr(err.text, "No such file"));
	assert_int_equal(boot_image_read(&image, "kernel", dir, MiB, &err), -EISDIR);

	FILE *file = fopen(path, "w");
	assert_int_equal(boot_image_read(&image, "initrd", path, MiB, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "is empty"));
	assert_int_equal(fwrite(bios, 1, sizeof(bios), file), sizeof(bios));
	fclose(file);
	assert_int_equal(boot_image_read(&image, "initrd", path, 1000, &err), -EFBIG);
	assert_int_equal(boot_image_read(&image, "initrd", path, sizeof(bios), &err), 0);
	assert_memory_equal(image.data, bios, sizeof(bios));
	boot_image_let_go(&image);
	assert_null(image.data);
	assert_int_equal(boot_image_again(&image, &err), 0);
	assert_memory_equal(image.data, bios, sizeof(bios));
	boot_image_let_go(&image);
	assert_int_equal(truncate(path, sizeof(bios) - 1), 0);
	assert_int_equal(boot_image_again(&image, &err), -ENODATA);
	assert_non_null(strstr(err.text, "has shrunk"));
	boot_image_free(&image);
	assert_null(image.data);

	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(boot_image_read(&image, "kernel", path, MiB, &err), -EINVAL);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(firmware_ends_at_4_gib_and_starts_at_the_reset_vector),
		TEST(firmware_alias_is_shadow_ram_where_there_is_ram),
		TEST(firmware_alias_is_the_rom_where_there_is_none),
		TEST(odd_firmware_sizes_are_refused),
		TEST(boot_sector_starts_at_7c00),
		TEST(bad_files_are_refused_with_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
