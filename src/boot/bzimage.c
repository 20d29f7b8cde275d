/*
 * Linux bzImage (boot.rst). The file: `setup` bytes of real-mode code, which carry the setup header
 * and are otherwise not used here, then the protected-mode part: a decompressor and, at
 * payload_offset in it, the compressed kernel, an ELF file.
 *
 * Three ways in, best first: unpack the payload here and enter the kernel itself; enter the
 * decompressor in 64-bit mode (0x200 bytes after its start); enter it in 32-bit mode (its start).
 */
#include "base/bits.h"
#include "base/scope.h"
#include "boot/linux.h"
#include "boot/unpack.h"
#include <errno.h>

#define XLF_KERNEL_64	 BIT(0) /* has the 64-bit entry point */
#define XLF_ABOVE_4G	 BIT(1) /* initrd_addr_max does not count */
#define LOADED_HIGH	 BIT(0)
#define LOAD_DEFAULT	 0x100000ull
#define ENTRY64_OFFSET	 0x200u
#define PROTOCOL_MIN	 0x0206
#define HEADER_READ_SIZE 0x268u /* through init_size and handover_offset */

struct bzimage {
	u16 version, xloadflags;
	bool relocatable;
	u32 alignment, init_size, cmdline_size, initrd_max;
	u64 pref_address;
	const u8 *code; /* the protected-mode part */
	u64 code_size;
	const u8 *payload; /* NULL when the header does not say where it is */
	u64 payload_size;
};

bool bzimage_probe(const struct boot_image *k)
{
	return k->size >= LINUX_MAGIC + 4 && get_le16(k->data + LINUX_BOOT_FLAG) == 0xaa55 &&
	       !memcmp(k->data + LINUX_MAGIC, "HdrS", 4);
}

/* Fields that appeared after 2.06 count as zero in older headers (boot.rst, column "Protocol"). */
static u64 since(const struct bzimage *bz, u16 version, u64 value)
{
	return bz->version >= version ? value : 0;
}

static int parse_payload(struct bzimage *bz, const u8 *d, struct err *err)
{
	u64 offset = since(bz, 0x0208, get_le32(d + LINUX_PAYLOAD));
	u64 size = since(bz, 0x0208, get_le32(d + LINUX_PAYLOAD_SIZE));

	if (!offset || !size)
		return 0;
	if (!range_ok(offset, size, bz->code_size))
		return err_set(err, -ENOEXEC,
			"damaged: its payload (%llu bytes at %llu) is not in the file",
			(unsigned long long)size, (unsigned long long)offset);
	bz->payload = bz->code + offset;
	bz->payload_size = size;
	return 0;
}

static int parse(struct bzimage *bz, const struct boot_image *k, struct err *err)
{
	const u8 *d = k->data;

	if (!bzimage_probe(k))
		return err_set(err, -ENOEXEC, "not a bzImage");
	if (k->size < HEADER_READ_SIZE)
		return err_set(err, -ENOEXEC, "truncated in its header");
	u64 setup = (d[LINUX_SETUP_SECTS] ? d[LINUX_SETUP_SECTS] + 1u : 5u) * 512u;
	u64 code = (u64)get_le32(d + LINUX_SYSSIZE) * 16;
	*bz = (struct bzimage){ .version = get_le16(d + LINUX_VERSION) };
	if (bz->version < PROTOCOL_MIN || !(d[LINUX_LOADFLAGS] & LOADED_HIGH))
		return err_set(err, -ENOEXEC,
			"its boot protocol %u.%02u is too old, 2.06 is needed (Linux 2.6.22)",
			bz->version >> 8, bz->version & 0xffu);
	/* syssize is rounded up to 16 bytes and counts a checksum that not every build appends. */
	if (k->size <= setup || k->size - setup + 19 < code)
		return err_set(err, -ENOEXEC, "truncated: %llu bytes where its header says %llu",
			(unsigned long long)k->size, (unsigned long long)(setup + code));
	bz->code = d + setup;
	bz->code_size = code ? min_u64(code, k->size - setup) : k->size - setup;
	bz->xloadflags = (u16)since(bz, 0x020c, get_le16(d + LINUX_XLOADFLAGS));
	bz->relocatable = d[LINUX_RELOCATABLE];
	bz->alignment = get_le32(d + LINUX_ALIGNMENT);
	bz->init_size = (u32)since(bz, 0x020a, get_le32(d + LINUX_INIT_SIZE));
	bz->cmdline_size = get_le32(d + LINUX_CMDLINE_SIZE);
	bz->initrd_max = get_le32(d + LINUX_INITRD_MAX);
	bz->pref_address = since(bz, 0x020a, get_le64(d + LINUX_PREF_ADDRESS));
	return parse_payload(bz, d, err);
}

