/* See smbios.h. Section numbers are those of DSP0134 3.0. */
#include "boot/smbios.h"
#include "base/bits.h"
#include "base/must.h"
#include <assert.h>
#include <errno.h>
#include <stdio.h>

#define MAKER	     "Strata"
#define PRODUCT	     "Strata PC"
#define RELEASE_DATE "01/01/2025"

#define NO_HANDLE	 0xffffu
#define NOT_PROVIDED	 0xfffeu
#define HANDLE_PROCESSOR 0x400u
#define HANDLE_ARRAY	 0x1000u
#define HANDLE_DIMM	 0x1100u
#define HANDLE_RANGES	 0x1300u

/* Layouts */

#define PACKED __attribute__((packed))

struct entry_2 { /* 5.2.1 */
	char anchor[4];
	u8 checksum, length, major, minor;
	u16 largest;
	u8 revision, formatted[5];
	char dmi_anchor[5];
	u8 dmi_checksum;
	u16 table_len;
	u32 table;
	u16 count;
	u8 bcd_revision;
} PACKED;

struct entry_3 { /* 5.2.2 */
	char anchor[5];
	u8 checksum, length, major, minor, docrev, revision, reserved;
	u32 table_max;
	u64 table;
} PACKED;

struct header { /* 6.1.2 */
	u8 type, length;
	u16 handle;
} PACKED;

struct bios { /* 7.1 */
	struct header h;
	u8 vendor, version;
	u16 segment;
	u8 date, rom_size;
	u64 characteristics;
	u8 extension[2], major, minor, ec_major, ec_minor;
} PACKED;

struct system { /* 7.2 */
	struct header h;
	u8 maker, product, version, serial, uuid[16], wake_up, sku, family;
} PACKED;

struct chassis { /* 7.4 */
	struct header h;
	u8 maker, type, version, serial, asset, boot_state, power_state, thermal_state, security;
	u32 oem;
	u8 height, cords, contained, contained_len, sku;
} PACKED;

struct processor { /* 7.5 */
	struct header h;
	u8 socket, type, family, maker;
	u64 id;
	u8 version, voltage;
	u16 clock, max_speed, speed;
	u8 status, upgrade;
	u16 l1, l2, l3;
	u8 serial, asset, part, cores, enabled, threads;
	u16 characteristics, family_2, cores_2, enabled_2, threads_2;
} PACKED;

struct memory_array { /* 7.17 */
	struct header h;
	u8 location, use, ecc;
	u32 capacity_kib;
	u16 error_handle, devices;
	u64 capacity;
} PACKED;

struct memory_device { /* 7.18 */
	struct header h;
	u16 array, error_handle, total_width, data_width, size_mib;
	u8 form, set, locator, bank, type;
	u16 detail, speed;
	u8 maker, serial, asset, part, attributes;
	u32 extended_mib;
	u16 configured_speed, min_mv, max_mv, mv;
} PACKED;

struct memory_range { /* 7.20 */
	struct header h;
	u32 start_kib, end_kib;
	u16 array;
	u8 width;
	u64 start, end;
} PACKED;

struct boot_information { /* 7.33 */
	struct header h;
	u8 reserved[6], status;
} PACKED;

static_assert(sizeof(struct entry_2) == 0x1f, "5.2.1");
static_assert(sizeof(struct entry_3) == 0x18, "5.2.2");
static_assert(sizeof(struct bios) == 0x18, "7.1");
static_assert(sizeof(struct system) == 0x1b, "7.2");
static_assert(sizeof(struct chassis) == 0x16, "7.4");
static_assert(sizeof(struct processor) == 0x30, "7.5");
static_assert(sizeof(struct memory_array) == 0x17, "7.17");
static_assert(sizeof(struct memory_device) == 0x28, "7.18");
static_assert(sizeof(struct memory_range) == 0x1f, "7.20");
static_assert(sizeof(struct boot_information) == 0x0b, "7.33");

/* The image */

struct writer {
	struct smbios_image *image;
	u16 count, largest;
};

static void put(struct writer *w, const void *data, u32 len)
{
	must(range_ok(w->image->len, len, SMBIOS_SIZE), "SMBIOS tables outgrow %u bytes",
		SMBIOS_SIZE);
	memcpy(w->image->data + w->image->len, data, len);
	w->image->len += len;
}

/* A structure and its strings, numbered from 1, each ended by a NUL and all by another; without
 * strings by two (6.1.3). The list ends with NULL. */
