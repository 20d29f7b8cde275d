/*
 * A small writer of ACPI Machine Language: the constructs a table of devices needs, each emitted
 * where it stands, with lengths filled in when a construct is closed (ACPI 6.4 chapter 20).
 *
 * Names are four-character segments with dots between them, perhaps with "\\" in front ("_HID",
 * "\\_SB_", "\\_SB_.PCI0"). Running out of room sets `overflow` and writes nothing more; the caller
 * looks once, at the end.
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

/* Method (name, args); serialized, so that one that is under way is waited for. */
void aml_method(struct aml *a, const char *name, unsigned args);

/* OperationRegion (name, SystemIO, base, len), and names for its dwords, in order. */
void aml_ports(struct aml *a, const char *name, u16 base, u16 len);
void aml_dwords(struct aml *a, const char *region, const char *const *names, unsigned count);

/* Statements of a method. Local0 is the only variable. */
void aml_set(struct aml *a, const char *name, u64 value);
void aml_load(struct aml *a, const char *name);	 /* Local0 = name */
void aml_store(struct aml *a, const char *name); /* name = Local0 */
void aml_if_any(struct aml *a, u64 bits);	 /* If (Local0 & bits); aml_close() ends it */
void aml_notify(struct aml *a, const char *name, u8 what); /* table 5.161 */
void aml_call(struct aml *a, const char *method);	   /* one without arguments */

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
