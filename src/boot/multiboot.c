/*
 * Multiboot Specification 0.6.96. A header in the first 8 KiB of the file makes it a multiboot
 * kernel; it is loaded as the ELF file it is, or, with header flag 16, by the addresses in the
 * header (then the file's format does not matter). The information structure and what it points to
 * form one block right after the kernel; the initrd, passed as the only module, follows.
 *
 * The command line is passed as given, without a program name before it.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "boot/elf.h"
#include <errno.h>

/* Header (3.1) */
#define HEADER_MAGIC	0x1badb002u
#define HEADER_SEARCH	8192u
#define FLAG_ADDRESSES	BIT(16)
#define FLAGS_MANDATORY 0xffffu
#define FLAGS_UNDERSTOOD \
	0x7u /* modules page-aligned, memory information, video mode (there is no display) */

/* Information (3.3) */
#define INFO_MAGIC   0x2badb002u
#define INFO_MEMORY  BIT(0)
#define INFO_CMDLINE BIT(2)
#define INFO_MODULES BIT(3)
#define INFO_MAP     BIT(6)
#define INFO_NAME    BIT(9)
#define CMDLINE_MAX  (64 * KiB - 1)
#define LOADER_NAME  "Strata"

struct header {
	u64 offset; /* in the file */
	u32 flags;
	u32 header_addr, load_addr, load_end, bss_end, entry; /* with FLAG_ADDRESSES */
};

/* The parts of the information structure that exist without disks, APM or a display. */
struct info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline, modules, module_list, symbols[4];
	u32 map_length, map, drives[2], config, loader_name, apm, vbe[4];
	u8 framebuffer[28];
};
struct module {
	u32 start, end, string, reserved;
};
struct range {
	u32 entry_size; /* of what follows */
	struct e820_entry e;
} __attribute__((packed));
_Static_assert(
	sizeof(struct info) == 116 && offsetof(struct info, loader_name) == 64, "section 3.3");
_Static_assert(sizeof(struct range) == 24, "section 3.3");

struct block {
	struct info info;
	struct module module;
	struct range map[E820_MAX];
	char name[sizeof(LOADER_NAME)];
	char cmdline[];
};

static bool find_header(const struct boot_image *k, struct header *h)
{
	u64 end = min_u64(k->size, HEADER_SEARCH);

	for (u64 at = 0; range_ok(at, 12, end); at += 4) {
		const u8 *p = k->data + at;

		if (get_le32(p) != HEADER_MAGIC ||
			get_le32(p) + get_le32(p + 4) + get_le32(p + 8) != 0)
			continue;
		*h = (struct header){ .offset = at, .flags = get_le32(p + 4) };
		if (!(h->flags & FLAG_ADDRESSES))
			return true;
		if (!range_ok(at, 32, k->size))
			return false;
		h->header_addr = get_le32(p + 12);
		h->load_addr = get_le32(p + 16);
		h->load_end = get_le32(p + 20);
		h->bss_end = get_le32(p + 24);
		h->entry = get_le32(p + 28);
		return true;
	}
	return false;
}

bool multiboot_probe(const struct boot_image *kernel)
{
	struct header h;

	return find_header(kernel, &h);
}

/* By the header's addresses (3.1.3): load_addr corresponds to a place before the header in the
 * file; a zero load_end means the whole file, a zero bss_end nothing to clear. */
static int load_by_addresses(const struct boot_request *req, const struct header *h, u64 *entry,
	u64 *end, struct err *err)
{
	u64 before = (u64)h->header_addr - h->load_addr;

	if (h->header_addr < h->load_addr || before > h->offset)
		return err_set(err, -ENOEXEC,
			"damaged: its multiboot header's addresses contradict each other");
	u64 from = h->offset - before;
	u64 size = h->load_end ? (u64)h->load_end - h->load_addr : req->kernel.size - from;
	if (h->load_end && (h->load_end < h->load_addr || !range_ok(from, size, req->kernel.size)))
		return err_set(err, -ENOEXEC,
			"truncated: its multiboot header asks for %llu bytes, the file has %llu",
			(unsigned long long)size, (unsigned long long)(req->kernel.size - from));
	u64 loaded = h->load_addr + size;
	*end = max_u64(loaded, h->bss_end);
	if (h->entry < h->load_addr || h->entry >= loaded)
		return err_set(err, -ENOEXEC,
			"damaged: its entry point 0x%x is not in what is loaded", h->entry);
	if (place_check(req, "the kernel", h->load_addr, *end - h->load_addr, err) < 0 ||
		place_copy(req, "the kernel", h->load_addr, req->kernel.data + from, size, err) < 0)
		return -ENOMEM;
	*entry = h->entry;
	return memory_fill(req->memory, gpa(loaded), 0, *end - loaded) ? 0 : -EFAULT;
}

