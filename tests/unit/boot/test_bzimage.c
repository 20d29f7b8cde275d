/* bzImage: the three ways in, header checks, and Debian's own kernels where they were fetched. */
#include "fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define KERNEL_AT 0x1000000ull
#define SETUP	  (2 * 512u) /* setup_sects = 1 */
#define PAYLOAD	  0x300u     /* offset in the protected-mode part */

struct bz {
	u8 data[64 * 1024];
	u64 size;
};

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

/* A file whose payload is a gzipped ELF kernel of 0xaa bytes; the decompressor is 0xd0 bytes. */
static void make(struct bz *b)
{
	static struct image elf;
	u8 *d = b->data, *payload = d + SETUP + PAYLOAD;

	image_elf(&elf, true, KERNEL_AT + 8);
	image_segment(&elf, 0xffffffff81000000, KERNEL_AT, 0xaa, 0x3000, 0x5000);
	memset(b, 0, sizeof(*b));
	memset(d + SETUP, 0xd0, PAYLOAD);
	z_stream z = {
		.next_in = elf.data,
		.avail_in = (uInt)elf.size,
		.next_out = payload,
		.avail_out = 32 * 1024,
	};
	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	u64 packed = z.total_out; /* gzip ends with the size itself */
	deflateEnd(&z);

	u64 code = align_up(PAYLOAD + packed, 16);
	b->size = SETUP + code;
	d[0x1f1] = 1;
	put_le32(d + 0x1f4, (u32)(code / 16));
	put_le16(d + 0x1fe, 0xaa55);
	d[0x200] = 0xeb;
	d[0x201] = 0x66;
	memcpy(d + 0x202, "HdrS", 4);
	put_le16(d + 0x206, 0x020f);
	d[0x211] = 1;
	put_le32(d + 0x214, 0x100000);
	put_le32(d + 0x22c, 0x7fffffff);
	put_le32(d + 0x230, 0x200000);
	d[0x234] = 1;
	put_le16(d + 0x236, 1);
	put_le32(d + 0x238, 2047);
	put_le32(d + 0x248, PAYLOAD);
	put_le32(d + 0x24c, (u32)packed);
	put_le64(d + 0x258, KERNEL_AT);
	put_le32(d + 0x260, 8 * MiB);
}

static void unpacked_kernel_is_entered_itself(void **state)
{
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	fixture_kernel(f, b.data, b.size);
	f->req.cmdline = "quiet";
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, KERNEL_AT + 8);
	assert_true(f->s.efer & EFER_LMA);
	assert_int_equal(*guest(f, KERNEL_AT, 1), 0xaa);
	assert_int_equal(*guest(f, KERNEL_AT + 0x2fff, 1), 0xaa);
	assert_int_equal(*guest(f, KERNEL_AT + 0x3000, 1), 0);
	/* the kernel's header arrives in the zero page, from setup_sects to its end, and not more
	 */
	u64 zero_page = f->s.gpr[RSI];
	assert_int_equal(guest32(f, zero_page + 0x260), 8 * MiB);
	assert_int_equal(guest64(f, zero_page + 0x268), 0);
	assert_int_equal(guest32(f, zero_page + 0x1e9), 0);
	assert_int_equal(*guest(f, zero_page + 0x210, 1), 0xff);
}

static void without_unpacking_the_decompressor_is_entered(void **state)
{
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	fixture_kernel(f, b.data, b.size);
	f->req.unpack = false;
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, KERNEL_AT + 0x200);
	assert_true(f->s.efer & EFER_LMA);
	assert_memory_equal(guest(f, KERNEL_AT, b.size - SETUP), b.data + SETUP, b.size - SETUP);
	assert_int_equal(guest32(f, f->s.gpr[RSI] + 0x214), KERNEL_AT);
}

static void kernel_without_64_bit_entry_starts_in_32_bit_mode(void **state)
{
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	put_le16(b.data + 0x236, 0);
	b.data[0x234] = 0; /* not relocatable: to 1 MiB */
	fixture_kernel(f, b.data, b.size);
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, 0x100000);
	assert_int_equal(f->s.cr0, CR0_PE | CR0_ET);
	assert_int_equal(guest64(f, f->s.gdt.base + 0x10), 0x00cf9b000000ffff);
	assert_int_equal(f->s.gpr[RSI] & 0xffff, 0x2000);
}

static void unknown_compression_falls_back_to_the_decompressor(void **state)
{
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	memcpy(b.data + SETUP + PAYLOAD, "BZh", 3);
	fixture_kernel(f, b.data, b.size);
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(f->s.rip, KERNEL_AT + 0x200);
}

static void initrd_obeys_its_limit(void **state)
{
	static const u8 initrd[3] = { 1, 2, 3 };
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	put_le32(b.data + 0x22c, 40 * MiB - 1);
	fixture_kernel(f, b.data, b.size);
	f->req.initrd = (struct boot_image){ "initrd", initrd, sizeof(initrd) };
	assert_int_equal(fixture_load(f), 0);
	assert_int_equal(guest32(f, f->s.gpr[RSI] + 0x218), 40 * MiB - PAGE_SIZE);
	put_le32(b.data + 0x22c, 10 * MiB);
	fixture_refuses(f, "where this kernel wants it");
}

