/*
 * The x86/HVM direct boot ABI, "PVH" (Xen docs/misc/pvh.pandoc): an ELF note names a 32-bit entry
 * point, EBX points to a struct hvm_start_info (xen/include/public/arch-x86/hvm/start_info.h). That
 * and what it points to form one block right after the kernel; the initrd, its only module,
 * follows.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "boot/elf.h"
#include <errno.h>

#define START_MAGIC   0x336ec578u
#define START_VERSION 1
#define CMDLINE_MAX   (64 * KiB - 1)

struct start_info {
	u32 magic, version, flags, modules;
	u64 module_list, cmdline, rsdp;
	u64 map;
	u32 map_count, reserved;
};
struct start_module {
	u64 address, size, cmdline, reserved;
};
struct start_range {
	u64 base, size;
	u32 type; /* numbered as in the E820 interface */
	u32 reserved;
};
_Static_assert(
	sizeof(struct start_info) == 56 && sizeof(struct start_module) == 32, "start_info.h");
_Static_assert(sizeof(struct start_range) == 24, "start_info.h");

/* Everything up to the command line, whose length only the request knows. */
struct block {
	struct start_info info;
	struct start_module module;
	struct start_range map[E820_MAX];
	char cmdline[];
};

static void fill(
	struct block *b, const struct boot_request *req, const char *cmdline, u64 at, u64 initrd)
{
	b->info = (struct start_info){
		.magic = START_MAGIC,
		.version = START_VERSION,
		.modules = initrd ? 1 : 0,
		.module_list = initrd ? at + offsetof(struct block, module) : 0,
		.cmdline = at + offsetof(struct block, cmdline),
		.rsdp = req->rsdp,
		.map = at + offsetof(struct block, map),
		.map_count = req->map->count,
	};
	b->module = (struct start_module){ .address = initrd, .size = req->initrd.size };
	for (unsigned i = 0; i < req->map->count; i++) {
		const struct e820_entry *e = &req->map->entries[i];

		b->map[i] =
			(struct start_range){ .base = e->base, .size = e->size, .type = e->type };
	}
	memcpy(b->cmdline, cmdline, strlen(cmdline) + 1);
}

bool pvh_probe(const struct boot_image *kernel)
{
	struct elf elf;

	return elf_parse(&elf, kernel->data, kernel->size, NULL) == 0 && elf.pvh_note;
}

int pvh_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	const char *cmdline = req->cmdline ? req->cmdline : "";
	u64 size = sizeof(struct block) + strlen(cmdline) + 1, at, initrd;
	struct elf elf;

	if (strlen(cmdline) > CMDLINE_MAX)
		return err_set(err, -E2BIG, "the command line is longer than %llu characters",
			CMDLINE_MAX);
	if (elf_parse(&elf, req->kernel.data, req->kernel.size, err) < 0)
		return -ENOEXEC;
	if (!elf.pvh_note || elf.pvh_entry > UINT32_MAX || !elf_executes(&elf, elf.pvh_entry))
		return err_set(err, -ENOEXEC, "it has no PVH entry point in its code");
	if (elf_load(&elf, req, 0, err) < 0)
		return -ENOEXEC;
	AUTO_FREE struct block *b = calloc(1, size);
	if (!b)
		return err_set(err, -ENOMEM, "no memory for the boot data");
	if (place_after(req, elf.extent.end, size, &at, &initrd, err) < 0)
		return -ENOMEM;
	fill(b, req, cmdline, at, initrd);
	if (place_copy(req, "start info", at, b, size, err) < 0)
		return -EFAULT;
	entry_flat32(s, (u32)elf.pvh_entry, (struct x86_table){ 0 });
	s->gpr[RBX] = at;
	return 0;
}
