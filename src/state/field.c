/*
 * Saving and loading objects by their field tables.
 *
 * The stream, all integers little-endian:
 *
 *	object := u16 number of fields, field...
 *	field  := u8 name length, name, u8 kind, u32 element size, u32 elements, payload
 *	payload := the elements' bytes; for FIELD_STRUCT one object per element
 *
 * A nested struct's element size is written as 0: the host's padding is no part of the format.
 * Fields may come in any order, but each exactly once.
 *
 * The stream is untrusted (a file, or another host during migration). Depth, array lengths and
 * sizes come from the table and the stream must agree with them, so a stream can make the loader
 * neither recurse, allocate nor loop further than the table says. Loading goes into a copy of the
 * object, which replaces it only when the whole stream was good.
 */
#include "state/field.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>
#include <stdlib.h>

/* Bounds the set of names seen while loading one object. */
#define STATE_FIELDS_MAX 256u
#define STATE_NAME_MAX	 255u

static unsigned table_len(const struct field *table)
{
	unsigned n = 0;

	while (table[n].name)
		n++;
	must(n <= STATE_FIELDS_MAX, "%u fields", n);
	return n;
}

static bool kind_is_scalar(enum field_kind k) { return k == FIELD_INT || k == FIELD_BOOL; }

/* ---- saving ---- */

static int put_header(struct blob *out, const struct field *f)
{
	size_t name_len = strlen(f->name);
	u8 head[1 + STATE_NAME_MAX + 9];
	u8 *p = head;

	must(name_len <= STATE_NAME_MAX, "field name %s", f->name);
	*p++ = (u8)name_len;
	memcpy(p, f->name, name_len);
	p += name_len;
	*p++ = (u8)f->kind;
	put_le32(p, f->kind == FIELD_STRUCT ? 0 : f->size);
	put_le32(p + 4, f->count);
	return blob_put(out, head, (size_t)(p + 8 - head));
}

static int save_object(struct blob *out, const struct field *table, const u8 *object);

static int save_field(struct blob *out, const struct field *f, const u8 *object)
{
	const u8 *at = object + f->offset;

	if (put_header(out, f) < 0)
		return -ENOMEM;
	if (f->kind != FIELD_STRUCT)
		return blob_put(out, at, (size_t)f->size * f->count);
	for (u32 i = 0; i < f->count; i++)
		if (save_object(out, f->fields, at + (size_t)i * f->size) < 0)
			return -ENOMEM;
	return 0;
}

static int save_object(struct blob *out, const struct field *table, const u8 *object)
{
	u8 count[2];

	put_le16(count, (u16)table_len(table));
	if (blob_put(out, count, sizeof(count)) < 0)
		return -ENOMEM;
	for (const struct field *f = table; f->name; f++)
		if (save_field(out, f, object) < 0)
			return -ENOMEM;
	return 0;
}

int state_save(struct blob *out, const struct field *table, const void *object)
{
	size_t before = out->len;

	if (save_object(out, table, object) < 0) {
		out->len = before;
		return -ENOMEM;
	}
	return 0;
}

/* ---- loading ---- */

/* What is left of the stream, and the object being filled. */
struct reader {
	const u8 *at, *end;
	const u8 *object_end; /* of the copy: guards the table itself */
	struct err *err;
};

/* A pointer to the next len bytes, or NULL when the stream is shorter. */
static const u8 *take(struct reader *r, size_t len)
{
	const u8 *p = r->at;

	if (len > (size_t)(r->end - r->at)) {
		err_set(r->err, -EINVAL, "state ends in the middle of a field");
		return NULL;
	}
	r->at += len;
	return p;
}

/* The table's row with the stream's next name, or NULL with err filled. */
static const struct field *take_name(struct reader *r, const struct field *table)
{
	const u8 *len = take(r, 1);
	const u8 *name = len ? take(r, *len) : NULL;

	if (!name)
		return NULL;
	for (const struct field *f = table; f->name; f++)
		if (strlen(f->name) == *len && !memcmp(f->name, name, *len))
			return f;
	err_set(r->err, -EINVAL, "state has a field unknown here: \"%.*s\"", (int)*len,
		(const char *)name);
	return NULL;
}

