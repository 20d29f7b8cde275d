/*
 * Kernel images are hostile input: every loader, on any bytes, must load or refuse, and stay inside
 * guest memory, the file and its time. An input is a recipe, since random bytes hardly get beyond a
 * magic number: which good image to begin with (or none: the rest of the input is the file), and
 * what to change in it.
 */
#include "base/bits.h"
#include "base/must.h"
#include "boot/boot.h"
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define RAM (24 * MiB)

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* A processor is only entered where there is code: in RAM, or at the ROM's reset vector. */
static void check_entry(const struct memory *m, const struct x86_state *s)
{
	u64 at = s->seg[X86_CS].base + s->rip;

	must(memory_host(m, gpa(at), 1), "entered at 0x%llx", (unsigned long long)at);
	must(!(s->efer & EFER_LMA) || memory_host(m, gpa(s->cr3), PAGE_SIZE), "page tables");
}

/* Seeds: one image of each format, built here. */

struct seed {
	u8 data[8 * 1024];
	u64 size;
};

#define KERNEL_AT 0x200000u

static void make_elf(struct seed *s)
{
	static const u8 note[] = "\4\0\0\0\4\0\0\0\x12\0\0\0Xen\0\0\0\x20\0";
	const u64 load[] = { 512, 0xffffffff80000000, KERNEL_AT, 256, 4096, 4096 };
	const u64 notes[] = { 256, 0, 0, 20, 20, 4 };
	u8 *d = s->data;

	memcpy(d,
		"\x7f"
		"ELF\2\1\1",
		7);
	put_le16(d + 16, 2);
	put_le16(d + 18, 62);
	put_le64(d + 24, KERNEL_AT);
	put_le64(d + 32, 64);
	put_le16(d + 54, 56);
	put_le16(d + 56, 2);
	put_le32(d + 64, 1);
	put_le32(d + 68, 7);
	memcpy(d + 72, load, sizeof(load));
	put_le32(d + 120, 4);
	memcpy(d + 128, notes, sizeof(notes));
	memcpy(d + 256, note, sizeof(note) - 1);
	memset(d + 512, 0x90, 256);
	s->size = 768;
}

static void make_elf32(struct seed *s)
{
	const u32 load[] = { 1, 512, KERNEL_AT, KERNEL_AT, 256, 4096, 7, 4096 };
	u8 *d = s->data;

	memcpy(d,
		"\x7f"
		"ELF\1\1\1",
		7);
	put_le16(d + 16, 2);
	put_le16(d + 18, 3);
	put_le32(d + 24, KERNEL_AT);
	put_le32(d + 28, 52);
	put_le16(d + 42, 32);
	put_le16(d + 44, 1);
	memcpy(d + 52, load, sizeof(load));
	put_le32(d + 512, 0x1badb002);
	put_le32(d + 516, 3);
	put_le32(d + 520, -0x1badb005u);
	s->size = 768;
}

static void make_multiboot(struct seed *s)
{
	const u32 header[] = { 0x1badb002, 0x10003, -0x1badb002u - 0x10003, KERNEL_AT, KERNEL_AT,
		KERNEL_AT + 512, KERNEL_AT + 1024, KERNEL_AT + 32 };

	memcpy(s->data, header, sizeof(header));
	s->size = 600;
}

static void make_sector(struct seed *s)
{
	s->data[510] = 0x55;
	s->data[511] = 0xaa;
	s->size = 512;
}

