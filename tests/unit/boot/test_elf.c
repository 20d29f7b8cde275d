/* ELF kernels: what is loaded where, through which protocol, and what is refused. */
#include "fixture.h"
#include <string.h>

#define KERNEL_AT 0x1000000ull
#define VIRTUAL	  0xffffffff81000000ull

static int setup(void **state)
{
	static struct fixture f;

	fixture_init(&f, 64);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	fixture_fini(*state);
	return 0;
}

static enum boot_format detect(const struct image *i)
{
	struct boot_image k = { "kernel", i->data, i->size };
	enum boot_format format = BOOT_AUTO;

	assert_int_equal(boot_detect(&k, &format, NULL), 0);
	return format;
}

static void linux_elf_loads_segments_and_clears_bss(void **state)
{
	struct fixture *f = *state;
	struct image i;

	assert_true(memory_fill(&f->memory, gpa(KERNEL_AT), 0xee, 0x4000));
	image_elf(&i, true, KERNEL_AT + 0x10);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	image_segment(&i, VIRTUAL + 0x2000, KERNEL_AT + 0x2000, 0xbb, 0x100, 0x1000);
	fixture_kernel(f, i.data, i.size);
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(*guest(f, KERNEL_AT + 0xfff, 1), 0xaa);
	assert_int_equal(*guest(f, KERNEL_AT + 0x1000, 1), 0xee); /* between the segments */
	assert_int_equal(*guest(f, KERNEL_AT + 0x20ff, 1), 0xbb);
	assert_int_equal(*guest(f, KERNEL_AT + 0x2100, 1), 0);
	assert_int_equal(*guest(f, KERNEL_AT + 0x2fff, 1), 0);
	assert_int_equal(*guest(f, KERNEL_AT + 0x3000, 1), 0xee);
}

/* 64-bit boot protocol: long mode, identity paging, selectors 0x10 and 0x18, RSI = zero page. */
static void linux_elf_enters_in_long_mode(void **state)
{
	struct fixture *f = *state;
	const struct x86_state *s = &f->s;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	fixture_kernel(f, i.data, i.size);
	f->req.cmdline = "console=ttyS0";
	f->req.rsdp = 0xe0000;
	assert_int_equal(fixture_load(f), 0);

	assert_int_equal(s->rip, KERNEL_AT);
	assert_int_equal(s->rflags, FLAG_ONE);
	assert_int_equal(s->efer, EFER_LME | EFER_LMA);
	assert_int_equal(s->cr0, CR0_PE | CR0_ET | CR0_PG);
	assert_int_equal(s->cr4, CR4_PAE);
	assert_int_equal(s->seg[X86_CS].selector, 0x10);
	assert_int_equal(s->seg[X86_CS].attr & (SEG_L | SEG_DB | SEG_P | SEG_CODE),
		SEG_L | SEG_P | SEG_CODE);
	assert_int_equal(s->seg[X86_SS].selector, 0x18);
	assert_int_equal(guest64(f, s->gdt.base + 0x10), 0x00af9b000000ffff);
	assert_int_equal(guest64(f, s->gdt.base + 0x18), 0x00cf93000000ffff);

	/* 3 GiB + 5 MiB + 1 through the four levels, by hand */
	u64 address = 3 * GiB + 5 * MiB + 1;
	u64 pdpt = guest64(f, s->cr3) & ~PAGE_MASK;
	u64 directory = guest64(f, pdpt + 8 * (address >> 30)) & ~PAGE_MASK;
	u64 entry = guest64(f, directory + 8 * (address >> 21 & 511));
	assert_int_equal(entry, align_down(address, 2 * MiB) | 0x83);

	u64 zero_page = s->gpr[RSI];
	assert_int_equal(guest32(f, zero_page + 0x202), 0x53726448);
	assert_int_equal(guest64(f, zero_page + 0x70), 0xe0000);
	assert_string_equal(
		(const char *)guest(f, guest32(f, zero_page + 0x228), 14), "console=ttyS0");
	assert_int_equal(*guest(f, zero_page + 0x1e8, 1), f->map.count);
	assert_memory_equal(
		guest(f, zero_page + 0x2d0, 20 * f->map.count), f->map.entries, 20 * f->map.count);
}