static int check_shape(struct reader *r, const struct field *f)
{
	const u8 *p = take(r, 9);
	u32 size = f->kind == FIELD_STRUCT ? 0 : f->size;

	if (!p)
		return -EINVAL;
	if (p[0] != (u8)f->kind)
		return err_set(r->err, -EINVAL, "state field %s: kind %u, expected %u", f->name,
			p[0], (unsigned)f->kind);
	if (get_le32(p + 1) != size || get_le32(p + 5) != f->count)
		return err_set(r->err, -EINVAL, "state field %s: %u x %u bytes, expected %u x %u",
			f->name, get_le32(p + 5), get_le32(p + 1), f->count, size);
	return 0;
}

static u64 scalar_at(const u8 *p, u32 size)
{
	u64 v = 0;

	memcpy(&v, p, size);
	return v;
}

static int check_values(struct reader *r, const struct field *f, const u8 *p)
{
	u64 max = f->kind == FIELD_BOOL ? 1 : f->max;

	if (!kind_is_scalar(f->kind) || !max)
		return 0;
	for (u32 i = 0; i < f->count; i++) {
		u64 v = scalar_at(p + (size_t)i * f->size, f->size);

		if (v > max)
			return err_set(r->err, -EINVAL,
				"state field %s, element %u: %llu is larger than %llu", f->name, i,
				(unsigned long long)v, (unsigned long long)max);
	}
	return 0;
}

static int load_object(struct reader *r, const struct field *table, u8 *object);

static int load_field(struct reader *r, const struct field *f, u8 *object)
{
	u8 *to = object + f->offset;
	size_t bytes = (size_t)f->size * f->count;
	const u8 *p;

	must(bytes <= (size_t)(r->object_end - to), "field %s outside its object", f->name);
	if (check_shape(r, f) < 0)
		return -EINVAL;
	if (f->kind == FIELD_STRUCT) {
		for (u32 i = 0; i < f->count; i++)
			if (load_object(r, f->fields, to + (size_t)i * f->size) < 0)
				return -EINVAL;
		return 0;
	}
	p = take(r, bytes);
	if (!p || check_values(r, f, p) < 0)
		return -EINVAL;
	memcpy(to, p, bytes);
	return 0;
}

static int load_object(struct reader *r, const struct field *table, u8 *object)
{
	u64 seen[STATE_FIELDS_MAX / 64] = { 0 };
	unsigned fields = table_len(table);
	const u8 *count = take(r, 2);

	if (!count)
		return -EINVAL;
	for (unsigned n = get_le16(count); n; n--) {
		const struct field *f = take_name(r, table);
		size_t i = f ? (size_t)(f - table) : 0;

		if (!f)
			return -EINVAL;
		if (seen[i / 64] & BIT64(i % 64))
			return err_set(r->err, -EINVAL, "state field %s: repeated", f->name);
		seen[i / 64] |= BIT64(i % 64);
		if (load_field(r, f, object) < 0)
			return -EINVAL;
	}
	for (unsigned i = 0; i < fields; i++)
		if (!(seen[i / 64] & BIT64(i % 64)))
			return err_set(r->err, -EINVAL, "state field %s: missing", table[i].name);
	return 0;
}

int state_load(const u8 *data, size_t len, size_t *used, const struct field *table, void *object,
	size_t object_size, struct err *err)
{
	u8 *copy = malloc(object_size);
	struct reader r = { data, data + len, copy + object_size, err };
	int rc;

	if (!copy)
		return err_set(err, -ENOMEM, "no memory for %zu bytes of state", object_size);
	memcpy(copy, object, object_size);
	rc = load_object(&r, table, copy);
	if (!rc) {
		memcpy(object, copy, object_size);
		if (used)
			*used = (size_t)(r.at - data);
	}
	free(copy);
	return rc;
}
