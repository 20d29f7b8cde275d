/* Multiboot 1: ELF and address-field kernels, the information structure, what is refused. */
#include "fixture.h"
#include <string.h>

#define KERNEL_AT 0x100000u
#define MAGIC	  0x1badb002u

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

/* A header at byte 512: inside the 1 KiB that image_elf() leaves before the first segment. */
static void put_header(u8 *file, u32 flags)
{
	put_le32(file + 512, MAGIC);
	put_le32(file + 516, flags);
	put_le32(file + 520, -(MAGIC + flags));
}

static void put_addresses(u8 *file, u32 header, u32 load, u32 load_end, u32 bss_end, u32 entry)
{
	const u32 fields[] = { header, load, load_end, bss_end, entry };

	put_header(file, BIT(16));
	memcpy(file + 524, fields, sizeof(fields));
}

static void make_elf(struct image *i, bool wide)
{
	image_elf(i, wide, KERNEL_AT + 4);
	image_segment(i, KERNEL_AT, KERNEL_AT, 0xaa, 0x800, 0x1800);
	put_header(i->data, 3);
}

static void elf_kernel_gets_the_information_structure(void **state)
{
	static const u8 initrd[5000] = { 9, 8, 7 };
	struct fixture *f = *state;
	struct image i;

	make_elf(&i, false);
	fixture_kernel(f, i.data, i.size);
	f->req.cmdline = "run=all";
	f->req.initrd = (struct boot_image){ "module", initrd, sizeof(initrd) };
	assert_int_equal(fixture_load(f), 0);

	assert_int_equal(f->s.rip, KERNEL_AT + 4);
	assert_int_equal(f->s.gpr[RAX], 0x2badb002);
	assert_int_equal(f->s.cr0, CR0_PE | CR0_ET);
	assert_int_equal(f->s.rflags, FLAG_ONE);
	for (unsigned r = X86_ES; r <= X86_GS; r++) {
		assert_int_equal(f->s.seg[r].limit, 0xffffffff);
		assert_true(f->s.seg[r].attr & SEG_DB);
	}
	u64 info = f->s.gpr[RBX];
	assert_int_equal(info, KERNEL_AT + 0x2000);
	assert_int_equal(guest32(f, info), BIT(0) | BIT(2) | BIT(3) | BIT(6) | BIT(9));
	assert_int_equal(guest32(f, info + 4), 639);
	assert_int_equal(guest32(f, info + 8), 15 * 1024);
	assert_string_equal((const char *)guest(f, guest32(f, info + 16), 8), "run=all");
	assert_int_equal(guest32(f, info + 20), 1);
	u32 module = guest32(f, info + 24), start = guest32(f, module);
	assert_int_equal(start % PAGE_SIZE, 0);
	assert_int_equal(guest32(f, module + 4) - start, sizeof(initrd));
	assert_memory_equal(guest(f, start, sizeof(initrd)), initrd, sizeof(initrd));
	assert_int_equal(guest32(f, info + 44), 24 * f->map.count);
	u32 range = guest32(f, info + 48);
	assert_int_equal(guest32(f, range), 20);
	assert_int_equal(guest64(f, range + 12), f->map.entries[0].size);
	assert_int_equal(guest32(f, range + 20), E820_RAM);
}

static void elf64_kernel_is_entered_in_32_bit_mode(void **state)
{
	struct fixture *f = *state;
	struct image i;

	make_elf(&i, true);
	fixture_kernel(f, i.data, i.size);
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, KERNEL_AT + 4);
	assert_int_equal(f->s.efer, 0);
	assert_int_equal(guest32(f, f->s.gpr[RBX] + 20), 0); /* no modules */
}

