/*
 * Linux's 32-bit and 64-bit boot protocols (boot.rst), from the point where the kernel is in
 * memory.
 *
 * Our structures have fixed places in conventional memory; the kernel copies what it wants from
 * them before it reuses any of it:
 *
 *   0x01000  GDT            0x03000  PML4, PDPT, four page directories: the first 4 GiB, identity
 *   0x02000  boot_params    0x09000  command line, at most 64 KiB
 *   0x20000  stack, growing down (startup code that wants one sets its own, but it may be looked
 * at)
 */
#include "boot/linux.h"
#include "base/bits.h"
#include "boot/elf.h"
#include <errno.h>

#define AT_GDT	   0x1000ull
#define AT_PARAMS  0x2000ull
#define AT_TABLES  0x3000ull
#define AT_CMDLINE 0x9000ull
#define AT_STACK   0x20000ull
#define LOW_END	   AT_STACK

#define CMDLINE_MAX (64 * KiB - 1)
#define IDENTITY    4u /* GiB mapped: one page directory each */

/* SDM 3A 4.5 */
#define PTE_PRESENT BIT64(0)
#define PTE_WRITE   BIT64(1)
#define PTE_LARGE   BIT64(7)

#define LOADER_UNDEFINED 0xff
#define VID_MODE_NORMAL	 0xffff

static int write_page_tables(const struct boot_request *req, struct err *err)
{
	u64 table[512] = { AT_TABLES + PAGE_SIZE + (PTE_PRESENT | PTE_WRITE) };

	if (place_copy(req, "page tables", AT_TABLES, table, sizeof(table), err) < 0)
		return -EFAULT;
	memset(table, 0, sizeof(table));
	for (u64 i = 0; i < IDENTITY; i++)
		table[i] = AT_TABLES + (2 + i) * PAGE_SIZE + (PTE_PRESENT | PTE_WRITE);
	if (place_copy(req, "page tables", AT_TABLES + PAGE_SIZE, table, sizeof(table), err) < 0)
		return -EFAULT;
	for (u64 i = 0; i < IDENTITY; i++) {
		for (u64 j = 0; j < 512; j++)
			table[j] = (i * GiB + j * 2 * MiB) | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
		if (place_copy(req, "page tables", AT_TABLES + (2 + i) * PAGE_SIZE, table,
			    sizeof(table), err) < 0)
			return -EFAULT;
	}
	return 0;
}

static void fill_params(struct linux_boot *boot, const struct boot_request *req, u64 initrd)
{
	u8 *p = boot->params;

	p[LINUX_LOADER] = LOADER_UNDEFINED;
	put_le16(p + LINUX_VID_MODE, VID_MODE_NORMAL);
	put_le32(p + LINUX_CMDLINE, (u32)AT_CMDLINE);
	put_le32(p + LINUX_INITRD, (u32)initrd); /* and its size: below 4 GiB, see initrd_end */
	put_le32(p + LINUX_INITRD_SIZE, (u32)req->initrd.size);
	put_le64(p + LINUX_SETUP_DATA, 0);
	put_le64(p + LINUX_RSDP, req->rsdp);
	p[LINUX_E820_COUNT] = (u8)req->map->count;
	memcpy(p + LINUX_E820, req->map->entries, req->map->count * sizeof(req->map->entries[0]));
}
_Static_assert(sizeof(struct e820_entry) == 20, "the zero page's layout");
_Static_assert(
	LINUX_E820 + E820_MAX * sizeof(struct e820_entry) <= PAGE_SIZE && E820_MAX <= 128, "fits");

