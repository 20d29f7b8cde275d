/*
 * Tables of symbols are part of kernel images, hence hostile. An input chooses a good image (or is
 * the image), and edits it: what is found must lie within it, and finding must end.
 */
#include "base/must.h"
#include "boot/symbols.h"
#include "kallsyms_image.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

enum { SHAPE, COUNT, EDITS, HEAD };
#define EDIT_SIZE 4u

/* Three in four edits go to the tables' beginnings, where the structure is. */
static void edit(struct kallsyms_image *k, const u8 *e)
{
	const u64 places[] = { k->num, k->names, k->markers, k->tokens, k->index, k->offsets,
		k->base };
	u64 at = e[0] & 3 ? places[e[0] / 4 % ARRAY_LEN(places)] + e[1] % 16
			  : get_le16(e + 1) % k->size;

	if (at < k->size)
		k->data[at] = e[3];
}

static void look(const struct symbols *s)
{
	for (size_t i = 0; i < s->count; i++) {
		must(s->list[i].name < s->names_size, "a name at %u of %zu", s->list[i].name,
			s->names_size);
		must(strlen(symbols_text(s, &s->list[i])) < SYMBOL_NAME, "a name too long");
		must(!i || s->list[i - 1].at <= s->list[i].at, "not sorted");
	}
}

static void try_image(const u8 *image, u64 size)
{
	struct symbols s = { 0 };
	struct err err = { 0 };
	u8 *exact = malloc(max_u64(size, 1)); /* so that a checked build sees an overrun */

	if (!exact)
		return;
	memcpy(exact, image, size);
	if (symbols_read(&s, exact, size, &err) == 0)
		look(&s);
	else
		must(err.text[0] && !s.list, "an error without a text");
	symbols_free(&s);
	free(exact);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct kallsyms_image k;

	if (size < HEAD)
		return 0;
	if (data[SHAPE] % 8 == 7) {
		try_image(data + HEAD, size - HEAD);
		return 0;
	}
	kallsyms_image(&k, data[SHAPE] & 1 ? KALLSYMS_OFFSETS_FIRST : KALLSYMS_OFFSETS_LAST,
		data[SHAPE] & 2, 1 + data[COUNT] * 4u, data[COUNT] / 2);
	for (unsigned i = 0; i < data[EDITS] % 4u; i++)
		if (range_ok(HEAD + (u64)i * EDIT_SIZE, EDIT_SIZE, size))
			edit(&k, data + HEAD + (size_t)i * EDIT_SIZE);
	try_image(k.data, data[SHAPE] & 16 ? k.size * data[COUNT] / 256 : k.size);
	return 0;
}
