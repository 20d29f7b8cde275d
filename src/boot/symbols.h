/*
 * The names in a kernel: from the symbol table of an ELF file, or, since distributions strip that,
 * from the table that a Linux kernel carries for its own messages (boot/kallsyms.h).
 *
 * The file is untrusted: what it can make us allocate is bounded by SYMBOLS_MAX and SYMBOLS_TEXT.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define SYMBOLS_MAX  (4u << 20)
#define SYMBOLS_TEXT (128 * MiB)
#define SYMBOL_NAME  512u /* with the terminating zero; longer ones are cut */

struct symbol {
	u64 at;	   /* linear address; low ones are offsets into per-CPU data */
	u32 name;  /* offset in names */
	char type; /* as nm writes it: t and T are code */
};

struct symbols {
	struct symbol *list; /* by address once read */
	char *names;
	size_t count, room, names_size, names_room;
};

/* data: an unpacked kernel. -ENOENT with err: it has no names. */
NODISCARD int symbols_read(struct symbols *s, const u8 *data, u64 size, struct err *err);
void symbols_free(struct symbols *s); /* also of a zeroed one */

static inline const char *symbols_text(const struct symbols *s, const struct symbol *sym)
{
	return s->names + sym->name;
}
/* NULL: no such symbol. */
const struct symbol *symbols_named(const struct symbols *s, const char *name);
/* The first of those that begin last at or before `at`; NULL: none. */
const struct symbol *symbols_at(const struct symbols *s, u64 at);

/* For readers of tables. name need not end in a zero. -ENOMEM, -E2BIG. */
NODISCARD int symbols_add(struct symbols *s, u64 at, char type, const char *name, size_t len);
