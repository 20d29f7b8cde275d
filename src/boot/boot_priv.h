/* What the loaders share: placement in guest RAM, entry states, and the table of formats. */
#pragma once
#include "boot/boot.h"

/* One row per format. probe looks only at the bytes; load may rely on nothing that probe saw, since
 * the user can insist on a format. */
struct boot_loader {
	const char *name;
	bool (*probe)(const struct boot_image *kernel);
	int (*load)(const struct boot_request *req, struct x86_state *s, struct err *err);
};

bool bzimage_probe(const struct boot_image *kernel);
bool linux_elf_probe(const struct boot_image *kernel);
bool pvh_probe(const struct boot_image *kernel);
bool multiboot_probe(const struct boot_image *kernel);
bool firmware_probe(const struct boot_image *kernel);
bool sector_probe(const struct boot_image *kernel);

/* The ELF file inside, for free(); it may have up to `limit` bytes. */
NODISCARD int bzimage_unpack(
	const struct boot_image *k, u64 limit, u8 **take_kernel, u64 *size, struct err *err);

int bzimage_load(const struct boot_request *req, struct x86_state *s, struct err *err);
int linux_elf_load(const struct boot_request *req, struct x86_state *s, struct err *err);
int pvh_load(const struct boot_request *req, struct x86_state *s, struct err *err);
int multiboot_load(const struct boot_request *req, struct x86_state *s, struct err *err);
int firmware_load(const struct boot_request *req, struct x86_state *s, struct err *err);
int sector_load(const struct boot_request *req, struct x86_state *s, struct err *err);

/* place.c: where things go. Ranges are [start, end). */
struct boot_extent {
	u64 start, end;
};

/* Refuses [at, at + size) unless all of it is RAM of the map, saying how much memory would do. */
NODISCARD int place_check(
	const struct boot_request *req, const char *what, u64 at, u64 size, struct err *err);
/* The lowest or the highest page-aligned place of `size` bytes of RAM within `in`. */
enum place_order { PLACE_LOWEST, PLACE_HIGHEST };
bool place_find(const struct boot_request *req, enum place_order order, u64 size,
	struct boot_extent in, u64 *at);
/* The same for the initrd, which may be absent (*at = 0), with an error that says what is wrong. */
NODISCARD int place_initrd(const struct boot_request *req, enum place_order order,
	struct boot_extent in, u64 *at, struct err *err);
/* For protocols whose data simply follows the kernel: info_size bytes of RAM at *info for the
 * caller to fill, then the initrd (copied; *initrd = 0 without one), all below 4 GiB. */
NODISCARD int place_after(const struct boot_request *req, u64 kernel_end, u64 info_size, u64 *info,
	u64 *initrd, struct err *err);
/* Copies to an address that place_check() or place_find() has approved. */
NODISCARD int place_copy(const struct boot_request *req, const char *what, u64 at, const void *data,
	u64 size, struct err *err);

/* entry.c: the processor's state at the kernel's first instruction. */
void entry_long(struct x86_state *s, u64 rip, u64 page_tables, struct x86_table gdt);
void entry_flat32(struct x86_state *s, u32 eip, struct x86_table gdt);
void entry_real(struct x86_state *s, u16 cs, u64 cs_base, u16 ip);

/* The GDTs that entry_long() and entry_flat32() have their selectors from (boot.rst). */
#define ENTRY_CS 0x10u
#define ENTRY_DS 0x18u
extern const u64 entry_gdt64[4], entry_gdt32[4];
