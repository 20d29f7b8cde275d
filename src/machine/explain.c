/*
 * Loads a kernel as run does, lets the engine tell what it makes of the code, and supplies names.
 *
 * At its entry a 64-bit kernel runs at its physical address and has not made the page tables of its
 * own address yet. People want to see it where it will run, so its segments are mapped there, in
 * tables of ours in conventional memory, which nothing else uses before the kernel has run.
 */
#include "machine/explain.h"
#include "base/bits.h"
#include "boot/elf.h"
#include "boot/symbols.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLES_AT  0x40000ull
#define TABLES_END 0x80000ull
#define LARGE	   (2 * MiB)
#define REACH	   (64 * KiB) /* an address this far behind a symbol is not in it */
#define SIMILAR	   5u

/* SDM 3A 4.5 */
#define PTE_PRESENT BIT64(0)
#define PTE_WRITE   BIT64(1)
#define PTE_LARGE   BIT64(7)
#define PTE_ADDRESS 0x000ffffffffff000ull

struct explaining {
	const struct machine_explain *what;
	struct machine *m;
	struct boot_image unpacked;
	struct symbols symbols;
	u64 next_table;
};

/* ---- mapping ---- */

static u64 entry_at(const struct explaining *x, u64 table, unsigned index)
{
	u64 e = 0;

	return memory_read(&x->m->memory, gpa(table + 8ull * index), &e, 8) ? e : 0;
}

/* The table that an entry leads to, made if need be; 0: no room for another. */
static u64 table_below(struct explaining *x, u64 table, unsigned index)
{
	u64 e = entry_at(x, table, index);

	if (e & PTE_PRESENT)
		return e & PTE_LARGE ? 0 : e & PTE_ADDRESS;
	if (x->next_table >= TABLES_END)
		return 0;
	e = x->next_table | PTE_PRESENT | PTE_WRITE;
	if (!memory_fill(&x->m->memory, gpa(x->next_table), 0, PAGE_SIZE) ||
		!memory_write(&x->m->memory, gpa(table + 8ull * index), &e, 8))
		return 0;
	x->next_table += PAGE_SIZE;
	return e & PTE_ADDRESS;
}

static bool map_large(struct explaining *x, u64 linear, u64 physical)
{
	u64 table = x->m->cpus[0].v.x86.s.cr3 & PTE_ADDRESS;

	for (unsigned shift = 39; shift > 21 && table; shift -= 9)
		table = table_below(x, table, (unsigned)(linear >> shift) & 511);
	u64 e = physical | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
	return table && memory_write(&x->m->memory, gpa(table + 8 * (linear >> 21 & 511)), &e, 8);
}

/* Segments in the upper half whose two addresses allow large pages: per-CPU data is in neither. */
static int map_kernel(struct explaining *x, const struct elf *elf, struct err *err)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];
		u64 from = align_down(seg->vaddr, LARGE);
		u64 end = seg->vaddr + (seg->mem_size - 1);

		if (!(seg->vaddr >> 63) || (seg->vaddr - seg->paddr) % LARGE || end < from)
			continue;
		for (u64 at = from; at - from <= end - from; at += LARGE)
			if (!map_large(x, at, at - seg->vaddr + seg->paddr))
				return err_set(err, -ENOMEM, "no room for the page tables");
	}
	return 0;
}

/* ---- names ---- */

static bool is_code(const struct symbol *s) { return s->type == 't' || s->type == 'T'; }

static const char *name_at(void *ctx, u64 at, u64 *offset)
{
	const struct explaining *x = ctx;
	const struct symbol *s = at >> 63 ? symbols_at(&x->symbols, at) : NULL;

	if (!s || at - s->at >= REACH)
		return NULL;
	*offset = at - s->at;
	return symbols_text(&x->symbols, s);
}

static int unknown(const struct explaining *x, const char *name, struct err *err)
{
	char like[256] = "";
	unsigned n = 0;

	for (size_t i = 0; i < x->symbols.count && n < SIMILAR; i++) {
		const struct symbol *s = &x->symbols.list[i];
		size_t used = strlen(like);

		if (!is_code(s) || !strstr(symbols_text(&x->symbols, s), name))
			continue;
		snprintf(like + used, sizeof(like) - used, "%s%.48s", n++ ? ", " : "",
			symbols_text(&x->symbols, s));
	}
	if (n)
		return err_set(err, -EINVAL, "no symbol %.64s; there is %s", name, like);
	return err_set(err, -EINVAL, "no symbol %.64s in this kernel", name);
}