static int load_elf(const struct boot_request *req, u64 *entry, u64 *end, struct err *err)
{
	struct elf elf;

	if (elf_parse(&elf, req->kernel.data, req->kernel.size, err) < 0)
		return -ENOEXEC;
	if (elf.entry > UINT32_MAX || !elf_executes(&elf, elf.entry))
		return err_set(err, -ENOEXEC, "damaged: its entry point 0x%llx is not in its code",
			(unsigned long long)elf.entry);
	if (elf_load(&elf, req, 0, err) < 0)
		return -ENOEXEC;
	*entry = elf.entry;
	*end = elf.extent.end;
	return 0;
}

/* KiB of RAM that begin at `base`: mem_lower and mem_upper. */
static u32 memory_kib(const struct e820_map *map, u64 base)
{
	for (unsigned i = 0; i < map->count; i++) {
		const struct e820_entry *e = &map->entries[i];

		if (e->type == E820_RAM && base - e->base < e->size)
			return (u32)min_u64((e->size - (base - e->base)) / KiB, UINT32_MAX);
	}
	return 0;
}

static void fill(
	struct block *b, const struct boot_request *req, const char *cmdline, u64 block, u64 initrd)
{
	u32 at = (u32)block, count = req->map->count;

	b->info = (struct info){
		.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_NAME,
		.mem_lower = (u32)min_u64(memory_kib(req->map, 0), 640),
		.mem_upper = memory_kib(req->map, 1 * MiB),
		.cmdline = at + (u32)offsetof(struct block, cmdline),
		.modules = initrd ? 1 : 0,
		.module_list = at + (u32)offsetof(struct block, module),
		.map_length = count * (u32)sizeof(struct range),
		.map = at + (u32)offsetof(struct block, map),
		.loader_name = at + (u32)offsetof(struct block, name),
	};
	b->module = (struct module){
		.start = (u32)initrd,
		.end = (u32)(initrd + req->initrd.size),
		.string = b->info.cmdline + (u32)strlen(cmdline), /* empty */
	};
	for (unsigned i = 0; i < count; i++)
		b->map[i] = (struct range){ sizeof(struct e820_entry), req->map->entries[i] };
	memcpy(b->name, LOADER_NAME, sizeof(LOADER_NAME));
	memcpy(b->cmdline, cmdline, strlen(cmdline) + 1);
}

static int load_kernel(const struct boot_request *req, u64 *entry, u64 *end, struct err *err)
{
	struct header h;

	if (!find_header(&req->kernel, &h))
		return err_set(err, -ENOEXEC, "it has no multiboot header");
	if (h.flags & FLAGS_MANDATORY & ~FLAGS_UNDERSTOOD)
		return err_set(err, -ENOEXEC,
			"its multiboot header requires unknown features (flags 0x%x)", h.flags);
	if (h.flags & FLAG_ADDRESSES)
		return load_by_addresses(req, &h, entry, end, err);
	return load_elf(req, entry, end, err);
}

int multiboot_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	const char *cmdline = req->cmdline ? req->cmdline : "";
	u64 size = sizeof(struct block) + strlen(cmdline) + 1, entry, end, at, initrd;

	if (strlen(cmdline) > CMDLINE_MAX)
		return err_set(err, -E2BIG, "the command line is longer than %llu characters",
			CMDLINE_MAX);
	if (load_kernel(req, &entry, &end, err) < 0)
		return -ENOEXEC;
	AUTO_FREE struct block *b = calloc(1, size);
	if (!b)
		return err_set(err, -ENOMEM, "no memory for the boot data");
	if (place_after(req, end, size, &at, &initrd, err) < 0)
		return -ENOMEM;
	fill(b, req, cmdline, at, initrd);
	if (place_copy(req, "multiboot information", at, b, size, err) < 0)
		return -EFAULT;
	entry_flat32(s, (u32)entry, (struct x86_table){ 0 });
	s->gpr[RAX] = INFO_MAGIC;
	s->gpr[RBX] = at;
	return 0;
}
