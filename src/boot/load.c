/* The table of formats, and what to say about a file that has none of them. */
#include "base/bits.h"
#include "base/must.h"
#include "boot/boot_priv.h"
#include "boot/elf.h"
#include <errno.h>

/* Indexed by enum boot_format; probed in this order. */
static const struct boot_loader loaders[] = {
	[BOOT_BZIMAGE] = { "bzimage", bzimage_probe, bzimage_load },
	[BOOT_LINUX] = { "linux", linux_elf_probe, linux_elf_load },
	[BOOT_PVH] = { "pvh", pvh_probe, pvh_load },
	[BOOT_MULTIBOOT] = { "multiboot", multiboot_probe, multiboot_load },
	[BOOT_FIRMWARE] = { "firmware", firmware_probe, firmware_load },
	[BOOT_SECTOR] = { "sector", sector_probe, sector_load },
};
_Static_assert(ARRAY_LEN(loaders) == BOOT_FORMATS, "a row for each format");

/* Files that people pass by mistake. More specific rows first. */
static const struct {
	u64 offset;
	const char *magic;
	unsigned len;
	const char *what;
} mistakes[] = {
	{ 0x38, "ARM\x64", 4, "a Linux kernel for arm64, not x86-64" },
	{ 0x38, "RSC\x05", 4, "a Linux kernel for RISC-V, not x86-64" },
	{ 0, "MZ", 2, "an EFI program without a Linux boot header" },
	{ 0, "\x1f\x8b", 2, "a gzip file; uncompress it first, or is it an initrd?" },
	{ 0, "\xfd\x37zXZ", 5, "an xz file; uncompress it first" },
	{ 0, "\x28\xb5\x2f\xfd", 4, "a zstd file; uncompress it first" },
	{ 0, "070701", 6, "a cpio archive; is it an initrd?" },
	{ 0, "QFI\xfb", 4, "a qcow2 disk image" },
	{ 0, "!<arch>", 7, "a package or library archive" },
	{ 0, "#!", 2, "a script" },
};

/* e_machine (ELF gABI, chapter 4) of the ports people build kernels for. */
static const struct {
	u16 machine;
	const char *name;
} machines[] = {
	{ 3, "32-bit x86 (and has no PVH note or multiboot header)" },
	{ 8, "MIPS" },
	{ 20, "PowerPC" },
	{ 21, "64-bit PowerPC" },
	{ 22, "S/390" },
	{ 40, "32-bit ARM" },
	{ 62, "x86-64 (but is damaged)" },
	{ 183, "arm64" },
	{ 243, "RISC-V" },
	{ 258, "LoongArch" },
};

static int refuse_elf(const struct boot_image *k, struct err *err)
{
	u16 machine = get_le16(k->data + 18);

	for (unsigned i = 0; i < ARRAY_LEN(machines); i++)
		if (machines[i].machine == machine)
			return err_set(err, -ENOEXEC,
				"not a kernel for this machine: an ELF file for %s",
				machines[i].name);
	return err_set(err, -ENOEXEC,
		"not a kernel for this machine: an ELF file for processor type %u", machine);
}

static int refuse(const struct boot_image *k, struct err *err)
{
	if (!k->size)
		return err_set(err, -ENOEXEC, "not a kernel: the file is empty");
	if (k->size >= 20 && !memcmp(k->data, ELF_MAGIC, 4))
		return refuse_elf(k, err);
	for (unsigned i = 0; i < ARRAY_LEN(mistakes); i++)
		if (range_ok(mistakes[i].offset, mistakes[i].len, k->size) &&
			!memcmp(k->data + mistakes[i].offset, mistakes[i].magic, mistakes[i].len))
			return err_set(err, -ENOEXEC, "not a kernel but %s", mistakes[i].what);
	return err_set(err, -ENOEXEC,
		"not a kernel: no bzImage, ELF, multiboot, BIOS or boot sector signature");
}

int boot_detect(const struct boot_image *kernel, enum boot_format *format, struct err *err)
{
	for (unsigned f = BOOT_AUTO + 1; f < BOOT_FORMATS; f++)
		if (loaders[f].probe(kernel)) {
			*format = (enum boot_format)f;
			return 0;
		}
	return refuse(kernel, err);
}

const char *boot_format_name(enum boot_format format)
{
	must((unsigned)format < BOOT_FORMATS, "format %d", format);
	return format == BOOT_AUTO ? "auto" : loaders[format].name;
}

int boot_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	enum boot_format format = req->format;
	struct x86_state entered = *s;

	must(req->map->count <= E820_MAX, "%u map entries", req->map->count);
	must((unsigned)format < BOOT_FORMATS, "format %d", format);
	if (format == BOOT_AUTO && boot_detect(&req->kernel, &format, err) < 0)
		return err_wrap(err, "%s", req->kernel.name);
	if (loaders[format].load(req, &entered, err) < 0)
		return err_wrap(err, "cannot boot %s", req->kernel.name);
	*s = entered;
	return 0;
}