static void address_fields_place_a_flat_file(void **state)
{
	static u8 file[4096];
	struct fixture *f = *state;

	memset(file, 0x90, sizeof(file));
	assert_true(memory_fill(&f->memory, gpa(KERNEL_AT), 0xee, 0x3000));
	/* loaded from byte 256 of the file, 1 KiB of it, cleared for another KiB */
	put_addresses(file, KERNEL_AT + 256, KERNEL_AT, KERNEL_AT + 1024, KERNEL_AT + 2048,
		KERNEL_AT + 300);
	fixture_kernel(f, file, sizeof(file));
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, KERNEL_AT + 300);
	assert_memory_equal(guest(f, KERNEL_AT, 1024), file + 256, 1024);
	assert_int_equal(*guest(f, KERNEL_AT + 1024, 1), 0);
	assert_int_equal(*guest(f, KERNEL_AT + 2047, 1), 0);
	assert_int_equal(*guest(f, KERNEL_AT + 2048, 1), 0xee);
	/* zero ends: the whole file, nothing to clear */
	put_addresses(file, KERNEL_AT + 512, KERNEL_AT, 0, 0, KERNEL_AT);
	assert_int_equal(fixture_load(f), 0);
	assert_memory_equal(guest(f, KERNEL_AT, sizeof(file)), file, sizeof(file));
}

static void contradicting_address_fields_are_refused(void **state)
{
	static const struct {
		u32 header, load, load_end, bss_end, entry;
		const char *says;
	} rows[] = {
		{ KERNEL_AT, KERNEL_AT + 1, 0, 0, KERNEL_AT, "contradict" },
		{ KERNEL_AT + 513, KERNEL_AT, 0, 0, KERNEL_AT, "contradict" },
		{ KERNEL_AT, KERNEL_AT, KERNEL_AT - 1, 0, KERNEL_AT, "truncated" },
		{ KERNEL_AT, KERNEL_AT, KERNEL_AT + 8192, 0, KERNEL_AT, "truncated" },
		{ KERNEL_AT, KERNEL_AT, 0, 0, KERNEL_AT - 1, "entry point" },
		{ KERNEL_AT, KERNEL_AT, 0, 0xffffffff, KERNEL_AT, "not all in RAM" },
		{ KERNEL_AT, KERNEL_AT, 0, 20 * MiB, KERNEL_AT, "needs at least 20 MiB" },
		{ 0xffffff00, 0xffffff00, 0, 0, 0xffffff00, "not all in RAM" },
	};
	static u8 file[4096];
	struct fixture *f = *state;

	fixture_kernel(f, file, sizeof(file));
	for (unsigned r = 0; r < ARRAY_LEN(rows); r++) {
		put_addresses(file, rows[r].header, rows[r].load, rows[r].load_end, rows[r].bss_end,
			rows[r].entry);
		fixture_refuses(f, rows[r].says);
	}
}

static void unknown_requirements_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image i;

	make_elf(&i, false);
	put_header(i.data, BIT(5));
	fixture_kernel(f, i.data, i.size);
	fixture_refuses(f, "unknown features");
	put_header(i.data, BIT(20)); /* optional ones are ignored (3.1.2) */
	assert_int_equal(fixture_load(f), 0);
}

static void header_counts_only_in_the_first_8_kib(void **state)
{
	static u8 file[16 * 1024];
	enum boot_format format;
	struct boot_image k = { "kernel", file, sizeof(file) };

	put_header(file + 8192 - 512 - 12, 0);
	assert_int_equal(boot_detect(&k, &format, NULL), 0);
	assert_int_equal(format, BOOT_MULTIBOOT);
	memset(file, 0, sizeof(file));
	put_header(file + 8192 - 512 - 8, 0);
	assert_true(boot_detect(&k, &format, NULL) < 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(elf_kernel_gets_the_information_structure),
		TEST(elf64_kernel_is_entered_in_32_bit_mode),
		TEST(address_fields_place_a_flat_file),
		TEST(contradicting_address_fields_are_refused),
		TEST(unknown_requirements_are_refused),
		TEST(header_counts_only_in_the_first_8_kib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
