/*
 * Loading state: any stream is refused with the object unchanged, or accepted, and then the object
 * saves and loads to an equal one. Half of the inputs are edits of a good stream, since a random
 * stream hardly gets beyond its first name.
 */
#include "base/bits.h"
#include "base/must.h"
#include "state/field.h"
#include <stdlib.h>

struct inner {
	u32 a[3];
	bool flag;
};
struct outer {
	u64 wide;
	u8 kind;
	u8 raw[24];
	struct inner inner[2];
	u16 last;
};

static const struct field inner_fields[] = {
	FIELD_ARRAY(struct inner, a, u32),
	FIELD(struct inner, flag),
	FIELD_END,
};
static const struct field outer_fields[] = {
	FIELD(struct outer, wide),
	FIELD_MAX(struct outer, kind, 5),
	FIELD_BLOB(struct outer, raw),
	FIELD_SUB(struct outer, inner, struct inner, inner_fields),
	FIELD(struct outer, last),
	FIELD_END,
};

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void check_accepted(const struct outer *o)
{
	struct outer again = { 0 };
	struct blob b = { 0 };
	char name[64];

	must(o->kind <= 5, "kind %u", o->kind);
	must(!state_save(&b, outer_fields, o), "save");
	must(!state_load(b.data, b.len, NULL, outer_fields, &again, sizeof(again), NULL), "reload");
	must(!state_diff(outer_fields, o, &again, name, sizeof(name)), "%s differs", name);
	blob_free(&b);
}

static void try_stream(const u8 *data, size_t len)
{
	struct outer before = { .wide = 0x5555, .kind = 3, .last = 7 };
	struct outer o = before;
	struct err err;
	size_t used = 0;

	if (state_load(data, len, &used, outer_fields, &o, sizeof(o), &err) < 0) {
		must(!memcmp(&o, &before, sizeof(o)), "a refused stream changed the object");
		return;
	}
	must(used <= len, "used %zu of %zu", used, len);
	check_accepted(&o);
}

/* Pairs of bytes: where, and what to add there. */
static void edit(struct blob *b, const u8 *data, size_t size)
{
	for (size_t i = 0; i + 1 < size && i < 16; i += 2)
		b->data[data[i] % b->len] += data[i + 1];
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	const struct outer good = { .raw = "good", .inner = { { .flag = true } } };
	struct blob b = { 0 };

	if (!size)
		return 0;
	if (data[0] & 1) {
		try_stream(data + 1, size - 1);
		return 0;
	}
	must(!state_save(&b, outer_fields, &good), "save");
	edit(&b, data + 1, size - 1);
	try_stream(b.data, data[0] & 2 ? b.len : data[0] * b.len / 256);
	blob_free(&b);
	return 0;
}