static void add(struct writer *w, const void *structure, u32 len, const char *const *strings)
{
	u32 start = w->image->len;

	put(w, structure, len);
	put(w, "", strings[0] ? 0 : 1);
	for (; *strings; strings++)
		put(w, *strings, (u32)strlen(*strings) + 1);
	put(w, "", 1);
	w->count++;
	w->largest = (u16)max_u64(w->largest, w->image->len - start);
}

#define ADD(w, structure, ...) \
	add(w, &(structure), sizeof(structure), (const char *const[]){ __VA_ARGS__ })
#define HEADER(number, type_, handle_)                \
	{                                             \
		number, sizeof(struct type_), handle_ \
	}

/* Structures */

static void add_bios(struct writer *w, const char *version)
{
	struct bios s = {
		.h = HEADER(0, bios, 0),
		.vendor = 1,
		.version = 2,
		.segment = SMBIOS_BASE >> 4,
		.date = 3,
		.characteristics =
			BIT(3), /* "not supported": the bits describe a BIOS we have not */
		.extension = { 0, BIT(4) }, /* a virtual machine */
		.ec_major = 0xff,
		.ec_minor = 0xff,
	};

	ADD(w, s, MAKER, version, RELEASE_DATE, NULL);
}

/* 7.2.1: the first three fields of a UUID are little-endian here. */
static void swap_uuid(u8 to[16], const u8 from[16])
{
	static const u8 order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (unsigned i = 0; i < 16; i++)
		to[i] = from[order[i]];
}

static void add_system(struct writer *w, const struct smbios_config *c, const char *version)
{
	struct system s = {
		.h = HEADER(1, system, 0x100),
		.maker = 1,
		.product = 2,
		.version = 3,
		.wake_up = 6, /* power switch */
	};

	swap_uuid(s.uuid, c->uuid);
	ADD(w, s, MAKER, PRODUCT, version, NULL);
}

static void add_chassis(struct writer *w)
{
	struct chassis s = {
		.h = HEADER(3, chassis, 0x300),
		.maker = 1,
		.type = 1,	 /* other */
		.boot_state = 3, /* safe */
		.power_state = 3,
		.thermal_state = 3,
		.security = 3, /* none */
	};

	ADD(w, s, MAKER, NULL);
}

static u8 few(unsigned n) { return (u8)min_u64(n, 0xff); } /* 0xff: see the 16-bit field */
static u16 many(unsigned n) { return (u16)min_u64(n, 0xfffe); }

static void add_processor(struct writer *w, const struct x86_topology *t, unsigned socket)
{
	bool threaded = t->threads > 1, several = t->cores > 1;
	unsigned threads = x86_topology_package(t);
	char designation[16];
	struct processor s = {
		.h = HEADER(4, processor, (u16)(HANDLE_PROCESSOR + socket)),
		.socket = 1,
		.type = 3,   /* central processor */
		.family = 1, /* other */
		.maker = 2,
		.status = 0x41, /* populated, enabled */
		.upgrade = 1,	/* other */
		.l1 = NO_HANDLE,
		.l2 = NO_HANDLE,
		.l3 = NO_HANDLE,
		.cores = few(t->cores),
		.enabled = few(t->cores),
		.threads = few(threads),
		/* 64-bit, multi-core, hardware threads: 7.5.9 */
		.characteristics = BIT(2) | (several ? BIT(3) : 0) | (threaded ? BIT(4) : 0),
		.family_2 = 1,
		.cores_2 = many(t->cores),
		.enabled_2 = many(t->cores),
		.threads_2 = many(threads),
	};

	snprintf(designation, sizeof(designation), "CPU %u", socket);
	ADD(w, s, designation, MAKER, NULL);
}

/* One module holds everything: how guest RAM is split on the host is nobody's business. */
static void add_memory(struct writer *w, u64 ram)
{
	bool big = ram / KiB >= 0x80000000, long_module = ram / MiB >= 0x7fff;
	struct memory_array array = {
		.h = HEADER(16, memory_array, HANDLE_ARRAY),
		.location = 3, /* system board */
		.use = 3,      /* system memory */
		.ecc = 3,      /* none */
		.capacity_kib = big ? 0x80000000 : (u32)(ram / KiB),
		.error_handle = NOT_PROVIDED,
		.devices = 1,
		.capacity = big ? ram : 0,
	};
	struct memory_device module = {
		.h = HEADER(17, memory_device, HANDLE_DIMM),
		.array = HANDLE_ARRAY,
		.error_handle = NOT_PROVIDED,
		.total_width = 0xffff, /* unknown */
		.data_width = 0xffff,
		.size_mib = long_module ? 0x7fff : (u16)(ram / MiB),
		.form = 9, /* DIMM */
		.locator = 1,
		.type = 7,	  /* RAM */
		.detail = BIT(1), /* other */
		.maker = 2,
		.extended_mib = long_module ? (u32)(ram / MiB) : 0,
	};

	ADD(w, array, NULL);
	ADD(w, module, "DIMM 0", MAKER, NULL);
}