static u64 pack_gzip(u8 *to, u64 room, const struct seed *from)
{
	z_stream z = { .next_in = (u8 *)(uintptr_t)from->data,
		.avail_in = (uInt)from->size,
		.next_out = to,
		.avail_out = (uInt)room };

	must(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib");
	must(deflate(&z, Z_FINISH) == Z_STREAM_END, "zlib");
	deflateEnd(&z);
	return z.total_out - 4; /* without the size, which the caller appends */
}

static u64 pack_zstd(u8 *to, u64 room, const struct seed *from)
{
	return ZSTD_compress(to, room, from->data, from->size, 3);
}

static u64 pack_lz4(u8 *to, u64 room, const struct seed *from)
{
	int n = LZ4_compress_default(
		(const char *)from->data, (char *)to + 8, (int)from->size, (int)room - 8);

	memcpy(to, "\x02\x21\x4c\x18", 4);
	put_le32(to + 4, (u32)n);
	return (u64)n + 8;
}

static u64 pack_xz(u8 *to, u64 room, const struct seed *from)
{
	size_t n = 0;

	must(lzma_easy_buffer_encode(
		     0, LZMA_CHECK_NONE, NULL, from->data, from->size, to, &n, room) == LZMA_OK,
		"xz");
	return n;
}

static void make_bzimage(struct seed *s, u64 (*pack)(u8 *to, u64 room, const struct seed *from))
{
	static struct seed elf;
	u8 *d = s->data;

	make_elf(&elf);
	u64 packed = pack(d + 1024 + 0x300, 4096, &elf);
	put_le32(d + 1024 + 0x300 + packed, (u32)elf.size);
	u64 code = align_up(0x300 + packed + 4, 16);
	d[0x1f1] = 1;
	put_le32(d + 0x1f4, (u32)(code / 16));
	put_le16(d + 0x1fe, 0xaa55);
	memcpy(d + 0x200, "\xeb\x66HdrS\x0f\x02", 8);
	d[0x211] = 1;
	put_le32(d + 0x22c, 0x7fffffff);
	put_le32(d + 0x230, 0x200000);
	d[0x234] = 1;
	put_le16(d + 0x236, 1);
	put_le32(d + 0x238, 2047);
	put_le32(d + 0x248, 0x300);
	put_le32(d + 0x24c, (u32)packed + 4);
	put_le64(d + 0x258, KERNEL_AT);
	put_le32(d + 0x260, 4 * MiB);
	s->size = 1024 + code;
}

static void make_gzip(struct seed *s) { make_bzimage(s, pack_gzip); }
static void make_zstd(struct seed *s) { make_bzimage(s, pack_zstd); }
static void make_xz(struct seed *s) { make_bzimage(s, pack_xz); }
static void make_lz4(struct seed *s) { make_bzimage(s, pack_lz4); }

static void (*const seeds[])(struct seed *) = { make_elf, make_elf32, make_multiboot, make_sector,
	make_gzip, make_zstd, make_lz4, make_xz };

static const u64 edges[] = { 0, 1, 3, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x100000, 0x7fffffff,
	0x80000000, 0xffffffff, 0xfffff000, RAM, RAM - 1, ~0ull, ~0xfffull, 1ull << 63 };

/* A recipe: these bytes, then EDIT_SIZE bytes for each edit. */
enum { FORMAT, OPTIONS, SEED, EDITS, RECIPE_SIZE };
#define EDITS_MAX 6u
#define EDIT_SIZE 5u

/* One edit sets a field to an edge value or flips a bit. Headers carry the structure, so half of
 * the edits go into the first 800 bytes. */
static void edit(struct seed *s, const u8 *e)
{
	u64 at = get_le16(e) % (e[2] & 1 ? s->size : min_u64(s->size, 800));
	u64 width = 1ull << (e[2] >> 1 & 3), edge = edges[e[3] % ARRAY_LEN(edges)];

	if (e[2] & 8)
		s->data[at] ^= (u8)BIT(e[3] % 8);
	else if (range_ok(at, width, s->size))
		memcpy(s->data + at, &edge, width);
	if (e[2] >> 4 == 0) /* now and then, cut the file */
		s->size = 1 + (s->size * e[4]) / 256;
}

static void cook(struct seed *s, const u8 *recipe, size_t size)
{
	unsigned seed = recipe[SEED] % (ARRAY_LEN(seeds) + 1);

	if (seed == ARRAY_LEN(seeds)) {
		s->size = min_u64(size - RECIPE_SIZE, sizeof(s->data));
		memcpy(s->data, recipe + RECIPE_SIZE, s->size);
		return;
	}
	seeds[seed](s);
	for (unsigned i = 0; i < recipe[EDITS] % EDITS_MAX; i++)
		if (range_ok(RECIPE_SIZE + (u64)i * EDIT_SIZE, EDIT_SIZE, size))
			edit(s, recipe + RECIPE_SIZE + (size_t)i * EDIT_SIZE);
}

static void try_image(const u8 *image, u64 size, enum boot_format format, u8 options)
{
	static const u8 initrd[100];
	struct e820_map map;
	struct memory m;
	struct x86_state s = { 0 };
	struct err err = { 0 };

	memory_init(&m);
	struct memory_region *ram = memory_add_region(&m, "ram", RAM, false, &err);
	must(ram && memory_add_slot(&m, ram, gpa(0), 0, RAM, &err) == 0, "%s", err.text);
	e820_build(&map, &m);
	struct boot_request req = {
		.memory = &m,
		.map = &map,
		.rsdp = 0xe0000,
		.kernel = { "kernel", image, size },
		.initrd = { "initrd", initrd, options & 1 ? sizeof(initrd) : 0 },
		.cmdline = options & 2 ? "console=ttyS0" : NULL,
		.unpack = options & 4,
		.format = format,
	};
	if (boot_load(&req, &s, &err) == 0)
		check_entry(&m, &s);
	else
		must(err.code < 0 && err.text[0], "an error without a text");
	memory_fini(&m);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct seed image = { 0 };

	if (size < RECIPE_SIZE)
		return 0;
	cook(&image, data, size);
	/* in memory of exactly its size, so that a checked build sees an overrun */
	u8 *exact = malloc(max_u64(image.size, 1));
	if (!exact)
		return 0;
	memcpy(exact, image.data, image.size);
	enum boot_format format =
		data[FORMAT] & 1 ? BOOT_AUTO : (enum boot_format)(data[FORMAT] / 2 % BOOT_FORMATS);
	try_image(exact, image.size, format, data[OPTIONS]);
	free(exact);
	return 0;
}
