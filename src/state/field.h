/*
 * Field tables: one description of a struct from which saving, loading, comparing and dumping
 * come. A table is a `static const struct field[]` ended by FIELD_END. Integers are stored
 * little-endian at their own width; the stream names every field, so loading checks rather than
 * trusts: an unknown, missing, repeated or differently sized field is refused by name before the
 * object changes (the object is loaded into a copy first).
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* FIELD_BOOL differs from an integer only in what loading accepts: 0 and 1. */
enum field_kind { FIELD_INT, FIELD_BYTES, FIELD_STRUCT, FIELD_BOOL };

struct field {
	const char *name; /* NULL ends the table; stable: part of the file format */
	enum field_kind kind;
	u32 offset;
	u32 size;		    /* of one element, bytes */
	u32 count;		    /* array elements */
	const struct field *fields; /* FIELD_STRUCT */
	u64 max;		    /* FIELD_INT: the largest value loading accepts; 0: any */
};

/* clang-format off */
#define FIELD_(type, member) ((type *)0)->member
#define FIELD_KIND_(t) (__builtin_types_compatible_p(t, bool) ? FIELD_BOOL : FIELD_INT)
#define FIELD_ROW_(type, member, kind, elem, fields, max)                                          \
	{ #member, kind, offsetof(type, member), sizeof(elem),                                     \
	  sizeof(FIELD_(type, member)) / sizeof(elem), fields, max }

/* Integers, bools and enums, single or array (also of more than one dimension). */
#define FIELD(type, member) FIELD_MAX(type, member, 0)
#define FIELD_ARRAY(type, member, elem) FIELD_ARRAY_MAX(type, member, elem, 0)
/* The same for what indexes or selects something: a stream with a larger value is refused. */
#define FIELD_MAX(type, member, max)                                                               \
	FIELD_ARRAY_MAX(type, member, typeof(FIELD_(type, member)), max)
#define FIELD_ARRAY_MAX(type, member, elem, max)                                                   \
	FIELD_ROW_(type, member, FIELD_KIND_(elem), elem, NULL, max)
/* Bytes without meaning of their own. */
#define FIELD_BLOB(type, member)                                                                   \
	FIELD_ROW_(type, member, FIELD_BYTES, FIELD_(type, member), NULL, 0)
/* Nested structs, single or array, with a table of their own. */
#define FIELD_SUB(type, member, elem, table) FIELD_ROW_(type, member, FIELD_STRUCT, elem, table, 0)
#define FIELD_END { NULL, FIELD_INT, 0, 0, 0, NULL, 0 }
/* clang-format on */

/* A growing byte buffer; zero-initialised is empty. */
struct blob {
	u8 *data;
	size_t len, cap;
};
void blob_free(struct blob *b);
NODISCARD int blob_put(struct blob *b, const void *data, size_t len); /* 0 or -ENOMEM */

/* Appends the object. 0 or -ENOMEM. */
NODISCARD int state_save(struct blob *out, const struct field *table, const void *object);
/* Loads from data[0..len); *used gets the bytes consumed. On error the object is untouched. */
NODISCARD int state_load(const u8 *data, size_t len, size_t *used, const struct field *table,
	void *object, size_t object_size, struct err *err);
/* Name of the first differing field ("tmr[2].count"), or NULL when equal. text receives the name.
 */
const char *state_diff(
	const struct field *table, const void *a, const void *b, char *text, size_t size);
/* Human-readable dump, one "name = 0x..." line per value, into a stdio stream. */
struct _IO_FILE;
void state_dump(struct _IO_FILE *to, const struct field *table, const void *object);