static void initrd_goes_to_the_top_of_ram(void **state)
{
	static const u8 initrd[5000] = { 1, 2, 3 };
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	fixture_kernel(f, i.data, i.size);
	f->req.initrd = (struct boot_image){ "initrd", initrd, sizeof(initrd) };
	assert_int_equal(fixture_load(f), 0);
	u64 at = guest32(f, f->s.gpr[RSI] + 0x218);
	assert_int_equal(at, 64 * MiB - 2 * PAGE_SIZE);
	assert_int_equal(guest32(f, f->s.gpr[RSI] + 0x21c), sizeof(initrd));
	assert_memory_equal(guest(f, at, sizeof(initrd)), initrd, sizeof(initrd));
}

static void initrd_larger_than_memory_is_refused(void **state)
{
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	fixture_kernel(f, i.data, i.size);
	/* never read: it does not fit */
	f->req.initrd = (struct boot_image){ "initrd", i.data, 49 * MiB };
	fixture_refuses(f, "initrd initrd: its 49 MiB do not fit beside the kernel into 64 MiB of "
			   "memory; 67 MiB");
}

static void linux_note_wins_over_pvh(void **state)
{
	u32 entry = KERNEL_AT;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	assert_int_equal(detect(&i), BOOT_LINUX);
	image_note(&i, "Xen", 18, &entry, 4);
	assert_int_equal(detect(&i), BOOT_PVH);
	image_note(&i, "Linux", 0x101, "", 1);
	assert_int_equal(detect(&i), BOOT_LINUX);
}

static void pvh_passes_start_info(void **state)
{
	static const u8 initrd[100] = { 7 };
	u64 entry = KERNEL_AT + 0x20;
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1800);
	image_note(&i, "Xen", 18, &entry, 8);
	fixture_kernel(f, i.data, i.size);
	f->req.initrd = (struct boot_image){ "initrd", initrd, sizeof(initrd) };
	f->req.cmdline = "hello";
	f->req.rsdp = 0xe0000;
	assert_int_equal(fixture_load(f), 0);

	assert_int_equal(f->s.rip, entry);
	assert_int_equal(f->s.cr0, CR0_PE | CR0_ET);
	assert_int_equal(f->s.efer, 0);
	assert_int_equal(f->s.seg[X86_CS].attr & (SEG_L | SEG_DB | SEG_G), SEG_DB | SEG_G);
	assert_int_equal(f->s.seg[X86_TR].limit, 0x67);
	u64 info = f->s.gpr[RBX];
	assert_int_equal(info, KERNEL_AT + 0x2000); /* the page after the kernel */
	assert_int_equal(guest32(f, info), 0x336ec578);
	assert_int_equal(guest32(f, info + 12), 1);
	u64 module = guest64(f, info + 16);
	assert_memory_equal(guest(f, guest64(f, module), sizeof(initrd)), initrd, sizeof(initrd));
	assert_int_equal(guest64(f, module + 8), sizeof(initrd));
	assert_string_equal((const char *)guest(f, guest64(f, info + 24), 6), "hello");
	assert_int_equal(guest64(f, info + 32), 0xe0000);
	assert_int_equal(guest32(f, info + 48), f->map.count);
	assert_int_equal(guest64(f, guest64(f, info + 40) + 8), f->map.entries[0].size);
}

static void elf_too_large_says_how_much_memory_it_needs(void **state)
{
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 80 * MiB);
	fixture_kernel(f, i.data, i.size);
	fixture_refuses(f, "needs at least 96 MiB of memory, the machine has 64 MiB");
}