/* The header is copied whole; its jump instruction says how long it is (boot.rst, "jump"). */
static void copy_header(struct linux_boot *boot, const struct boot_image *k)
{
	u64 end =
		min_u64(LINUX_MAGIC + k->data[LINUX_JUMP + 1], min_u64(LINUX_HEADER_END, k->size));

	memcpy(boot->params + LINUX_SETUP_SECTS, k->data + LINUX_SETUP_SECTS,
		end - LINUX_SETUP_SECTS);
}

/* Is the payload something that we can unpack? */
static bool packed_for_us(const struct bzimage *bz)
{
	return bz->payload && bz->init_size && unpack_format(bz->payload, bz->payload_size);
}

/*
 * The unpacked size is the payload's last four bytes. The kernel's own decompressor works within
 * init_size, so no honest kernel unpacks to more; that, and the guest's memory, bound the buffer.
 */
static int unpack_payload(
	const struct bzimage *bz, u64 ram, u8 **take_kernel, u64 *kernel_size, struct err *err)
{
	u64 size = bz->payload_size > 4 ? get_le32(bz->payload + bz->payload_size - 4) : 0;

	if (!size || size > bz->init_size)
		return err_set(err, -ENOEXEC, "damaged: its payload would unpack to %llu bytes",
			(unsigned long long)size);
	if (size > ram)
		return err_set(err, -ENOMEM,
			"the kernel needs at least %llu MiB of memory, the machine has %llu MiB",
			(unsigned long long)((bz->pref_address + bz->init_size) / MiB + 1),
			(unsigned long long)(ram / MiB));
	AUTO_FREE u8 *kernel = malloc(size);
	if (!kernel)
		return err_set(err, -ENOMEM, "no memory to unpack %llu MiB",
			(unsigned long long)(size / MiB));
	int r = unpack(bz->payload, bz->payload_size, kernel, size, ram, err);
	if (r < 0)
		return r;
	*take_kernel = steal_ptr(&kernel);
	*kernel_size = size;
	return 0;
}

static int load_unpacked(const struct bzimage *bz, struct linux_boot *boot,
	const struct boot_request *req, struct x86_state *s, struct err *err)
{
	AUTO_FREE u8 *kernel = NULL;
	u64 size;

	int r = unpack_payload(bz, memory_ram_size(req->memory), &kernel, &size, err);
	if (r < 0)
		return r;
	return linux_enter_elf(boot, kernel, size, req, s, err);
}

int bzimage_unpack(
	const struct boot_image *k, u64 limit, u8 **take_kernel, u64 *size, struct err *err)
{
	struct bzimage bz = { 0 };

	if (parse(&bz, k, err) < 0)
		return -ENOEXEC;
	if (!packed_for_us(&bz))
		return err_set(err, -ENOEXEC, "its kernel is packed in an unknown way");
	return unpack_payload(&bz, limit, take_kernel, size, err);
}

/*
 * A relocatable kernel goes where it prefers to run, others to 1 MiB, from where they move
 * themselves. Either needs init_size bytes from where it runs, and the decompressor may align that
 * place upwards.
 */
static int load_packed(const struct bzimage *bz, struct linux_boot *boot,
	const struct boot_request *req, struct x86_state *s, struct err *err)
{
	u64 at = bz->relocatable && bz->pref_address ? bz->pref_address : LOAD_DEFAULT;
	u64 run = bz->pref_address ? bz->pref_address : at, end;

	if (bz->alignment && run % bz->alignment &&
		!add_ok(run, bz->alignment - run % bz->alignment, &run))
		return err_set(err, -ENOEXEC, "damaged: preferred address 0x%llx",
			(unsigned long long)bz->pref_address);
	if (at < LOAD_DEFAULT || run < at ||
		!add_ok(run, max_u64(bz->init_size, bz->code_size), &end) || end > 4 * GiB)
		return err_set(err, -ENOEXEC, "damaged: it wants %llu bytes at 0x%llx",
			(unsigned long long)bz->init_size, (unsigned long long)run);
	if (place_check(req, "the kernel", at, end - at, err) < 0)
		return -ENOMEM;
	if (place_copy(req, "the kernel", at, bz->code, bz->code_size, err) < 0)
		return -EFAULT;
	put_le32(boot->params + LINUX_CODE32, (u32)at);
	boot->kernel = (struct boot_extent){ at, end };
	boot->wide = bz->xloadflags & XLF_KERNEL_64;
	boot->entry = boot->wide ? at + ENTRY64_OFFSET : at;
	return linux_enter(boot, req, s, err);
}

int bzimage_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	struct linux_boot boot = { 0 };
	struct bzimage bz = { 0 };

	if (parse(&bz, &req->kernel, err) < 0)
		return -ENOEXEC;
	copy_header(&boot, &req->kernel);
	boot.cmdline_max = bz.cmdline_size;
	boot.initrd_end = bz.xloadflags & XLF_ABOVE_4G ? 4 * GiB : (u64)bz.initrd_max + 1;
	if (req->unpack && packed_for_us(&bz) && (bz.xloadflags & XLF_KERNEL_64))
		return load_unpacked(&bz, &boot, req, s, err);
	return load_packed(&bz, &boot, req, s, err);
}
