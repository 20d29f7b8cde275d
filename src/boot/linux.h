/* What every way into Linux shares: the zero page, the command line, the initrd, the entry. */
#pragma once
#include "boot/boot_priv.h"

/* Offsets in boot_params, which are also the setup header's in a bzImage (boot.rst, "The Real-Mode
 * Kernel Header"; zero-page.rst). */
enum linux_field {
	LINUX_RSDP = 0x070,
	LINUX_E820_COUNT = 0x1e8,
	LINUX_SETUP_SECTS = 0x1f1,
	LINUX_SYSSIZE = 0x1f4,
	LINUX_VID_MODE = 0x1fa,
	LINUX_BOOT_FLAG = 0x1fe,
	LINUX_JUMP = 0x200,
	LINUX_MAGIC = 0x202,
	LINUX_VERSION = 0x206,
	LINUX_LOADER = 0x210,
	LINUX_LOADFLAGS = 0x211,
	LINUX_CODE32 = 0x214,
	LINUX_INITRD = 0x218,
	LINUX_INITRD_SIZE = 0x21c,
	LINUX_CMDLINE = 0x228,
	LINUX_INITRD_MAX = 0x22c,
	LINUX_ALIGNMENT = 0x230,
	LINUX_RELOCATABLE = 0x234,
	LINUX_XLOADFLAGS = 0x236,
	LINUX_CMDLINE_SIZE = 0x238,
	LINUX_PAYLOAD = 0x248,
	LINUX_PAYLOAD_SIZE = 0x24c,
	LINUX_SETUP_DATA = 0x250,
	LINUX_PREF_ADDRESS = 0x258,
	LINUX_INIT_SIZE = 0x260,
	LINUX_HEADER_END = 0x290, /* the most the header can grow to */
	LINUX_E820 = 0x2d0,
};

/* Kernels lie above, and our structures below, 1 MiB. */
#define LINUX_FLOOR 0x100000ull

struct linux_boot {
	u8 params[PAGE_SIZE]; /* boot_params, with the kernel's setup header if it has one */
	struct boot_extent
		kernel;	 /* what the kernel occupies or wants to before it reads the map */
	u64 initrd_end;	 /* the initrd must end here or below; at most 4 GiB */
	u32 cmdline_max; /* bytes, without the terminating zero */
	bool wide;	 /* entered in 64-bit mode */
	u64 entry;
};

/* Places and writes everything around a kernel that is in memory already, and enters it. */
NODISCARD int linux_enter(struct linux_boot *boot, const struct boot_request *req,
	struct x86_state *s, struct err *err);
/* The 64-bit boot of an unpacked kernel (an ELF file); boot->params may hold a setup header. */
NODISCARD int linux_enter_elf(struct linux_boot *boot, const u8 *data, u64 size,
	const struct boot_request *req, struct x86_state *s, struct err *err);
