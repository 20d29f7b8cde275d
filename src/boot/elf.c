/*
 * The ELF parser (System V gABI, chapters 4 and 5). Only program headers count: kernels are linked
 * for physical addresses, PT_LOAD says which, and section headers may be stripped.
 *
 * Both classes are read through one table of field offsets, so that there is one parser and not
 * two.
 */
#include "boot/elf.h"
#include "base/bits.h"
#include <errno.h>

#define PT_LOAD 1
#define PT_NOTE 4
#define PF_X	1

#define XEN_NOTE_PHYS32_ENTRY 18 /* xen/include/public/elfnote.h */

/* Byte offsets in the file header and in a program header, and the width of addresses. */
static const struct elf_layout {
	u8 word;
	u8 header_size, entry, phoff, phentsize, phnum;
	u8 ph_size, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
} layouts[2] = {
	{ 4, 52, 24, 28, 42, 44, 32, 24, 4, 8, 12, 16, 20, 28 },
	{ 8, 64, 24, 32, 54, 56, 56, 4, 8, 16, 24, 32, 40, 48 },
};

static u64 word(const struct elf_layout *l, const u8 *at)
{
	return l->word == 8 ? get_le64(at) : get_le32(at);
}

/* The identification and the machine (gABI 4, "ELF Identification"). */
static int parse_ident(struct elf *elf, struct err *err)
{
	if (elf->size < layouts[0].header_size || memcmp(elf->data, ELF_MAGIC, 4))
		return err_set(err, -ENOEXEC, "not an ELF file, or a truncated one");
	elf->machine = get_le16(elf->data + 18);
	elf->wide = elf->data[4] == 2;
	if (elf->data[4] != 1 && elf->data[4] != 2)
		return err_set(err, -ENOEXEC, "damaged: ELF class %u", elf->data[4]);
	if (elf->data[5] != 1 ||
		(elf->machine != ELF_MACHINE_386 && elf->machine != ELF_MACHINE_X86_64))
		return err_set(
			err, -ENOEXEC, "not for this machine: ELF processor type %u", elf->machine);
	if (elf->size < layouts[elf->wide].header_size)
		return err_set(err, -ENOEXEC, "truncated in the ELF header");
	return 0;
}

static int add_segment(struct elf *elf, const struct elf_layout *l, const u8 *ph, struct err *err)
{
	struct elf_segment seg = {
		.paddr = word(l, ph + l->p_paddr),
		.vaddr = word(l, ph + l->p_vaddr),
		.offset = word(l, ph + l->p_offset),
		.file_size = word(l, ph + l->p_filesz),
		.mem_size = word(l, ph + l->p_memsz),
		.executable = get_le32(ph + l->p_flags) & PF_X,
	};
	u64 end;

	if (!seg.mem_size && !seg.file_size)
		return 0;
	if (!range_ok(seg.offset, seg.file_size, elf->size))
		return err_set(err, -ENOEXEC,
			"truncated: a segment needs %llu bytes at %llu, the file has %llu",
			(unsigned long long)seg.file_size, (unsigned long long)seg.offset,
			(unsigned long long)elf->size);
	if (seg.mem_size < seg.file_size || !add_ok(seg.paddr, seg.mem_size, &end))
		return err_set(err, -ENOEXEC, "damaged: a segment at 0x%llx has impossible sizes",
			(unsigned long long)seg.paddr);
	if (elf->count == ELF_SEGMENTS_MAX)
		return err_set(err, -ENOEXEC, "has more than %d segments", ELF_SEGMENTS_MAX);
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *other = &elf->segments[i];

		if (seg.paddr < other->paddr + other->mem_size && other->paddr < end)
			return err_set(err, -ENOEXEC, "damaged: segments overlap at 0x%llx",
				(unsigned long long)max_u64(seg.paddr, other->paddr));
	}
	elf->extent.start = elf->count ? min_u64(elf->extent.start, seg.paddr) : seg.paddr;
	elf->extent.end = max_u64(elf->extent.end, end);
	elf->segments[elf->count++] = seg;
	return 0;
}