/* 7.20: the older fields count KiB, the newer bytes; an end is the last unit's own number. */
static void add_range(struct writer *w, u16 handle, u64 base, u64 size)
{
	u64 last = base + size - 1;
	bool wide = last / KiB >= 0xffffffff;
	struct memory_range s = {
		.h = HEADER(19, memory_range, handle),
		.start_kib = wide ? 0xffffffff : (u32)(base / KiB),
		.end_kib = wide ? 0xffffffff : (u32)(last / KiB),
		.array = HANDLE_ARRAY,
		.width = 1,
		.start = wide ? base : 0,
		.end = wide ? last : 0,
	};

	ADD(w, s, NULL);
}

static void add_ranges(struct writer *w, const struct memory *m)
{
	u16 handle = HANDLE_RANGES;

	for (unsigned i = 0; i < m->slot_count; i++)
		if (!m->slots[i].region->rom)
			add_range(w, handle++, m->slots[i].base, m->slots[i].size);
}

static void add_end(struct writer *w)
{
	struct boot_information boot = { .h = HEADER(
						 32, boot_information, 0x2000) }; /* no errors */
	struct header last = { 127, sizeof(last), 0x7f00 };

	ADD(w, boot, NULL);
	ADD(w, last, NULL);
}

/* Entry points */

static u8 checksum(const void *data, u32 len)
{
	const u8 *bytes = data;
	u8 sum = 0;

	for (u32 i = 0; i < len; i++)
		sum += bytes[i];
	return (u8)-sum;
}

static void fill_entries(struct writer *w)
{
	u32 table_len = w->image->len - SMBIOS_STRUCTURES;
	struct entry_3 e3 = {
		.length = sizeof(e3),
		.major = 3,
		.revision = 1,
		.table_max = table_len,
		.table = SMBIOS_BASE + SMBIOS_STRUCTURES,
	};
	struct entry_2 e2 = {
		.length = sizeof(e2),
		.major = 2,
		.minor = 8,
		.largest = w->largest,
		.table_len = (u16)table_len,
		.table = SMBIOS_BASE + SMBIOS_STRUCTURES,
		.count = w->count,
		.bcd_revision = 0x28,
	};

	memcpy(e3.anchor, "_SM3_", sizeof(e3.anchor));
	e3.checksum = checksum(&e3, sizeof(e3));
	memcpy(e2.anchor, "_SM_", sizeof(e2.anchor));
	memcpy(e2.dmi_anchor, "_DMI_", sizeof(e2.dmi_anchor));
	e2.dmi_checksum =
		checksum(e2.dmi_anchor, sizeof(e2) - offsetof(struct entry_2, dmi_anchor));
	e2.checksum = checksum(&e2, sizeof(e2));
	static_assert(sizeof(e2) == SMBIOS_ANCHOR_LEN, "5.2.1");
	memcpy(w->image->data, &e3, sizeof(e3));
	memcpy(w->image->data + SMBIOS_ANCHOR, &e2, sizeof(e2));
}

void smbios_build(struct smbios_image *image, const struct smbios_config *c, const struct memory *m)
{
	struct writer w = { .image = image };
	const char *version = c->version && c->version[0] ? c->version : "unknown";

	*image = (struct smbios_image){ .len = SMBIOS_STRUCTURES };
	add_bios(&w, version);
	add_system(&w, c, version);
	add_chassis(&w);
	for (unsigned i = 0; i < c->topology.sockets; i++)
		add_processor(&w, &c->topology, i);
	add_memory(&w, memory_ram_size(m));
	add_ranges(&w, m);
	add_end(&w);
	fill_entries(&w);
}

int smbios_load(const struct smbios_image *image, struct memory *m, struct err *err)
{
	if (!memory_load(m, gpa(SMBIOS_BASE), image->data, image->len))
		return err_set(err, -EFAULT, "SMBIOS tables: no memory at 0x%llx", SMBIOS_BASE);
	return 0;
}
