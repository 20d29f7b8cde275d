/* See aml.h. Section numbers are those of ACPI 6.4. */
#include "boot/aml.h"
#include "base/bits.h"
#include "base/must.h"
#include <stdio.h>

/* 20.2 and 20.3 */
enum {
	OP_ZERO = 0x00,
	OP_ONE = 0x01,
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_LOCAL0 = 0x60,
	OP_STORE = 0x70,
	OP_AND = 0x7b,
	OP_NOTIFY = 0x86,
	OP_IF = 0xa0,
	OP_EXT_REGION = 0x80,
	OP_EXT_FIELD = 0x81,
	OP_EXT_DEVICE = 0x82,
};

/* Bytes */

static void put(struct aml *a, const void *data, u32 len)
{
	if (a->overflow || !range_ok(a->len, len, a->size)) {
		a->overflow = true;
		return;
	}
	memcpy(a->data + a->len, data, len);
	a->len += len;
}

static void put_byte(struct aml *a, u8 byte) { put(a, &byte, 1); }

/* NameString, 20.2.2: what stands before the segments says how many there are. */
static void put_name(struct aml *a, const char *name)
{
	bool rooted = name[0] == '\\';
	u32 len = (u32)strlen(name + rooted), segments = (len + 1) / 5;

	must(segments && len == segments * 5 - 1, "AML name \"%s\"", name);
	if (rooted)
		put_byte(a, '\\');
	if (segments == 2)
		put_byte(a, OP_DUAL_NAME);
	else if (segments > 2)
		put(a, (u8[]){ OP_MULTI_NAME, (u8)segments }, 2);
	for (u32 i = 0; i < segments; i++)
		put(a, name + rooted + 5 * i, 4);
}

/* ComputationalData, 20.2.3: the shortest form. */
static void put_int(struct aml *a, u64 v)
{
	static const struct {
		u8 op, bytes;
	} forms[] = { { OP_BYTE, 1 }, { OP_WORD, 2 }, { OP_DWORD, 4 }, { OP_QWORD, 8 } };
	unsigned i = 0;

	if (v <= 1) {
		put_byte(a, v ? OP_ONE : OP_ZERO);
		return;
	}
	while (v > mask_bytes(forms[i].bytes))
		i++;
	put_byte(a, forms[i].op);
	put(a, &v, forms[i].bytes);
}

/* Lengths */

/*
 * PkgLength, 20.2.4: it counts itself, and its size depends on its value. The contents are moved
 * up once their length is known, so that the shortest form is used.
 */
static void open_package(struct aml *a)
{
	must(a->depth < AML_DEPTH, "AML nested %u deep", a->depth);
	a->open[a->depth++] = a->len;
}

static unsigned encode_length(u8 bytes[4], u32 content)
{
	unsigned extra = content + 1 < BIT(6)	 ? 0
			 : content + 2 < BIT(12) ? 1
			 : content + 3 < BIT(20) ? 2
						 : 3;
	u32 len = content + extra + 1;

	bytes[0] = extra ? (u8)(extra << 6 | (len & 0xf)) : (u8)len;
	for (unsigned i = 1; i <= extra; i++)
		bytes[i] = (u8)(len >> (8 * i - 4));
	return extra + 1;
}

void aml_close(struct aml *a)
{
	u8 bytes[4];

	must(a->depth > 0, "AML close without open");
	u32 at = a->open[--a->depth];
	u32 content = a->len - at;
	unsigned n = encode_length(bytes, content);

	put(a, bytes, n); /* makes room, or overflows */
	if (a->overflow)
		return;
	memmove(a->data + at + n, a->data + at, content);
	memcpy(a->data + at, bytes, n);
}

/* Constructs */