/* Each row breaks one thing: a value of `width` bytes at `offset` of a good file. */
static void damaged_elf_is_refused(void **state)
{
	static const struct {
		u64 offset, value;
		unsigned width;
		const char *says;
	} rows[] = {
		{ 18, 183, 2, "arm64" },
		{ 4, 9, 1, "not a kernel" },
		{ 32, ~0ull, 8, "not a kernel" },	   /* e_phoff */
		{ 56, 0, 2, "not a kernel" },		   /* e_phnum */
		{ 54, 1, 2, "not a kernel" },		   /* e_phentsize */
		{ 24, 0x5000, 8, "entry point" },	   /* e_entry */
		{ 64 + 8, ~0ull - 5, 8, "not a kernel" },  /* p_offset */
		{ 64 + 32, 1 * MiB, 8, "not a kernel" },   /* p_filesz */
		{ 64 + 24, ~0ull - 9, 8, "not a kernel" }, /* p_paddr */
		{ 64 + 24, 0x8000, 8, "entry point" },	   /* away from the entry */
		{ 64 + 40, 1, 8, "not a kernel" },	   /* p_memsz < p_filesz */
		{ 64 + 40, 1ull << 40, 8, "not all in RAM" },
	};
	struct fixture *f = *state;
	struct image good, bad;

	image_elf(&good, true, KERNEL_AT);
	image_segment(&good, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	for (unsigned r = 0; r < ARRAY_LEN(rows); r++) {
		bad = good;
		memcpy(bad.data + rows[r].offset, &rows[r].value, rows[r].width);
		fixture_kernel(f, bad.data, bad.size);
		fixture_refuses(f, rows[r].says);
	}
}

static void overlapping_and_low_segments_are_refused(void **state)
{
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x1000, 0x1000);
	image_segment(&i, VIRTUAL, KERNEL_AT + 0xfff, 0xaa, 0x1000, 0x1000);
	fixture_kernel(f, i.data, i.size);
	f->req.format = BOOT_LINUX;
	fixture_refuses(f, "overlap");
	image_elf(&i, true, 0x5000);
	image_segment(&i, 0x5000, 0x5000, 0xaa, 0x1000, 0x1000);
	fixture_kernel(f, i.data, i.size);
	fixture_refuses(f, "below");
}

static void every_truncation_is_refused(void **state)
{
	struct fixture *f = *state;
	struct image i;

	image_elf(&i, true, KERNEL_AT);
	image_segment(&i, VIRTUAL, KERNEL_AT, 0xaa, 0x40, 0x1000);
	for (u64 size = 0; size < i.size; size++) {
		fixture_kernel(f, i.data, size);
		fixture_refuses(f, "kernel");
	}
}

static void files_that_are_no_kernels_are_named(void **state)
{
	static const struct {
		const char *head, *says;
	} rows[] = {
		{ "\x1f\x8b\x08 and more", "gzip" },
		{ "070701000000", "cpio archive" },
		{ "#!/bin/sh", "a script" },
		{ "something else", "no bzImage, ELF, multiboot" },
	};
	struct fixture *f = *state;

	for (unsigned r = 0; r < ARRAY_LEN(rows); r++) {
		fixture_kernel(f, rows[r].head, strlen(rows[r].head));
		fixture_refuses(f, rows[r].says);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(linux_elf_loads_segments_and_clears_bss),
		TEST(linux_elf_enters_in_long_mode),
		TEST(initrd_goes_to_the_top_of_ram),
		TEST(initrd_larger_than_memory_is_refused),
		TEST(linux_note_wins_over_pvh),
		TEST(pvh_passes_start_info),
		TEST(elf_too_large_says_how_much_memory_it_needs),
		TEST(damaged_elf_is_refused),
		TEST(overlapping_and_low_segments_are_refused),
		TEST(every_truncation_is_refused),
		TEST(files_that_are_no_kernels_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