/* SYMBOL, SYMBOL+OFFSET, or a number. */
static int resolve(const struct explaining *x, u64 *at, struct err *err)
{
	const char *text = x->what->at, *plus = strchr(text, '+');
	char name[SYMBOL_NAME], *end;
	u64 offset = 0;

	errno = 0;
	*at = strtoull(text, &end, 0);
	if (end != text && !*end && !errno)
		return 0;
	size_t len = plus ? (size_t)(plus - text) : strlen(text);
	snprintf(name, sizeof(name), "%.*s", (int)min_u64(len, sizeof(name) - 1), text);
	if (plus) {
		offset = strtoull(plus + 1, &end, 0);
		if (end == plus + 1 || *end)
			return err_set(err, -EINVAL, "%.64s: not an offset", plus);
	}
	const struct symbol *s = *name ? symbols_named(&x->symbols, name) : NULL;
	if (!s)
		return unknown(x, name, err);
	*at = s->at + offset;
	return 0;
}

/* Where the next symbol begins. */
static u64 next_symbol(const struct symbols *s, u64 at)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->list[i].at > at)
			return s->list[i].at;
	return ~0ull;
}

/* The byte of the file that is loaded at a linear address, or 0. */
static u8 byte_at(const struct elf *elf, u64 at)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (at >= seg->vaddr && at - seg->vaddr < seg->file_size)
			return elf->data[seg->offset + (at - seg->vaddr)];
	}
	return 0;
}

/* The end of the function, without the INT3s that fill the space up to the next one. */
static u64 end_of(const struct explaining *x, const struct elf *elf, u64 at)
{
	u64 end = next_symbol(&x->symbols, at);

	while (end > at + 1 && byte_at(elf, end - 1) == 0xcc)
		end--;
	return end;
}

/* ---- telling ---- */

static int tell(struct explaining *x, const struct elf *elf, struct err *err)
{
	const struct machine_explain *what = x->what;
	const struct explain_sink sink = {
		.insn = what->insn, .insn_ctx = what->ctx, .name = name_at, .name_ctx = x
	};
	struct vcpu *v = &x->m->cpus[0].v;
	u64 at;

	int r = resolve(x, &at, err);
	if (r)
		return r;
	u64 end = what->count ? ~0ull : end_of(x, elf, at);
	return what->engine->explain(
		v, at, end, what->count ? what->count : what->most, &sink, err);
}

static int explain(struct explaining *x, struct err *err)
{
	struct vcpu *v = &x->m->cpus[0].v;
	struct elf elf;

	int r = boot_image_unpacked(&x->unpacked, &x->m->kernel, x->what->memory, err);
	if (r)
		return r;
	/* Without names there are still addresses; a file that is no ELF has neither. */
	(void)!symbols_read(&x->symbols, x->unpacked.data, x->unpacked.size, NULL);
	if (elf_parse(&elf, x->unpacked.data, x->unpacked.size, err))
		return err_wrap(err, "%s", x->what->kernel);
	if (v->x86.s.efer & EFER_LMA) {
		r = map_kernel(x, &elf, err);
		if (!r && v->engine->push(v))
			r = err_set(err, -EIO, "the engine cannot take the processor's state");
	}
	return r ? r : tell(x, &elf, err);
}

int machine_explain(const struct machine_explain *what, struct err *err)
{
	struct explaining x = { .what = what, .next_table = TABLES_AT };

	if (!what->engine->explain)
		return err_set(
			err, -ENOTSUP, "engine %s runs guest code as it is", what->engine->name);
	x.m = machine_new(
		&(struct machine_config){
			.engine = what->engine,
			.memory = what->memory,
			.cpus = 1,
			.kernel = what->kernel,
			.input = -1,
			.output = -1,
			.escape = -1,
		},
		err);
	if (!x.m)
		return err->code;
	int r = explain(&x, err);
	symbols_free(&x.symbols);
	boot_image_free(&x.unpacked);
	machine_free(x.m);
	return r;
}