void aml_scope(struct aml *a, const char *name)
{
	put_byte(a, OP_SCOPE);
	open_package(a);
	put_name(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	put_byte(a, OP_EXT);
	put_byte(a, OP_EXT_DEVICE);
	open_package(a);
	put_name(a, name);
}

#define SERIALIZED BIT(3)

/* 20.2.5.2 */
void aml_method(struct aml *a, const char *text, unsigned args)
{
	must(args < 8, "AML method of %u arguments", args);
	put_byte(a, OP_METHOD);
	open_package(a);
	put_name(a, text);
	put_byte(a, (u8)(args | SERIALIZED));
}

#define SPACE_SYSTEM_IO 1
#define DWORD_ACCESS	3 /* nobody else changes what is beside the field: no lock, no update rule */

void aml_ports(struct aml *a, const char *text, u16 base, u16 len)
{
	put(a, (u8[]){ OP_EXT, OP_EXT_REGION }, 2);
	put_name(a, text);
	put_byte(a, SPACE_SYSTEM_IO);
	put_int(a, base);
	put_int(a, len);
}

/* A field's size has the form of a length: 32 bits are one byte. */
void aml_dwords(struct aml *a, const char *region, const char *const *names, unsigned count)
{
	put(a, (u8[]){ OP_EXT, OP_EXT_FIELD }, 2);
	open_package(a);
	put_name(a, region);
	put_byte(a, DWORD_ACCESS);
	for (unsigned i = 0; i < count; i++) {
		put_name(a, names[i]);
		put_byte(a, 32);
	}
	aml_close(a);
}

/* Statements, 20.2.5.3 and 20.2.5.4 */

void aml_set(struct aml *a, const char *text, u64 value)
{
	put_byte(a, OP_STORE);
	put_int(a, value);
	put_name(a, text);
}

void aml_load(struct aml *a, const char *text)
{
	put_byte(a, OP_STORE);
	put_name(a, text);
	put_byte(a, OP_LOCAL0);
}

void aml_store(struct aml *a, const char *text)
{
	put(a, (u8[]){ OP_STORE, OP_LOCAL0 }, 2);
	put_name(a, text);
}

/* And (Local0, bits), whose result goes nowhere else. */
void aml_if_any(struct aml *a, u64 bits)
{
	put_byte(a, OP_IF);
	open_package(a);
	put(a, (u8[]){ OP_AND, OP_LOCAL0 }, 2);
	put_int(a, bits);
	put_byte(a, OP_ZERO);
}

void aml_notify(struct aml *a, const char *text, u8 what)
{
	put_byte(a, OP_NOTIFY);
	put_name(a, text);
	put_int(a, what);
}

void aml_call(struct aml *a, const char *method) { put_name(a, method); }

static void name(struct aml *a, const char *text)
{
	put_byte(a, OP_NAME);
	put_name(a, text);
}

void aml_name_int(struct aml *a, const char *text, u64 value)
{
	name(a, text);
	put_int(a, value);
}

void aml_name_string(struct aml *a, const char *text, const char *value)
{
	name(a, text);
	put_byte(a, OP_STRING);
	put(a, value, (u32)strlen(value) + 1);
}

/* 19.3.4, EISAID: three letters of five bits and four hexadecimal digits, big-endian. */
void aml_name_eisaid(struct aml *a, const char *text, const char *id)
{
	unsigned digits = 0;

	must(strlen(id) == 7 && sscanf(id + 3, "%4x", &digits) == 1, "EISA id \"%s\"", id);
	u32 v = (u32)(id[0] - '@') << 26 | (u32)(id[1] - '@') << 21 | (u32)(id[2] - '@') << 16 |
		digits;

	name(a, text);
	put_int(a, __builtin_bswap32(v));
}

void aml_int(struct aml *a, u64 value) { put_int(a, value); }

void aml_package(struct aml *a, u8 count)
{
	put_byte(a, OP_PACKAGE);
	open_package(a);
	put_byte(a, count);
}

void aml_name_open(struct aml *a, const char *text, u8 count)
{
	name(a, text);
	aml_package(a, count);
}

void aml_name_package(struct aml *a, const char *text, const u8 *values, unsigned count)
{
	aml_name_open(a, text, (u8)count);
	for (unsigned i = 0; i < count; i++)
		put_int(a, values[i]);
	aml_close(a);
}

/* Resource templates, 6.4 */

/*
 * A Buffer whose declared size precedes its bytes. Ours stay far below 255 bytes, so the size is
 * one byte, filled in at the end: it is the first thing inside the open package.
 */
void aml_crs(struct aml *a)
{
	name(a, "_CRS");
	put_byte(a, OP_BUFFER);
	open_package(a);
	put(a, (u8[]){ OP_BYTE, 0 }, 2);
}

/* 6.4.2.5, fixed at one place: 16-bit decode. */
void aml_crs_io(struct aml *a, u16 base, u8 len)
{
	u8 low = (u8)base, high = (u8)(base >> 8);

	put(a, (u8[]){ 0x47, 1, low, high, low, high, 1, len }, 8);
}

/* 6.4.2.1, the two-byte form. */
void aml_crs_irq(struct aml *a, u8 irq)
{
	must(irq < 16, "ISA interrupt %u", irq);
	put(a, (u8[]){ 0x22, (u8)BIT(irq), (u8)(BIT(irq) >> 8) }, 3);
}

/* 6.4.3.6: of a device that consumes it. */
void aml_crs_level_irq(struct aml *a, u32 gsi)
{
	u8 bytes[9] = { 0x89, 6, 0, 1, 1 };

	put_le32(bytes + 5, gsi);
	put(a, bytes, sizeof(bytes));
}

/* 6.4.3.4, writeable. */
void aml_crs_memory(struct aml *a, u32 base, u32 len)
{
	u8 bytes[12] = { 0x86, 9, 0, 1 };

	put_le32(bytes + 4, base);
	put_le32(bytes + 8, len);
	put(a, bytes, sizeof(bytes));
}

/* 6.4.3.5: address space descriptors of 16, 32 and 64 bits, with both ends fixed, for what is
 * passed on to the devices behind. `how` is the type's own flags. */
enum { SPACE_MEMORY = 0, SPACE_IO = 1, SPACE_BUS = 2 };
#define RANGE_FIXED	0x0c
#define IO_ALL		0x03
#define MEMORY_WRITE	0x01
#define MEMORY_PREFETCH 0x06

static void range(struct aml *a, u8 tag, unsigned width, u8 space, u8 how, u64 first, u64 last)
{
	const u64 numbers[] = { 0, first, last, 0, last - first + 1 };

	put(a, (u8[]){ tag, (u8)(3 + ARRAY_LEN(numbers) * width), 0, space, RANGE_FIXED, how }, 6);
	for (unsigned i = 0; i < ARRAY_LEN(numbers); i++)
		put(a, &numbers[i], width);
}

void aml_crs_bus_range(struct aml *a, u8 first, u8 last)
{
	range(a, 0x88, 2, SPACE_BUS, 0, first, last);
}

void aml_crs_io_range(struct aml *a, u16 first, u16 last)
{
	range(a, 0x88, 2, SPACE_IO, IO_ALL, first, last);
}

void aml_crs_memory_range(struct aml *a, u32 base, u32 len)
{
	range(a, 0x87, 4, SPACE_MEMORY, MEMORY_WRITE, base, base + (len - 1));
}

void aml_crs_memory64_range(struct aml *a, u64 base, u64 len)
{
	range(a, 0x8a, 8, SPACE_MEMORY, MEMORY_WRITE | MEMORY_PREFETCH, base, base + (len - 1));
}

/* 6.4.2.9: a checksum of zero means "not checked". */
void aml_crs_end(struct aml *a)
{
	must(a->depth > 0, "_CRS end without begin");
	u32 at = a->open[a->depth - 1];

	put(a, (u8[]){ 0x79, 0 }, 2);
	if (!a->overflow) {
		must(a->len - at - 2 < 256, "_CRS of %u bytes", a->len - at - 2);
		a->data[at + 1] = (u8)(a->len - at - 2);
	}
	aml_close(a);
}
