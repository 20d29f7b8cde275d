/*
 * Reading objects by their field tables: finding the first difference and printing. Both visit the
 * leaves (one scalar, or one run of bytes) in table order with their full names, "tmr[2].count".
 */
#include "base/bits.h"
#include "state/field.h"
#include <stdio.h>

#define SHOW_NAME_MAX  256u
#define SHOW_ROW_BYTES 32u

/* offset is from the start of the outermost object. Returning true ends the visit. */
typedef bool (*leaf_fn)(void *ctx, const struct field *f, size_t offset, const char *name);

struct visit {
	leaf_fn leaf;
	void *ctx;
	char name[SHOW_NAME_MAX];
};

static size_t append(struct visit *v, size_t used, const char *text, int index)
{
	size_t room = sizeof(v->name) - used;
	int n = index < 0 ? snprintf(v->name + used, room, "%s", text)
			  : snprintf(v->name + used, room, "%s[%d]", text, index);

	return used + (n < 0 ? 0 : min_u64((u64)n, room - 1));
}

static bool visit_object(struct visit *v, const struct field *table, size_t base, size_t used)
{
	for (const struct field *f = table; f->name; f++) {
		for (u32 i = 0; i < f->count; i++) {
			size_t at = base + f->offset + (size_t)i * f->size;
			size_t n = append(v, used, f->name, f->count > 1 ? (int)i : -1);
			bool stop;

			if (f->kind == FIELD_STRUCT)
				stop = visit_object(v, f->fields, at, append(v, n, ".", -1));
			else
				stop = v->leaf(v->ctx, f, at, v->name);
			if (stop)
				return true;
		}
	}
	return false;
}

struct diff {
	const u8 *a, *b;
	char *text;
	size_t size;
};

static bool diff_leaf(void *ctx, const struct field *f, size_t offset, const char *name)
{
	struct diff *d = ctx;
	size_t i = 0;

	if (!memcmp(d->a + offset, d->b + offset, f->size))
		return false;
	while (d->a[offset + i] == d->b[offset + i])
		i++;
	if (f->kind == FIELD_BYTES)
		snprintf(d->text, d->size, "%s[%zu]", name, i);
	else
		snprintf(d->text, d->size, "%s", name);
	return true;
}

const char *state_diff(
	const struct field *table, const void *a, const void *b, char *text, size_t size)
{
	struct diff d = { a, b, text, size };
	struct visit v = { diff_leaf, &d, "" };

	return visit_object(&v, table, 0, 0) ? text : NULL;
}

struct dump {
	FILE *to;
	const u8 *object;
};

static void dump_bytes(FILE *to, const char *name, const u8 *p, size_t len)
{
	for (size_t row = 0; row < len; row += SHOW_ROW_BYTES) {
		fprintf(to, "%s[%zu] =", name, row);
		for (size_t i = row; i < len && i < row + SHOW_ROW_BYTES; i++)
			fprintf(to, " %02x", p[i]);
		fputc('\n', to);
	}
}

static bool dump_leaf(void *ctx, const struct field *f, size_t offset, const char *name)
{
	struct dump *d = ctx;
	u64 v = 0;

	if (f->kind == FIELD_BYTES) {
		dump_bytes(d->to, name, d->object + offset, f->size);
		return false;
	}
	memcpy(&v, d->object + offset, min_u64(f->size, sizeof(v)));
	fprintf(d->to, "%s = 0x%llx\n", name, (unsigned long long)v);
	return false;
}

void state_dump(FILE *to, const struct field *table, const void *object)
{
	struct dump d = { to, object };
	struct visit v = { dump_leaf, &d, "" };

	visit_object(&v, table, 0, 0);
}