/* One note: `desc` is its contents. Only two owners say something to a loader. */
static void take_note(
	struct elf *elf, const char *owner, u32 owner_size, u32 type, const u8 *desc, u32 size)
{
	if (owner_size == 6 && !memcmp(owner, "Linux", 6))
		elf->linux_note = true;
	if (owner_size != 4 || memcmp(owner, "Xen", 4) || type != XEN_NOTE_PHYS32_ENTRY)
		return;
	if (size == 4 || size == 8) { /* the ABI says .long, Linux writes a pointer */
		elf->pvh_note = true;
		elf->pvh_entry = size == 4 ? get_le32(desc) : get_le64(desc);
	}
}

/* Notes are hints: a damaged segment of them ends the list and is no error. */
static void parse_notes(struct elf *elf, const u8 *at, u64 size, u64 align)
{
	while (size >= 12) {
		u32 owner_size = get_le32(at), desc_size = get_le32(at + 4),
		    type = get_le32(at + 8);
		u64 desc = align_up(12 + (u64)owner_size, align);
		u64 next = align_up(desc + desc_size, align);

		if (desc + desc_size > size)
			return;
		take_note(elf, (const char *)at + 12, owner_size, type, at + desc, desc_size);
		next = min_u64(next, size);
		at += next;
		size -= next;
	}
}

/* e_entry is physical in kernels made for it and virtual in others; the latter lies in a segment.
 */
static u64 physical_entry(const struct elf *elf, u64 entry)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (seg->executable && entry >= seg->vaddr && entry - seg->vaddr < seg->mem_size)
			return seg->paddr + (entry - seg->vaddr);
	}
	return entry;
}

static int parse_header(struct elf *elf, const struct elf_layout *l, const u8 *ph, struct err *err)
{
	u64 offset = word(l, ph + l->p_offset), size = word(l, ph + l->p_filesz);

	switch (get_le32(ph)) {
	case PT_LOAD: return add_segment(elf, l, ph, err);
	case PT_NOTE:
		if (range_ok(offset, size, elf->size))
			parse_notes(elf, elf->data + offset, size,
				word(l, ph + l->p_align) == 8 ? 8 : 4);
		return 0;
	default: return 0;
	}
}

int elf_parse(struct elf *elf, const u8 *data, u64 size, struct err *err)
{
	*elf = (struct elf){ .data = data, .size = size };
	if (parse_ident(elf, err) < 0)
		return -ENOEXEC;

	const struct elf_layout *l = &layouts[elf->wide];
	u64 at = word(l, data + l->phoff), count = get_le16(data + l->phnum),
	    step = get_le16(data + l->phentsize);
	if (step < l->ph_size || !range_ok(at, count * step, size))
		return err_set(err, -ENOEXEC,
			"truncated or damaged: its program headers are not in the file");
	for (u64 i = 0; i < count; i++)
		if (parse_header(elf, l, data + at + i * step, err) < 0)
			return -ENOEXEC;
	if (!elf->count)
		return err_set(
			err, -ENOEXEC, "an ELF file without anything to load (an object file?)");
	elf->entry = physical_entry(elf, word(l, data + l->entry));
	return 0;
}

bool elf_executes(const struct elf *elf, u64 paddr)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (seg->executable && paddr >= seg->paddr && paddr - seg->paddr < seg->mem_size)
			return true;
	}
	return false;
}

int elf_load(const struct elf *elf, const struct boot_request *req, u64 floor, struct err *err)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (seg->paddr < floor)
			return err_set(err, -ENOEXEC,
				"a segment at 0x%llx is below 0x%llx, where boot data goes",
				(unsigned long long)seg->paddr, (unsigned long long)floor);
		if (place_check(req, "the kernel", seg->paddr, seg->mem_size, err) < 0)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];
		u64 rest = seg->mem_size - seg->file_size;

		if (place_copy(req, "the kernel", seg->paddr, elf->data + seg->offset,
			    seg->file_size, err) < 0 ||
			!memory_fill(req->memory, gpa(seg->paddr + seg->file_size), 0, rest))
			return -EFAULT;
	}
	return 0;
}