static void command_line_is_bounded_by_the_kernel(void **state)
{
	char cmdline[130] = { 0 };
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	put_le32(b.data + 0x238, 128);
	memset(cmdline, 'x', 128);
	fixture_kernel(f, b.data, b.size);
	f->req.cmdline = cmdline;
	assert_int_equal(fixture_load(f), 0);
	cmdline[128] = 'x';
	fixture_refuses(f, "the command line has 129 characters, this kernel takes 128");
}

static void small_memory_is_refused_with_what_would_do(void **state)
{
	struct fixture small;
	struct bz b;

	fixture_init(&small, 20);
	make(&b);
	fixture_kernel(&small, b.data, b.size);
	small.req.unpack = false;
	fixture_refuses(&small, "needs at least 24 MiB of memory, the machine has 20 MiB");
	fixture_fini(&small);
	fixture_init(&small, 2);
	fixture_kernel(&small, b.data, b.size);
	fixture_refuses(&small, "needs at least 17 MiB of memory");
	fixture_fini(&small);
}

static void damaged_header_is_refused(void **state)
{
	static const struct {
		u64 offset, value;
		unsigned width;
		bool unpack;
		const char *says;
	} rows[] = {
		{ 0x206, 0x0205, 2, true, "too old" },
		{ 0x211, 0, 1, true, "too old" },
		{ 0x1f1, 255, 1, true, "truncated" },
		{ 0x1f4, 0xffffffff, 4, true, "truncated" },
		{ 0x248, 0xfffffff0, 4, true, "its payload" },
		{ 0x24c, 0xffffffff, 4, true, "its payload" },
		{ 0x24c, 3, 4, true, "would unpack to" },
		{ 0x260, 100, 4, true, "would unpack to" },  /* init_size */
		{ 0x258, ~0ull, 8, false, "damaged" },	     /* pref_address */
		{ 0x258, ~0ull << 21, 8, false, "damaged" }, /* aligned, but beyond 4 GiB */
		{ 0x258, 0x1000, 8, false, "damaged" },
		{ 0x230, 0xffffffff, 4, false, "damaged" }, /* kernel_alignment */
		{ 0x260, 0xffffffff, 4, false, "damaged" },
	};
	struct fixture *f = *state;
	struct bz good, bad;

	make(&good);
	for (unsigned r = 0; r < ARRAY_LEN(rows); r++) {
		bad = good;
		memcpy(bad.data + rows[r].offset, &rows[r].value, rows[r].width);
		fixture_kernel(f, bad.data, bad.size);
		f->req.unpack = rows[r].unpack;
		fixture_refuses(f, rows[r].says);
	}
}

static void truncated_and_corrupt_payloads_are_refused(void **state)
{
	struct fixture *f = *state;
	struct bz b;

	make(&b);
	for (u64 size = 0; size + 32 < b.size; size += 7) {
		fixture_kernel(f, b.data, size);
		assert_true(boot_load(&f->req, &f->s, &f->err) < 0 || f->s.rip == 0x7c00);
	}
	for (u64 size = 0x206; size < 0x268; size++) {
		fixture_kernel(f, b.data, size);
		fixture_refuses(f, "truncated in its header");
	}
	memset(b.data + SETUP + PAYLOAD + 20, 0x55, 16);
	fixture_kernel(f, b.data, b.size);
	fixture_refuses(f, "unpacking gzip: damaged data");
}

/* Debian's kernel, when tools/fetch-kernel has been run: what arrives must be the ELF file's text.
 */
static void load_stock(struct fixture *f, const char *flavour)
{
	char path[512];
	const char *slash = strrchr(__FILE__, '/');

	snprintf(path, sizeof(path), "%.*s/../../../build/guest/%s/vmlinuz",
		(int)(slash - __FILE__), __FILE__, flavour);
	if (access(path, R_OK))
		skip();
	fixture_fini(f);
	fixture_init(f, 512);
	assert_int_equal(boot_image_read(&f->req.kernel, "kernel", path, 512 * MiB, &f->err), 0);
	assert_int_equal(fixture_load(f), 0);
	boot_image_free(&f->req.kernel);
	/* 6.1 runs at 16 MiB; vmlinux' first byte is at its entry, and its banner is in .rodata */
	assert_int_equal(f->s.rip, 0x1000000);
	assert_non_null(memmem(guest(f, 0x1000000, 48 * MiB), 48 * MiB, "Linux version 6.", 16));
}

static void debian_cloud_kernel_unpacks(void **state) { load_stock(*state, "cloud"); }
static void debian_generic_kernel_unpacks(void **state) { load_stock(*state, "generic"); }

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(unpacked_kernel_is_entered_itself),
		TEST(without_unpacking_the_decompressor_is_entered),
		TEST(kernel_without_64_bit_entry_starts_in_32_bit_mode),
		TEST(unknown_compression_falls_back_to_the_decompressor),
		TEST(initrd_obeys_its_limit),
		TEST(command_line_is_bounded_by_the_kernel),
		TEST(small_memory_is_refused_with_what_would_do),
		TEST(damaged_header_is_refused),
		TEST(truncated_and_corrupt_payloads_are_refused),
		TEST(debian_cloud_kernel_unpacks),
		TEST(debian_generic_kernel_unpacks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
