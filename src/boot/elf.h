/* ELF files as kernels come in: which parts go where in physical memory, and what the notes say. */
#pragma once
#include "boot/boot_priv.h"

#define ELF_MAGIC \
	"\x7f"    \
	"ELF"
#define ELF_SEGMENTS_MAX 64

#define ELF_MACHINE_386	   3
#define ELF_MACHINE_X86_64 62

struct elf_segment {
	u64 paddr, vaddr;
	u64 offset, file_size; /* in the file; checked */
	u64 mem_size;	       /* >= file_size; paddr + mem_size does not wrap */
	bool executable;
};

struct elf {
	const u8 *data;
	u64 size;
	u16 machine;
	bool wide;	 /* ELF64 */
	u64 entry;	 /* physical */
	bool linux_note; /* a note owned by "Linux" */
	bool pvh_note;
	u64 pvh_entry;
	struct boot_extent extent; /* of all segments in physical memory */
	unsigned count;
	struct elf_segment segments[ELF_SEGMENTS_MAX]; /* not empty, disjoint in physical memory */
};

/* Parses a file for x86 or x86-64 and checks all of the above; the data stays borrowed. */
NODISCARD int elf_parse(struct elf *elf, const u8 *data, u64 size, struct err *err);
/* True when the physical address lies in an executable segment. */
bool elf_executes(const struct elf *elf, u64 paddr);
/* Copies the segments into RAM and clears the rest of each; none may start below `floor`. */
NODISCARD int elf_load(
	const struct elf *elf, const struct boot_request *req, u64 floor, struct err *err);
