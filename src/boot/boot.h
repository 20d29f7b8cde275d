/*
 * Loaders: put a kernel, its initrd and its parameters into guest memory and the first processor
 * into the state that the kernel's boot protocol asks for. There is no firmware in between.
 *
 *   format      file                                   entered in
 *   bzimage     Linux bzImage, protocol 2.06 or newer  64-bit mode
 *   linux       ELF64 of a Linux kernel (vmlinux)      64-bit mode
 *   pvh         ELF with a PHYS32_ENTRY note           32-bit mode
 *   multiboot   ELF or flat with a multiboot 1 header  32-bit mode
 *   firmware    flat BIOS image                        reset vector
 *   sector      flat boot sector                       real mode, 0000:7c00
 *
 * Documents: Linux Documentation/x86/boot.rst (of linux: "64-bit boot protocol"); Xen
 * docs/misc/pvh.pandoc; Multiboot Specification 0.6.96; SDM 3A 9.1.4; the BIOS's convention.
 *
 * Which format a file has: the first row above whose test says yes, in the order bzimage, linux,
 * pvh, multiboot, firmware, sector. One rule needs explaining. A Linux vmlinux may carry a PVH note
 * too; it counts as linux when it has an ELF note owned by "Linux" (Debian's kernels have), or
 * neither a PVH note nor a multiboot header, because the 64-bit entry spares the guest the way
 * through 32-bit mode. An ELF file with a PVH note and a multiboot header is entered through PVH.
 *
 * bzimage with `unpack`: the kernel inside is unpacked here, on the host, and entered like linux.
 * The guest's own decompressor then never runs, which is also what would have randomised the
 * kernel's address. Without `unpack`, or when the compression is not one of ours, the decompressor
 * is entered at its 64-bit entry point, or at its 32-bit one when it has no other.
 *
 * What else firmware leaves behind is the machine's to provide: the local APIC's LINT0 accepting
 * the 8259's interrupts (virtual wire mode, MP Specification 3.6.2.1), without which a kernel that
 * finds no ACPI never sees a timer tick.
 *
 * Everything in an image is hostile: no field makes a loader allocate more than the guest has
 * memory, write outside of RAM, or loop without a bound.
 *
 * Threads: call while no vcpu runs.
 */
#pragma once
#include "base/err.h"
#include "boot/e820.h"
#include "memory/memory.h"
#include "x86/state.h"

enum boot_format {
	BOOT_AUTO, /* look at the file */
	BOOT_BZIMAGE,
	BOOT_LINUX,
	BOOT_PVH,
	BOOT_MULTIBOOT,
	BOOT_FIRMWARE,
	BOOT_SECTOR,
	BOOT_FORMATS,
};

/* A file in host memory. name is for messages and borrowed; size 0: no such file. */
struct boot_image {
	const char *name;
	const u8 *data; /* NULL: let go */
	u64 size;
	int fd; /* to read it again; -1: it is no file */
};

struct boot_request {
	struct memory *memory;	    /* RAM slots are in place */
	const struct e820_map *map; /* what the guest will see; kernel and initrd go into its RAM */
	u64 rsdp; /* guest-physical address of the ACPI RSDP; 0: the guest searches */
	struct boot_image kernel;
	struct boot_image initrd;
	const char *cmdline;	 /* NULL: empty */
	enum boot_format format; /* BOOT_AUTO, or what the user insists on */
	bool unpack;
};

/*
 * Reads a whole regular file of 1..limit bytes. `what` ("kernel", "initrd") begins the message of a
 * failure. The caller owns the image until boot_image_free(); path is borrowed as its name.
 */
NODISCARD int boot_image_read(
	struct boot_image *image, const char *what, const char *path, u64 limit, struct err *err);
void boot_image_free(struct boot_image *image);
/* The same without reading it yet. Whoever loads a kernel once in a while need not hold it all the
 * time: boot_image_again() reads the file, boot_image_let_go() gives the memory back. What was
 * written to the file in between is what is read. */
NODISCARD int boot_image_open(
	struct boot_image *image, const char *what, const char *path, u64 limit, struct err *err);
NODISCARD int boot_image_again(struct boot_image *image, struct err *err);
void boot_image_let_go(struct boot_image *image);

/* What runs once a kernel has unpacked itself: a copy of the file inside of a bzImage, or of the
 * file. `limit` bounds it. The caller owns it until boot_image_free(). */
NODISCARD int boot_image_unpacked(
	struct boot_image *out, const struct boot_image *kernel, u64 limit, struct err *err);

/* The format of a file, or an error that says what the file seems to be instead. */
NODISCARD int boot_detect(
	const struct boot_image *kernel, enum boot_format *format, struct err *err);
const char *boot_format_name(enum boot_format format);

/*
 * Loads and fills the registers of vcpu 0. On entry *s is the state after reset; what a protocol
 * leaves open stays so. On failure *s is untouched and guest memory may be partly written.
 */
NODISCARD int boot_load(const struct boot_request *req, struct x86_state *s, struct err *err);
