/*
 * Images without a header that start in real mode.
 *
 * Firmware: a BIOS image ends at 4 GiB, where the processor takes its first instruction 16 bytes
 * before the end (SDM 3A 9.1.4); its last 128 KiB also appear below 1 MiB, where its real-mode code
 * runs. A PC's chipset shows ROM there until the BIOS has it replaced by RAM with the same contents
 * ("shadowing"). A machine without such registers comes in the state after that: if it has RAM at
 * 0xe0000, the alias is a copy in it, writable as the BIOS expects it; if it has none, the alias is
 * the ROM itself.
 *
 * Boot sector: the whole file at 0x7c00, entered as a BIOS does after reading it from a disk; DL is
 * the drive it says it came from. There are no BIOS services behind it.
 */
#include "base/bits.h"
#include "boot/boot_priv.h"
#include <errno.h>

#define FIRMWARE_UNIT (4 * KiB)
#define FIRMWARE_MAX  (16 * MiB)
#define ALIAS_END     (1 * MiB)
#define ALIAS_MAX     (128 * KiB)
#define RESET_CS      0xf000u
#define RESET_BASE    0xffff0000u
#define RESET_IP      0xfff0u

#define SECTOR_AT    0x7c00u
#define SECTOR_SIZE  512u
#define SECTOR_DRIVE 0x80u /* the first fixed disk */

/* A BIOS starts with a jump: far, near or short, or padding or CLI before one. */
static bool starts_like_firmware(const u8 *reset_vector)
{
	return memchr("\xea\xe9\xeb\x90\xfa", *reset_vector, 5);
}

bool firmware_probe(const struct boot_image *k)
{
	return k->size && k->size % FIRMWARE_UNIT == 0 && k->size <= FIRMWARE_MAX &&
	       starts_like_firmware(k->data + k->size - 16);
}

/* ROM that ends at 4 GiB, made at the first boot and filled again at later ones. */
static int map_rom(const struct boot_request *req, u64 size, u64 alias, struct err *err)
{
	struct memory *m = req->memory;
	gpa_t base = gpa(4 * GiB - size), low = gpa(ALIAS_END - alias);

	if (memory_host(m, base, size))
		return 0;
	struct memory_region *rom = memory_add_region(m, "firmware", size, true, err);
	if (!rom)
		return -ENOMEM;
	if (memory_add_slot(m, rom, base, 0, size, err) < 0)
		return -EEXIST;
	return memory_host(m, low, alias) ? 0
					  : memory_add_slot(m, rom, low, size - alias, alias, err);
}

int firmware_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	const struct boot_image *k = &req->kernel;
	u64 alias = min_u64(k->size, ALIAS_MAX);

	if (!k->size || k->size % FIRMWARE_UNIT || k->size > FIRMWARE_MAX)
		return err_set(err, -ENOEXEC,
			"a BIOS image has a multiple of 4 KiB, at most 16 MiB, not %llu bytes",
			(unsigned long long)k->size);
	if (map_rom(req, k->size, alias, err) < 0)
		return -ENOMEM;
	if (!memory_load(req->memory, gpa(4 * GiB - k->size), k->data, k->size) ||
		!memory_load(req->memory, gpa(ALIAS_END - alias), k->data + k->size - alias, alias))
		return err_set(err, -EFAULT, "cannot fill the ROM");
	entry_real(s, RESET_CS, RESET_BASE, RESET_IP);
	return 0;
}

bool sector_probe(const struct boot_image *k)
{
	return k->size >= SECTOR_SIZE && k->data[510] == 0x55 && k->data[511] == 0xaa;
}

int sector_load(const struct boot_request *req, struct x86_state *s, struct err *err)
{
	const struct boot_image *k = &req->kernel;

	if (!sector_probe(k))
		return err_set(err, -ENOEXEC, "it has no boot sector signature");
	if (k->size > E820_LOW_END - SECTOR_AT)
		return err_set(err, -EFBIG,
			"a boot sector image has at most %llu bytes, this has %llu; is it a disk "
			"image?",
			E820_LOW_END - SECTOR_AT, (unsigned long long)k->size);
	if (place_check(req, "the boot sector", SECTOR_AT, k->size, err) < 0 ||
		place_copy(req, "the boot sector", SECTOR_AT, k->data, k->size, err) < 0)
		return -ENOMEM;
	entry_real(s, 0, 0, SECTOR_AT);
	s->gpr[RSP] = SECTOR_AT;
	s->gpr[RDX] = SECTOR_DRIVE;
	return 0;
}
