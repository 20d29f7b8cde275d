/*
 * A small writer of ACPI Machine Language: the constructs a table of devices needs, each emitted
 * where it stands, with lengths filled in when a construct is closed (ACPI 6.4 chapter 20).
 *
 * Names are one four-character segment, or "\\" and one segment ("\\_SB_"). Running out of room
 * sets `overflow` and writes nothing more; the caller looks once, at the end.
 */
#pragma once
#include "base/types.h"

#define AML_DEPTH 8

struct aml {
	u8 *data;
	u32 len, size;
	bool overflow;
	u32 open[AML_DEPTH]; /* offsets of the PkgLengths to be filled in */
	unsigned depth;
};

static inline struct aml aml_into(u8 *data, u32 size)
{
	return (struct aml){ .data = data, .size = size };
}

/* Constructs: everything up to the matching aml_close() is inside. */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_close(struct aml *a);

/* Name (name, value) */
void aml_name_int(struct aml *a, const char *name, u64 value);
void aml_name_string(struct aml *a, const char *name, const char *text);
void aml_name_eisaid(struct aml *a, const char *name, const char *id); /* "PNP0501" */
/* Name (name, Package (count) { ... }), and a package inside of one; closed by aml_close(). */
void aml_name_open(struct aml *a, const char *name, u8 count);
void aml_package(struct aml *a, u8 count);
void aml_int(struct aml *a, u64 value); /* an element */
void aml_name_package(struct aml *a, const char *name, const u8 *values, unsigned count);

/* Name (_CRS, ResourceTemplate () { ... }), closed by aml_crs_end(). */
void aml_crs(struct aml *a);
void aml_crs_io(struct aml *a, u16 base, u8 len);
void aml_crs_irq(struct aml *a, u8 irq); /* edge-triggered, active high, exclusive: as ISA has it */
void aml_crs_memory(struct aml *a, u32 base, u32 len);
void aml_crs_level_irq(struct aml *a, u32 gsi); /* level-triggered, active high, exclusive */
/* What a bridge passes on: bus numbers, ports, memory. */
void aml_crs_bus_range(struct aml *a, u8 first, u8 last);
void aml_crs_io_range(struct aml *a, u16 first, u16 last);
void aml_crs_memory_range(struct aml *a, u32 base, u32 len);
void aml_crs_memory64_range(struct aml *a, u64 base, u64 len);
void aml_crs_end(struct aml *a);
