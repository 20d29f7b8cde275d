#include "fixture.h"
#include <string.h>

#define HEADERS 1024u /* of a built ELF file: identification, program headers */
#define PHDRS	64u

void fixture_init(struct fixture *f, u64 mib)
{
	memset(f, 0, sizeof(*f));
	memory_init(&f->memory);
	struct memory_region *ram = memory_add_region(&f->memory, "ram", mib * MiB, false, &f->err);
	assert_non_null(ram);
	assert_int_equal(memory_add_slot(&f->memory, ram, gpa(0), 0, mib * MiB, &f->err), 0);
	e820_build(&f->map, &f->memory);
	f->req = (struct boot_request){ .memory = &f->memory, .map = &f->map, .unpack = true };
}

void fixture_fini(struct fixture *f) { memory_fini(&f->memory); }

void fixture_kernel(struct fixture *f, const void *data, u64 size)
{
	f->req.kernel = (struct boot_image){ .name = "kernel", .data = data, .size = size };
}

int fixture_load(struct fixture *f)
{
	int r = boot_load(&f->req, &f->s, &f->err);

	if (r < 0)
		print_message("%s\n", f->err.text);
	return r;
}

void fixture_refuses(struct fixture *f, const char *text)
{
	struct x86_state before = f->s;

	assert_true(boot_load(&f->req, &f->s, &f->err) < 0);
	if (!strstr(f->err.text, text))
		fail_msg("\"%s\" does not say \"%s\"", f->err.text, text);
	assert_memory_equal(&before, &f->s, sizeof(before));
}

const u8 *guest(struct fixture *f, u64 at, u64 len)
{
	const u8 *p = memory_host(&f->memory, gpa(at), len);

	assert_non_null(p);
	return p;
}

u32 guest32(struct fixture *f, u64 at) { return get_le32(guest(f, at, 4)); }
u64 guest64(struct fixture *f, u64 at) { return get_le64(guest(f, at, 8)); }

void image_elf(struct image *i, bool wide, u64 entry)
{
	u8 *d = i->data;

	memset(i, 0, sizeof(*i));
	i->wide = wide;
	i->size = HEADERS;
	memcpy(d,
		"\x7f"
		"ELF",
		4);
	d[4] = wide ? 2 : 1;
	d[5] = d[6] = 1;
	put_le16(d + 16, 2);
	put_le16(d + 18, wide ? 62 : 3);
	if (wide) {
		put_le64(d + 24, entry);
		put_le64(d + 32, PHDRS);
		put_le16(d + 54, 56);
	} else {
		put_le32(d + 24, (u32)entry);
		put_le32(d + 28, PHDRS);
		put_le16(d + 42, 32);
	}
}

/* A program header for what is appended next. */
static void add_header(struct image *i, u32 type, u64 vaddr, u64 paddr, u64 filesz, u64 memsz)
{
	u8 *count = i->data + (i->wide ? 56 : 44);
	u8 *ph = i->data + PHDRS + get_le16(count) * (i->wide ? 56u : 32u);

	put_le16(count, (u16)(get_le16(count) + 1));
	put_le32(ph, type);
	if (i->wide) {
		const u64 fields[] = { i->size, vaddr, paddr, filesz, memsz, 4 };

		put_le32(ph + 4, 7);
		memcpy(ph + 8, fields, sizeof(fields));
	} else {
		const u32 fields[] = { (u32)i->size, (u32)vaddr, (u32)paddr, (u32)filesz,
			(u32)memsz, 7, 4 };

		memcpy(ph + 4, fields, sizeof(fields));
	}
}

void image_segment(struct image *i, u64 vaddr, u64 paddr, u8 fill, u64 len, u64 memsz)
{
	add_header(i, 1, vaddr, paddr, len, memsz);
	assert_true(i->size + len <= sizeof(i->data));
	memset(i->data + i->size, fill, len);
	i->size += len;
}

void image_note(struct image *i, const char *owner, u32 type, const void *desc, u32 len)
{
	u32 owner_size = (u32)strlen(owner) + 1;
	u64 size = 12 + align_up(owner_size, 4) + align_up(len, 4);

	add_header(i, 4, 0, 0, size, size);
	put_le32(i->data + i->size, owner_size);
	put_le32(i->data + i->size + 4, len);
	put_le32(i->data + i->size + 8, type);
	memcpy(i->data + i->size + 12, owner, owner_size);
	memcpy(i->data + i->size + 12 + align_up(owner_size, 4), desc, len);
	i->size += size;
}
