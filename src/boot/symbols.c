/* A growing list of names, the reader of ELF symbol tables (System V gABI, chapter 4), lookups. */
#include "boot/symbols.h"
#include "base/bits.h"
#include "base/scope.h"
#include "boot/elf.h"
#include "boot/kallsyms.h"
#include <errno.h>

#define SHT_SYMTAB   2u
#define SECTION_SIZE 64u
#define SYM_SIZE     24u
#define STT_FUNC     2u
#define STT_MAX	     3u /* sections and files have no address of their own from here on */

/* ---- the list ---- */

static bool grow(void **list, size_t *room, size_t need, size_t each)
{
	if (need <= *room)
		return true;
	size_t more = max_u64(need, *room * 2);
	void *p = realloc(*list, more * each);

	if (!p)
		return false;
	*list = p;
	*room = more;
	return true;
}

int symbols_add(struct symbols *s, u64 at, char type, const char *name, size_t len)
{
	void *list = s->list, *names = s->names;

	len = min_u64(len, SYMBOL_NAME - 1);
	if (s->count >= SYMBOLS_MAX || s->names_size + len + 1 > SYMBOLS_TEXT)
		return -E2BIG;
	bool ok = grow(&list, &s->room, s->count + 1, sizeof(*s->list));
	s->list = list;
	ok = ok && grow(&names, &s->names_room, s->names_size + len + 1, 1);
	s->names = names;
	if (!ok)
		return -ENOMEM;
	s->list[s->count++] = (struct symbol){ .at = at, .name = (u32)s->names_size, .type = type };
	memcpy(s->names + s->names_size, name, len);
	s->names[s->names_size + len] = 0;
	s->names_size += len + 1;
	return 0;
}

void symbols_free(struct symbols *s)
{
	free(s->list);
	free(s->names);
	*s = (struct symbols){ 0 };
}

/* ---- lookups ---- */

static int by_address(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name; /* as they came */
}

const struct symbol *symbols_named(const struct symbols *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(symbols_text(s, &s->list[i]), name))
			return &s->list[i];
	return NULL;
}

const struct symbol *symbols_at(const struct symbols *s, u64 at)
{
	size_t lo = 0, hi = s->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->list[mid].at <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	for (hi = lo - 1; hi && s->list[hi - 1].at == s->list[lo - 1].at;)
		hi--;
	return &s->list[hi];
}

/* ---- ELF ---- */

struct section {
	u64 offset, size;
	u32 type, link;
};

static bool section_at(const u8 *data, u64 size, u64 index, struct section *out)
{
	u64 table = get_le64(data + 40);

	if (index >= get_le16(data + 60) || get_le16(data + 58) != SECTION_SIZE || table > size ||
		!range_ok(index * SECTION_SIZE, SECTION_SIZE, size - table))
		return false;
	const u8 *h = data + table + index * SECTION_SIZE;
	*out = (struct section){ .type = get_le32(h + 4),
		.offset = get_le64(h + 24),
		.size = get_le64(h + 32),
		.link = get_le32(h + 40) };
	return range_ok(out->offset, out->size, size);
}

static int add_elf_symbol(struct symbols *s, const u8 *sym, const char *text, u64 text_size)
{
	u32 name = get_le32(sym);
	unsigned type = sym[4] & 15;

	if (name >= text_size || !text[name] || type >= STT_MAX || !get_le16(sym + 6))
		return 0;
	return symbols_add(s, get_le64(sym + 8), type == STT_FUNC ? 't' : 'd', text + name,
		strnlen(text + name, min_u64(text_size - name, SYMBOL_NAME)));
}

static int read_symtab(struct symbols *s, const u8 *data, u64 size, const struct section *table)
{
	struct section text;

	if (!section_at(data, size, table->link, &text))
		return 0;
	for (u64 at = 0; at + SYM_SIZE <= table->size; at += SYM_SIZE) {
		int r = add_elf_symbol(
			s, data + table->offset + at, (const char *)data + text.offset, text.size);

		if (r < 0)
			return r;
	}
	return 0;
}

static int read_elf(struct symbols *s, const u8 *data, u64 size)
{
	struct section table;

	if (size < 64 || memcmp(data, ELF_MAGIC, 4) || data[4] != 2)
		return 0;
	for (unsigned i = 0; i < get_le16(data + 60); i++)
		if (section_at(data, size, i, &table) && table.type == SHT_SYMTAB)
			return read_symtab(s, data, size, &table);
	return 0;
}

int symbols_read(struct symbols *s, const u8 *data, u64 size, struct err *err)
{
	int r = read_elf(s, data, size);

	if (!r && !s->count)
		r = kallsyms_read(s, data, size);
	if (!r && !s->count)
		r = -ENOENT;
	if (r) {
		symbols_free(s);
		return err_set(err, r, "%s",
			r == -ENOENT   ? "the kernel carries no symbol table"
			: r == -ENOMEM ? "no memory for the kernel's symbols"
				       : "the kernel's symbol table is impossibly large");
	}
	qsort(s->list, s->count, sizeof(*s->list), by_address);
	return 0;
}