static int write_low(const struct linux_boot *boot, const struct boot_request *req,
	const char *cmdline, struct err *err)
{
	const u64 *gdt = boot->wide ? entry_gdt64 : entry_gdt32;

	if (place_copy(req, "GDT", AT_GDT, gdt, sizeof(entry_gdt64), err) < 0 ||
		place_copy(req, "boot_params", AT_PARAMS, boot->params, sizeof(boot->params), err) <
			0 ||
		place_copy(req, "command line", AT_CMDLINE, cmdline, strlen(cmdline) + 1, err) < 0)
		return -EFAULT;
	return boot->wide ? write_page_tables(req, err) : 0;
}

int linux_enter(struct linux_boot *boot, const struct boot_request *req, struct x86_state *s,
	struct err *err)
{
	const char *cmdline = req->cmdline ? req->cmdline : "";
	u64 max = min_u64(boot->cmdline_max, CMDLINE_MAX), initrd;

	if (strlen(cmdline) > max)
		return err_set(err, -E2BIG,
			"the command line has %zu characters, this kernel takes %llu",
			strlen(cmdline), (unsigned long long)max);
	if (place_check(req, "the boot data", AT_GDT, LOW_END - AT_GDT, err) < 0)
		return -ENOMEM;
	/* High: low memory is what the kernel's own early allocations and device drivers want. */
	struct boot_extent in = { boot->kernel.end, boot->initrd_end };
	if (place_initrd(req, PLACE_HIGHEST, in, &initrd, err) < 0)
		return -ENOMEM;
	if (place_copy(req, "initrd", initrd, req->initrd.data, req->initrd.size, err) < 0)
		return -EFAULT;
	fill_params(boot, req, initrd);
	if (write_low(boot, req, cmdline, err) < 0)
		return -EFAULT;

	struct x86_table gdt = { AT_GDT, sizeof(entry_gdt64) - 1 };
	if (boot->wide)
		entry_long(s, boot->entry, AT_TABLES, gdt);
	else
		entry_flat32(s, (u32)boot->entry, gdt);
	s->gpr[RSI] = AT_PARAMS;
	s->gpr[RSP] = AT_STACK;
	return 0;
}

int linux_enter_elf(struct linux_boot *boot, const u8 *data, u64 size,
	const struct boot_request *req, struct x86_state *s, struct err *err)
{
	struct elf elf;

	if (elf_parse(&elf, data, size, err) < 0)
		return -ENOEXEC;
	if (!elf.wide || elf.machine != ELF_MACHINE_X86_64)
		return err_set(err, -ENOEXEC, "not a 64-bit kernel");
	if (!elf_executes(&elf, elf.entry) || elf.entry >= IDENTITY * GiB)
		return err_set(err, -ENOEXEC, "damaged: its entry point 0x%llx is not in its code",
			(unsigned long long)elf.entry);
	if (elf_load(&elf, req, LINUX_FLOOR, err) < 0)
		return -ENOEXEC;
	boot->kernel = elf.extent;
	boot->entry = elf.entry;
	boot->wide = true;
	return linux_enter(boot, req, s, err);
}

bool linux_elf_probe(const struct boot_image *kernel)
{
	struct elf elf;

	if (elf_parse(&elf, kernel->data, kernel->size, NULL) < 0 || !elf.wide ||
		elf.machine != ELF_MACHINE_X86_64)
		return false;
	return elf.linux_note || (!elf.pvh_note && !multiboot_probe(kernel));
}

/* A bare vmlinux: what a bzImage says in its setup header has defaults (asm/setup.h, initrd.c). */
int linux_elf_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	struct linux_boot boot = { .initrd_end = 4 * GiB, .cmdline_max = 2047 };

	put_le16(boot.params + LINUX_BOOT_FLAG, 0xaa55);
	memcpy(boot.params + LINUX_MAGIC, "HdrS", 4);
	put_le16(boot.params + LINUX_VERSION, 0x020f);
	boot.params[LINUX_LOADFLAGS] = 1; /* LOADED_HIGH */
	put_le32(boot.params + LINUX_ALIGNMENT, 16 * MiB);
	return linux_enter_elf(&boot, req->kernel.data, req->kernel.size, req, s, err);
}
