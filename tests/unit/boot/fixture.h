/* A machine's worth of memory without a machine, and builders for small kernel images. */
#pragma once
#include "base/bits.h"
#include "boot/boot.h"
#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants the four above first */
#include <cmocka.h>

struct fixture {
	struct memory memory;
	struct e820_map map;
	struct x86_state s;
	struct boot_request req;
	struct err err;
};

/* RAM from 0 to mib MiB (below 3 GiB), mapped as on a PC; a request without files. */
void fixture_init(struct fixture *f, u64 mib);
void fixture_fini(struct fixture *f);
void fixture_kernel(struct fixture *f, const void *data, u64 size);
int fixture_load(struct fixture *f);
/* boot_load() must fail and say `text`. */
void fixture_refuses(struct fixture *f, const char *text);

/* Guest memory as a test reads it; fails the test when it is not RAM. */
const u8 *guest(struct fixture *f, u64 at, u64 len);
u32 guest32(struct fixture *f, u64 at);
u64 guest64(struct fixture *f, u64 at);

/* An ELF file with one segment per call of image_segment(). */
struct image {
	u8 data[64 * 1024];
	u64 size;
	bool wide;
};
void image_elf(struct image *i, bool wide, u64 entry);
/* Appends `len` bytes of `fill`, loaded at paddr with memsz bytes in memory; executable. */
void image_segment(struct image *i, u64 vaddr, u64 paddr, u8 fill, u64 len, u64 memsz);
void image_note(struct image *i, const char *owner, u32 type, const void *desc, u32 len);
