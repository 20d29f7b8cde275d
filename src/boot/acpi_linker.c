/* See acpi_linker.h. Section numbers are those of ACPI 6.4. */
#include "boot/acpi_linker.h"
#include "base/bits.h"
#include "base/must.h"
#include <assert.h>

/* Commands: a number, then what it needs; names of files are zero-padded. */
enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum { ZONE_HIGH = 1, ZONE_BELOW_1M = 2 };

#define NAME_LEN 56u

struct command {
	u32 number;
	union {
		struct {
			char file[NAME_LEN];
			u32 align;
			u8 zone;
		} allocate;
		struct {
			char in[NAME_LEN], to[NAME_LEN];
			u32 offset;
			u8 size;
		} pointer;
		struct {
			char file[NAME_LEN];
			u32 result, start, len;
		} checksum;
		u8 all[ACPI_COMMAND_LEN - 4];
	};
} __attribute__((packed));
static_assert(sizeof(struct command) == ACPI_COMMAND_LEN, "a command's length");

#define RSDP_CHECKSUM	       8u /* 5.2.5.3 */
#define RSDP_OLD_LEN	       20u
#define RSDP_EXTENDED_CHECKSUM 32u
#define HEADER_CHECKSUM	       9u /* 5.2.6 */
#define HEADER_LEN	       36u

/* Where pointers are; `list`: from there to the table's end. The first two are in the RSDP. */
static const struct place {
	char table[5];
	u32 offset;
	u8 size;
	bool list;
} places[] = {
	{ "RSD ", 16, 4, false },	 /* 5.2.5.3: RSDT */
	{ "RSD ", 24, 8, false },	 /* XSDT */
	{ "FACP", 36, 4, false },	 /* 5.2.9: FACS */
	{ "FACP", 40, 4, false },	 /* DSDT */
	{ "FACP", 140, 8, false },	 /* X_DSDT */
	{ "RSDT", HEADER_LEN, 4, true }, /* 5.2.7 */
	{ "XSDT", HEADER_LEN, 8, true }, /* 5.2.8 */
};

static struct command *next(struct acpi_script *s, u32 number)
{
	struct command *c = (struct command *)(s->data + s->len);

	must(s->len < sizeof(s->data), "more than %u commands", ACPI_COMMANDS_MAX);
	s->len += sizeof(*c);
	c->number = number;
	return c;
}

static void allocate(struct acpi_script *s, const char *file, u32 align, u8 zone)
{
	struct command *c = next(s, ALLOCATE);

	memcpy(c->allocate.file, file, strlen(file));
	c->allocate.align = align;
	c->allocate.zone = zone;
}

static void add_checksum(
	struct acpi_script *s, const char *file, u8 *data, u32 start, u32 len, u32 result)
{
	struct command *c = next(s, ADD_CHECKSUM);

	data[result] = 0; /* what is computed takes its place */
	memcpy(c->checksum.file, file, strlen(file));
	c->checksum.result = result;
	c->checksum.start = start;
	c->checksum.len = len;
}

/* The pointer at data[at] becomes an offset, to which the firmware adds where the file is. */
static void add_pointer(
	struct acpi_script *s, const char *file, u8 *data, u32 at, u8 size, u64 files_at)
{
	struct command *c = next(s, ADD_POINTER);
	u64 value = 0;

	memcpy(&value, data + at, size);
	must(value >= files_at, "%s: pointer 0x%llx at %u", file, (unsigned long long)value, at);
	value -= files_at;
	memcpy(data + at, &value, size);
	memcpy(c->pointer.in, file, strlen(file));
	memcpy(c->pointer.to, ACPI_FILE_TABLES, strlen(ACPI_FILE_TABLES));
	c->pointer.offset = at;
	c->pointer.size = size;
}

/* Those of the part [start, start + len) of a file, which is a table of that name. */
static bool add_pointers(struct acpi_script *s, const char *table, const char *file, u8 *data,
	u32 start, u32 len, u64 files_at)
{
	bool some = false;

	for (const struct place *p = places; p < places + ARRAY_LEN(places); p++) {
		if (memcmp(p->table, table, 4))
			continue;
		for (u32 at = p->offset; at + p->size <= len; at += p->size) {
			add_pointer(s, file, data, start + at, p->size, files_at);
			some = true;
			if (!p->list)
				break;
		}
	}
	return some;
}

u32 acpi_files_start(const struct acpi_image *image) { return image->tables[0].offset; }

void acpi_link(struct acpi_image *image, struct acpi_script *s)
{
	u32 start = acpi_files_start(image);
	u64 files_at = ACPI_BASE + start;
	u8 *rsdp = image->data, *tables = image->data + start;

	*s = (struct acpi_script){ 0 };
	allocate(s, ACPI_FILE_RSDP, 16, ZONE_BELOW_1M);
	allocate(s, ACPI_FILE_TABLES, 64, ZONE_HIGH); /* the FACS comes first, 5.2.10 */
	for (unsigned i = 0; i < image->count; i++) {
		const struct acpi_table *t = &image->tables[i];
		u32 at = t->offset - start;

		if (add_pointers(s, t->signature, ACPI_FILE_TABLES, tables, at, t->len, files_at))
			add_checksum(s, ACPI_FILE_TABLES, tables, at, t->len, at + HEADER_CHECKSUM);
	}
	add_pointers(s, "RSD ", ACPI_FILE_RSDP, rsdp, 0, ACPI_RSDP_LEN, files_at);
	add_checksum(s, ACPI_FILE_RSDP, rsdp, 0, RSDP_OLD_LEN, RSDP_CHECKSUM);
	add_checksum(s, ACPI_FILE_RSDP, rsdp, 0, ACPI_RSDP_LEN, RSDP_EXTENDED_CHECKSUM);
}
